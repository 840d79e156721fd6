//! How the coarser math classes round, in f64: what an honest backend of a class is like on a graph that was just drawn.

use crate::tolerance::MathClass;

/// Where numbers are rounded between the formulas.
pub(super) struct Rounding {
    /// The result of every step of arithmetic.
    pub step: fn(f64) -> f64,
    /// Weights of products.
    weights: Narrow,
    /// What they are multiplied with.
    activations: Narrow,
    /// Results of nodes that compute.
    results: Narrow,
}

#[derive(Clone, Copy)]
enum Narrow {
    No,
    /// To so many significant bits, after multiplication with a number from 1 to 2, which is divided out again.
    Bits(i32, f64),
    /// To this part of the largest of each block of 32.
    Blocks(f64),
}

impl Narrow {
    fn apply(self, values: &mut [f64]) {
        match self {
            Narrow::No => {}
            Narrow::Bits(count, grid) => values.iter_mut().for_each(|x| *x = significant(*x * grid, count) / grid),
            Narrow::Blocks(codes) => {
                for block in values.chunks_mut(32) {
                    let step = block.iter().fold(0.0_f64, |m, x| m.max(x.abs())) / codes;
                    if step > 0.0 {
                        block.iter_mut().for_each(|x| *x = (*x / step).round() * step);
                    }
                }
            }
        }
    }
}

impl Rounding {
    /// Nothing but `step`.
    pub fn steps(step: fn(f64) -> f64) -> Rounding {
        Rounding { step, weights: Narrow::No, activations: Narrow::No, results: Narrow::No }
    }

    /// What a backend of `class` may round, in ways that make different errors of the same size; none for f32.
    pub fn of_class(class: MathClass) -> Vec<Rounding> {
        let bits = match class {
            MathClass::Exact | MathClass::F32 => return Vec::new(),
            MathClass::F16 | MathClass::F32Tf32 => 11,
            MathClass::Bf16 | MathClass::F16Acc16 | MathClass::Q8act => 8,
        };
        let mut all = Vec::new();
        for i in 0..16 {
            let part = (f64::from(i) * 0.618_033_988_749_894_9).fract();
            let (narrow, blocks) =
                (Narrow::Bits(bits, 1.0 + part), Narrow::Blocks((127.0 / (1.0 + part / 8.0)).round()));
            let mut push = |weights, activations, results| {
                all.push(Rounding { step: |x| x, weights, activations, results });
            };
            push(narrow, Narrow::No, Narrow::No);
            push(narrow, narrow, Narrow::No);
            push(narrow, narrow, narrow);
            if class == MathClass::Q8act {
                push(Narrow::No, blocks, Narrow::No);
            }
        }
        all
    }

    /// The weights of a product.
    pub fn weights(&self, values: &[f32]) -> Vec<f64> {
        let mut wide: Vec<f64> = values.iter().map(|x| f64::from(*x)).collect();
        self.weights.apply(&mut wide);
        wide
    }

    /// A row that is multiplied with weights.
    pub fn activations(&self, row: &[f64]) -> Vec<f64> {
        let mut row = row.to_vec();
        self.activations.apply(&mut row);
        row
    }

    /// The result of a node that computes.
    pub fn results(&self, mut values: Vec<f64>) -> Vec<f64> {
        self.results.apply(&mut values);
        values
    }
}

/// The nearest number of so many significant bits, ties to even.
fn significant(x: f64, count: i32) -> f64 {
    let exponent = (x.to_bits() >> 52 & 0x7ff) as i32 - 1023;
    let step = 2.0_f64.powi((exponent + 1 - count).max(-1000));
    (x / step).round_ties_even() * step
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::*;

    #[test]
    fn significant_bits_are_those_of_the_types() {
        for i in 0..2000 {
            let x = (f64::from(i) - 1000.0) * 0.001_234_567;
            let x = f64::from(x as f32);
            assert_eq!(significant(x, 8), f64::from(bf16::from_f32(x as f32)), "{x}");
            if x.abs() > 1e-3 {
                assert_eq!(significant(x, 11), f64::from(f16::from_f32(x as f32)), "{x}");
            }
        }
        assert_eq!(significant(0.0, 8), 0.0);
    }

    #[test]
    fn blocks_have_codes_and_f32_has_no_emulations() {
        let mut row: Vec<f64> = (0..40).map(f64::from).collect();
        Narrow::Blocks(127.0).apply(&mut row);
        // Multiples of 31/127 in the first block, of 39/127 in the rest of the row.
        for (block, largest) in [(&row[..32], 31.0), (&row[32..], 39.0)] {
            assert!(block.iter().map(|x| x * 127.0 / largest).all(|code| (code - code.round()).abs() < 1e-9));
        }
        assert!((row[31] - 31.0).abs() < 1e-12 && (row[39] - 39.0).abs() < 1e-12);
        assert!(row[1] != 1.0 && (row[1] - 1.0).abs() <= 31.0 / 254.0);
        assert!(Rounding::of_class(MathClass::F32).is_empty() && Rounding::of_class(MathClass::Exact).is_empty());
        assert_eq!(Rounding::of_class(MathClass::Bf16).len(), 48);
    }
}
