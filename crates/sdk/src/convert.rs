//! Between core's types and those of the C ABI.

use camelid_abi as abi;
use camelid_core::DType;
use camelid_core::backend::ErrorCode;
use camelid_core::dtype::VENDOR_ID_START;
use camelid_core::graph::{Dim, MAX_RANK, Shape, Symbol, TensorType};

/// An element type, as the ABI has it.
pub fn dtype_to_abi(dtype: DType) -> abi::DType {
    let narrow = |n: usize| u32::try_from(n).expect("block sizes come from u32");
    abi::DType {
        id: dtype.id(),
        block_elems: narrow(dtype.block_elems()),
        block_bytes: narrow(dtype.block_bytes()),
        reserved: 0,
    }
}

/// An element type of the ABI; `None` for an id this version does not know, or for a known id with another layout.
pub fn dtype_from_abi(dtype: abi::DType) -> Option<DType> {
    if dtype.id >= VENDOR_ID_START {
        return DType::vendor(dtype.id, dtype.block_elems, dtype.block_bytes);
    }
    DType::ALL.iter().copied().find(|known| dtype_to_abi(*known) == abi::DType { reserved: 0, ..dtype })
}

/// Rank and dimensions, as the ABI has them; `None` for a dimension beyond `i64`.
pub fn dims_to_abi(shape: &Shape) -> Option<(u32, [i64; MAX_RANK])> {
    let mut dim = [0; MAX_RANK];
    for (code, d) in dim.iter_mut().zip(shape.dims()) {
        *code = match d {
            Dim::Fixed(n) => i64::try_from(*n).ok()?,
            Dim::Sym(s) => symbol_code(*s),
        };
    }
    Some((shape.rank() as u32, dim))
}

/// The dimensions of the ABI; `None` for an unknown symbol or too high a rank.
pub fn dims_from_abi(rank: u32, dim: &[i64; MAX_RANK]) -> Option<Vec<Dim>> {
    dim.get(..rank as usize)?.iter().map(|d| dim_from_abi(*d)).collect()
}

/// A tensor type, as the ABI has it; `None` for a dimension beyond `i64`.
pub fn type_to_abi(ty: &TensorType) -> Option<abi::TensorType> {
    let (rank, dim) = dims_to_abi(&ty.shape)?;
    Some(abi::TensorType { dtype: dtype_to_abi(ty.dtype), rank, reserved: 0, dim })
}

/// A tensor type of the ABI; `None` for an unknown type or symbol, too high a rank, or rows of no whole blocks.
pub fn type_from_abi(ty: &abi::TensorType) -> Option<TensorType> {
    TensorType::new(dtype_from_abi(ty.dtype)?, &dims_from_abi(ty.rank, &ty.dim)?)
}

fn dim_from_abi(code: i64) -> Option<Dim> {
    if let Ok(n) = usize::try_from(code) {
        return Some(Dim::Fixed(n));
    }
    Symbol::ALL.into_iter().find(|s| symbol_code(*s) == code).map(Dim::Sym)
}

fn symbol_code(symbol: Symbol) -> i64 {
    match symbol {
        Symbol::T => abi::SYMBOL_T,
        Symbol::S => abi::SYMBOL_S,
        Symbol::O => abi::SYMBOL_O,
        Symbol::L => abi::SYMBOL_L,
        Symbol::P => abi::SYMBOL_P,
    }
}

/// The status for an error.
pub fn status_of(code: ErrorCode) -> abi::Status {
    match code {
        ErrorCode::Invalid => abi::STATUS_INVALID,
        ErrorCode::Unsupported => abi::STATUS_UNSUPPORTED,
        ErrorCode::OutOfMemory => abi::STATUS_OUT_OF_MEMORY,
        ErrorCode::DeviceLost => abi::STATUS_DEVICE_LOST,
        ErrorCode::Aborted => abi::STATUS_ABORTED,
        _ => abi::STATUS_INTERNAL,
    }
}

/// Whether this version knows the status.
pub fn is_known(status: abi::Status) -> bool {
    (abi::STATUS_OK..=abi::STATUS_PANIC).contains(&status)
}

/// The error for a status; `None` for OK. A status this version does not know is an internal error, and a device that
/// panicked is lost.
pub fn error_of(status: abi::Status) -> Option<ErrorCode> {
    match status {
        abi::STATUS_OK => None,
        abi::STATUS_INVALID => Some(ErrorCode::Invalid),
        abi::STATUS_UNSUPPORTED => Some(ErrorCode::Unsupported),
        abi::STATUS_OUT_OF_MEMORY => Some(ErrorCode::OutOfMemory),
        abi::STATUS_DEVICE_LOST | abi::STATUS_PANIC => Some(ErrorCode::DeviceLost),
        abi::STATUS_ABORTED => Some(ErrorCode::Aborted),
        _ => Some(ErrorCode::Internal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_survives_the_way_there_and_back() {
        for dtype in DType::ALL {
            assert_eq!(dtype_from_abi(dtype_to_abi(*dtype)), Some(*dtype));
            let ty = TensorType::new(*dtype, &[Symbol::P.into(), 256.into()]).unwrap();
            assert_eq!(type_from_abi(&type_to_abi(&ty).unwrap()), Some(ty));
        }
        let vendor = DType::vendor(VENDOR_ID_START + 1, 64, 34).unwrap();
        assert_eq!(dtype_from_abi(dtype_to_abi(vendor)), Some(vendor));
    }

    #[test]
    fn what_is_unknown_is_no_type() {
        let q8 = dtype_to_abi(DType::Q8_0);
        assert_eq!(dtype_from_abi(abi::DType { id: 9999, ..q8 }), None);
        assert_eq!(dtype_from_abi(abi::DType { block_bytes: 33, ..q8 }), None);
        let ty = type_to_abi(&TensorType::new(DType::F32, &[Symbol::T.into(), 4.into()]).unwrap()).unwrap();
        assert_eq!(type_from_abi(&abi::TensorType { rank: 5, ..ty }), None);
        assert_eq!(type_from_abi(&abi::TensorType { dim: [-6, 4, 0, 0], ..ty }), None);
    }

    #[test]
    fn statuses_and_errors_match() {
        for status in 1..=6 {
            assert!(is_known(status));
            assert_eq!(status_of(error_of(status).unwrap()), status);
        }
        assert_eq!(error_of(0), None);
        assert_eq!(error_of(77), Some(ErrorCode::Internal));
    }
}
