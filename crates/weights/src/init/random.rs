//! Where random weights come from: one generator for each tensor.
//!
//! The key of a tensor's generator is the SHA-256 of the text `camelid init 1`, a line feed, the seed as a decimal
//! number, a line feed, and the tensor's name as `LlamaForCausalLM` has it. The generator is ChaCha with 8 rounds, its
//! output taken as little-endian 64-bit numbers. Two of them, `a` and `b`, make two normal numbers by Box and Muller:
//! with `u = ((a >> 11) + 1) / 2^53` in (0, 1] and `v = (b >> 11) / 2^53` in [0, 1), `sqrt(-2 ln u) cos(2 pi v)` and
//! `sqrt(-2 ln u) sin(2 pi v)`, in f64 and in this order. Logarithm, sine and cosine are those of the `libm` crate and not
//! the system's, which differ in last bits from platform to platform.

use std::f64::consts::TAU;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

/// The generator of one tensor.
#[derive(Clone, Debug)]
pub struct TensorRng {
    rng: ChaCha8Rng,
    second: Option<f64>,
}

impl TensorRng {
    /// The generator of the tensor called `name` in the model of `seed`.
    pub fn new(seed: u64, name: &str) -> TensorRng {
        let key = Sha256::digest(format!("camelid init 1\n{seed}\n{name}"));
        TensorRng { rng: ChaCha8Rng::from_seed(key.into()), second: None }
    }

    /// A number from the normal distribution of mean 0 and standard deviation 1.
    pub fn normal(&mut self) -> f64 {
        if let Some(second) = self.second.take() {
            return second;
        }
        let unit = |bits: u64| bits as f64 / (1u64 << 53) as f64;
        let (u, v) = (unit((self.rng.next_u64() >> 11) + 1), unit(self.rng.next_u64() >> 11));
        let radius = libm::sqrt(-2.0 * libm::log(u));
        let (sin, cos) = libm::sincos(TAU * v);
        self.second = Some(radius * sin);
        radius * cos
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(seed: u64, name: &str, count: usize) -> Vec<f64> {
        let mut rng = TensorRng::new(seed, name);
        (0..count).map(|_| rng.normal()).collect()
    }

    #[test]
    fn seed_and_name_decide_and_nothing_else() {
        let a = numbers(7, "model.norm.weight", 8);
        assert_eq!(a, numbers(7, "model.norm.weight", 8));
        assert_ne!(a, numbers(8, "model.norm.weight", 8));
        assert_ne!(a, numbers(7, "model.norm.bias", 8));
    }

    /// Moments and the share within one and two deviations, each within four standard errors of what it should be.
    #[test]
    fn the_numbers_are_normal() {
        let x = numbers(1, "x", 200_000);
        let n = x.len() as f64;
        let mean_of = |f: &dyn Fn(f64) -> f64| x.iter().map(|v| f(*v)).sum::<f64>() / n;
        for (what, found, expected, deviation) in [
            ("mean", mean_of(&|v| v), 0.0, 1.0),
            ("variance", mean_of(&|v| v * v), 1.0, 2f64.sqrt()),
            ("third moment", mean_of(&|v| v.powi(3)), 0.0, 15f64.sqrt()),
            ("fourth moment", mean_of(&|v| v.powi(4)), 3.0, 96f64.sqrt()),
            ("within one", mean_of(&|v| f64::from(v.abs() < 1.0)), 0.682_689, 0.4654),
            ("within two", mean_of(&|v| f64::from(v.abs() < 2.0)), 0.954_500, 0.2084),
            ("neighbours", x.windows(2).map(|w| w[0] * w[1]).sum::<f64>() / n, 0.0, 1.0),
        ] {
            let error = 4.0 * deviation / n.sqrt();
            assert!((found - expected).abs() < error, "{what}: {found}, not {expected} within {error}");
        }
    }
}
