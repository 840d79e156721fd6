//! Random numbers that are a function of the seed and of where they are used.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// The number in `[0, 1)` for the `index`-th generated token of a request with this `seed`.
///
/// It is made of words `2 * index` and `2 * index + 1` of the ChaCha8 key stream (64-bit counter from 0, nonce 0) under
/// the key whose first eight bytes are `seed`, little-endian, and whose others are 0: their 64 bits, the first word the
/// low half, shifted right by 11 and divided by 2^53.
pub(crate) fn uniform(seed: u64, index: u64) -> f64 {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    let mut rng = ChaCha8Rng::from_seed(key);
    rng.set_word_pos(2 * u128::from(index));
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seed, index, and the number times 2^53, from the independent ChaCha8 in `tests/data/make_sampling.py`.
    const GOLDEN: [(u64, u64, u64); 8] = [
        (0, 0, 0x1a_c80b_f125_fde0),
        (0, 1, 0x14_34a1_23fd_170b),
        (0, 7, 0x08_5fc1_81d7_1faf),
        (0, 8, 0x0a_3834_bd41_bf55),
        (1, 0, 0x0c_3529_4934_1d2b),
        (42, 1000, 0x1d_089f_6320_1303),
        (u64::MAX, (1 << 32) + 5, 0x03_d601_9d1f_e5ad),
        (3, 1 << 62, 0x19_e0d7_0d31_a947),
    ];

    #[test]
    fn golden_numbers() {
        for (seed, index, numerator) in GOLDEN {
            assert_eq!(uniform(seed, index) * 2f64.powi(53), numerator as f64, "seed {seed}, index {index}");
        }
        // The key stream for key and nonce 0 begins 3e 00 ef 2f 89 5f 40 d6 in the published test vectors.
        assert_eq!(uniform(0, 0), (0xd640_5f89_2fef_003e_u64 >> 11) as f64 / 2f64.powi(53));
    }

    #[test]
    fn numbers_lie_in_the_unit_interval_and_fill_it() {
        let numbers: Vec<f64> = (0..4000).map(|i| uniform(3, i)).collect();
        assert!(numbers.iter().all(|x| (0.0..1.0).contains(x)));
        let mean = numbers.iter().sum::<f64>() / 4000.0;
        assert!((mean - 0.5).abs() < 0.02, "{mean}");
        for tenth in 0..10 {
            let count = numbers.iter().filter(|x| (**x * 10.0) as usize == tenth).count();
            assert!((330..470).contains(&count), "{count} numbers in tenth {tenth}");
        }
    }
}
