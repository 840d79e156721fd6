//! `softmax(x [T, .., L] float, mask [T, L] f32?) -> [T, .., L]`: `exp(z - max z) / sum exp(z - max z)` over the last
//! dimension, `z = scale * x + mask`

use camelid_core::ops::softmax::MASKED;
use libm::exp;
use ndarray::{ArrayView2, ArrayViewMut2, Zip};

/// An element whose mask is [`MASKED`] or less gets exactly zero and its x is not looked at.
pub(super) fn softmax(
    x: ArrayView2<'_, f32>,            // [T * .., L]
    mask: Option<ArrayView2<'_, f32>>, // [T, L]
    scale: f32,
    mut y: ArrayViewMut2<'_, f32>, // [T * .., L]
) {
    let rows = x.nrows();
    Zip::indexed(y.rows_mut()).and(x.rows()).par_for_each(|row, mut y, x| {
        // Row `row` of x belongs to token `row / (rows / T)`.
        let mask = mask.as_ref().map(|mask| mask.row(row * mask.nrows() / rows).to_slice().expect("rows are dense")); // [L]
        let visible: Vec<usize> =
            (0..x.len()).filter(|i| mask.is_none_or(|m| m[*i] > MASKED || m[*i].is_nan())).collect();
        let score = |i: &usize| f64::from(scale) * f64::from(x[*i]) + mask.map_or(0.0, |m| f64::from(m[*i]));
        let mut weights: Vec<f64> = visible.iter().map(score).collect();
        normalize(&mut weights);
        y.fill(0.0);
        for (i, weight) in visible.into_iter().zip(weights) {
            y[i] = weight as f32;
        }
    });
}

/// Turns scores into weights that sum to one. The largest score is subtracted first, so no exponential overflows.
pub(super) fn normalize(scores: &mut [f64]) {
    let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        *score = exp(*score - max);
        sum += *score;
    }
    for score in scores {
        *score /= sum;
    }
}

#[cfg(test)]
mod tests {
    use super::super::compute;
    use super::MASKED;
    use crate::tensor::Tensor;
    use crate::tensor::testing::{Owned, noise};
    use camelid_core::DType;
    use camelid_core::ops::Op;

    fn softmax(x: &Owned, mask: Option<&Owned>, scale: f32) -> Vec<f32> {
        let mut operands = vec![x.view()];
        operands.extend(mask.map(Owned::view));
        let y = compute(&Op::Softmax { scale }, &operands, x.dtype, &x.dims).unwrap();
        Tensor { dtype: x.dtype, dims: x.dims.clone(), bytes: y.bytes() }.vector().to_vec()
    }

    fn close(a: &[f32], b: &[f64]) -> bool {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-7)
    }

    #[test]
    fn weights_are_proportional_to_the_exponentials() {
        let x = Owned::floats(DType::F32, &[2, 3], &[0.0, 2f32.ln(), 4f32.ln(), 1e4, 1e4, -1e4]);
        let y = softmax(&x, None, 1.0);
        assert!(close(&y, &[1.0 / 7.0, 2.0 / 7.0, 4.0 / 7.0, 0.5, 0.5, 0.0]), "{y:?}");
        let y = softmax(&x, None, 2.0);
        assert!(close(&y[..3], &[1.0 / 21.0, 4.0 / 21.0, 16.0 / 21.0]), "{y:?}");
    }

    #[test]
    fn the_mask_is_repeated_over_the_dimensions_between() {
        let values = noise(1, 2 * 3 * 4);
        let x = Owned::floats(DType::F32, &[2, 3, 4], &values);
        let masks = [0.0, MASKED, 0.0, -1.0, MASKED, 0.5, 0.0, MASKED * 2.0];
        let mask = Owned::floats(DType::F32, &[2, 4], &masks);
        let y = softmax(&x, Some(&mask), 0.5);
        for row in 0..6 {
            let exps: Vec<f64> = (0..4)
                .map(|l| {
                    let m = f64::from(masks[row / 3 * 4 + l]);
                    if m < -1e29 { 0.0 } else { (0.5 * f64::from(values[row * 4 + l]) + m).exp() }
                })
                .collect();
            let sum: f64 = exps.iter().sum();
            let expected: Vec<f64> = exps.iter().map(|e| e / sum).collect();
            assert!(close(&y[row * 4..row * 4 + 4], &expected), "row {row}");
        }
        assert_eq!((y[1], y[12]), (0.0, 0.0));
    }

    #[test]
    fn what_is_masked_is_not_looked_at_and_nothing_left_is_zeros() {
        let x = Owned::floats(DType::F32, &[2, 2], &[f32::NAN, 3.0, f32::INFINITY, f32::NAN]);
        let mask = Owned::floats(DType::F32, &[2, 2], &[MASKED, 0.0, MASKED, f32::NEG_INFINITY]);
        assert_eq!(softmax(&x, Some(&mask), 1.0), [0.0, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn a_visible_nan_is_not_hidden() {
        let x = Owned::floats(DType::F32, &[2, 2], &[f32::NAN, 3.0, 1.0, 1.0]);
        let y = softmax(&x, None, 1.0);
        assert!(y[0].is_nan() && y[1].is_nan());
        assert_eq!(y[2..], [0.5, 0.5]);
    }

    #[test]
    fn rows_may_be_empty_and_values_of_rank_one() {
        let none = Owned::floats(DType::F32, &[2, 3, 0], &[]);
        let mask = Owned::floats(DType::F32, &[2, 0], &[]);
        assert!(softmax(&none, Some(&mask), 1.0).is_empty());
        let none = Owned::floats(DType::F32, &[0, 3, 4], &[]);
        let mask = Owned::floats(DType::F32, &[0, 4], &[]);
        assert!(softmax(&none, Some(&mask), 1.0).is_empty());
        assert_eq!(softmax(&Owned::floats(DType::F32, &[2], &[1.0, 1.0]), None, 1.0), [0.5, 0.5]);
    }
}
