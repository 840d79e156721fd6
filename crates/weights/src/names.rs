//! Hugging Face's tensor names: what `LlamaForCausalLM` calls them, and the spellings that are accepted for them.

use std::borrow::Cow;

/// The name that `LlamaForCausalLM` gives to the tensor that a safetensors file calls `name`.
///
/// `LlamaModel` saved on its own leaves out `model.`, and `LlamaForQuestionAnswering` calls its base model
/// `transformer` (transformers, modeling_llama.py: `base_model_prefix`).
pub(crate) fn canonical(name: &str) -> Cow<'_, str> {
    const OF_THE_BASE_MODEL: [&str; 3] = ["embed_tokens.", "layers.", "norm."];
    let bare = name.strip_prefix("transformer.").unwrap_or(name);
    if OF_THE_BASE_MODEL.iter().any(|start| bare.starts_with(start)) {
        Cow::Owned(format!("model.{bare}"))
    } else {
        Cow::Borrowed(name)
    }
}

/// True for buffers that old versions of transformers saved among the weights: what they hold follows from the
/// config, so they are not read.
pub(crate) fn is_derived_buffer(name: &str) -> bool {
    let mut parts = name.rsplit('.');
    let last = parts.next();
    parts.next() == Some("rotary_emb")
        && matches!(last, Some("inv_freq" | "original_inv_freq" | "cos_cached" | "sin_cached"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_meet_in_one_name() {
        for (name, expected) in [
            ("model.norm.weight", "model.norm.weight"),
            ("norm.weight", "model.norm.weight"),
            ("transformer.norm.weight", "model.norm.weight"),
            ("layers.3.mlp.up_proj.weight", "model.layers.3.mlp.up_proj.weight"),
            ("embed_tokens.weight", "model.embed_tokens.weight"),
            ("lm_head.weight", "lm_head.weight"),
            ("score.weight", "score.weight"),
            ("qa_outputs.bias", "qa_outputs.bias"),
            ("normal.weight", "normal.weight"),
            ("transformer.h.0.attn.weight", "transformer.h.0.attn.weight"),
        ] {
            assert_eq!(canonical(name), expected);
        }
    }

    #[test]
    fn only_rotary_buffers_are_derived() {
        assert!(is_derived_buffer("model.layers.0.self_attn.rotary_emb.inv_freq"));
        assert!(is_derived_buffer("rotary_emb.inv_freq"));
        assert!(!is_derived_buffer("model.layers.0.self_attn.q_proj.weight"));
        assert!(!is_derived_buffer("inv_freq"));
        assert!(!is_derived_buffer("model.rotary_emb.weight"));
    }
}
