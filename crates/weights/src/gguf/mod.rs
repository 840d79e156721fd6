//! GGUF, ggml's format: metadata and tensors in one file.
//!
//! Versions 2 and 3, little-endian, as the GGUF specification (ggml, docs/gguf.md) lays them out:
//! ```text
//! "GGUF"  version u32  tensor_count u64  metadata_count u64
//! metadata_count x { key string  type u32  value }              string = length u64, bytes
//! tensor_count   x { name string  n_dims u32  dims u64[n_dims], innermost first  type u32  offset u64 }
//! padding to general.alignment, then the bytes of the tensors at their offsets
//! ```
//! [`GgufFile`] is the file as it is; `config`, `names` and [`permute`] turn it into Hugging Face's view of the same
//! model.

mod config;
mod cursor;
pub(crate) mod ggml_type;
pub mod metadata;
pub(crate) mod names;
pub mod permute;
mod tensors;
mod value;
mod vocab;

use std::path::Path;
use std::sync::{Arc, OnceLock};

use camelid_core::{Bytes, DType};
use tracing::debug;

use crate::checkpoint::{Format, Parts, TokenizerSource};
use crate::error::{MAKE_AGAIN, quoted, shown};
use crate::map::map_file;
use crate::tensor::{Data, TensorInfo};
use crate::{WeightsError, names as hugging_face};
use cursor::Cursor;
use metadata::Metadata;
use permute::HeadPermutation;
pub use tensors::GgufTensor;
pub use vocab::GgufVocab;

/// The bytes that every GGUF file begins with.
pub(crate) const MAGIC: [u8; 4] = *b"GGUF";

/// A GGUF file: its metadata, and its tensors in its own naming and order.
///
/// Of use on its own for files that are no model, such as a vocabulary without weights.
#[derive(Clone, Debug)]
pub struct GgufFile {
    bytes: Bytes,
    version: u32,
    metadata: Metadata,
    tensor_count: u64,
    /// Where the table of tensors begins.
    table: usize,
}

impl GgufFile {
    /// Maps the file and reads its header and metadata.
    ///
    /// # Errors
    /// If it is no GGUF file, of version 1, big-endian, truncated, or its metadata are malformed.
    pub fn open(path: impl AsRef<Path>) -> Result<GgufFile, WeightsError> {
        let path = path.as_ref();
        GgufFile::parse(path, map_file(path)?)
    }

    fn parse(path: &Path, bytes: Bytes) -> Result<GgufFile, WeightsError> {
        let mut cursor = Cursor::new(path, &bytes);
        let magic = cursor.take(4, || "the magic number".into())?;
        if magic != MAGIC {
            return Err(WeightsError::malformed(
                path,
                "the magic number",
                format!("{} instead of \"GGUF\"", quoted(magic)),
                "this is no GGUF file: check what was downloaded",
            ));
        }
        let version = cursor.u32(|| "the version".into())?;
        check_version(path, version)?;
        let tensor_count = cursor.u64(|| "the number of tensors".into())?;
        let metadata_count = cursor.u64(|| "the number of metadata entries".into())?;
        let metadata = Metadata::parse(&mut cursor, &bytes, metadata_count)?;
        let table = cursor.position();
        Ok(GgufFile { version, metadata, tensor_count, table, bytes })
    }

    /// The version of the format: 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// All metadata.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The vocabulary, or `None` if the file has none.
    ///
    /// # Errors
    /// If the metadata are of the wrong type, their lengths disagree, or a token is not UTF-8.
    pub fn vocab(&self) -> Result<Option<GgufVocab>, WeightsError> {
        vocab::read(&self.metadata)
    }

    /// The tensors in the order of the file's table, each checked to lie inside the file and to overlap no other.
    ///
    /// # Errors
    /// If the table is malformed, or a tensor is of a type that cannot be computed with.
    pub fn tensors(&self) -> Result<Vec<GgufTensor>, WeightsError> {
        tensors::parse(self)
    }

    fn path(&self) -> &Arc<Path> {
        self.metadata.path()
    }
}

fn check_version(path: &Path, version: u32) -> Result<(), WeightsError> {
    let unsupported = |found: String, remedy: &str| {
        Err(WeightsError::Unsupported {
            path: path.to_owned(),
            what: "the version of the format".into(),
            found,
            remedy: remedy.into(),
        })
    };
    match version {
        2 | 3 => Ok(()),
        1 => unsupported(
            "GGUF v1".into(),
            "it was replaced in 2023: convert the original model again with a current converter",
        ),
        // The version of a big-endian file reads as 2 or 3 from the other end.
        _ if matches!(version.swap_bytes(), 1..=3) => unsupported(
            "a big-endian file".into(),
            "Camelid reads little-endian GGUF: convert the original model again without --bigendian",
        ),
        _ => {
            unsupported(format!("GGUF v{version}"), "versions 2 and 3 are read: convert the model again to one of them")
        }
    }
}

/// Reads a GGUF file as a checkpoint.
pub(crate) fn load(path: &Path) -> Result<Parts, WeightsError> {
    let file = GgufFile::open(path)?;
    // Before the tensors: "this is another architecture" says more than "this tensor's type is unknown".
    config::check_kind(file.metadata())?;
    let stored = file.tensors()?;
    if stored.is_empty() {
        return Err(WeightsError::NotACheckpoint {
            path: path.to_owned(),
            found: "it holds no tensors (a vocabulary without weights)".into(),
            remedy: "give the file that holds the model's weights".into(),
        });
    }
    let heads = config::Heads::read(file.metadata())?;
    let rope = config::RopeTensors::read(&file, &stored, heads)?;
    let config = config::to_hugging_face(file.metadata(), &stored, heads, &rope)?;
    let generation_config = config::generation(file.metadata())?;

    let mut tensors = Vec::with_capacity(stored.len());
    for tensor in &stored {
        if config::RopeTensors::holds(&tensor.name) || names::is_derived_buffer(&tensor.name) {
            debug!(tensor = tensor.name, "not read as a weight");
            continue;
        }
        tensors.push(named(&file, tensor, heads)?);
    }
    tensors.sort_by_key(|t| t.offset);

    let tokenizer = if vocab::is_there(file.metadata())? {
        TokenizerSource::Gguf
    } else {
        TokenizerSource::Missing(path.to_owned())
    };
    Ok(Parts {
        format: Format::Gguf { version: file.version },
        config,
        generation_config,
        tensors,
        tokenizer,
        rope_freqs: rope.freqs,
        gguf: Some(file),
    })
}

/// A tensor of the file under its Hugging Face name, with its rows in Hugging Face's order.
fn named(file: &GgufFile, tensor: &GgufTensor, heads: config::Heads) -> Result<TensorInfo, WeightsError> {
    let name =
        names::to_hugging_face(&tensor.name).unwrap_or_else(|| hugging_face::canonical(&tensor.name).into_owned());
    let stored = file.tensor_bytes(tensor);
    let permuted = match names::projection(&name) {
        Some(names::Projection::Query) => Some(heads.query),
        Some(names::Projection::Key) => Some(heads.key_value),
        None => None,
    };
    let data = match permuted {
        None => Data::Mapped(stored),
        Some(heads) => {
            let rows = tensor.shape[0];
            let order = HeadPermutation::new(rows, heads, stored.len()).ok_or_else(|| {
                WeightsError::malformed(
                    file.path(),
                    format!("tensor {}", shown(&tensor.name)),
                    format!("its {rows} rows are no even number for each of {heads} heads"),
                    MAKE_AGAIN,
                )
            })?;
            Data::Permuted { stored, order, ordered: OnceLock::new() }
        }
    };
    Ok(TensorInfo {
        name,
        source_name: tensor.name.clone(),
        dtype: tensor.dtype,
        shape: tensor.shape.clone(),
        file: file.path().clone(),
        offset: tensor.offset,
        data,
    })
}

impl GgufFile {
    /// The bytes of one of this file's tensors.
    pub fn tensor_bytes(&self, tensor: &GgufTensor) -> Bytes {
        // The range was checked when the table was read; a tensor of another file is clamped to nothing.
        let start = usize::try_from(tensor.offset).unwrap_or(usize::MAX);
        self.bytes.slice(start..start.saturating_add(tensor.byte_len)).unwrap_or_else(|| Bytes::from(Vec::new()))
    }

    /// The values of a small float tensor of this file.
    fn floats(&self, tensor: &GgufTensor) -> Result<Vec<f32>, WeightsError> {
        let mut values = vec![0.0; tensor.shape.iter().product()];
        camelid_core::quant::dequantize(tensor.dtype, &self.tensor_bytes(tensor), &mut values).map_err(|e| {
            WeightsError::malformed(
                self.path(),
                format!("tensor {}", shown(&tensor.name)),
                e.to_string(),
                "store it as f32",
            )
        })?;
        Ok(values)
    }
}

/// The types a weight of a GGUF file may have, for messages.
fn supported_types() -> String {
    let names: Vec<_> = DType::ALL.iter().filter(|d| d.is_float()).filter_map(|d| d.known_name()).collect();
    names.join(", ")
}
