//! [`Voice`]: from the tokens of one sequence to its text, events and log-probabilities.

use camelid_core::tokenizer::{TokenId, Tokenizer};

use super::{Event, FinishReason, Generation, Request};
use crate::error::EngineError;
use crate::sampling::{TokenLogprob, log_probs};
use crate::text::TextStream;

/// What a sequence says.
#[derive(Clone)]
pub(super) struct Voice<'a> {
    tokenizer: &'a dyn Tokenizer,
    request: usize,
    /// Index of the text among those the request returns.
    sequence: usize,
    eos: Vec<TokenId>,
    alternatives: Option<usize>,
    stream: TextStream,
    text: String,
    logprobs: Vec<Vec<TokenLogprob>>,
}

impl<'a> Voice<'a> {
    pub fn new(index: usize, request: &Request, tokenizer: &'a dyn Tokenizer) -> Result<Voice<'a>, EngineError> {
        Ok(Voice {
            tokenizer,
            request: index,
            sequence: 0,
            eos: request.eos.clone(),
            alternatives: request.logprobs,
            stream: TextStream::new(request.stop.clone())?,
            text: String::new(),
            logprobs: Vec::new(),
        })
    }

    /// The same, before it has said anything, for another of the texts that the request returns.
    pub fn of(&self, sequence: usize) -> Voice<'a> {
        Voice { sequence, ..self.clone() }
    }

    /// Whether `token` ends the sequence by itself.
    pub fn is_eos(&self, token: TokenId) -> bool {
        self.eos.contains(&token)
    }

    /// Notes how likely `token` was under `logits`, if that was asked for.
    pub fn weigh(&mut self, token: TokenId, logits: &[f32]) -> Result<(), EngineError> {
        if let Some(alternatives) = self.alternatives {
            self.logprobs.push(log_probs(logits, token, alternatives)?);
        }
        Ok(())
    }

    /// Takes a token and tells of it. Whether a stop string has appeared with it.
    pub fn say(&mut self, token: TokenId, on_event: &mut dyn FnMut(Event<'_>)) -> bool {
        let piece = self.stream.push(&self.bytes(token));
        self.text.push_str(&piece.text);
        let (request, sequence) = (self.request, self.sequence);
        on_event(Event { request, sequence, token: Some(token), text: &piece.text });
        piece.stopped
    }

    /// Takes a token and tells nobody. Whether a stop string has appeared with it.
    pub fn think(&mut self, token: TokenId) -> bool {
        self.stream.push(&self.bytes(token)).stopped
    }

    /// Lets go of the text that was held back.
    pub fn finish(&mut self, on_event: &mut dyn FnMut(Event<'_>)) {
        let rest = self.stream.finish();
        if !rest.is_empty() {
            on_event(Event { request: self.request, sequence: self.sequence, token: None, text: &rest });
            self.text.push_str(&rest);
        }
    }

    pub fn into_generation(self, tokens: Vec<TokenId>, finish_reason: FinishReason, score: Option<f64>) -> Generation {
        let Voice { request, sequence, text, logprobs, .. } = self;
        Generation { request, sequence, tokens, text, finish_reason, score, logprobs }
    }

    /// Ids past the vocabulary are padding rows of the embedding table: they have no text.
    fn bytes(&self, token: TokenId) -> Vec<u8> {
        if self.is_eos(token) || self.tokenizer.special_tokens().all.contains(&token) {
            return Vec::new();
        }
        self.tokenizer.token_bytes(token).unwrap_or_default()
    }
}
