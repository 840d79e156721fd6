//! Checkpoint readers: a Hugging Face folder of safetensors or a GGUF file becomes named, memory-mapped tensors, a
//! config in Hugging Face form and the whereabouts of the tokenizer.
//!
//! Nothing here knows a backend, and reading never turns weights into floats: tensors are handed on as they lie in the
//! file. Start reading at [`Checkpoint::open`]; the two formats are [`safetensors`] and [`gguf`], and
//! `specs/models.md` says what of them is read and checked. Checkpoints are written, and converted on the way, in
//! [`mod@write`]; Meta's own files are read in [`meta`], out of the pickles that [`pickle`] reads without running them.
//!
//! [`init`] is the one exception: it makes new models, with random weights.
//!
//! Every count, length and offset of a file is compared with the size of the file before it is used, so that a file
//! from anywhere gives a [`WeightsError`] at worst: no panic, no endless loop, and no more memory than a small
//! multiple of the file.
//!
//! # Files that change while they are mapped
//! A tensor is a slice of a memory map. If another process shortens the file after [`Checkpoint::open`] has returned,
//! reading the part that went away ends the process with `SIGBUS`; no reader of mapped files can prevent that. Replace
//! a checkpoint by renaming a new file over it, never by writing into it.

#![deny(missing_docs)]
#![deny(unsafe_code)]

mod check;
mod checkpoint;
mod error;
pub mod gguf;
pub mod init;
mod locate;
mod map;
pub mod meta;
mod names;
pub mod pickle;
pub mod safetensors;
mod summary;
mod tensor;
pub mod write;

pub use check::{CheckReport, Mismatch, Strictness, WrongShape};
pub use checkpoint::{Checkpoint, Format, TokenizerSource};
pub use error::WeightsError;
pub use gguf::{GgufFile, GgufVocab};
pub use summary::{DTypeUse, Summary};
pub use tensor::TensorInfo;
