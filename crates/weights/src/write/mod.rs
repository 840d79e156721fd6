//! Writing checkpoints: Hugging Face folders and GGUF files.
//!
//! Everything is streamed: a tensor is read in pieces of a few megabytes (`rows`), converted and written, so that a
//! model of any size is converted in the same memory. Files appear under their names only when they are whole
//! (`staging`). Start reading at [`to_gguf()`] and [`to_hugging_face()`]; Meta's own format is [`crate::meta`].

mod deviation;
mod folder;
mod gguf_file;
mod gguf_metadata;
mod gguf_rope;
mod gguf_types;
mod hugging_face;
mod rows;
mod sentencepiece;
mod staging;
mod to_gguf;
mod tokenizer_files;
mod tokenizer_json;
mod vocab;

use std::path::PathBuf;

use camelid_core::DType;

pub use deviation::{Deviation, TensorClass};
pub use gguf_types::GgufType;
pub use hugging_face::{FolderOptions, to_hugging_face};
pub use to_gguf::{GgufOptions, to_gguf};
pub use tokenizer_files::TokenizerFiles;

pub(crate) use folder::Folder;
pub(crate) use rows::{Planned, Rows, reorder};

/// What [`FolderOptions::max_shard_bytes`] is unless given: 5 GB.
pub const MAX_SHARD_BYTES: u64 = 5_000_000_000;

/// How far a conversion is.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Progress<'a> {
    /// The tensor that was written last.
    pub tensor: &'a str,
    /// Bytes written so far.
    pub done: u64,
    /// Bytes to be written.
    pub total: u64,
}

/// Called for every piece that was written.
pub type OnProgress<'a> = &'a mut dyn FnMut(Progress<'_>);

/// What a conversion made.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// The folder or file.
    pub path: PathBuf,
    /// Number of tensors.
    pub tensors: usize,
    /// Bytes of the tensors.
    pub bytes: u64,
    /// Files that hold tensors.
    pub files: usize,
    /// What was decided on the way and may surprise: a type that did not fit, a tokenizer that is not there.
    pub notes: Vec<String>,
    /// How far the weights are from what they were, by the part their tensors play, where [`GgufOptions::measure`] asks.
    pub classes: Vec<TensorClass>,
}

/// The type that tensors of a Hugging Face folder get, by name; `None` for names of other types.
pub fn plain_dtype(name: &str) -> Option<DType> {
    DType::from_name(name).filter(|d| [DType::F32, DType::F16, DType::BF16].contains(d))
}
