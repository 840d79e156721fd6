//! [`Single`]: sequences that grow by one chosen token at a time, or by the guesses that turn out right.

use camelid_core::cache::SequenceId;
use camelid_core::tokenizer::{TokenId, Tokenizer};

use super::spare::Spare;
use super::speculate::{Speculated, Wish, look_up};
use super::voice::Voice;
use super::{Around, Event, FinishReason, Generation, Request, Strategy};
use crate::error::EngineError;
use crate::sampling::{Sampler, SamplingParams};
use crate::session::{Outputs, SequenceInput, Session};

/// A request whose sequences do not depend on each other. They share the computation of the prompt.
pub(super) struct Singles<'a> {
    singles: Vec<Single<'a>>,
    spare: Spare,
    /// Whether the prompt is computed and every sequence has its own cache.
    parted: bool,
}

impl<'a> Singles<'a> {
    pub fn new(
        session: &mut Session,
        index: usize,
        request: Request,
        tokenizer: &'a dyn Tokenizer,
    ) -> Result<Singles<'a>, EngineError> {
        let count = request.num_return_sequences;
        let first = Single::new(index, request, tokenizer)?;
        let mut singles = Vec::with_capacity(count);
        for sequence in 1..count {
            singles.push(first.with_another_seed(sequence)?);
        }
        singles.insert(0, first);
        let spare = Spare::hold(session, index, count - 1)?;
        Ok(Singles { singles, spare, parted: count == 1 })
    }

    pub fn finished(&self) -> bool {
        self.singles.iter().all(|s| s.finish.is_some())
    }

    /// Guesses from the history; says which guesses a draft should make.
    pub fn prepare(&mut self, session: &Session) -> Result<Option<Wish<'_>>, EngineError> {
        let parted = self.parted;
        let fed = if parted { self.singles.len() } else { 1 };
        for single in self.singles[..fed].iter_mut().filter(|s| s.finish.is_none()) {
            single.prepare(session)?;
        }
        Ok(self.singles[0].wish())
    }

    /// Takes the history with the draft's guesses.
    pub fn take_guesses(&mut self, history: &[TokenId]) {
        let single = &mut self.singles[0];
        let guesses = &history[single.history.len()..];
        single.guesses = guesses.to_vec();
    }

    pub fn inputs<'s>(&'s mut self, inputs: &mut Vec<SequenceInput<'s>>) {
        let fed = if self.parted { self.singles.len() } else { 1 };
        inputs.extend(self.singles[..fed].iter_mut().filter(|s| s.finish.is_none()).map(Single::input));
    }

    /// Takes the logits of its inputs, in their order.
    pub fn accept(
        &mut self,
        session: &mut Session,
        rows: &mut dyn Iterator<Item = &[f32]>,
        around: &mut Around<'_>,
    ) -> Result<(), EngineError> {
        if self.parted {
            for single in self.singles.iter_mut().filter(|s| s.finish.is_none()) {
                let rows = rows.next().expect("logits for every input");
                single.accept(session, rows, around)?;
            }
            return Ok(());
        }
        let rows = rows.next().expect("logits for the prompt");
        let prompt = self.singles[0].sequence;
        for single in &mut self.singles[1..] {
            single.sequence = self.spare.fork(session, prompt)?;
        }
        self.parted = true;
        self.singles.iter_mut().try_for_each(|single| single.accept(session, rows, around))
    }

    pub fn cancel(&mut self, on_event: &mut dyn FnMut(Event<'_>)) {
        for single in self.singles.iter_mut().filter(|s| s.finish.is_none()) {
            single.end(FinishReason::Cancelled, on_event);
        }
    }

    pub fn give_back(&mut self, session: &mut Session) -> Result<(), EngineError> {
        self.spare.give_back(session)
    }

    pub fn into_generations(self) -> impl Iterator<Item = Generation> {
        self.singles.into_iter().map(Single::into_generation)
    }
}

struct Single<'a> {
    /// Index of the request.
    index: usize,
    sequence: SequenceId,
    history: Vec<TokenId>,
    prompt_len: usize,
    /// How many tokens at the end of `history` are not in the cache yet.
    new_tokens: usize,
    max_new_tokens: usize,
    eos: Vec<TokenId>,
    strategy: Strategy,
    guesses: Vec<TokenId>,
    /// What the next step computes: the new tokens and the guesses.
    feed: Vec<TokenId>,
    /// Which of these give logits.
    rows: Vec<usize>,
    sampler: Sampler,
    voice: Voice<'a>,
    finish: Option<FinishReason>,
}

impl<'a> Single<'a> {
    fn new(index: usize, request: Request, tokenizer: &'a dyn Tokenizer) -> Result<Single<'a>, EngineError> {
        let voice = Voice::new(index, &request, tokenizer)?;
        let sampler = Sampler::new(request.sampling)?.with_ends(&request.eos, request.max_new_tokens);
        // Asked for no tokens, it has ended before it begins.
        let finish = (request.max_new_tokens == 0).then_some(FinishReason::Length);
        Ok(Single {
            index,
            sequence: request.sequence,
            prompt_len: request.history.len(),
            history: request.history,
            new_tokens: request.new_tokens,
            max_new_tokens: request.max_new_tokens,
            eos: request.eos,
            strategy: request.strategy,
            guesses: Vec::new(),
            feed: Vec::new(),
            rows: Vec::new(),
            sampler,
            voice,
            finish,
        })
    }

    /// The same with its own random numbers, before it has begun.
    fn with_another_seed(&self, sequence: usize) -> Result<Single<'a>, EngineError> {
        let params = self.sampler.params();
        let params = SamplingParams { seed: params.seed.wrapping_add(sequence as u64), ..params.clone() };
        Ok(Single {
            index: self.index,
            sequence: self.sequence,
            history: self.history.clone(),
            prompt_len: self.prompt_len,
            new_tokens: self.new_tokens,
            max_new_tokens: self.max_new_tokens,
            eos: self.eos.clone(),
            strategy: self.strategy,
            guesses: Vec::new(),
            feed: Vec::new(),
            rows: Vec::new(),
            sampler: Sampler::new(params)?.with_ends(&self.eos, self.max_new_tokens),
            voice: self.voice.of(sequence),
            finish: self.finish,
        })
    }

    /// How many tokens may be guessed: the model adds one of its own, and all of it must fit.
    fn most_guesses(&self, session: &Session) -> Result<usize, EngineError> {
        let wanted = self.max_new_tokens - (self.history.len() - self.prompt_len) - 1;
        Ok(session.room(self.sequence)?.saturating_sub(self.new_tokens).min(wanted))
    }

    fn prepare(&mut self, session: &Session) -> Result<(), EngineError> {
        let most = self.most_guesses(session)?;
        self.guesses.clear();
        match &mut self.strategy {
            Strategy::OneByOne | Strategy::Beams(_) => {}
            Strategy::PromptLookup { num_tokens, max_matching_ngram_size } => {
                self.guesses = look_up(&self.history, *max_matching_ngram_size, most.min(*num_tokens));
            }
            // The draft is asked later, for all requests at once: until then its number is kept in their place.
            Strategy::Draft { num_tokens } => self.guesses.resize(most.min(*num_tokens), 0),
        }
        Ok(())
    }

    fn wish(&mut self) -> Option<Wish<'_>> {
        let Strategy::Draft { .. } = self.strategy else { return None };
        let count = std::mem::take(&mut self.guesses).len();
        (count > 0 && self.finish.is_none()).then(|| Wish {
            request: self.index,
            history: self.history.clone(),
            prompt_len: self.prompt_len,
            count,
            sampler: &mut self.sampler,
            eos: &self.eos,
        })
    }

    fn input(&mut self) -> SequenceInput<'_> {
        self.feed.clear();
        self.feed.extend_from_slice(&self.history[self.history.len() - self.new_tokens..]);
        self.feed.extend_from_slice(&self.guesses);
        self.rows.clear();
        self.rows.extend(self.new_tokens - 1..self.feed.len());
        let outputs = if self.guesses.is_empty() { Outputs::Last } else { Outputs::Rows(&self.rows) };
        SequenceInput { sequence: self.sequence, tokens: &self.feed, positions: None, outputs }
    }

    /// Chooses a token after the new ones, and one after each guess that was right. `rows` `[1 + guesses, vocab_size]`.
    fn accept(&mut self, session: &mut Session, rows: &[f32], around: &mut Around<'_>) -> Result<(), EngineError> {
        let vocab_size = rows.len() / (1 + self.guesses.len());
        let guesses = std::mem::take(&mut self.guesses);
        let room = session.room(self.sequence)?;
        let before = self.history.len();
        for (i, logits) in rows.chunks_exact(vocab_size).enumerate() {
            let token = self.choose(logits, room + guesses.len() - i, around)?;
            if self.finish.is_some() || guesses.get(i) != Some(&token) {
                break;
            }
        }
        let chosen = self.history.len() - before;
        around.chosen += chosen;
        if !guesses.is_empty() {
            let right = self.history[before..].iter().zip(&guesses).take_while(|(a, b)| a == b).count();
            let counts = Speculated { rounds: 1, drafted: guesses.len(), accepted: right };
            around.add(counts);
            // Kept is everything but the last token, which is not in the cache or need not be.
            let wrong = guesses.len() - (chosen - 1);
            session.truncate(self.sequence, session.len(self.sequence)? - wrong)?;
        }
        Ok(())
    }

    /// Chooses a token and sees whether it ends the generation.
    fn choose(&mut self, logits: &[f32], room: usize, around: &mut Around<'_>) -> Result<TokenId, EngineError> {
        let token = self.sampler.sample(logits, &self.history, self.prompt_len)?.token;
        self.voice.weigh(token, logits)?;
        self.history.push(token);
        self.new_tokens = 1;
        let stopped = self.voice.say(token, around.on_event);
        if self.voice.is_eos(token) {
            self.end(FinishReason::Eos, around.on_event);
        } else if stopped {
            self.finish = Some(FinishReason::Stop);
        } else if self.history.len() - self.prompt_len >= self.max_new_tokens || room == 0 {
            self.end(FinishReason::Length, around.on_event);
        } else if around.time_is_up(self.index) {
            self.end(FinishReason::Time, around.on_event);
        }
        Ok(token)
    }

    /// Ends, and lets go of the text that was held back.
    fn end(&mut self, reason: FinishReason, on_event: &mut dyn FnMut(Event<'_>)) {
        self.finish = Some(reason);
        self.voice.finish(on_event);
    }

    fn into_generation(self) -> Generation {
        let tokens = self.history[self.prompt_len..].to_vec();
        self.voice.into_generation(tokens, self.finish.unwrap_or(FinishReason::Cancelled), None)
    }
}
