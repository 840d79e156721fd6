//! The configuration: what can be set, in layers, with an origin for every setting and an error for everything else.
//!
//! A setting comes from a flag, else from a `CAMELID_*` variable, else from the file of `--config`, else from
//! `camelid.toml` in the working directory; what none of them sets is left to the model and to the defaults that
//! [`KEYS`] states. `specs/config.md` is the manual. Reading goes: [`Config::load`] collects the layers, `file` and
//! `environment` make each into settings, and [`KEYS`] says of every key what it may be and where in [`Config`] it
//! goes, so that a key is added in one place.

mod environment;
mod error;
mod file;
mod load;
mod schema;
mod types;
mod value;

pub use environment::{CACHE_VARIABLE, CONFIG_VARIABLE, LOG_VARIABLE, environment};
pub use error::ConfigError;
pub use load::{ConfigSources, Loaded, Origin, Setting};
pub use schema::{KEYS, Key};
pub use types::{
    BackendConfig, CacheName, Config, EarlyStop, EngineConfig, GenerateConfig, KvDtype, PluginsConfig, Repack, Trust,
};
pub use value::Kind;
