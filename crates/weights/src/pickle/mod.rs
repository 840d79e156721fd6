//! PyTorch's files (`torch.save`): tensors in a pickle, read without running anything.
//!
//! A pickle is a program for a stack machine, and Python's own reader calls whatever function the program names. This
//! one knows the names that a file of tensors needs (`globals`), builds plain data of them, and refuses every other
//! name before anything happens. What such a file can do at worst is to be refused.
//!
//! Two containers hold the pickle and the bytes of the tensors: a zip archive whose entries are stored as they are
//! (`archive`, since PyTorch 1.6) and the older run of pickles with the storages behind (`legacy`).
//! `machine` is the stack machine, `value` the data it builds, `state_dict` finds the tensors in them.
//!
//! Sources: Python's `pickletools` for the opcodes, `torch/serialization.py` and `torch/_utils.py` for the rest.

mod archive;
mod globals;
mod legacy;
mod machine;
mod state_dict;
mod storage;
mod value;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use camelid_core::Bytes;

use crate::WeightsError;
use crate::error::{MAKE_AGAIN, shown};
use crate::map::map_file;
pub use globals::Element;

/// What a file that no reader knows is answered with.
const NO_TORCH_FILE: &str = "this is no file of torch.save: check what was downloaded";

/// A file of `torch.save` that holds a dictionary of tensors.
#[derive(Debug)]
pub struct TorchFile {
    path: Arc<Path>,
    file: File,
    bytes: Bytes,
    tensors: Vec<TorchTensor>,
}

/// One tensor of a [`TorchFile`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TorchTensor {
    /// Its key in the dictionary.
    pub name: String,
    /// The type of its elements.
    pub element: Element,
    /// Its sizes, outermost first.
    pub shape: Vec<usize>,
    /// For each size, how many elements lie between neighbours.
    stride: Vec<usize>,
    /// Where its first element is, in bytes from the start of the file.
    offset: u64,
}

impl TorchTensor {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes of one row: of all elements behind one index of the first dimension, as if contiguous.
    pub fn row_bytes(&self) -> usize {
        self.shape.iter().skip(1).product::<usize>() * self.element.bytes()
    }

    /// True if the elements lie one after the other, as `torch.Tensor.is_contiguous` has it.
    pub fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        for (size, stride) in self.shape.iter().zip(&self.stride).rev() {
            if *size != 1 && *stride != expected {
                return false;
            }
            expected *= size;
        }
        true
    }
}

impl TorchFile {
    /// Maps the file and reads its pickle. The bytes of the tensors are not touched.
    ///
    /// # Errors
    /// [`WeightsError::ForeignGlobal`] for a pickle that names what is not needed for tensors; other errors that name
    /// the file and what is wrong with it.
    pub fn open(path: impl AsRef<Path>) -> Result<TorchFile, WeightsError> {
        let path = path.as_ref();
        let bytes = map_file(path)?;
        let file = File::open(path).map_err(WeightsError::io(path, "open"))?;
        let tensors = parse(path, &bytes)?;
        Ok(TorchFile { path: Arc::from(path), file, bytes, tensors })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All tensors, in the order of the dictionary.
    pub fn tensors(&self) -> &[TorchTensor] {
        &self.tensors
    }

    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<&TorchTensor> {
        self.tensors.iter().find(|t| t.name == name)
    }

    /// Appends rows `from..from + rows` of a tensor to `out`, as if it were contiguous; a tensor without dimensions is
    /// one row. The bytes are read, not mapped, so that the pages of a large file do not stay in memory.
    ///
    /// # Errors
    /// If the rows are not there, or the file cannot be read any more.
    pub fn read_rows(
        &self,
        tensor: &TorchTensor,
        from: usize,
        rows: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), WeightsError> {
        let there = tensor.shape.first().copied().unwrap_or(1);
        if from.checked_add(rows).is_none_or(|end| end > there) {
            let found = format!("rows {from} to {from} + {rows} were asked for, but it has {there}");
            return Err(WeightsError::malformed(
                &self.path,
                format!("tensor {}", shown(&tensor.name)),
                found,
                MAKE_AGAIN,
            ));
        }
        let row = tensor.row_bytes();
        if tensor.is_contiguous() {
            let begin = out.len();
            out.resize(begin + rows * row, 0);
            let mut file = &self.file;
            let read = file
                .seek(SeekFrom::Start(tensor.offset + (from * row) as u64))
                .and_then(|_| file.read_exact(&mut out[begin..]));
            return read.map_err(WeightsError::io(&self.path, "read"));
        }
        let start = tensor.offset as usize + from * tensor.stride[0] * tensor.element.bytes();
        let mut shape = tensor.shape.clone();
        shape[0] = rows;
        gather(&self.bytes, start, &shape, &tensor.stride, tensor.element.bytes(), out);
        Ok(())
    }
}

/// Copies the elements of a strided tensor in row-major order. That they lie inside `bytes` was checked when the file
/// was opened.
fn gather(bytes: &[u8], at: usize, shape: &[usize], stride: &[usize], size: usize, out: &mut Vec<u8>) {
    match (shape, stride) {
        ([count, shape @ ..], [step, stride @ ..]) => {
            for i in 0..*count {
                gather(bytes, at + i * step * size, shape, stride, size, out);
            }
        }
        _ => out.extend_from_slice(bytes.get(at..at + size).unwrap_or_default()),
    }
}

/// The tensors of a file with these bytes.
fn parse(path: &Path, bytes: &[u8]) -> Result<Vec<TorchTensor>, WeightsError> {
    let parsed = if bytes.starts_with(archive::MAGIC) { archive::read(path, bytes) } else { legacy::read(path, bytes) };
    let (tensors, storages) = parsed?;
    tensors.into_iter().map(|(name, view)| storages.place(path, name, &view, bytes.len() as u64)).collect()
}
