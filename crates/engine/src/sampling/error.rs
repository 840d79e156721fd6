//! Why no token can be chosen.

use camelid_core::tokenizer::TokenId;
use thiserror::Error;

/// Why no token can be chosen.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum SamplingError {
    /// A parameter out of range.
    #[error("`{field}` is {found}, but it must {rule}")]
    Param {
        /// Its name.
        field: &'static str,
        /// Its value.
        found: String,
        /// The rule.
        rule: &'static str,
    },
    /// A logit that is not a number.
    #[error(
        "logit {index} of {vocab_size} is NaN: the model's computation went wrong; check the weights for damage and the \
         backend with another one"
    )]
    Nan {
        /// The first such token id.
        index: usize,
        /// Number of logits.
        vocab_size: usize,
    },
    /// Every token has a score of -inf.
    #[error(
        "none of the {vocab_size} tokens can be chosen: every score is -inf after the biases and constraints; forbid fewer \
         tokens, or check the backend with another one"
    )]
    NothingLeft {
        /// Number of logits.
        vocab_size: usize,
    },
    /// There are no logits.
    #[error("there are no logits to choose from; ask the session for the last token's")]
    NoLogits,
    /// An id that no logit belongs to.
    #[error("token id {id} in {place} is not below the vocabulary's size {vocab_size}")]
    TokenOutOfRange {
        /// The id.
        id: TokenId,
        /// Where it was found: "the history", ...
        place: &'static str,
        /// Number of logits.
        vocab_size: usize,
    },
    /// A prompt that is longer than the whole history.
    #[error("the prompt is said to be the first {prompt_len} tokens of a history of {history_len}")]
    PromptLen {
        /// Tokens of the prompt.
        prompt_len: usize,
        /// Tokens of the history, prompt included.
        history_len: usize,
    },
}
