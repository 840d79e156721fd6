//! Speculation: tokens are guessed, and one step of the model says how many of the guesses it would have chosen itself.
//!
//! What is generated does not depend on the guesses, only how many steps it takes. A guess is kept if the model's own
//! choice at its place is the same token, and that choice is made by the request's sampler as ever: greedy, or the draw
//! for that place, whose random number depends on the seed and the place alone. So greedy *and sampled* tokens are those
//! of the same request without speculation. (Rejection sampling would accept more of a draft's sampled guesses, and
//! give other tokens for the same seed; for guesses that are certain, as those from the prompt, it accepts as many.)

use camelid_core::tokenizer::{TokenId, Tokenizer as _};

use crate::error::EngineError;
use crate::model::Model;
use crate::sampling::Sampler;
use crate::session::{Outputs, SequenceInput, Session};

/// How much was guessed, and how much of it right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Speculated {
    /// Steps that had guesses to judge.
    pub rounds: usize,
    /// Tokens guessed.
    pub drafted: usize,
    /// Of those, tokens that the model chose as well.
    pub accepted: usize,
}

impl Speculated {
    /// The share of the guesses that were right; 0 if there were none.
    pub fn acceptance_rate(&self) -> f64 {
        if self.drafted == 0 { 0.0 } else { self.accepted as f64 / self.drafted as f64 }
    }
}

/// The tokens that came after what `history` ends with when that came before, at most `count`.
///
/// As transformers' prompt lookup: the last `max_ngram` tokens are looked for, then one fewer, and so on; of several
/// places the first counts.
pub(super) fn look_up(history: &[TokenId], max_ngram: usize, count: usize) -> Vec<TokenId> {
    for size in (1..=max_ngram.min(history.len().saturating_sub(1))).rev() {
        let ending = &history[history.len() - size..];
        // The last place is the ending itself.
        if let Some(at) = history[..history.len() - 1].windows(size).position(|w| w == ending) {
            let after = &history[at + size..];
            return after[..after.len().min(count)].to_vec();
        }
    }
    Vec::new()
}

/// A smaller model with the same vocabulary, which guesses what the large one will say.
///
/// It has a session of its own, which keeps what it has computed from one generation to the next.
#[derive(Debug)]
pub struct DraftModel {
    session: Session,
    /// By the index of the request.
    slots: Vec<Slot>,
}

/// A sequence of the draft's session and the tokens it holds.
#[derive(Debug)]
struct Slot {
    sequence: camelid_core::cache::SequenceId,
    cached: Vec<TokenId>,
}

/// A request's wish for guesses, and then its guesses.
pub(super) struct Wish<'a> {
    /// The index of its request.
    pub request: usize,
    /// The history, to which the guesses are added.
    pub history: Vec<TokenId>,
    pub prompt_len: usize,
    /// Most tokens to guess.
    pub count: usize,
    pub sampler: &'a mut Sampler,
    pub eos: &'a [TokenId],
}

impl DraftModel {
    /// A draft for `target`, in `session`, which needs room for as many sequences as requests will want guesses at a
    /// time.
    ///
    /// # Errors
    /// [`EngineError::Draft`] if the two models do not have the same vocabulary.
    pub fn new(session: Session, target: &Model) -> Result<DraftModel, EngineError> {
        let draft = session.model();
        let wrong = |problem: String| {
            let (path, target) = (draft.path().to_owned(), target.path().to_owned());
            Err(EngineError::Draft { path, target, problem })
        };
        let (own, theirs) = (draft.config().vocab_size, target.config().vocab_size);
        if own != theirs {
            return wrong(format!("vocab_size is {own} here and {theirs} there"));
        }
        if let (Ok(own), Ok(theirs)) = (draft.tokenizer(), target.tokenizer()) {
            let size = own.vocab_size().max(theirs.vocab_size()) as TokenId;
            let differs = |id: &TokenId| own.token_bytes(*id).ok() != theirs.token_bytes(*id).ok();
            if let Some(id) = (0..size).find(differs) {
                let shown = |t: Option<String>| t.map_or("missing".into(), |t| format!("{t:?}"));
                return wrong(format!(
                    "token {id} is {} here and {} there",
                    shown(own.id_to_token(id)),
                    shown(theirs.id_to_token(id))
                ));
            }
        }
        Ok(DraftModel { session, slots: Vec::new() })
    }

    /// The draft's session.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Adds guesses to the histories, for all wishes together: each as its sampler would choose them from this model. A
    /// history that has outgrown the draft's context gets none.
    pub(super) fn guess(&mut self, wishes: &mut [Wish<'_>]) -> Result<(), EngineError> {
        let mut open: Vec<(usize, usize)> = Vec::new();
        for (w, wish) in wishes.iter_mut().enumerate() {
            while self.slots.len() <= wish.request {
                self.slots.push(Slot { sequence: self.session.create()?, cached: Vec::new() });
            }
            let slot = &mut self.slots[wish.request];
            // The last token is computed again if need be: its logits choose the first guess.
            let most = wish.history.len() - 1;
            let common = wish.history.iter().zip(&slot.cached).take_while(|(a, b)| a == b).count().min(most);
            self.session.truncate(slot.sequence, common)?;
            slot.cached.truncate(common);
            let room = self.session.room(slot.sequence)?;
            let count = wish.count.min((room + 1).saturating_sub(wish.history.len() - common));
            if count > 0 {
                open.push((w, count));
            }
        }
        while !open.is_empty() {
            let inputs: Vec<SequenceInput<'_>> = open
                .iter()
                .map(|(w, _)| {
                    let (wish, slot) = (&wishes[*w], &self.slots[wishes[*w].request]);
                    let tokens = &wish.history[slot.cached.len()..];
                    SequenceInput { sequence: slot.sequence, tokens, positions: None, outputs: Outputs::Last }
                })
                .collect();
            let logits = self.session.step(&inputs)?;
            drop(inputs);
            let mut input = 0;
            let mut failed = None;
            open.retain_mut(|(w, count)| {
                let wish = &mut wishes[*w];
                let cached = &mut self.slots[wish.request].cached;
                cached.extend_from_slice(&wish.history[cached.len()..]);
                let row = logits.last_of_input(input);
                input += 1;
                match wish.sampler.sample(row, &wish.history, wish.prompt_len) {
                    Ok(sampled) => {
                        wish.history.push(sampled.token);
                        *count -= 1;
                        *count > 0 && !wish.eos.contains(&sampled.token)
                    }
                    Err(error) => {
                        failed.get_or_insert(error);
                        false
                    }
                }
            });
            if let Some(error) = failed {
                return Err(error.into());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_ending_is_looked_for_first_and_its_first_place_counts() {
        let history = [1, 2, 3, 9, 2, 3, 4, 1, 2, 3];
        assert_eq!(look_up(&history, 3, 2), [9, 2]);
        assert_eq!(look_up(&history, 2, 2), [9, 2]);
        assert_eq!(look_up(&[7, 2, 5, 1, 2, 6, 1, 2], 2, 10), [6, 1, 2]);
        assert_eq!(look_up(&[7, 2, 5, 1, 2, 6, 1, 2], 1, 3), [5, 1, 2]);
        assert_eq!(look_up(&[5, 5], 2, 4), [5]);
        assert_eq!(look_up(&[5, 5, 5, 5], 2, 9), [5, 5], "what is known to come after the first two");
    }

    #[test]
    fn nothing_is_found_where_nothing_repeats() {
        assert_eq!(look_up(&[1, 2, 3], 2, 4), [0u32; 0]);
        assert_eq!(look_up(&[1], 2, 4), [0u32; 0]);
        assert_eq!(look_up(&[], 2, 4), [0u32; 0]);
        assert_eq!(look_up(&[1, 1], 0, 4), [0u32; 0]);
    }
}
