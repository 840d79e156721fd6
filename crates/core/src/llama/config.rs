//! [`LlamaConfig`]: a checkpoint's `config.json`, in the old form and in that of transformers 5.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use thiserror::Error;

use super::rope::RopeParameters;
use crate::ops::Activation;

/// The hyperparameters of a Llama model. The fields are named as in `config.json`; where that leaves one out, the
/// default is that of `transformers.LlamaConfig`.
#[derive(Clone, Debug, PartialEq)]
pub struct LlamaConfig {
    /// Rows of the embedding table (32000).
    pub vocab_size: usize,
    /// Width of the residual stream (4096).
    pub hidden_size: usize,
    /// Width of the MLP (11008).
    pub intermediate_size: usize,
    /// Decoder layers (32).
    pub num_hidden_layers: usize,
    /// Query heads (32).
    pub num_attention_heads: usize,
    /// Key/value heads; as many as query heads unless given.
    pub num_key_value_heads: usize,
    /// Width of a head; `hidden_size / num_attention_heads` unless given.
    pub head_dim: usize,
    /// Activation of the MLP's gate (silu).
    pub hidden_act: Activation,
    /// Longest sequence the model was made for (2048).
    pub max_position_embeddings: usize,
    /// Standard deviation for random weights (0.02).
    pub initializer_range: f64,
    /// Epsilon of every RMSNorm (1e-6).
    pub rms_norm_eps: f64,
    /// Whether HF callers get a cache back by default (true); no effect here.
    pub use_cache: bool,
    /// Padding token.
    pub pad_token_id: Option<u32>,
    /// Beginning-of-sequence token (1).
    pub bos_token_id: Option<u32>,
    /// End-of-sequence tokens (2).
    pub eos_token_id: Vec<u32>,
    /// Parsed for completeness; has no effect in transformers 5 (1).
    pub pretraining_tp: usize,
    /// Whether the head shares the embedding table (false).
    pub tie_word_embeddings: bool,
    /// Rotary embedding.
    pub rope: RopeParameters,
    /// Biases on the q, k, v and o projections (false).
    pub attention_bias: bool,
    /// For training only (0).
    pub attention_dropout: f64,
    /// Biases on the gate, up and down projections (false).
    pub mlp_bias: bool,
    /// Labels of a classifier, as many as `id2label` has (2).
    pub num_labels: usize,
    /// Their names (`LABEL_0` and so on).
    pub id2label: BTreeMap<usize, String>,
    /// What the classifier is trained for, if the checkpoint says it.
    pub problem_type: Option<ProblemType>,
}

/// What a classifier is trained for, and so which loss it has (`problem_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProblemType {
    /// `regression`: mean squared error.
    Regression,
    /// `single_label_classification`: cross entropy.
    SingleLabel,
    /// `multi_label_classification`: binary cross entropy for each label.
    MultiLabel,
}

impl ProblemType {
    /// Every problem type.
    pub const ALL: [ProblemType; 3] = [ProblemType::Regression, ProblemType::SingleLabel, ProblemType::MultiLabel];

    /// The name as config.json writes it.
    pub fn name(self) -> &'static str {
        match self {
            ProblemType::Regression => "regression",
            ProblemType::SingleLabel => "single_label_classification",
            ProblemType::MultiLabel => "multi_label_classification",
        }
    }

    /// The problem type a config calls `name`.
    pub fn from_name(name: &str) -> Option<ProblemType> {
        Self::ALL.into_iter().find(|p| p.name() == name)
    }
}

/// What is wrong with a configuration.
#[derive(Debug, Error, PartialEq)]
pub enum ConfigError {
    /// Not JSON.
    #[error("not a JSON document: {0}")]
    Json(String),
    /// The top level is not an object.
    #[error("the document is not a JSON object")]
    NotAnObject,
    /// A field has the wrong type or a value out of range.
    #[error("`{field}` is {found}, but it must {rule}")]
    Field {
        /// Its name; nested ones with a dot.
        field: String,
        /// Its value.
        found: String,
        /// The rule.
        rule: String,
    },
    /// A field that has no default is missing.
    #[error("`{field}` is missing; {reason}")]
    Missing {
        /// Its name.
        field: String,
        /// Why it is needed.
        reason: String,
    },
    /// The model is not a Llama.
    #[error("the model is `{found}`, but Camelid runs the Llama architecture only (model_type `llama`)")]
    Architecture {
        /// `model_type` or the architecture's name.
        found: String,
    },
    /// A feature of the checkpoint that would change the result.
    #[error("`{field}` is {found}, which is not supported; supported: {supported}")]
    Unsupported {
        /// Its name.
        field: String,
        /// Its value.
        found: String,
        /// What would be.
        supported: String,
    },
}

/// Dimensions beyond this are no model but a damaged file; products of two of them still fit in 64 bits.
const MAX_DIMENSION: usize = 1 << 28;

impl LlamaConfig {
    /// The configuration in `text`, the contents of a `config.json`.
    pub fn from_json(text: &str) -> Result<LlamaConfig, ConfigError> {
        LlamaConfig::from_value(&serde_json::from_str(text).map_err(|e| ConfigError::Json(e.to_string()))?)
    }

    /// The configuration in a parsed `config.json`.
    pub fn from_value(json: &Value) -> Result<LlamaConfig, ConfigError> {
        let f = Fields { prefix: "", map: json.as_object().ok_or(ConfigError::NotAnObject)? };
        check_architecture(&f)?;
        let hidden_size = f.size("hidden_size", 4096)?;
        let num_attention_heads = f.size("num_attention_heads", 32)?;
        let num_key_value_heads = f.size("num_key_value_heads", num_attention_heads)?;
        if !num_attention_heads.is_multiple_of(num_key_value_heads) {
            let rule = format!("divide num_attention_heads = {num_attention_heads}");
            return Err(f.wrong("num_key_value_heads", num_key_value_heads, rule));
        }
        let head_dim = match f.get("head_dim") {
            Some(_) => f.size("head_dim", 0)?,
            None if hidden_size.is_multiple_of(num_attention_heads) => hidden_size / num_attention_heads,
            None => {
                let rule =
                    format!("be a multiple of num_attention_heads = {num_attention_heads} unless head_dim is given");
                return Err(f.wrong("hidden_size", hidden_size, rule));
            }
        };
        if !head_dim.is_multiple_of(2) {
            return Err(f.wrong("head_dim", head_dim, "be even: rotary embedding turns pairs"));
        }
        let max_position_embeddings = f.size("max_position_embeddings", 2048)?;
        let vocab_size = f.size("vocab_size", 32000)?;
        let hidden_act = match f.text("hidden_act")? {
            None => Activation::Silu,
            Some(name) => Activation::from_name(name).ok_or_else(|| ConfigError::Unsupported {
                field: "hidden_act".into(),
                found: format!("`{name}`"),
                supported: Activation::ALL.map(Activation::name).join(", "),
            })?,
        };
        let rms_norm_eps = f.number("rms_norm_eps")?.unwrap_or(1e-6);
        if !(rms_norm_eps > 0.0 && rms_norm_eps < 1.0) {
            return Err(f.wrong("rms_norm_eps", rms_norm_eps, "lie between 0 and 1"));
        }
        let id2label = f.labels()?;
        let problem_type = match f.text("problem_type")? {
            None => None,
            Some(name) => Some(ProblemType::from_name(name).ok_or_else(|| {
                f.wrong(
                    "problem_type",
                    name,
                    format!("be one of {}", ProblemType::ALL.map(ProblemType::name).join(", ")),
                )
            })?),
        };
        Ok(LlamaConfig {
            num_labels: id2label.len(),
            id2label,
            problem_type,
            vocab_size,
            hidden_size,
            intermediate_size: f.size("intermediate_size", 11008)?,
            num_hidden_layers: f.size("num_hidden_layers", 32)?,
            num_attention_heads,
            num_key_value_heads,
            head_dim,
            hidden_act,
            max_position_embeddings,
            initializer_range: f.number("initializer_range")?.unwrap_or(0.02),
            rms_norm_eps,
            use_cache: f.flag("use_cache", true)?,
            pad_token_id: f.token_ids("pad_token_id", &[])?.first().copied(),
            bos_token_id: f.token_ids("bos_token_id", &[1])?.first().copied(),
            eos_token_id: f.token_ids("eos_token_id", &[2])?,
            pretraining_tp: f.size("pretraining_tp", 1)?,
            tie_word_embeddings: f.flag("tie_word_embeddings", false)?,
            rope: RopeParameters::from_fields(&f)?,
            attention_bias: f.flag("attention_bias", false)?,
            attention_dropout: f.number("attention_dropout")?.unwrap_or(0.0),
            mlp_bias: f.flag("mlp_bias", false)?,
        })
    }
}

fn check_architecture(f: &Fields<'_>) -> Result<(), ConfigError> {
    if let Some(found) = f.text("model_type")?.filter(|t| *t != "llama") {
        return Err(ConfigError::Architecture { found: found.into() });
    }
    let named = f.get("architectures").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    if let Some(found) = named.into_iter().find(|a| !a.starts_with("Llama") && *a != "LLaMAForCausalLM") {
        return Err(ConfigError::Architecture { found: found.into() });
    }
    match f.get("quantization_config") {
        None => Ok(()),
        Some(q) => Err(ConfigError::Unsupported {
            field: "quantization_config".into(),
            found: format!("`{}`", q.get("quant_method").and_then(Value::as_str).unwrap_or("set")),
            supported: "f32, f16 and bf16 safetensors, and GGUF files for quantized weights".into(),
        }),
    }
}

/// The fields of a JSON object, read with errors that name them. A field that is null counts as missing.
pub(super) struct Fields<'a> {
    pub(super) prefix: &'a str,
    pub(super) map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    pub(super) fn get(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name).filter(|v| !v.is_null())
    }

    /// The first of the names that is there.
    pub(super) fn any_of(&self, names: &[&'static str]) -> Option<&'static str> {
        names.iter().copied().find(|n| self.get(n).is_some())
    }

    pub(super) fn name(&self, field: &str) -> String {
        if self.prefix.is_empty() { field.to_owned() } else { format!("{}.{field}", self.prefix) }
    }

    pub(super) fn wrong(&self, field: &str, found: impl ToString, rule: impl Into<String>) -> ConfigError {
        let mut found = found.to_string();
        if found.chars().count() > 80 {
            found = found.chars().take(77).chain("...".chars()).collect();
        }
        ConfigError::Field { field: self.name(field), found, rule: rule.into() }
    }

    pub(super) fn text(&self, field: &str) -> Result<Option<&'a str>, ConfigError> {
        self.get(field).map(|v| v.as_str().ok_or_else(|| self.wrong(field, v, "be a string"))).transpose()
    }

    pub(super) fn number(&self, field: &str) -> Result<Option<f64>, ConfigError> {
        self.get(field)
            .map(|v| v.as_f64().filter(|n| n.is_finite()).ok_or_else(|| self.wrong(field, v, "be a number")))
            .transpose()
    }

    pub(super) fn flag(&self, field: &str, default: bool) -> Result<bool, ConfigError> {
        self.get(field).map_or(Ok(default), |v| v.as_bool().ok_or_else(|| self.wrong(field, v, "be true or false")))
    }

    /// A whole number of at least one; large ones are refused before anything is computed from them.
    pub(super) fn size(&self, field: &str, default: usize) -> Result<usize, ConfigError> {
        let Some(v) = self.get(field) else { return Ok(default) };
        // Python writes 4096.0 where a division made the number.
        let n = v.as_u64().or_else(|| v.as_f64().filter(|x| x.fract() == 0.0 && *x >= 0.0).map(|x| x as u64));
        match n.and_then(|n| usize::try_from(n).ok()) {
            Some(n) if (1..=MAX_DIMENSION).contains(&n) => Ok(n),
            _ => Err(self.wrong(field, v, format!("be a whole number from 1 to {MAX_DIMENSION}"))),
        }
    }

    /// The labels of `id2label`, or `num_labels` (2) of them called `LABEL_0` and so on.
    fn labels(&self) -> Result<BTreeMap<usize, String>, ConfigError> {
        if let Some(v) = self.get("id2label") {
            let rule = "be an object from label ids (0, 1, ...) to labels";
            let map = v.as_object().ok_or_else(|| self.wrong("id2label", v, rule))?;
            let name = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
            let labels: Option<BTreeMap<usize, String>> =
                map.iter().map(|(id, v)| Some((id.trim().parse().ok()?, name(v)))).collect();
            let labels = labels.ok_or_else(|| self.wrong("id2label", v, rule))?;
            if !labels.is_empty() {
                return Ok(labels);
            }
        }
        Ok((0..self.size("num_labels", 2)?).map(|i| (i, format!("LABEL_{i}"))).collect())
    }

    /// One token id, a list of them, or (as old checkpoints write "none") -1.
    fn token_ids(&self, field: &str, default: &[u32]) -> Result<Vec<u32>, ConfigError> {
        if self.map.get(field).is_some_and(Value::is_null) {
            return Ok(Vec::new());
        }
        let Some(v) = self.get(field) else { return Ok(default.to_vec()) };
        let items = v.as_array().map_or(std::slice::from_ref(v), Vec::as_slice);
        let id = |item: &Value| match item.as_i64() {
            Some(-1) => Ok(None),
            Some(n) => u32::try_from(n).map(Some).map_err(|_| ()),
            None => Err(()),
        };
        let ids: Result<Vec<_>, ()> = items.iter().map(id).collect();
        ids.map(|ids| ids.into_iter().flatten().collect())
            .map_err(|()| self.wrong(field, v, "be a token id or a list of token ids"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn error(value: Value) -> String {
        LlamaConfig::from_value(&value).unwrap_err().to_string()
    }

    #[test]
    fn an_empty_config_is_llama_2_7b_as_in_transformers() {
        let c = LlamaConfig::from_json("{}").unwrap();
        assert_eq!((c.vocab_size, c.hidden_size, c.intermediate_size, c.num_hidden_layers), (32000, 4096, 11008, 32));
        assert_eq!((c.num_attention_heads, c.num_key_value_heads, c.head_dim), (32, 32, 128));
        assert_eq!((c.bos_token_id, c.eos_token_id, c.pad_token_id), (Some(1), vec![2], None));
        assert_eq!(c.rope, RopeParameters::default());
    }

    #[test]
    fn nulls_count_as_missing_and_lists_of_eos_are_kept() {
        let c = LlamaConfig::from_value(&json!({
            "num_attention_heads": 8, "num_key_value_heads": null, "hidden_size": 64, "head_dim": null,
            "eos_token_id": [128001, 128008, 128009], "pad_token_id": -1, "bos_token_id": null,
        }))
        .unwrap();
        assert_eq!((c.num_key_value_heads, c.head_dim), (8, 8));
        assert_eq!(c.eos_token_id, [128001, 128008, 128009]);
        assert_eq!((c.pad_token_id, c.bos_token_id), (None, None));
    }

    #[test]
    fn head_dim_frees_hidden_size_from_the_heads() {
        let c = LlamaConfig::from_value(&json!({"hidden_size": 88, "num_attention_heads": 6, "head_dim": 24})).unwrap();
        assert_eq!(c.head_dim, 24);
        let e = error(json!({"hidden_size": 88, "num_attention_heads": 6}));
        assert_eq!(
            e,
            "`hidden_size` is 88, but it must be a multiple of num_attention_heads = 6 unless head_dim is given"
        );
    }

    #[test]
    fn wrong_fields_are_named_with_their_value_and_the_rule() {
        assert!(
            error(json!({"hidden_size": "big"})).starts_with("`hidden_size` is \"big\", but it must be a whole number")
        );
        assert!(error(json!({"num_hidden_layers": 0})).starts_with("`num_hidden_layers` is 0"));
        assert!(error(json!({"vocab_size": 1u64 << 60})).contains("whole number from 1 to"));
        assert!(error(json!({"num_key_value_heads": 5})).contains("divide num_attention_heads = 32"));
        assert!(error(json!({"rms_norm_eps": 0})).contains("between 0 and 1"));
        assert!(error(json!({"eos_token_id": "</s>"})).contains("`eos_token_id`"));
        assert!(error(json!({"attention_bias": "yes"})).contains("true or false"));
        assert_eq!(error(json!([1])), "the document is not a JSON object");
        assert!(LlamaConfig::from_json("{").unwrap_err().to_string().starts_with("not a JSON document"));
    }

    #[test]
    fn another_architecture_activation_or_quantization_is_refused() {
        assert!(error(json!({"model_type": "mistral"})).contains("the model is `mistral`"));
        assert!(error(json!({"architectures": ["Qwen2ForCausalLM"]})).contains("Qwen2ForCausalLM"));
        assert!(
            error(json!({"hidden_act": "softsign"})).contains("`softsign`, which is not supported; supported: silu")
        );
        assert!(error(json!({"quantization_config": {"quant_method": "gptq"}})).contains("`gptq`"));
    }
}
