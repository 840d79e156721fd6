//! New models: which tensors they have, what is in them, and that a seed means the same bytes for ever.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use camelid_core::llama::{LlamaConfig, tensors};
use camelid_weights::init::{InitDType, InitError, InitOptions, InitReport, write_model};
use camelid_weights::{Checkpoint, Strictness};
use half::{bf16, f16};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

fn config(extra: Value) -> LlamaConfig {
    let mut base = json!({
        "vocab_size": 61, "hidden_size": 40, "intermediate_size": 50, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 12, "initializer_range": 0.05,
    });
    base.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    LlamaConfig::from_value(&base).unwrap()
}

const OPTIONS: InitOptions = InitOptions { seed: 5, dtype: InitDType::F32, shard_size: None, force: false };

fn write(config: &LlamaConfig, options: &InitOptions, folder: &Path) -> Result<InitReport, InitError> {
    let mut last = (0, 0);
    let report = write_model(config, options, folder, &mut |done, total| {
        assert!(done > last.0 && done <= total);
        last = (done, total);
    })?;
    assert_eq!(last, (report.bytes, report.bytes), "progress ends at the end");
    Ok(report)
}

/// The tensors that Camelid reads from the folder, as f64.
fn read(folder: &Path) -> BTreeMap<String, (Vec<usize>, Vec<f64>)> {
    let checkpoint = Checkpoint::open(folder).unwrap();
    let values = |t: &camelid_weights::TensorInfo| -> Vec<f64> {
        let bytes = t.bytes();
        match t.dtype.to_string().as_str() {
            "f32" => bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()).into()).collect(),
            "bf16" => bytes.chunks_exact(2).map(|b| bf16::from_le_bytes(b.try_into().unwrap()).to_f64()).collect(),
            "f16" => bytes.chunks_exact(2).map(|b| f16::from_le_bytes(b.try_into().unwrap()).to_f64()).collect(),
            other => panic!("{other}"),
        }
    };
    checkpoint.tensors().iter().map(|t| (t.source_name.clone(), (t.shape.clone(), values(t)))).collect()
}

#[test]
fn a_causal_model_has_exactly_its_tensors_and_they_are_filled_as_transformers_fills_them() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(json!({"attention_bias": true, "mlp_bias": true, "pad_token_id": 7}));
    let report = write(&config, &OPTIONS, folder.path()).unwrap();
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    checkpoint.check_against(&tensors::expected(&config, true), Strictness::Strict).unwrap();
    let mut count = 0;
    for (name, (shape, values)) in read(folder.path()) {
        count += values.len() as u64;
        let (n, deviation) = (values.len() as f64, 0.05);
        if name.ends_with("norm.weight") {
            assert!(values.iter().all(|v| *v == 1.0), "{name}");
        } else if name.ends_with(".bias") {
            assert!(values.iter().all(|v| *v == 0.0), "{name}");
        } else {
            let padding = name == "model.embed_tokens.weight";
            let n = if padding { n - shape[1] as f64 } else { n };
            let mean = values.iter().sum::<f64>() / n;
            let variance = values.iter().map(|v| v * v).sum::<f64>() / n;
            // Four standard errors.
            assert!(mean.abs() < 4.0 * deviation / n.sqrt(), "{name}: mean {mean}");
            let error = (variance / deviation.powi(2) - 1.0).abs();
            assert!(error < 4.0 * (2.0 / n).sqrt(), "{name}: variance {variance}");
            let rows: Vec<&[f64]> = values.chunks(shape[1]).collect();
            let zero = rows.iter().position(|r| r.iter().all(|v| *v == 0.0));
            assert_eq!(zero, padding.then_some(7), "{name}");
        }
    }
    assert_eq!((report.parameters, report.bytes), (count, 4 * count));
}

#[test]
fn the_config_that_is_written_is_the_config_that_was_given() {
    let folder = tempfile::tempdir().unwrap();
    let given = config(json!({"eos_token_id": [2, 3], "pad_token_id": 0,
        "rope_scaling": {"type": "yarn", "factor": 4, "original_max_position_embeddings": 512}}));
    write(&given, &InitOptions { dtype: InitDType::BF16, ..OPTIONS }, folder.path()).unwrap();
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let written = LlamaConfig::from_value(checkpoint.config()).unwrap();
    assert_eq!(written.architectures, ["LlamaForCausalLM"]);
    assert_eq!(written.dtype.as_deref(), Some("bfloat16"));
    assert_eq!(LlamaConfig { architectures: vec![], dtype: None, ..written }, given);
    let generation = checkpoint.generation_config().unwrap();
    assert_eq!(generation["eos_token_id"], json!([2, 3]));
    assert_eq!((&generation["bos_token_id"], &generation["pad_token_id"]), (&json!(1), &json!(0)));
}

#[test]
fn each_class_has_the_names_that_transformers_gives_it() {
    let names = |extra: Value| {
        let folder = tempfile::tempdir().unwrap();
        write(&config(extra), &OPTIONS, folder.path()).unwrap();
        let generation = folder.path().join("generation_config.json").exists();
        (read(folder.path()), generation)
    };
    let (causal, generates) = names(json!({}));
    assert!(generates && causal.contains_key("lm_head.weight"));
    let (tied, _) = names(json!({"tie_word_embeddings": true}));
    assert!(!tied.contains_key("lm_head.weight") && tied.len() + 1 == causal.len());
    let (base, generates) = names(json!({"architectures": ["LlamaModel"]}));
    assert!(!generates && base.contains_key("embed_tokens.weight") && base.contains_key("layers.1.mlp.up_proj.weight"));
    assert_eq!(base["norm.weight"].0, [40]);
    assert_eq!(base["embed_tokens.weight"], causal["model.embed_tokens.weight"], "a class changes no weight");
    let labels = json!({"architectures": ["LlamaForSequenceClassification"], "num_labels": 3});
    let (classifier, generates) = names(labels);
    assert!(!generates && !classifier.contains_key("lm_head.weight"));
    assert_eq!(classifier["score.weight"].0, [3, 40]);
    assert_eq!(classifier.len(), base.len() + 1);

    let folder = tempfile::tempdir().unwrap();
    let other = config(json!({"architectures": ["LlamaForTokenClassification"]}));
    let e = write(&other, &OPTIONS, folder.path()).unwrap_err().to_string();
    assert!(e.contains("`LlamaForTokenClassification`") && e.contains("LlamaForSequenceClassification"), "{e}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn shards_hold_the_same_tensors_within_their_limit() {
    let (whole, cut) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = config(json!({}));
    write(&config, &OPTIONS, whole.path()).unwrap();
    let report = write(&config, &InitOptions { shard_size: Some(20_000), ..OPTIONS }, cut.path()).unwrap();
    assert_eq!(read(whole.path()), read(cut.path()));
    let shards: Vec<_> = report.files.iter().filter(|f| f.extension().is_some_and(|e| e == "safetensors")).collect();
    assert!(shards.len() > 3, "{shards:?}");
    for shard in &shards {
        let bytes = fs::read(shard).unwrap();
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap());
        assert!(bytes.len() as u64 - 8 - header <= 20_000, "{}", shard.display());
        assert_eq!(header % 8, 0);
    }
    let index: Value =
        serde_json::from_slice(&fs::read(cut.path().join("model.safetensors.index.json")).unwrap()).unwrap();
    assert_eq!(index["metadata"]["total_size"], json!(report.bytes));
    assert_eq!(
        index["weight_map"]["lm_head.weight"],
        json!(shards.last().unwrap().file_name().unwrap().to_str().unwrap())
    );
}

#[test]
fn a_seed_means_the_same_bytes_on_every_platform() {
    let digest = |dtype| {
        let folder = tempfile::tempdir().unwrap();
        write(&config(json!({})), &InitOptions { dtype, ..OPTIONS }, folder.path()).unwrap();
        let found = Sha256::digest(fs::read(folder.path().join("model.safetensors")).unwrap());
        found.iter().map(|b| format!("{b:02x}")).collect::<String>()
    };
    let golden = ["cdffea33ab1a2a4389f0befa8f409cf4f6def5ed7798bf1d01830ddd9e942133", "GOLDEN_BF16", "GOLDEN_F16"];
    assert_eq!([InitDType::F32, InitDType::BF16, InitDType::F16].map(digest), golden);
}

#[test]
fn what_is_there_is_replaced_with_force_only() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("tokenizer.json"), "{}").unwrap();
    let config = config(json!({}));
    write(&config, &InitOptions { shard_size: Some(20_000), ..OPTIONS }, folder.path()).unwrap();
    let before = read(folder.path());
    let e = write(&config, &InitOptions { seed: 6, ..OPTIONS }, folder.path()).unwrap_err().to_string();
    assert!(e.contains("config.json exists") && e.contains("--force"), "{e}");
    assert_eq!(read(folder.path()), before);
    write(&config, &InitOptions { seed: 6, force: true, ..OPTIONS }, folder.path()).unwrap();
    let after = read(folder.path());
    assert_eq!(after.len(), before.len());
    assert_ne!(after, before);
    let mut names: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json"]);
}

#[test]
fn errors_of_the_disk_name_the_file_and_wrong_values_the_field() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let e = write(&config(json!({})), &OPTIONS, &file).unwrap_err();
    assert!(e.to_string().starts_with("cannot make the folder ") && e.to_string().ends_with("file"), "{e}");
    assert!(std::error::Error::source(&e).is_some());
    let mut wrong = config(json!({}));
    wrong.num_key_value_heads = 3;
    let e = write(&wrong, &OPTIONS, folder.path()).unwrap_err();
    assert!(std::error::Error::source(&e).unwrap().to_string().contains("num_key_value_heads"), "{e}");
}
