//! How far a backend may be from the float64 reference.
//!
//! A limit is the larger of a floor, which belongs to the [`MathClass`] a backend declares, and a multiple of the noise
//! that honest float32 programs show on that very case, which is stored with it. The floors come from measurements
//! (`specs/conformance.md` has the table and what was measured since).

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a backend computes, as it declares in `conformance.toml`; each class allows what the one before allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MathClass {
    /// Bits are moved or rounded once: equal bit for bit.
    Exact,
    /// f32 throughout, in any order.
    F32,
    /// f16 operands or results, sums in f32.
    F16,
    /// Operands of products rounded to 11 bits, as tensor cores do, sums in f32.
    F32Tf32,
    /// bf16 operands or results, sums in f32.
    Bf16,
    /// Sums in f16.
    F16Acc16,
    /// Activations quantized to 8 bits in blocks before products with quantized weights.
    Q8act,
}

/// The largest values that pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Normalized mean squared error.
    pub nmse: f64,
    /// Largest difference over the root mean square of the reference.
    pub max: f64,
    /// Mean Kullback-Leibler divergence of a row of logits, in nats.
    pub kl: f64,
}

/// What honest programs measured on a case: the worst of several summation orders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
pub struct Noise {
    /// Their largest nmse.
    pub nmse: f64,
    /// Their largest max/rms.
    pub max: f64,
}

/// How many times the noise a backend may measure.
const NMSE_FACTOR: f64 = 4.0;
const MAX_FACTOR: f64 = 3.0;

impl MathClass {
    /// Every class.
    pub const ALL: [MathClass; 7] = [
        MathClass::Exact,
        MathClass::F32,
        MathClass::F16,
        MathClass::F32Tf32,
        MathClass::Bf16,
        MathClass::F16Acc16,
        MathClass::Q8act,
    ];

    /// The name in `conformance.toml`.
    pub fn name(self) -> &'static str {
        match self {
            MathClass::Exact => "exact",
            MathClass::F32 => "f32",
            MathClass::F16 => "f16",
            MathClass::F32Tf32 => "f32-tf32",
            MathClass::Bf16 => "bf16",
            MathClass::F16Acc16 => "f16-acc16",
            MathClass::Q8act => "q8act",
        }
    }

    /// The class called `name`.
    pub fn from_name(name: &str) -> Option<MathClass> {
        MathClass::ALL.into_iter().find(|c| c.name() == name)
    }

    /// Limits for the result of an operation or a few: never below the multiples of the case's noise.
    pub fn op_limits(self, noise: Noise) -> Limits {
        let (nmse, max) = match self {
            MathClass::Exact => return Limits { nmse: 0.0, max: 0.0, kl: 0.0 },
            MathClass::F32 => (2e-11, 5e-5),
            MathClass::F16 => (3e-7, 3e-3),
            MathClass::F32Tf32 => (8e-6, 3e-2),
            MathClass::Bf16 => (2e-5, 2.5e-2),
            MathClass::F16Acc16 => (3e-4, 0.25),
            MathClass::Q8act => (1e-4, 5e-2),
        };
        Limits { nmse: f64::max(nmse, NMSE_FACTOR * noise.nmse), max: f64::max(max, MAX_FACTOR * noise.max), kl: 0.0 }
    }

    /// Limits for the logits of a whole model.
    pub fn model_limits(self) -> Limits {
        let (nmse, max, kl) = match self {
            MathClass::Exact => (0.0, 0.0, 0.0),
            MathClass::F32 => (1e-11, 1e-4, 1e-9),
            MathClass::F16 => (1e-5, 3e-2, 1e-4),
            MathClass::F32Tf32 => (8e-6, 3e-2, 1e-4),
            MathClass::Bf16 => (5e-4, 0.2, 4e-3),
            MathClass::F16Acc16 => (1e-3, 0.3, 1e-2),
            MathClass::Q8act => (2e-3, 0.3, 1e-2),
        };
        Limits { nmse, max, kl }
    }
}

impl fmt::Display for MathClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_noisy_case_has_wider_limits_and_a_quiet_one_the_floor() {
        let quiet = MathClass::F32.op_limits(Noise { nmse: 1e-14, max: 1e-6 });
        assert_eq!((quiet.nmse, quiet.max), (2e-11, 5e-5));
        let noisy = MathClass::F32.op_limits(Noise { nmse: 1e-9, max: 1e-3 });
        assert_eq!((noisy.nmse, noisy.max), (4e-9, 3e-3));
        let exact = MathClass::Exact.op_limits(Noise { nmse: 1.0, max: 1.0 });
        assert_eq!((exact.nmse, exact.max), (0.0, 0.0));
    }

    #[test]
    fn names_find_their_way_back_in_toml_too() {
        for class in MathClass::ALL {
            assert_eq!(MathClass::from_name(class.name()), Some(class));
            assert_eq!(serde_json::to_value(class).unwrap(), class.name());
        }
    }
}
