//! Generation: requests in, tokens and text out, as they come.
//!
//! Here is what all requests have in common; how one of them grows is its [`Strategy`]: `single` one token at a time, or
//! by guesses (`speculate`), `beam` by beam search. Every step of the session serves all requests together. The rules for
//! tokens are in [`crate::sampling`], what ends a text in `voice`.
//!
//! Contrastive search, DoLa, group beam search and constrained beam search are not here: transformers has moved them out
//! as well.

mod beam;
mod single;
mod spare;
mod speculate;
mod voice;

use std::time::{Duration, Instant};

use camelid_core::cache::SequenceId;
use camelid_core::tokenizer::{TokenId, Tokenizer};

use crate::error::EngineError;
use crate::sampling::{SamplingParams, TokenLogprob};
use crate::session::{CancelToken, SequenceInput, Session};

use beam::Beams;
pub use beam::{BeamParams, EarlyStopping};
use single::Singles;
use speculate::Wish;
pub use speculate::{DraftModel, Speculated};

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
    /// How the text grows.
    pub strategy: Strategy,
    /// How many texts to return: of beams the best; of samples those of this seed and the ones after it.
    pub num_return_sequences: usize,
    /// Once so much time has passed since the beginning of the call, the next token is the last.
    pub max_time: Option<Duration>,
}

impl Request {
    /// A greedy request for at most `max_new_tokens` tokens after `prompt`, of which `sequence` holds nothing yet.
    pub fn new(sequence: SequenceId, prompt: Vec<TokenId>, max_new_tokens: usize) -> Request {
        Request {
            sequence,
            new_tokens: prompt.len(),
            history: prompt,
            sampling: SamplingParams::default(),
            max_new_tokens,
            stop: Vec::new(),
            eos: Vec::new(),
            logprobs: None,
            strategy: Strategy::OneByOne,
            num_return_sequences: 1,
            max_time: None,
        }
    }

    /// How many sequences of the session it needs at a time, its own included.
    pub fn sequences_needed(&self) -> usize {
        match self.strategy {
            Strategy::Beams(beams) => beams.num_beams.max(self.num_return_sequences),
            _ => self.num_return_sequences,
        }
    }

    fn check(&self, draft: bool) -> Result<(), EngineError> {
        if self.new_tokens == 0 {
            return Err(EngineError::EmptyPrompt);
        }
        let wrong = |option, found: String, rule: &str| Err(EngineError::Option { option, found, rule: rule.into() });
        if self.new_tokens > self.history.len() {
            let rule = format!("be at most the {} tokens of the history", self.history.len());
            return wrong("new_tokens", self.new_tokens.to_string(), &rule);
        }
        let count = self.num_return_sequences;
        let found = count.to_string();
        if count == 0 {
            return wrong("num_return_sequences", found, "be at least 1");
        }
        let sampled = self.sampling.temperature > 0.0;
        match self.strategy {
            Strategy::Beams(beams) => {
                if beams.num_beams == 0 {
                    return wrong("num_beams", "0".into(), "be at least 1");
                }
                if !beams.length_penalty.is_finite() {
                    return wrong("length_penalty", beams.length_penalty.to_string(), "be a finite number");
                }
                if count > beams.num_beams && (beams.num_beams > 1 || !sampled) {
                    return wrong(
                        "num_return_sequences",
                        found,
                        &format!("be at most num_beams = {}", beams.num_beams),
                    );
                }
            }
            Strategy::OneByOne if count > 1 && !sampled => {
                return wrong("num_return_sequences", found, "be 1 for a greedy choice: all would be the same");
            }
            Strategy::OneByOne => {}
            Strategy::PromptLookup { .. } | Strategy::Draft { .. } if count > 1 => {
                return wrong("num_return_sequences", found, "be 1 with prompt lookup or a draft model");
            }
            Strategy::PromptLookup { num_tokens, max_matching_ngram_size } => {
                if num_tokens == 0 || max_matching_ngram_size == 0 {
                    let found = format!("{num_tokens} tokens after {max_matching_ngram_size}");
                    return wrong("prompt_lookup", found, "look for at least one token, and guess at least one");
                }
            }
            Strategy::Draft { num_tokens: 0 } => return wrong("draft_tokens", "0".into(), "be at least 1"),
            Strategy::Draft { .. } if !draft => {
                return wrong("draft", "missing".into(), "be given to generate_with_draft for Strategy::Draft");
            }
            Strategy::Draft { .. } => {}
        }
        Ok(())
    }
}

/// How a text grows. Whether a token is the most likely or drawn is a matter of the temperature.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Strategy {
    /// A token a step.
    #[default]
    OneByOne,
    /// Beam search; with a temperature above 0 beam sampling. Its text comes at the end, not as it grows.
    Beams(BeamParams),
    /// A step judges tokens that came before after the same words. The text is that of [`Strategy::OneByOne`].
    PromptLookup {
        /// Most tokens to guess for a step.
        num_tokens: usize,
        /// Most tokens to look for.
        max_matching_ngram_size: usize,
    },
    /// A step judges tokens that a [`DraftModel`] has chosen. The text is that of [`Strategy::OneByOne`].
    Draft {
        /// Most tokens to guess for a step.
        num_tokens: usize,
    },
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
    /// `max_time` has passed.
    Time,
    /// The caller asked to stop.
    Cancelled,
}

impl FinishReason {
    /// The word used in JSON: "stop" for both kinds of natural end.
    pub fn name(self) -> &'static str {
        match self {
            FinishReason::Eos | FinishReason::Stop => "stop",
            FinishReason::Length => "length",
            FinishReason::Time => "time",
            FinishReason::Cancelled => "cancelled",
        }
    }
}

/// Something that happened during generation.
#[derive(Clone, Debug)]
pub struct Event<'a> {
    /// Index of the request.
    pub request: usize,
    /// Index of the text among those the request returns.
    pub sequence: usize,
    /// The token that was chosen; `None` when only text that was held back is let go at the end.
    pub token: Option<TokenId>,
    /// Text that is now certain: whole characters, no part of a stop string. Often empty.
    pub text: &'a str,
}

/// A finished generation.
#[derive(Clone, Debug)]
pub struct Generation {
    /// Index of the request.
    pub request: usize,
    /// Index of the text among those the request returns.
    pub sequence: usize,
    /// The generated tokens, a closing end-of-sequence token included.
    pub tokens: Vec<TokenId>,
    /// Their text, special tokens and what follows a stop string left out.
    pub text: String,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// The beams' score: the sum of the log-probabilities over `length ^ length_penalty`; `None` without beams.
    pub score: Option<f64>,
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
    /// Tokens the later steps made; of beams the tokens of all of them.
    pub decode_tokens: usize,
    /// What guesses came to.
    pub speculated: Speculated,
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
/// The result has the texts of the first request, then those of the second, and so on. A request's tokens do not depend
/// on the others. `on_event` hears of every token as it is chosen; of beams, in the end.
///
/// Afterwards the requests' sequences hold everything but their last token. That of a request with several texts holds
/// the prompt, and at most what it shares with the first text.
///
/// # Errors
/// Whatever [`Session::step`] says, [`EngineError::Option`] for a request that makes no sense,
/// [`EngineError::TooFewSequences`] for more texts at a time than the session has room for, and
/// [`EngineError::Sampling`] for parameters or logits that make no sense. The whole batch ends with it. A cancellation is
/// no error here: it is a [`FinishReason`].
pub fn generate(
    session: &mut Session,
    tokenizer: &dyn Tokenizer,
    requests: Vec<Request>,
    cancel: &CancelToken,
    on_event: &mut dyn FnMut(Event<'_>),
) -> Result<(Vec<Generation>, Timings), EngineError> {
    generate_with_draft(session, None, tokenizer, requests, cancel, on_event)
}

/// As [`generate`], with a model that guesses for requests of [`Strategy::Draft`].
///
/// # Errors
/// As [`generate`], and what the draft's session says.
pub fn generate_with_draft(
    session: &mut Session,
    draft: Option<&mut DraftModel>,
    tokenizer: &dyn Tokenizer,
    requests: Vec<Request>,
    cancel: &CancelToken,
    on_event: &mut dyn FnMut(Event<'_>),
) -> Result<(Vec<Generation>, Timings), EngineError> {
    let max_times = requests.iter().map(|r| r.max_time).collect();
    let around = Around { on_event, started: Instant::now(), max_times, chosen: 0, speculated: Speculated::default() };
    let mut tasks = Vec::with_capacity(requests.len());
    let result = begin(session, tokenizer, requests, draft.is_some(), &mut tasks)
        .and_then(|()| run(session, draft, &mut tasks, cancel, around));
    for task in &mut tasks {
        task.give_back(session)?;
    }
    let timings = result?;
    Ok((tasks.into_iter().flat_map(Task::into_generations).collect(), timings))
}

fn begin<'a>(
    session: &mut Session,
    tokenizer: &'a dyn Tokenizer,
    requests: Vec<Request>,
    draft: bool,
    tasks: &mut Vec<Task<'a>>,
) -> Result<(), EngineError> {
    for (index, request) in requests.into_iter().enumerate() {
        request.check(draft)?;
        check_room(session, &request)?;
        tasks.push(match request.strategy {
            Strategy::Beams(params) if params.num_beams > 1 => {
                Task::Beams(Box::new(Beams::new(session, index, request, params, tokenizer)?))
            }
            _ => Task::Singles(Singles::new(session, index, request, tokenizer)?),
        });
    }
    Ok(())
}

/// Steps until every task has finished.
fn run(
    session: &mut Session,
    mut draft: Option<&mut DraftModel>,
    tasks: &mut [Task<'_>],
    cancel: &CancelToken,
    mut around: Around<'_>,
) -> Result<Timings, EngineError> {
    let mut timings = Timings::default();
    let mut first = true;
    while tasks.iter().any(|t| !t.finished()) {
        let start = Instant::now();
        let mut result = Err(EngineError::Cancelled);
        let mut inputs = Vec::new();
        let mut counts = Vec::new();
        if !cancel.is_cancelled() {
            guess(session, draft.as_deref_mut(), tasks)?;
            for task in tasks.iter_mut().filter(|t| !t.finished()) {
                let before = inputs.len();
                task.inputs(&mut inputs);
                counts.push(inputs.len() - before);
            }
            result = session.step(&inputs);
        }
        let tokens: usize = inputs.iter().map(|i| i.tokens.len()).sum();
        drop(inputs);
        let logits = match result {
            Ok(logits) => logits,
            Err(EngineError::Cancelled) => {
                for task in tasks.iter_mut().filter(|t| !t.finished()) {
                    task.cancel(session, around.on_event)?;
                }
                break;
            }
            Err(error) => return Err(error),
        };
        around.chosen = 0;
        let mut input = 0;
        for (task, count) in tasks.iter_mut().filter(|t| !t.finished()).zip(counts) {
            let mut rows = (input..input + count).map(|i| logits.of_input(i));
            task.accept(session, &mut rows, &mut around)?;
            input += count;
        }
        let (time, done, count) = if first {
            (&mut timings.prefill, &mut timings.prefill_tokens, tokens)
        } else {
            (&mut timings.decode, &mut timings.decode_tokens, around.chosen)
        };
        *time += start.elapsed();
        *done += count;
        first = false;
    }
    timings.speculated = around.speculated;
    Ok(timings)
}

/// Has every task make its guesses, those of a draft for all of them together.
fn guess(session: &Session, draft: Option<&mut DraftModel>, tasks: &mut [Task<'_>]) -> Result<(), EngineError> {
    let mut wishes: Vec<Wish<'_>> = Vec::new();
    for task in tasks.iter_mut().filter(|t| !t.finished()) {
        if let Task::Singles(singles) = task {
            wishes.extend(singles.prepare(session)?);
        }
    }
    if wishes.is_empty() {
        return Ok(());
    }
    if let Some(draft) = draft {
        draft.guess(&mut wishes)?;
    }
    let guessed: Vec<(usize, Vec<TokenId>)> = wishes.into_iter().map(|w| (w.request, w.history)).collect();
    for (request, history) in guessed {
        if let Task::Singles(singles) = &mut tasks[request] {
            singles.take_guesses(&history);
        }
    }
    Ok(())
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

/// What is around the tasks while they choose.
struct Around<'e> {
    on_event: &'e mut dyn FnMut(Event<'_>),
    started: Instant,
    /// By request.
    max_times: Vec<Option<Duration>>,
    /// Tokens chosen in this step.
    chosen: usize,
    speculated: Speculated,
}

impl Around<'_> {
    fn time_is_up(&self, request: usize) -> bool {
        self.max_times[request].is_some_and(|most| self.started.elapsed() >= most)
    }

    fn add(&mut self, counts: Speculated) {
        self.speculated.rounds += counts.rounds;
        self.speculated.drafted += counts.drafted;
        self.speculated.accepted += counts.accepted;
    }
}

/// A request on its way.
enum Task<'a> {
    Singles(Singles<'a>),
    Beams(Box<Beams<'a>>),
}

impl Task<'_> {
    fn finished(&self) -> bool {
        match self {
            Task::Singles(task) => task.finished(),
            Task::Beams(task) => task.finished(),
        }
    }

    /// Adds what it needs of the next step, and takes it so that the logits come in the same order.
    fn inputs<'s>(&'s mut self, inputs: &mut Vec<SequenceInput<'s>>) {
        match self {
            Task::Singles(task) => task.inputs(inputs),
            Task::Beams(task) => task.inputs(inputs),
        }
    }

    fn accept(
        &mut self,
        session: &mut Session,
        rows: &mut dyn Iterator<Item = &[f32]>,
        around: &mut Around<'_>,
    ) -> Result<(), EngineError> {
        match self {
            Task::Singles(task) => task.accept(session, rows, around),
            Task::Beams(task) => task.accept(session, rows, around),
        }
    }

    fn cancel(&mut self, session: &mut Session, on_event: &mut dyn FnMut(Event<'_>)) -> Result<(), EngineError> {
        match self {
            Task::Singles(task) => {
                task.cancel(on_event);
                Ok(())
            }
            Task::Beams(task) => task.cancel(session, on_event),
        }
    }

    fn give_back(&mut self, session: &mut Session) -> Result<(), EngineError> {
        match self {
            Task::Singles(task) => task.give_back(session),
            Task::Beams(task) => task.give_back(session),
        }
    }

    fn into_generations(self) -> Vec<Generation> {
        match self {
            Task::Singles(task) => task.into_generations().collect(),
            Task::Beams(task) => task.into_generations(),
        }
    }
}
