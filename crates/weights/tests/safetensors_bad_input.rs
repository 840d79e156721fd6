//! Safetensors that are wrong: each is refused with a message that says what and where.

mod common;

use camelid_weights::Checkpoint;
use common::*;
use serde_json::json;

/// The error that these bytes give as `model.safetensors` beside a config.
fn refused(bytes: &[u8]) -> String {
    refusal(&[("config.json", config().to_string().as_bytes()), ("model.safetensors", bytes)], "")
}

/// The error that this header gives, with 8 bytes after it.
fn refused_header(header: &str) -> String {
    refused(&safetensors_raw(header, &[0; 8]))
}

#[test]
fn truncated_anywhere() {
    let bytes = tiny_safetensors();
    for len in (0..bytes.len()).step_by(997).chain([0, 1, 7, 8, 9, bytes.len() - 1]) {
        assert_says(&refused(&bytes[..len]), &["model.safetensors", &len.to_string(), "truncated or damaged"]);
    }
    assert_says(&refused(&bytes[..7]), &["the length of the header"]);
    assert_says(&refused(&bytes[..100]), &["the header"]);
    assert_says(&refused(&bytes[..bytes.len() - 1]), &["model.norm.weight", "would lie in bytes"]);
}

#[test]
fn header_lengths_beyond_the_file() {
    for len in [1u64 << 63, u64::MAX, u64::MAX - 7, 100_000_001] {
        let mut bytes = tiny_safetensors();
        bytes[..8].copy_from_slice(&len.to_le_bytes());
        assert_says(&refused(&bytes), &["the length of the header", &len.to_string()]);
    }
    let mut bytes = tiny_safetensors();
    bytes[..8].copy_from_slice(&99_999_999u64.to_le_bytes());
    assert_says(&refused(&bytes), &["ends inside the header", "99999999"]);
}

#[test]
fn headers_that_are_no_header() {
    assert_says(&refused_header(""), &["the safetensors header", "EOF"]);
    assert_says(&refused_header("[]"), &["the safetensors header", "dtype, shape and data_offsets"]);
    assert_says(&refused_header("{\"a\": 1"), &["the safetensors header", "tensor a"]);
    assert_says(&refused_header(&"[".repeat(100_000)), &["the safetensors header"]);
    assert_says(&refused_header(&format!("{{\"a\":{}", "{\"x\":".repeat(100_000))), &["the safetensors header"]);
    assert_says(&refused_header("{} x"), &["the safetensors header", "trailing"]);
    assert_says(&refused_header("{\"__metadata__\": {\"a\": 1}}"), &["the safetensors header", "expected a string"]);
    let mut bytes = safetensors_raw("{\"abc\": 1}", &[]);
    bytes[11] = 0xff;
    assert_says(&refused(&bytes), &["the safetensors header"]);
    for entry in [
        r#"{"dtype": "F32", "shape": [2]}"#,
        r#"{"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}"#,
        r#"{"dtype": "F32", "shape": [2.5], "data_offsets": [0, 8]}"#,
        r#"{"dtype": 32, "shape": [2], "data_offsets": [0, 8]}"#,
        r#"{"dtype": "F32", "shape": [2], "data_offsets": [0, 8, 9]}"#,
        r#"{"dtype": "F32", "shape": [18446744073709551616], "data_offsets": [0, 8]}"#,
    ] {
        assert_says(&refused_header(&format!("{{\"w.weight\": {entry}}}")), &["tensor w.weight", "line 1"]);
    }
}

/// A header of one tensor.
fn one(dtype: &str, shape: &[u64], offsets: [u64; 2]) -> String {
    json!({"w.weight": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}).to_string()
}

#[test]
fn shapes_that_do_not_fit_their_bytes() {
    assert_says(&refused_header(&one("F32", &[3], [0, 8])), &["w.weight", "[3]", "12 bytes", "hold 8"]);
    assert_says(&refused_header(&one("F32", &[2], [8, 0])), &["w.weight", "reversed"]);
    for shape in [&[1u64 << 32, 1 << 32][..], &[u64::MAX], &[u64::MAX, u64::MAX], &[1 << 62]] {
        assert_says(&refused_header(&one("F32", shape, [0, 8])), &["w.weight", "no number of bytes"]);
    }
    assert_says(&refused_header(&one("F32", &vec![1; 5000], [0, 8])), &["of 5000 dimensions", "4 bytes"]);
}

#[test]
fn tensors_out_of_the_file_over_each_other_or_apart() {
    for end in [9, 1 << 40, u64::MAX] {
        assert_says(
            &refused_header(&one("F32", &[2], [0, end])),
            &["w.weight", "would lie in bytes", "the file has only"],
        );
    }
    let two = |a: [u64; 2], b: [u64; 2]| {
        let entry = |o: [u64; 2]| json!({"dtype": "F16", "shape": [(o[1] - o[0]) / 2], "data_offsets": o});
        refused_header(&json!({"a.weight": entry(a), "b.weight": entry(b)}).to_string())
    };
    assert_says(&two([0, 6], [4, 8]), &["tensors a.weight and b.weight overlap"]);
    assert_says(&two([0, 8], [0, 8]), &["overlap"]);
    assert_says(&two([0, 2], [4, 8]), &["belong to no tensor", "before tensor b.weight"]);
    assert_says(&two([2, 4], [4, 8]), &["belong to no tensor", "before tensor a.weight"]);
    assert_says(&two([0, 2], [2, 4]), &["belong to no tensor", "the end of the file"]);
    let twice = r#"{"w": {"dtype":"F32","shape":[1],"data_offsets":[0,4]}, "w": {"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#;
    assert_says(&refused_header(twice), &["tensor w", "twice"]);
    // Two spellings of one name.
    let spelled = r#"{"norm.weight": {"dtype":"F32","shape":[1],"data_offsets":[0,4]},
        "model.norm.weight": {"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#;
    assert_says(&refused_header(spelled), &["tensor model.norm.weight", "twice", "norm.weight in"]);
}

#[test]
fn types_that_are_not_read() {
    for (dtype, elements) in [("F8_E4M3", 8), ("I64", 1), ("I32", 2), ("U8", 8), ("F64", 1), ("BOOL", 8)] {
        let message = refused_header(&one(dtype, &[elements], [0, 8]));
        assert_says(&message, &["model.safetensors", "w.weight", dtype, "BF16", "torch_dtype"]);
    }
    assert_says(&refused_header(&one("Q7", &[8], [0, 8])), &["w.weight", "the unknown type Q7"]);
    // A quantized checkpoint is told by its config.
    let mut config = config();
    config["quantization_config"] = json!({"quant_method": "gptq", "bits": 4});
    let message = refusal(
        &[
            ("config.json", config.to_string().as_bytes()),
            ("model.safetensors", &safetensors_raw(&one("I32", &[2], [0, 8]), &[0; 8])),
        ],
        "",
    );
    assert_says(&message, &["I32", "quantized with gptq", "GGUF"]);
}

#[test]
fn configs_that_cannot_be_read() {
    let weights = tiny_safetensors();
    assert_says(&refusal(&[("model.safetensors", &weights)], ""), &["no config.json beside the weights"]);
    let with = |config: &[u8]| refusal(&[("config.json", config), ("model.safetensors", &weights)], "");
    assert_says(&with(b"{\"a\": "), &["config.json", "the config", "line 1"]);
    assert_says(&with(b"[1]"), &["config.json", "no JSON object"]);
    assert_says(&with(b"\xff\xfe"), &["config.json"]);
    assert_says(&with(&vec![b' '; (4 << 20) + 1]), &["config.json", "4194305 bytes", "at most"]);
    assert_says(&refusal(&[("config.json", b"{}")], "config.json"), &["holds no weights", "folder"]);
}

#[test]
fn a_folder_in_the_place_of_a_file() {
    let folder = folder(&[("config.json", b"{}")]);
    std::fs::create_dir(folder.path().join("model.safetensors")).unwrap();
    let error = Checkpoint::open(folder.path()).unwrap_err();
    assert_says(&chain(&error), &["model.safetensors", "folder"]);
}
