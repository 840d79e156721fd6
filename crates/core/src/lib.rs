//! The heart of Camelid: the graph and its operations, the Llama architecture built from them, and the traits that
//! everything else implements: [`Backend`] and [`Device`], [`Attention`], [`Cache`], [`Tokenizer`].
//!
//! No backend is named here, no file is opened, nothing is printed, and there is no `unsafe`. A plugin author starts
//! at [`backend`] and goes on to [`graph`] and [`ops`]; someone adding a model feature starts at [`llama`].

#![deny(missing_docs)]
#![forbid(unsafe_code)]

pub mod attention;
pub mod backend;
pub mod bytes;
pub mod cache;
pub mod dtype;
pub mod graph;
pub mod llama;
pub mod lower;
pub mod ops;
pub mod quant;
pub mod tokenizer;

pub use attention::Attention;
pub use backend::{Backend, Device};
pub use bytes::Bytes;
pub use cache::Cache;
pub use dtype::DType;
pub use tokenizer::Tokenizer;

pub use inventory;
