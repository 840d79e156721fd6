//! From a [`LlamaConfig`] to `config.json`.

use serde_json::{Map, Value, json};

use super::{LlamaConfig, default_labels};
use crate::llama::rope;
use crate::llama::rope::RopeScaling;

/// Which form of `config.json` to write. transformers 5 reads both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConfigForm {
    /// As transformers 5 writes it: `rope_parameters`, `dtype`.
    #[default]
    V5,
    /// As transformers 4 wrote it: `rope_theta`, `rope_scaling`, `torch_dtype`.
    V4,
}

impl LlamaConfig {
    /// The `config.json` of this configuration, its keys in alphabetical order as transformers writes them.
    ///
    /// Reading it gives the same configuration. All parameters are written, defaults too; labels only where they are
    /// not the two that a config has without them.
    pub fn to_json(&self, form: ConfigForm) -> Value {
        let optional = |id: Option<u32>| json!(id);
        let eos = match self.eos_token_id.as_slice() {
            [] => Value::Null,
            [one] => json!(one),
            several => json!(several),
        };
        let mut entries = vec![
            ("model_type", json!("llama")),
            ("vocab_size", json!(self.vocab_size)),
            ("hidden_size", json!(self.hidden_size)),
            ("intermediate_size", json!(self.intermediate_size)),
            ("num_hidden_layers", json!(self.num_hidden_layers)),
            ("num_attention_heads", json!(self.num_attention_heads)),
            ("num_key_value_heads", json!(self.num_key_value_heads)),
            ("head_dim", json!(self.head_dim)),
            ("hidden_act", json!(self.hidden_act.name())),
            ("max_position_embeddings", json!(self.max_position_embeddings)),
            ("initializer_range", json!(self.initializer_range)),
            ("rms_norm_eps", json!(self.rms_norm_eps)),
            ("use_cache", json!(self.use_cache)),
            ("pad_token_id", optional(self.pad_token_id)),
            ("bos_token_id", optional(self.bos_token_id)),
            ("eos_token_id", eos),
            ("pretraining_tp", json!(self.pretraining_tp)),
            ("tie_word_embeddings", json!(self.tie_word_embeddings)),
            ("attention_bias", json!(self.attention_bias)),
            ("attention_dropout", json!(self.attention_dropout)),
            ("mlp_bias", json!(self.mlp_bias)),
        ];
        if !self.architectures.is_empty() {
            entries.push(("architectures", json!(self.architectures)));
        }
        if self.id2label != default_labels(2) || self.label2id != super::labels::inverse(&self.id2label) {
            let names: Map<String, Value> = self.id2label.iter().map(|(id, l)| (id.to_string(), json!(l))).collect();
            entries.push(("id2label", Value::Object(names)));
            entries.push(("label2id", json!(self.label2id)));
        }
        if let Some(problem) = self.problem_type {
            entries.push(("problem_type", json!(problem.name())));
        }
        match form {
            ConfigForm::V5 => entries.push(("rope_parameters", rope::to_json(&self.rope))),
            ConfigForm::V4 => {
                let scaling = (self.rope.scaling != RopeScaling::Default).then(|| rope::scaling(&self.rope));
                entries.push(("rope_theta", json!(self.rope.rope_theta)));
                entries.push(("rope_scaling", json!(scaling)));
                if let Some(share) = self.rope.partial_rotary_factor {
                    entries.push(("partial_rotary_factor", json!(share)));
                }
            }
        }
        if let Some(dtype) = &self.dtype {
            entries.push((if form == ConfigForm::V5 { "dtype" } else { "torch_dtype" }, json!(dtype)));
        }
        entries.sort_by_key(|(key, _)| *key);
        Value::Object(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }
}
