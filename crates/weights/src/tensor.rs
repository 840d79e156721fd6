//! [`TensorInfo`]: one tensor of a checkpoint.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use camelid_core::{Bytes, DType};

use crate::WeightsError;
use crate::error::{MAKE_AGAIN, shown};
use crate::gguf::permute::HeadPermutation;

/// One tensor of a checkpoint: its name in Hugging Face's naming, its type and shape, and where its bytes are.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TensorInfo {
    /// The name as Hugging Face's `LlamaForCausalLM` has it: `model.layers.0.self_attn.q_proj.weight`.
    pub name: String,
    /// The name in the file: `blk.0.attn_q.weight`, or the same as `name`.
    pub source_name: String,
    /// The type of the elements, as stored; always one that can be dequantized.
    pub dtype: DType,
    /// Row-major, as Hugging Face has it: `[out_features, in_features]` for a matrix.
    pub shape: Vec<usize>,
    /// The file that holds the bytes.
    pub file: Arc<Path>,
    /// Where the bytes begin, counted from the start of the file.
    pub offset: u64,
    pub(crate) data: Data,
}

#[derive(Clone, Debug)]
pub(crate) enum Data {
    /// As they lie in the file.
    Mapped(Bytes),
    /// Part of the program or of memory; there is no file.
    Held(Bytes),
    /// Rows in another order than in the file; put in order at first use.
    Permuted { stored: Bytes, order: HeadPermutation, ordered: OnceLock<Bytes> },
}

impl TensorInfo {
    /// The tensor's bytes: rows in order of `shape`, each a whole number of blocks of `dtype`.
    ///
    /// A slice of the memory map wherever the file already has the right order. The q and k projections of a GGUF
    /// file do not (see [`gguf::permute`](crate::gguf::permute)): their rows are copied into order at the first call,
    /// and later calls share that copy.
    pub fn bytes(&self) -> Bytes {
        match &self.data {
            Data::Mapped(bytes) | Data::Held(bytes) => bytes.clone(),
            Data::Permuted { stored, order, ordered } => {
                ordered.get_or_init(|| Bytes::from(order.restore(stored))).clone()
            }
        }
    }

    /// True if [`bytes`](Self::bytes) is a slice of the memory map, false if it is a copy in another order.
    pub fn is_mapped(&self) -> bool {
        matches!(self.data, Data::Mapped(_) | Data::Held(_))
    }

    /// Number of elements.
    pub fn elements(&self) -> u64 {
        // Cannot overflow: the size in bytes was checked against the file when it was opened.
        self.shape.iter().map(|d| *d as u64).product()
    }

    /// Bytes in the file.
    pub fn byte_len(&self) -> u64 {
        match &self.data {
            Data::Mapped(bytes) | Data::Held(bytes) | Data::Permuted { stored: bytes, .. } => bytes.len() as u64,
        }
    }

    /// The order of the rows in the file, if it is another than that of `shape`.
    pub(crate) fn order(&self) -> Option<&HeadPermutation> {
        match &self.data {
            Data::Permuted { order, .. } => Some(order),
            Data::Mapped(_) | Data::Held(_) => None,
        }
    }

    /// Appends `len` bytes from byte `from` of the tensor on, as they lie in the file, to `out`. They are read, not
    /// mapped, so that the pages of a large file do not stay in memory.
    pub(crate) fn read_stored(&self, from: usize, len: usize, out: &mut Vec<u8>) -> Result<(), WeightsError> {
        if from.checked_add(len).is_none_or(|end| end as u64 > self.byte_len()) {
            let found = format!("{len} bytes from byte {from} on were asked for, but it has {}", self.byte_len());
            return Err(WeightsError::malformed(
                &self.file,
                format!("tensor {}", shown(&self.name)),
                found,
                MAKE_AGAIN,
            ));
        }
        if let Data::Held(bytes) = &self.data {
            out.extend_from_slice(&bytes[from..from + len]);
            return Ok(());
        }
        let begin = out.len();
        out.resize(begin + len, 0);
        let mut file = File::open(&self.file).map_err(WeightsError::io(&self.file, "open"))?;
        file.seek(SeekFrom::Start(self.offset + from as u64))
            .and_then(|_| file.read_exact(&mut out[begin..]))
            .map_err(WeightsError::io(&self.file, "read"))
    }
}
