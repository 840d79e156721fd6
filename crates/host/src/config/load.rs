//! [`Config::load`]: the layers, from the lowest to the highest, and what they come to.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::environment::{self, CONFIG_VARIABLE};
use super::error::ConfigError;
use super::file;
use super::schema::{BACKENDS, DEVICE, DEVICE_KIND, KEYS, PLUGIN};
use super::types::Config;
use super::value::{Value, quote, quote_key, shorten};
use crate::plugin::PluginSpec;
use crate::registry::{BACKEND_NAME_RULE, is_backend_name};
use crate::suggest::nearest;

/// The name of the file that is read from the working directory.
const FILE_NAME: &str = "camelid.toml";

/// Where a configuration comes from.
#[derive(Clone, Debug, Default)]
pub struct ConfigSources {
    /// The working directory: where `camelid.toml` is looked for and relative file names start.
    pub cwd: PathBuf,
    /// The file of `--config`.
    pub explicit_file: Option<PathBuf>,
    /// The environment; see [`environment`](super::environment()). Variables of others do not matter.
    pub env: Vec<(String, String)>,
    /// What flags set.
    pub overrides: Config,
}

/// Where a setting comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// A file.
    File {
        /// The file, as it was named.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// A variable of the environment.
    Variable(String),
    /// A flag.
    Flag(&'static str),
    /// The command line, by a flag of another name.
    CommandLine,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File { path, line } => write!(f, "{}:{line}", path.display()),
            Origin::Variable(name) => f.write_str(name),
            Origin::Flag(name) => f.write_str(name),
            Origin::CommandLine => f.write_str("the command line"),
        }
    }
}

/// A configuration with the origin of each setting.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    settings: Vec<Setting>,
}

/// A setting as `camelid config show` prints it.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// The key with its table, as it can be written in a file: `engine.batch_size`.
    pub key: String,
    /// The value as TOML, on one line.
    pub value: String,
    /// Where it comes from.
    pub origin: Origin,
}

/// Settings of one source, or of all.
#[derive(Debug, Default)]
pub(super) struct Layer {
    keys: BTreeMap<&'static str, (Value, Origin)>,
    devices: BTreeMap<String, (u64, Origin)>,
    /// By backend and option.
    options: BTreeMap<(String, String), (String, Origin)>,
    plugins: Vec<(PluginSpec, Origin)>,
}

impl Layer {
    pub(super) fn set(&mut self, key: &'static str, value: Value, origin: Origin) {
        self.keys.insert(key, (value, origin));
    }

    pub(super) fn set_device(&mut self, backend: &str, index: u64, origin: Origin) {
        self.devices.insert(backend.to_owned(), (index, origin));
    }

    pub(super) fn set_option(&mut self, backend: &str, key: &str, value: String, origin: Origin) {
        self.options.insert((backend.to_owned(), key.to_owned()), (value, origin));
    }

    pub(super) fn add_plugin(&mut self, plugin: PluginSpec, origin: Origin) {
        self.plugins.push((plugin, origin));
    }

    /// Lays `higher` over this one.
    fn overlay(&mut self, higher: Layer) {
        self.keys.extend(higher.keys);
        self.devices.extend(higher.devices);
        self.options.extend(higher.options);
        self.plugins.extend(higher.plugins);
    }

    /// What flags set, checked like everything else.
    fn of_flags(config: &Config) -> Result<Layer, ConfigError> {
        let mut layer = Layer::default();
        for key in KEYS {
            let Some(value) = (key.get)(config) else { continue };
            let origin = key.flag.map_or(Origin::CommandLine, Origin::Flag);
            if !key.kind.allows(&value) {
                let (key, rule) = (key.path.to_owned(), key.kind.rule());
                return Err(ConfigError::Value { origin, key, found: shorten(&value.to_toml()), rule });
            }
            layer.set(key.path, value, origin);
        }
        for (name, settings) in &config.backends {
            let wrong = |key: String, found: String, rule: String| {
                Err(ConfigError::Value { origin: Origin::CommandLine, key, found, rule })
            };
            if !is_backend_name(name) {
                return wrong(BACKENDS.into(), shorten(&quote(name)), format!("name a backend: {BACKEND_NAME_RULE}"));
            }
            if let Some(index) = settings.device.map(|index| index as u64) {
                if !DEVICE_KIND.allows(&Value::Integer(index)) {
                    return wrong(format!("{BACKENDS}.{name}.{DEVICE}"), index.to_string(), DEVICE_KIND.rule());
                }
                layer.set_device(name, index, Origin::CommandLine);
            }
            for (key, value) in &settings.options {
                layer.set_option(name, key, value.clone(), Origin::CommandLine);
            }
        }
        Ok(layer)
    }

    fn into_loaded(self) -> Loaded {
        let mut config = Config::default();
        let mut settings = Vec::new();
        for key in KEYS {
            if let Some((value, origin)) = self.keys.get(key.path) {
                let toml = value.to_toml();
                settings.push(Setting { key: key.path.to_owned(), value: toml, origin: origin.clone() });
                (key.set)(&mut config, value.clone());
            }
        }
        for (name, (index, origin)) in self.devices {
            settings.push(Setting { key: format!("{BACKENDS}.{name}.{DEVICE}"), value: index.to_string(), origin });
            config.backends.entry(name).or_default().device = usize::try_from(index).ok();
        }
        for ((name, option), (value, origin)) in self.options {
            let key = format!("{BACKENDS}.{name}.{}", quote_key(&option));
            settings.push(Setting { key, value: option_to_toml(&value), origin });
            config.backends.entry(name).or_default().options.insert(option, value);
        }
        if let Some((_, origin)) = self.plugins.last() {
            let tables: Vec<String> = self.plugins.iter().map(|(plugin, _)| plugin_to_toml(plugin)).collect();
            let value = format!("[{}]", tables.join(", "));
            settings.push(Setting { key: PLUGIN.to_owned(), value, origin: origin.clone() });
        }
        config.plugin = self.plugins.into_iter().map(|(plugin, _)| plugin).collect();
        Loaded { config, settings }
    }
}

impl Config {
    /// The configuration that `sources` come to: flags over variables over the file of `--config` (or of
    /// `CAMELID_CONFIG`) over `camelid.toml` in the working directory.
    ///
    /// # Errors
    /// [`ConfigError`] for the first source, from the lowest, that has something wrong, also where a higher one
    /// would have hidden it. That there is no `camelid.toml` is no error; that there is no file of that name is one.
    pub fn load(sources: &ConfigSources) -> Result<Loaded, ConfigError> {
        let mut all = Layer::default();
        let found = sources.cwd.join(FILE_NAME);
        // A link to nothing is there, and an error.
        if found.symlink_metadata().is_ok() {
            all.overlay(read_file(&found, &Path::new(".").join(FILE_NAME), &sources.cwd)?);
        }
        let named = sources.env.iter().find(|(name, _)| name == CONFIG_VARIABLE);
        if let Some(shown) = sources.explicit_file.clone().or_else(|| named.map(|(_, value)| PathBuf::from(value))) {
            if shown.as_os_str().is_empty() {
                let problem = "the name is empty; name a file, or leave --config and CAMELID_CONFIG out".into();
                return Err(ConfigError::File { path: shown, problem });
            }
            let path = sources.cwd.join(&shown);
            let folder = path.parent().unwrap_or(&sources.cwd);
            all.overlay(read_file(&path, &shown, folder)?);
        }
        all.overlay(environment::read(&sources.env)?);
        all.overlay(Layer::of_flags(&sources.overrides)?);
        Ok(all.into_loaded())
    }
}

fn read_file(path: &Path, shown: &Path, folder: &Path) -> Result<Layer, ConfigError> {
    tracing::debug!(file = %path.display(), "reading the configuration");
    file::parse(&file::read(path, shown)?, shown, folder)
}

impl Loaded {
    /// What is set, in the order of [`KEYS`], then the backends' tables. The lines `key = value` are a configuration
    /// file that comes to the same.
    pub fn settings(&self) -> &[Setting] {
        &self.settings
    }

    /// Where the setting `key` comes from, if it is set.
    pub fn origin(&self, key: &str) -> Option<&Origin> {
        self.settings.iter().find(|s| s.key == key).map(|s| &s.origin)
    }

    /// Checks that every backend that is named, by `backend` or a table, is one of `known`
    /// ([`Registry::names`](crate::Registry::names)).
    ///
    /// # Errors
    /// [`ConfigError::UnknownBackend`] with the place.
    pub fn check_backends(&self, known: &[&str]) -> Result<(), ConfigError> {
        let check = |setting: &Setting, name: &str| {
            if known.contains(&name) {
                return Ok(());
            }
            Err(ConfigError::UnknownBackend {
                origin: setting.origin.clone(),
                key: setting.key.clone(),
                name: name.to_owned(),
                nearest: nearest(name, known.iter().copied()).map(str::to_owned),
                known: known.join(", "),
            })
        };
        for setting in &self.settings {
            match setting.key.split('.').collect::<Vec<_>>()[..] {
                ["backend"] => check(setting, self.config.backend.as_deref().unwrap_or_default())?,
                [BACKENDS, name, ..] => check(setting, name)?,
                _ => {}
            }
        }
        Ok(())
    }
}

fn plugin_to_toml(plugin: &PluginSpec) -> String {
    let fields = [
        plugin.name.as_deref().map(|n| format!("name = {}", quote(n))),
        Some(format!("path = {}", quote(&plugin.path.to_string_lossy()))),
        plugin.sha256.map(|hash| format!("sha256 = \"{hash}\"")),
    ];
    format!("{{ {} }}", fields.into_iter().flatten().collect::<Vec<_>>().join(", "))
}

/// An option as it could have been written: bare if that reads back as the same text.
fn option_to_toml(value: &str) -> String {
    let bare = value == "true" || value == "false" || value.parse::<i64>().is_ok_and(|n| n.to_string() == value);
    if bare { value.to_owned() } else { quote(value) }
}
