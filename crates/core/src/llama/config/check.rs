//! The rules for a configuration: what stops a model, and what transformers only warns of.

use super::{ConfigError, LlamaConfig, MAX_DIMENSION, ProblemType};

impl LlamaConfig {
    /// Whether a model can be made of these values.
    ///
    /// The rules are those that make transformers fail, at the latest when the model runs; one of its own is not taken
    /// over: `hidden_size` need not be a multiple of `num_attention_heads`, since only `head_dim` is computed with.
    ///
    /// # Errors
    /// [`ConfigError::Field`], which names the field, its value and the rule.
    pub fn check(&self) -> Result<(), ConfigError> {
        for (field, n) in [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("head_dim", self.head_dim),
            ("max_position_embeddings", self.max_position_embeddings),
        ] {
            if !(1..=MAX_DIMENSION).contains(&n) {
                return Err(ConfigError::wrong(field, n, format!("be a whole number from 1 to {MAX_DIMENSION}")));
            }
        }
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            let rule = format!("divide num_attention_heads = {}", self.num_attention_heads);
            return Err(ConfigError::wrong("num_key_value_heads", self.num_key_value_heads, rule));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(ConfigError::wrong("head_dim", self.head_dim, "be even: rotary embedding turns pairs"));
        }
        if !(self.rms_norm_eps >= 0.0 && (self.rms_norm_eps as f32).is_finite()) {
            return Err(ConfigError::wrong("rms_norm_eps", self.rms_norm_eps, "be a number of at least 0"));
        }
        if !(0.0..=1.0).contains(&self.initializer_range) {
            return Err(ConfigError::wrong("initializer_range", self.initializer_range, "lie between 0 and 1"));
        }
        if self.problem_type == Some(ProblemType::SingleLabel) && self.num_labels == 1 {
            let rule = "be at least 2 for problem_type `single_label_classification`; with one score use `regression`";
            return Err(ConfigError::wrong("num_labels", self.num_labels, rule));
        }
        if self.num_labels == 0 || self.num_labels != self.id2label.len() {
            let rule = format!("be the length of id2label, {}, and not 0", self.id2label.len());
            return Err(ConfigError::wrong("num_labels", self.num_labels, rule));
        }
        self.rope.check(self.head_dim, self.max_position_embeddings)
    }

    /// Says what has no effect, or is odd without being wrong.
    pub(super) fn warn(&self) {
        if self.pretraining_tp > 1 {
            tracing::warn!(
                "pretraining_tp is {}: it has no effect, as in transformers 5; results may differ in the last bits from \
                 those of the training",
                self.pretraining_tp
            );
        }
        let ids = [("bos_token_id", self.bos_token_id), ("pad_token_id", self.pad_token_id)];
        let eos = self.eos_token_id.iter().map(|id| ("eos_token_id", Some(*id)));
        for (field, id) in ids.into_iter().chain(eos) {
            if let Some(id) = id.filter(|id| *id as usize >= self.vocab_size) {
                tracing::warn!("{field} is {id}, which is not below vocab_size = {}", self.vocab_size);
            }
        }
        self.rope.warn(self.max_position_embeddings);
    }
}
