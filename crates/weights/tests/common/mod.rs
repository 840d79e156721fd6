//! Checkpoints to test with: a writer for GGUF, tiny valid models in both formats, and looks at errors.
#![allow(dead_code)]

use std::error::Error;
use std::path::{Path, PathBuf};

use camelid_weights::{Checkpoint, WeightsError};
use serde_json::{Value, json};

pub mod gguf;
pub mod torch;

/// Writes `files` into a new folder, which is removed when the result is dropped.
pub fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder for the test");
    for (name, bytes) in files {
        std::fs::write(folder.path().join(name), bytes).expect("a file for the test");
    }
    folder
}

/// The error that opening `name` in a folder of `files` gives, with its sources, as one text.
pub fn refusal(files: &[(&str, &[u8])], name: &str) -> String {
    let folder = folder(files);
    match Checkpoint::open(folder.path().join(name)) {
        Ok(_) => panic!("{name} was opened"),
        Err(error) => chain(&error),
    }
}

/// An error and its sources, as the command line prints them.
pub fn chain(error: &WeightsError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text
}

/// Fails unless `message` holds each of `parts`.
#[track_caller]
pub fn assert_says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}

/// Dimensions of the tiny models, all different.
pub const VOCAB: usize = 11;
pub const HIDDEN: usize = 64;
pub const HEADS: usize = 6;
pub const KV_HEADS: usize = 2;
pub const HEAD_DIM: usize = 16;
pub const FFN: usize = 96;
pub const LAYERS: usize = 3;

/// The `config.json` of the tiny models.
pub fn config() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": HIDDEN,
        "intermediate_size": FFN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD_DIM,
        "max_position_embeddings": 128,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "vocab_size": VOCAB,
        "tie_word_embeddings": true,
    })
}

/// Name and shape of every tensor of the tiny models, in Hugging Face's naming.
pub fn tensors() -> Vec<(String, Vec<usize>)> {
    let mut all = vec![("model.embed_tokens.weight".to_owned(), vec![VOCAB, HIDDEN])];
    for i in 0..LAYERS {
        let mut add =
            |name: &str, shape: &[usize]| all.push((format!("model.layers.{i}.{name}.weight"), shape.to_vec()));
        add("input_layernorm", &[HIDDEN]);
        add("self_attn.q_proj", &[HEADS * HEAD_DIM, HIDDEN]);
        add("self_attn.k_proj", &[KV_HEADS * HEAD_DIM, HIDDEN]);
        add("self_attn.v_proj", &[KV_HEADS * HEAD_DIM, HIDDEN]);
        add("self_attn.o_proj", &[HIDDEN, HEADS * HEAD_DIM]);
        add("post_attention_layernorm", &[HIDDEN]);
        add("mlp.gate_proj", &[FFN, HIDDEN]);
        add("mlp.up_proj", &[FFN, HIDDEN]);
        add("mlp.down_proj", &[HIDDEN, FFN]);
    }
    all.push(("model.norm.weight".to_owned(), vec![HIDDEN]));
    all
}

/// The value of element `i` of a tensor: different for every tensor and element.
pub fn value(name: &str, i: usize) -> f32 {
    let seed = name.bytes().fold(7u32, |h, b| h.wrapping_mul(31).wrapping_add(u32::from(b)));
    let mixed = seed.wrapping_add(i as u32).wrapping_mul(2_654_435_761);
    (mixed >> 8) as f32 / 16_777_216.0 - 0.5
}

/// The bytes of a tensor of f32.
pub fn f32_bytes(name: &str, shape: &[usize]) -> Vec<u8> {
    (0..shape.iter().product()).flat_map(|i| value(name, i).to_le_bytes()).collect()
}

/// A safetensors file with this header, as it stands, and these bytes.
pub fn safetensors_raw(header: &str, bytes: &[u8]) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.extend_from_slice(bytes);
    file
}

/// A safetensors file of f32 tensors, one after the other in the order given.
pub fn safetensors<'a>(tensors: impl IntoIterator<Item = (&'a str, &'a [usize])>) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".into(), json!({"format": "pt"}));
    let mut bytes = Vec::new();
    for (name, shape) in tensors {
        let begin = bytes.len();
        bytes.extend(f32_bytes(name, shape));
        header.insert(name.into(), json!({"dtype": "F32", "shape": shape, "data_offsets": [begin, bytes.len()]}));
    }
    safetensors_raw(&Value::Object(header).to_string(), &bytes)
}

/// The tiny model as one safetensors file.
pub fn tiny_safetensors() -> Vec<u8> {
    let tensors = tensors();
    safetensors(tensors.iter().map(|(name, shape)| (name.as_str(), shape.as_slice())))
}

/// Where the project's committed fixtures lie.
pub fn suite(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/suite").join(path)
}
