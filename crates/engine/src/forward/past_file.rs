//! A past in a file: safetensors with the keys and values of every layer.
//!
//! | Tensor | Shape | Meaning |
//! |---|---|---|
//! | `mask` | u8 [B, P] | 1 where the row holds the column's token, 0 where it was masked |
//! | `layers.I.k`, `layers.I.v` | f32, f16 or bf16 [N, num_key_value_heads * head_dim] | a row for each 1 of the mask, in its order; keys are rotated |
//!
//! The metadata say `format` = `camelid-past`, `version` = `1`, and the model's fingerprint: another model's past is
//! refused. The file knows nothing of blocks, so a session with another cache takes it, and one with another `kv_dtype`
//! converts it. safetensors has no q8_0: rows of such a cache are written as the f32 they mean. The largest code of a block
//! is 127, so reading makes the same blocks of them again.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use camelid_core::{DType, quant};
use half::{bf16, f16};
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize_to_file};
use thiserror::Error;

use super::Past;
use super::past::PastRow;
use crate::error::EngineError;
use crate::session::Session;

const FORMAT: &str = "camelid-past";
const VERSION: &str = "1";

/// A file of a past that cannot be written or used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PastFileError {
    /// It cannot be read.
    #[error("{}: cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// It cannot be written.
    #[error("{}: the past cannot be written", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: safetensors::SafeTensorError,
    },
    /// It is no safetensors file, or a damaged one.
    #[error("{}: is not a whole safetensors file; save the past anew", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: safetensors::SafeTensorError,
    },
    /// It does not hold what it should.
    #[error("{}: {problem}", path.display())]
    Contents {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
}

impl Past {
    /// Writes the past to a file.
    ///
    /// # Errors
    /// [`PastFileError::Write`], and what the device says.
    pub fn save(&self, session: &Session, path: &Path) -> Result<(), EngineError> {
        let mut mask = vec![0u8; self.rows.len() * self.len];
        for (row, columns) in self.rows.iter().zip(mask.chunks_mut(self.len.max(1))) {
            row.columns.iter().for_each(|c| columns[*c] = 1);
        }
        let tokens: usize = self.rows.iter().map(|r| r.columns.len()).sum();
        let mut tensors = vec![("mask".to_owned(), Dtype::U8, vec![self.rows.len(), self.len], mask)];
        for plane in session.planes() {
            let mut bytes = Vec::with_capacity(tokens * plane.row_bytes);
            for row in &self.rows {
                bytes.extend(session.read_rows(row.sequence, plane)?);
            }
            let bytes = match plane.dtype.is_block() {
                true => dequantized(plane.dtype, &bytes, tokens * plane.width),
                false => little_endian(bytes, plane.dtype.block_bytes()),
            };
            tensors.push((tensor_name(&plane.name), stored(plane.dtype), vec![tokens, plane.width], bytes));
        }
        let failed = |source| PastFileError::Write { path: path.to_owned(), source };
        let views = tensors
            .iter()
            .map(|(name, dtype, shape, data)| Ok((name.as_str(), TensorView::new(*dtype, shape.clone(), data)?)))
            .collect::<Result<Vec<_>, _>>()
            .map_err(failed)?;
        let metadata = [("format", FORMAT), ("version", VERSION), ("model", session.model().fingerprint())];
        let metadata: HashMap<String, String> =
            metadata.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        Ok(serialize_to_file(views, Some(metadata), path).map_err(failed)?)
    }

    /// Reads a past that [`Past::save`] wrote into sequences of `session`, which may have another cache.
    ///
    /// # Errors
    /// [`PastFileError`] for a file that is damaged, of another model, or no past; [`EngineError::Cache`] if it does not
    /// fit in the session.
    pub fn load(session: &mut Session, path: &Path) -> Result<Past, EngineError> {
        let bytes = std::fs::read(path).map_err(|source| PastFileError::Read { path: path.to_owned(), source })?;
        let damaged = |source| PastFileError::Damaged { path: path.to_owned(), source };
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(damaged)?;
        let file = SafeTensors::deserialize(&bytes).map_err(damaged)?;
        let wrong = |problem: String| PastFileError::Contents { path: path.to_owned(), problem };
        let entry = |key: &str| header.metadata().as_ref().and_then(|m| m.get(key)).map_or("", String::as_str);
        if (entry("format"), entry("version")) != (FORMAT, VERSION) {
            let problem = format!("is no past of this version (format `{FORMAT}`, version {VERSION}); save it anew");
            return Err(wrong(problem).into());
        }
        if entry("model") != session.model().fingerprint() {
            let problem = format!(
                "the past is of another model than {}; use the model that it was saved with",
                session.model().path().display()
            );
            return Err(wrong(problem).into());
        }
        let rows = read_mask(&file).map_err(wrong)?;
        let tokens: usize = rows.columns.iter().map(Vec::len).sum();
        let mut planes = Vec::new();
        for plane in session.planes() {
            let name = tensor_name(&plane.name);
            let values = read_plane(&file, &name, [tokens, plane.width]).map_err(wrong)?;
            planes.push((converted(&values, plane.dtype), plane.row_bytes));
        }
        if file.len() != planes.len() + 1 {
            let problem = format!("has {} tensors, but a past of this model has {}", file.len(), planes.len() + 1);
            return Err(wrong(problem).into());
        }
        let mut past = Past { rows: Vec::new(), len: rows.len };
        let mut done = 0;
        for columns in rows.columns {
            let range = done..done + columns.len();
            done = range.end;
            let of_row: Vec<Vec<u8>> =
                planes.iter().map(|(b, size)| b[range.start * size..range.end * size].to_vec()).collect();
            match session.create_from_rows(columns.len(), &of_row) {
                Ok(sequence) => past.rows.push(PastRow { sequence, columns }),
                Err(error) => {
                    past.release(session)?;
                    return Err(error);
                }
            }
        }
        Ok(past)
    }

    /// How many rows, and columns, the past in a file has: what a session must have room for.
    ///
    /// # Errors
    /// As [`Past::load`].
    pub fn shape_of_file(path: &Path) -> Result<[usize; 2], PastFileError> {
        let bytes = std::fs::read(path).map_err(|source| PastFileError::Read { path: path.to_owned(), source })?;
        let damaged = |source| PastFileError::Damaged { path: path.to_owned(), source };
        let file = SafeTensors::deserialize(&bytes).map_err(damaged)?;
        let mask = read_mask(&file).map_err(|problem| PastFileError::Contents { path: path.to_owned(), problem })?;
        Ok([mask.columns.len(), mask.len])
    }
}

/// The name in the file of the state `cache.LAYER.PLANE`.
fn tensor_name(state: &str) -> String {
    format!("layers.{}", state.strip_prefix("cache.").unwrap_or(state))
}

struct Mask {
    columns: Vec<Vec<usize>>,
    len: usize,
}

fn read_mask(file: &SafeTensors<'_>) -> Result<Mask, String> {
    let mask = file.tensor("mask").map_err(|_| "there is no tensor `mask`: it is no past".to_owned())?;
    let (&[batch, len], Dtype::U8) = (mask.shape(), mask.dtype()) else {
        return Err(format!("`mask` is {:?} {:?}, but it must be U8 [B, P]", mask.dtype(), mask.shape()));
    };
    // A row of no columns has no bytes to limit how many there are.
    if batch == 0 || len == 0 {
        return Err(format!("`mask` has shape [{batch}, {len}]: the past is empty"));
    }
    if let Some(at) = mask.data().iter().position(|b| *b > 1) {
        return Err(format!("`mask`[{}, {}] is {}, but it must be 0 or 1", at / len, at % len, mask.data()[at]));
    }
    let columns = mask.data().chunks_exact(len).map(|row| (0..len).filter(|c| row[*c] == 1).collect()).collect();
    Ok(Mask { columns, len })
}

fn read_plane(file: &SafeTensors<'_>, name: &str, shape: [usize; 2]) -> Result<Vec<f32>, String> {
    let tensor = file.tensor(name).map_err(|_| format!("there is no tensor `{name}`"))?;
    if tensor.shape() != shape {
        return Err(format!("`{name}` has shape {:?}, but it must be {shape:?}", tensor.shape()));
    }
    let data = tensor.data();
    let values: Vec<f32> = match tensor.dtype() {
        Dtype::F32 => data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        Dtype::F16 => data.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
        Dtype::BF16 => data.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect(),
        other => return Err(format!("`{name}` is {other:?}, but it must be F32, F16 or BF16")),
    };
    match values.iter().position(|x| !x.is_finite()) {
        None => Ok(values),
        Some(at) => Err(format!("`{name}`[{}, {}] is {}, no finite number", at / shape[1], at % shape[1], values[at])),
    }
}

/// Blocks as the f32 that they mean, in the file's order of bytes.
fn dequantized(dtype: DType, blocks: &[u8], elements: usize) -> Vec<u8> {
    let mut values = vec![0.0; elements];
    quant::dequantize(dtype, blocks, &mut values).expect("a plane's type can be dequantized, and its rows are whole");
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// Bytes as the device has them, of one of the types of caches.
fn converted(values: &[f32], dtype: DType) -> Vec<u8> {
    match dtype {
        DType::Q8_0 => {
            let mut blocks = vec![0; dtype.row_bytes(values.len()).expect("a plane's rows are whole blocks")];
            quant::quantize(dtype, values, &mut blocks).expect("only finite numbers are read");
            blocks
        }
        DType::F16 => values.iter().flat_map(|x| f16::from_f32(*x).to_ne_bytes()).collect(),
        DType::BF16 => values.iter().flat_map(|x| bf16::from_f32(*x).to_ne_bytes()).collect(),
        _ => values.iter().flat_map(|x| x.to_ne_bytes()).collect(),
    }
}

fn stored(dtype: DType) -> Dtype {
    match dtype {
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        _ => Dtype::F32,
    }
}

fn little_endian(mut bytes: Vec<u8>, element: usize) -> Vec<u8> {
    if cfg!(target_endian = "big") {
        bytes.chunks_mut(element).for_each(<[u8]>::reverse);
    }
    bytes
}
