//! A backend behind its own table of functions, in one process.

use camelid_abi as abi;
use camelid_core::backend::Backend;

use super::export::{API, plugin_of};
use super::import::{PluginBackend, adopt};
use super::manifest::{ConnectError, ManifestInfo};

/// Puts `backend` behind the ABI and takes it back from there: what a plugin's tests run before there is a library.
///
/// Every call goes through the functions that [`export_backend!`](crate::export_backend) exports.
///
/// # Errors
/// None that are known: the table is this crate's own.
pub fn loopback(backend: Box<dyn Backend>) -> Result<PluginBackend, ConnectError> {
    let info = ManifestInfo {
        name: backend.name().to_owned(),
        version: backend.version().to_owned(),
        target: crate::TARGET.to_owned(),
        abi_minor: abi::ABI_MINOR,
    };
    // SAFETY: both come from this crate.
    unsafe { adopt(info, plugin_of(backend), &API) }
}
