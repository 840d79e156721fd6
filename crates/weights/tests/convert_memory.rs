//! Memory: a conversion takes a few pieces of a tensor, however large the tensor or the model is.
//!
//! The allocator of this test counts; so it is a test of its own, with a single thread. Nothing is mapped while tensors are
//! copied, so that what the allocator gives is what a conversion takes.

mod common;
mod counting;

use std::fs;

use camelid_weights::Checkpoint;
use camelid_weights::meta::{LlamaVersion, MetaOptions};
use camelid_weights::write::{FolderOptions, GgufOptions, GgufType};
use common::torch::{Pickle, Tensor, file};
use counting::peak;
use serde_json::json;

const DIM: usize = 256;
const FFN: usize = 682;
const VOCAB: usize = 60_000;
/// Two pieces of 4 MiB and what they become, with room for vectors that double.
const LIMIT: usize = 40 << 20;

/// A model of two shards; the largest tensors have 61 MB as f32.
fn meta_shards(folder: &std::path::Path) {
    let params = json!({"dim": DIM, "n_heads": 8, "n_kv_heads": 2, "n_layers": 1, "norm_eps": 1e-5, "multiple_of": 2});
    fs::write(folder.join("params.json"), params.to_string()).unwrap();
    let (dim, ffn, vocab) = (DIM as i64, FFN as i64, VOCAB as i64);
    let shapes: Vec<(&str, Vec<i64>)> = vec![
        ("tok_embeddings.weight", vec![vocab, dim / 2]),
        ("norm.weight", vec![dim]),
        ("output.weight", vec![vocab / 2, dim]),
        ("layers.0.attention.wq.weight", vec![dim / 2, dim]),
        ("layers.0.attention.wk.weight", vec![dim / 8, dim]),
        ("layers.0.attention.wv.weight", vec![dim / 8, dim]),
        ("layers.0.attention.wo.weight", vec![dim, dim / 2]),
        ("layers.0.feed_forward.w1.weight", vec![ffn / 2, dim]),
        ("layers.0.feed_forward.w2.weight", vec![dim, ffn / 2]),
        ("layers.0.feed_forward.w3.weight", vec![ffn / 2, dim]),
        ("layers.0.attention_norm.weight", vec![dim]),
        ("layers.0.ffn_norm.weight", vec![dim]),
    ];
    for shard in 0..2 {
        let tensors: Vec<(&str, Tensor)> =
            shapes.iter().map(|(name, shape)| (*name, Tensor::whole("HalfStorage", name, shape))).collect();
        let bytes: Vec<(&str, Vec<u8>)> =
            tensors.iter().map(|(name, t)| (*name, vec![0x30 + shard; t.count as usize * 2])).collect();
        let storages: Vec<(&str, &[u8])> = bytes.iter().map(|(key, bytes)| (*key, bytes.as_slice())).collect();
        let file = file(&Pickle::new().state_dict(&tensors), &storages);
        fs::write(folder.join(format!("consolidated.0{shard}.pth")), file).unwrap();
    }
}

#[test]
fn conversions_take_less_than_the_largest_tensor() {
    let work = tempfile::tempdir().unwrap();
    let path = |name: &str| work.path().join(name);
    fs::create_dir(path("meta")).unwrap();
    meta_shards(&path("meta"));
    let largest = VOCAB * DIM * 4;

    let meta = peak(|| {
        let mut options = MetaOptions::default();
        options.version = Some(LlamaVersion::V2);
        options.dtype = Some(camelid_core::DType::F32);
        camelid_weights::meta::to_hugging_face(&path("meta"), &path("hf"), &options, &mut |_| {}).unwrap();
    });
    let mut gguf = Vec::new();
    for kind in ["bf16", "q8_0", "q4_k"] {
        let mut options = GgufOptions::default();
        options.kind = GgufType::from_name(kind).unwrap();
        gguf.push(peak(|| {
            let checkpoint = Checkpoint::open(path("hf")).unwrap();
            let out = path(&format!("{kind}.gguf"));
            camelid_weights::write::to_gguf(&checkpoint, &out, &options, &mut |_| {}).unwrap();
        }));
    }
    let back = peak(|| {
        let checkpoint = Checkpoint::open(path("q8_0.gguf")).unwrap();
        camelid_weights::write::to_hugging_face(&checkpoint, &path("back"), &FolderOptions::default(), &mut |_| {})
            .unwrap();
    });
    for (what, peak) in [("meta", meta), ("bf16", gguf[0]), ("q8_0", gguf[1]), ("q4_k", gguf[2]), ("back", back)] {
        assert!(peak < LIMIT && LIMIT < largest, "{what}: {peak} bytes at once; the largest tensor has {largest}");
    }
}
