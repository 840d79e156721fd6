//! [`KEYS`]: every key but those of the tables `[backends.NAME]`, which the backends define, and of `[[plugin]]`.

use std::fmt;

use super::types::{CacheName, Config, EarlyStop, KvDtype, Repack, Trust};
use super::value::{Field, Kind, Value};
use crate::place::OnUnsupported;

/// A key of the configuration.
#[derive(Clone, Copy)]
pub struct Key {
    /// The key with its table: `engine.batch_size`.
    pub path: &'static str,
    /// What its value may be.
    pub kind: Kind,
    /// What holds if it is not set: a value as TOML, or words.
    pub default: &'static str,
    /// The flag that sets it, if there is one.
    pub flag: Option<&'static str>,
    pub(super) get: fn(&Config) -> Option<Value>,
    pub(super) set: fn(&mut Config, Value),
}

impl Key {
    /// The key of this path.
    pub fn find(path: &str) -> Option<&'static Key> {
        KEYS.iter().find(|key| key.path == path)
    }

    /// The variable that sets it: `CAMELID_ENGINE_BATCH_SIZE`.
    pub fn variable(&self) -> String {
        format!("CAMELID_{}", self.path.to_uppercase().replace('.', "_"))
    }

    /// The table it is in, empty for the top level, and its name there.
    pub fn table_and_name(&self) -> (&'static str, &'static str) {
        self.path.split_once('.').unwrap_or(("", self.path))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("path", &self.path).field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// The name of the table of tables for the backends.
pub(super) const BACKENDS: &str = "backends";
/// The one key of a backend's table that is not the backend's own.
pub(super) const DEVICE: &str = "device";
/// What it may be: the plugin interface counts devices in 32 bits.
pub(super) const DEVICE_KIND: Kind = Kind::Integer { min: 0, max: u32::MAX as u64 };

/// The name of the array of tables for the plugins.
pub(super) const PLUGIN: &str = "plugin";
/// The keys of each.
pub(super) const PLUGIN_KEYS: [&str; 3] = ["name", "path", "sha256"];

/// Sizes in tokens, sequences and rows: beyond this nothing fits in memory.
const SIZE: Kind = Kind::Integer { min: 1, max: 1 << 24 };
/// Numbers of tokens and other counts that may be 0.
const COUNT: Kind = Kind::Integer { min: 0, max: i32::MAX as u64 };
const TOKEN_ID: Kind = Kind::Integer { min: 0, max: u32::MAX as u64 };
const SHARE: Kind = Kind::Number { min: 0.0, above: true, max: 1.0 };
const CUTOFF: Kind = Kind::Number { min: 0.0, above: false, max: 1.0 };
const PENALTY: Kind = Kind::Number { min: 0.0, above: true, max: f64::INFINITY };
const ANY_NUMBER: Kind = Kind::Number { min: f64::NEG_INFINITY, above: false, max: f64::INFINITY };

macro_rules! keys {
    ($($path:literal ($($field:ident).+): $kind:expr, $default:literal $(, $flag:literal)?;)*) => {
        /// Every key but those of the tables `[backends.NAME]`, in the order of the manual.
        pub const KEYS: &[Key] = &[$(Key {
            path: $path,
            kind: $kind,
            default: $default,
            flag: keys!(@flag $($flag)?),
            get: |config| config.$($field).+.as_ref().map(Field::to_value),
            set: |config, value| config.$($field).+ = Field::from_value(value),
        }),*];
    };
    (@flag) => { None };
    (@flag $flag:literal) => { Some($flag) };
}

keys! {
    "backend" (backend): Kind::BackendName, "\"cpu\"", "--backend";
    "model" (model): Kind::Path, "the bundled model", "--model";

    "plugins.folders" (plugins.folders): Kind::Strings, "none";
    "plugins.trust" (plugins.trust): Kind::Choice(Trust::NAMES), "\"hash\"";

    "engine.context_size" (engine.context_size): SIZE, "what is needed, at most what the model was made for",
        "--context-size";
    "engine.batch_size" (engine.batch_size): SIZE, "512";
    "engine.max_sequences" (engine.max_sequences): SIZE, "1";
    "engine.cache" (engine.cache): Kind::Choice(CacheName::NAMES), "\"contiguous\"";
    "engine.block_size" (engine.block_size): SIZE, "16";
    "engine.kv_dtype" (engine.kv_dtype): Kind::Choice(KvDtype::NAMES), "\"f32\"", "--kv-dtype";
    "engine.on_unsupported" (engine.on_unsupported): Kind::Choice(OnUnsupported::NAMES), "\"lower\"";
    "engine.repack" (engine.repack): Kind::Choice(Repack::NAMES), "\"auto\"";

    "generate.max_new_tokens" (generate.max_new_tokens): Kind::Integer { min: 0, max: i32::MAX as u64 },
        "the model's, else 256", "--max-new-tokens";
    "generate.temperature" (generate.temperature): Kind::Number { min: 0.0, above: false, max: f64::INFINITY },
        "the model's, else 0", "--temperature";
    "generate.top_k" (generate.top_k): Kind::Integer { min: 0, max: i32::MAX as u64 }, "the model's, else 50",
        "--top-k";
    "generate.top_p" (generate.top_p): Kind::Number { min: 0.0, above: true, max: 1.0 }, "the model's, else 1",
        "--top-p";
    "generate.min_p" (generate.min_p): Kind::Number { min: 0.0, above: false, max: 1.0 }, "the model's, else 0",
        "--min-p";
    "generate.repetition_penalty" (generate.repetition_penalty):
        Kind::Number { min: 0.0, above: true, max: f64::INFINITY }, "the model's, else 1", "--repetition-penalty";
    "generate.presence_penalty" (generate.presence_penalty): ANY_NUMBER, "0";
    "generate.frequency_penalty" (generate.frequency_penalty): ANY_NUMBER, "0";
    "generate.seed" (generate.seed): Kind::Integer { min: 0, max: u64::MAX }, "a new one each time", "--seed";
    "generate.stop" (generate.stop): Kind::Strings, "none", "--stop";
    "generate.max_length" (generate.max_length): COUNT, "the model's, else none", "--max-length";
    "generate.min_new_tokens" (generate.min_new_tokens): COUNT, "the model's, else 0", "--min-new-tokens";
    "generate.min_length" (generate.min_length): COUNT, "the model's, else 0", "--min-length";
    "generate.max_time" (generate.max_time): Kind::Number { min: 0.0, above: false, max: f64::INFINITY },
        "the model's, else none", "--max-time";
    "generate.typical_p" (generate.typical_p): SHARE, "the model's, else 1", "--typical-p";
    "generate.epsilon_cutoff" (generate.epsilon_cutoff): CUTOFF, "the model's, else 0", "--epsilon-cutoff";
    "generate.eta_cutoff" (generate.eta_cutoff): CUTOFF, "the model's, else 0", "--eta-cutoff";
    "generate.top_h" (generate.top_h): SHARE, "the model's, else none", "--top-h";
    "generate.encoder_repetition_penalty" (generate.encoder_repetition_penalty): PENALTY, "the model's, else 1",
        "--encoder-repetition-penalty";
    "generate.no_repeat_ngram_size" (generate.no_repeat_ngram_size): COUNT, "the model's, else 0",
        "--no-repeat-ngram-size";
    "generate.encoder_no_repeat_ngram_size" (generate.encoder_no_repeat_ngram_size): COUNT, "the model's, else 0",
        "--encoder-no-repeat-ngram-size";
    "generate.bad_words_ids" (generate.bad_words_ids): Kind::TokenIdLists, "the model's, else none", "--bad-words-ids";
    "generate.sequence_bias" (generate.sequence_bias): Kind::Biases, "the model's, else none", "--sequence-bias";
    "generate.suppress_tokens" (generate.suppress_tokens): Kind::TokenIds, "the model's, else none",
        "--suppress-tokens";
    "generate.begin_suppress_tokens" (generate.begin_suppress_tokens): Kind::TokenIds, "the model's, else none",
        "--begin-suppress-tokens";
    "generate.forced_bos_token_id" (generate.forced_bos_token_id): TOKEN_ID, "the model's, else none",
        "--forced-bos-token-id";
    "generate.forced_eos_token_id" (generate.forced_eos_token_id): Kind::TokenIds, "the model's, else none",
        "--forced-eos-token-id";
    "generate.exponential_decay_length_penalty" (generate.exponential_decay_length_penalty): Kind::Decay,
        "the model's, else none", "--exponential-decay-length-penalty";
    "generate.remove_invalid_values" (generate.remove_invalid_values): Kind::Switch, "the model's, else false",
        "--remove-invalid-values";
    "generate.renormalize_logits" (generate.renormalize_logits): Kind::Switch, "the model's, else false",
        "--renormalize-logits";
    "generate.num_beams" (generate.num_beams): SIZE, "the model's, else 1", "--num-beams";
    "generate.length_penalty" (generate.length_penalty): ANY_NUMBER, "the model's, else 1", "--length-penalty";
    "generate.early_stopping" (generate.early_stopping): Kind::Choice(EarlyStop::NAMES), "the model's, else false",
        "--early-stopping";
    "generate.num_return_sequences" (generate.num_return_sequences): SIZE, "the model's, else 1",
        "--num-return-sequences";
    "generate.prompt_lookup_num_tokens" (generate.prompt_lookup_num_tokens): SIZE, "the model's, else none",
        "--prompt-lookup";
    "generate.max_matching_ngram_size" (generate.max_matching_ngram_size): SIZE, "the model's, else 2",
        "--max-matching-ngram-size";
    "generate.draft_model" (generate.draft_model): Kind::Path, "none", "--draft-model";
    "generate.draft_tokens" (generate.draft_tokens): SIZE, "5", "--draft-tokens";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_goes_to_its_own_field_and_back() {
        for key in KEYS {
            let text = match key.kind {
                Kind::BackendName | Kind::Path => "npu",
                Kind::Choice(names) => names[names.len() - 1],
                Kind::Integer { .. } => "7",
                Kind::Number { .. } => "0.5",
                Kind::Strings => "END",
                Kind::Switch => "true",
                Kind::TokenIds => "[1, 2]",
                Kind::TokenIdLists => "[[1], [2, 3]]",
                Kind::Biases => "[[[1, 2], -1.5]]",
                Kind::Decay => "[5, 1.25]",
            };
            let value = key.kind.read_text(text).unwrap_or_else(|| panic!("{}", key.path));
            let mut config = Config::default();
            (key.set)(&mut config, value.clone());
            assert_eq!((key.get)(&config), Some(value), "{}", key.path);
            let set: Vec<&str> = KEYS.iter().filter(|k| (k.get)(&config).is_some()).map(|k| k.path).collect();
            assert_eq!(set, [key.path]);
        }
    }

    #[test]
    fn paths_and_variables_are_unique_and_defaults_are_allowed() {
        for (i, key) in KEYS.iter().enumerate() {
            assert!(KEYS[..i].iter().all(|k| k.path != key.path && k.variable() != key.variable()), "{}", key.path);
            if let Ok(value) = toml::de::DeValue::parse(key.default) {
                assert!(key.kind.read_toml(value.get_ref()).is_some(), "{}: {}", key.path, key.default);
            }
        }
    }
}
