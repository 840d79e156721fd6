//! The macro that makes a crate a plugin.

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
