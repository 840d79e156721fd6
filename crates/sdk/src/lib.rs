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
/// ```ignore
/// camelid_sdk::link_backend!("npu", || Box::new(Npu::new()));
/// ```
#[macro_export]
macro_rules! link_backend {
    ($name:expr, $make:expr) => {
        $crate::core::inventory::submit! {
            $crate::core::backend::LinkedBackend { name: $name, make: $make }
        }
    };
}
