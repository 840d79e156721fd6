//! From a checkpoint to its tokenizer.

use camelid_tokenizer::{GgufVocab, HfTokenizer};
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
            Some(vocab) => HfTokenizer::from_gguf(convert(vocab)).map(Some).map_err(failed),
        },
        _ => Ok(None),
    }
}

/// The same vocabulary under the name the tokenizer crate knows it by: neither crate depends on the other.
pub fn convert(v: camelid_weights::GgufVocab) -> GgufVocab {
    GgufVocab {
        model: v.model,
        pre: v.pre,
        tokens: v.tokens,
        scores: v.scores,
        token_types: v.token_types,
        merges: v.merges,
        bos: v.bos,
        eos: v.eos,
        eot: v.eot,
        eom: v.eom,
        unk: v.unk,
        pad: v.pad,
        add_bos: v.add_bos,
        add_eos: v.add_eos,
        add_space_prefix: v.add_space_prefix,
        chat_template: v.chat_template,
    }
}
