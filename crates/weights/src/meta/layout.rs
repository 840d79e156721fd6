//! Meta's tensors: their names, how they are cut into shards, and what Hugging Face calls them.
//!
//! ```text
//! Meta                                      cut by          Hugging Face
//! tok_embeddings.weight                     columns (1, 2)  model.embed_tokens.weight
//!                                           or rows (3)
//! layers.N.attention.wq, wk  .weight        rows            model.layers.N.self_attn.q_proj, k_proj   rows reordered
//! layers.N.attention.wv                     rows            self_attn.v_proj
//! layers.N.attention.wo                     columns         self_attn.o_proj
//! layers.N.feed_forward.w1, w3              rows            mlp.gate_proj, up_proj
//! layers.N.feed_forward.w2                  columns         mlp.down_proj
//! layers.N.attention_norm, ffn_norm         not             input_layernorm, post_attention_layernorm
//! norm.weight                               not             model.norm.weight
//! output.weight                             rows            lm_head.weight
//! rope.freqs                                not             (follows from the config)
//! ```
//! The rules are those of transformers' `convert_llama_weights_to_hf.py`. Meta rotates neighbouring elements of a head and
//! Hugging Face the halves, so the rows of q and k are reordered as in GGUF: see
//! [`gguf::permute`](crate::gguf::permute).

use super::params::{LlamaVersion, Params};

/// How a tensor is spread over the shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// Each shard has all of it; the first counts.
    Whole,
    /// Rows one shard after the other.
    Rows,
    /// Each row's columns one shard after the other.
    Columns,
}

/// A tensor that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Meta's name.
    pub(super) meta: String,
    /// Hugging Face's name.
    pub(super) name: String,
    pub(super) cut: Cut,
    /// The whole tensor's shape, the number of rows of the vocabulary not known before the shards are.
    pub(super) shape: Vec<usize>,
    /// True if the rows of each head are reordered.
    pub(super) rotated: bool,
}

pub(super) const EMBEDDINGS: &str = "tok_embeddings.weight";
pub(super) const OUTPUT: &str = "output.weight";
/// The one tensor that is there and not needed.
pub(super) const ROPE_FREQS: &str = "rope.freqs";

/// Every tensor of the model, in the order of its layers; the head's last, if there is one.
pub(super) fn parts(params: &Params, version: LlamaVersion, vocab: usize, head: bool) -> Vec<Part> {
    let (dim, ffn) = (params.dim, params.intermediate_size());
    let kv = params.n_kv_heads * params.head_dim();
    let mut parts = Vec::new();
    let mut add = |meta: String, name: String, cut: Cut, shape: &[usize], rotated: bool| {
        parts.push(Part { meta, name, cut, shape: shape.to_vec(), rotated });
    };
    let embeddings = if version.is_3() { Cut::Rows } else { Cut::Columns };
    add(EMBEDDINGS.into(), "model.embed_tokens.weight".into(), embeddings, &[vocab, dim], false);
    for i in 0..params.n_layers {
        for (meta, name, cut, shape, rotated) in [
            ("attention_norm", "input_layernorm", Cut::Whole, &[dim][..], false),
            ("attention.wq", "self_attn.q_proj", Cut::Rows, &[dim, dim], true),
            ("attention.wk", "self_attn.k_proj", Cut::Rows, &[kv, dim], true),
            ("attention.wv", "self_attn.v_proj", Cut::Rows, &[kv, dim], false),
            ("attention.wo", "self_attn.o_proj", Cut::Columns, &[dim, dim], false),
            ("ffn_norm", "post_attention_layernorm", Cut::Whole, &[dim], false),
            ("feed_forward.w1", "mlp.gate_proj", Cut::Rows, &[ffn, dim], false),
            ("feed_forward.w3", "mlp.up_proj", Cut::Rows, &[ffn, dim], false),
            ("feed_forward.w2", "mlp.down_proj", Cut::Columns, &[dim, ffn], false),
        ] {
            let (meta, name) = (format!("layers.{i}.{meta}.weight"), format!("model.layers.{i}.{name}.weight"));
            add(meta, name, cut, shape, rotated);
        }
    }
    add("norm.weight".into(), "model.norm.weight".into(), Cut::Whole, &[dim], false);
    if head {
        add(OUTPUT.into(), "lm_head.weight".into(), Cut::Rows, &[vocab, dim], false);
    }
    parts
}
