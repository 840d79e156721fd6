//! Messages: text that one side writes into memory of the other.

use std::ffi::c_char;
use std::ptr;

use camelid_abi as abi;
use camelid_core::backend::{BackendError, ErrorCode};

use super::struct_size;
use crate::convert;

/// Writes `text` into `capacity` bytes at `out`, cut at a character and ended by a NUL.
///
/// # Safety
/// `out` is null or points to `capacity` bytes to write.
pub(crate) unsafe fn write_text(out: *mut c_char, capacity: usize, text: &str) {
    if out.is_null() || capacity == 0 {
        return;
    }
    let fits = (0..=text.len().min(capacity - 1)).rev().find(|end| text.is_char_boundary(*end));
    let text = &text[..fits.unwrap_or(0)];
    // SAFETY: `text.len() + 1 <= capacity`.
    unsafe {
        ptr::copy_nonoverlapping(text.as_ptr().cast(), out, text.len());
        *out.add(text.len()) = 0;
    }
}

/// The text in `bytes`, up to its NUL or its end; what is not UTF-8 is replaced.
pub(crate) fn read_text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    // A character cut in two at the end is left out.
    let text =
        bytes[..end].utf8_chunks().map(|c| (c.valid(), c.invalid())).fold(String::new(), |mut all, (good, bad)| {
            all.push_str(good);
            if !bad.is_empty() {
                all.push('\u{fffd}');
            }
            all
        });
    text.trim().to_owned()
}

/// Puts a message where the caller wants it.
///
/// # Safety
/// `error` is null or points to an [`abi::Error`] whose memory may be written.
pub(crate) unsafe fn write_error(error: *mut abi::Error, text: &str) {
    if error.is_null() {
        return;
    }
    // SAFETY: by contract.
    unsafe { write_text((*error).message, (*error).capacity as usize, text) }
}

/// Room for a message, and the call that may fill it.
pub(crate) struct Call {
    message: Vec<u8>,
}

impl Call {
    /// Calls `function` with room for a message; what the message says comes with the result.
    pub(crate) fn with_note(function: impl FnOnce(*mut abi::Error) -> abi::Status) -> Result<String, BackendError> {
        let mut call = Call { message: vec![0; abi::MESSAGE_CAPACITY as usize] };
        let mut error = abi::Error {
            struct_size: struct_size::<abi::Error>(),
            capacity: abi::MESSAGE_CAPACITY,
            message: call.message.as_mut_ptr().cast(),
        };
        let status = function(&mut error);
        let text = read_text(&call.message);
        let Some(code) = convert::error_of(status) else { return Ok(text) };
        let text = if text.is_empty() { "the plugin gave no reason".to_owned() } else { text };
        Err(match status {
            abi::STATUS_PANIC => BackendError::new(code, format!("the plugin panicked: {text}")),
            s if convert::is_known(s) => BackendError::new(code, text),
            s => BackendError::new(code, format!("{text} (status {s}, which this version does not know)")),
        })
    }

    /// Calls `function` with room for a message.
    pub(crate) fn run(function: impl FnOnce(*mut abi::Error) -> abi::Status) -> Result<(), BackendError> {
        Call::with_note(function).map(|_| ())
    }
}

/// The status that stands for `error`.
pub(crate) fn status_of(error: &BackendError) -> abi::Status {
    convert::status_of(error.code)
}

/// What the other side did that it must not.
pub(crate) fn broken(what: impl Into<String>) -> BackendError {
    BackendError::new(ErrorCode::Internal, what)
}
