//! A plugin's way to the host's log.

use std::ffi::c_void;
use std::sync::OnceLock;

use camelid_abi as abi;

use super::{has, str_out};

/// The host's log, once the entry was called.
static HOST: OnceLock<HostLog> = OnceLock::new();

struct HostLog {
    ctx: *mut c_void,
    log: unsafe extern "C" fn(*mut c_void, u32, abi::Str, abi::Str),
}

// SAFETY: the host's log may be called from any thread.
unsafe impl Send for HostLog {}
// SAFETY: as above.
unsafe impl Sync for HostLog {}

/// How much a message matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Level {
    /// Something went wrong.
    Error = abi::LOG_ERROR,
    /// Something the user should know.
    Warn = abi::LOG_WARN,
    /// What happened.
    Info = abi::LOG_INFO,
    /// Details.
    Debug = abi::LOG_DEBUG,
    /// Every step.
    Trace = abi::LOG_TRACE,
}

/// Writes to the host's log from a plugin; without effect in a backend that is linked in, which uses `tracing`.
pub fn log(level: Level, target: &str, message: &str) {
    if let Some(HostLog { ctx, log }) = HOST.get() {
        // SAFETY: the host's function lives for the process.
        unsafe { log(*ctx, level as u32, str_out(target), str_out(message)) }
    }
}

/// [`log`] of this crate's own errors.
pub(super) fn error(message: &str) {
    log(Level::Error, "camelid_sdk", message);
}

/// Takes the host's log, and sends what panics have to say there instead of to standard error.
///
/// # Safety
/// `host` is null or lives for the process.
pub(super) unsafe fn connect(host: *const abi::Host) {
    // SAFETY: by contract; the size is looked at first.
    let found = unsafe {
        if host.is_null() || !has!((*host).struct_size, abi::Host, log) {
            return;
        }
        (*host).log.map(|log| HostLog { ctx: (*host).ctx, log })
    };
    let Some(found) = found else { return };
    if HOST.set(found).is_ok() {
        std::panic::set_hook(Box::new(|panic| error(&panic.to_string())));
    }
}
