//! Generation: requests in, tokens and text out, as they come.

use std::time::{Duration, Instant};

use camelid_core::cache::SequenceId;
use camelid_core::tokenizer::{TokenId, Tokenizer};

use crate::error::EngineError;
use crate::sampling::{Sampler, SamplingParams, TokenLogprob, log_probs};
use crate::session::{CancelToken, Outputs, SequenceInput, Session};
use crate::text::TextStream;

/// What to generate.
#[derive(Clone, Debug)]
pub struct Request {
    /// The sequence to go on with. What it already holds stays in front of the prompt.
    pub sequence: SequenceId,
    /// The tokens of the sequence so far, prompt included: penalties count them. Their last `new_tokens` are not in
    /// the cache yet.
    pub history: Vec<TokenId>,
    /// How many tokens at the end of `history` are still to be computed; at least one.
    pub new_tokens: usize,
    /// How tokens are chosen.
    pub sampling: SamplingParams,
    /// Most tokens to generate.
    pub max_new_tokens: usize,
    /// Texts that end the generation; not part of the result.
    pub stop: Vec<String>,
    /// Tokens that end the generation; part of the tokens, not of the text.
    pub eos: Vec<TokenId>,
    /// How many alternatives to report with each token's log-probability; no log-probabilities if `None`.
    pub logprobs: Option<usize>,
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model wrote an end-of-sequence token.
    Eos,
    /// A stop string appeared.
    Stop,
    /// `max_new_tokens` were generated, or the context is full.
    Length,
    /// The caller asked to stop.
    Cancelled,
}

impl FinishReason {
    /// The word used in JSON: "stop" for both kinds of natural end.
    pub fn name(self) -> &'static str {
        match self {
            FinishReason::Eos | FinishReason::Stop => "stop",
            FinishReason::Length => "length",
            FinishReason::Cancelled => "cancelled",
        }
    }
}

/// Something that happened during generation.
#[derive(Clone, Debug)]
pub struct Event<'a> {
    /// Index of the request.
    pub request: usize,
    /// The token that was chosen; `None` when only text that was held back is let go at the end.
    pub token: Option<TokenId>,
    /// Text that is now certain: whole characters, no part of a stop string. Often empty.
    pub text: &'a str,
}

/// A finished generation.
#[derive(Clone, Debug)]
pub struct Generation {
    /// The generated tokens, a closing end-of-sequence token included.
    pub tokens: Vec<TokenId>,
    /// Their text, special tokens and what follows a stop string left out.
    pub text: String,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Log-probabilities of the tokens and their alternatives, if asked for.
    pub logprobs: Vec<Vec<TokenLogprob>>,
}

/// How long the parts of a generation took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timings {
    /// Computing the prompts, up to the first token's logits.
    pub prefill: Duration,
    /// Prompt tokens computed.
    pub prefill_tokens: usize,
    /// All later steps.
    pub decode: Duration,
    /// Tokens the later steps made.
    pub decode_tokens: usize,
}

impl Timings {
    /// Prompt tokens a second.
    pub fn prefill_tokens_per_s(&self) -> f64 {
        rate(self.prefill_tokens, self.prefill)
    }

    /// Generated tokens a second, the first one not counted: it belongs to the prefill.
    pub fn decode_tokens_per_s(&self) -> f64 {
        rate(self.decode_tokens, self.decode)
    }
}

fn rate(tokens: usize, time: Duration) -> f64 {
    if tokens == 0 || time.is_zero() { 0.0 } else { tokens as f64 / time.as_secs_f64() }
}

/// Generates for all requests together, one step at a time, until each has ended.
///
/// A request's tokens do not depend on the others. `on_event` hears of every token as it is chosen. Afterwards the
/// sequences hold everything but their last token.
///
/// # Errors
/// Whatever [`Session::step`] says, and [`EngineError::Sampling`] for parameters or logits that make no sense. The
/// whole batch ends with it. A cancellation is no error here: it is a [`FinishReason`].
pub fn generate(
    session: &mut Session,
    tokenizer: &dyn Tokenizer,
    requests: Vec<Request>,
    cancel: &CancelToken,
    on_event: &mut dyn FnMut(Event<'_>),
) -> Result<(Vec<Generation>, Timings), EngineError> {
    let mut running = Vec::with_capacity(requests.len());
    for (index, request) in requests.into_iter().enumerate() {
        if request.new_tokens == 0 {
            return Err(EngineError::EmptyPrompt);
        }
        check_room(session, &request)?;
        running.push(Running::new(index, request, tokenizer)?);
    }
    let mut timings = Timings::default();
    let mut first = true;
    loop {
        let mut active: Vec<&mut Running<'_>> = running.iter_mut().filter(|r| r.finish.is_none()).collect();
        if active.is_empty() {
            break;
        }
        let inputs: Vec<SequenceInput<'_>> = active
            .iter()
            .map(|r| SequenceInput {
                sequence: r.request.sequence,
                tokens: &r.request.history[r.request.history.len() - r.request.new_tokens..],
                positions: None,
                outputs: Outputs::Last,
            })
            .collect();
        let start = Instant::now();
        let tokens: usize = inputs.iter().map(|i| i.tokens.len()).sum();
        let result = if cancel.is_cancelled() { Err(EngineError::Cancelled) } else { session.step(&inputs) };
        let logits = match result {
            Ok(logits) => logits,
            Err(EngineError::Cancelled) => {
                active.iter_mut().for_each(|r| r.end(FinishReason::Cancelled, on_event));
                break;
            }
            Err(error) => return Err(error),
        };
        for (i, r) in active.iter_mut().enumerate() {
            let room = session.room(r.request.sequence)?;
            r.accept(logits.last_of_input(i), room, on_event)?;
        }
        let (time, count) = if first {
            (&mut timings.prefill, &mut timings.prefill_tokens)
        } else {
            (&mut timings.decode, &mut timings.decode_tokens)
        };
        *time += start.elapsed();
        *count += tokens;
        first = false;
    }
    Ok((running.into_iter().map(Running::into_generation).collect(), timings))
}

/// The prompt and one token to generate must fit.
fn check_room(session: &Session, request: &Request) -> Result<(), EngineError> {
    let (len, room) = (session.len(request.sequence)?, session.room(request.sequence)?);
    if request.new_tokens > room {
        return Err(EngineError::PromptTooLong {
            tokens: len + request.new_tokens,
            context_size: len + room,
            max_position_embeddings: session.model().config().max_position_embeddings,
        });
    }
    Ok(())
}

struct Running<'a> {
    index: usize,
    tokenizer: &'a dyn Tokenizer,
    request: Request,
    sampler: Sampler,
    stream: TextStream,
    prompt_len: usize,
    text: String,
    logprobs: Vec<Vec<TokenLogprob>>,
    finish: Option<FinishReason>,
}

impl<'a> Running<'a> {
    fn new(index: usize, request: Request, tokenizer: &'a dyn Tokenizer) -> Result<Running<'a>, EngineError> {
        let sampler = Sampler::new(request.sampling.clone())?;
        let stream = TextStream::new(request.stop.clone())?;
        // Asked for no tokens, it has ended before it begins.
        let finish = (request.max_new_tokens == 0).then_some(FinishReason::Length);
        let prompt_len = request.history.len();
        let (text, logprobs) = (String::new(), Vec::new());
        Ok(Running { index, tokenizer, request, sampler, stream, prompt_len, text, logprobs, finish })
    }

    /// Chooses a token and sees whether it ends the generation.
    fn accept(&mut self, logits: &[f32], room: usize, on_event: &mut dyn FnMut(Event<'_>)) -> Result<(), EngineError> {
        let token = self.sampler.sample(logits, &self.request.history, self.prompt_len)?.token;
        if let Some(alternatives) = self.request.logprobs {
            self.logprobs.push(log_probs(logits, token, alternatives)?);
        }
        self.request.history.push(token);
        self.request.new_tokens = 1;
        let is_eos = self.request.eos.contains(&token);
        // Ids past the vocabulary are padding rows of the embedding table: they have no text.
        let bytes = if is_eos || self.tokenizer.special_tokens().all.contains(&token) {
            Vec::new()
        } else {
            self.tokenizer.token_bytes(token).unwrap_or_default()
        };
        let piece = self.stream.push(&bytes);
        self.text.push_str(&piece.text);
        on_event(Event { request: self.index, token: Some(token), text: &piece.text });
        if is_eos {
            self.end(FinishReason::Eos, on_event);
        } else if piece.stopped {
            self.finish = Some(FinishReason::Stop);
        } else if self.request.history.len() - self.prompt_len >= self.request.max_new_tokens || room == 0 {
            self.end(FinishReason::Length, on_event);
        }
        Ok(())
    }

    /// Ends, and lets go of the text that was held back.
    fn end(&mut self, reason: FinishReason, on_event: &mut dyn FnMut(Event<'_>)) {
        self.finish = Some(reason);
        let rest = self.stream.finish();
        if !rest.is_empty() {
            on_event(Event { request: self.index, token: None, text: &rest });
            self.text.push_str(&rest);
        }
    }

    fn into_generation(self) -> Generation {
        Generation {
            tokens: self.request.history[self.prompt_len..].to_vec(),
            text: self.text,
            finish_reason: self.finish.unwrap_or(FinishReason::Cancelled),
            logprobs: self.logprobs,
        }
    }
}
