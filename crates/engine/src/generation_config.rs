//! [`GenerationConfig`]: a checkpoint's `generation_config.json`, the defaults its makers recommend.

mod fields;

use std::time::Duration;

use camelid_core::tokenizer::TokenId;
use serde_json::Value;
use thiserror::Error;

use crate::generate::{BeamParams, EarlyStopping, Strategy};
use crate::sampling::{Constraints, SamplingError, SamplingParams};
use fields::{Fields, shown};

/// `top_k` of transformers where a file samples and does not say.
const DEFAULT_TOP_K: usize = 50;
/// `max_matching_ngram_size` of transformers where a file looks up and does not say.
const DEFAULT_MATCHING_NGRAM: usize = 2;

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
    /// See [`SamplingParams::top_h`].
    pub top_h: Option<f64>,
    /// See [`SamplingParams::typical_p`].
    pub typical_p: Option<f64>,
    /// See [`SamplingParams::epsilon_cutoff`].
    pub epsilon_cutoff: Option<f64>,
    /// See [`SamplingParams::eta_cutoff`].
    pub eta_cutoff: Option<f64>,
    /// See [`SamplingParams::renormalize_logits`].
    pub renormalize_logits: Option<bool>,
    /// See [`SamplingParams::repetition_penalty`]; has its effect on a greedy choice as well, as have all below.
    pub repetition_penalty: Option<f64>,
    /// See [`Constraints::encoder_repetition_penalty`].
    pub encoder_repetition_penalty: Option<f64>,
    /// See [`Constraints::no_repeat_ngram_size`].
    pub no_repeat_ngram_size: Option<usize>,
    /// See [`Constraints::encoder_no_repeat_ngram_size`].
    pub encoder_no_repeat_ngram_size: Option<usize>,
    /// See [`Constraints::bad_words_ids`].
    pub bad_words_ids: Vec<Vec<TokenId>>,
    /// See [`Constraints::sequence_bias`].
    pub sequence_bias: Vec<(Vec<TokenId>, f32)>,
    /// See [`Constraints::suppress_tokens`].
    pub suppress_tokens: Vec<TokenId>,
    /// See [`Constraints::begin_suppress_tokens`].
    pub begin_suppress_tokens: Vec<TokenId>,
    /// See [`Constraints::forced_bos_token_id`].
    pub forced_bos_token_id: Option<TokenId>,
    /// See [`Constraints::forced_eos_token_id`]; one or a list in the file.
    pub forced_eos_token_id: Vec<TokenId>,
    /// See [`Constraints::remove_invalid_values`].
    pub remove_invalid_values: Option<bool>,
    /// See [`Constraints::exponential_decay_length_penalty`].
    pub exponential_decay_length_penalty: Option<(usize, f64)>,
    /// See [`Constraints::min_new_tokens`].
    pub min_new_tokens: Option<usize>,
    /// See [`Constraints::min_length`].
    pub min_length: Option<usize>,
    /// Most tokens to generate.
    pub max_new_tokens: Option<usize>,
    /// Most tokens of prompt and generation together; `max_new_tokens` goes before it.
    pub max_length: Option<usize>,
    /// Seconds after which the next token is the last.
    pub max_time: Option<f64>,
    /// Texts that end the generation; one or a list in the file.
    pub stop_strings: Vec<String>,
    /// See [`BeamParams::num_beams`]; 1 is no beam search.
    pub num_beams: Option<usize>,
    /// See [`BeamParams::length_penalty`].
    pub length_penalty: Option<f64>,
    /// See [`EarlyStopping`]; true, false or "never" in the file.
    pub early_stopping: Option<EarlyStopping>,
    /// How many texts to return.
    pub num_return_sequences: Option<usize>,
    /// Tokens that prompt lookup guesses for a step; no prompt lookup if `None`.
    pub prompt_lookup_num_tokens: Option<usize>,
    /// Tokens that prompt lookup looks for.
    pub max_matching_ngram_size: Option<usize>,
    /// The first field that asks for what Camelid does not do, with its value and the reason.
    pub refused: Option<(&'static str, String, &'static str)>,
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
    /// A field asks for a way of generating that Camelid does not have.
    #[error("generation_config.json: `{field}` is {found}, but {reason}; remove the field to generate without it")]
    Refused {
        /// Its name.
        field: &'static str,
        /// Its value.
        found: String,
        /// Why.
        reason: &'static str,
    },
}

impl GenerationConfig {
    /// The configuration in a parsed `generation_config.json`.
    ///
    /// `null` is the same as silence, and a negative token id means that there is no such token, as in transformers. A
    /// field that Camelid does not know is passed over. One that asks for another way of generating is kept in mind:
    /// [`GenerationConfig::strategy`] refuses it.
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
            top_h: fields.get("top_h", "be a number", Value::as_f64)?,
            // transformers takes values that keep everything for silence.
            typical_p: fields.get("typical_p", "be a number", Value::as_f64)?.filter(|p| *p < 1.0),
            epsilon_cutoff: fields.get("epsilon_cutoff", "be a number", Value::as_f64)?.filter(within_unit),
            eta_cutoff: fields.get("eta_cutoff", "be a number", Value::as_f64)?.filter(within_unit),
            renormalize_logits: fields.get("renormalize_logits", "be true or false", Value::as_bool)?,
            repetition_penalty: fields.get("repetition_penalty", "be a number", Value::as_f64)?,
            encoder_repetition_penalty: fields.get("encoder_repetition_penalty", "be a number", Value::as_f64)?,
            no_repeat_ngram_size: fields.size("no_repeat_ngram_size")?,
            encoder_no_repeat_ngram_size: fields.size("encoder_no_repeat_ngram_size")?,
            bad_words_ids: fields.token_lists("bad_words_ids")?,
            sequence_bias: fields.biases("sequence_bias")?,
            suppress_tokens: fields.token_ids("suppress_tokens")?,
            begin_suppress_tokens: fields.token_ids("begin_suppress_tokens")?,
            forced_bos_token_id: fields.token_id("forced_bos_token_id")?,
            forced_eos_token_id: fields.token_ids("forced_eos_token_id")?,
            remove_invalid_values: fields.get("remove_invalid_values", "be true or false", Value::as_bool)?,
            exponential_decay_length_penalty: fields.decay("exponential_decay_length_penalty")?,
            min_new_tokens: fields.size("min_new_tokens")?,
            min_length: fields.size("min_length")?,
            max_new_tokens: fields.size("max_new_tokens")?,
            max_length: fields.size("max_length")?,
            max_time: fields.get("max_time", "be a number of seconds", |v| v.as_f64().filter(|s| *s >= 0.0))?,
            stop_strings: fields.strings("stop_strings")?,
            num_beams: fields.count("num_beams")?,
            length_penalty: fields.get("length_penalty", "be a number", Value::as_f64)?,
            early_stopping: fields.early_stopping("early_stopping")?,
            num_return_sequences: fields.count("num_return_sequences")?,
            prompt_lookup_num_tokens: fields.count("prompt_lookup_num_tokens")?,
            max_matching_ngram_size: fields.count("max_matching_ngram_size")?,
            refused: fields.refused(),
        };
        // Also what `do_sample: false` makes ineffective: a user may turn sampling on.
        GenerationConfig { do_sample: Some(true), ..config.clone() }.sampling_params().check()?;
        fields.pass_over_the_rest();
        Ok(config)
    }

    /// The sampling parameters that the file recommends, by transformers' rules: greedy unless `do_sample` is true; then
    /// `temperature` 1, `top_k` 50 and `top_p` 1 where it is silent. The repetition penalty holds either way.
    pub fn sampling_params(&self) -> SamplingParams {
        let greedy = SamplingParams {
            repetition_penalty: self.repetition_penalty.unwrap_or(1.0),
            renormalize_logits: self.renormalize_logits.unwrap_or(false),
            constraints: self.constraints(),
            ..SamplingParams::default()
        };
        if self.do_sample != Some(true) {
            return greedy;
        }
        SamplingParams {
            temperature: self.temperature.unwrap_or(1.0),
            top_k: self.top_k.unwrap_or(DEFAULT_TOP_K),
            top_p: self.top_p.unwrap_or(1.0),
            min_p: self.min_p.unwrap_or(0.0),
            top_h: self.top_h,
            typical_p: self.typical_p.unwrap_or(1.0),
            epsilon_cutoff: self.epsilon_cutoff.unwrap_or(0.0),
            eta_cutoff: self.eta_cutoff.unwrap_or(0.0),
            ..greedy
        }
    }

    fn constraints(&self) -> Constraints {
        Constraints {
            sequence_bias: self.sequence_bias.clone(),
            encoder_repetition_penalty: self.encoder_repetition_penalty.unwrap_or(1.0),
            no_repeat_ngram_size: self.no_repeat_ngram_size.unwrap_or(0),
            encoder_no_repeat_ngram_size: self.encoder_no_repeat_ngram_size.unwrap_or(0),
            bad_words_ids: self.bad_words_ids.clone(),
            min_length: self.min_length.unwrap_or(0),
            min_new_tokens: self.min_new_tokens,
            forced_bos_token_id: self.forced_bos_token_id,
            forced_eos_token_id: self.forced_eos_token_id.clone(),
            remove_invalid_values: self.remove_invalid_values.unwrap_or(false),
            exponential_decay_length_penalty: self.exponential_decay_length_penalty,
            suppress_tokens: self.suppress_tokens.clone(),
            begin_suppress_tokens: self.begin_suppress_tokens.clone(),
        }
    }

    /// How texts grow, by transformers' rules: beams if there is more than one, else prompt lookup if it is asked for.
    ///
    /// # Errors
    /// [`GenerationConfigError::Refused`] where the file asks for what Camelid does not do.
    pub fn strategy(&self) -> Result<Strategy, GenerationConfigError> {
        if let Some((field, found, reason)) = self.refused.clone() {
            return Err(GenerationConfigError::Refused { field, found, reason });
        }
        let num_beams = self.num_beams.unwrap_or(1);
        if num_beams > 1 {
            if self.prompt_lookup_num_tokens.is_some() {
                tracing::warn!("`prompt_lookup_num_tokens` has no effect with {num_beams} beams");
            }
            return Ok(Strategy::Beams(BeamParams {
                num_beams,
                length_penalty: self.length_penalty.unwrap_or(1.0),
                early_stopping: self.early_stopping.unwrap_or_default(),
            }));
        }
        Ok(match self.prompt_lookup_num_tokens {
            Some(num_tokens) => Strategy::PromptLookup {
                num_tokens,
                max_matching_ngram_size: self.max_matching_ngram_size.unwrap_or(DEFAULT_MATCHING_NGRAM),
            },
            None => Strategy::OneByOne,
        })
    }

    /// Most tokens to generate after a prompt of `prompt_len`; `None` where the file does not say.
    pub fn most_new_tokens(&self, prompt_len: usize) -> Option<usize> {
        self.max_new_tokens.or(self.max_length.map(|most| most.saturating_sub(prompt_len)))
    }

    /// [`GenerationConfig::max_time`] as a duration; `None` also for one beyond all bounds.
    pub fn time_limit(&self) -> Option<Duration> {
        self.max_time.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
    }
}

fn within_unit(x: &f64) -> bool {
    !(*x == 0.0 || *x >= 1.0)
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
            ("num_beams", json!(0), "be a whole number of at least 1"),
            ("early_stopping", json!("always"), "be true, false or \"never\""),
            ("bad_words_ids", json!([[1], []]), "be a list of lists of token ids, none of them empty"),
            ("bad_words_ids", json!([1, 2]), "be a list of lists of token ids, none of them empty"),
            ("sequence_bias", json!([[[1]]]), "be a list of pairs: a list of token ids, not empty, and a number"),
            (
                "exponential_decay_length_penalty",
                json!([1.5, 1]),
                "be a pair: a whole number of at least 0 and a number",
            ),
            ("max_time", json!(-1), "be a number of seconds"),
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
    fn constraints_and_filters_are_read_as_transformers_spells_them() {
        let config = read(json!({
            "do_sample": true, "typical_p": 0.9, "epsilon_cutoff": 0.01, "eta_cutoff": 0.02, "top_h": 0.5,
            "renormalize_logits": true, "encoder_repetition_penalty": 1.5, "no_repeat_ngram_size": 3,
            "encoder_no_repeat_ngram_size": 4, "bad_words_ids": [[7], [8, 9]], "sequence_bias": [[[1, 2], -1.5], [[3], 2]],
            "suppress_tokens": [-1, 5], "begin_suppress_tokens": [6], "forced_bos_token_id": 4,
            "forced_eos_token_id": [2, 3], "remove_invalid_values": true,
            "exponential_decay_length_penalty": [5, 1.25], "min_new_tokens": 2, "min_length": 9,
        }));
        let params = config.sampling_params();
        let expected = SamplingParams {
            temperature: 1.0,
            top_k: 50,
            top_h: Some(0.5),
            typical_p: 0.9,
            epsilon_cutoff: 0.01,
            eta_cutoff: 0.02,
            renormalize_logits: true,
            constraints: Constraints {
                sequence_bias: vec![(vec![1, 2], -1.5), (vec![3], 2.0)],
                encoder_repetition_penalty: 1.5,
                no_repeat_ngram_size: 3,
                encoder_no_repeat_ngram_size: 4,
                bad_words_ids: vec![vec![7], vec![8, 9]],
                min_length: 9,
                min_new_tokens: Some(2),
                forced_bos_token_id: Some(4),
                forced_eos_token_id: vec![2, 3],
                remove_invalid_values: true,
                exponential_decay_length_penalty: Some((5, 1.25)),
                suppress_tokens: vec![5],
                begin_suppress_tokens: vec![6],
            },
            ..SamplingParams::default()
        };
        assert_eq!(params, expected);
        let greedy = GenerationConfig { do_sample: None, ..config }.sampling_params();
        assert_eq!((greedy.constraints, greedy.typical_p), (expected.constraints, 1.0));
        // Values with which transformers leaves the rule out.
        let silent = read(json!({"do_sample": true, "typical_p": 1.0, "epsilon_cutoff": 0.0, "eta_cutoff": 1.0}));
        assert_eq!((silent.typical_p, silent.epsilon_cutoff, silent.eta_cutoff), (None, None, None));
    }

    #[test]
    fn beams_go_before_lookup_and_lookup_before_one_by_one() {
        let strategy = |json| read(json).strategy().unwrap();
        assert_eq!(strategy(json!({"num_beams": 1, "length_penalty": 2.0})), Strategy::OneByOne);
        let lookup = json!({"prompt_lookup_num_tokens": 7, "num_beams": null});
        assert_eq!(strategy(lookup), Strategy::PromptLookup { num_tokens: 7, max_matching_ngram_size: 2 });
        let beams =
            json!({"num_beams": 3, "length_penalty": -1, "early_stopping": "never", "prompt_lookup_num_tokens": 7});
        let never = BeamParams { num_beams: 3, length_penalty: -1.0, early_stopping: EarlyStopping::Never };
        assert_eq!(strategy(beams), Strategy::Beams(never));
        for (value, expected) in [(json!(true), EarlyStopping::Yes), (json!(false), EarlyStopping::No)] {
            assert_eq!(read(json!({"early_stopping": value})).early_stopping, Some(expected));
        }
        let plain = read(json!({"num_beams": 2, "num_return_sequences": 2}));
        assert_eq!(plain.num_return_sequences, Some(2));
        let expected = BeamParams { num_beams: 2, ..BeamParams::default() };
        assert_eq!(plain.strategy().unwrap(), Strategy::Beams(expected));
    }

    #[test]
    fn lengths_and_time() {
        let config = read(json!({"max_length": 10, "max_time": 1.5}));
        assert_eq!((config.most_new_tokens(4), config.most_new_tokens(40)), (Some(6), Some(0)));
        assert_eq!(config.time_limit(), Some(Duration::from_millis(1500)));
        assert_eq!(read(json!({"max_length": 10, "max_new_tokens": 3})).most_new_tokens(4), Some(3));
        assert_eq!(read(json!({"max_time": 1e300})).time_limit(), None);
        assert_eq!(read(json!({})).most_new_tokens(4), None);
    }

    #[test]
    fn other_ways_of_generating_are_refused_by_name() {
        for (json, field) in [
            (json!({"penalty_alpha": 0.6, "top_k": 4}), "penalty_alpha"),
            (json!({"dola_layers": "high"}), "dola_layers"),
            (json!({"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5}), "num_beam_groups"),
            (json!({"constraints": [{}]}), "constraints"),
            (json!({"force_words_ids": [[5]], "num_beams": 2}), "force_words_ids"),
            (json!({"guidance_scale": 1.5}), "guidance_scale"),
            (json!({"watermarking_config": {"bias": 2}}), "watermarking_config"),
            (json!({"assistant_early_exit": 4}), "assistant_early_exit"),
        ] {
            let error = read(json).strategy().unwrap_err().to_string();
            assert!(error.starts_with(&format!("generation_config.json: `{field}` is ")), "{error}");
            assert!(error.contains("not supported") && error.contains("remove the field"), "{error}");
        }
        for json in [
            json!({"penalty_alpha": 0.6, "do_sample": true}),
            json!({"penalty_alpha": 0.0, "dola_layers": null, "constraints": [], "guidance_scale": 1}),
            json!({"num_beam_groups": 1, "num_beams": 4}),
            json!({"num_beam_groups": 4, "diversity_penalty": 1.0}),
            json!({"transformers_version": "5.8.0", "use_cache": false, "never_heard_of": [1]}),
        ] {
            assert!(read(json.clone()).strategy().is_ok(), "{json}");
        }
    }
}
