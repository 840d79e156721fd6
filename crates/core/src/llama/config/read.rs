//! From `config.json` to a [`LlamaConfig`].

use serde_json::Value;

use super::labels::Labels;
use super::{ConfigError, Fields, LlamaConfig};
use crate::llama::rope::RopeParameters;
use crate::ops::Activation;

impl LlamaConfig {
    /// The configuration in `text`, the contents of a `config.json`.
    ///
    /// # Errors
    /// [`ConfigError`], which names the field and the rule.
    pub fn from_json(text: &str) -> Result<LlamaConfig, ConfigError> {
        LlamaConfig::from_value(&serde_json::from_str(text).map_err(|e| ConfigError::Json(e.to_string()))?)
    }

    /// The configuration in a parsed `config.json`.
    ///
    /// # Errors
    /// As [`LlamaConfig::from_json`].
    pub fn from_value(json: &Value) -> Result<LlamaConfig, ConfigError> {
        let f = Fields { prefix: "", map: json.as_object().ok_or(ConfigError::NotAnObject)? };
        let architectures = architectures(&f)?;
        let hidden_size = f.size("hidden_size", 4096)?;
        let num_attention_heads = f.size("num_attention_heads", 32)?;
        let head_dim = match f.get("head_dim") {
            Some(_) => f.size("head_dim", 0)?,
            None if hidden_size.is_multiple_of(num_attention_heads) => hidden_size / num_attention_heads,
            None => {
                let rule =
                    format!("be a multiple of num_attention_heads = {num_attention_heads} unless head_dim is given");
                return Err(f.wrong("hidden_size", hidden_size, rule));
            }
        };
        let max_position_embeddings = f.size("max_position_embeddings", 2048)?;
        let hidden_act = match f.text("hidden_act")? {
            None => Activation::Silu,
            Some(name) => Activation::from_name(name).ok_or_else(|| ConfigError::Unsupported {
                field: "hidden_act".into(),
                found: format!("`{name}`"),
                supported: Activation::ALL.map(Activation::name).join(", "),
            })?,
        };
        let labels = Labels::read(&f)?;
        let config = LlamaConfig {
            vocab_size: f.size("vocab_size", 32000)?,
            hidden_size,
            intermediate_size: f.size("intermediate_size", 11008)?,
            num_hidden_layers: f.size("num_hidden_layers", 32)?,
            num_attention_heads,
            num_key_value_heads: f.size("num_key_value_heads", num_attention_heads)?,
            head_dim,
            hidden_act,
            max_position_embeddings,
            initializer_range: f.number("initializer_range")?.unwrap_or(0.02),
            rms_norm_eps: f.number("rms_norm_eps")?.unwrap_or(1e-6),
            use_cache: f.flag("use_cache", true)?,
            pad_token_id: f.token_ids("pad_token_id", &[])?.first().copied(),
            bos_token_id: f.token_ids("bos_token_id", &[1])?.first().copied(),
            eos_token_id: f.token_ids("eos_token_id", &[2])?,
            pretraining_tp: f.size("pretraining_tp", 1)?,
            tie_word_embeddings: f.flag("tie_word_embeddings", false)?,
            rope: RopeParameters::from_fields(&f, max_position_embeddings)?,
            attention_bias: f.flag("attention_bias", false)?,
            attention_dropout: f.number("attention_dropout")?.unwrap_or(0.0),
            mlp_bias: f.flag("mlp_bias", false)?,
            num_labels: labels.id2label.len(),
            id2label: labels.id2label,
            label2id: labels.label2id,
            problem_type: labels.problem_type,
            architectures,
            dtype: dtype(&f)?,
        };
        config.check().map_err(|error| as_written(error, &f))?;
        config.warn();
        Ok(config)
    }
}

/// An error about the rotary embedding, with the field named as it stands in this file: in either block or at the top.
fn as_written(error: ConfigError, f: &Fields<'_>) -> ConfigError {
    let ConfigError::Field { field, found, rule } = error else { return error };
    let inner = field.strip_prefix("rope_parameters.").unwrap_or_default();
    let key = inner.split('[').next().unwrap_or_default();
    let holds = |block: &&str| f.get(block).is_some_and(|b| b.get(key).is_some());
    let field = match ["rope_scaling", "rope_parameters"].into_iter().find(holds) {
        Some(block) => format!("{block}.{inner}"),
        None if !inner.is_empty() && f.get(key).is_some() => inner.to_owned(),
        None => field,
    };
    ConfigError::Field { field, found, rule }
}

/// The names in `architectures`, all of them a Llama's.
fn architectures(f: &Fields<'_>) -> Result<Vec<String>, ConfigError> {
    if let Some(found) = f.text("model_type")?.filter(|t| *t != "llama") {
        return Err(ConfigError::Architecture { found: found.into() });
    }
    let named = f.get("architectures").and_then(Value::as_array).into_iter().flatten();
    let named: Vec<String> = named.filter_map(Value::as_str).map(str::to_owned).collect();
    if let Some(found) = named.iter().find(|a| !a.starts_with("Llama") && *a != "LLaMAForCausalLM") {
        return Err(ConfigError::Architecture { found: found.clone() });
    }
    match f.get("quantization_config") {
        None => Ok(named),
        Some(q) => Err(ConfigError::Unsupported {
            field: "quantization_config".into(),
            found: format!("`{}`", q.get("quant_method").and_then(Value::as_str).unwrap_or("set")),
            supported: "f32, f16 and bf16 safetensors, and GGUF files for quantized weights".into(),
        }),
    }
}

/// `dtype`, which goes before `torch_dtype` as in transformers; some files write `torch.float16`.
fn dtype(f: &Fields<'_>) -> Result<Option<String>, ConfigError> {
    let name = match f.text("dtype")? {
        Some(name) => Some(name),
        None => f.text("torch_dtype")?,
    };
    Ok(name.map(|n| n.trim_start_matches("torch.").to_owned()))
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
        assert!(error(json!({"rms_norm_eps": -1e-6})).contains("at least 0"));
        assert!(error(json!({"initializer_range": 1.5})).contains("between 0 and 1"));
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
