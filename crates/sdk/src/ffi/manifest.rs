//! What a library says of itself, and why it may be no plugin.

use std::ffi::{CStr, c_char};
use std::fmt;

use camelid_abi as abi;
use camelid_core::backend::BackendError;

use super::has;

/// Bytes of a manifest's text.
const MAX_MANIFEST_TEXT: usize = 256;

/// What a library says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestInfo {
    /// Name of the backend.
    pub name: String,
    /// Version of the plugin.
    pub version: String,
    /// What it was built for: `ARCHITECTURE-OS`.
    pub target: String,
    /// The minor version of the ABI it was built for.
    pub abi_minor: u32,
}

/// Why a library is no plugin for this host.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectError {
    /// The manifest does not begin as one does.
    Magic {
        /// What stands there.
        found: u32,
    },
    /// The plugin is for another major version of the ABI.
    Major {
        /// Its version.
        found: u32,
    },
    /// The manifest is smaller than any version's.
    SmallManifest {
        /// Its `struct_size`.
        size: u32,
    },
    /// A text of the manifest is missing, too long or not UTF-8.
    ManifestText {
        /// Which.
        field: &'static str,
    },
    /// The entry failed.
    Entry(BackendError),
    /// The entry said OK but gave no plugin.
    NoPlugin,
    /// The entry said OK but gave no table of functions.
    NoTable,
    /// The table is smaller than that of any version.
    SmallTable {
        /// Its `struct_size`.
        size: u32,
        /// The least there can be.
        needed: usize,
    },
    /// A required function is null.
    MissingFunction {
        /// Its name.
        function: &'static str,
    },
}

impl std::error::Error for ConnectError {}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = abi::ABI_MAJOR;
        match self {
            ConnectError::Magic { found } => write!(
                f,
                "its manifest begins with {found:#010x} instead of {:#010x}: it is no Camelid plugin, or one for another \
                 byte order",
                abi::MAGIC
            ),
            ConnectError::Major { found } => write!(
                f,
                "it was built for version {found} of the plugin interface, and this program has version {host}; get a \
                 build of the plugin for version {host}"
            ),
            ConnectError::SmallManifest { size } => write!(
                f,
                "its manifest's struct_size is {size}, but the smallest is {}; build it against camelid_backend.h or \
                 camelid-sdk",
                size_of::<abi::Manifest>()
            ),
            ConnectError::ManifestText { field } => {
                write!(f, "its manifest's `{field}` is missing, longer than {MAX_MANIFEST_TEXT} bytes or not UTF-8")
            }
            ConnectError::Entry(error) => write!(f, "its entry failed: {error}"),
            ConnectError::NoPlugin => {
                f.write_str("its entry answered OK but gave no plugin; this is a bug in the plugin")
            }
            ConnectError::NoTable => {
                f.write_str("its entry answered OK but gave no table of functions; this is a bug in the plugin")
            }
            ConnectError::SmallTable { size, needed } => write!(
                f,
                "its table of functions has struct_size {size}, but the required ones take {needed}; build it against \
                 camelid_backend.h or camelid-sdk"
            ),
            ConnectError::MissingFunction { function } => {
                write!(f, "its table of functions lacks `{function}`, which is required")
            }
        }
    }
}

/// Reads a plugin's manifest. No code of the plugin runs.
///
/// # Safety
/// `manifest` points to as much memory as its `struct_size` says, at least 8 bytes; its texts end with a NUL.
pub unsafe fn check_manifest(manifest: *const abi::Manifest) -> Result<ManifestInfo, ConnectError> {
    // SAFETY: by contract; magic, size and version come before the rest.
    unsafe {
        let found = (*manifest).magic;
        if found != abi::MAGIC {
            return Err(ConnectError::Magic { found });
        }
        let size = (*manifest).struct_size;
        if !has!(size, abi::Manifest, abi_major) {
            return Err(ConnectError::SmallManifest { size });
        }
        let found = (*manifest).abi_major;
        if found != abi::ABI_MAJOR {
            return Err(ConnectError::Major { found });
        }
        if !has!(size, abi::Manifest, target) {
            return Err(ConnectError::SmallManifest { size });
        }
        Ok(ManifestInfo {
            name: manifest_text("name", (*manifest).name)?,
            version: manifest_text("version", (*manifest).version)?,
            target: manifest_text("target", (*manifest).target)?,
            abi_minor: (*manifest).abi_minor,
        })
    }
}

unsafe fn manifest_text(field: &'static str, text: *const c_char) -> Result<String, ConnectError> {
    let bad = ConnectError::ManifestText { field };
    if text.is_null() {
        return Err(bad);
    }
    // SAFETY: the text ends with a NUL.
    let text = unsafe { CStr::from_ptr(text) };
    match text.to_str() {
        Ok(text) if !text.is_empty() && text.len() <= MAX_MANIFEST_TEXT => Ok(text.to_owned()),
        _ => Err(bad),
    }
}
