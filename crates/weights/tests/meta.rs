//! Meta's checkpoints, converted: every tensor bit for bit what transformers has, every field of the config.
//!
//! The checkpoints were made from Hugging Face models by the inverse rule (conformance/reference/meta_cases.py).

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use camelid_core::DType;
use camelid_weights::meta::{LlamaVersion, MetaOptions, to_hugging_face};
use camelid_weights::write::Report;
use camelid_weights::{Checkpoint, Format, WeightsError};
use common::torch::{Pickle, Tensor, file};
use common::*;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const CASES: [&str; 6] = ["v1_legacy", "v2_two_shards", "v2_views", "v3_four_shards", "v3_1_two_shards", "v3_2_tied"];

fn data(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/meta").join(case)
}

fn expected(case: &str) -> Value {
    serde_json::from_slice(&fs::read(data(case).join("expect.json")).unwrap()).unwrap()
}

/// The options that the case needs: its version, and whether its turns end.
fn options(case: &str) -> MetaOptions {
    let of = &expected(case)["case"];
    let mut options = MetaOptions::default();
    options.version = LlamaVersion::from_name(of["version"].as_str().unwrap());
    options.instruct = of["instruct"] == true;
    options
}

fn convert(from: &Path, to: &Path, options: &MetaOptions) -> Result<Report, WeightsError> {
    to_hugging_face(from, to, options, &mut |_| {})
}

#[track_caller]
fn refused(from: &Path, options: &MetaOptions) -> String {
    let out = tempfile::tempdir().unwrap();
    let error = convert(from, &out.path().join("hf"), options).map(|r| format!("{r:?}")).unwrap_err();
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0, "something was left behind");
    chain(&error)
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn every_tensor_and_field_is_what_transformers_has() {
    for case in CASES {
        let out = tempfile::tempdir().unwrap();
        let folder = out.path().join("hf");
        let report = convert(&data(case), &folder, &options(case)).unwrap_or_else(|e| panic!("{case}: {e}"));
        let expected = expected(case);
        assert_eq!(json_of(&folder.join("config.json")), expected["config"], "{case}");
        let checkpoint = Checkpoint::open(&folder).unwrap();
        let tensors = expected["tensors"].as_object().unwrap();
        assert_eq!((checkpoint.tensors().len(), report.tensors), (tensors.len(), tensors.len()), "{case}");
        for (name, of) in tensors {
            let tensor = checkpoint.tensor(name).unwrap_or_else(|| panic!("{case}: {name} is not there"));
            let dtype = match of["dtype"].as_str().unwrap() {
                "float32" => DType::F32,
                "float16" => DType::F16,
                _ => DType::BF16,
            };
            assert_eq!((tensor.dtype, json!(tensor.shape)), (dtype, of["shape"].clone()), "{case}: {name}");
            assert_eq!(json!(hex(&tensor.bytes())), of["sha256"], "{case}: {name}");
        }
    }
}

#[test]
fn the_version_is_found_out_where_the_files_tell_it() {
    for (case, version) in [
        ("v1_legacy", "1"),
        ("v2_two_shards", "2"),
        ("v2_views", "2"),
        ("v3_four_shards", "3"),
        ("v3_1_two_shards", "3.1"),
        ("v3_2_tied", "3.2"),
    ] {
        let out = tempfile::tempdir().unwrap();
        let mut options = options(case);
        options.version = None;
        let report = convert(&data(case), &out.path().join("hf"), &options).unwrap_or_else(|e| panic!("{case}: {e}"));
        assert!(report.notes[0].contains(&format!("Llama {version},")), "{case}: {:?}", report.notes);
        assert_eq!(json_of(&out.path().join("hf/config.json")), expected(case)["config"], "{case}");
    }
}

#[test]
fn the_tokenizer_and_the_generation_config_come_along() {
    let work = tempfile::tempdir().unwrap();
    let from = copy_of("v3_four_shards", work.path());
    fs::write(from.join("tokenizer.model"), b"ranks").unwrap();
    let folder = work.path().join("hf");
    let report = convert(&from, &folder, &options("v3_four_shards")).unwrap();
    assert_eq!(report.notes, [""; 0]);
    assert_eq!(fs::read(folder.join("tokenizer.model")).unwrap(), b"ranks");
    assert_eq!(json_of(&folder.join("tokenizer_config.json"))["eos_token"], "<|eot_id|>");
    assert_eq!(
        json_of(&folder.join("generation_config.json")),
        json!({"bos_token_id": 128000, "do_sample": true, "eos_token_id": [128001, 128008, 128009],
               "temperature": 0.6, "top_p": 0.9})
    );
    // The first LLaMA has it in the folder above.
    fs::rename(from.join("tokenizer.model"), work.path().join("tokenizer.model")).unwrap();
    convert(&from, &work.path().join("again"), &options("v3_four_shards")).unwrap();
    assert!(work.path().join("again/tokenizer.model").is_file());
}

#[test]
fn shards_and_types_are_those_asked_for() {
    let out = tempfile::tempdir().unwrap();
    let mut options = options("v2_two_shards");
    options.max_shard_bytes = 6000;
    options.dtype = Some(DType::F32);
    let folder = out.path().join("hf");
    let report = convert(&data("v2_two_shards"), &folder, &options).unwrap();
    let checkpoint = Checkpoint::open(&folder).unwrap();
    assert_eq!(checkpoint.format(), Format::Safetensors { shards: report.files });
    assert!(report.files > 5, "{report:?}");
    assert_eq!(checkpoint.summary().bytes, report.bytes);
    assert_eq!(json_of(&folder.join("config.json"))["dtype"], "float32");
    // f16 widened is exact: rounding back gives the tensors there were.
    let whole = out.path().join("whole");
    options.dtype = None;
    options.max_shard_bytes = u64::MAX;
    convert(&data("v2_two_shards"), &whole, &options).unwrap();
    let narrow = Checkpoint::open(&whole).unwrap();
    for tensor in checkpoint.tensors() {
        let (mut a, mut b) = (vec![0.0; tensor.elements() as usize], vec![0.0; tensor.elements() as usize]);
        camelid_core::quant::dequantize(DType::F32, &tensor.bytes(), &mut a).unwrap();
        camelid_core::quant::dequantize(DType::F16, &narrow.tensor(&tensor.name).unwrap().bytes(), &mut b).unwrap();
        assert_eq!(a, b, "{}", tensor.name);
    }
    // Over the one there is, only by force, and without leaving shards of it.
    let error = chain(&convert(&data("v2_two_shards"), &folder, &options).unwrap_err());
    assert_says(&error, &["hf exists already", "--force"]);
    options.force = true;
    convert(&data("v2_two_shards"), &folder, &options).unwrap();
    assert_eq!(Checkpoint::open(&folder).unwrap().format(), Format::Safetensors { shards: 1 });
    let names = fs::read_dir(&folder)
        .unwrap()
        .filter(|e| e.as_ref().unwrap().path().extension().is_some_and(|x| x == "safetensors"));
    assert_eq!(names.count(), 1);
}

fn copy_of(case: &str, to: &Path) -> PathBuf {
    let folder = to.join("meta");
    fs::create_dir_all(&folder).unwrap();
    for entry in fs::read_dir(data(case)).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
    }
    folder
}

#[test]
fn checkpoints_that_do_not_fit_together_are_refused_by_name() {
    let case = "v2_two_shards";
    let broken = |change: &dyn Fn(&Path)| {
        let work = tempfile::tempdir().unwrap();
        let folder = copy_of(case, work.path());
        change(&folder);
        refused(&folder, &options(case))
    };
    let param = |key: &'static str, value: Value| {
        move |folder: &Path| {
            let path = folder.join("params.json");
            let mut params = json_of(&path);
            params[key] = value.clone();
            fs::write(&path, params.to_string()).unwrap();
        }
    };
    assert_says(&broken(&|f| fs::remove_file(f.join("params.json")).unwrap()), &["no params.json"]);
    assert_says(&broken(&|f| fs::write(f.join("params.json"), "{").unwrap()), &["params.json", "the parameters"]);
    for key in ["dim", "n_layers", "n_heads", "norm_eps"] {
        assert_says(&broken(&param(key, Value::Null)), &["params.json", key, "missing"]);
    }
    assert_says(&broken(&param("dim", json!(48))), &["consolidated.00.pth", "[14, 12]", "[14, 24]"]);
    assert_says(&broken(&param("n_kv_heads", json!(6))), &["attention.wk.weight", "[4, 24]", "[12, 24]"]);
    assert_says(&broken(&param("multiple_of", json!(100))), &["feed_forward.w1.weight", "[32, 24]", "[50, 24]"]);
    assert_says(&broken(&param("n_layers", json!(1 << 27))), &["layers.134217727.", "no shard has it"]);
    assert_says(&broken(&param("n_layers", json!(3))), &["layers.2.attention_norm.weight", "no shard has it"]);
    assert_says(
        &broken(&param("n_layers", json!(1))),
        &["unknown tensors", "layers.1.attention.wk.weight", "n_layers"],
    );
    assert_says(&broken(&param("vocab_size", json!(15))), &["vocab_size", "15", "14"]);
    assert_says(&broken(&param("use_scaled_rope", json!(true))), &["use_scaled_rope", "--llama-version"]);
    assert_says(
        &broken(&|f| fs::remove_file(f.join("consolidated.00.pth")).unwrap()),
        &["consolidated.00.pth", "none with the number 00"],
    );
    assert_says(&broken(&|f| fs::remove_file(f.join("consolidated.01.pth")).unwrap()), &["[14, 12]"]);
    assert_says(
        &broken(&|f| {
            fs::copy(data("v2_views").join("consolidated.00.pth"), f.join("consolidated.01.pth")).map(drop).unwrap()
        }),
        &["consolidated.01.pth", "only one of this and the first shard has layers.1."],
    );
    assert_says(
        &broken(&|f| fs::write(f.join("consolidated.01.pth"), b"PK\x03\x04 no").unwrap()),
        &["consolidated.01.pth", "the zip archive"],
    );
    let nothing = tempfile::tempdir().unwrap();
    fs::copy(data(case).join("params.json"), nothing.path().join("params.json")).unwrap();
    assert_says(&refused(nothing.path(), &options(case)), &["no consolidated.00.pth"]);

    // The wrong version: its embeddings would be cut the other way.
    let mut wrong = options(case);
    wrong.version = Some(LlamaVersion::V3);
    assert_says(&refused(&data(case), &wrong), &["vocab_size", "28 rows", "--llama-version"]);
}

#[test]
fn types_that_are_no_weights_are_refused() {
    let work = tempfile::tempdir().unwrap();
    let tensors: Vec<(&str, Tensor)> = vec![
        ("tok_embeddings.weight", Tensor::whole("CharStorage", "0", &[5, 4])),
        ("norm.weight", Tensor::whole("FloatStorage", "1", &[4])),
        ("output.weight", Tensor::whole("FloatStorage", "2", &[5, 4])),
    ];
    let mut all = tensors;
    let names: Vec<String> = ["attention_norm", "ffn_norm"].iter().map(|n| format!("layers.0.{n}.weight")).collect();
    let squares: Vec<String> =
        ["wq", "wk", "wv", "wo"].iter().map(|n| format!("layers.0.attention.{n}.weight")).collect();
    let mlp: Vec<String> = ["w1", "w3"].iter().map(|n| format!("layers.0.feed_forward.{n}.weight")).collect();
    all.extend(names.iter().map(|n| (n.as_str(), Tensor::whole("FloatStorage", "1", &[4]))));
    all.extend(squares.iter().map(|n| (n.as_str(), Tensor::whole("FloatStorage", "3", &[4, 4]))));
    all.extend(mlp.iter().map(|n| (n.as_str(), Tensor::whole("FloatStorage", "2", &[5, 4]))));
    all.push(("layers.0.feed_forward.w2.weight", Tensor::whole("FloatStorage", "2", &[4, 5])));
    let zeros = [0; 80];
    let bytes = file(
        &Pickle::new().state_dict(&all),
        &[("0", &zeros[..20]), ("1", &zeros[..16]), ("2", &zeros), ("3", &zeros[..64])],
    );
    fs::write(work.path().join("consolidated.00.pth"), bytes).unwrap();
    let params =
        json!({"dim": 4, "n_heads": 2, "n_layers": 1, "norm_eps": 1e-5, "multiple_of": 5, "ffn_dim_multiplier": 0.5});
    fs::write(work.path().join("params.json"), params.to_string()).unwrap();
    assert_says(&refused(work.path(), &MetaOptions::default()), &["tok_embeddings.weight", "int8", "float16"]);
}
