//! [`LlamaConfig`]: a checkpoint's `config.json`, in the old form and in that of transformers 5.
//!
//! [`LlamaConfig::from_json`] reads both, [`LlamaConfig::to_json`] writes either, and [`LlamaConfig::check`] holds the
//! rules that no single field can tell.

mod check;
mod fields;
mod labels;
mod read;
mod write;

use std::collections::BTreeMap;

use thiserror::Error;

pub(super) use self::fields::{Fields, MAX_DIMENSION};
pub use self::labels::{ProblemType, default_labels};
pub use self::write::ConfigForm;
use super::rope::{RopeParameters, RopeScaling};
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
    /// Tensor parallelism of the pretraining (1); has no effect in transformers 5, nor here.
    pub pretraining_tp: usize,
    /// Whether the head shares the embedding table (false).
    pub tie_word_embeddings: bool,
    /// Rotary embedding.
    pub rope: RopeParameters,
    /// Biases on the q, k, v and o projections (false).
    pub attention_bias: bool,
    /// Share of attention probabilities dropped in training (0); no effect here.
    pub attention_dropout: f64,
    /// Biases on the gate, up and down projections (false).
    pub mlp_bias: bool,
    /// Names of a classifier's labels, by id; `LABEL_0` and so on unless given.
    pub id2label: BTreeMap<usize, String>,
    /// Ids of the labels; the inverse of `id2label` unless given.
    pub label2id: BTreeMap<String, usize>,
    /// How many labels there are: the length of `id2label` (2).
    pub num_labels: usize,
    /// What a classifier is trained for, if the config says so.
    pub problem_type: Option<ProblemType>,
    /// The classes the weights were saved from, such as `LlamaForCausalLM`; may be empty.
    pub architectures: Vec<String>,
    /// Type of the weights as `dtype`, or `torch_dtype` before, names it (`bfloat16`); no effect here, where every
    /// tensor is read as its file stores it.
    pub dtype: Option<String>,
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

impl LlamaConfig {
    /// The position that the model is not made to go beyond: `max_position_embeddings`, or `None` where the rotary
    /// embedding adapts itself to longer sequences (`dynamic`). It is a default and a warning, never enforced.
    pub fn position_limit(&self) -> Option<usize> {
        (!matches!(self.rope.scaling, RopeScaling::Dynamic { .. })).then_some(self.max_position_embeddings)
    }
}

impl ConfigError {
    /// A field with a value that breaks a rule.
    pub(super) fn wrong(field: impl Into<String>, found: impl ToString, rule: impl Into<String>) -> ConfigError {
        let mut found = found.to_string();
        if found.chars().count() > 80 {
            found = found.chars().take(77).chain("...".chars()).collect();
        }
        ConfigError::Field { field: field.into(), found, rule: rule.into() }
    }
}
