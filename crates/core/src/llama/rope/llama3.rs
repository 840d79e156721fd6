//! `llama3`: the scaling of Llama 3.1.
//!
//! By its wavelength `w = 2 pi / f`, a frequency is kept (`w < original / high`), divided by `factor`
//! (`w > original / low`), or blended between: `s f + (1 - s) f / factor` with `s = (original / w - low) / (high - low)`.
//! Source: Meta's Llama 3.1 code; `_compute_llama3_parameters` in transformers 5.8.

use std::f64::consts::TAU;

use crate::llama::config::ConfigError;

/// The parameters of `llama3`.
#[derive(Clone, Debug, PartialEq)]
pub struct Llama3 {
    /// What low frequencies are divided by.
    pub factor: f64,
    /// Wavelengths above `original_max_position_embeddings / low_freq_factor` are scaled in full.
    pub low_freq_factor: f64,
    /// Wavelengths below `original_max_position_embeddings / high_freq_factor` are kept.
    pub high_freq_factor: f64,
    /// Context length of the original training; `max_position_embeddings` unless given.
    pub original_max_position_embeddings: usize,
}

impl Llama3 {
    /// What becomes of `frequency`, in radians a position.
    pub fn scale(&self, frequency: f64) -> f64 {
        let (low, high) = (self.low_freq_factor, self.high_freq_factor);
        // Turns made over the original context decide: few turns, low frequency.
        let turns = self.original_max_position_embeddings as f64 * frequency / TAU;
        if turns < low {
            frequency / self.factor
        } else if turns > high || high <= low {
            frequency
        } else {
            let keep = (turns - low) / (high - low);
            keep * frequency + (1.0 - keep) * frequency / self.factor
        }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        for (field, n) in [
            ("factor", self.factor),
            ("low_freq_factor", self.low_freq_factor),
            ("high_freq_factor", self.high_freq_factor),
        ] {
            if !(n > 0.0 && n.is_finite()) {
                return Err(ConfigError::wrong(format!("rope_parameters.{field}"), n, "be a positive number"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llama3_keeps_scales_and_blends() {
        let rule =
            Llama3 { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_max_position_embeddings: 8192 };
        let ratio: Vec<f64> = (0..64)
            .map(|i| {
                let f = 500_000f64.powf(-2.0 * f64::from(i) / 128.0);
                f / rule.scale(f)
            })
            .collect();
        assert_eq!((ratio[0], ratio[63]), (1.0, 8.0));
        assert!(ratio.iter().any(|r| *r > 1.0 && *r < 8.0), "a blend between: {ratio:?}");
        assert!(ratio.is_sorted(), "more scaling for lower frequencies: {ratio:?}");
    }
}
