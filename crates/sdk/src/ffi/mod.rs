//! The border: the only place of this crate with `unsafe`.
//!
//! [`export`] is the plugin's side (a [`Backend`](camelid_core::Backend) behind the table of functions), [`import`]
//! the host's (a table of functions as a `Backend`). A graph crosses by [`graph_out`] and comes back by [`graph_in`].
//! `loopback` puts one behind the other in one process, which is how both are tested.

pub mod export;
mod functions;
mod graph_in;
mod graph_out;
pub mod import;
pub mod log;
mod loopback;
mod macros;
mod manifest;
mod message;
#[cfg(test)]
mod tests;
mod weight;

pub use loopback::loopback;

/// Whether a struct of `$size` bytes has the field.
macro_rules! has {
    ($size:expr, $ty:ty, $field:ident) => {
        $size as usize >= core::mem::offset_of!($ty, $field) + $crate::ffi::field_size(|s: &$ty| &s.$field)
    };
}
pub(crate) use has;

/// The size of the field that `_field` picks.
pub(crate) const fn field_size<S, F>(_field: fn(&S) -> &F) -> usize {
    size_of::<F>()
}

/// `struct_size` of a type.
pub(crate) const fn struct_size<T>() -> u32 {
    size_of::<T>() as u32
}

/// A borrowed text as the ABI has it.
pub(crate) fn str_out(text: &str) -> camelid_abi::Str {
    camelid_abi::Str { ptr: text.as_ptr().cast(), len: text.len() }
}

/// A text of the ABI; what is not UTF-8 is replaced.
///
/// # Safety
/// `text` points to `len` bytes that live for the call.
pub(crate) unsafe fn str_in(text: camelid_abi::Str) -> String {
    if text.ptr.is_null() || text.len == 0 {
        return String::new();
    }
    // SAFETY: by contract.
    String::from_utf8_lossy(unsafe { std::slice::from_raw_parts(text.ptr.cast::<u8>(), text.len) }).into_owned()
}

/// A borrowed array of the ABI; empty if it is null.
///
/// # Safety
/// `ptr` is null or points to `len` values that live as long as the result is used.
pub(crate) unsafe fn slice_in<'a, T>(ptr: *const T, len: usize) -> &'a [T] {
    if ptr.is_null() || len == 0 {
        return &[];
    }
    // SAFETY: by contract.
    unsafe { std::slice::from_raw_parts(ptr, len) }
}
