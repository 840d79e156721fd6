//! What a kernel gets: a value's type, its sizes at this step, and its bytes.

use std::borrow::Cow;

use camelid_core::DType;
use camelid_core::quant;
use half::{bf16, f16};
use ndarray::{CowArray, Dimension, Ix1, Ix2, Ix3};

/// An operand of a step: dense, row-major.
#[derive(Clone, Debug)]
pub(crate) struct Tensor<'a> {
    pub dtype: DType,
    pub dims: Vec<usize>,
    /// At any alignment: a weight lies as it lies in its file.
    pub bytes: &'a [u8],
}

impl<'a> Tensor<'a> {
    /// Elements of the innermost dimension.
    pub(crate) fn row_len(&self) -> usize {
        self.dims.last().copied().unwrap_or(1)
    }

    /// Bytes of the innermost dimension.
    pub(crate) fn row_bytes(&self) -> usize {
        self.dtype.row_bytes(self.row_len()).expect("the graph's types have whole rows")
    }

    /// The product of all dimensions but the innermost.
    pub(crate) fn rows(&self) -> usize {
        self.dims.iter().rev().skip(1).product()
    }

    /// Row `i` as f32, exactly: dequantized if the type has blocks.
    pub(crate) fn read_row(&self, i: usize, out: &mut [f32]) {
        let len = self.row_bytes();
        widen(self.dtype, &self.bytes[i * len..(i + 1) * len], out);
    }

    /// The elements as f32 in a vector: `[..] -> [n]`.
    pub(crate) fn vector(&self) -> CowArray<'a, f32, Ix1> {
        let n = self.rows() * self.row_len();
        self.floats([n])
    }

    /// The elements as f32, all rows in a matrix: `[.., D] -> [rows, D]`.
    pub(crate) fn matrix(&self) -> CowArray<'a, f32, Ix2> {
        self.floats([self.rows(), self.row_len()])
    }

    /// The elements as f32, all matrices in a row: `[.., M, N] -> [batch, M, N]`.
    pub(crate) fn matrices(&self) -> CowArray<'a, f32, Ix3> {
        let [batch @ .., m, n] = &self.dims[..] else { unreachable!("the graph gives bmm operands of rank 3 and 4") };
        self.floats([batch.iter().product(), *m, *n])
    }

    /// The elements as i32 in a vector: `[..] -> [n]`.
    pub(crate) fn indices(&self) -> Cow<'a, [i32]> {
        assert_eq!(self.dtype, DType::I32, "the graph gives i32 where indices are needed");
        match bytemuck::try_cast_slice(self.bytes) {
            Ok(aligned) if cfg!(target_endian = "little") => Cow::Borrowed(aligned),
            _ => Cow::Owned(self.bytes.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b)).collect()),
        }
    }

    /// Borrowed if the bytes are f32s where f32s may lie, and otherwise a copy.
    fn floats<D: Dimension, S: Into<ndarray::StrideShape<D>> + Copy>(&self, shape: S) -> CowArray<'a, f32, D> {
        const FITS: &str = "the bytes are those of the dimensions";
        if self.dtype == DType::F32
            && cfg!(target_endian = "little")
            && let Ok(aligned) = bytemuck::try_cast_slice(self.bytes)
        {
            return ndarray::ArrayView::from_shape(shape, aligned).expect(FITS).into();
        }
        let mut copy = vec![0.0; self.rows() * self.row_len()];
        widen(self.dtype, self.bytes, &mut copy);
        ndarray::Array::from_shape_vec(shape, copy).expect(FITS).into()
    }
}

/// Whole rows as f32, exactly.
pub(crate) fn widen(dtype: DType, bytes: &[u8], out: &mut [f32]) {
    quant::dequantize(dtype, bytes, out).expect("the claims admit only types that can be dequantized, in whole rows");
}

/// f32s stored as f32, f16 or bf16, rounded to nearest even, or as whole blocks of q8_0.
pub(crate) fn store(values: &[f32], dtype: DType, out: &mut [u8]) {
    match dtype {
        DType::F32 => store_with(values, out, f32::to_le_bytes),
        DType::F16 => store_with(values, out, |v| f16::from_f32(v).to_le_bytes()),
        DType::BF16 => store_with(values, out, |v| bf16::from_f32(v).to_le_bytes()),
        DType::Q8_0 => quant::row_quantizer(dtype).expect("q8_0 can be made")(values, out),
        other => unreachable!("no operation has {other} results that are computed"),
    }
}

fn store_with<const N: usize>(values: &[f32], out: &mut [u8], to_bytes: impl Fn(f32) -> [u8; N]) {
    for (value, out) in values.iter().zip(out.as_chunks_mut().0) {
        *out = to_bytes(*value);
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// A tensor that owns its bytes, to write tests with.
    pub(crate) struct Owned {
        pub dtype: DType,
        pub dims: Vec<usize>,
        pub bytes: Vec<u8>,
    }

    impl Owned {
        pub(crate) fn floats(dtype: DType, dims: &[usize], values: &[f32]) -> Owned {
            let mut bytes = vec![0; dtype.row_bytes(values.len()).unwrap()];
            store(values, dtype, &mut bytes);
            Owned { dtype, dims: dims.to_vec(), bytes }
        }

        pub(crate) fn view(&self) -> Tensor<'_> {
            Tensor { dtype: self.dtype, dims: self.dims.clone(), bytes: &self.bytes }
        }
    }

    /// A tensor of indices.
    pub(crate) fn indices(dims: &[usize], values: &[i32]) -> Owned {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Owned { dtype: DType::I32, dims: dims.to_vec(), bytes }
    }

    /// `n` numbers in -1..1 that look random and are the same in every run.
    pub(crate) fn noise(seed: u64, n: usize) -> Vec<f32> {
        let mut state = seed;
        (0..n)
            .map(|_| {
                // Knuth's multiplicative generator (MMIX); the upper bits are the good ones.
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 40) as f32 / (1 << 23) as f32 - 1.0
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{Owned, noise};
    use super::*;

    #[test]
    fn bytes_are_read_at_any_alignment() {
        let values = noise(1, 6);
        for start in 0..4 {
            // Of four starts three are unaligned, wherever the vector begins.
            let mut bytes = vec![0; start];
            bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
            let t = Tensor { dtype: DType::F32, dims: vec![2, 3], bytes: &bytes[start..] };
            assert_eq!(t.vector().to_vec(), values);
            assert_eq!(t.matrix().row(1).to_vec(), values[3..]);
        }
    }

    #[test]
    fn indices_are_read_at_any_alignment() {
        for start in 0..4 {
            let mut bytes = vec![0; start];
            bytes.extend([-1i32, 7, i32::MAX].iter().flat_map(|v| v.to_le_bytes()));
            let t = Tensor { dtype: DType::I32, dims: vec![3], bytes: &bytes[start..] };
            assert_eq!(*t.indices(), [-1, 7, i32::MAX]);
        }
    }

    #[test]
    fn shapes_are_flattened_from_the_outside() {
        let t = Owned::floats(DType::F16, &[2, 2, 3], &[0., 1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11.]);
        let t = t.view();
        assert_eq!(t.matrix().dim(), (4, 3));
        assert_eq!(t.matrices()[[1, 0, 2]], 8.0);
        let mut row = [0.0; 3];
        t.read_row(2, &mut row);
        assert_eq!(row, [6.0, 7.0, 8.0]);
        let scalar = Owned::floats(DType::F32, &[], &[5.0]);
        assert_eq!(scalar.view().matrix().dim(), (1, 1));
    }

    #[test]
    fn empty_tensors_have_empty_views() {
        for dims in [vec![0, 3], vec![3, 0], vec![0]] {
            let t = Owned::floats(DType::F32, &dims, &[]);
            assert!(t.view().vector().is_empty());
            assert!(t.view().matrix().is_empty());
        }
    }
}
