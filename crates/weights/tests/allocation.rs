//! Memory: reading a file never takes more than a small multiple of it, whatever the file says of itself.
//!
//! The allocator of this test counts; so it is a test of its own, with a single thread.

mod common;
mod counting;

use camelid_weights::Checkpoint;
use common::gguf::{Gguf, Kv, tiny, tiny_metadata};
use common::*;
use counting::{live, peak};
use serde_json::json;

/// The most that may be live at once: this many times the files, and a constant for messages and paths.
const MULTIPLE: usize = 16;
const CONSTANT: usize = 64 << 10;

/// Opens the checkpoint, uses it, and checks what that took.
fn measure(what: &str, files: &[(&str, &[u8])], name: &str) -> usize {
    let folder = folder(files);
    let path = folder.path().join(name);
    let size: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
    let peak = peak(|| match Checkpoint::open(&path) {
        Ok(checkpoint) => {
            let _ = checkpoint.gguf_vocab();
            checkpoint.tensors().iter().for_each(|t| drop(t.bytes()));
        }
        Err(error) => drop(chain(&error)),
    });
    assert!(peak <= MULTIPLE * size + CONSTANT, "{what}: {peak} bytes for files of {size}");
    peak
}

fn gguf(what: &str, bytes: &[u8]) -> usize {
    measure(what, &[("m.gguf", bytes)], "m.gguf")
}

fn safetensors_header(what: &str, header: &str) -> usize {
    measure(what, &[("config.json", b"{}"), ("model.safetensors", &safetensors_raw(header, &[]))], "")
}

/// One test, so that nothing else allocates meanwhile.
#[test]
fn memory_stays_within_a_small_multiple_of_the_file() {
    // What is right: only the headers and the two reordered tensors of each layer take memory.
    let valid = tiny().bytes();
    assert!(gguf("a valid file", &valid) < valid.len());
    let weights = tiny_safetensors();
    let config = config().to_string();
    let taken =
        measure("valid safetensors", &[("config.json", config.as_bytes()), ("model.safetensors", &weights)], "");
    assert!(taken < CONSTANT, "{taken} bytes, though the weights are mapped");

    // Numbers that lie.
    for huge in [u64::MAX, 1 << 63, 1 << 40, 1 << 31, 1 << 20] {
        gguf("a count of metadata", &Gguf { kv_count: Some(huge), ..tiny_metadata() }.bytes());
        gguf("a count of tensors", &Gguf { tensor_count: Some(huge), ..tiny() }.bytes());
        for elem in [0u32, 4, 7, 8, 10] {
            let value = [&elem.to_le_bytes()[..], &huge.to_le_bytes()].concat();
            gguf("the length of an array", &tiny_metadata().set("a.key", Kv::Raw(9, value)).bytes());
        }
        gguf("the length of a string", &tiny_metadata().set("a.key", Kv::Raw(8, huge.to_le_bytes().to_vec())).bytes());
        let file = tiny().with("output_norm.weight", |t| t.dims = vec![huge & !31]);
        gguf("the size of a tensor", &file.bytes());
        let file = tiny().with("output_norm.weight", |t| t.dims = vec![1, huge]);
        gguf("the rows of a tensor", &file.bytes());
        let mut bytes = weights.clone();
        bytes[..8].copy_from_slice(&huge.to_le_bytes());
        measure("the length of a header", &[("config.json", b"{}"), ("model.safetensors", &bytes)], "");
        let entry = json!({"a": {"dtype": "F32", "shape": [huge], "data_offsets": [0, huge]}});
        safetensors_header("the size of a tensor", &entry.to_string());
    }

    // As much of everything as fits into a file.
    let many = 20_000;
    let mut file = tiny_metadata();
    file.kv.extend((0..many).map(|i| (format!("{i:x}"), Kv::U8(0))));
    gguf("many metadata", &file.bytes());
    let mut file = Gguf { alignment: 1, ..tiny_metadata() }.set("general.alignment", Kv::U32(1));
    for i in 0..many {
        file = file.tensor(&format!("{i:x}"), &[1], vec![0; 4]);
    }
    gguf("many tensors", &file.bytes());
    for model in ["llama", "gpt2"] {
        let tokens = Kv::Strs(vec![vec![]; many]);
        let file = tiny_metadata().tensor("output_norm.weight", &[1], vec![0; 4]);
        let file = file.set("tokenizer.ggml.tokens", tokens.clone()).set("tokenizer.ggml.merges", tokens);
        let file = file.set("tokenizer.ggml.model", Kv::str(model)).remove("tokenizer.ggml.scores");
        let types = [&0u32.to_le_bytes()[..], &(many as u64).to_le_bytes(), &vec![1; many]].concat();
        gguf("many empty tokens", &file.set("tokenizer.ggml.token_type", Kv::Raw(9, types)).bytes());
    }
    let bytes = Kv::Strs((0..many).map(|_| vec![0xff; 40]).collect());
    let file = tiny_metadata().set("tokenizer.ggml.tokens", bytes).tensor("output_norm.weight", &[1], vec![0; 4]);
    gguf("tokens of raw bytes", &file.set("tokenizer.ggml.model", Kv::str("gpt2")).bytes());

    let entries: Vec<String> =
        (0..many).map(|i| format!(r#""{i:x}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}"#)).collect();
    safetensors_header("many tensors", &format!("{{{}}}", entries.join(",")));
    let ones = vec!["1"; 100_000].join(",");
    safetensors_header("a long shape", &format!(r#"{{"a":{{"dtype":"F32","shape":[{ones}],"data_offsets":[0,0]}}}}"#));
    safetensors_header(
        "a long name",
        &format!(r#"{{"{}":{{"dtype":"F3","shape":[],"data_offsets":[0,0]}}}}"#, "x".repeat(100_000)),
    );
    safetensors_header("nesting", &format!("{{\"a\":{}", "[".repeat(100_000)));
    let map: Vec<String> = (0..many).map(|i| format!(r#""{i:x}":"{i:x}""#)).collect();
    let index = format!(r#"{{"weight_map":{{{}}}}}"#, map.join(","));
    measure(
        "an index of many shards",
        &[("config.json", b"{}"), ("model.safetensors.index.json", index.as_bytes())],
        "",
    );
    let index = format!(r#"{{"weight_map":{{{}}}}}"#, map.join(",").replace(r#"":""#, r#"":"s"#));
    measure("an index", &[("config.json", b"{}"), ("model.safetensors.index.json", index.as_bytes())], "");

    // A config becomes a tree of values, each larger than its text; what bounds it is the limit on its size.
    let config = format!("{{\"a\":[{}0]}}", "0,".repeat(2_000_000));
    let folder = folder(&[("config.json", config.as_bytes()), ("model.safetensors", &weights)]);
    let peak = peak(|| drop(Checkpoint::open(folder.path()).unwrap()));
    assert!(peak < 256 << 20, "{peak} bytes for a config of {}", config.len());

    // A vocabulary of the size of Llama 3's costs little as long as nobody asks for it.
    let words: Vec<Vec<u8>> = (0..128_256).map(|i| format!("token{i}").into_bytes()).collect();
    let file = tiny().set("tokenizer.ggml.tokens", Kv::Strs(words));
    let folder = common::folder(&[("m.gguf", &file.bytes())]);
    let before = live();
    let checkpoint = Checkpoint::open(folder.path().join("m.gguf")).unwrap();
    let held = live() - before;
    assert!(held < 48 << 10, "{held} bytes are held");
    assert_eq!(checkpoint.gguf_vocab().unwrap_err().to_string().matches("128256").count(), 1, "scores do not fit");
}
