//! From GGUF's tensor names (gguf-py, `MODEL_TENSOR` of the architecture "llama") to Hugging Face's.

/// Hugging Face's name for a tensor, or `None` if GGUF has no such tensor for this architecture.
pub(crate) fn to_hugging_face(name: &str) -> Option<String> {
    let (stem, suffix) = name.rsplit_once('.')?;
    if !matches!(suffix, "weight" | "bias") {
        return None;
    }
    let stem = match OUTSIDE.iter().find(|(gguf, _)| *gguf == stem) {
        Some((_, name)) => (*name).to_owned(),
        None => {
            let (layer, part) = stem.strip_prefix("blk.")?.split_once('.')?;
            if layer.is_empty() || !layer.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            let (_, part) = PARTS.iter().find(|(gguf, _)| *gguf == part)?;
            format!("model.layers.{layer}.{part}")
        }
    };
    Some(format!("{stem}.{suffix}"))
}

/// Both names of the parts of a layer: GGUF's and Hugging Face's.
const PARTS: [(&str, &str); 9] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// Both names of the tensors outside the layers.
const OUTSIDE: [(&str, &str); 4] = [
    ("token_embd", "model.embed_tokens"),
    ("output_norm", "model.norm"),
    ("output", "lm_head"),
    ("cls.output", "score"),
];

/// GGUF's name for a tensor of `LlamaForCausalLM` or `LlamaForSequenceClassification`, or `None` if it has none.
pub(crate) fn to_gguf(name: &str) -> Option<String> {
    let (stem, suffix) = name.rsplit_once('.').filter(|(_, suffix)| matches!(*suffix, "weight" | "bias"))?;
    if let Some((gguf, _)) = OUTSIDE.iter().find(|(_, hugging_face)| *hugging_face == stem) {
        return Some(format!("{gguf}.{suffix}"));
    }
    let (layer, part) = stem.strip_prefix("model.layers.")?.split_once('.')?;
    let (gguf, _) = PARTS.iter().find(|(_, hugging_face)| *hugging_face == part)?;
    Some(format!("blk.{layer}.{gguf}.{suffix}"))
}

/// A projection whose rows are reordered in a GGUF file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Projection {
    Query,
    Key,
}

/// Which of the reordered projections a tensor of this Hugging Face name belongs to.
pub(crate) fn projection(name: &str) -> Option<Projection> {
    let (stem, _) = name.rsplit_once('.')?;
    match stem.strip_prefix("model.layers.")?.split_once('.')?.1 {
        "self_attn.q_proj" => Some(Projection::Query),
        "self_attn.k_proj" => Some(Projection::Key),
        _ => None,
    }
}

/// True for rotary buffers of old files (`blk.N.attn_rot_embd`), which follow from the metadata.
pub(super) fn is_derived_buffer(name: &str) -> bool {
    name.starts_with("blk.") && name.contains(".attn_rot_embd")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tensor_of_the_architecture_has_a_name() {
        for (gguf, expected) in [
            ("token_embd.weight", "model.embed_tokens.weight"),
            ("output_norm.weight", "model.norm.weight"),
            ("output.weight", "lm_head.weight"),
            ("blk.0.attn_norm.weight", "model.layers.0.input_layernorm.weight"),
            ("blk.11.attn_q.bias", "model.layers.11.self_attn.q_proj.bias"),
            ("blk.2.attn_k.weight", "model.layers.2.self_attn.k_proj.weight"),
            ("blk.2.attn_v.weight", "model.layers.2.self_attn.v_proj.weight"),
            ("blk.2.attn_output.weight", "model.layers.2.self_attn.o_proj.weight"),
            ("blk.2.ffn_norm.weight", "model.layers.2.post_attention_layernorm.weight"),
            ("blk.2.ffn_gate.weight", "model.layers.2.mlp.gate_proj.weight"),
            ("blk.2.ffn_up.weight", "model.layers.2.mlp.up_proj.weight"),
            ("blk.2.ffn_down.bias", "model.layers.2.mlp.down_proj.bias"),
        ] {
            assert_eq!(to_hugging_face(gguf).as_deref(), Some(expected));
            assert_eq!(to_gguf(expected).as_deref(), Some(gguf));
        }
        for unknown in ["", "blk", "blk.0.weight", "blk..attn_q.weight", "blk.x.attn_q.weight", "blk.0.attn_q.scale"] {
            assert_eq!(to_hugging_face(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn q_and_k_are_the_reordered_ones() {
        assert_eq!(projection("model.layers.3.self_attn.q_proj.weight"), Some(Projection::Query));
        assert_eq!(projection("model.layers.3.self_attn.k_proj.bias"), Some(Projection::Key));
        assert_eq!(projection("model.layers.3.self_attn.v_proj.weight"), None);
        assert_eq!(projection("model.norm.weight"), None);
    }
}
