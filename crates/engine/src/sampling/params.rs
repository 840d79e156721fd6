//! [`SamplingParams`]: how tokens are chosen.

use std::collections::HashSet;

use camelid_core::tokenizer::TokenId;

use super::{Constraints, SamplingError};

/// How tokens are chosen. The default is the most likely token, always: greedy.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingParams {
    /// Logits are divided by it; finite and at least 0. At 0 the choice is greedy, and the filters and the seed have
    /// no effect (0).
    pub temperature: f64,
    /// Only the `top_k` most likely tokens are kept, and those as likely as the last of them; 0 keeps all (0).
    pub top_k: usize,
    /// Of those, the fewest most likely tokens whose probabilities add up to `top_p` or more are kept, at least one and
    /// of equally likely ones those with the lowest ids; from 0 to 1, and 1 keeps all (1).
    pub top_p: f64,
    /// Of those, the tokens at least `min_p` times as likely as the most likely one are kept; from 0 to 1, and 0 keeps
    /// all (0).
    pub min_p: f64,
    /// Before top-k, of the 100 most likely tokens only the most likely are kept whose shares of their entropy add up to
    /// at most `top_h` of it; above 0 and at most 1 (`None`: no such rule). Top-H decoding, arXiv:2509.02510.
    pub top_h: Option<f64>,
    /// After min-p, the tokens are kept whose information is nearest to the entropy, as many as have this probability
    /// together; above 0 and at most 1, and 1 keeps all (1). Locally typical sampling, arXiv:2202.00666.
    pub typical_p: f64,
    /// Then the tokens at least this likely are kept, and the most likely one; below 1, and 0 keeps all (0).
    pub epsilon_cutoff: f64,
    /// Then those at least as likely as the smaller of `eta_cutoff` and `sqrt(eta_cutoff) * exp(-entropy)`, and the most
    /// likely one; below 1, and 0 keeps all (0). Both from truncation sampling, arXiv:2210.15191.
    pub eta_cutoff: f64,
    /// Whether beams add up log-probabilities that are normalized again after all rules; has no effect on a single
    /// sequence (false).
    pub renormalize_logits: bool,
    /// Once for every token in the history, the prompt included, a positive score is divided by it and a negative one
    /// multiplied; above 0 (1: no effect). The rule is that of CTRL, arXiv:1909.05858, as transformers has it.
    pub repetition_penalty: f64,
    /// Taken from the score of every token generated so far, the prompt not included; finite (0). With
    /// `frequency_penalty` the rule is that of OpenAI's API.
    pub presence_penalty: f64,
    /// Taken from a token's score for each time it was generated, the prompt not included; finite (0).
    pub frequency_penalty: f64,
    /// How many of the history's last tokens the three penalties look at; all if `None` (`None`).
    pub penalty_window: Option<usize>,
    /// Added to the logits of single tokens before everything else, as transformers' `sequence_bias`; finite, or -inf
    /// for a token that must never come; each token once (none).
    pub logit_bias: Vec<(TokenId, f32)>,
    /// What is forbidden, forced or shifted (nothing).
    pub constraints: Constraints,
    /// With the index of a generated token, decides the number drawn for it. Requests that should differ need different
    /// seeds (0).
    pub seed: u64,
}

impl Default for SamplingParams {
    fn default() -> SamplingParams {
        SamplingParams {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            top_h: None,
            typical_p: 1.0,
            epsilon_cutoff: 0.0,
            eta_cutoff: 0.0,
            renormalize_logits: false,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            penalty_window: None,
            logit_bias: Vec::new(),
            constraints: Constraints::default(),
            seed: 0,
        }
    }
}

impl SamplingParams {
    /// Checks every field, whether or not the others give it an effect.
    ///
    /// # Errors
    /// [`SamplingError::Param`] for the first value out of range.
    pub fn check(&self) -> Result<(), SamplingError> {
        let finite = f64::is_finite;
        let unit = |x: f64| (0.0..=1.0).contains(&x);
        rule("temperature", self.temperature, finite(self.temperature) && self.temperature >= 0.0, TEMPERATURE)?;
        rule("top_p", self.top_p, unit(self.top_p), "be between 0 and 1")?;
        rule("min_p", self.min_p, unit(self.min_p), "be between 0 and 1")?;
        let positive_unit = |x: f64| x > 0.0 && x <= 1.0;
        let top_h = self.top_h.unwrap_or(1.0);
        rule("top_h", top_h, positive_unit(top_h), "be above 0 and at most 1")?;
        rule("typical_p", self.typical_p, positive_unit(self.typical_p), "be above 0 and at most 1 (1 keeps all)")?;
        let below_one = |x: f64| (0.0..1.0).contains(&x);
        rule("epsilon_cutoff", self.epsilon_cutoff, below_one(self.epsilon_cutoff), CUTOFF)?;
        rule("eta_cutoff", self.eta_cutoff, below_one(self.eta_cutoff), CUTOFF)?;
        let penalty = self.repetition_penalty;
        rule("repetition_penalty", penalty, finite(penalty) && penalty > 0.0, "be a number above 0 (1 has no effect)")?;
        rule("presence_penalty", self.presence_penalty, finite(self.presence_penalty), "be a finite number")?;
        rule("frequency_penalty", self.frequency_penalty, finite(self.frequency_penalty), "be a finite number")?;
        self.constraints.check()?;
        let mut seen = HashSet::new();
        for (token, bias) in &self.logit_bias {
            let entry = || format!("{bias} for token {token}");
            if bias.is_nan() || *bias == f32::INFINITY {
                return Err(wrong("logit_bias", entry(), "be a finite number or -inf for each token"));
            }
            if !seen.insert(token) {
                return Err(wrong("logit_bias", entry(), "name each token only once"));
            }
        }
        Ok(())
    }
}

impl SamplingParams {
    /// Whether no rule above the temperature changes a score.
    pub(super) fn keeps_scores(&self) -> bool {
        self.repetition_penalty == 1.0
            && self.presence_penalty == 0.0
            && self.frequency_penalty == 0.0
            && self.logit_bias.is_empty()
            && self.constraints == Constraints::default()
    }
}

const CUTOFF: &str = "be at least 0 and below 1 (0 keeps all)";
const TEMPERATURE: &str = "be a number of at least 0 (0 always takes the most likely token)";

pub(super) fn rule(field: &'static str, value: f64, holds: bool, rule: &'static str) -> Result<(), SamplingError> {
    if holds { Ok(()) } else { Err(wrong(field, value.to_string(), rule)) }
}

pub(super) fn wrong(field: &'static str, found: String, rule: &'static str) -> SamplingError {
    SamplingError::Param { field, found, rule }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampling::Sampler;

    #[test]
    fn the_default_is_valid_and_greedy() {
        assert_eq!(SamplingParams::default().check(), Ok(()));
        assert_eq!(SamplingParams::default().temperature, 0.0);
    }

    #[test]
    fn a_value_out_of_range_is_named_with_the_rule() {
        type Set = fn(&mut SamplingParams, f64);
        let cases: [(&str, Set, &[f64]); 10] = [
            ("temperature", |p, x| p.temperature = x, &[-0.1, f64::INFINITY]),
            ("top_p", |p, x| p.top_p = x, &[-0.1, 1.1]),
            ("min_p", |p, x| p.min_p = x, &[-0.1, 1.1]),
            ("top_h", |p, x| p.top_h = Some(x), &[0.0, 1.1]),
            ("typical_p", |p, x| p.typical_p = x, &[0.0, 1.1]),
            ("epsilon_cutoff", |p, x| p.epsilon_cutoff = x, &[-0.1, 1.0]),
            ("eta_cutoff", |p, x| p.eta_cutoff = x, &[-0.1, 1.0]),
            ("repetition_penalty", |p, x| p.repetition_penalty = x, &[0.0, -1.0, f64::INFINITY]),
            ("presence_penalty", |p, x| p.presence_penalty = x, &[f64::INFINITY]),
            ("frequency_penalty", |p, x| p.frequency_penalty = x, &[f64::NEG_INFINITY]),
        ];
        for (field, set, values) in cases {
            for value in values.iter().chain(&[f64::NAN]) {
                let mut params = SamplingParams::default();
                set(&mut params, *value);
                let message = Sampler::new(params).unwrap_err().to_string();
                assert!(message.starts_with(&format!("`{field}` is {value}, but it must be ")), "{message}");
            }
        }
        for (bias, rule) in [(f32::NAN, "-inf for each"), (f32::INFINITY, "-inf for each"), (1.0, "only once")] {
            let params = SamplingParams { logit_bias: vec![(7, 0.5), (7, bias)], ..SamplingParams::default() };
            let message = Sampler::new(params).unwrap_err().to_string();
            assert!(message.starts_with(&format!("`logit_bias` is {bias} for token 7")), "{message}");
            assert!(message.contains(rule), "{message}");
        }
    }
}
