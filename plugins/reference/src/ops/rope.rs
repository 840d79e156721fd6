//! `rope(x [T, H * head_dim] float, cos [T, R / 2] f32, sin [T, R / 2] f32) -> [T, H * head_dim]`
//!
//! In every head, `i < R / 2`: `y[i] = x[i] cos[i] - x[i + R/2] sin[i]`, `y[i + R/2] = x[i + R/2] cos[i] + x[i] sin[i]`;
//! elements from `R` on stay.

use ndarray::{ArrayView2, ArrayViewMut2};

pub(super) fn rope(
    x: ArrayView2<'_, f32>,   // [T, H * head_dim]
    cos: ArrayView2<'_, f32>, // [T, R / 2]
    sin: ArrayView2<'_, f32>, // [T, R / 2]
    head_dim: usize,
    mut y: ArrayViewMut2<'_, f32>, // [T, H * head_dim]
) {
    y.assign(&x);
    let half = cos.ncols();
    for t in 0..x.nrows() {
        for head in (0..x.ncols()).step_by(head_dim) {
            for i in 0..half {
                let (first, second) = (f64::from(x[[t, head + i]]), f64::from(x[[t, head + i + half]]));
                let (cos, sin) = (f64::from(cos[[t, i]]), f64::from(sin[[t, i]]));
                y[[t, head + i]] = (first * cos - second * sin) as f32;
                y[[t, head + i + half]] = (second * cos + first * sin) as f32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::compute;
    use crate::tensor::Tensor;
    use crate::tensor::testing::{Owned, noise};
    use camelid_core::DType;
    use camelid_core::ops::Op;

    fn rope(x: &Owned, cos: &Owned, sin: &Owned, head_dim: usize) -> Vec<f32> {
        let operands = [x.view(), cos.view(), sin.view()];
        let y = compute(&Op::Rope { head_dim }, &operands, x.dtype, &x.dims).unwrap();
        Tensor { dtype: x.dtype, dims: x.dims.clone(), bytes: y.bytes() }.vector().to_vec()
    }

    #[test]
    fn a_quarter_turn_swaps_the_halves_of_every_head() {
        // Token 0: both pairs by a quarter turn. Token 1: pair 0 by none, pair 1 by a half turn.
        let cos = Owned::floats(DType::F32, &[2, 2], &[0.0, 0.0, 1.0, -1.0]);
        let sin = Owned::floats(DType::F32, &[2, 2], &[1.0, 1.0, 0.0, 0.0]);
        let values = [1., 2., 3., 4., 5., 6., 7., 8., 1., 2., 3., 4., 5., 6., 7., 8.];
        let x = Owned::floats(DType::F32, &[2, 8], &values);
        let expected = [-3., -4., 1., 2., -7., -8., 5., 6., 1., -2., 3., -4., 5., -6., 7., -8.];
        assert_eq!(rope(&x, &cos, &sin, 4), expected);
    }

    #[test]
    fn elements_past_the_rotated_ones_stay() {
        let cos = Owned::floats(DType::F32, &[1, 1], &[0.0]);
        let sin = Owned::floats(DType::F32, &[1, 1], &[1.0]);
        let x = Owned::floats(DType::F16, &[1, 10], &[1., 2., 3., 4., 5., 6., 7., 8., 9., 10.]);
        assert_eq!(rope(&x, &cos, &sin, 5), [-2., 1., 3., 4., 5., -7., 6., 8., 9., 10.]);
    }

    #[test]
    fn lengths_of_pairs_are_kept() {
        let angles: Vec<f32> = noise(7, 3 * 6);
        let cos: Vec<f32> = angles.iter().map(|a| a.cos()).collect();
        let sin: Vec<f32> = angles.iter().map(|a| a.sin()).collect();
        let values = noise(8, 3 * 24);
        let x = Owned::floats(DType::F32, &[3, 24], &values);
        let y = rope(&x, &Owned::floats(DType::F32, &[3, 6], &cos), &Owned::floats(DType::F32, &[3, 6], &sin), 12);
        for pair in (0..72).filter(|i| i % 12 < 6) {
            let length = |v: &[f32]| f64::from(v[pair]).hypot(f64::from(v[pair + 6]));
            assert!((length(&y) - length(&values)).abs() < 1e-6, "pair at {pair}");
        }
    }

    #[test]
    fn there_may_be_no_tokens() {
        let none = Owned::floats(DType::F32, &[0, 2], &[]);
        assert!(rope(&Owned::floats(DType::F32, &[0, 8], &[]), &none, &none, 4).is_empty());
    }
}
