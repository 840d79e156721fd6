//! The host side of Camelid: the [`Registry`] of backends, the loader of [`plugin`]s, RAII handles on their devices ([`DeviceHandle`], [`Buffer`],
//! [`Plan`]), the placement of graphs on them, and the [`Config`] that `camelid.toml` holds.
//!
//! No backend is named here and none is chosen by default or in another's place; models, caches and samplers live
//! above, in the engine. Whoever drives a device starts at [`DeviceHandle`], whoever adds a setting at
//! [`config::KEYS`].

#![deny(missing_docs)]
#![deny(unsafe_code)]

pub mod config;
mod device;
mod error;
#[allow(unsafe_code)]
mod ffi;
mod place;
mod plan;
pub mod plugin;
mod registry;
mod suggest;

pub use config::{Config, ConfigError, ConfigSources, Loaded};
pub use device::{Buffer, DeviceHandle};
pub use error::HostError;
pub use place::{LoweredOp, OnUnsupported, Placed};
pub use plan::Plan;
pub use plugin::{PluginError, PluginSpec};
pub use registry::{BackendEntry, BackendOrigin, Registry};
