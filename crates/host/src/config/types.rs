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
    /// Most tokens of prompt and generation together.
    pub max_length: Option<usize>,
    /// No end among so many generated tokens.
    pub min_new_tokens: Option<usize>,
    /// No end before prompt and generation have this length.
    pub min_length: Option<usize>,
    /// Seconds after which the next token is the last.
    pub max_time: Option<f64>,
    /// The kept tokens are those nearest to the entropy that have this probability together.
    pub typical_p: Option<f64>,
    /// A kept token is at least this likely.
    pub epsilon_cutoff: Option<f64>,
    /// A kept token is at least this likely, less where much is possible.
    pub eta_cutoff: Option<f64>,
    /// The kept tokens have this share of the entropy.
    pub top_h: Option<f64>,
    /// Above 1, tokens of the prompt become likelier.
    pub encoder_repetition_penalty: Option<f64>,
    /// No sequence of so many tokens comes twice.
    pub no_repeat_ngram_size: Option<usize>,
    /// No sequence of so many tokens of the prompt comes again.
    pub encoder_no_repeat_ngram_size: Option<usize>,
    /// Sequences of tokens that must not come.
    pub bad_words_ids: Option<Vec<Vec<u32>>>,
    /// What is added to the score of a sequence's last token where the others came before it.
    pub sequence_bias: Option<Vec<(Vec<u32>, f64)>>,
    /// Tokens that never come.
    pub suppress_tokens: Option<Vec<u32>>,
    /// Tokens that do not come first.
    pub begin_suppress_tokens: Option<Vec<u32>>,
    /// The token that comes after a prompt of one token.
    pub forced_bos_token_id: Option<usize>,
    /// The tokens of which one comes last where the most new tokens are reached.
    pub forced_eos_token_id: Option<Vec<u32>>,
    /// Where the end begins to be drawn nearer, and by what factor with each token.
    pub exponential_decay_length_penalty: Option<(usize, f64)>,
    /// Whether logits that are no numbers are replaced in place of an error.
    pub remove_invalid_values: Option<bool>,
    /// Whether beams add up log-probabilities that are normalized again after all rules.
    pub renormalize_logits: Option<bool>,
    /// Texts that beam search grows side by side; 1 is no beam search.
    pub num_beams: Option<usize>,
    /// Beam scores are divided by the length to the power of it.
    pub length_penalty: Option<f64>,
    /// When a beam search ends.
    pub early_stopping: Option<EarlyStop>,
    /// How many texts to return.
    pub num_return_sequences: Option<usize>,
    /// Tokens that prompt lookup guesses for a step.
    pub prompt_lookup_num_tokens: Option<usize>,
    /// Tokens that prompt lookup looks for.
    pub max_matching_ngram_size: Option<usize>,
    /// The checkpoint of a draft model. A relative path in a file starts at the file's folder.
    pub draft_model: Option<PathBuf>,
    /// Tokens that the draft model guesses for a step.
    pub draft_tokens: Option<usize>,
}

/// Gives an enum its names in the configuration.
macro_rules! names {
    ($($type:ident { $($variant:ident = $name:literal),* })*) => {$(
        impl $type {
            /// The names in the configuration.
            pub const NAMES: &'static [&'static str] = &[$($name),*];

            /// The one of this name.
            pub fn from_name(name: &str) -> Option<$type> {
                match name {
                    $($name => Some($type::$variant),)*
                    _ => None,
                }
            }
        }

        impl Field for $type {
            fn to_value(&self) -> Value {
                Value::Text(match self { $($type::$variant => $name),* }.to_owned())
            }

            fn from_value(value: Value) -> Option<$type> {
                match value {
                    Value::Text(name) => $type::from_name(&name),
                    _ => None,
                }
            }
        }
    )*};
}

names! {
    CacheName { Contiguous = "contiguous", Paged = "paged" }
    KvDtype { F32 = "f32", F16 = "f16", Bf16 = "bf16", Q8_0 = "q8_0" }
    Repack { Auto = "auto", Never = "never" }
    Trust { Hash = "hash", Path = "path" }
    EarlyStop { True = "true", False = "false", Never = "never" }
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
    /// Blocks of 32 signed bytes with an f16 scale; heads must be whole blocks.
    Q8_0,
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

/// When a beam search ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EarlyStop {
    /// As soon as there are as many finished texts as beams.
    True,
    /// When the best running text, ended now, would not be better than the worst finished one.
    #[default]
    False,
    /// When no running text could become better at any length.
    Never,
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
