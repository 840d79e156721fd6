//! What happens to the scores before the temperature: bias and penalties.

use camelid_core::tokenizer::TokenId;

use super::{SamplingError, SamplingParams};

/// `score[t] += bias` for every pair; a bias of -inf forbids the token, whatever its logit.
pub(super) fn add_bias(scores: &mut [f64], bias: &[(TokenId, f32)]) -> Result<(), SamplingError> {
    let vocab_size = scores.len();
    for (id, bias) in bias {
        let place = "the logit bias";
        let score = scores.get_mut(*id as usize);
        let score = score.ok_or(SamplingError::TokenOutOfRange { id: *id, place, vocab_size })?;
        *score = if *bias == f32::NEG_INFINITY { f64::NEG_INFINITY } else { *score + f64::from(*bias) };
    }
    Ok(())
}

/// Applies the penalties; holds the memory for counting.
#[derive(Clone, Debug, Default)]
pub(super) struct Penalties {
    /// `[vocab_size]`, all zero between calls.
    counts: Vec<u32>,
}

impl Penalties {
    /// The repetition penalty over the window, then presence and frequency penalty over its generated part:
    ///
    /// ```text
    /// score[t] = score[t] < 0 ? score[t] * repetition : score[t] / repetition      for t in window
    /// score[t] -= presence + frequency * count(t)                                  for t in window after the prompt
    /// ```
    pub(super) fn apply(
        &mut self,
        scores: &mut [f64],
        params: &SamplingParams,
        history: &[TokenId],
        prompt_len: usize,
    ) -> Result<(), SamplingError> {
        let start = history.len() - params.penalty_window.unwrap_or(history.len()).min(history.len());
        if params.repetition_penalty != 1.0 {
            let penalty = params.repetition_penalty;
            self.each_counted(
                scores,
                &history[start..],
                |score, _| {
                    if score < 0.0 { score * penalty } else { score / penalty }
                },
            )?;
        }
        let (presence, frequency) = (params.presence_penalty, params.frequency_penalty);
        if presence != 0.0 || frequency != 0.0 {
            self.each_counted(scores, &history[start.max(prompt_len)..], |score, count| {
                // An infinite score stays: less an infinite penalty it would be NaN.
                if score.is_finite() { score - (presence + frequency * f64::from(count)) } else { score }
            })?;
        }
        Ok(())
    }

    /// The encoder repetition penalty over the prompt: the repetition penalty upside down.
    pub(super) fn apply_to_prompt(
        &mut self,
        scores: &mut [f64],
        penalty: f64,
        prompt: &[TokenId],
    ) -> Result<(), SamplingError> {
        if penalty == 1.0 {
            return Ok(());
        }
        self.each_counted(scores, prompt, |score, _| if score < 0.0 { score / penalty } else { score * penalty })
    }

    /// Replaces the score of every distinct token of `tokens` by `f(score, times it occurs)`.
    fn each_counted(
        &mut self,
        scores: &mut [f64],
        tokens: &[TokenId],
        f: impl Fn(f64, u32) -> f64,
    ) -> Result<(), SamplingError> {
        let vocab_size = scores.len();
        if let Some(id) = tokens.iter().find(|t| **t as usize >= vocab_size) {
            return Err(SamplingError::TokenOutOfRange { id: *id, place: "the history", vocab_size });
        }
        self.counts.resize(vocab_size, 0);
        for token in tokens {
            self.counts[*token as usize] += 1;
        }
        for token in tokens {
            let count = std::mem::take(&mut self.counts[*token as usize]);
            if count > 0 {
                scores[*token as usize] = f(scores[*token as usize], count);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INF: f64 = f64::INFINITY;

    fn penalized(params: SamplingParams, scores: &[f64], history: &[TokenId], prompt_len: usize) -> Vec<f64> {
        let mut scores = scores.to_vec();
        let mut penalties = Penalties::default();
        penalties.apply(&mut scores, &params, history, prompt_len).unwrap();
        assert!(penalties.counts.iter().all(|c| *c == 0), "nothing is left for the next call");
        scores
    }

    #[test]
    fn repetition_counts_once_and_makes_every_score_less_likely() {
        let params = SamplingParams { repetition_penalty: 2.0, ..SamplingParams::default() };
        let scores = penalized(params, &[3.0, -3.0, 0.0, 1.0, INF, -INF], &[0, 1, 1, 0, 2, 4, 5], 3);
        assert_eq!(scores, [1.5, -6.0, 0.0, 1.0, INF, -INF]);
    }

    #[test]
    fn presence_and_frequency_leave_the_prompt_alone() {
        let params = SamplingParams { presence_penalty: 0.5, frequency_penalty: 0.25, ..SamplingParams::default() };
        let scores = penalized(params.clone(), &[1.0; 4], &[0, 0, 1, 2, 2, 1, 2], 2);
        assert_eq!(scores, [1.0, 0.0, -0.25, 1.0]);
        let most = SamplingParams { presence_penalty: f64::MAX, frequency_penalty: f64::MAX, ..params };
        let scores = penalized(most, &[0.0, INF, -INF], &[0, 0, 1, 2], 0);
        assert_eq!(scores, [-INF, INF, -INF]);
    }

    #[test]
    fn repetition_comes_before_presence() {
        let both = SamplingParams { repetition_penalty: 2.0, presence_penalty: 3.0, ..SamplingParams::default() };
        assert_eq!(penalized(both, &[4.0], &[0], 0), [-1.0], "(4 / 2) - 3, not (4 - 3) / 2");
    }

    #[test]
    fn the_window_holds_the_last_tokens() {
        let history = [0, 1, 2, 3, 3];
        let in_window = |window, prompt_len| {
            let params = SamplingParams { frequency_penalty: 1.0, penalty_window: window, ..SamplingParams::default() };
            penalized(params, &[0.0; 4], &history, prompt_len)
        };
        assert_eq!(in_window(Some(3), 0), [0.0, 0.0, -1.0, -2.0]);
        assert_eq!(in_window(Some(3), 4), [0.0, 0.0, 0.0, -1.0]);
        assert_eq!(in_window(Some(0), 0), [0.0; 4]);
        assert_eq!(in_window(Some(99), 0), in_window(None, 0));
        let repetition =
            SamplingParams { repetition_penalty: 2.0, penalty_window: Some(2), ..SamplingParams::default() };
        assert_eq!(penalized(repetition, &[1.0; 4], &history, 5), [1.0, 1.0, 1.0, 0.5]);
    }

    #[test]
    fn a_bias_shifts_or_forbids() {
        let mut scores = [1.0, 2.0, INF, INF];
        add_bias(&mut scores, &[(0, -0.5), (1, f32::NEG_INFINITY), (2, f32::NEG_INFINITY), (3, 1.0)]).unwrap();
        assert_eq!(scores, [0.5, -INF, -INF, INF]);
    }

    #[test]
    fn ids_outside_of_the_vocabulary_are_errors() {
        let message = add_bias(&mut [0.0; 3], &[(3, 1.0)]).unwrap_err().to_string();
        assert_eq!(message, "token id 3 in the logit bias is not below the vocabulary's size 3");
        let params = SamplingParams { repetition_penalty: 2.0, ..SamplingParams::default() };
        let mut penalties = Penalties::default();
        let error = penalties.apply(&mut [0.0; 3], &params, &[1, 7], 0).unwrap_err();
        assert_eq!(error, SamplingError::TokenOutOfRange { id: 7, place: "the history", vocab_size: 3 });
    }
}
