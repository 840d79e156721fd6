//! What can go wrong between the host and the kernels, and what to do about it.

use camelid_core::DType;
use camelid_core::backend::{BackendError, BufferId, ErrorCode, PlanId};
use camelid_core::graph::{Symbol, TensorType};
use thiserror::Error;

/// An error of the interpreter; it leaves as a [`BackendError`] with the code of [`Error::code`].
#[derive(Debug, Error)]
pub(super) enum Error {
    #[error("there is no buffer {}: it was never made, or it was freed", .0.0)]
    UnknownBuffer(BufferId),
    #[error("there is no plan {}: it was never made, or it was freed", .0.0)]
    UnknownPlan(PlanId),
    #[error("the contents of {0} were lost when a kernel panicked; close the device")]
    Lost(String),
    #[error("{verb} of {len} bytes at offset {offset} leaves buffer `{buffer}`, which has {size} bytes")]
    OutOfRange { verb: &'static str, buffer: String, offset: usize, len: usize, size: usize },
    #[error("buffer `{0}` holds a weight, and weights are never written; load the weight again to change it")]
    WriteToWeight(String),
    #[error("copy of {len} bytes from offset {from} to offset {to} of buffer `{buffer}` overlaps itself")]
    OverlappingCopy { buffer: String, from: usize, to: usize, len: usize },
    #[error("weight `{weight}` is {ty}, but weights have fixed dimensions and a size that fits memory")]
    WeightShape { weight: String, ty: TensorType },
    #[error("weight `{weight}` is {ty}, which takes {expected} bytes, but {found} were given")]
    WeightSize { weight: String, ty: TensorType, expected: usize, found: usize },
    #[error("weight `{weight}` is of type {dtype}; supported: {supported}. Convert the weight to one of them")]
    WeightType { weight: String, dtype: DType, supported: String },

    #[error("binding of value {value}: the graph has {count} values")]
    NoSuchValue { value: u32, count: usize },
    #[error("value `{0}` is bound twice")]
    BoundTwice(String),
    #[error("value `{0}` is bound, but it is neither input, weight, state nor output: the device finds it a place")]
    NotBindable(String),
    #[error("value `{value}` ({ty}) is not bound to a buffer")]
    NotBound { value: String, ty: TensorType },
    #[error("value `{value}` ({ty}) takes up to {needed} bytes; buffer `{buffer}` has {size} from offset {offset} on")]
    BufferTooSmall { value: String, ty: TensorType, needed: usize, buffer: String, size: usize, offset: usize },
    #[error("value `{value}` ({ty}) takes more bytes than can be counted at the largest symbols; lower their maximum")]
    TooLarge { value: String, ty: TensorType },
    #[error("weight `{value}` is bound to buffer `{buffer}`, which holds no weight; hand it over with load_weight")]
    NotAWeight { value: String, buffer: String },
    #[error("weight `{value}` is {wanted}, but buffer `{buffer}` holds a weight of {found}")]
    OtherWeight { value: String, wanted: TensorType, buffer: String, found: TensorType },
    #[error("weight `{value}` is bound at offset {offset} of buffer `{buffer}`; weights are bound at offset 0")]
    WeightOffset { value: String, buffer: String, offset: usize },
    #[error("value `{value}` is bound to buffer `{buffer}`, which holds a weight; only weights may be bound there")]
    WeightBuffer { value: String, buffer: String },
    #[error("values `{first}` and `{second}` share bytes of buffer `{buffer}`, and `{first}` is written")]
    SharedBytes { first: String, second: String, buffer: String },
    #[error("{signature}: {reason}")]
    Unsupported { signature: String, reason: String },

    #[error("symbol {symbol} is {value} in this step, but the plan was made for {min}..={max}")]
    SymbolOutOfRange { symbol: Symbol, value: usize, min: usize, max: usize },
    #[error("value `{value}` cannot be used: {source}")]
    BoundBufferGone { value: String, source: Box<Error> },
}

impl Error {
    fn code(&self) -> ErrorCode {
        match self {
            Error::Unsupported { .. } | Error::WeightType { .. } => ErrorCode::Unsupported,
            Error::Lost(_) => ErrorCode::DeviceLost,
            _ => ErrorCode::Invalid,
        }
    }
}

impl From<Error> for BackendError {
    fn from(error: Error) -> BackendError {
        BackendError::new(error.code(), error.to_string())
    }
}
