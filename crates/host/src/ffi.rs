//! The system's loader: the only place of this crate with `unsafe`.

use std::ffi::{CStr, c_void};
use std::panic::catch_unwind;
use std::ptr;

use camelid_sdk::abi;
use camelid_sdk::import::{ManifestInfo, PluginBackend, check_manifest, connect};
#[cfg(unix)]
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

use crate::plugin::{Checked, PluginError, Sidecar};

/// What plugins get of this host.
static HOST: abi::Host = abi::Host {
    struct_size: size_of::<abi::Host>() as u32,
    abi_minor: abi::ABI_MINOR,
    ctx: ptr::null_mut(),
    log: Some(log),
};

/// A plugin's way to the log.
unsafe extern "C" fn log(_: *mut c_void, level: u32, target: abi::Str, message: abi::Str) {
    // SAFETY: the plugin's texts live for the call.
    let (from, message) = unsafe { (text(target), text(message)) };
    // A subscriber that panics must not do so through the plugin.
    let _ = catch_unwind(|| match level {
        abi::LOG_ERROR => tracing::error!(target: "camelid::plugin", %from, "{message}"),
        abi::LOG_WARN => tracing::warn!(target: "camelid::plugin", %from, "{message}"),
        abi::LOG_INFO => tracing::info!(target: "camelid::plugin", %from, "{message}"),
        abi::LOG_DEBUG => tracing::debug!(target: "camelid::plugin", %from, "{message}"),
        _ => tracing::trace!(target: "camelid::plugin", %from, "{message}"),
    });
}

/// Most bytes of a message that are logged.
const MAX_MESSAGE: usize = 1 << 14;

unsafe fn text(text: abi::Str) -> String {
    if text.ptr.is_null() || text.len == 0 {
        return String::new();
    }
    // SAFETY: by contract.
    let bytes = unsafe { std::slice::from_raw_parts(text.ptr.cast::<u8>(), text.len.min(MAX_MESSAGE)) };
    String::from_utf8_lossy(bytes).into_owned()
}

/// Loads a library that was checked and calls its entry. It stays loaded for the process: nobody can know when the last
/// of its threads and destructors is done.
pub(crate) fn load(library: Checked, sidecar: &Sidecar) -> Result<PluginBackend, PluginError> {
    let Checked { path, keep } = library;
    #[cfg(unix)]
    // SAFETY: the library's constructors run. That it is trusted was checked as well as it can be.
    let opened = unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_LOCAL) };
    #[cfg(not(unix))]
    // SAFETY: as above; a full path keeps the working directory out of the search.
    let opened = unsafe { libloading::Library::new(&path) };
    std::mem::forget(keep);
    let opened = std::mem::ManuallyDrop::new(opened.map_err(|error| PluginError::Loader { problem: chain(&error) })?);

    let missing = |symbol: &CStr| PluginError::Symbol { symbol: symbol.to_string_lossy().into_owned() };
    // SAFETY: a plugin's symbol of this name is its manifest.
    let manifest = unsafe { opened.get::<*const abi::Manifest>(abi::MANIFEST_SYMBOL.to_bytes_with_nul()) };
    let manifest = *manifest.map_err(|_| missing(abi::MANIFEST_SYMBOL))?;
    if manifest.is_null() {
        return Err(missing(abi::MANIFEST_SYMBOL));
    }
    // SAFETY: as above.
    let info = unsafe { check_manifest(manifest)? };
    agree(&info, sidecar)?;
    // SAFETY: a plugin's symbol of this name is its entry.
    let entry = unsafe { opened.get::<abi::Entry>(abi::ENTRY_SYMBOL.to_bytes_with_nul()) };
    let entry = *entry.map_err(|_| missing(abi::ENTRY_SYMBOL))?;
    // SAFETY: the library is never unloaded.
    Ok(unsafe { connect(info, entry, &HOST)? })
}

fn agree(info: &ManifestInfo, sidecar: &Sidecar) -> Result<(), PluginError> {
    let (found, said) = (info.abi_minor.to_string(), sidecar.abi_minor.to_string());
    let fields = [
        ("name", &info.name, &sidecar.name),
        ("version", &info.version, &sidecar.version),
        ("target", &info.target, &sidecar.target),
        ("abi_minor", &found, &said),
    ];
    match fields.into_iter().find(|(_, library, sidecar)| library != sidecar) {
        None => Ok(()),
        Some((field, library, sidecar)) => {
            Err(PluginError::Disagrees { field, library: library.clone(), sidecar: sidecar.clone() })
        }
    }
}

/// What the loader says: libloading's own sentence only names the function that failed.
fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => source.to_string(),
        None => error.to_string(),
    }
}
