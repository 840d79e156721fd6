//! Rotary position embedding: the parameters of a config, and the cosines and sines a graph turns queries and keys by.
//!
//! Everything is computed in f64 and rounded once. Backends get cosines and sines, never angles: f32 angles are off
//! by 3e-3 in the cosine at position 131071, and WGSL guarantees its functions only near zero.
//!
//! The rules are those of `modeling_rope_utils` in transformers 5.8, one file for each kind that needs more than a line
//! ([`dynamic`], [`llama3`], [`longrope`], [`yarn`]); [`Rotary`] puts them together.
//!
//! # Kinds that look at the length
//!
//! `dynamic` and `longrope` choose their frequencies by how long a sequence is. The rule here is a pure function: the
//! tokens that one step adds to a sequence are turned by the frequencies for the length `l`, one more than the largest
//! of their positions. Keys from earlier steps stay as they were turned, other sequences and later steps are not
//! concerned, and it makes no difference how a step is cut into runs of the device. transformers computes the same for
//! a single sequence in a fresh model; it takes the longest sequence of a batch for all of them, and its `dynamic`
//! keeps the frequencies of a long call for later short ones, which its later versions mend.
//!
//! # Partial rotation
//!
//! With `partial_rotary_factor` p, only the first `int(p * head_dim)` elements of a head are turned, and the others pass
//! through, as in the models of transformers that have it. Its Llama has not: there the factor has no effect with
//! `default` (nor here, with a warning), means what it does here with `proportional`, and fails with all other kinds
//! unless it leaves the width as it is.

pub mod dynamic;
pub mod llama3;
pub mod longrope;
mod read;
mod rotary;
mod write;
pub mod yarn;

pub use self::llama3::Llama3;
pub use self::longrope::LongRope;
pub use self::rotary::Rotary;
pub(super) use self::write::scaling;
pub use self::write::to_json;
pub use self::yarn::Yarn;

use super::config::ConfigError;

/// How positions turn into angles.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeParameters {
    /// Base of the geometric series of frequencies (10000).
    pub rope_theta: f64,
    /// Share of each head that is rotated: see the module's documentation. All of it if `None`.
    pub partial_rotary_factor: Option<f64>,
    /// What is done to the frequencies for longer contexts.
    pub scaling: RopeScaling,
}

/// The kind of RoPE scaling (`rope_type`). Below, `D` is the rotated width and `f_i = theta^(-2i / D)`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum RopeScaling {
    /// `f_i`.
    Default,
    /// All frequencies divided by `factor` (Chen et al. 2023).
    Linear {
        /// How much longer the context is.
        factor: f64,
    },
    /// A larger base for sequences longer than `max_position_embeddings`: see [`dynamic`].
    Dynamic {
        /// How fast the base grows with the length.
        factor: f64,
    },
    /// High frequencies kept, low ones divided, a ramp between: see [`yarn`].
    Yarn(Yarn),
    /// A divisor for each frequency, of two sets: see [`longrope`].
    LongRope(LongRope),
    /// Low frequencies divided by `factor`, high ones kept, a linear blend between: see [`llama3`].
    Llama3(Llama3),
    /// `theta^(-2i / head_dim) / factor` for the first `partial_rotary_factor * head_dim / 2` pairs; the others are not
    /// turned.
    Proportional {
        /// What the frequencies are divided by (1).
        factor: f64,
    },
}

impl RopeScaling {
    /// The name as config.json writes it.
    pub fn name(&self) -> &'static str {
        match self {
            RopeScaling::Default => "default",
            RopeScaling::Linear { .. } => "linear",
            RopeScaling::Dynamic { .. } => "dynamic",
            RopeScaling::Yarn(_) => "yarn",
            RopeScaling::LongRope(_) => "longrope",
            RopeScaling::Llama3(_) => "llama3",
            RopeScaling::Proportional { .. } => "proportional",
        }
    }

    /// Whether the frequencies depend on the length of a sequence.
    pub fn depends_on_length(&self) -> bool {
        matches!(self, RopeScaling::Dynamic { .. } | RopeScaling::LongRope(_))
    }

    /// The context length of the original training, for the kinds that are told it.
    fn original_context(&self) -> Option<usize> {
        match self {
            RopeScaling::Yarn(yarn) => Some(yarn.original_max_position_embeddings),
            RopeScaling::LongRope(long) => Some(long.original_max_position_embeddings),
            RopeScaling::Llama3(llama3) => Some(llama3.original_max_position_embeddings),
            _ => None,
        }
    }
}

impl Default for RopeParameters {
    fn default() -> RopeParameters {
        RopeParameters { rope_theta: 10_000.0, partial_rotary_factor: None, scaling: RopeScaling::Default }
    }
}

impl RopeParameters {
    /// How many elements of a head the frequencies are computed for: `D` of the formulas.
    ///
    /// For an odd `D` there are `(D + 1) / 2` frequencies, so that one element more is turned.
    pub(crate) fn rotated(&self, head_dim: usize) -> usize {
        match (&self.scaling, self.partial_rotary_factor) {
            (RopeScaling::Default | RopeScaling::Proportional { .. }, _) | (_, None) => head_dim,
            // Cut off as Python's int() does.
            (_, Some(share)) => (head_dim as f64 * share) as usize,
        }
    }

    /// Whether frequencies can be computed from these values.
    pub(super) fn check(&self, head_dim: usize, max_position_embeddings: usize) -> Result<(), ConfigError> {
        let wrong = |field: &str, found: f64, rule: &str| {
            Err(ConfigError::wrong(format!("rope_parameters.{field}"), found, rule))
        };
        if !(self.rope_theta > 0.0 && self.rope_theta.is_finite()) {
            return wrong("rope_theta", self.rope_theta, "be a positive number");
        }
        if let Some(share) = self.partial_rotary_factor.filter(|_| self.scaling != RopeScaling::Default) {
            let least = if matches!(self.scaling, RopeScaling::Proportional { .. }) { 0.0 } else { 1.0 };
            if !(share <= 1.0 && share * head_dim as f64 >= least) {
                return wrong(
                    "partial_rotary_factor",
                    share,
                    "be a share of head_dim: at most 1, and for at least one element",
                );
            }
        }
        let positive = |field: &str, n: f64| {
            if n > 0.0 && n.is_finite() { Ok(()) } else { wrong(field, n, "be a positive number") }
        };
        let rotated = self.rotated(head_dim);
        match &self.scaling {
            RopeScaling::Default => Ok(()),
            RopeScaling::Linear { factor } | RopeScaling::Proportional { factor } => positive("factor", *factor),
            RopeScaling::Dynamic { factor } => {
                positive("factor", *factor)?;
                if rotated > 2 {
                    Ok(())
                } else {
                    wrong("rope_type", rotated as f64, "rotate more than 2 elements of a head")
                }
            }
            RopeScaling::Yarn(yarn) => yarn.check(self.rope_theta, rotated, max_position_embeddings),
            RopeScaling::LongRope(long) => long.check(rotated, max_position_embeddings),
            RopeScaling::Llama3(llama3) => llama3.check(),
        }
    }

    /// Says what transformers warns of.
    pub(super) fn warn(&self, max_position_embeddings: usize) {
        if self.scaling == RopeScaling::Default && self.partial_rotary_factor.is_some_and(|share| share != 1.0) {
            tracing::warn!(
                "partial_rotary_factor has no effect with rope_type `default`, as in the Llama of transformers 5.8: all \
                 of each head is rotated"
            );
        }
        let factor = match &self.scaling {
            RopeScaling::Linear { factor } | RopeScaling::Dynamic { factor } => Some(*factor),
            RopeScaling::Yarn(yarn) => yarn.factor,
            RopeScaling::LongRope(long) => long.factor,
            RopeScaling::Llama3(llama3) => Some(llama3.factor),
            RopeScaling::Default | RopeScaling::Proportional { .. } => None,
        };
        if let Some(factor) = factor.filter(|f| *f < 1.0) {
            tracing::warn!("rope_parameters.factor is {factor}; a context is stretched by factors of at least 1");
        }
        if let RopeScaling::Yarn(Yarn { beta_fast, beta_slow, .. }) = &self.scaling
            && beta_fast < beta_slow
        {
            tracing::warn!("rope_parameters.beta_fast is {beta_fast}, less than beta_slow = {beta_slow}");
        }
        if let RopeScaling::Llama3(Llama3 { high_freq_factor: high, low_freq_factor: low, .. }) = &self.scaling
            && high <= low
        {
            tracing::warn!("rope_parameters.high_freq_factor is {high}, not greater than low_freq_factor = {low}");
        }
        if let Some(original) = self.scaling.original_context().filter(|n| *n > max_position_embeddings) {
            tracing::warn!(
                "rope_parameters.original_max_position_embeddings is {original}, more than max_position_embeddings = \
                 {max_position_embeddings}"
            );
        }
    }
}
