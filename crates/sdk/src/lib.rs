//! What the author of a backend depends on: Camelid's traits, the way to register a backend, and the conversions
//! between core's types and those of the C ABI.
//!
//! Implement [`Backend`] and [`Device`] and register with [`link_backend!`]; the reference backend shows how. Nothing
//! here loads or runs a plugin: that is the host's side.

#![deny(missing_docs)]
#![forbid(unsafe_code)]

pub mod convert;

pub use camelid_abi as abi;
pub use camelid_core as core;
pub use camelid_core::backend::{Backend, Device};

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
