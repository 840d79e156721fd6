//! The tensors of a Llama checkpoint: their names and shapes, and the fields of the configuration that fix them.

use super::config::LlamaConfig;

/// A tensor the model reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectedTensor {
    /// Name in Hugging Face form.
    pub name: String,
    /// Row-major shape, `[out, in]` for projections.
    pub shape: Vec<usize>,
    /// The fields of `config.json` that the shape comes from, one for each dimension.
    pub from: Vec<&'static str>,
}

/// The name of the head's weight.
pub const LM_HEAD: &str = "lm_head.weight";
/// The name of the weight that scores classes, of a sequence classifier.
pub const SCORE: &str = "score.weight";
/// The name of the embedding table.
pub const EMBED_TOKENS: &str = "model.embed_tokens.weight";
/// The name of the last norm's weight.
pub const FINAL_NORM: &str = "model.norm.weight";

const HEADS: &str = "num_attention_heads * head_dim";
const KV_HEADS: &str = "num_key_value_heads * head_dim";

/// The names of one layer's tensors, without their prefix.
pub(super) mod layer {
    pub const INPUT_NORM: &str = "input_layernorm";
    pub const POST_NORM: &str = "post_attention_layernorm";
    pub const Q: &str = "self_attn.q_proj";
    pub const K: &str = "self_attn.k_proj";
    pub const V: &str = "self_attn.v_proj";
    pub const O: &str = "self_attn.o_proj";
    pub const GATE: &str = "mlp.gate_proj";
    pub const UP: &str = "mlp.up_proj";
    pub const DOWN: &str = "mlp.down_proj";
}

/// The tensor that scores `num_labels` classes; `LlamaForSequenceClassification` gives it no bias.
pub fn score(config: &LlamaConfig, num_labels: usize) -> ExpectedTensor {
    let shape = vec![num_labels, config.hidden_size];
    ExpectedTensor { name: SCORE.into(), shape, from: vec!["num_labels, the entries of id2label", "hidden_size"] }
}

/// Every tensor of a causal language model with this configuration; the head's only if `untied_head`.
pub fn expected(config: &LlamaConfig, untied_head: bool) -> Vec<ExpectedTensor> {
    let c = config;
    let (hidden, ffn) = ((c.hidden_size, "hidden_size"), (c.intermediate_size, "intermediate_size"));
    let heads = (c.num_attention_heads * c.head_dim, HEADS);
    let kv_heads = (c.num_key_value_heads * c.head_dim, KV_HEADS);
    let vocab = (c.vocab_size, "vocab_size");
    let mut tensors = Vec::new();
    let mut add = |name: String, dims: &[(usize, &'static str)]| {
        let (shape, from) = dims.iter().copied().unzip();
        tensors.push(ExpectedTensor { name, shape, from });
    };
    add(EMBED_TOKENS.into(), &[vocab, hidden]);
    for i in 0..c.num_hidden_layers {
        let projections = [
            (layer::Q, heads, hidden, c.attention_bias),
            (layer::K, kv_heads, hidden, c.attention_bias),
            (layer::V, kv_heads, hidden, c.attention_bias),
            (layer::O, hidden, heads, c.attention_bias),
            (layer::GATE, ffn, hidden, c.mlp_bias),
            (layer::UP, ffn, hidden, c.mlp_bias),
            (layer::DOWN, hidden, ffn, c.mlp_bias),
        ];
        for norm in [layer::INPUT_NORM, layer::POST_NORM] {
            add(format!("model.layers.{i}.{norm}.weight"), &[hidden]);
        }
        for (name, rows, columns, bias) in projections {
            add(format!("model.layers.{i}.{name}.weight"), &[rows, columns]);
            if bias {
                add(format!("model.layers.{i}.{name}.bias"), &[rows]);
            }
        }
    }
    add(FINAL_NORM.into(), &[hidden]);
    if untied_head {
        add(LM_HEAD.into(), &[vocab, hidden]);
    }
    tensors
}
