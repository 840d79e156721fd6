//! A tensor as rows that are read in pieces, and its way into another type.

use std::path::{Path, PathBuf};

use camelid_core::{DType, quant};

use crate::error::shown;
use crate::gguf::permute::HeadPermutation;
use crate::{TensorInfo, WeightsError};

/// Bytes of a piece, about.
const PIECE_BYTES: usize = 4 << 20;

/// A tensor that is read in pieces of whole rows.
pub(crate) trait Rows {
    /// The file it comes from, for messages.
    fn file(&self) -> &Path;

    /// The type of the bytes that are read.
    fn dtype(&self) -> DType;

    /// Its sizes, outermost first.
    fn shape(&self) -> &[usize];

    /// How many rows it has.
    fn rows(&self) -> usize {
        matrix(self.shape()).0
    }

    /// Reads begin at a multiple of this many rows and are of such a multiple.
    fn step(&self) -> usize {
        1
    }

    /// Appends rows `from..from + rows` to `out`.
    fn read(&self, from: usize, rows: usize, out: &mut Vec<u8>) -> Result<(), WeightsError>;
}

/// A tensor of any rank as a matrix: rows and columns. A vector is one column, so that its elements can be reordered.
fn matrix(shape: &[usize]) -> (usize, usize) {
    match shape {
        [] => (1, 1),
        [rows, rest @ ..] => (*rows, rest.iter().product()),
    }
}

/// A tensor of a checkpoint, in Hugging Face's order of rows.
pub(crate) struct Stored<'a> {
    tensor: &'a TensorInfo,
    /// Whole, if its blocks go across what would be its rows: a vector of blocks.
    whole: bool,
}

impl<'a> Stored<'a> {
    pub(crate) fn new(tensor: &'a TensorInfo) -> Stored<'a> {
        let (_, columns) = matrix(&tensor.shape);
        Stored { tensor, whole: !columns.is_multiple_of(tensor.dtype.block_elems()) }
    }
}

impl Rows for Stored<'_> {
    fn file(&self) -> &Path {
        &self.tensor.file
    }

    fn dtype(&self) -> DType {
        self.tensor.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.tensor.shape
    }

    fn rows(&self) -> usize {
        if self.whole { 1 } else { matrix(self.shape()).0 }
    }

    fn step(&self) -> usize {
        self.tensor.order().map_or(1, HeadPermutation::head_rows)
    }

    fn read(&self, from: usize, rows: usize, out: &mut Vec<u8>) -> Result<(), WeightsError> {
        // A tensor is as long as its rows are, which the reader checked.
        let row = self.tensor.byte_len() as usize / self.rows().max(1);
        let begin = out.len();
        self.tensor.read_stored(from * row, rows * row, out)?;
        if let Some(order) = self.tensor.order() {
            reorder(order.head_rows(), rows, out, begin, HeadPermutation::restore);
        }
        Ok(())
    }
}

/// Another tensor with the rows of each head in the order of GGUF and Meta.
pub(crate) struct Permuted<'a> {
    pub(crate) inner: Box<dyn Rows + 'a>,
    /// Rows of one head.
    pub(crate) head_rows: usize,
}

impl Rows for Permuted<'_> {
    fn file(&self) -> &Path {
        self.inner.file()
    }

    fn dtype(&self) -> DType {
        self.inner.dtype()
    }

    fn shape(&self) -> &[usize] {
        self.inner.shape()
    }

    fn step(&self) -> usize {
        self.head_rows
    }

    fn read(&self, from: usize, rows: usize, out: &mut Vec<u8>) -> Result<(), WeightsError> {
        let begin = out.len();
        self.inner.read(from, rows, out)?;
        reorder(self.head_rows, rows, out, begin, HeadPermutation::apply);
        Ok(())
    }
}

/// Reorders `rows` rows, which begin at `begin` of `out` and are those of whole heads.
pub(crate) fn reorder(
    head_rows: usize,
    rows: usize,
    out: &mut Vec<u8>,
    begin: usize,
    how: fn(&HeadPermutation, &[u8]) -> Vec<u8>,
) {
    if let Some(order) = HeadPermutation::new(rows, rows / head_rows, out.len() - begin) {
        let ordered = how(&order, &out[begin..]);
        out.truncate(begin);
        out.extend_from_slice(&ordered);
    }
}

/// Values that are made, not read: `f32 [n]`.
pub(crate) struct Made {
    /// The file whose config they follow from.
    file: PathBuf,
    shape: Vec<usize>,
    values: Vec<f32>,
}

impl Made {
    pub(crate) fn new(file: &Path, values: Vec<f32>) -> Made {
        Made { file: file.to_owned(), shape: vec![values.len()], values }
    }
}

impl Rows for Made {
    fn file(&self) -> &Path {
        &self.file
    }

    fn dtype(&self) -> DType {
        DType::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn read(&self, from: usize, rows: usize, out: &mut Vec<u8>) -> Result<(), WeightsError> {
        out.extend(self.values[from..from + rows].iter().flat_map(|v| v.to_le_bytes()));
        Ok(())
    }
}

/// A tensor that will be written.
pub(crate) struct Planned<'a> {
    /// Its name in the new file.
    pub(crate) name: String,
    /// The type it gets.
    pub(crate) dtype: DType,
    pub(crate) rows: Box<dyn Rows + 'a>,
}

impl Planned<'_> {
    pub(crate) fn shape(&self) -> &[usize] {
        self.rows.shape()
    }

    /// Bytes it will take; `None` if its rows are no whole blocks of the type, or that cannot be counted.
    pub(crate) fn byte_len(&self) -> Option<u64> {
        let elements = self.shape().iter().try_fold(1usize, |n, d| n.checked_mul(*d))?;
        let columns = *self.shape().last().unwrap_or(&1);
        self.dtype.row_bytes(columns)?;
        self.dtype.row_bytes(elements).map(|n| n as u64)
    }

    /// Gives its bytes in the new type to `sink`, piece by piece.
    pub(crate) fn stream(&self, sink: &mut dyn FnMut(&[u8]) -> Result<(), WeightsError>) -> Result<(), WeightsError> {
        let (from, rows) = (self.rows.dtype(), self.rows.rows());
        let elements: usize = self.shape().iter().product();
        // As f32 a row takes the most.
        let row_bytes = elements / rows.max(1) * 4;
        let step = self.rows.step().max(1);
        let together = (PIECE_BYTES / row_bytes.max(1)).max(1).next_multiple_of(step);
        let (mut stored, mut floats, mut made) = (Vec::new(), Vec::new(), Vec::new());
        for at in (0..rows).step_by(together) {
            stored.clear();
            self.rows.read(at, together.min(rows - at), &mut stored)?;
            if from == self.dtype {
                sink(&stored)?;
                continue;
            }
            let wrong = |e: quant::QuantError| {
                let what = format!("tensor {}", shown(&self.name));
                let found = format!("{e} (counted from row {at} on)");
                WeightsError::malformed(self.rows.file(), what, found, "choose another --dtype")
            };
            floats.resize(stored.len() / from.block_bytes() * from.block_elems(), 0.0);
            quant::dequantize(from, &stored, &mut floats).map_err(wrong)?;
            made.resize(floats.len() / self.dtype.block_elems() * self.dtype.block_bytes(), 0);
            quant::quantize(self.dtype, &floats, &mut made).map_err(wrong)?;
            sink(&made)?;
        }
        Ok(())
    }
}
