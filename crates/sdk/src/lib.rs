//! What the author of a backend depends on: Camelid's traits, the macros that register or export a backend, and both
//! sides of the C ABI.
//!
//! Implement [`Backend`] and [`Device`], or only [`Kernels`], one operation at a time, and let [`Interpreter`] be the
//! device. [`link_backend!`] registers the backend in a program, [`export_backend!`] makes the library a plugin, and
//! [`loopback`] runs it behind the plugin interface without a library. The reference backend and
//! `plugins/example-rust` show how. Nothing here loads a library: that is the host's side, which uses [`import`].

#![deny(missing_docs)]
#![deny(unsafe_code)]

pub mod convert;
#[allow(unsafe_code)]
mod ffi;
mod interpreter;
pub mod kernels;

pub use camelid_abi as abi;
pub use camelid_core as core;
pub use camelid_core::backend::{Backend, Device};
pub use ffi::log::{Level, log};
pub use ffi::{export, import, loopback};
pub use interpreter::{Interpreter, parts};
pub use kernels::Kernels;

/// What this program or plugin was built for, as a manifest writes it: `ARCHITECTURE-OS`.
pub const TARGET: &str = export::TARGET;

/// Registers a backend that is linked into the program.
///
/// The program that wants it must refer to its crate (`use my_backend as _;`), or the linker drops both.
///
/// ```
/// use camelid_sdk::Backend;
/// use camelid_sdk::core::backend::{BackendError, Device, Devices, LinkedBackend, Options};
///
/// struct Npu;
///
/// impl Backend for Npu {
///     fn name(&self) -> &str {
///         "npu"
///     }
///     fn version(&self) -> &str {
///         env!("CARGO_PKG_VERSION")
///     }
///     fn devices(&self) -> Result<Devices, BackendError> {
///         Ok(Devices { list: Vec::new(), note: Some("no NPU on this bus".into()) })
///     }
///     fn open(&self, index: usize, _: &Options) -> Result<Box<dyn Device>, BackendError> {
///         Err(BackendError::invalid(format!("there is no device {index}")))
///     }
/// }
///
/// camelid_sdk::link_backend!("npu", || Box::new(Npu));
///
/// let linked = camelid_sdk::core::inventory::iter::<LinkedBackend>;
/// assert!(linked.into_iter().any(|b| b.name == "npu"));
/// ```
#[macro_export]
macro_rules! link_backend {
    ($name:expr, $make:expr) => {
        $crate::core::inventory::submit! {
            $crate::core::backend::LinkedBackend { name: $name, make: $make }
        }
    };
}
