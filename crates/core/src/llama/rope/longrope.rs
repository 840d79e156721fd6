//! `longrope`: a divisor for each frequency, searched for each model, of one set for short and one for long sequences.
//!
//! `f_i / long_factor[i]` for sequences longer than `original_max_position_embeddings = L`, and `f_i / short_factor[i]`
//! up to it. In both cases cosines and sines are multiplied by `attention_factor`, which is `sqrt(1 + ln factor / ln L)`
//! unless given (1 for a factor up to 1), and `factor` is `max_position_embeddings / L` unless given. Source: Ding et
//! al. 2024; `_compute_longrope_parameters` in transformers 5.8.

use crate::llama::config::ConfigError;

/// The parameters of `longrope`.
#[derive(Clone, Debug, PartialEq)]
pub struct LongRope {
    /// Divisors for sequences up to the original context, one for each rotated pair.
    pub short_factor: Vec<f64>,
    /// Divisors for longer ones.
    pub long_factor: Vec<f64>,
    /// How much longer the context is; `max_position_embeddings / original_max_position_embeddings` unless given.
    pub factor: Option<f64>,
    /// What cosines and sines are multiplied by; follows from `factor` unless given.
    pub attention_factor: Option<f64>,
    /// Context length of the original training; `max_position_embeddings` unless given.
    pub original_max_position_embeddings: usize,
}

impl LongRope {
    /// The divisors for a sequence of `length` tokens.
    pub fn divisors(&self, length: usize) -> &[f64] {
        if length > self.original_max_position_embeddings { &self.long_factor } else { &self.short_factor }
    }

    /// What cosines and sines are multiplied by.
    pub fn attention_factor(&self, max_position_embeddings: usize) -> f64 {
        let original = self.original_max_position_embeddings as f64;
        let factor = self.factor.unwrap_or(max_position_embeddings as f64 / original);
        match self.attention_factor {
            Some(given) => given,
            None if factor <= 1.0 => 1.0,
            None => (1.0 + factor.ln() / original.ln()).sqrt(),
        }
    }

    pub(super) fn check(&self, rotated: usize, max_position_embeddings: usize) -> Result<(), ConfigError> {
        let pairs = rotated.div_ceil(2);
        for (field, list) in [("short_factor", &self.short_factor), ("long_factor", &self.long_factor)] {
            let field = format!("rope_parameters.{field}");
            if list.len() != pairs {
                let found = format!("a list of {}", list.len());
                return Err(ConfigError::wrong(
                    field,
                    found,
                    format!("have one number for each of {pairs} rotated pairs"),
                ));
            }
            if let Some(i) = list.iter().position(|n| !(*n > 0.0 && n.is_finite())) {
                return Err(ConfigError::wrong(format!("{field}[{i}]"), list[i], "be a positive number"));
            }
        }
        if !self.attention_factor(max_position_embeddings).is_finite() {
            let rule = "be more than 1 for an attention_factor to follow from it";
            let field = "rope_parameters.original_max_position_embeddings";
            return Err(ConfigError::wrong(field, self.original_max_position_embeddings, rule));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attention_factor_follows_from_the_lengths_or_the_factor_or_is_given() {
        let mut long = LongRope {
            short_factor: vec![1.0],
            long_factor: vec![2.0],
            factor: None,
            attention_factor: None,
            original_max_position_embeddings: 16,
        };
        // sqrt(1 + ln 4 / ln 16) = sqrt(1.5)
        assert!((long.attention_factor(64) - 1.5f64.sqrt()).abs() < 1e-15);
        assert_eq!(long.attention_factor(16), 1.0);
        long.factor = Some(16.0);
        assert!((long.attention_factor(64) - 2f64.sqrt()).abs() < 1e-15);
        long.attention_factor = Some(0.5);
        assert_eq!(long.attention_factor(64), 0.5);
        assert_eq!((long.divisors(16), long.divisors(17)), (&[1.0][..], &[2.0][..]));
    }
}
