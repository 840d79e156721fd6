//! From a checkpoint to its tokenizer.

use std::path::Path;

use camelid_tokenizer::HfTokenizer;
use camelid_weights::{Checkpoint, TokenizerSource};

use crate::error::EngineError;

/// The tokenizer of a checkpoint, or `None` if it brings none.
pub fn load(checkpoint: &Checkpoint) -> Result<Option<HfTokenizer>, EngineError> {
    let failed = |source| EngineError::Tokenizer { path: checkpoint.path().to_owned(), source };
    match checkpoint.tokenizer() {
        TokenizerSource::TokenizerJson(file) | TokenizerSource::TokenizerModel(file) => {
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

/// The tokenizer of a folder that holds one, with or without a model, or of a `tokenizer.json` or `tokenizer.model`
/// (what `tokenizer_config.json` beside it says counts too); `None` for any other path.
pub fn load_alone(path: &Path) -> Result<Option<HfTokenizer>, EngineError> {
    let failed = |source| EngineError::Tokenizer { path: path.to_owned(), source };
    let is = |name: &str| path.is_file() && path.file_name().is_some_and(|n| n == name);
    if is("tokenizer.model") {
        let config = path.parent().map(HfTokenizer::folder_config).transpose().map_err(failed)?;
        return HfTokenizer::from_tokenizer_model(path, config).map(Some).map_err(failed);
    }
    let folder = if is("tokenizer.json") { path.parent() } else { Some(path) };
    match folder.filter(|f| ["tokenizer.json", "tokenizer.model"].iter().any(|name| f.join(name).is_file())) {
        Some(folder) => HfTokenizer::from_folder(folder).map(Some).map_err(failed),
        None => Ok(None),
    }
}
