//! The metadata of a GGUF file, as llama.cpp's converter writes them (`conversion/base.py`, `gguf/gguf_writer.py`).

use camelid_core::llama::LlamaConfig;
use camelid_core::tokenizer::GgufVocab;
use serde_json::Value;

use super::gguf_file::{Kv, Kvs};

/// What a file is about: `general.*`.
pub(super) fn general(name: &str, parameters: u64, file_type: u32, generation: Option<&Value>) -> Kvs {
    let mut kvs = Kvs::default();
    kvs.set("general.architecture", Kv::Text("llama".into()));
    kvs.set("general.type", Kv::Text("model".into()));
    kvs.set("general.name", Kv::Text(name.to_owned()));
    kvs.set("general.size_label", Kv::Text(size_label(parameters)));
    kvs.set("general.file_type", Kv::U32(file_type));
    kvs.set("general.quantization_version", Kv::U32(2));
    let sampling = generation.filter(|g| g["do_sample"] == true || g.get("do_sample").is_none());
    let number = |key: &str| sampling.and_then(|g| g[key].as_f64());
    for (key, from) in
        [("temp", "temperature"), ("top_p", "top_p"), ("min_p", "min_p"), ("penalty_repeat", "repetition_penalty")]
    {
        kvs.set_some(&format!("general.sampling.{key}"), number(from).map(|v| Kv::F32(v as f32)));
    }
    kvs.set_some("general.sampling.top_k", number("top_k").map(|v| Kv::I32(v as i32)));
    kvs
}

/// The hyperparameters: `llama.*`, those of the rotary embedding excepted.
pub(super) fn model(kvs: &mut Kvs, config: &LlamaConfig) {
    // Dimensions of a config are checked to be far below 2^32.
    for (key, value) in [
        ("block_count", config.num_hidden_layers),
        ("context_length", config.max_position_embeddings),
        ("embedding_length", config.hidden_size),
        ("feed_forward_length", config.intermediate_size),
        ("attention.head_count", config.num_attention_heads),
        ("attention.head_count_kv", config.num_key_value_heads),
        ("attention.key_length", config.head_dim),
        ("attention.value_length", config.head_dim),
        ("vocab_size", config.vocab_size),
        ("rope.dimension_count", config.head_dim),
    ] {
        kvs.set(format!("llama.{key}"), Kv::U32(value as u32));
    }
    kvs.set("llama.attention.layer_norm_rms_epsilon", Kv::F32(config.rms_norm_eps as f32));
}

/// The tokenizer: `tokenizer.*`. Ids that the vocabulary does not name come from the config; of several that end a
/// text, the first three have keys.
pub(super) fn tokenizer(kvs: &mut Kvs, vocab: Option<&GgufVocab>, config: &LlamaConfig) {
    let mut set = |key: &str, value: Option<Kv>| kvs.set_some(&format!("tokenizer.{key}"), value);
    set("ggml.model", Some(Kv::Text(vocab.map_or("none", |v| &v.model).to_owned())));
    let empty = GgufVocab::default();
    let v = vocab.unwrap_or(&empty);
    set("ggml.pre", v.pre.clone().map(Kv::Text));
    if vocab.is_some() {
        set("ggml.tokens", Some(Kv::Texts(v.tokens.clone())));
        set("ggml.scores", v.scores.clone().map(Kv::F32s));
        set("ggml.token_type", v.token_types.clone().map(Kv::I32s));
        set("ggml.merges", v.merges.clone().map(Kv::Texts));
    }
    let mut ends: Vec<u32> = [v.eos, v.eot, v.eom].into_iter().flatten().collect();
    for id in &config.eos_token_id {
        if !ends.contains(id) {
            ends.push(*id);
        }
    }
    let mut ends = ends.into_iter().map(Kv::U32);
    set("ggml.bos_token_id", v.bos.or(config.bos_token_id).map(Kv::U32));
    set("ggml.eos_token_id", ends.next());
    set("ggml.eot_token_id", ends.next());
    set("ggml.eom_token_id", ends.next());
    set("ggml.unknown_token_id", v.unk.map(Kv::U32));
    set("ggml.padding_token_id", v.pad.or(config.pad_token_id).map(Kv::U32));
    set("ggml.add_bos_token", v.add_bos.map(Kv::Bool));
    set("ggml.add_eos_token", v.add_eos.map(Kv::Bool));
    set("ggml.add_space_prefix", v.add_space_prefix.map(Kv::Bool));
    set("chat_template", v.chat_template.clone().map(Kv::Text));
}

/// "1.2B": two digits, and a letter for thousands, millions, billions or trillions.
fn size_label(parameters: u64) -> String {
    let count = parameters as f64;
    let (scale, letter) = match count {
        c if c > 1e12 => (1e-12, 'T'),
        c if c > 1e9 => (1e-9, 'B'),
        c if c > 1e6 => (1e-6, 'M'),
        _ => (1e-3, 'K'),
    };
    let scaled = count * scale;
    let digits = match scaled.round_ties_even() as u64 {
        0 => 2,
        1..10 => 1,
        _ => 0,
    };
    format!("{scaled:.digits$}{letter}")
}

#[cfg(test)]
mod tests {
    #[test]
    fn sizes_are_written_as_gguf_names_them() {
        for (count, expected) in
            [(2_831_000, "2.8M"), (134_515_008, "135M"), (6_738_415_616, "6.7B"), (500, "0.50K"), (70e9 as u64, "70B")]
        {
            assert_eq!(super::size_label(count), expected);
        }
    }
}
