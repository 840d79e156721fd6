//! Between core's types and those of the C ABI.

use camelid_abi as abi;
use camelid_core::DType;
use camelid_core::backend::ErrorCode;
use camelid_core::dtype::VENDOR_ID_START;
use camelid_core::graph::{Dim, Symbol, TensorType};

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

/// A tensor type, as the ABI has it; `None` for a dimension beyond `i64`.
pub fn type_to_abi(ty: &TensorType) -> Option<abi::TensorType> {
    let mut dim = [0; 4];
    for (code, d) in dim.iter_mut().zip(ty.shape.dims()) {
        *code = match d {
            Dim::Fixed(n) => i64::try_from(*n).ok()?,
            Dim::Sym(s) => symbol_code(*s),
        };
    }
    Some(abi::TensorType { dtype: dtype_to_abi(ty.dtype), rank: ty.shape.rank() as u32, reserved: 0, dim })
}

/// A tensor type of the ABI; `None` for an unknown type or symbol, too high a rank, or rows of no whole blocks.
pub fn type_from_abi(ty: &abi::TensorType) -> Option<TensorType> {
    let dims: Vec<Dim> = ty.dim.get(..ty.rank as usize)?.iter().map(|d| dim_from_abi(*d)).collect::<Option<_>>()?;
    TensorType::new(dtype_from_abi(ty.dtype)?, &dims)
}

fn dim_from_abi(code: i64) -> Option<Dim> {
    if let Ok(n) = usize::try_from(code) {
        return Some(Dim::Fixed(n));
    }
    Symbol::ALL.into_iter().find(|s| symbol_code(*s) == code).map(Dim::Sym)
}

fn symbol_code(symbol: Symbol) -> i64 {
    match symbol {
        Symbol::T => abi::symbol::T,
        Symbol::S => abi::symbol::S,
        Symbol::O => abi::symbol::O,
        Symbol::L => abi::symbol::L,
        Symbol::P => abi::symbol::P,
    }
}

/// The status for an error.
pub fn status_of(code: ErrorCode) -> abi::Status {
    match code {
        ErrorCode::Invalid => abi::status::INVALID,
        ErrorCode::Unsupported => abi::status::UNSUPPORTED,
        ErrorCode::OutOfMemory => abi::status::OUT_OF_MEMORY,
        ErrorCode::DeviceLost => abi::status::DEVICE_LOST,
        ErrorCode::Aborted => abi::status::ABORTED,
        _ => abi::status::INTERNAL,
    }
}

/// The error for a status; `None` for OK. A status this version does not know is an internal error.
pub fn error_of(status: abi::Status) -> Option<ErrorCode> {
    match status {
        abi::status::OK => None,
        abi::status::INVALID => Some(ErrorCode::Invalid),
        abi::status::UNSUPPORTED => Some(ErrorCode::Unsupported),
        abi::status::OUT_OF_MEMORY => Some(ErrorCode::OutOfMemory),
        abi::status::DEVICE_LOST => Some(ErrorCode::DeviceLost),
        abi::status::ABORTED => Some(ErrorCode::Aborted),
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
            assert_eq!(status_of(error_of(status).unwrap()), status);
        }
        assert_eq!(error_of(0), None);
        assert_eq!(error_of(77), Some(ErrorCode::Internal));
    }
}
