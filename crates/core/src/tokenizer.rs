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

/// The tokenizer of a GGUF file: the values of `tokenizer.ggml.*` as they are stored, not yet checked.
///
/// Plain data, so that whoever reads the file and whoever makes a [`Tokenizer`] of it need not know each other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GgufVocab {
    /// `tokenizer.ggml.model`: `llama` (SentencePiece BPE with scores) or `gpt2` (byte-level BPE with merges).
    pub model: String,
    /// `tokenizer.ggml.pre`: how `gpt2` text is cut into words, as llama.cpp names it (`llama-bpe`, `smollm`).
    pub pre: Option<String>,
    /// `tokenizer.ggml.tokens`: the texts, by id. An empty one keeps its id and is called `[EMPTY_id]`, as in llama.cpp.
    pub tokens: Vec<String>,
    /// `tokenizer.ggml.scores`: one per token; without them all are 0.
    pub scores: Option<Vec<f32>>,
    /// `tokenizer.ggml.token_type`: one per token; 0 undefined, 1 normal, 2 unknown, 3 control, 4 user-defined,
    /// 5 unused, 6 byte. Without them all are normal.
    pub token_types: Option<Vec<i32>>,
    /// `tokenizer.ggml.merges`: `left right`, the most frequent first.
    pub merges: Option<Vec<String>>,
    /// `tokenizer.ggml.bos_token_id`; without it and the next ones, `llama` vocabularies have 1, 2 and 0 as SentencePiece
    /// does, if those tokens are what they should be.
    pub bos: Option<u32>,
    /// `tokenizer.ggml.eos_token_id`
    pub eos: Option<u32>,
    /// `tokenizer.ggml.eot_token_id`: end of a turn.
    pub eot: Option<u32>,
    /// `tokenizer.ggml.eom_token_id`: end of a message.
    pub eom: Option<u32>,
    /// `tokenizer.ggml.unknown_token_id`
    pub unk: Option<u32>,
    /// `tokenizer.ggml.padding_token_id`
    pub pad: Option<u32>,
    /// `tokenizer.ggml.add_bos_token`; without it `llama` and `llama-bpe` vocabularies add one.
    pub add_bos: Option<bool>,
    /// `tokenizer.ggml.add_eos_token`; without it none is added.
    pub add_eos: Option<bool>,
    /// `tokenizer.ggml.add_space_prefix`; without it `llama` vocabularies put a space before the first word.
    pub add_space_prefix: Option<bool>,
    /// `tokenizer.chat_template`
    pub chat_template: Option<String>,
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
