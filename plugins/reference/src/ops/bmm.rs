//! `bmm(a [.., M, K] float, b [.., K, N] float) -> [.., M, N]`, with `transpose_b` `b [.., N, K]`

use ndarray::{ArrayView3, ArrayViewMut2, ArrayViewMut3, Zip};

use crate::dot::dot;

/// The leading dimensions are one batch; its matrices are computed side by side.
pub(super) fn bmm(
    a: ArrayView3<'_, f32>, // [batch, M, K]
    b: ArrayView3<'_, f32>, // [batch, K, N] or [batch, N, K]
    transpose_b: bool,
    y: ArrayViewMut2<'_, f32>, // [batch * M, N]
) {
    let (batch, m, n) = (a.dim().0, a.dim().1, y.ncols());
    let mut y: ArrayViewMut3<'_, f32> = y.into_shape_with_order((batch, m, n)).expect("y is dense");
    Zip::from(y.outer_iter_mut()).and(a.outer_iter()).and(b.outer_iter()).par_for_each(|mut y, a, b| {
        for (mut y, a) in y.outer_iter_mut().zip(a.outer_iter()) {
            let a = a.to_slice().expect("rows are dense"); // [K]
            if transpose_b {
                for (y, b) in y.iter_mut().zip(b.outer_iter()) {
                    *y = dot(a, b.to_slice().expect("rows are dense")) as f32;
                }
            } else {
                let mut sums = vec![0.0f64; n]; // [N]
                for (a, b) in a.iter().zip(b.outer_iter()) {
                    for (sum, b) in sums.iter_mut().zip(b) {
                        *sum += f64::from(*a) * f64::from(*b);
                    }
                }
                for (y, sum) in y.iter_mut().zip(sums) {
                    *y = sum as f32;
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::super::compute;
    use crate::tensor::Tensor;
    use crate::tensor::testing::{Owned, noise};
    use camelid_core::DType;
    use camelid_core::ops::Op;

    fn bmm(a: &Owned, b: &Owned, transpose_b: bool, dims: &[usize]) -> Vec<f32> {
        let y = compute(&Op::Bmm { transpose_b }, &[a.view(), b.view()], DType::F32, dims).unwrap();
        Tensor { dtype: DType::F32, dims: dims.to_vec(), bytes: y.bytes() }.vector().to_vec()
    }

    #[test]
    fn matrices_are_multiplied_pairwise() {
        let a = Owned::floats(DType::F32, &[2, 1, 2], &[1.0, 2.0, 3.0, 4.0]);
        let b = Owned::floats(DType::F32, &[2, 2, 3], &[1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11., 12.]);
        let expected = [9.0, 12.0, 15.0, 61.0, 68.0, 75.0];
        assert_eq!(bmm(&a, &b, false, &[2, 1, 3]), expected);
        let b = Owned::floats(DType::F32, &[2, 3, 2], &[1., 4., 2., 5., 3., 6., 7., 10., 8., 11., 9., 12.]);
        assert_eq!(bmm(&a, &b, true, &[2, 1, 3]), expected);
    }

    #[test]
    fn both_layouts_agree_with_the_plain_sum_at_rank_four() {
        let (t, g, m, k, n) = (2, 3, 2, 5, 4);
        let (av, bv) = (noise(1, t * g * m * k), noise(2, t * g * k * n));
        let a = Owned::floats(DType::F32, &[t, g, m, k], &av);
        let b = Owned::floats(DType::F32, &[t, g, k, n], &bv);
        let turned: Vec<f32> = (0..t * g * n * k)
            .map(|i| {
                let (batch, row, column) = (i / (n * k), i / k % n, i % k);
                bv[batch * k * n + column * n + row]
            })
            .collect();
        let bt = Owned::floats(DType::F32, &[t, g, n, k], &turned);
        let y = bmm(&a, &b, false, &[t, g, m, n]);
        let yt = bmm(&a, &bt, true, &[t, g, m, n]);
        for i in 0..y.len() {
            let (batch, row, column) = (i / (m * n), i / n % m, i % n);
            let sum: f64 = (0..k)
                .map(|j| f64::from(av[(batch * m + row) * k + j]) * f64::from(bv[(batch * k + j) * n + column]))
                .sum();
            assert!((f64::from(y[i]) - sum).abs() < 1e-7 && (f64::from(yt[i]) - sum).abs() < 1e-7);
        }
    }

    #[test]
    fn dimensions_may_be_empty() {
        let none = Owned::floats(DType::F32, &[0, 2, 3], &[]);
        assert!(bmm(&none, &none, true, &[0, 2, 2]).is_empty());
        // A sum of nothing is zero: T tokens with a context of L = 0.
        let (a, b) = (Owned::floats(DType::F32, &[1, 2, 0], &[]), Owned::floats(DType::F32, &[1, 0, 2], &[]));
        assert_eq!(bmm(&a, &b, false, &[1, 2, 2]), [0.0; 4]);
        let b = Owned::floats(DType::F32, &[1, 2, 0], &[]);
        assert_eq!(bmm(&a, &b, true, &[1, 2, 2]), [0.0; 4]);
    }
}
