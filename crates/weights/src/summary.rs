//! [`Summary`]: a checkpoint in a few numbers.

use camelid_core::DType;

use crate::TensorInfo;

/// What the tensors of a checkpoint add up to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Number of tensors.
    pub tensors: usize,
    /// Number of elements of all tensors. Embeddings that serve as the head too count once.
    pub parameters: u64,
    /// Bytes of all tensors in the files.
    pub bytes: u64,
    /// The same for each type that occurs, the one with the most bytes first.
    pub dtypes: Vec<DTypeUse>,
}

/// What the tensors of one type add up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DTypeUse {
    /// The type.
    pub dtype: DType,
    /// Number of tensors.
    pub tensors: usize,
    /// Number of elements.
    pub parameters: u64,
    /// Bytes in the files.
    pub bytes: u64,
}

impl Summary {
    pub(crate) fn of(tensors: &[TensorInfo]) -> Summary {
        let mut dtypes: Vec<DTypeUse> = Vec::new();
        for tensor in tensors {
            let at = dtypes.iter().position(|u| u.dtype == tensor.dtype).unwrap_or_else(|| {
                dtypes.push(DTypeUse { dtype: tensor.dtype, tensors: 0, parameters: 0, bytes: 0 });
                dtypes.len() - 1
            });
            dtypes[at].tensors += 1;
            dtypes[at].parameters += tensor.elements();
            dtypes[at].bytes += tensor.byte_len();
        }
        dtypes.sort_by_key(|u| (std::cmp::Reverse(u.bytes), u.dtype.id()));
        Summary {
            tensors: tensors.len(),
            parameters: dtypes.iter().map(|u| u.parameters).sum(),
            bytes: dtypes.iter().map(|u| u.bytes).sum(),
            dtypes,
        }
    }
}
