//! The forward pass of transformers' `LlamaModel`, `LlamaForCausalLM` and `LlamaForSequenceClassification`: padded
//! batches in, logits, losses, hidden states and attentions out.
//!
//! [`forward`] takes what `forward()` of transformers 5.8 takes and gives what it gives; `specs/forward.md` has every
//! rule. A padded batch becomes a ragged one: a masked token is never computed, so every backend's own attention serves,
//! and what is given out in its place is zero. [`Past`] is `past_key_values`. Start reading at [`inputs`], then `run`.

mod array;
mod classify;
mod error;
pub mod inputs;
mod keep;
mod loss;
mod mask;
mod past;
mod past_file;
mod run;

pub use array::Array;
pub use classify::{Activation, classify};
pub use error::ForwardError;
pub use inputs::{AttentionMask, ForwardInputs, ForwardOptions, Labels};
pub use keep::LogitsToKeep;
pub use past::Past;
pub use past_file::PastFileError;
pub use run::{ForwardOutputs, forward};
