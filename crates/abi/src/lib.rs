//! The C ABI between Camelid and a backend plugin: `#[repr(C)]` types and codes, nothing else, no dependencies.
//!
//! So far it holds what the rest of the interface is made of: status codes, strings, element types and tensor types.
//! Their layout is frozen: they are passed by value or in arrays, so a change would break every plugin at once. The
//! table of functions comes with the loader of dynamic plugins; start reading at [`TensorType`].
//!
//! Codes are integers and never Rust enums, because a plugin may send a value that this version does not know.
//! They are appended, never renumbered and never reused; an unknown one means "not supported".

#![no_std]
#![deny(missing_docs)]
#![forbid(unsafe_code)]

use core::ffi::c_char;

/// What a function answers: [`status::OK`] or a code of [`status`].
pub type Status = i32;

/// Status codes.
pub mod status {
    use super::Status;

    /// Done.
    pub const OK: Status = 0;
    /// The caller asked for something that makes no sense.
    pub const INVALID: Status = 1;
    /// The device cannot do this.
    pub const UNSUPPORTED: Status = 2;
    /// There is not enough memory.
    pub const OUT_OF_MEMORY: Status = 3;
    /// The device is gone.
    pub const DEVICE_LOST: Status = 4;
    /// The host asked to stop.
    pub const ABORTED: Status = 5;
    /// Anything else.
    pub const INTERNAL: Status = 6;
}

/// Negative dimensions of a [`TensorType`]: symbols, whose value every step gives.
pub mod symbol {
    /// Tokens of the step.
    pub const T: i64 = -1;
    /// Sequences of the step.
    pub const S: i64 = -2;
    /// Output rows.
    pub const O: i64 = -3;
    /// Longest context of the step.
    pub const L: i64 = -4;
    /// Sequence boundaries, `S + 1`.
    pub const P: i64 = -5;
}

/// UTF-8 text of `len` bytes, not NUL-terminated, borrowed for the call.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Str {
    /// The first byte; may be null if `len` is 0.
    pub ptr: *const c_char,
    /// Bytes.
    pub len: usize,
}

/// An element type.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DType {
    /// The type's id; from 0x80000000 on a vendor's own.
    pub id: u32,
    /// Elements of one block; 1 for scalars.
    pub block_elems: u32,
    /// Bytes of one block.
    pub block_bytes: u32,
    /// Zero.
    pub reserved: u32,
}

/// A dense row-major tensor: its element type and up to four dimensions, outermost first.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorType {
    /// Element type.
    pub dtype: DType,
    /// Number of dimensions, at most 4.
    pub rank: u32,
    /// Zero.
    pub reserved: u32,
    /// Sizes, or codes of [`symbol`]; entries from `rank` on are zero.
    pub dim: [i64; 4],
}

#[cfg(test)]
mod tests {
    use core::mem::{align_of, offset_of, size_of};

    use super::*;

    /// The layout on 64-bit targets, as a C compiler sees it. A failure here breaks every plugin there is.
    #[test]
    #[cfg(target_pointer_width = "64")]
    fn the_layout_is_the_golden_one() {
        assert_eq!((size_of::<Str>(), align_of::<Str>(), offset_of!(Str, len)), (16, 8, 8));
        assert_eq!((size_of::<DType>(), align_of::<DType>(), offset_of!(DType, reserved)), (16, 4, 12));
        assert_eq!((size_of::<TensorType>(), align_of::<TensorType>()), (56, 8));
        assert_eq!((offset_of!(TensorType, rank), offset_of!(TensorType, dim)), (16, 24));
    }
}
