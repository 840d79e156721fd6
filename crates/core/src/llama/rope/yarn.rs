//! `yarn`: high frequencies kept, low ones divided by `factor`, and a ramp between over the pairs of a head.
//!
//! With `c(n) = D ln(L / (2 pi n)) / (2 ln theta)`, the pair that makes `n` turns over the original context `L`, the ramp
//! goes from `max(c(beta_fast), 0)` to `min(c(beta_slow), D - 1)`, both rounded outwards before if `truncate`, and
//! `r_i` is the clamped height of pair `i` on it: frequency `f_i / factor * r_i + f_i (1 - r_i)`.
//!
//! Cosines and sines are multiplied by `attention_factor`. Unless given it is `m(1)`, where `m(s) = 0.1 s ln factor + 1`
//! (1 for a factor up to 1), or `m(mscale) / m(mscale_all_dim)` if both are there. As in transformers a 0 counts as not
//! given for both of these and for the betas. Source: Peng et al. 2023; `_compute_yarn_parameters` in transformers 5.8.

use std::f64::consts::TAU;

use crate::llama::config::ConfigError;

/// The parameters of `yarn`.
#[derive(Clone, Debug, PartialEq)]
pub struct Yarn {
    /// How much longer the context is; `max_position_embeddings / original_max_position_embeddings` if `None`.
    pub factor: Option<f64>,
    /// Context length of the original training; `max_position_embeddings` unless given.
    pub original_max_position_embeddings: usize,
    /// What cosines and sines are multiplied by; see the module's documentation for when it is not given.
    pub attention_factor: Option<f64>,
    /// Turns over the original context from which on frequencies are kept (32).
    pub beta_fast: f64,
    /// Turns up to which they are divided in full (1).
    pub beta_slow: f64,
    /// Weight of `ln factor` in the numerator of `attention_factor`; not 0.
    pub mscale: Option<f64>,
    /// The same for the denominator; not 0.
    pub mscale_all_dim: Option<f64>,
    /// Whether the ends of the ramp are rounded to whole pairs (true).
    pub truncate: bool,
}

impl Yarn {
    /// By how much the context is stretched.
    pub fn factor(&self, max_position_embeddings: usize) -> f64 {
        self.factor.unwrap_or(max_position_embeddings as f64 / self.original_max_position_embeddings as f64)
    }

    /// What cosines and sines are multiplied by.
    pub fn attention_factor(&self, max_position_embeddings: usize) -> f64 {
        let factor = self.factor(max_position_embeddings);
        let m = |scale: f64| if factor <= 1.0 { 1.0 } else { 0.1 * scale * factor.ln() + 1.0 };
        match (self.attention_factor, self.mscale, self.mscale_all_dim) {
            (Some(given), _, _) => given,
            (None, Some(mscale), Some(all_dim)) => m(mscale) / m(all_dim),
            (None, _, _) => m(1.0),
        }
    }

    /// The `rotated / 2` frequencies, in radians a position.
    pub fn frequencies(&self, theta: f64, rotated: usize, max_position_embeddings: usize) -> Vec<f64> {
        let (factor, width) = (self.factor(max_position_embeddings), rotated as f64);
        let (low, high) = self.ramp(theta, width);
        (0..rotated / 2)
            .map(|i| {
                let f = theta.powf(-2.0 * i as f64 / width);
                let height = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
                f / factor * height + f * (1.0 - height)
            })
            .collect()
    }

    /// The pairs, not always whole, between which the ramp rises.
    fn ramp(&self, theta: f64, width: f64) -> (f64, f64) {
        let context = self.original_max_position_embeddings as f64;
        let pair = |turns: f64| width * (context / (turns * TAU)).ln() / (2.0 * theta.ln());
        let (low, high) = (pair(self.beta_fast), pair(self.beta_slow));
        let (low, high) = if self.truncate { (low.floor(), high.ceil()) } else { (low, high) };
        let (low, high) = (low.max(0.0), high.min(width - 1.0));
        // A step where there is no room for a ramp.
        (low, if low == high { high + 0.001 } else { high })
    }

    pub(super) fn check(&self, theta: f64, rotated: usize, max_position_embeddings: usize) -> Result<(), ConfigError> {
        let wrong = |field: &str, found: f64, rule: &str| {
            Err(ConfigError::wrong(format!("rope_parameters.{field}"), found, rule))
        };
        for (field, n) in
            [("factor", self.factor.unwrap_or(1.0)), ("beta_fast", self.beta_fast), ("beta_slow", self.beta_slow)]
        {
            if !(n > 0.0 && n.is_finite()) {
                return wrong(field, n, "be a positive number");
            }
        }
        if theta == 1.0 {
            return wrong("rope_theta", theta, "not be 1 with rope_type `yarn`: all frequencies would be the same");
        }
        if !rotated.is_multiple_of(2) {
            return wrong(
                "partial_rotary_factor",
                rotated as f64,
                "leave an even number of elements with rope_type `yarn`",
            );
        }
        match self.attention_factor(max_position_embeddings) {
            n if n.is_finite() => Ok(()),
            n => wrong("attention_factor", n, "be a number: mscale_all_dim makes it infinite"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn yarn() -> Yarn {
        Yarn {
            factor: Some(4.0),
            original_max_position_embeddings: 64,
            attention_factor: None,
            beta_fast: 32.0,
            beta_slow: 1.0,
            mscale: None,
            mscale_all_dim: None,
            truncate: true,
        }
    }

    #[test]
    fn attention_factor_follows_the_rules_in_their_order() {
        let m = |s: f64| 0.1 * s * 4f64.ln() + 1.0;
        assert_eq!(yarn().attention_factor(256), m(1.0));
        assert_eq!(Yarn { factor: None, ..yarn() }.attention_factor(256), m(1.0));
        assert_eq!(Yarn { factor: Some(0.5), ..yarn() }.attention_factor(256), 1.0);
        let scaled = Yarn { mscale: Some(0.7), mscale_all_dim: Some(1.3), ..yarn() };
        assert_eq!(scaled.attention_factor(256), m(0.7) / m(1.3));
        assert_eq!(Yarn { mscale_all_dim: None, ..scaled.clone() }.attention_factor(256), m(1.0));
        assert_eq!(Yarn { attention_factor: Some(0.9), ..scaled }.attention_factor(256), 0.9);
    }

    #[test]
    fn frequencies_are_kept_divided_and_between_on_the_ramp() {
        // theta 100 over 24 elements: the ramp goes from pair 0 (32 turns would be before the first) to pair 7, since
        // c(1) = 24 ln(64 / 2 pi) / (2 ln 100) = 6.05.
        let got = yarn().frequencies(100.0, 24, 256);
        for (i, f) in got.iter().enumerate() {
            let plain = 100f64.powf(-2.0 * i as f64 / 24.0);
            let height = (i as f64 / 7.0).min(1.0);
            assert!((f - (plain / 4.0 * height + plain * (1.0 - height))).abs() < 1e-15, "pair {i}");
        }
        let exact = Yarn { truncate: false, ..yarn() };
        let end = 24.0 * (64.0 / TAU).ln() / (2.0 * 100f64.ln());
        assert!((exact.ramp(100.0, 24.0).1 - end).abs() < 1e-12 && end > 6.0 && end < 7.0);
    }

    #[test]
    fn a_ramp_without_room_is_a_step() {
        // Every frequency turns less than once over so short a context: the ramp would be from 0 to below 0.
        let short = Yarn { original_max_position_embeddings: 1, ..yarn() };
        let got = short.frequencies(100.0, 24, 256);
        assert!(got.iter().all(|f| f.is_finite()));
    }
}
