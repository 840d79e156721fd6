//! From a checkpoint to its tokenizer.

use camelid_tokenizer::HfTokenizer;
use camelid_weights::{Checkpoint, TokenizerSource};

use crate::error::EngineError;

/// The tokenizer of a checkpoint, or `None` if it brings none.
pub fn load(checkpoint: &Checkpoint) -> Result<Option<HfTokenizer>, EngineError> {
    let failed = |source| EngineError::Tokenizer { path: checkpoint.path().to_owned(), source };
    match checkpoint.tokenizer() {
        TokenizerSource::TokenizerJson(file) => {
            let folder = file.parent().expect("a file lies in a folder");
            HfTokenizer::from_folder(folder).map(Some).map_err(failed)
        }
        TokenizerSource::Gguf => match checkpoint.gguf_vocab()? {
            None => Ok(None),
            Some(vocab) => HfTokenizer::from_gguf(vocab).map(Some).map_err(failed),
        },
        _ => Ok(None),
    }
}
