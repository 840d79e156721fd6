//! How far a backend may be from the float64 reference.
//!
//! A limit is the larger of a floor, which belongs to the [`MathClass`] a backend declares, and a multiple of the noise
//! that honest programs show on that very case, which is stored with it: float32 ones for every class, and for the coarser
//! classes, where the case amplifies their rounding, emulations of these ([`CoarseNoise`]). The floors come from measurements
//! (`specs/conformance.md` has the table and what was measured since).

use std::collections::BTreeMap;
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

impl Noise {
    /// The worse of each.
    pub fn max(self, other: Noise) -> Noise {
        Noise { nmse: self.nmse.max(other.nmse), max: self.max.max(other.max) }
    }
}

/// What emulations of classes coarser than f32 measured on a case: in a file `{ bf16 = [NMSE, MAX] }`.
///
/// Only classes whose floors are too low for the case are there. No other class can be: what f32 may measure is not widened.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(try_from = "BTreeMap<MathClass, [f64; 2]>")]
pub struct CoarseNoise(BTreeMap<MathClass, Noise>);

impl CoarseNoise {
    /// That of one class; nothing if the class is not coarser than f32.
    pub fn of(class: MathClass, noise: Noise) -> CoarseNoise {
        CoarseNoise(Some((class, noise)).into_iter().filter(|(class, _)| *class > MathClass::F32).collect())
    }
}

impl TryFrom<BTreeMap<MathClass, [f64; 2]>> for CoarseNoise {
    type Error = String;

    fn try_from(table: BTreeMap<MathClass, [f64; 2]>) -> Result<CoarseNoise, String> {
        for (class, numbers) in &table {
            if *class <= MathClass::F32 {
                return Err(format!("class `{class}` is not coarser than f32, so nothing widens its limits"));
            }
            if numbers.iter().any(|x| !x.is_finite() || *x < 0.0) {
                return Err(format!("the noise of class `{class}` is {numbers:?}, and must be two numbers from 0"));
            }
        }
        Ok(CoarseNoise(table.into_iter().map(|(class, [nmse, max])| (class, Noise { nmse, max })).collect()))
    }
}

/// How many times the noise of float32 programs a backend may measure.
const NMSE_FACTOR: f64 = 4.0;
const MAX_FACTOR: f64 = 3.0;
/// How many times the noise of the emulations of a coarser class: less, as they are many where results are few.
const COARSE_FACTOR: f64 = 2.0;

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

    /// [`op_limits`](Self::op_limits), where what emulations of this class, or of one that it includes, measured may be more.
    pub fn case_limits(self, noise: Noise, coarse: &CoarseNoise) -> Limits {
        let own = self.op_limits(noise);
        let included = coarse.0.iter().filter(|(class, _)| **class <= self);
        included.fold(own, |limits, (_, noise)| Limits {
            nmse: limits.nmse.max(COARSE_FACTOR * noise.nmse),
            max: limits.max.max(COARSE_FACTOR * noise.max),
            ..limits
        })
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
    fn a_coarse_class_has_the_noise_of_its_emulations_and_f32_never() {
        let coarse: CoarseNoise = toml::from_str("bf16 = [3e-5, 0.01]\nq8act = [6e-4, 0.1]").unwrap();
        let noise = Noise { nmse: 1e-14, max: 1e-6 };
        let limits = |class: MathClass| class.case_limits(noise, &coarse);
        for class in [MathClass::Exact, MathClass::F32, MathClass::F16, MathClass::F32Tf32] {
            assert_eq!(limits(class), class.op_limits(noise), "{class}");
        }
        assert_eq!((limits(MathClass::Bf16).nmse, limits(MathClass::Bf16).max), (6e-5, 2.5e-2));
        // A class allows what those before it allow.
        assert_eq!(limits(MathClass::F16Acc16), MathClass::F16Acc16.op_limits(noise));
        assert_eq!((limits(MathClass::Q8act).nmse, limits(MathClass::Q8act).max), (1.2e-3, 0.2));
        for class in [MathClass::Exact, MathClass::F32] {
            assert_eq!(CoarseNoise::of(class, Noise { nmse: 1.0, max: 1.0 }), CoarseNoise::default());
        }
    }

    #[test]
    fn a_file_cannot_widen_f32_or_store_what_is_no_noise() {
        for (text, said) in [
            ("f32 = [1e-5, 0.01]", "class `f32` is not coarser than f32"),
            ("exact = [1e-5, 0.01]", "class `exact` is not coarser"),
            ("bf16 = [1e-5]", "length"),
            ("bf16 = [inf, 0.01]", "the noise of class `bf16` is"),
            ("bf16 = [-1e-5, 0.01]", "must be two numbers from 0"),
            ("bf17 = [1e-5, 0.01]", "unknown variant `bf17`"),
        ] {
            let error = toml::from_str::<CoarseNoise>(text).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn names_find_their_way_back_in_toml_too() {
        for class in MathClass::ALL {
            assert_eq!(MathClass::from_name(class.name()), Some(class));
            assert_eq!(serde_json::to_value(class).unwrap(), class.name());
        }
    }
}
