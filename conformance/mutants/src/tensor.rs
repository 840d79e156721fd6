//! [`Tensor`]: an operand or result as a fault sees it.

use camelid_core::{DType, quant};
use half::{bf16, f16};

/// Dense, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Element type.
    pub dtype: DType,
    /// Sizes, outermost first.
    pub dims: Vec<usize>,
    /// The elements as they are stored.
    pub bytes: Vec<u8>,
}

impl Tensor {
    /// Elements of the innermost dimension.
    pub fn columns(&self) -> usize {
        self.dims.last().copied().unwrap_or(1)
    }

    /// The product of all other dimensions.
    pub fn rows(&self) -> usize {
        self.dims.iter().rev().skip(1).product()
    }

    /// Bytes of the innermost dimension.
    pub fn row_bytes(&self) -> usize {
        self.dtype.row_bytes(self.columns()).unwrap_or(0)
    }

    /// All elements as f32: of block formats what they mean; of i32 nothing.
    pub fn floats(&self) -> Vec<f32> {
        let mut floats = vec![0.0; self.rows() * self.columns()];
        if self.dtype == DType::I32 || quant::dequantize(self.dtype, &self.bytes, &mut floats).is_err() {
            return Vec::new();
        }
        floats
    }

    /// Replaces all elements of a plain float type; of blocks that can be made, those in which a number changes.
    pub fn set(&mut self, floats: &[f32]) {
        if let Some(quantize) = quant::row_quantizer(self.dtype).filter(|_| self.dtype.is_block()) {
            let (elems, size, old) = (self.dtype.block_elems(), self.dtype.block_bytes(), self.floats());
            let numbers = floats.chunks(elems).zip(old.chunks(elems));
            for ((new, old), block) in numbers.zip(self.bytes.chunks_mut(size)) {
                if new.iter().zip(old).any(|(a, b)| a.to_bits() != b.to_bits()) {
                    quantize(new, block);
                }
            }
            return;
        }
        self.bytes = floats.iter().flat_map(|x| store(*x, self.dtype)).collect();
    }

    /// Changes every element.
    pub fn map(&mut self, change: impl Fn(usize, f32) -> f32) {
        let floats: Vec<f32> = self.floats().into_iter().enumerate().map(|(i, x)| change(i, x)).collect();
        self.set(&floats);
    }

    /// The same numbers as f32.
    pub fn widened(&self) -> Tensor {
        let mut wide = Tensor { dtype: DType::F32, dims: self.dims.clone(), bytes: Vec::new() };
        wide.set(&self.floats());
        wide
    }

    /// All elements of an i32.
    pub fn ints(&self) -> Vec<i32> {
        self.bytes.as_chunks::<4>().0.iter().map(|b| i32::from_le_bytes(*b)).collect()
    }

    /// Replaces all elements of an i32.
    pub fn set_ints(&mut self, ints: &[i32]) {
        self.bytes = ints.iter().flat_map(|i| i.to_le_bytes()).collect();
    }

    /// Changes every element of an i32.
    pub fn map_ints(&mut self, change: impl Fn(i32) -> i32) {
        let ints: Vec<i32> = self.ints().into_iter().map(change).collect();
        self.set_ints(&ints);
    }

    /// Makes a row zeros.
    pub fn clear_row(&mut self, row: usize) {
        let len = self.row_bytes();
        self.bytes[row * len..(row + 1) * len].fill(0);
    }
}

fn store(x: f32, dtype: DType) -> Vec<u8> {
    match dtype {
        DType::F16 => f16::from_f32(x).to_le_bytes().to_vec(),
        DType::BF16 => bf16::from_f32(x).to_le_bytes().to_vec(),
        _ => x.to_le_bytes().to_vec(),
    }
}
