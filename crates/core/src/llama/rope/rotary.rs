//! [`Rotary`]: from parameters and positions to cosines and sines.

use super::{RopeParameters, RopeScaling, dynamic};
use crate::llama::LlamaConfig;

/// The rotary embedding of a model: what its graph gathers from, or is given for each token.
#[derive(Clone, Debug)]
pub struct Rotary {
    rope: RopeParameters,
    head_dim: usize,
    max_position_embeddings: usize,
    divisors: Option<Vec<f32>>,
}

impl Rotary {
    /// The rotary embedding of `config`, which [`LlamaConfig::check`] has passed.
    ///
    /// `divisors` are the per-frequency factors that a GGUF file carries as `rope_freqs.weight`; they already hold the
    /// effect of the scaling, so they replace it.
    ///
    /// # Panics
    /// If there is not one divisor for each frequency; a checkpoint reader checks that.
    pub fn new(config: &LlamaConfig, divisors: Option<&[f32]>) -> Rotary {
        let mut rope = config.rope.clone();
        if let Some(divisors) = divisors {
            rope.scaling = RopeScaling::Default;
            assert_eq!(divisors.len(), config.head_dim / 2, "one divisor for each frequency");
        }
        Rotary {
            rope,
            head_dim: config.head_dim,
            max_position_embeddings: config.max_position_embeddings,
            divisors: divisors.map(<[f32]>::to_vec),
        }
    }

    /// How many pairs of a head are turned: the width of a row of cosines, at most `head_dim / 2`.
    pub fn pairs(&self) -> usize {
        self.rope.rotated(self.head_dim).div_ceil(2)
    }

    /// Whether the frequencies depend on the length of a sequence, so that no table can hold them.
    pub fn depends_on_length(&self) -> bool {
        self.rope.scaling.depends_on_length()
    }

    /// The [`Rotary::pairs`] angular frequencies for a sequence of `length` tokens, in radians a position.
    pub fn frequencies(&self, length: usize) -> Vec<f64> {
        let (theta, rotated, limit) =
            (self.rope.rope_theta, self.rope.rotated(self.head_dim), self.max_position_embeddings);
        let series = |base: f64| {
            (0..rotated.div_ceil(2)).map(move |i| base.powf(-2.0 * i as f64 / rotated as f64)).collect::<Vec<_>>()
        };
        let plain = || series(theta).into_iter();
        if let Some(divisors) = &self.divisors {
            return plain().zip(divisors).map(|(f, d)| f / f64::from(*d)).collect();
        }
        match &self.rope.scaling {
            RopeScaling::Default => plain().collect(),
            RopeScaling::Linear { factor } => plain().map(|f| f / factor).collect(),
            RopeScaling::Dynamic { factor } => series(dynamic::base(theta, *factor, limit, rotated, length)),
            RopeScaling::Yarn(yarn) => yarn.frequencies(theta, rotated, limit),
            RopeScaling::LongRope(long) => plain().zip(long.divisors(length)).map(|(f, d)| f / d).collect(),
            RopeScaling::Llama3(llama3) => plain().map(|f| llama3.scale(f)).collect(),
            RopeScaling::Proportional { factor } => {
                let share = self.rope.partial_rotary_factor.unwrap_or(1.0);
                let turned = (share * self.head_dim as f64 / 2.0).floor();
                plain().enumerate().map(|(i, f)| if (i as f64) < turned { f / factor } else { 0.0 }).collect()
            }
        }
    }

    /// What cosines and sines are multiplied by.
    pub fn attention_factor(&self) -> f64 {
        match &self.rope.scaling {
            RopeScaling::Yarn(yarn) => yarn.attention_factor(self.max_position_embeddings),
            RopeScaling::LongRope(long) => long.attention_factor(self.max_position_embeddings),
            _ => 1.0,
        }
    }

    /// Cosines and sines of tokens at `positions` in a sequence of `length` tokens: two row-major
    /// `[positions, pairs]` f32 arrays.
    pub fn rows(&self, length: usize, positions: impl IntoIterator<Item = usize>) -> (Vec<f32>, Vec<f32>) {
        let (frequencies, factor) = (self.frequencies(length), self.attention_factor());
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        for position in positions {
            for frequency in &frequencies {
                let (s, c) = (position as f64 * frequency).sin_cos();
                cos.push((c * factor) as f32);
                sin.push((s * factor) as f32);
            }
        }
        (cos, sin)
    }

    /// Cosines and sines for positions `0..positions`: two row-major `[positions, pairs]` f32 tables. For a kind that
    /// depends on the length they are those of a sequence as long as the table.
    pub fn tables(&self, positions: usize) -> (Vec<f32>, Vec<f32>) {
        self.rows(positions, 0..positions)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn rotary(config: Value) -> Rotary {
        Rotary::new(&LlamaConfig::from_value(&config).unwrap(), None)
    }

    /// Heads of 12, a context of 32.
    fn with(rope: Value) -> Rotary {
        rotary(
            json!({"hidden_size": 24, "num_attention_heads": 2, "max_position_embeddings": 32, "rope_parameters": rope}),
        )
    }

    fn close(a: &[f64], b: &[f64]) {
        assert_eq!(a.len(), b.len());
        assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-14 * b.abs()), "{a:?} {b:?}");
    }

    #[test]
    fn only_dynamic_and_longrope_look_at_the_length() {
        let divisors = json!([1.0, 1.0, 1.5, 2.0, 2.5, 3.0]);
        for (rope, expected) in [
            (json!({"rope_type": "default"}), false),
            (json!({"rope_type": "linear", "factor": 2}), false),
            (json!({"rope_type": "dynamic", "factor": 2}), true),
            (json!({"rope_type": "yarn", "factor": 2, "original_max_position_embeddings": 16}), false),
            (
                json!({"rope_type": "longrope", "short_factor": divisors, "long_factor": [2, 2, 3, 4, 5, 6],
                       "original_max_position_embeddings": 16}),
                true,
            ),
            (
                json!({"rope_type": "llama3", "factor": 4, "low_freq_factor": 1, "high_freq_factor": 4,
                       "original_max_position_embeddings": 16}),
                false,
            ),
            (json!({"rope_type": "proportional", "partial_rotary_factor": 0.5}), false),
        ] {
            let r = with(rope);
            assert_eq!(r.depends_on_length(), expected);
            assert_eq!(r.frequencies(8), r.frequencies(16), "up to the original length nothing changes");
            assert_eq!(r.frequencies(8) != r.frequencies(200), expected);
            assert_eq!(r.frequencies(8).len(), r.pairs());
        }
    }

    #[test]
    fn dynamic_is_default_up_to_the_limit_and_turns_slower_beyond() {
        let (r, plain) = (with(json!({"rope_type": "dynamic", "factor": 2})), with(json!({"rope_type": "default"})));
        assert_eq!(r.frequencies(32), plain.frequencies(32));
        let base = 1e4 * (2.0f64 * 48.0 / 32.0 - 1.0).powf(12.0 / 10.0);
        let expected: Vec<f64> = (0..6).map(|i| base.powf(-f64::from(i) / 6.0)).collect();
        close(&r.frequencies(48), &expected);
    }

    #[test]
    fn a_partial_factor_narrows_every_kind_but_default_and_proportional() {
        let linear = with(json!({"rope_type": "linear", "factor": 2, "partial_rotary_factor": 0.5}));
        assert_eq!(linear.pairs(), 3);
        close(&linear.frequencies(1), &[0.5, 1e4f64.powf(-2.0 / 6.0) / 2.0, 1e4f64.powf(-4.0 / 6.0) / 2.0]);
        // int(12 * 0.6) = 7 elements have four frequencies.
        let odd = with(json!({"rope_type": "linear", "factor": 1, "partial_rotary_factor": 0.6}));
        assert_eq!(odd.pairs(), 4);
        close(&odd.frequencies(1)[3..], &[1e4f64.powf(-6.0 / 7.0)]);

        let default = with(json!({"rope_type": "default", "partial_rotary_factor": 0.5}));
        assert_eq!(default.frequencies(1), with(json!({})).frequencies(1));

        let proportional = with(json!({"rope_type": "proportional", "partial_rotary_factor": 0.5, "factor": 2}));
        close(&proportional.frequencies(1)[..3], &[0.5, 1e4f64.powf(-1.0 / 6.0) / 2.0, 1e4f64.powf(-2.0 / 6.0) / 2.0]);
        assert_eq!(proportional.frequencies(1)[3..], [0.0; 3]);
    }

    #[test]
    fn the_attention_factor_multiplies_cosines_and_sines() {
        let r = with(json!({"rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 8,
                            "attention_factor": 0.5}));
        let (cos, sin) = r.tables(3);
        assert_eq!((cos[0], sin[0]), (0.5, 0.0));
        let angle = 2.0 * r.frequencies(3)[1];
        assert_eq!((cos[2 * 6 + 1], sin[2 * 6 + 1]), ((0.5 * angle.cos()) as f32, (0.5 * angle.sin()) as f32));
    }

    #[test]
    fn divisors_of_a_gguf_file_replace_the_scaling() {
        let config = json!({"hidden_size": 8, "num_attention_heads": 2,
                            "rope_parameters": {"rope_type": "dynamic", "factor": 3}});
        let config = LlamaConfig::from_value(&config).unwrap();
        let r = Rotary::new(&config, Some(&[1.0, 2.0]));
        assert!(!r.depends_on_length());
        close(&r.frequencies(100_000), &[1.0, 0.01 / 2.0]);
    }

    #[test]
    fn tables_are_right_far_out() {
        let (cos, sin) = rotary(json!({"hidden_size": 8, "num_attention_heads": 2})).tables(70_000);
        // Position 69999 at frequency 1, by Python's math module.
        assert!((cos[69_999 * 2] + 0.386_386_84).abs() < 1e-7 && (sin[69_999 * 2] + 0.922_336_8).abs() < 1e-7);
        let angle = 69_999f64 * 1e4f64.powf(-0.5);
        assert_eq!(cos[69_999 * 2 + 1], angle.cos() as f32);
        assert_eq!(sin[69_999 * 2 + 1], angle.sin() as f32);
    }
}
