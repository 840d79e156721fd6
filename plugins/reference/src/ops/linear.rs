//! `linear(x [.., K] float, w [N, K] any, b [N] float?) -> [.., N]`: `y[t, n] = sum_k x[t, k] * w[n, k] + b[n]`
//!
//! Nearly all the time goes here. A weight row is read from its file's format once and meets every row of x while it
//! is at hand; whatever the number of rows, each result is one `dot`.

use ndarray::parallel::prelude::*;
use ndarray::{Array2, ArrayView1, ArrayView2, ArrayViewMut2, Axis};

use crate::dot::dot;
use crate::tensor::Tensor;

/// Weight rows that are taken together: few enough to stay in the processor's cache beside a row of x.
const TILE: usize = 16;

pub(super) fn linear(
    x: ArrayView2<'_, f32>,         // [T, K]
    w: &Tensor<'_>,                 // [N, K]
    b: Option<ArrayView1<'_, f32>>, // [N]
    mut y: ArrayViewMut2<'_, f32>,  // [T, N]
) {
    if y.is_empty() {
        return; // without rows of x there is no need to read the weights
    }
    let tiles = y.axis_chunks_iter_mut(Axis(1), TILE).into_par_iter().enumerate(); // [T, TILE] each
    tiles.for_each_init(
        || Array2::zeros((TILE, x.ncols())), // [TILE, K]
        |weights, (tile, mut y)| {
            let first = tile * TILE;
            for (i, mut row) in weights.outer_iter_mut().take(y.ncols()).enumerate() {
                w.read_row(first + i, row.as_slice_mut().expect("rows are dense"));
            }
            for (x, mut y) in x.outer_iter().zip(y.outer_iter_mut()) {
                let x = x.to_slice().expect("rows are dense"); // [K]
                for (i, (w, y)) in weights.outer_iter().zip(&mut y).enumerate() {
                    let bias = b.map_or(0.0, |b| f64::from(b[first + i]));
                    *y = (dot(x, w.to_slice().expect("rows are dense")) + bias) as f32;
                }
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::super::compute;
    use crate::tensor::Tensor;
    use crate::tensor::testing::{Owned, noise};
    use camelid_core::ops::Op;
    use camelid_core::{DType, quant};

    fn linear(operands: &[Tensor<'_>], n: usize) -> Vec<f32> {
        let mut dims = operands[0].dims.clone();
        *dims.last_mut().unwrap() = n;
        let dtype = operands[0].dtype;
        let y = compute(&Op::Linear, operands, dtype, &dims).unwrap();
        Tensor { dtype, dims, bytes: y.bytes() }.vector().to_vec()
    }

    #[test]
    fn rows_of_x_meet_rows_of_w() {
        let x = Owned::floats(DType::F32, &[2, 3], &[1.0, 2.0, 3.0, 0.5, 0.0, -1.0]);
        let w = Owned::floats(DType::F32, &[2, 3], &[1.0, 0.0, -1.0, 2.0, 4.0, 8.0]);
        let b = Owned::floats(DType::F32, &[2], &[100.0, 0.25]);
        assert_eq!(linear(&[x.view(), w.view()], 2), [-2.0, 34.0, 1.5, -7.0]);
        assert_eq!(linear(&[x.view(), w.view(), b.view()], 2), [98.0, 34.25, 101.5, -6.75]);
    }

    #[test]
    fn every_weight_type_means_the_numbers_it_dequantizes_to() {
        for dtype in DType::ALL.iter().copied().filter(|d| d.is_float()) {
            let (n, k) = (19, 256); // 19: one whole tile and a piece of the next
            // Small bytes: scales that are small numbers, and no NaN.
            let bytes: Vec<u8> = (0..n * dtype.row_bytes(k).unwrap()).map(|i| (i * 31 % 59) as u8).collect();
            let w = Tensor { dtype, dims: vec![n, k], bytes: &bytes };
            let mut plain = vec![0.0; n * k];
            quant::dequantize(dtype, &bytes, &mut plain).unwrap();
            let x = Owned::floats(DType::F32, &[3, k], &noise(2, 3 * k));
            let xs = x.view().matrix().into_owned();
            let y = linear(&[x.view(), w], n);
            for (i, y) in y.into_iter().enumerate() {
                let (t, row) = (i / n, i % n);
                let products = (0..k).map(|j| f64::from(xs[[t, j]]) * f64::from(plain[row * k + j]));
                let (sum, size) = products.fold((0.0, 0.0), |(sum, size), p| (sum + p, size + p.abs()));
                assert!((f64::from(y) - sum).abs() <= 1e-7 * size, "{dtype} [{t}, {row}]: {y} is not {sum}");
            }
        }
    }

    #[test]
    fn a_row_does_not_depend_on_the_rows_beside_it() {
        let (n, k) = (37, 88);
        let w = Owned::floats(DType::F16, &[n, k], &noise(3, n * k));
        let values = noise(4, 5 * k);
        let all = Owned::floats(DType::F32, &[5, k], &values);
        let together = linear(&[all.view(), w.view()], n);
        for t in 0..5 {
            let one = Owned::floats(DType::F32, &[1, k], &values[t * k..(t + 1) * k]);
            assert_eq!(linear(&[one.view(), w.view()], n), together[t * n..(t + 1) * n]);
        }
    }

    #[test]
    fn half_activations_are_computed_in_full_and_rounded_once() {
        let x = Owned::floats(DType::BF16, &[1, 2], &[1.0, 1.0 / 128.0]);
        let w = Owned::floats(DType::F32, &[1, 2], &[1.0, 1.0 / 128.0]);
        // 1 + 2^-14 is far from the middle of two bf16; with b it is just past the middle.
        let b = Owned::floats(DType::F32, &[1], &[1.0 / 256.0]);
        assert_eq!(linear(&[x.view(), w.view()], 1), [1.0]);
        assert_eq!(linear(&[x.view(), w.view(), b.view()], 1), [1.0 + 1.0 / 128.0]);
    }

    #[test]
    fn dimensions_may_be_empty() {
        let w = Owned::floats(DType::F32, &[2, 3], &[1.0; 6]);
        let x = Owned::floats(DType::F32, &[0, 3], &[]);
        assert!(linear(&[x.view(), w.view()], 2).is_empty());
        let w = Owned::floats(DType::F32, &[0, 3], &[]);
        let x = Owned::floats(DType::F32, &[2, 3], &[1.0; 6]);
        assert!(linear(&[x.view(), w.view()], 0).is_empty());
        let (x, w) = (Owned::floats(DType::F32, &[2, 0], &[]), Owned::floats(DType::F32, &[1, 0], &[]));
        let b = Owned::floats(DType::F32, &[1], &[5.0]);
        assert_eq!(linear(&[x.view(), w.view(), b.view()], 1), [5.0, 5.0]);
    }
}
