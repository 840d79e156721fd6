//! `camelid convert` and `camelid quantize` as a user meets them: what was converted runs and says the same.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use common::{camelid_in as camelid, stdout};
use serde_json::{Value, json};

#[track_caller]
fn failure(output: Output, says: &[&str]) {
    let message = common::failure(output);
    for part in says {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}

/// The tokens of a greedy continuation.
fn tokens(folder: &Path, model: &[&str]) -> Value {
    let args = ["generate", "The little fox", "--max-new-tokens", "24", "--temperature", "0", "--json"];
    let json: Value = serde_json::from_str(&stdout(camelid(folder, &[&args[..], model].concat()))).unwrap();
    json["tokens"].clone()
}

fn ids(folder: &Path, model: &[&str], text: &str) -> String {
    stdout(camelid(folder, &[&["tokenize", "--json", text][..], model].concat()))
}

const TEXTS: [&str; 5] = ["Once upon a time", " two  spaces, 1234!\n\ttab", "don't <|eos|> stop", "éà 🦊 中文", ""];

#[test]
fn the_bundled_model_goes_to_gguf_and_back_and_says_the_same() {
    let work = tempfile::tempdir().unwrap();
    let there = stdout(camelid(work.path(), &["convert", "--to", "gguf", "--out", "fox.gguf"]));
    assert!(there.contains("fox.gguf: 56 tensors"), "{there}");
    stdout(camelid(work.path(), &["convert", "--to", "hf", "--model", "fox.gguf", "--out", "fox"]));
    let expected = tokens(work.path(), &[]);
    assert_eq!(expected.as_array().unwrap().len(), 24);
    assert_eq!(tokens(work.path(), &["--model", "fox.gguf"]), expected);
    assert_eq!(tokens(work.path(), &["--model", "fox"]), expected);
    for text in TEXTS {
        let expected = ids(work.path(), &[], text);
        assert_eq!(ids(work.path(), &["--model", "fox.gguf"], text), expected, "{text:?}");
        assert_eq!(ids(work.path(), &["--model", "fox"], text), expected, "{text:?}");
    }
    // The weights are those of the source, bit for bit.
    let bundled = Path::new(env!("CARGO_MANIFEST_DIR")).join("bundled/model/model.safetensors");
    let (a, b) = (fs::read(bundled).unwrap(), fs::read(work.path().join("fox/model.safetensors")).unwrap());
    let (a, b) =
        (safetensors::SafeTensors::deserialize(&a).unwrap(), safetensors::SafeTensors::deserialize(&b).unwrap());
    assert_eq!(a.names().len(), b.names().len());
    for name in a.names() {
        assert_eq!(a.tensor(name).unwrap().data(), b.tensor(name).unwrap().data(), "{name}");
    }
}

#[test]
fn quantized_files_run() {
    let work = tempfile::tempdir().unwrap();
    for kind in ["q8_0", "q4_0", "q4_k", "q6_k"] {
        let file = format!("{kind}.gguf");
        let report = stdout(camelid(work.path(), &["quantize", "--to", kind, &file, "--json"]));
        let report: Value = serde_json::from_str(&report).unwrap();
        assert_eq!(report["tensors"], 56);
        let (all, classes) = (&report["rmse"]["all"], &report["rmse"]["classes"]);
        let relative = all["relative"].as_f64().unwrap();
        let bounds = if ["q8_0", "q6_k"].contains(&kind) { 1e-4..0.02 } else { 0.02..0.2 };
        assert!(bounds.contains(&relative), "{kind}: {relative}");
        assert_eq!(
            (&classes["attn_norm.weight"]["rmse"], &classes["attn_norm.weight"]["types"]),
            (&json!(0.0), &json!(["f32"]))
        );
        assert!(classes["ffn_down.weight"]["rmse"].as_f64().unwrap() > 0.0);
        assert_eq!(tokens(work.path(), &["--model", &file]).as_array().unwrap().len(), 24, "{kind}");
    }
    let size = |name: &str| fs::metadata(work.path().join(name)).unwrap().len();
    assert!(size("q4_0.gguf") < size("q8_0.gguf") * 7 / 10);
}

#[test]
fn what_quantizing_costs_is_measured_on_a_text() {
    let work = tempfile::tempdir().unwrap();
    fs::write(work.path().join("text"), "Once upon a time there was a little dog. The dog had a big red ball.")
        .unwrap();
    let run = |extra: &[&str]| {
        stdout(camelid(
            work.path(),
            &[&["quantize", "--to", "q4_0", "x.gguf", "--force", "--kl", "text"], extra].concat(),
        ))
    };
    let report: Value = serde_json::from_str(&run(&["--json"])).unwrap();
    let kl = report["against"]["kl"]["mean"].as_f64().unwrap();
    assert!(kl > 1e-6 && kl < 1.0, "{kl}");
    assert_eq!(report["against"]["model"], "(bundled)");
    let text = run(&[]);
    for part in ["RMSE of the weights", "ffn_down.weight", "KL(base || model)", "same top token"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // The same file against the file itself, where products of q8_0 and of f32 are the same numbers.
    fs::write(work.path().join("camelid.toml"), "backend = \"reference\"\n").unwrap();
    stdout(camelid(work.path(), &["quantize", "--to", "q8_0", "a.gguf"]));
    let args = ["quantize", "--model", "a.gguf", "--to", "f32", "b.gguf", "--kl", "text", "--json"];
    let report: Value = serde_json::from_str(&stdout(camelid(work.path(), &args))).unwrap();
    assert_eq!(report["rmse"]["all"]["rmse"], 0.0);
    assert!(report["against"]["kl"]["max"].as_f64().unwrap() < 1e-9);
}

#[test]
fn metas_checkpoints_become_hugging_face_folders() {
    let work = tempfile::tempdir().unwrap();
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../weights/tests/data/meta/v3_1_two_shards");
    let from = data.to_str().unwrap();
    let args = ["convert", "--from", "meta", from, "--out", "hf", "--llama-version", "3.1", "--json"];
    let report: Value = serde_json::from_str(&stdout(camelid(work.path(), &args))).unwrap();
    assert_eq!((&report["tensors"], &report["files"]), (&json!(21), &json!(1)));
    let inspected: Value = serde_json::from_str(&stdout(camelid(work.path(), &["inspect", "hf", "--json"]))).unwrap();
    assert_eq!(inspected["config"]["rope_parameters"]["rope_type"], "llama3");
    failure(camelid(work.path(), &args), &["hf exists already", "--force"]);
    let force = [&args[..], &["--force", "--max-shard-size", "10kb", "--dtype", "f32"]].concat();
    let report: Value = serde_json::from_str(&stdout(camelid(work.path(), &force))).unwrap();
    assert!(report["files"].as_u64().unwrap() > 1);
    stdout(camelid(work.path(), &["inspect", "hf"]));
}

#[test]
fn a_sentencepiece_vocabulary_survives_gguf() {
    let work = tempfile::tempdir().unwrap();
    let suite: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/suite/model/gqa");
    let folder = work.path().join("hf");
    fs::create_dir(&folder).unwrap();
    for name in ["config.json", "model.safetensors"] {
        fs::copy(suite.join(name), folder.join(name)).unwrap();
    }
    let mut vocab: Vec<String> = ["<unk>", "<s>", "</s>"].map(str::to_owned).into();
    vocab.extend(["▁", "a", "b", "c", "d", "ab", "▁a", "abc", "▁ab", "▁abc", "dd", "cd", "▁d"].map(str::to_owned));
    vocab.extend((0x20..0x7f).map(|b| format!("<0x{b:02X}>")));
    let ids: serde_json::Map<String, Value> = vocab.iter().enumerate().map(|(i, t)| (t.clone(), json!(i))).collect();
    // Each token has one pair to come from, so that SentencePiece's rule and the merges agree whatever the text.
    let merges =
        json!([["a", "b"], ["▁", "a"], ["ab", "c"], ["▁", "ab"], ["▁", "abc"], ["d", "d"], ["c", "d"], ["▁", "d"]]);
    let special = |id: u32, text: &str| {
        json!({"id": id, "content": text, "special": true, "normalized": false,
        "single_word": false, "lstrip": false, "rstrip": false})
    };
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [special(0, "<unk>"), special(1, "<s>"), special(2, "</s>")],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
        "pre_tokenizer": null,
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true,
            "ignore_merges": false, "vocab": ids, "merges": merges},
    });
    fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let config =
        json!({"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "tokenizer_class": "LlamaTokenizer"});
    fs::write(folder.join("tokenizer_config.json"), config.to_string()).unwrap();
    let mut model: Value = serde_json::from_slice(&fs::read(folder.join("config.json")).unwrap()).unwrap();
    assert!(model["vocab_size"].as_u64().unwrap() >= vocab.len() as u64, "the model has a row for every token");
    model["eos_token_id"] = json!(2);
    fs::write(folder.join("config.json"), model.to_string()).unwrap();

    stdout(camelid(work.path(), &["convert", "--to", "gguf", "--model", "hf", "--out", "a.gguf"]));
    stdout(camelid(work.path(), &["convert", "--to", "hf", "--model", "a.gguf", "--out", "back"]));
    for text in ["abc dd", "a ab abcd", " abc", "~!x ab", "dddd ccc", ""] {
        let tokenize = |model: &str| self::ids(work.path(), &["--model", model], text);
        let expected = tokenize("hf");
        assert_eq!(tokenize("a.gguf"), expected, "{text:?}");
        assert_eq!(tokenize("back"), expected, "{text:?}");
    }
}

#[test]
fn what_cannot_be_done_is_said() {
    let work = tempfile::tempdir().unwrap();
    let run = |args: &[&str], says: &[&str]| failure(camelid(work.path(), args), says);
    run(&["convert", "--out", "x"], &["--to"]);
    run(&["convert", "--to", "gguf", "--out", "x.gguf", "--dtype", "iq2_xs"], &["iq2_xs", "q4_k"]);
    run(&["convert", "--to", "hf", "--model", "nowhere", "--out", "x"], &["nowhere", "no such file"]);
    run(&["convert", "--to", "hf", "--out", "x"], &["--model"]);
    run(&["convert", "--from", "meta", "nowhere", "--out", "x"], &["nowhere", "params.json"]);
    run(&["convert", "--from", "meta", "nowhere", "--out", "x", "--dtype", "q8_0"], &["q8_0", "bf16"]);
    run(&["convert", "--from", "meta", "x", "--to", "gguf", "--out", "y"], &["Hugging Face folder"]);
    run(&["convert", "--to", "gguf", "--out", "x", "--llama-version", "2"], &["--from meta"]);
    run(&["convert", "--from", "meta", "x", "--out", "y", "--llama-version", "4"], &["3.2"]);
    run(&["convert", "--from", "meta", "x", "--out", "y", "--max-shard-size", "big"], &["5GB"]);
    run(&["quantize", "--to", "q3_k", "x.gguf"], &["q3_k", "q6_k"]);
    fs::write(work.path().join("there.gguf"), b"mine").unwrap();
    run(&["quantize", "--to", "q8_0", "there.gguf"], &["there.gguf exists already", "--force"]);
    assert_eq!(fs::read(work.path().join("there.gguf")).unwrap(), b"mine");
    assert_eq!(fs::read_dir(work.path()).unwrap().count(), 1, "something was left behind");
}
