//! Frozen types: passed by value, in arrays or inside other structs, so they can never grow.

use core::ffi::c_char;

/// UTF-8 text of `len` bytes, not NUL-terminated, borrowed for the call.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Str {
    /// The first byte; may be null if `len` is 0.
    pub ptr: *const c_char,
    /// Bytes.
    pub len: usize,
}

/// A setting: key and value.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct KeyValue {
    /// The key.
    pub key: Str,
    /// Its value.
    pub value: Str,
}

/// An element type.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DType {
    /// The type's id (`DTYPE_*`); from `VENDOR_ID_START` on a vendor's own.
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
    /// Sizes, or `SYMBOL_*`; entries from `rank` on are zero.
    pub dim: [i64; 4],
}

/// Where a bound value of a graph lives.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Binding {
    /// Index of the value.
    pub value: u32,
    /// Zero.
    pub reserved: u32,
    /// Its buffer.
    pub buffer: *mut super::Buffer,
    /// Bytes from the buffer's start.
    pub offset: u64,
}
