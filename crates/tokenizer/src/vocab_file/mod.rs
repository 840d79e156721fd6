//! `tokenizer.model`: the vocabulary files that Meta publishes, SentencePiece's for LLaMA 1 and 2, tiktoken's for Llama 3.
//!
//! Both are called the same and are told apart by what is in them. Either becomes what a `tokenizer.json` would say, so
//! that one implementation encodes.

pub(crate) mod merges;
mod sentencepiece;
mod tiktoken;
mod wire;

use std::path::Path;

pub use tiktoken::{llama3_special_tokens, llama31_special_tokens};

use crate::config::TokenizerConfig;
use crate::error::{LoadError, read};
use crate::hf::HfTokenizer;
use crate::json::from_value;

/// Longest file that is read. Llama 3's has 2 MB.
const MAX_BYTES: u64 = 32 << 20;

impl HfTokenizer {
    /// The tokenizer of a `tokenizer.model`: SentencePiece's Protocol Buffers (BPE models) or tiktoken's lines of base64
    /// and ranks.
    ///
    /// A SentencePiece model becomes what transformers' [`LlamaTokenizer`](crate::LlamaTokenizer) makes of it, with
    /// `add_prefix_space` and `legacy` from `config`; a tiktoken file gets Llama 3's pattern and, if `config` has no
    /// `added_tokens_decoder`, its 256 special tokens. Either puts the beginning-of-sequence token in front unless
    /// `config` says `add_bos_token: false`.
    ///
    /// # Errors
    /// [`LoadError`] with the line, the byte or the piece at fault; for models of another kind than BPE and
    /// normalizations other than `identity`, their names.
    pub fn from_tokenizer_model(file: &Path, config: Option<TokenizerConfig>) -> Result<Self, LoadError> {
        let origin = file.display().to_string();
        let length = std::fs::metadata(file).map_err(|source| LoadError::Read { path: file.to_owned(), source })?.len();
        if length > MAX_BYTES {
            let found = format!("{length} bytes");
            return Err(LoadError::field(
                &origin,
                "the file",
                found,
                "no vocabulary is as long: is this the right file?",
            ));
        }
        let mut tokenizer = from_bytes(&read(file)?, config.unwrap_or_default(), &origin)?;
        tokenizer.vocab_file = Some(file.to_owned());
        Ok(tokenizer)
    }

    /// The tokenizer in the bytes of a `tokenizer.model`; see [`from_tokenizer_model`](Self::from_tokenizer_model).
    ///
    /// # Errors
    /// As there.
    pub fn from_tokenizer_model_bytes(bytes: &[u8], config: Option<TokenizerConfig>) -> Result<Self, LoadError> {
        from_bytes(bytes, config.unwrap_or_default(), "tokenizer.model")
    }
}

fn from_bytes(bytes: &[u8], config: TokenizerConfig, origin: &str) -> Result<HfTokenizer, LoadError> {
    if bytes.is_empty() {
        return Err(LoadError::field(origin, "the file", "empty", "fetch it again"));
    }
    if tiktoken::looks_like(bytes) {
        let (json, config) = tiktoken::load(bytes, config, origin)?;
        return from_value(json, config, origin);
    }
    sentencepiece::load(bytes, config, origin)
}
