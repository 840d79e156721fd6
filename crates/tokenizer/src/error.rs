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
    #[error("{} has neither tokenizer.json nor tokenizer.model: {found}", folder.display())]
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

/// Why special tokens could not be changed or told apart.
#[derive(Debug, Error)]
pub enum SpecialsError {
    /// A token is to have a name and is not in the vocabulary.
    #[error("{token:?} is not in the vocabulary; add it with add_special_tokens, the model has to have a row for it")]
    NotThere {
        /// The token.
        token: String,
    },
    /// A finished sequence is one sequence.
    #[error(
        "a second sequence beside ids that already have special tokens; give one sequence, or \
         already_has_special_tokens = false"
    )]
    SecondSequence,
    /// The tokenizer does not hold together any more.
    #[error("the special tokens cannot be used: {0}")]
    Load(Box<LoadError>),
    /// The tokenizer library refuses.
    #[error("the special tokens cannot be used: {0}")]
    Library(String),
}

/// Why a batch could not be encoded.
#[derive(Debug, Error)]
pub enum BatchError {
    /// Padding was asked for and there is nothing to pad with.
    #[error(
        "padding: the tokenizer has no padding token; give it one with set_special_token(SpecialName::Pad, ...), the \
         end-of-sequence token say, or `pad_token` in tokenizer_config.json"
    )]
    NoPadToken,
    /// A length that cannot be both.
    #[error(
        "pad_to_multiple_of: texts are cut to {max_length} tokens, which is not a multiple of {multiple}; change one of \
         the two"
    )]
    Multiple {
        /// The length.
        max_length: usize,
        /// The multiple.
        multiple: usize,
    },
    /// Special tokens alone are longer than what is allowed.
    #[error("max_length: {max_length} has no room for the {special} special tokens; take more, or add none")]
    NoRoom {
        /// The length.
        max_length: usize,
        /// Number of special tokens.
        special: usize,
    },
    /// Each piece would begin where the one before began.
    #[error("stride: {stride} of {room} tokens, special ones not counted, leave nothing new; take a smaller stride")]
    Stride {
        /// The stride.
        stride: usize,
        /// Tokens of a piece.
        room: usize,
    },
    /// A text cannot be tokenized.
    #[error(transparent)]
    Tokenizer(#[from] camelid_core::tokenizer::TokenizerError),
    /// The tokenizer library refuses.
    #[error("the texts cannot be encoded: {0}")]
    Library(String),
}

/// Why a tokenizer could not be saved.
#[derive(Debug, Error)]
pub enum SaveError {
    /// There is no such folder.
    #[error("{} is no folder; make it first", path.display())]
    NoFolder {
        /// The path.
        path: PathBuf,
    },
    /// A file could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The tokenizer library refuses.
    #[error("the tokenizer cannot be written as tokenizer.json: {0}")]
    Library(String),
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
