//! `mul(a [..] float, b [..] float) -> [..]`: `y = a * b`

use ndarray::{ArrayView2, ArrayViewMut2, Zip};

/// The product in f32 is the exact one, rounded once, so nothing is gained by f64.
pub(super) fn mul(
    a: ArrayView2<'_, f32>,    // [.., D]
    b: ArrayView2<'_, f32>,    // [.., D]
    y: ArrayViewMut2<'_, f32>, // [.., D]
) {
    Zip::from(y).and(a).and(b).for_each(|y, a, b| *y = a * b);
}

#[cfg(test)]
mod tests {
    use super::super::compute;
    use crate::tensor::Tensor;
    use crate::tensor::testing::Owned;
    use camelid_core::DType;
    use camelid_core::ops::Op;

    #[test]
    fn elements_are_multiplied_in_every_type() {
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            let a = Owned::floats(dtype, &[3, 1], &[1.5, -2.0, 0.0]);
            let b = Owned::floats(dtype, &[3, 1], &[2.0, 4.0, f32::INFINITY]);
            let y = compute(&Op::Mul, &[a.view(), b.view()], dtype, &a.dims).unwrap();
            let y = Tensor { dtype, dims: a.dims.clone(), bytes: y.bytes() }.vector().to_vec();
            assert_eq!(y[..2], [3.0, -8.0], "{dtype}");
            assert!(y[2].is_nan(), "0 * infinity");
        }
    }

    #[test]
    fn scalars_and_empty_values_are_values() {
        let x = Owned::floats(DType::F32, &[], &[3.0]);
        let y = compute(&Op::Mul, &[x.view(), x.view()], DType::F32, &[]).unwrap();
        assert_eq!(y.bytes(), 9f32.to_le_bytes());
        let none = Owned::floats(DType::F32, &[0, 4], &[]);
        assert!(compute(&Op::Mul, &[none.view(), none.view()], DType::F32, &[0, 4]).unwrap().bytes().is_empty());
    }
}
