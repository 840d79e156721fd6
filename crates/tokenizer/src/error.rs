//! Why a tokenizer could not be loaded.

use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why a tokenizer could not be loaded. Every message names the file or source, the field, what was found there, and
/// what to do.
#[derive(Debug, Error)]
pub enum LoadError {
    /// A file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// A model folder without a tokenizer that can be read.
    #[error("{} has no tokenizer.json: {found}", folder.display())]
    NoTokenizer {
        /// The folder.
        folder: PathBuf,
        /// What is there instead, and the remedy.
        found: String,
    },
    /// A file that should be JSON and is not.
    #[error("{origin} is not valid JSON: {source}; the file is damaged or incomplete, fetch it again")]
    Json {
        /// The file, or what the bytes are.
        origin: String,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A field with a value that cannot be used.
    #[error("{origin}: {field}: {found}; {remedy}")]
    Field {
        /// The file, or what the bytes are.
        origin: String,
        /// The field, with an index where it is a list.
        field: String,
        /// What is there.
        found: String,
        /// What to do.
        remedy: String,
    },
    /// The tokenizer library refuses the file.
    #[error("{origin}: {message}")]
    Library {
        /// The file, or what the bytes are.
        origin: String,
        /// The library's words.
        message: String,
    },
    /// A GGUF vocabulary of a kind that is not read.
    #[error("tokenizer.ggml.model is {model:?}, which is not read; known: {known}")]
    UnknownModel {
        /// What the file says.
        model: String,
        /// The kinds that are read.
        known: &'static str,
    },
    /// A GGUF vocabulary that names a pre-tokenizer whose rules are not known. Guessing would give wrong tokens.
    #[error("tokenizer.ggml.pre is {pre:?}, whose rules are not known; known: {known}")]
    UnknownPreTokenizer {
        /// What the file says.
        pre: String,
        /// The names that are known.
        known: String,
    },
}

impl LoadError {
    pub(crate) fn field(
        origin: &str,
        field: impl Into<String>,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        LoadError::Field { origin: origin.to_owned(), field: field.into(), found: found.into(), remedy: remedy.into() }
    }

    pub(crate) fn library(origin: &str, message: impl ToString) -> Self {
        LoadError::Library { origin: origin.to_owned(), message: message.to_string() }
    }
}

/// The whole of a file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    std::fs::read(path).map_err(|source| LoadError::Read { path: path.to_owned(), source })
}

/// Runs library code that asserts on what a file or text says. A panic in there becomes the message of an error: a bad
/// file must not end the process.
pub(crate) fn guarded<T>(run: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)) {
        Ok(result) => result.map_err(|e| e.to_string()),
        Err(panic) => {
            let words = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no message");
            Err(format!("the tokenizer library failed: {words}"))
        }
    }
}
