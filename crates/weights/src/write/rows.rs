//! A tensor as rows that are read in pieces, and its way into another type.

use std::path::{Path, PathBuf};

use camelid_core::quant::QuantError;
use camelid_core::{DType, quant};
use rayon::prelude::*;

use super::deviation::Deviation;
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

    /// Gives its bytes in the new type to `sink`, piece by piece; what they are off is added to `deviation` if that is asked
    /// for. Every core takes a share of a piece; the bytes and sums do not depend on how many there are.
    pub(crate) fn stream(
        &self,
        mut deviation: Option<&mut Deviation>,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), WeightsError>,
    ) -> Result<(), WeightsError> {
        let (from, rows) = (self.rows.dtype(), self.rows.rows());
        let elements: usize = self.shape().iter().product();
        // As f32 a row takes the most.
        let row_bytes = elements / rows.max(1) * 4;
        let step = self.rows.step().max(1);
        let together = (PIECE_BYTES / row_bytes.max(1)).max(1).next_multiple_of(step);
        let (mut stored, mut made) = (Vec::new(), Vec::new());
        for at in (0..rows).step_by(together) {
            stored.clear();
            self.rows.read(at, together.min(rows - at), &mut stored)?;
            if from == self.dtype && deviation.is_none() {
                sink(&stored)?;
                continue;
            }
            let wrong = |e: QuantError| {
                let what = format!("tensor {}", shown(&self.name));
                let found = format!("{e} (counted from row {at} on)");
                WeightsError::malformed(self.rows.file(), what, found, "choose another --dtype")
            };
            let count = stored.len() / from.block_bytes() * from.block_elems();
            made.resize(count / self.dtype.block_elems() * self.dtype.block_bytes(), 0);
            // Shares are whole blocks of both types.
            let from_bytes = |elements: usize| elements / from.block_elems() * from.block_bytes();
            let to_bytes = |elements: usize| elements / self.dtype.block_elems() * self.dtype.block_bytes();
            let shares = stored.par_chunks(from_bytes(SHARE)).zip(made.par_chunks_mut(to_bytes(SHARE)));
            let (to, measure) = (self.dtype, deviation.is_some());
            let results: Vec<_> = shares.map(|(stored, made)| convert(from, stored, to, made, measure)).collect();
            for (i, result) in results.into_iter().enumerate() {
                let off = result.map_err(|e| wrong(counted_from(e, i * SHARE)))?;
                if let Some(deviation) = deviation.as_deref_mut() {
                    deviation.add(off);
                }
            }
            sink(&made)?;
        }
        Ok(())
    }
}

/// Elements that one core converts at a time: a multiple of every block.
const SHARE: usize = 1 << 15;

/// Converts whole blocks; what the result is off if `measure`.
fn convert(from: DType, stored: &[u8], to: DType, made: &mut [u8], measure: bool) -> Result<Deviation, QuantError> {
    let mut source = vec![0.0; stored.len() / from.block_bytes() * from.block_elems()];
    quant::dequantize(from, stored, &mut source)?;
    if from == to {
        made.copy_from_slice(stored);
        return Ok(Deviation::none(&source));
    }
    quant::quantize(to, &source, made)?;
    if !measure {
        return Ok(Deviation::default());
    }
    let mut result = vec![0.0; source.len()];
    quant::dequantize(to, made, &mut result)?;
    Ok(Deviation::between(&source, &result))
}

/// The error of a share that begins at element `first`.
fn counted_from(error: QuantError, first: usize) -> QuantError {
    match error {
        QuantError::NotRepresentable { dtype, at, value } => {
            QuantError::NotRepresentable { dtype, at: first + at, value }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(count: usize) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * 0.37).sin() * (1.0 + (i % 91) as f32)).collect()
    }

    fn planned(values: Vec<f32>, dtype: DType) -> Planned<'static> {
        Planned { name: "x".into(), dtype, rows: Box::new(Made::new(Path::new("file"), values)) }
    }

    #[test]
    fn shares_make_the_bytes_and_the_error_of_the_whole() {
        // `Made` is a vector, whose rows are single elements: enough of them are several pieces and many shares.
        let values = values((PIECE_BYTES / 4) + 5 * SHARE + 512);
        for dtype in [DType::Q8_0, DType::Q4_K, DType::F16, DType::F32] {
            let (mut made, mut deviation) = (Vec::new(), Deviation::default());
            let mut sink = |piece: &[u8]| {
                made.extend_from_slice(piece);
                Ok(())
            };
            planned(values.clone(), dtype).stream(Some(&mut deviation), &mut sink).unwrap();
            let mut expected = vec![0; dtype.row_bytes(values.len()).unwrap()];
            quant::quantize(dtype, &values, &mut expected).unwrap();
            assert!(made == expected, "{dtype}");
            let mut back = vec![0.0; values.len()];
            quant::dequantize(dtype, &expected, &mut back).unwrap();
            let whole = Deviation::between(&values, &back);
            assert_eq!(deviation.elements, whole.elements, "{dtype}");
            assert!((deviation.rmse() - whole.rmse()).abs() <= 1e-12 * whole.rmse(), "{dtype}");
            assert!((deviation.source_rms() - whole.source_rms()).abs() <= 1e-12 * whole.source_rms());
            assert_eq!(deviation.rmse() == 0.0, dtype == DType::F32, "{dtype}");
        }
    }

    #[test]
    fn an_element_that_does_not_fit_is_counted_from_the_piece_on() {
        let mut values = values(3 * SHARE);
        values[2 * SHARE + 7] = f32::INFINITY;
        let error = planned(values, DType::Q8_0).stream(None, &mut |_| Ok(())).unwrap_err().to_string();
        assert!(error.contains(&format!("element {} is inf", 2 * SHARE + 7)), "{error}");
    }
}
