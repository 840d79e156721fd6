//! [`Config`]: the settings, each `None` where no layer sets it. [`KEYS`](super::KEYS) has their ranges and defaults.

use std::collections::BTreeMap;
use std::path::PathBuf;

use camelid_core::backend::Options;

use super::value::{Field, Value};
use crate::place::OnUnsupported;
use crate::plugin::PluginSpec;

/// All settings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// The backend that runs: the exact name, and never another one.
    pub backend: Option<String>,
    /// The checkpoint. A relative path in a file starts at the file's folder.
    pub model: Option<PathBuf>,
    /// `[backends.NAME]`: which device, and the backend's own options.
    pub backends: BTreeMap<String, BackendConfig>,
    /// `[plugins]`: where plugins come from.
    pub plugins: PluginsConfig,
    /// `[[plugin]]`: the plugins, those of lower layers first.
    pub plugin: Vec<PluginSpec>,
    /// `[engine]`: memory and placement.
    pub engine: EngineConfig,
    /// `[generate]`: how tokens are chosen.
    pub generate: GenerateConfig,
}

impl Config {
    /// The device of `backend` to open and the options to open it with.
    pub fn device(&self, backend: &str) -> (usize, Options) {
        let mut options = Options::default();
        let settings = self.backends.get(backend);
        for (key, value) in settings.into_iter().flat_map(|s| &s.options) {
            options.set(key, value);
        }
        (settings.and_then(|s| s.device).unwrap_or(0), options)
    }
}

/// A table `[backends.NAME]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BackendConfig {
    /// `device`: index of the device among those `camelid backends` lists.
    pub device: Option<usize>,
    /// All other keys, as the backend is given them. It refuses those it does not know.
    pub options: BTreeMap<String, String>,
}

/// The table `[plugins]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PluginsConfig {
    /// Folders whose plugins may be used; absolute.
    pub folders: Option<Vec<String>>,
    /// What a plugin needs to be loaded.
    pub trust: Option<Trust>,
}

/// The table `[engine]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EngineConfig {
    /// Longest sequence, in tokens.
    pub context_size: Option<usize>,
    /// Most tokens in one run of the device; longer prompts go in chunks.
    pub batch_size: Option<usize>,
    /// Most sequences at a time.
    pub max_sequences: Option<usize>,
    /// How the cache divides its memory.
    pub cache: Option<CacheName>,
    /// Tokens of a block of the paged cache.
    pub block_size: Option<usize>,
    /// Type of cached keys and values.
    pub kv_dtype: Option<KvDtype>,
    /// What to do with an operation the backend does not have.
    pub on_unsupported: Option<OnUnsupported>,
    /// Whether the backend may keep weights in a layout of its own.
    pub repack: Option<Repack>,
}

/// The table `[generate]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GenerateConfig {
    /// Most tokens to generate.
    pub max_new_tokens: Option<usize>,
    /// Logits are divided by it; 0 always takes the most likely token.
    pub temperature: Option<f64>,
    /// How many of the most likely tokens are kept; 0 keeps all.
    pub top_k: Option<usize>,
    /// The kept tokens have at least this probability together.
    pub top_p: Option<f64>,
    /// A kept token is at least this likely compared with the most likely.
    pub min_p: Option<f64>,
    /// Above 1, tokens of the prompt and of the text become less likely.
    pub repetition_penalty: Option<f64>,
    /// Taken from the score of every token generated so far.
    pub presence_penalty: Option<f64>,
    /// Taken from a token's score for each time it was generated.
    pub frequency_penalty: Option<f64>,
    /// Seed of the sampler.
    pub seed: Option<u64>,
    /// Texts that end a generation. A higher layer's list replaces a lower one's.
    pub stop: Option<Vec<String>>,
}

/// Gives an enum its names in the configuration.
macro_rules! names {
    ($($type:ident { $($variant:ident = $name:literal),* })*) => {$(
        impl $type {
            /// The names in the configuration.
            pub const NAMES: &'static [&'static str] = &[$($name),*];
        }

        impl Field for $type {
            fn to_value(&self) -> Value {
                Value::Text(match self { $($type::$variant => $name),* }.to_owned())
            }

            fn from_value(value: Value) -> Option<$type> {
                match value {
                    $(Value::Text(name) if name == $name => Some($type::$variant),)*
                    _ => None,
                }
            }
        }
    )*};
}

names! {
    CacheName { Contiguous = "contiguous", Paged = "paged" }
    KvDtype { F32 = "f32", F16 = "f16", Bf16 = "bf16" }
    Repack { Auto = "auto", Never = "never" }
    Trust { Hash = "hash", Path = "path" }
    OnUnsupported { Lower = "lower", Error = "error" }
}

/// How the cache divides its memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheName {
    /// One run of rows a sequence.
    #[default]
    Contiguous,
    /// Blocks that sequences take as they grow.
    Paged,
}

/// Type of cached keys and values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KvDtype {
    /// IEEE 754 binary32.
    #[default]
    F32,
    /// IEEE 754 binary16.
    F16,
    /// bfloat16.
    Bf16,
}

/// What a plugin needs to be loaded. Whatever it is, nobody else may be able to change the library.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// An entry with the SHA-256 of its library.
    #[default]
    Hash,
    /// An entry, or to lie in one of the folders.
    Path,
}

/// Whether the backend may keep weights in a layout of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Repack {
    /// Where it makes them faster.
    #[default]
    Auto,
    /// Never: weights are read as they lie in the file, or copied.
    Never,
}
