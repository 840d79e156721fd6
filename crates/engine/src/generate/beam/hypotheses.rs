//! [`Hypotheses`]: the finished texts of a beam search, and whether a running one can still be better.

use camelid_core::tokenizer::TokenId;

use super::super::FinishReason;
use super::{Beam, BeamParams, EarlyStopping, NOTHING};
use crate::sampling::TokenLogprob;

/// A finished text.
#[derive(Clone, Debug)]
pub(super) struct Finished {
    pub tokens: Vec<TokenId>,
    /// Sum of log-probabilities over `length ^ length_penalty`.
    pub score: f64,
    pub logprobs: Vec<Vec<TokenLogprob>>,
    pub reason: FinishReason,
}

/// The best finished texts, at most `num_beams`, best first.
pub(super) struct Hypotheses {
    params: BeamParams,
    /// Always `num_beams` of them: `None` with the score [`NOTHING`] where there is no text yet.
    best: Vec<(f64, Option<Finished>)>,
    /// Whether a running text could still be better; once false, false for good.
    improvable: bool,
    reason: FinishReason,
}

impl Hypotheses {
    pub fn new(params: BeamParams) -> Hypotheses {
        let best = vec![(NOTHING, None); params.num_beams];
        Hypotheses { params, best, improvable: true, reason: FinishReason::Length }
    }

    /// Of a search that was cancelled before it began.
    pub fn cancelled(params: BeamParams) -> Hypotheses {
        Hypotheses { reason: FinishReason::Cancelled, ..Hypotheses::new(params) }
    }

    fn full(&self) -> bool {
        self.best.iter().all(|(_, finished)| finished.is_some())
    }

    /// Takes what has ended of a step's candidates, of which only the first `num_beams` count. All have one length.
    pub fn take(&mut self, candidates: &[(Beam<'_>, Option<FinishReason>)]) {
        let closed = (self.full() && self.params.early_stopping == EarlyStopping::Yes) || !self.improvable;
        let mut merged = std::mem::take(&mut self.best);
        for (beam, end) in candidates.iter().take(self.params.num_beams) {
            let Some(reason) = end else { continue };
            let mut score = beam.score / self.length_factor(beam.tokens.len());
            score += if closed { NOTHING } else { 0.0 };
            let (tokens, logprobs) = (beam.tokens.clone(), beam.logprobs.clone());
            merged.push((score, Some(Finished { tokens, score, logprobs, reason: *reason })));
        }
        // Stable: of equals the one that was there before.
        merged.sort_by(|a, b| b.0.total_cmp(&a.0));
        merged.truncate(self.params.num_beams);
        self.best = merged;
    }

    fn length_factor(&self, len: usize) -> f64 {
        libm::pow(len as f64, self.params.length_penalty)
    }

    /// Whether the search should go on, when the best running text has `len` tokens and the score `running`.
    pub fn can_improve(&mut self, running: f64, len: usize, max_new_tokens: usize) -> bool {
        let BeamParams { length_penalty, early_stopping, .. } = self.params;
        let never = early_stopping == EarlyStopping::Never && length_penalty > 0.0;
        let possible = running / self.length_factor(if never { max_new_tokens } else { len });
        let full = self.full();
        let worst = if full { self.best.last().map_or(NOTHING, |(score, _)| *score) } else { NOTHING };
        self.improvable &= possible > worst;
        self.improvable && !(full && early_stopping == EarlyStopping::Yes)
    }

    /// The best `count` texts; empty ones where there are not so many.
    pub fn best(&self, count: usize) -> Vec<Finished> {
        let nothing = |score| Finished { tokens: Vec::new(), score, logprobs: Vec::new(), reason: self.reason };
        self.best.iter().take(count).map(|(score, f)| f.clone().unwrap_or_else(|| nothing(*score))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beam(tokens: &[TokenId], score: f64) -> Beam<'static> {
        Beam { tokens: tokens.to_vec(), score, logprobs: Vec::new(), voice: None, slot: 0 }
    }

    fn hypotheses(num_beams: usize, length_penalty: f64, early_stopping: EarlyStopping) -> Hypotheses {
        Hypotheses::new(BeamParams { num_beams, length_penalty, early_stopping })
    }

    const END: Option<FinishReason> = Some(FinishReason::Eos);

    #[test]
    fn only_the_first_candidates_count_and_the_best_are_kept() {
        let mut h = hypotheses(2, 1.0, EarlyStopping::No);
        h.take(&[(beam(&[1, 2], -2.0), END), (beam(&[1, 3], -1.0), None), (beam(&[1, 4], -0.5), END)]);
        let scores = |h: &Hypotheses| h.best(2).iter().map(|f| (f.tokens.clone(), f.score)).collect::<Vec<_>>();
        assert_eq!(scores(&h), [(vec![1, 2], -1.0), (vec![], NOTHING)]);
        h.take(&[(beam(&[1, 3, 2, 2], -2.0), END), (beam(&[1, 3, 4, 2], -9.0), END)]);
        assert_eq!(scores(&h), [(vec![1, 3, 2, 2], -0.5), (vec![1, 2], -1.0)]);
    }

    #[test]
    fn the_length_penalty_divides_by_a_power_of_the_length() {
        for (penalty, expected) in [(0.0, -6.0), (1.0, -2.0), (2.0, -6.0 / 9.0), (-1.0, -18.0)] {
            let mut h = hypotheses(1, penalty, EarlyStopping::No);
            h.take(&[(beam(&[1, 1, 2], -6.0), END)]);
            assert!((h.best(1)[0].score - expected).abs() < 1e-12, "{penalty}");
        }
    }

    #[test]
    fn the_search_ends_by_its_rule() {
        let after = |early_stopping, length_penalty, running: f64| {
            let mut h = hypotheses(1, length_penalty, early_stopping);
            assert!(h.can_improve(-50.0, 1, 10), "nothing has ended yet");
            h.take(&[(beam(&[7, 2], -4.0), END)]);
            h.can_improve(running, 2, 10)
        };
        assert!(!after(EarlyStopping::Yes, 1.0, -0.1), "one text of one has ended");
        assert!(after(EarlyStopping::No, 1.0, -3.9) && !after(EarlyStopping::No, 1.0, -4.1), "-4 / 2 is to be beaten");
        assert!(after(EarlyStopping::Never, 1.0, -19.0) && !after(EarlyStopping::Never, 1.0, -21.0), "at length 10");
        assert!(after(EarlyStopping::Never, 0.0, -3.9) && !after(EarlyStopping::Never, 0.0, -4.1));
    }

    #[test]
    fn what_comes_too_late_stays_behind() {
        let mut h = hypotheses(1, 1.0, EarlyStopping::No);
        h.take(&[(beam(&[2], -1.0), END)]);
        assert!(!h.can_improve(-5.0, 1, 10));
        h.take(&[(beam(&[7, 2], -0.1), END)]);
        assert_eq!(h.best(1)[0].tokens, [2]);
        assert!(!h.can_improve(-0.1, 2, 10), "once settled, settled");
    }
}
