//! Writing GGUF files and Hugging Face folders: what goes there and back is the same.

mod common;

use std::fs;
use std::path::Path;

use camelid_core::{DType, quant};
use camelid_weights::write::{FolderOptions, GgufOptions, GgufType, Report, to_gguf, to_hugging_face};
use camelid_weights::{Checkpoint, WeightsError};
use common::*;
use serde_json::{Value, json};

/// The tiny model as a Hugging Face folder of this type, with changes to its config.
fn model(folder: &Path, dtype: DType, changes: &[(&str, Value)]) -> Checkpoint {
    let mut config = config();
    fs::write(folder.join("f32.safetensors"), tiny_safetensors()).unwrap();
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let whole = Checkpoint::open(folder.join("f32.safetensors")).unwrap();
    let out = folder.join("hf");
    let mut options = FolderOptions::default();
    options.dtype = Some(dtype);
    to_hugging_face(&whole, &out, &options, &mut |_| {}).unwrap();
    // What is under test is how the config fares, not how it was written.
    for (key, value) in changes {
        config[*key] = value.clone();
    }
    fs::write(out.join("config.json"), config.to_string()).unwrap();
    Checkpoint::open(out).unwrap()
}

fn gguf(checkpoint: &Checkpoint, out: &Path, kind: &str) -> Result<Report, WeightsError> {
    let mut options = GgufOptions::default();
    options.kind = GgufType::from_name(kind).expect("a known name");
    to_gguf(checkpoint, out, &options, &mut |_| {})
}

fn hugging_face(checkpoint: &Checkpoint, out: &Path) -> Report {
    to_hugging_face(checkpoint, out, &FolderOptions::default(), &mut |_| {}).unwrap()
}

#[track_caller]
fn assert_same_tensors(a: &Checkpoint, b: &Checkpoint) {
    assert_eq!(a.tensors().len(), b.tensors().len());
    for tensor in a.tensors() {
        let other = b.tensor(&tensor.name).unwrap_or_else(|| panic!("{} is gone", tensor.name));
        assert_eq!((tensor.dtype, &tensor.shape), (other.dtype, &other.shape), "{}", tensor.name);
        assert_eq!(*tensor.bytes(), *other.bytes(), "{}", tensor.name);
    }
}

#[test]
fn plain_types_go_to_gguf_and_back_without_a_changed_bit() {
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        let work = tempfile::tempdir().unwrap();
        let original = model(work.path(), dtype, &[]);
        for kind in ["auto", dtype.known_name().unwrap()] {
            let file = work.path().join(format!("{kind}.gguf"));
            gguf(&original, &file, kind).unwrap();
            let there = Checkpoint::open(&file).unwrap();
            for tensor in there.tensors() {
                let expected = if tensor.shape.len() < 2 { DType::F32 } else { dtype };
                assert_eq!(tensor.dtype, expected, "{}", tensor.name);
            }
            let back = work.path().join(format!("{kind}-hf"));
            hugging_face(&there, &back);
            let back = Checkpoint::open(&back).unwrap();
            assert_same_tensors(&original, &back);
            for (key, value) in config().as_object().unwrap() {
                match key.as_str() {
                    "rope_theta" => assert_eq!(back.config()["rope_parameters"]["rope_theta"], *value),
                    _ => assert_eq!(back.config()[key], *value, "{key}"),
                }
            }
        }
    }
}

#[test]
fn vectors_that_are_wider_than_the_matrices_stay_so() {
    let work = tempfile::tempdir().unwrap();
    let mut original = model(work.path(), DType::BF16, &[]);
    // Norms in f32, whose values bf16 does not hold, beside matrices in bf16.
    let mut header = serde_json::Map::new();
    let mut bytes = Vec::new();
    for tensor in original.tensors() {
        let wide = tensor.name.contains("norm");
        let held = if wide { f32_bytes(&tensor.name, &tensor.shape) } else { tensor.bytes().to_vec() };
        let range = [bytes.len(), bytes.len() + held.len()];
        let dtype = if wide { "F32" } else { "BF16" };
        header.insert(tensor.name.clone(), json!({"dtype": dtype, "shape": tensor.shape, "data_offsets": range}));
        bytes.extend(held);
    }
    let folder = original.path().to_owned();
    fs::remove_file(folder.join("model.safetensors")).unwrap();
    fs::write(folder.join("model.safetensors"), safetensors_raw(&Value::Object(header).to_string(), &bytes)).unwrap();
    original = Checkpoint::open(&folder).unwrap();
    let file = work.path().join("a.gguf");
    gguf(&original, &file, "auto").unwrap();
    hugging_face(&Checkpoint::open(&file).unwrap(), &work.path().join("back"));
    assert_same_tensors(&original, &Checkpoint::open(work.path().join("back")).unwrap());
}

#[test]
fn a_gguf_file_is_what_the_writer_of_the_tests_makes() {
    // An independent writer, with its own permutation, must agree on every tensor.
    let work = tempfile::tempdir().unwrap();
    let original = model(work.path(), DType::F32, &[]);
    let file = work.path().join("a.gguf");
    gguf(&original, &file, "f32").unwrap();
    let (_folder, expected) = common::gguf::tiny().open();
    let made = Checkpoint::open(&file).unwrap();
    assert_same_tensors(&made, &expected);
    let (made, expected) = (made.gguf().unwrap(), expected.gguf().unwrap());
    assert_eq!(made.version(), 3);
    for (key, value) in expected.metadata().iter() {
        if key.starts_with("llama.") {
            assert_eq!(made.metadata().get(key), Some(value), "{key}");
        }
    }
    for tensor in made.tensors().unwrap() {
        let same = expected.tensors().unwrap().into_iter().find(|t| t.name == tensor.name).unwrap();
        assert_eq!(*made.tensor_bytes(&tensor), *expected.tensor_bytes(&same), "{} as stored", tensor.name);
        assert!(tensor.offset.is_multiple_of(32), "{}", tensor.name);
    }
}

#[test]
fn quantized_files_hold_the_blocks_of_the_reordered_rows() {
    let work = tempfile::tempdir().unwrap();
    let original = model(work.path(), DType::F32, &[]);
    for (kind, most, head) in [
        ("q8_0", DType::Q8_0, DType::Q8_0),
        // The tied embeddings would be q6_k, which rows of 64 elements are no whole blocks of.
        ("q4_0", DType::Q4_0, DType::Q8_0),
        ("q5_1", DType::Q5_1, DType::Q8_0),
        ("q4_k", DType::Q5_0, DType::Q8_0),
    ] {
        let file = work.path().join(format!("{kind}.gguf"));
        let report = gguf(&original, &file, kind).unwrap();
        assert_eq!(report.notes.iter().any(|n| n.contains("no whole number of blocks")), kind != "q8_0", "{report:?}");
        let made = Checkpoint::open(&file).unwrap();
        for tensor in made.tensors() {
            let source = original.tensor(&tensor.name).unwrap();
            let mut floats = vec![0.0; source.elements() as usize];
            quant::dequantize(DType::F32, &source.bytes(), &mut floats).unwrap();
            let expected = match tensor.name.as_str() {
                name if name.contains("norm") => DType::F32,
                name if name.contains("embed") => head,
                // The first layers of a q4_k file keep more bits in v, and here none but v is in the first eighth.
                name if name.contains("v_proj") && kind == "q4_k" => DType::Q5_1,
                _ => most,
            };
            assert_eq!(tensor.dtype, expected, "{kind}: {}", tensor.name);
            let mut blocks = vec![0; tensor.bytes().len()];
            quant::quantize(expected, &floats, &mut blocks).unwrap();
            assert_eq!(*tensor.bytes(), blocks, "{kind}: {}", tensor.name);
        }
        // Back as floats: exactly what the blocks stand for.
        let back = work.path().join(format!("{kind}-hf"));
        hugging_face(&made, &back);
        let back = Checkpoint::open(&back).unwrap();
        for tensor in made.tensors() {
            let mut floats = vec![0.0; tensor.elements() as usize];
            quant::dequantize(tensor.dtype, &tensor.bytes(), &mut floats).unwrap();
            let bytes: Vec<u8> = floats.iter().flat_map(|x| x.to_le_bytes()).collect();
            assert_eq!(*back.tensor(&tensor.name).unwrap().bytes(), bytes, "{kind}: {}", tensor.name);
        }
        // A quantized file written again as it is keeps its blocks.
        let again = work.path().join(format!("{kind}-again.gguf"));
        gguf(&made, &again, "auto").unwrap();
        assert_same_tensors(&made, &Checkpoint::open(&again).unwrap());
    }
}

#[test]
fn every_kind_of_rotary_scaling_that_gguf_knows_survives() {
    let rope = |kind: &str, more: Value| {
        let mut map = json!({"rope_type": kind, "rope_theta": 20000.0});
        map.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        map
    };
    let factors: Vec<f64> = (1..=8).map(f64::from).collect();
    for parameters in [
        rope("default", json!({})),
        rope("linear", json!({"factor": 4.0})),
        rope(
            "yarn",
            json!({"factor": 4.0, "original_max_position_embeddings": 64, "beta_fast": 16.0, "beta_slow": 2.0}),
        ),
        rope("yarn", json!({"factor": 4.0, "original_max_position_embeddings": 32, "attention_factor": 1.5})),
        rope(
            "llama3",
            json!({"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                              "original_max_position_embeddings": 64}),
        ),
        rope(
            "llama3",
            json!({"factor": 3.0, "low_freq_factor": 2.0, "high_freq_factor": 3.0,
                              "original_max_position_embeddings": 100}),
        ),
        rope(
            "longrope",
            json!({"factor": 4.0, "original_max_position_embeddings": 32, "attention_factor": 1.25,
                                "long_factor": factors, "short_factor": vec![1.0; 8]}),
        ),
    ] {
        let work = tempfile::tempdir().unwrap();
        let original =
            model(work.path(), DType::BF16, &[("rope_parameters", parameters.clone()), ("rope_theta", Value::Null)]);
        let file = work.path().join("a.gguf");
        gguf(&original, &file, "auto").unwrap();
        let there = Checkpoint::open(&file).unwrap();
        assert_eq!(there.rope_freqs().is_some(), parameters["rope_type"] == "llama3");
        let again = work.path().join("b.gguf");
        gguf(&there, &again, "auto").unwrap();
        for file in [file, again] {
            let back = file.with_extension("hf");
            hugging_face(&Checkpoint::open(&file).unwrap(), &back);
            let back: Value = serde_json::from_slice(&fs::read(back.join("config.json")).unwrap()).unwrap();
            for (key, value) in parameters.as_object().unwrap() {
                assert_eq!(back["rope_parameters"][key], *value, "{key} of {parameters}");
            }
        }
    }
}

#[test]
fn the_scaling_of_llama3_is_found_in_files_of_others() {
    let work = tempfile::tempdir().unwrap();
    let parameters = json!({"rope_type": "llama3", "rope_theta": 500000.0, "factor": 32.0, "low_freq_factor": 1.0,
                            "high_freq_factor": 4.0, "original_max_position_embeddings": 8192});
    let original = model(work.path(), DType::F32, &[("rope_parameters", parameters.clone())]);
    let file = work.path().join("a.gguf");
    gguf(&original, &file, "auto").unwrap();
    // Without our own key: the same bytes under a name that no one knows.
    let mut bytes = fs::read(&file).unwrap();
    let key = b"camelid.rope_parameters";
    let at = bytes.windows(key.len()).position(|w| w == key).expect("our key");
    bytes[at] = b'x';
    fs::write(&file, &bytes).unwrap();
    let back = work.path().join("back");
    hugging_face(&Checkpoint::open(&file).unwrap(), &back);
    let back: Value = serde_json::from_slice(&fs::read(back.join("config.json")).unwrap()).unwrap();
    assert_eq!(
        back["rope_parameters"],
        json!({"rope_type": "llama3", "rope_theta": 500000.0, "factor": 32.0,
        "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192})
    );
}

#[test]
fn what_gguf_cannot_say_is_refused_and_leaves_nothing() {
    let refused = |changes: &[(&str, Value)], kind: &str| {
        let work = tempfile::tempdir().unwrap();
        let original = model(work.path(), DType::F32, changes);
        let error = chain(&gguf(&original, &work.path().join("out/a.gguf"), kind).unwrap_err());
        let left: Vec<_> =
            fs::read_dir(work.path().join("out")).map(|d| d.count()).into_iter().filter(|n| *n > 0).collect();
        assert_eq!(left, [0; 0], "something was left behind");
        error
    };
    assert_says(&refused(&[("hidden_act", json!("relu"))], "f16"), &["hidden_act", "relu"]);
    assert_says(
        &refused(&[("rope_scaling", json!({"type": "dynamic", "factor": 2}))], "f16"),
        &["rope_type", "dynamic"],
    );
    assert_says(&refused(&[("num_key_value_heads", json!(3))], "f16"), &["k_proj", "num_key_value_heads"]);
    assert_says(&refused(&[("num_hidden_layers", json!(4))], "f16"), &["missing", "model.layers.3."]);
    assert_says(&refused(&[("num_hidden_layers", json!(1 << 27))], "f16"), &["num_hidden_layers is 134217728"]);
}

#[test]
fn values_that_a_type_cannot_hold_are_refused_by_name() {
    let work = tempfile::tempdir().unwrap();
    fs::write(work.path().join("config.json"), config().to_string()).unwrap();
    let mut bytes = tiny_safetensors();
    let end = bytes.len();
    let folder = work.path();
    let put = |bytes: &mut Vec<u8>, value: f32| {
        // The last matrix: down_proj of the last layer, before its norm and the final one.
        let at = end - HIDDEN * 4 - 4;
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        fs::write(folder.join("model.safetensors"), bytes).unwrap();
        Checkpoint::open(folder).unwrap()
    };
    let checkpoint = put(&mut bytes, f32::NAN);
    for kind in ["q8_0", "q4_0", "q4_k"] {
        let error = chain(&gguf(&checkpoint, &folder.join("out.gguf"), kind).unwrap_err());
        assert_says(&error, &["model.safetensors", "blk.2.ffn_down.weight", "NaN", "--dtype"]);
    }
    gguf(&checkpoint, &folder.join("nan.gguf"), "bf16").unwrap();
    let checkpoint = put(&mut bytes, 1e30);
    let error = chain(&gguf(&checkpoint, &folder.join("out.gguf"), "f16").unwrap_err());
    assert_says(&error, &["blk.2.ffn_down.weight", "f16"]);
    assert!(!folder.join("out.gguf").exists());
    let error = chain(&gguf(&checkpoint, &folder.join("nan.gguf"), "bf16").unwrap_err());
    assert_says(&error, &["nan.gguf exists already"]);
}

#[test]
fn a_full_disk_is_an_error_that_names_the_file() {
    // Linux's device that is always full stands for it.
    if !Path::new("/dev/full").exists() {
        return;
    }
    let work = tempfile::tempdir().unwrap();
    let original = model(work.path(), DType::F32, &[]);
    let out = work.path().join("a.gguf");
    let writing = work.path().join(format!(".a.gguf.partial-{}", std::process::id()));
    std::os::unix::fs::symlink("/dev/full", &writing).unwrap();
    let error = chain(&gguf(&original, &out, "f32").unwrap_err());
    assert_says(&error, &["cannot write", "a.gguf", "No space left on device"]);
    assert!(!out.exists() && !writing.exists());
}

/// A `tokenizer.json` of a tiny vocabulary.
fn tokenizer(model: Value, pre_tokenizer: Value, normalizer: Value) -> Value {
    json!({
        "version": "1.0",
        "added_tokens": [
            {"id": 0, "content": "<unk>", "special": true, "normalized": false},
            {"id": 1, "content": "<s>", "special": true, "normalized": false},
            {"id": 2, "content": "</s>", "special": true, "normalized": false},
        ],
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [], "special_tokens": {}},
        "model": model,
    })
}

#[test]
fn a_vocabulary_is_written_as_the_converter_writes_it() {
    let vocab = json!({"<unk>": 0, "<s>": 1, "</s>": 2, "<0x0A>": 3, "▁": 4, "a": 5, "b": 6, "ab": 7, "▁ab": 8});
    let merges = json!(["a b", "▁ ab"]);
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "use_regex": true});
    let sentencepiece = json!({"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]});
    let config = json!({"bos_token": "<s>", "eos_token": {"content": "</s>"}, "chat_template": "{{ x }}"});
    for (bytes, json) in [
        (
            true,
            tokenizer(
                json!({"type": "BPE", "vocab": vocab, "merges": merges, "byte_fallback": true, "unk_token": "<unk>"}),
                Value::Null,
                sentencepiece,
            ),
        ),
        (
            false,
            tokenizer(
                json!({"type": "BPE", "vocab": vocab, "merges": merges, "byte_fallback": false}),
                byte_level,
                Value::Null,
            ),
        ),
    ] {
        let work = tempfile::tempdir().unwrap();
        let original = model(work.path(), DType::BF16, &[]);
        fs::write(original.path().join("tokenizer.json"), json.to_string()).unwrap();
        fs::write(original.path().join("tokenizer_config.json"), config.to_string()).unwrap();
        let original = Checkpoint::open(original.path()).unwrap();
        let file = work.path().join("a.gguf");
        gguf(&original, &file, "auto").unwrap();
        let vocab = Checkpoint::open(&file).unwrap().gguf_vocab().unwrap().unwrap();
        assert_eq!(vocab.tokens[8..], ["▁ab", "[PAD9]", "[PAD10]"]);
        assert_eq!((vocab.bos, vocab.eos, vocab.add_bos, vocab.add_eos), (Some(1), Some(2), Some(true), Some(false)));
        assert_eq!(vocab.chat_template.as_deref(), Some("{{ x }}"));
        let types = vocab.token_types.unwrap();
        if bytes {
            assert_eq!((vocab.model.as_str(), vocab.merges), ("llama", None));
            assert_eq!(types, [2, 3, 3, 6, 1, 1, 1, 1, 1, 5, 5]);
            assert_eq!(vocab.scores.unwrap()[4..], [-3.0, -3.0, -3.0, -1.0, -2.0, 0.0, 0.0]);
            assert_eq!((vocab.unk, vocab.add_space_prefix), (Some(0), Some(true)));
        } else {
            assert_eq!((vocab.model.as_str(), vocab.pre.as_deref()), ("gpt2", Some("gpt-2")));
            assert_eq!(types, [3, 3, 3, 1, 1, 1, 1, 1, 1, 5, 5]);
            assert_eq!(vocab.merges.unwrap(), ["a b", "▁ ab"]);
        }
    }
}

#[test]
fn tokenizers_that_gguf_cannot_say_are_refused_by_name() {
    let refused = |json: Value| {
        let work = tempfile::tempdir().unwrap();
        let original = model(work.path(), DType::BF16, &[]);
        fs::write(original.path().join("tokenizer.json"), json.to_string()).unwrap();
        let original = Checkpoint::open(original.path()).unwrap();
        chain(&gguf(&original, &work.path().join("a.gguf"), "auto").unwrap_err())
    };
    let bpe = |vocab: Value| json!({"type": "BPE", "vocab": vocab, "merges": []});
    let byte_level = || json!({"type": "ByteLevel", "add_prefix_space": false, "use_regex": true});
    let good = || bpe(json!({"a": 5}));
    assert_says(&refused(tokenizer(json!({"type": "Unigram"}), byte_level(), Value::Null)), &["model.type", "Unigram"]);
    assert_says(
        &refused(tokenizer(good(), json!({"type": "Whitespace"}), Value::Null)),
        &["pre_tokenizer", "Whitespace", "smollm"],
    );
    assert_says(&refused(tokenizer(good(), byte_level(), json!({"type": "NFC"}))), &["normalizer", "NFC"]);
    assert_says(&refused(tokenizer(bpe(json!({"a": 11})), byte_level(), Value::Null)), &["id 11", "11 rows"]);
    assert_says(&refused(json!([])), &["tokenizer.json", "no JSON object"]);
}
