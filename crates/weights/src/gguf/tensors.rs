//! The table of tensors of a GGUF file.

use std::path::Path;

use camelid_core::DType;

use super::cursor::Cursor;
use super::{GgufFile, ggml_type, supported_types};
use crate::WeightsError;
use crate::error::{MAKE_AGAIN, quoted, shown};

/// A tensor as a GGUF file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GgufTensor {
    /// The name in the file.
    pub name: String,
    /// The type of its elements.
    pub dtype: DType,
    /// Row-major, outermost first: the reverse of the order in the file.
    pub shape: Vec<usize>,
    /// Where its bytes begin, counted from the start of the file.
    pub offset: u64,
    /// How many bytes it takes.
    pub byte_len: usize,
}

/// ggml's limit (`GGML_MAX_DIMS`).
const MAX_DIMS: u32 = 4;
/// `general.alignment` of a file that does not say.
const DEFAULT_ALIGNMENT: u32 = 32;
/// The smallest entry of the table: the length of an empty name, one dimension, type and offset.
const MIN_ENTRY_BYTES: u64 = 8 + 4 + 8 + 4 + 8;

/// Room made before the first entry is read: more than any Llama has, less than a wrong count could ask for.
const RESERVED: u64 = 4096;

pub(super) fn parse(file: &GgufFile) -> Result<Vec<GgufTensor>, WeightsError> {
    let path = file.path();
    let alignment = u64::from(alignment(file)?);
    let mut cursor = Cursor::at(path, &file.bytes, file.table);
    cursor.check_count(file.tensor_count, MIN_ENTRY_BYTES, "tensors")?;
    let mut tensors = Vec::with_capacity(file.tensor_count.min(RESERVED) as usize);
    for i in 0..file.tensor_count {
        tensors.push(entry(&mut cursor, i, alignment)?);
    }
    // Offsets in the table count from here.
    let data = (cursor.position() as u64).next_multiple_of(alignment);
    for tensor in &mut tensors {
        place(path, tensor, data, file.bytes.len() as u64)?;
    }
    check_names(path, &tensors)?;
    check_overlaps(path, &tensors)?;
    Ok(tensors)
}

fn alignment(file: &GgufFile) -> Result<u32, WeightsError> {
    let alignment = file.metadata.u32("general.alignment")?.unwrap_or(DEFAULT_ALIGNMENT);
    if !alignment.is_power_of_two() {
        let found = format!("{alignment} is no power of two");
        return Err(WeightsError::malformed(file.path(), "general.alignment", found, MAKE_AGAIN));
    }
    Ok(alignment)
}

/// One entry; its offset still counts from the start of the data.
fn entry(cursor: &mut Cursor<'_>, i: u64, alignment: u64) -> Result<GgufTensor, WeightsError> {
    let path = cursor.path();
    let name = cursor.string(|| format!("the name of tensor {i}"))?;
    let Ok(name) = std::str::from_utf8(name) else {
        let what = format!("the name of tensor {i}");
        return Err(WeightsError::NotUtf8 { path: path.to_owned(), what, bytes: quoted(name) });
    };
    let what = || format!("tensor {}", shown(name));
    let malformed = |found: String| WeightsError::malformed(path, what(), found, MAKE_AGAIN);

    let rank = cursor.u32(|| format!("the number of dimensions of {}", what()))?;
    if rank == 0 || rank > MAX_DIMS {
        return Err(malformed(format!("it has {rank} dimensions, where 1 to {MAX_DIMS} are possible")));
    }
    let mut shape = Vec::with_capacity(rank as usize);
    for _ in 0..rank {
        let size = cursor.u64(|| format!("the dimensions of {}", what()))?;
        match usize::try_from(size) {
            Ok(size) if size > 0 => shape.push(size),
            _ => return Err(malformed(format!("one of its dimensions is {size}"))),
        }
    }
    shape.reverse();
    let id = cursor.u32(|| format!("the type of {}", what()))?;
    let offset = cursor.u64(|| format!("the offset of {}", what()))?;

    let dtype = ggml_type::from_id(id).map_err(|found| WeightsError::UnsupportedTensorType {
        path: path.to_owned(),
        tensor: shown(name),
        found,
        supported: supported_types(),
        remedy: "get the model in one of those types (a q4_k_m or q8_0 file, say), or quantize it again to one".into(),
    })?;
    let columns = *shape.last().unwrap_or(&0);
    if !columns.is_multiple_of(dtype.block_elems()) {
        let block = dtype.block_elems();
        return Err(malformed(format!(
            "its rows of {columns} elements are no whole number of {dtype} blocks of {block}"
        )));
    }
    let rows = shape[..shape.len() - 1].iter().try_fold(1usize, |n, d| n.checked_mul(*d));
    let byte_len = rows.zip(dtype.row_bytes(columns)).and_then(|(rows, row)| rows.checked_mul(row));
    let Some(byte_len) = byte_len else {
        return Err(malformed(format!("its shape {shape:?} takes more bytes than can be counted")));
    };
    if !offset.is_multiple_of(alignment) {
        return Err(malformed(format!("its offset {offset} is no multiple of general.alignment, {alignment}")));
    }
    Ok(GgufTensor { name: name.to_owned(), dtype, shape, offset, byte_len })
}

/// Makes the offset count from the start of the file and checks that the tensor lies inside it.
fn place(path: &Path, tensor: &mut GgufTensor, data: u64, file_len: u64) -> Result<(), WeightsError> {
    let start = data.saturating_add(tensor.offset);
    let end = start.saturating_add(tensor.byte_len as u64);
    if end > file_len {
        return Err(WeightsError::OutOfFile {
            path: path.to_owned(),
            tensor: shown(&tensor.name),
            start,
            end,
            file_len,
        });
    }
    tensor.offset = start;
    Ok(())
}

fn check_names(path: &Path, tensors: &[GgufTensor]) -> Result<(), WeightsError> {
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    order.sort_unstable_by_key(|i| (&tensors[*i].name, *i));
    match order.windows(2).find(|pair| tensors[pair[0]].name == tensors[pair[1]].name) {
        None => Ok(()),
        Some(pair) => Err(WeightsError::Duplicate {
            path: path.to_owned(),
            what: format!("tensor {}", shown(&tensors[pair[0]].name)),
            first: format!("as entry {}", pair[0]),
            second: format!("as entry {}", pair[1]),
        }),
    }
}

fn check_overlaps(path: &Path, tensors: &[GgufTensor]) -> Result<(), WeightsError> {
    let mut order: Vec<&GgufTensor> = tensors.iter().collect();
    order.sort_unstable_by_key(|t| t.offset);
    for pair in order.windows(2) {
        let first_end = pair[0].offset + pair[0].byte_len as u64;
        if first_end > pair[1].offset {
            return Err(WeightsError::Overlap {
                path: path.to_owned(),
                first: shown(&pair[0].name),
                first_end,
                second: shown(&pair[1].name),
                second_start: pair[1].offset,
            });
        }
    }
    Ok(())
}
