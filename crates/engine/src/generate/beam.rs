//! Beam search and beam sampling, as transformers 5.8.0 does them.
//!
//! `num_beams` texts grow side by side. Each step scores every token after every one of them by the sum of its
//! log-probabilities (after the rules of [`crate::sampling`]), takes the best `max(2, 1 + ends) * num_beams`
//! continuations, or draws so many without replacement if the temperature is above 0, and goes on with the best
//! `num_beams` that have not ended. Those of the first `num_beams` that have ended are kept with their sum divided by
//! `length ^ length_penalty`. What ends the search is [`EarlyStopping`].
//!
//! The steps, names and constants are those of `_beam_search` in `generation/utils.py`; the state is per request, so that
//! a request does not depend on the others. Equal scores go to the lower beam and token. The cache follows by forks: a
//! text that is continued twice is forked, one that is not continued gives up its place. Only the request's own
//! sequence is never given up: where its text is not continued, it is cut back to what it shares with another one, and
//! computes the difference again.

mod hypotheses;
mod pick;

use camelid_core::cache::SequenceId;
use camelid_core::tokenizer::{TokenId, Tokenizer};

use super::spare::Spare;
use super::voice::Voice;
use super::{Around, Event, FinishReason, Generation, Request};
use crate::error::EngineError;
use crate::sampling::{Sampler, TokenLogprob, log_probs};
use crate::session::{Outputs, SequenceInput, Session};
use hypotheses::{Finished, Hypotheses};
use pick::{Pick, best, drawn};

/// The score of what does not exist.
const NOTHING: f64 = -1e9;

/// How beams are searched. The default is transformers' but for the number of beams, which is 4 here.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BeamParams {
    /// Texts that grow side by side; 1 is the same as no beams.
    pub num_beams: usize,
    /// The sum of log-probabilities is divided by the length to the power of it: above 0 longer texts win more often;
    /// finite (1).
    pub length_penalty: f64,
    /// When the search ends.
    pub early_stopping: EarlyStopping,
}

impl Default for BeamParams {
    fn default() -> BeamParams {
        BeamParams { num_beams: 4, length_penalty: 1.0, early_stopping: EarlyStopping::No }
    }
}

/// When a beam search ends, but for the most new tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EarlyStopping {
    /// `true`: as soon as there are `num_beams` finished texts.
    Yes,
    /// `false`: when the best running text, ended now, would not be better than the worst finished one.
    #[default]
    No,
    /// `"never"`: when the best running text could not become better at any length. With a length penalty of 0 this is
    /// the search of the textbooks.
    Never,
}

/// A text that still grows.
#[derive(Clone)]
struct Beam<'a> {
    /// After the prompt.
    tokens: Vec<TokenId>,
    /// Sum of log-probabilities.
    score: f64,
    logprobs: Vec<Vec<TokenLogprob>>,
    /// To see stop strings; only if there are any.
    voice: Option<Voice<'a>>,
    /// Index of its cache.
    slot: usize,
}

/// A sequence of the session and the tokens after the prompt that it holds.
struct Slot {
    sequence: SequenceId,
    cached: Vec<TokenId>,
}

/// A request with beams.
pub(super) struct Beams<'a> {
    index: usize,
    params: BeamParams,
    num_return_sequences: usize,
    sampler: Sampler,
    seed: u64,
    eos: Vec<TokenId>,
    prompt: Vec<TokenId>,
    new_tokens: usize,
    max_new_tokens: usize,
    alternatives: Option<usize>,
    voice: Voice<'a>,
    spare: Spare,
    /// The request's own sequence is the first.
    slots: Vec<Slot>,
    running: Vec<Beam<'a>>,
    finished: Hypotheses,
    done: bool,
    generations: Vec<Generation>,
}

impl<'a> Beams<'a> {
    pub fn new(
        session: &mut Session,
        index: usize,
        request: Request,
        params: BeamParams,
        tokenizer: &'a dyn Tokenizer,
    ) -> Result<Beams<'a>, EngineError> {
        let voice = Voice::new(index, &request, tokenizer)?;
        let seed = request.sampling.seed;
        let sampler = Sampler::new(request.sampling)?.with_ends(&request.eos, request.max_new_tokens);
        let beam = |n| Beam {
            tokens: Vec::new(),
            // All but the first begin as bad as can be: otherwise all beams would be the same.
            score: if n == 0 { 0.0 } else { NOTHING },
            logprobs: Vec::new(),
            voice: (!request.stop.is_empty()).then(|| voice.clone()),
            slot: 0,
        };
        let running = (0..params.num_beams).map(beam).collect();
        let spare = Spare::hold(session, index, params.num_beams - 1)?;
        let mut beams = Beams {
            index,
            params,
            num_return_sequences: request.num_return_sequences,
            sampler,
            seed,
            eos: request.eos,
            prompt: request.history,
            new_tokens: request.new_tokens,
            max_new_tokens: request.max_new_tokens,
            alternatives: request.logprobs,
            voice,
            spare,
            slots: vec![Slot { sequence: request.sequence, cached: Vec::new() }],
            running,
            finished: Hypotheses::new(params),
            done: false,
            generations: Vec::new(),
        };
        if beams.max_new_tokens == 0 {
            beams.done = true;
            let nothing = (0..beams.num_return_sequences).map(|sequence| {
                let voice = beams.voice.of(sequence);
                voice.into_generation(Vec::new(), FinishReason::Length, None)
            });
            beams.generations = nothing.collect();
        }
        Ok(beams)
    }

    pub fn finished(&self) -> bool {
        self.done
    }

    /// Tokens generated so far, by each beam.
    fn len(&self) -> usize {
        self.running[0].tokens.len()
    }

    pub fn inputs<'s>(&'s self, inputs: &mut Vec<SequenceInput<'s>>) {
        let mut input = |slot: &Slot, tokens: &'s [TokenId]| {
            inputs.push(SequenceInput { sequence: slot.sequence, tokens, positions: None, outputs: Outputs::Last });
        };
        if self.len() == 0 {
            // They are all the prompt still.
            return input(&self.slots[0], &self.prompt[self.prompt.len() - self.new_tokens..]);
        }
        for beam in &self.running {
            let slot = &self.slots[beam.slot];
            input(slot, &beam.tokens[slot.cached.len()..]);
        }
    }

    /// Takes the logits of its inputs, in their order.
    pub fn accept(
        &mut self,
        session: &mut Session,
        rows: &mut dyn Iterator<Item = &[f32]>,
        around: &mut Around<'_>,
    ) -> Result<(), EngineError> {
        let rows: Vec<&[f32]> = rows.take(if self.len() == 0 { 1 } else { self.running.len() }).collect();
        for beam in &self.running {
            self.slots[beam.slot].cached.clone_from(&beam.tokens);
        }
        around.chosen += rows.len();
        let vocab_size = rows[0].len();
        let row = |beam: usize| rows[beam.min(rows.len() - 1)];
        let scores = self.scores(&rows)?;
        let count = self.params.num_beams * (self.eos.len() + 1).max(2);
        let picks = if self.sampler.params().temperature > 0.0 {
            drawn(&scores, count, self.seed, (self.len() * count) as u64)
        } else {
            best(&scores, count)
        };
        drop(scores);

        let mut room = usize::MAX;
        for slot in &self.slots {
            room = room.min(session.room(slot.sequence)?);
        }
        let last = self.len() + 1 >= self.max_new_tokens || room == 0;
        let late = around.time_is_up(self.index);
        let mut candidates = Vec::with_capacity(picks.len());
        for Pick { index, score } in picks {
            let (parent, token) = (index / vocab_size, (index % vocab_size) as TokenId);
            let mut beam = self.running[parent].clone();
            beam.tokens.push(token);
            beam.score = score;
            if let Some(alternatives) = self.alternatives {
                beam.logprobs.push(log_probs(row(parent), token, alternatives)?);
            }
            let stopped = beam.voice.as_mut().is_some_and(|voice| voice.think(token));
            let end = match () {
                () if self.eos.contains(&token) => Some(FinishReason::Eos),
                () if stopped => Some(FinishReason::Stop),
                () if last => Some(FinishReason::Length),
                () if late => Some(FinishReason::Time),
                () => None,
            };
            candidates.push((beam, end));
        }
        self.finished.take(&candidates);
        let all_ended = candidates.iter().all(|(_, end)| end.is_some());
        self.running = go_on(candidates, self.params.num_beams);
        let go_on = self.finished.can_improve(self.running[0].score, self.len(), self.max_new_tokens);
        if all_ended || !go_on {
            return self.end(session, around.on_event);
        }
        self.move_caches(session)
    }

    /// `[running][vocab_size]`: the sums of log-probabilities with each next token.
    fn scores(&mut self, rows: &[&[f32]]) -> Result<Vec<Vec<f64>>, EngineError> {
        let mut history = self.prompt.clone();
        let mut scores: Vec<Vec<f64>> = Vec::with_capacity(self.running.len());
        for (b, beam) in self.running.iter().enumerate() {
            history.truncate(self.prompt.len());
            history.extend_from_slice(&beam.tokens);
            let own = self.sampler.beam_scores(rows[b.min(rows.len() - 1)], &history, self.prompt.len())?;
            scores.push(own.iter().map(|s| s + beam.score).collect());
        }
        Ok(scores)
    }

    /// Gives every running text a cache that holds a beginning of it.
    fn move_caches(&mut self, session: &mut Session) -> Result<(), EngineError> {
        let mut children = vec![0usize; self.slots.len()];
        let mut homeless = Vec::new();
        for (b, beam) in self.running.iter().enumerate() {
            children[beam.slot] += 1;
            if children[beam.slot] > 1 {
                homeless.push(b);
            }
        }
        let mut free: Vec<usize> = (1..self.slots.len()).filter(|s| children[*s] == 0).collect();
        for slot in &free {
            self.spare.vacate(session, self.slots[*slot].sequence)?;
        }
        if children[0] == 0 {
            // Whose text is nearest to that of the request's own sequence moves there.
            let own = &self.slots[0].cached;
            let shared = |b: &usize| common(own, &self.running[*b].tokens);
            let nearest = (0..homeless.len()).max_by_key(|h| shared(&homeless[*h]));
            let beam = homeless.swap_remove(nearest.expect("as many texts as caches"));
            let kept = shared(&beam);
            let dropped = self.slots[0].cached.len() - kept;
            let sequence = self.slots[0].sequence;
            session.truncate(sequence, session.len(sequence)? - dropped)?;
            self.slots[0].cached.truncate(kept);
            self.running[beam].slot = 0;
        }
        for beam in homeless {
            let parent = self.running[beam].slot;
            let sequence = self.spare.fork(session, self.slots[parent].sequence)?;
            let slot = Slot { sequence, cached: self.slots[parent].cached.clone() };
            self.running[beam].slot = match free.pop() {
                Some(index) => {
                    self.slots[index] = slot;
                    index
                }
                None => {
                    self.slots.push(slot);
                    self.slots.len() - 1
                }
            };
        }
        Ok(())
    }

    /// The finished texts become generations, and the request's own sequence keeps what it shares with the first.
    fn end(&mut self, session: &mut Session, on_event: &mut dyn FnMut(Event<'_>)) -> Result<(), EngineError> {
        self.done = true;
        let finished = self.finished.best(self.num_return_sequences);
        let own = &mut self.slots[0];
        let first = finished.first().map_or(&[][..], |f| &f.tokens);
        let kept = common(&own.cached, &first[..first.len().saturating_sub(1)]);
        session.truncate(own.sequence, session.len(own.sequence)? - (own.cached.len() - kept))?;
        own.cached.truncate(kept);
        for (sequence, Finished { tokens, score, logprobs, reason }) in finished.into_iter().enumerate() {
            let mut voice = self.voice.of(sequence);
            let mut stopped = false;
            for token in &tokens {
                stopped = voice.say(*token, on_event);
            }
            if !stopped {
                voice.finish(on_event);
            }
            let mut generation = voice.into_generation(tokens, reason, Some(score));
            generation.logprobs = logprobs;
            self.generations.push(generation);
        }
        Ok(())
    }

    /// Ends with what there is.
    pub fn cancel(&mut self, session: &mut Session, on_event: &mut dyn FnMut(Event<'_>)) -> Result<(), EngineError> {
        let end = |beam: &Beam<'a>| (!beam.tokens.is_empty()).then_some(FinishReason::Cancelled);
        let candidates: Vec<_> = self.running.iter().map(|b| (b.clone(), end(b))).collect();
        self.finished.take(&candidates);
        if self.len() == 0 {
            self.finished = Hypotheses::cancelled(self.params);
        }
        self.end(session, on_event)
    }

    pub fn give_back(&mut self, session: &mut Session) -> Result<(), EngineError> {
        self.spare.give_back(session)
    }

    pub fn into_generations(self) -> Vec<Generation> {
        self.generations
    }
}

/// The best `count` of the candidates, those that have ended far behind, best first.
fn go_on<'a>(candidates: Vec<(Beam<'a>, Option<FinishReason>)>, count: usize) -> Vec<Beam<'a>> {
    let mut beams: Vec<Beam<'a>> = candidates
        .into_iter()
        .map(|(mut beam, end)| {
            beam.score += if end.is_some() { NOTHING } else { 0.0 };
            beam
        })
        .collect();
    beams.sort_by(|a, b| b.score.total_cmp(&a.score));
    beams.truncate(count);
    beams
}

/// How many tokens two texts begin with in common.
fn common(a: &[TokenId], b: &[TokenId]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
