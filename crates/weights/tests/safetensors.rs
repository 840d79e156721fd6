//! Safetensors that are right, in one file and in shards: what they become.

mod common;

use camelid_core::DType;
use camelid_weights::{Checkpoint, Format, TokenizerSource};
use common::*;
use serde_json::{Value, json};

/// A shard with every tensor whose index in the tiny model is `part` modulo `of`.
fn shard(part: usize, of: usize) -> Vec<u8> {
    let tensors: Vec<_> = tensors().into_iter().skip(part).step_by(of).collect();
    safetensors(tensors.iter().map(|(name, shape)| (name.as_str(), shape.as_slice())))
}

/// A name and what the file of that name holds.
type File = (&'static str, Vec<u8>);

/// The tiny model in two shards, with its index.
fn sharded() -> [File; 4] {
    const SHARDS: [&str; 2] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    let map: serde_json::Map<String, Value> =
        tensors().into_iter().enumerate().map(|(i, (name, _))| (name, json!(SHARDS[i % 2]))).collect();
    let index = json!({"metadata": {"total_size": 1}, "weight_map": map}).to_string();
    [
        ("config.json", config().to_string().into_bytes()),
        ("model.safetensors.index.json", index.into_bytes()),
        (SHARDS[0], shard(0, 2)),
        (SHARDS[1], shard(1, 2)),
    ]
}

fn borrowed<'a>(files: &'a [(&'a str, Vec<u8>)]) -> Vec<(&'a str, &'a [u8])> {
    files.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect()
}

fn single(tensors: &[u8]) -> tempfile::TempDir {
    folder(&[("config.json", config().to_string().as_bytes()), ("model.safetensors", tensors)])
}

#[test]
fn one_file_and_shards_give_the_same_tensors() {
    let one = single(&tiny_safetensors());
    let many = folder(&borrowed(&sharded()));
    for (folder, shards) in [(one, 1), (many, 2)] {
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        assert_eq!(checkpoint.format(), Format::Safetensors { shards });
        assert_eq!(checkpoint.config(), &config());
        assert_eq!(checkpoint.generation_config(), None);
        assert_eq!(checkpoint.tensors().len(), tensors().len());
        for (name, shape) in tensors() {
            let tensor = checkpoint.tensor(&name).unwrap();
            assert_eq!((tensor.dtype, &tensor.shape, tensor.is_mapped()), (DType::F32, &shape, true));
            assert_eq!(*tensor.bytes(), *f32_bytes(&name, &shape));
            // The offset is that of the file.
            let file = std::fs::read(&tensor.file).unwrap();
            assert_eq!(&file[tensor.offset as usize..][..tensor.byte_len() as usize], &*tensor.bytes());
        }
        let places: Vec<_> = checkpoint.tensors().iter().map(|t| (t.file.clone(), t.offset)).collect();
        assert!(places.is_sorted(), "file order");
    }
}

#[test]
fn the_single_file_comes_before_the_index() {
    let folder = folder(&borrowed(&sharded()));
    std::fs::write(folder.path().join("model.safetensors"), tiny_safetensors()).unwrap();
    assert_eq!(Checkpoint::open(folder.path()).unwrap().format(), Format::Safetensors { shards: 1 });
}

#[test]
fn a_file_beside_its_config_is_a_checkpoint() {
    let config = config().to_string();
    let folder = folder(&[("config.json", config.as_bytes()), ("other.safetensors", &tiny_safetensors())]);
    let checkpoint = Checkpoint::open(folder.path().join("other.safetensors")).unwrap();
    assert_eq!(checkpoint.tensors().len(), tensors().len());
    // In a folder that name is not looked for.
    let error = Checkpoint::open(folder.path()).unwrap_err();
    assert_says(&chain(&error), &["no model.safetensors", "other.safetensors"]);
}

#[test]
fn names_without_model_and_buffers_of_old_files() {
    let bare: Vec<(String, Vec<usize>)> = tensors()
        .into_iter()
        .map(|(name, shape)| (name.strip_prefix("model.").unwrap().to_owned(), shape))
        .chain([("layers.0.self_attn.rotary_emb.inv_freq".to_owned(), vec![HEAD_DIM / 2])])
        .collect();
    let folder = single(&safetensors(bare.iter().map(|(n, s)| (n.as_str(), s.as_slice()))));
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    assert_eq!(checkpoint.tensors().len(), tensors().len(), "the buffer is left out");
    let tensor = checkpoint.tensor("model.layers.0.mlp.up_proj.weight").unwrap();
    assert_eq!(tensor.source_name, "layers.0.mlp.up_proj.weight");
}

#[test]
fn half_types_keep_their_bytes_and_a_buffer_may_be_of_any_type() {
    let header = json!({
        "lm_head.weight": {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]},
        "model.norm.weight": {"dtype": "BF16", "shape": [4], "data_offsets": [12, 20]},
        "rotary_emb.inv_freq": {"dtype": "I64", "shape": [1], "data_offsets": [20, 28]},
    });
    let bytes: Vec<u8> = (0..28).collect();
    let folder = single(&safetensors_raw(&header.to_string(), &bytes));
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    assert_eq!(checkpoint.tensors().len(), 2);
    let head = checkpoint.tensor("lm_head.weight").unwrap();
    assert_eq!((head.dtype, &*head.bytes()), (DType::F16, &bytes[..12]));
    let norm = checkpoint.tensor("model.norm.weight").unwrap();
    assert_eq!((norm.dtype, &*norm.bytes()), (DType::BF16, &bytes[12..20]));
    assert_eq!(checkpoint.summary().parameters, 10);
}

#[test]
fn the_files_beside_the_weights_are_found() {
    let folder = single(&tiny_safetensors());
    let open = || Checkpoint::open(folder.path()).unwrap();
    assert_eq!(open().tokenizer(), &TokenizerSource::Missing(folder.path().to_owned()));
    let model = folder.path().join("tokenizer.model");
    std::fs::write(&model, "").unwrap();
    assert_eq!(open().tokenizer(), &TokenizerSource::TokenizerModel(model));
    let file = folder.path().join("tokenizer.json");
    std::fs::write(&file, "{}").unwrap();
    std::fs::write(folder.path().join("generation_config.json"), r#"{"temperature": 0.6}"#).unwrap();
    assert_eq!(open().tokenizer(), &TokenizerSource::TokenizerJson(file));
    assert_eq!(open().generation_config(), Some(&json!({"temperature": 0.6})));
    assert_eq!(open().gguf_vocab().unwrap(), None);
    assert!(open().gguf().is_none() && open().rope_freqs().is_none());
    std::fs::write(folder.path().join("generation_config.json"), "{").unwrap();
    assert_says(&chain(&Checkpoint::open(folder.path()).unwrap_err()), &["generation_config.json", "line 1"]);
}

#[test]
fn the_index_and_its_shards_must_agree() {
    let refused = |change: &dyn Fn(&mut Vec<File>)| {
        let mut files = sharded().to_vec();
        change(&mut files);
        refusal(&borrowed(&files), "")
    };
    let reindexed = |change: &dyn Fn(&mut serde_json::Map<String, Value>)| {
        refused(&|files| {
            let mut index: Value = serde_json::from_slice(&files[1].1).unwrap();
            change(index["weight_map"].as_object_mut().unwrap());
            files[1].1 = index.to_string().into_bytes();
        })
    };
    let norm = "model.norm.weight";
    assert_says(
        &refused(&|files| drop(files.remove(3))),
        &["index.json", "model-00002-of-00002.safetensors", "missing", "14 tensors", "download"],
    );
    assert_says(
        &reindexed(&|map| {
            drop(map.insert("model.layers.9.mlp.up_proj.weight".into(), json!("model-00001-of-00002.safetensors")))
        }),
        &["contradicts", "model.layers.9.mlp.up_proj.weight is not in model-00001"],
    );
    assert_says(&reindexed(&|map| drop(map.remove(norm))), &["model.norm.weight is in", "but not in the index"]);
    assert_says(
        &reindexed(&|map| {
            let other = match map[norm].as_str() {
                Some("model-00001-of-00002.safetensors") => "model-00002-of-00002.safetensors",
                _ => "model-00001-of-00002.safetensors",
            };
            map.insert(norm.into(), json!(other));
        }),
        &["model.norm.weight is not in", "model.norm.weight is in"],
    );
    for evil in ["../secret.safetensors", "/etc/passwd", "..", ".", "", "a/b.safetensors", "a\\b.safetensors", "x\0y"] {
        let message = reindexed(&|map| drop(map.insert(norm.into(), json!(evil))));
        assert_says(&message, &["the shard of tensor model.norm.weight", "no plain file name"]);
    }
    let twice = br#"{"weight_map": {"a": "x.safetensors", "b": "x.safetensors", "a": "y.safetensors"}}"#;
    assert_says(
        &refused(&|files| files[1].1 = twice.to_vec()),
        &["tensor a", "twice", "x.safetensors", "y.safetensors"],
    );
    assert_says(&reindexed(&|map| map.clear()), &["weight_map", "names no tensor"]);
    assert_says(&refused(&|files| files[1].1 = b"{}".to_vec()), &["index.json", "weight_map"]);
    assert_says(&refused(&|files| files[1].1 = b"[[[[".to_vec()), &["index.json", "the index", "line 1"]);
    // Both shards hold everything: the index is right about half of it.
    assert_says(&refused(&|files| files[3].1 = tiny_safetensors()), &["contradicts", "and 7 more"]);
}

#[test]
fn one_shard_is_no_checkpoint() {
    let folder = folder(&borrowed(&sharded()));
    let error = Checkpoint::open(folder.path().join("model-00001-of-00002.safetensors")).unwrap_err();
    assert_says(&chain(&error), &["model-00001-of-00002.safetensors", "one shard", "the path of the folder"]);
    let error = Checkpoint::open(folder.path().join("model.safetensors.index.json")).unwrap_err();
    assert_says(&chain(&error), &["holds no weights", "folder"]);
}

#[test]
fn a_checkpoint_in_memory_is_the_one_on_disk() {
    let folder = suite().join("model/mha");
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    let weights = camelid_core::Bytes::from(read("model.safetensors"));
    let carried = Checkpoint::from_bytes("(carried)", &read("config.json"), b"{}", weights).unwrap();
    let opened = Checkpoint::open(&folder).unwrap();
    assert_eq!(carried.config(), opened.config());
    let tensors = |c: &Checkpoint| -> Vec<_> {
        c.tensors().iter().map(|t| (t.name.clone(), t.dtype, t.shape.clone(), t.bytes().to_vec())).collect()
    };
    assert_eq!(tensors(&carried), tensors(&opened));
    let cut = camelid_core::Bytes::from(read("model.safetensors")[..100].to_vec());
    let error = Checkpoint::from_bytes("(carried)", &read("config.json"), b"{}", cut).unwrap_err().to_string();
    assert!(error.contains("(carried)"), "{error}");
}

fn suite() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/suite")
}
