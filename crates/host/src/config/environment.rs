//! Settings from `CAMELID_*` variables.

use std::env;

use super::error::ConfigError;
use super::load::{Layer, Origin};
use super::schema::{KEYS, Key};
use super::value::{quote, shorten};
use crate::suggest::nearest;

const PREFIX: &str = "CAMELID_";

/// Names a configuration file, as `--config` does; the flag wins.
pub const CONFIG_VARIABLE: &str = "CAMELID_CONFIG";
/// What is logged. No setting: the configuration does not read it.
pub const LOG_VARIABLE: &str = "CAMELID_LOG";
/// The folder for fetched files. No setting: the configuration does not read it.
pub const CACHE_VARIABLE: &str = "CAMELID_CACHE";

/// The process's `CAMELID_*` variables, for [`ConfigSources::env`](super::ConfigSources::env).
///
/// # Errors
/// [`ConfigError::NotText`] for one whose value is not UTF-8.
pub fn environment() -> Result<Vec<(String, String)>, ConfigError> {
    let ours = env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok().filter(|n| n.starts_with(PREFIX))?;
        Some((name, value))
    });
    ours.map(|(variable, value)| match value.into_string() {
        Ok(value) => Ok((variable, value)),
        Err(value) => Err(ConfigError::NotText { variable, found: shorten(&format!("{value:?}")) }),
    })
    .collect()
}

/// The settings in `env`. Variables of others are passed over.
pub(super) fn read(env: &[(String, String)]) -> Result<Layer, ConfigError> {
    let mut ours: Vec<&(String, String)> = env.iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
    ours.sort();
    let mut layer = Layer::default();
    for (variable, text) in ours {
        if [CONFIG_VARIABLE, LOG_VARIABLE, CACHE_VARIABLE].contains(&variable.as_str()) {
            continue;
        }
        let key = KEYS.iter().find(|k| k.variable() == *variable).ok_or_else(|| unknown(variable))?;
        let origin = Origin::Variable(variable.clone());
        let Some(value) = key.kind.read_text(text) else {
            let (key, rule) = (key.path.to_owned(), key.kind.rule());
            let (found, rule) = match text.as_str() {
                "" => ("empty".into(), format!("{rule}; to leave it open, unset the variable")),
                text => (shorten(&quote(text)), rule),
            };
            return Err(ConfigError::Value { origin, key, found, rule });
        };
        layer.set(key.path, value, origin);
    }
    Ok(layer)
}

fn unknown(variable: &str) -> ConfigError {
    let variables: Vec<String> = KEYS.iter().map(Key::variable).chain([CONFIG_VARIABLE.to_owned()]).collect();
    let wanted = &variable[PREFIX.len()..];
    let names = || variables.iter().map(|v| &v[PREFIX.len()..]);
    // A key without its table is the likeliest slip, and far from the right name when letters are counted.
    let without_table = names().find(|name| name.split_once('_').is_some_and(|(_, key)| key == wanted));
    let remedy = if wanted.starts_with("BACKENDS_") {
        "settings of a backend have no variables; write them to [backends.NAME] in a configuration file"
    } else {
        "a key's variable is CAMELID_ with its table and name in capitals: engine.batch_size is \
         CAMELID_ENGINE_BATCH_SIZE"
    };
    ConfigError::UnknownVariable {
        variable: shorten(&variable.escape_debug().to_string()),
        nearest: without_table.or_else(|| nearest(wanted, names())).map(|name| format!("{PREFIX}{name}")),
        remedy: remedy.to_owned(),
    }
}
