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
pub use interpreter::Interpreter;
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

/// Makes the library a plugin: exports `camelid_plugin_manifest` and `camelid_plugin_entry_v1`, and nothing else.
///
/// The crate is a `cdylib`; its version is the plugin's. A file beside the library, `LIBRARY.plugin.toml`, says the same
/// for the host to read first (`specs/plugin-abi.md`). The backend must be called by the name given here.
///
/// ```
/// # use camelid_sdk::core::backend::{BackendError, Devices, Options};
/// # use camelid_sdk::{Backend, Device};
/// # struct Npu;
/// # impl Backend for Npu {
/// #     fn name(&self) -> &str { "npu" }
/// #     fn version(&self) -> &str { env!("CARGO_PKG_VERSION") }
/// #     fn devices(&self) -> Result<Devices, BackendError> {
/// #         Ok(Devices { list: Vec::new(), note: Some("no NPU on this bus".into()) })
/// #     }
/// #     fn open(&self, index: usize, _: &Options) -> Result<Box<dyn Device>, BackendError> {
/// #         Err(BackendError::invalid(format!("there is no device {index}")))
/// #     }
/// # }
/// camelid_sdk::export_backend!("npu", || Box::new(Npu));
/// ```
#[macro_export]
macro_rules! export_backend {
    ($name:literal, $make:expr) => {
        #[cfg(not(panic = "unwind"))]
        compile_error!("a plugin catches its panics: build it with panic = \"unwind\"");

        /// What the host reads before any code of this library is called.
        #[unsafe(no_mangle)]
        #[allow(non_upper_case_globals, unsafe_code)]
        pub static camelid_plugin_manifest: $crate::abi::Manifest =
            $crate::export::manifest(concat!($name, "\0"), concat!(env!("CARGO_PKG_VERSION"), "\0"));

        /// Hands the plugin and its functions to the host.
        ///
        /// # Safety
        /// The host's pointers live for the call, `host` for the process.
        #[unsafe(no_mangle)]
        #[allow(unsafe_code)]
        pub unsafe extern "C" fn camelid_plugin_entry_v1(
            host: *const $crate::abi::Host,
            plugin: *mut *mut $crate::abi::Plugin,
            api: *mut *const $crate::abi::Api,
            error: *mut $crate::abi::Error,
        ) -> $crate::abi::Status {
            // SAFETY: the host gave the pointers.
            unsafe { $crate::export::enter(host, plugin, api, error, $name, $make) }
        }
    };
}
