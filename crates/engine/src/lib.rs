//! The engine: a checkpoint on a device becomes sessions that grow, and sessions become text.
//!
//! [`Model`] loads, [`Session`] steps ragged batches of sequences over a cache, [`generate`](mod@generate) samples and
//! streams. Policy lives here (what is batched, cached, chosen, stopped); kernels do not, and no backend is named.
//! Read [`session`] first, then [`generate`](mod@generate).

#![deny(missing_docs)]
#![forbid(unsafe_code)]

pub mod cache;
mod cache_rows;
mod error;
mod feed;
pub mod forward;
pub mod generate;
pub mod generation_config;
mod model;
mod options;
pub mod perplexity;
mod plans;
mod rotation;
pub mod sampling;
pub mod session;
mod step;
pub mod text;
pub mod tokenizer;

pub use error::EngineError;
pub use generate::{
    BeamParams, DraftModel, EarlyStopping, Event, FinishReason, Generation, Request, Speculated, Strategy, Timings,
    generate, generate_with_draft,
};
pub use model::{LoadOptions, LoadReport, Model, read_config};
pub use options::{CacheKind, SessionOptions};
pub use plans::{make_cache, placed_graph};
pub use session::{CancelToken, Logits, Outputs, SequenceInput, Session};
