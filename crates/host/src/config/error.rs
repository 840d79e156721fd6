//! [`ConfigError`]: what is wrong with a configuration, and where.

use std::path::PathBuf;

use thiserror::Error;

use super::load::Origin;
use crate::suggest::did_you_mean;

/// What is wrong with a configuration. The message names the place, the key, what was found, and the rule.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum ConfigError {
    /// A file cannot be read, or is no text.
    #[error("configuration file {path}: {problem}", path = path.display())]
    File {
        /// The file, as it was named.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A file is not TOML.
    #[error("{origin}: this is not TOML: {problem}")]
    Syntax {
        /// File and line.
        origin: Origin,
        /// What the parser says.
        problem: String,
    },
    /// A key that does not exist.
    #[error("{origin}: there is no key `{key}`{hint} ({known})", hint = did_you_mean(nearest.as_deref()))]
    UnknownKey {
        /// File and line.
        origin: Origin,
        /// The key with its table.
        key: String,
        /// The key it probably means.
        nearest: Option<String>,
        /// The keys there are in its place.
        known: String,
    },
    /// A value of the wrong type or out of range.
    #[error("{origin}: `{key}` is {found}, but it must {rule}")]
    Value {
        /// File and line, variable or flag.
        origin: Origin,
        /// The key with its table.
        key: String,
        /// What it is.
        found: String,
        /// The rule.
        rule: String,
    },
    /// A `CAMELID_*` variable that stands for no key.
    #[error("there is no variable {variable}{hint} ({remedy})", hint = did_you_mean(nearest.as_deref()))]
    UnknownVariable {
        /// Its name.
        variable: String,
        /// The variable it probably means.
        nearest: Option<String>,
        /// How to find the right one.
        remedy: String,
    },
    /// A `CAMELID_*` variable whose value is no text.
    #[error("{variable}: the value is not UTF-8: {found}; set it to text, or unset it")]
    NotText {
        /// Its name.
        variable: String,
        /// Its value, as far as it can be shown.
        found: String,
    },
    /// A setting names a backend that is not there.
    #[error("{origin}: `{key}` names the backend `{name}`, which is not there{hint} (the backends are: {known})",
            hint = did_you_mean(nearest.as_deref()))]
    UnknownBackend {
        /// File and line, variable or flag.
        origin: Origin,
        /// The key with its table.
        key: String,
        /// The name.
        name: String,
        /// The name that is most like it.
        nearest: Option<String>,
        /// All names there are.
        known: String,
    },
}
