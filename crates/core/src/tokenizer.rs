//! The [`Tokenizer`] trait: text to token ids and back.

use std::ops::Range;

use thiserror::Error;

/// A token id: a row of the embedding table.
pub type TokenId = u32;

/// Turns text into token ids and token ids into bytes.
///
/// Decoding gives bytes, not a string, because a token may be one byte of a character: only a sequence of tokens is
/// text. A streaming caller keeps the bytes that end inside a character until the rest arrives.
pub trait Tokenizer: Send + Sync {
    /// The ids of `text`.
    ///
    /// With `add_special_tokens` the sequence is framed as the model was trained (a beginning-of-sequence token,
    /// say); special tokens written out in `text` are recognised if `parse_special` is set, and are plain text
    /// otherwise, so that what a user types cannot close a chat turn.
    fn encode(&self, text: &str, options: EncodeOptions) -> Result<Encoding, TokenizerError>;

    /// The bytes of `ids` as a whole, special tokens left out if `skip_special_tokens`.
    ///
    /// A SentencePiece vocabulary drops the one space it added in front of the first word.
    ///
    /// # Errors
    /// [`TokenizerError::UnknownId`] for an id outside the vocabulary.
    fn decode(&self, ids: &[TokenId], skip_special_tokens: bool) -> Result<Vec<u8>, TokenizerError>;

    /// The bytes that token `id` adds when it follows other tokens (its leading space kept): what a stream appends.
    fn token_bytes(&self, id: TokenId) -> Result<Vec<u8>, TokenizerError>;

    /// The id of a token written exactly so, special tokens included.
    fn token_to_id(&self, token: &str) -> Option<TokenId>;

    /// The token as the vocabulary writes it (`"▁Hello"`, `"<0x0A>"`), or `None` outside the vocabulary.
    fn id_to_token(&self, id: TokenId) -> Option<String>;

    /// Number of ids, special and added tokens included. The model's `vocab_size` may be larger (padded rows).
    fn vocab_size(&self) -> usize;

    /// The ids with a meaning of their own.
    fn special_tokens(&self) -> &SpecialTokens;
}

/// How to encode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Frame the sequence with the model's special tokens.
    pub add_special_tokens: bool,
    /// Recognise special tokens written out in the text.
    pub parse_special: bool,
}

impl Default for EncodeOptions {
    fn default() -> Self {
        EncodeOptions { add_special_tokens: true, parse_special: true }
    }
}

/// Token ids with where they came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoding {
    /// The token ids.
    pub ids: Vec<TokenId>,
    /// For each id the bytes of the text it stands for; `0..0` for a special token that was added.
    pub offsets: Vec<Range<usize>>,
}

/// The ids with a meaning of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    /// Beginning of sequence.
    pub bos: Option<TokenId>,
    /// Every id that ends a sequence; several for chat models (`<|eot_id|>`, ...).
    pub eos: Vec<TokenId>,
    /// Padding.
    pub pad: Option<TokenId>,
    /// Stands for what the vocabulary cannot write.
    pub unk: Option<TokenId>,
    /// Every id that is skipped when special tokens are.
    pub all: Vec<TokenId>,
}

/// Why text could not be turned into tokens, or back.
#[derive(Debug, Error)]
pub enum TokenizerError {
    /// An id that the vocabulary does not have.
    #[error("token id {id} is outside the vocabulary of {vocab_size} tokens")]
    UnknownId {
        /// The id.
        id: TokenId,
        /// Number of tokens there are.
        vocab_size: usize,
    },
    /// The tokenizer library refused the text.
    #[error("the text cannot be tokenized: {0}")]
    Encode(String),
}
