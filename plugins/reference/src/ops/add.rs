//! `add(a [..] float, b [..] float) -> [..]`: `y = a + b`

use ndarray::{ArrayView2, ArrayViewMut2, Zip};

/// The sum in f32 is the exact one, rounded once, so nothing is gained by f64.
pub(super) fn add(
    a: ArrayView2<'_, f32>,    // [.., D]
    b: ArrayView2<'_, f32>,    // [.., D]
    y: ArrayViewMut2<'_, f32>, // [.., D]
) {
    Zip::from(y).and(a).and(b).for_each(|y, a, b| *y = a + b);
}

#[cfg(test)]
mod tests {
    use super::super::compute;
    use crate::tensor::Tensor;
    use crate::tensor::testing::Owned;
    use camelid_core::DType;
    use camelid_core::ops::Op;

    #[test]
    fn elements_are_added_in_every_type() {
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            let a = Owned::floats(dtype, &[2, 1, 2], &[1.0, -2.0, 0.5, f32::INFINITY]);
            let b = Owned::floats(dtype, &[2, 1, 2], &[2.0, 2.0, 0.25, 1.0]);
            let y = compute(&Op::Add, &[a.view(), b.view()], dtype, &a.dims).unwrap();
            let y = Tensor { dtype, dims: a.dims.clone(), bytes: y.bytes() };
            assert_eq!(y.vector().to_vec(), [3.0, 0.0, 0.75, f32::INFINITY], "{dtype}");
        }
    }

    #[test]
    fn half_sums_are_rounded_to_nearest_even() {
        // Next to 2048 the f16 numbers are 2 apart: 2049 lies in the middle and goes to 2048, 2051 to 2052.
        let a = Owned::floats(DType::F16, &[2], &[2048.0, 2050.0]);
        let b = Owned::floats(DType::F16, &[2], &[1.0, 1.0]);
        let y = compute(&Op::Add, &[a.view(), b.view()], DType::F16, &[2]).unwrap();
        let y = Tensor { dtype: DType::F16, dims: vec![2], bytes: y.bytes() };
        assert_eq!(y.vector().to_vec(), [2048.0, 2052.0]);
    }
}
