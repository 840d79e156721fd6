//! `rms_norm(x [.., D] float, weight [D] float) -> [.., D]`: `y = x / sqrt(mean(x^2) + eps) * weight`

use ndarray::{ArrayView1, ArrayView2, ArrayViewMut2};

use crate::dot::dot;

pub(super) fn rms_norm(
    x: ArrayView2<'_, f32>,      // [rows, D]
    weight: ArrayView1<'_, f32>, // [D]
    eps: f32,
    mut y: ArrayViewMut2<'_, f32>, // [rows, D]
) {
    for (x, mut y) in x.outer_iter().zip(y.outer_iter_mut()) {
        let x = x.to_slice().expect("rows are dense"); // [D]
        let mean_square = dot(x, x) / x.len() as f64;
        let scale = 1.0 / (mean_square + f64::from(eps)).sqrt();
        for ((y, x), weight) in y.iter_mut().zip(x).zip(weight) {
            *y = (f64::from(*x) * scale * f64::from(*weight)) as f32;
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

    fn rms_norm(x: &Owned, weight: &Owned, eps: f32) -> Vec<f32> {
        let y = compute(&Op::RmsNorm { eps }, &[x.view(), weight.view()], x.dtype, &x.dims).unwrap();
        Tensor { dtype: x.dtype, dims: x.dims.clone(), bytes: y.bytes() }.vector().to_vec()
    }

    #[test]
    fn rows_are_scaled_to_mean_square_one() {
        // Mean square (9 + 16) / 2 + 12 = 24.5; a second row of mean square 4 + 12 = 16.
        let x = Owned::floats(DType::F32, &[2, 2], &[3.0, 4.0, 2.0, -2.0]);
        let weight = Owned::floats(DType::F32, &[2], &[1.0, 10.0]);
        let y = rms_norm(&x, &weight, 12.0);
        assert_eq!(y, [3.0 / 24.5f64.sqrt() as f32, (40.0 / 24.5f64.sqrt()) as f32, 0.5, -5.0]);
    }

    #[test]
    fn eps_counts_for_small_rows_and_zeros_stay_zeros() {
        let weight = Owned::floats(DType::F32, &[1, 2][1..], &[1.0, 1.0]);
        let x = Owned::floats(DType::F32, &[2, 2], &[1e-3, -1e-3, 0.0, 0.0]);
        let y = rms_norm(&x, &weight, 1e-6);
        assert!((y[0] - 0.5f32.sqrt()).abs() < 1e-6, "1e-6 + 1e-6 under the root: {y:?}");
        assert_eq!(y[2..], [0.0, 0.0]);
    }

    #[test]
    fn squares_do_not_overflow() {
        let weight = Owned::floats(DType::F32, &[2], &[1.0, 1.0]);
        let x = Owned::floats(DType::F32, &[1, 2], &[1e30, -1e30]);
        assert_eq!(rms_norm(&x, &weight, 1e-6), [1.0, -1.0]);
    }

    #[test]
    fn one_not_a_number_stays_in_its_row() {
        let weight = Owned::floats(DType::F32, &[3], &[1.0; 3]);
        let mut values = noise(5, 6);
        values[1] = f32::NAN;
        let y = rms_norm(&Owned::floats(DType::F32, &[2, 3], &values), &weight, 1e-6);
        assert!(y[..3].iter().all(|v| v.is_nan()) && y[3..].iter().all(|v| v.is_finite()));
    }

    #[test]
    fn dimensions_may_be_empty() {
        let weight = Owned::floats(DType::F32, &[0], &[]);
        assert!(rms_norm(&Owned::floats(DType::F32, &[3, 0], &[]), &weight, 1e-6).is_empty());
    }
}
