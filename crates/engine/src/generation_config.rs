//! [`GenerationConfig`]: a checkpoint's `generation_config.json`, the defaults its makers recommend.

use camelid_core::tokenizer::TokenId;
use serde_json::{Map, Value};
use thiserror::Error;

use crate::sampling::{SamplingError, SamplingParams};

/// `top_k` of transformers where a file samples and does not say.
const DEFAULT_TOP_K: usize = 50;

/// The fields of `generation_config.json` that Camelid follows, named as there; `None` where the file is silent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GenerationConfig {
    /// Tokens that end a text; one or a list in the file.
    pub eos_token_id: Vec<TokenId>,
    /// Beginning-of-sequence token.
    pub bos_token_id: Option<TokenId>,
    /// Padding token.
    pub pad_token_id: Option<TokenId>,
    /// Whether to sample; greedy if not, whatever the other fields say.
    pub do_sample: Option<bool>,
    /// See [`SamplingParams::temperature`].
    pub temperature: Option<f64>,
    /// See [`SamplingParams::top_k`].
    pub top_k: Option<usize>,
    /// See [`SamplingParams::top_p`].
    pub top_p: Option<f64>,
    /// See [`SamplingParams::min_p`].
    pub min_p: Option<f64>,
    /// See [`SamplingParams::repetition_penalty`]; has its effect on a greedy choice as well.
    pub repetition_penalty: Option<f64>,
    /// Most tokens to generate.
    pub max_new_tokens: Option<usize>,
    /// Most tokens of prompt and generation together.
    pub max_length: Option<usize>,
    /// Texts that end the generation; one or a list in the file.
    pub stop_strings: Vec<String>,
}

/// What is wrong with a `generation_config.json`.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum GenerationConfigError {
    /// The top level is not an object.
    #[error("the document is {found}, but it must be a JSON object")]
    NotAnObject {
        /// What it is.
        found: String,
    },
    /// A field has a value out of range.
    #[error(transparent)]
    Sampling(#[from] SamplingError),
    /// A field has the wrong type.
    #[error("`{field}` is {found}, but it must {rule}")]
    Field {
        /// Its name.
        field: &'static str,
        /// Its value.
        found: String,
        /// The rule.
        rule: String,
    },
}

/// Fields with which transformers would choose other tokens, and the values that have no such effect.
const WITHOUT_SUPPORT: [(&str, &[f64]); 18] = [
    ("num_beams", &[1.0]),
    ("num_beam_groups", &[1.0]),
    ("penalty_alpha", &[0.0]),
    ("dola_layers", &[]),
    ("typical_p", &[1.0]),
    ("top_h", &[]),
    ("epsilon_cutoff", &[0.0]),
    ("eta_cutoff", &[0.0]),
    ("no_repeat_ngram_size", &[0.0]),
    ("bad_words_ids", &[]),
    ("sequence_bias", &[]),
    ("suppress_tokens", &[]),
    ("begin_suppress_tokens", &[]),
    ("forced_bos_token_id", &[]),
    ("forced_eos_token_id", &[]),
    ("min_length", &[0.0]),
    ("min_new_tokens", &[0.0]),
    ("guidance_scale", &[1.0]),
];

impl GenerationConfig {
    /// The configuration in a parsed `generation_config.json`.
    ///
    /// `null` is the same as silence, and a negative token id means that there is no such token, as in transformers. A
    /// field that Camelid does not know is passed over, with a warning if the text would be another one with it.
    ///
    /// # Errors
    /// [`GenerationConfigError`] for a document that is no object, and for a field of the wrong type or out of range.
    pub fn from_value(json: &Value) -> Result<GenerationConfig, GenerationConfigError> {
        let Value::Object(map) = json else {
            return Err(GenerationConfigError::NotAnObject { found: shown(json) });
        };
        let mut fields = Fields { map, read: Vec::new() };
        let config = GenerationConfig {
            eos_token_id: fields.token_ids("eos_token_id")?,
            bos_token_id: fields.token_id("bos_token_id")?,
            pad_token_id: fields.token_id("pad_token_id")?,
            do_sample: fields.get("do_sample", "be true or false", Value::as_bool)?,
            temperature: fields.get("temperature", "be a number", Value::as_f64)?,
            top_k: fields.size("top_k")?,
            top_p: fields.get("top_p", "be a number", Value::as_f64)?,
            min_p: fields.get("min_p", "be a number", Value::as_f64)?,
            repetition_penalty: fields.get("repetition_penalty", "be a number", Value::as_f64)?,
            max_new_tokens: fields.size("max_new_tokens")?,
            max_length: fields.size("max_length")?,
            stop_strings: fields.strings("stop_strings")?,
        };
        // Also what `do_sample: false` makes ineffective: a user may turn sampling on.
        GenerationConfig { do_sample: Some(true), ..config.clone() }.sampling_params().check()?;
        fields.pass_over_the_rest();
        Ok(config)
    }

    /// The sampling parameters that the file recommends, by transformers' rules: greedy unless `do_sample` is true; then
    /// `temperature` 1, `top_k` 50 and `top_p` 1 where it is silent. The repetition penalty holds either way.
    pub fn sampling_params(&self) -> SamplingParams {
        let greedy =
            SamplingParams { repetition_penalty: self.repetition_penalty.unwrap_or(1.0), ..SamplingParams::default() };
        if self.do_sample != Some(true) {
            return greedy;
        }
        SamplingParams {
            temperature: self.temperature.unwrap_or(1.0),
            top_k: self.top_k.unwrap_or(DEFAULT_TOP_K),
            top_p: self.top_p.unwrap_or(1.0),
            min_p: self.min_p.unwrap_or(0.0),
            ..greedy
        }
    }
}

/// Reads the fields of the document and remembers which.
struct Fields<'a> {
    map: &'a Map<String, Value>,
    read: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// The field as `read` understands it; an error with `rule` if it does not.
    fn get<T>(
        &mut self,
        field: &'static str,
        rule: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, GenerationConfigError> {
        self.read.push(field);
        match self.map.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => read(value).map(Some).ok_or_else(|| GenerationConfigError::Field {
                field,
                found: shown(value),
                rule: rule.into(),
            }),
        }
    }

    fn size(&mut self, field: &'static str) -> Result<Option<usize>, GenerationConfigError> {
        self.get(field, "be a whole number of at least 0", |v| v.as_u64().and_then(|n| usize::try_from(n).ok()))
    }

    fn token_id(&mut self, field: &'static str) -> Result<Option<TokenId>, GenerationConfigError> {
        Ok(self.get(field, "be a token id", id)?.flatten())
    }

    fn token_ids(&mut self, field: &'static str) -> Result<Vec<TokenId>, GenerationConfigError> {
        let list = self.get(field, "be a token id or a list of token ids", |v| one_or_more(v, id))?;
        Ok(list.unwrap_or_default().into_iter().flatten().collect())
    }

    fn strings(&mut self, field: &'static str) -> Result<Vec<String>, GenerationConfigError> {
        let text = |v: &Value| v.as_str().filter(|s| !s.is_empty()).map(str::to_string);
        let list = self.get(field, "be a string or a list of strings, none of them empty", |v| one_or_more(v, text))?;
        Ok(list.unwrap_or_default())
    }

    fn pass_over_the_rest(&self) {
        for (field, value) in self.map.iter().filter(|(field, _)| !self.read.contains(&field.as_str())) {
            if changes_the_text(field, value) {
                tracing::warn!(
                    "generation_config.json: `{field}` is {}, but Camelid has no such rule and passes it over; the text \
                     may differ from what the model's makers intended",
                    shown(value)
                );
            } else {
                tracing::debug!("generation_config.json: `{field}` is passed over");
            }
        }
    }
}

fn changes_the_text(field: &str, value: &Value) -> bool {
    let Some((_, harmless)) = WITHOUT_SUPPORT.iter().find(|(name, _)| *name == field) else { return false };
    match value {
        Value::Null => false,
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        other => other.as_f64().is_none_or(|n| !harmless.contains(&n)),
    }
}

/// A token id; `Some(None)` for a negative number, which stands for no token.
fn id(value: &Value) -> Option<Option<TokenId>> {
    let n = value.as_i64()?;
    if n < 0 { Some(None) } else { TokenId::try_from(n).ok().map(Some) }
}

fn one_or_more<T>(value: &Value, read: impl Fn(&Value) -> Option<T>) -> Option<Vec<T>> {
    match value {
        Value::Array(list) => list.iter().map(read).collect(),
        one => read(one).map(|x| vec![x]),
    }
}

/// The value as JSON, shortened to what an error message can take.
fn shown(value: &Value) -> String {
    const MOST: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(MOST) {
        None => text,
        Some((end, _)) => format!("{}...", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(json: Value) -> GenerationConfig {
        GenerationConfig::from_value(&json).unwrap()
    }

    #[test]
    fn a_chat_models_file_is_read() {
        let config = read(json!({
            "bos_token_id": 128000, "do_sample": true, "eos_token_id": [128001, 128008, 128009],
            "temperature": 0.6, "top_p": 0.9, "max_length": 4096, "max_new_tokens": 256, "pad_token_id": -1,
            "stop_strings": "User:", "transformers_version": "4.42.3", "_from_model_config": true,
        }));
        assert_eq!(
            config,
            GenerationConfig {
                eos_token_id: vec![128001, 128008, 128009],
                bos_token_id: Some(128000),
                do_sample: Some(true),
                temperature: Some(0.6),
                top_p: Some(0.9),
                max_length: Some(4096),
                max_new_tokens: Some(256),
                stop_strings: vec!["User:".into()],
                ..GenerationConfig::default()
            }
        );
        let params = SamplingParams { temperature: 0.6, top_k: 50, top_p: 0.9, ..SamplingParams::default() };
        assert_eq!(config.sampling_params(), params);
    }

    #[test]
    fn silence_and_null_mean_the_defaults_of_transformers() {
        assert_eq!(read(json!({})), GenerationConfig::default());
        let nulls = json!({"eos_token_id": null, "temperature": null, "top_k": null, "stop_strings": null});
        assert_eq!(read(nulls), GenerationConfig::default());
        assert_eq!(GenerationConfig::default().sampling_params(), SamplingParams::default());

        let sampled = read(json!({"do_sample": true, "top_k": null})).sampling_params();
        assert_eq!((sampled.temperature, sampled.top_k, sampled.top_p, sampled.min_p), (1.0, 50, 1.0, 0.0));
        assert_eq!(read(json!({"do_sample": true, "top_k": 0})).sampling_params().top_k, 0);
        let min_p = read(json!({"do_sample": true, "min_p": 0.05, "temperature": 1})).sampling_params();
        assert_eq!((min_p.min_p, min_p.temperature), (0.05, 1.0));
    }

    #[test]
    fn without_do_sample_it_is_greedy_with_the_repetition_penalty() {
        for do_sample in [json!(false), json!(null)] {
            let file = json!({"do_sample": do_sample, "temperature": 0.9, "top_p": 0.6, "repetition_penalty": 1.2});
            let params = read(file).sampling_params();
            assert_eq!(params, SamplingParams { repetition_penalty: 1.2, ..SamplingParams::default() });
        }
    }

    #[test]
    fn token_ids_come_alone_in_lists_or_not_at_all() {
        assert_eq!(read(json!({"eos_token_id": 2})).eos_token_id, [2]);
        assert_eq!(read(json!({"eos_token_id": [2, -1, 5]})).eos_token_id, [2, 5]);
        assert!(read(json!({"eos_token_id": []})).eos_token_id.is_empty());
        assert_eq!(read(json!({"bos_token_id": -1})).bos_token_id, None);
    }

    #[test]
    fn wrong_fields_are_named_with_their_value_and_the_rule() {
        for (field, value, rule) in [
            ("eos_token_id", json!("</s>"), "be a token id or a list of token ids"),
            ("eos_token_id", json!([1, [2]]), "be a token id or a list of token ids"),
            ("bos_token_id", json!(1u64 << 32), "be a token id"),
            ("pad_token_id", json!(0.5), "be a token id"),
            ("do_sample", json!("yes"), "be true or false"),
            ("temperature", json!("0.7"), "be a number"),
            ("top_k", json!(-1), "be a whole number of at least 0"),
            ("top_k", json!(40.0), "be a whole number of at least 0"),
            ("top_p", json!([0.9]), "be a number"),
            ("min_p", json!({}), "be a number"),
            ("repetition_penalty", json!(true), "be a number"),
            ("max_new_tokens", json!(-5), "be a whole number of at least 0"),
            ("max_length", json!(1e300), "be a whole number of at least 0"),
            ("stop_strings", json!(["a", ""]), "be a string or a list of strings, none of them empty"),
            ("stop_strings", json!(7), "be a string or a list of strings, none of them empty"),
        ] {
            let error = GenerationConfig::from_value(&json!({field: value.clone()})).unwrap_err();
            assert_eq!(error, GenerationConfigError::Field { field, found: value.to_string(), rule: rule.into() });
        }
        // Out of range, whether or not it is sampled.
        for (field, value) in [("temperature", -0.5), ("top_p", 1.5), ("min_p", -0.25), ("repetition_penalty", 0.0)] {
            let error = GenerationConfig::from_value(&json!({field: value, "do_sample": false})).unwrap_err();
            assert!(error.to_string().starts_with(&format!("`{field}` is {value}, but it must be ")), "{error}");
        }
        let error = GenerationConfig::from_value(&json!([1])).unwrap_err().to_string();
        assert_eq!(error, "the document is [1], but it must be a JSON object");
        let long = GenerationConfig::from_value(&json!({"top_k": "ü".repeat(1000)})).unwrap_err();
        assert!(long.to_string().len() < 250, "{long}");
    }

    #[test]
    fn fields_without_support_matter_only_with_an_effect() {
        for (field, value, matters) in [
            ("num_beams", json!(4), true),
            ("num_beams", json!(1), false),
            ("typical_p", json!(0.9), true),
            ("no_repeat_ngram_size", json!(0), false),
            ("suppress_tokens", json!([]), false),
            ("suppress_tokens", json!([7]), true),
            ("dola_layers", json!("high"), true),
            ("min_new_tokens", json!(null), false),
            ("transformers_version", json!("5.8.0"), false),
        ] {
            assert_eq!(changes_the_text(field, &value), matters, "{field}: {value}");
            assert_eq!(read(json!({field: value})), GenerationConfig::default());
        }
    }
}
