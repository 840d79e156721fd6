//! GGUF files that are wrong: each is refused with a message that says what and where.

mod common;

use camelid_weights::Checkpoint;
use common::gguf::{Gguf, Kv, tiny};
use common::*;

/// The error that these bytes give.
fn refused(bytes: &[u8]) -> String {
    refusal(&[("tiny.gguf", bytes)], "tiny.gguf")
}

#[test]
fn truncated_anywhere() {
    let bytes = tiny().bytes();
    let header = 4000;
    for len in
        (0..header).step_by(7).chain((header..bytes.len()).step_by(9973)).chain([3, 4, 8, 23, 24, bytes.len() - 1])
    {
        let message = refused(&bytes[..len]);
        assert_says(&message, &["tiny.gguf", &len.to_string(), "truncated or damaged"]);
    }
    // What was cut is named.
    assert_says(&refused(&bytes[..6]), &["the version"]);
    let in_tokens = bytes.windows(4).position(|w| w == &"▁ab".as_bytes()[..4]).unwrap();
    assert_says(&refused(&bytes[..in_tokens]), &["tokenizer.ggml.tokens"]);
    assert_says(&refused(&bytes[..bytes.len() - 1]), &["output_norm.weight", "bytes"]);
}

#[test]
fn something_else_than_gguf() {
    assert_says(&refused(b"GGML\x01\0\0\0 and more"), &["magic number", "GGML"]);
    assert_says(&refused(b""), &["truncated", "magic number"]);
    assert_says(&refusal(&[("model.bin", b"PK\x03\x04....")], "model.bin"), &["PyTorch", "save_pretrained"]);
    assert_says(&refusal(&[("notes.txt", b"hello there")], "notes.txt"), &["notes.txt", "hell", ".safetensors"]);
    assert_says(&refusal(&[], "nowhere"), &["nowhere", "no such file"]);
    assert_says(&refusal(&[("x.txt", b"")], ""), &["neither model.safetensors", ".gguf"]);
    assert_says(&refusal(&[("pytorch_model.bin", b"")], ""), &["PyTorch's pickled files", "GGUF"]);
}

#[test]
fn other_versions_and_byte_orders() {
    assert_says(&Gguf { version: 1, ..tiny() }.refusal(), &["GGUF v1", "convert"]);
    assert_says(&Gguf { version: 4, ..tiny() }.refusal(), &["GGUF v4", "versions 2 and 3"]);
    assert_says(&Gguf { version: 0, ..tiny() }.refusal(), &["GGUF v0"]);
    assert_says(&Gguf { version: 3u32.swap_bytes(), ..tiny() }.refusal(), &["big-endian"]);
}

#[test]
fn counts_and_lengths_beyond_the_file() {
    for huge in [u64::MAX, 1 << 63, 1 << 40, 100_000] {
        assert_says(&Gguf { kv_count: Some(huge), ..tiny() }.refusal(), &[&huge.to_string(), "metadata entries"]);
        assert_says(&Gguf { tensor_count: Some(huge), ..tiny() }.refusal(), &[&huge.to_string(), "tensors"]);
        if huge == 100_000 {
            continue; // values of one byte would fit
        }
        let array = |elem: u32| [&elem.to_le_bytes()[..], &huge.to_le_bytes()].concat();
        for elem in [0, 4, 7, 8, 10, 12] {
            let file = tiny().set("a.key", Kv::Raw(9, array(elem)));
            assert_says(&file.refusal(), &["a.key", &huge.to_string()]);
        }
        let file = tiny().set("a.key", Kv::Raw(8, huge.to_le_bytes().to_vec()));
        assert_says(&file.refusal(), &["a.key", &huge.to_string()]);
    }
    // A header length of 2^63 as the length of the very first key.
    let mut bytes = tiny().bytes();
    bytes[24..32].copy_from_slice(&(1u64 << 63).to_le_bytes());
    assert_says(&refused(&bytes), &["the key of metadata entry 0", "9223372036854775808"]);
}

#[test]
fn malformed_metadata() {
    let mut twice = tiny();
    twice.kv.push(("general.name".into(), Kv::str("again")));
    assert_says(&twice.refusal(), &["metadata key general.name", "twice", "entry 1"]);
    assert_says(&tiny().set("", Kv::U32(1)).refusal(), &["key is empty"]);
    for id in [13, 99, u32::MAX] {
        assert_says(&tiny().set("a.key", Kv::Raw(id, vec![0; 16])).refusal(), &["a.key", "unknown value type"]);
        let elem = [&id.to_le_bytes()[..], &[0; 8]].concat();
        assert_says(&tiny().set("a.key", Kv::Raw(9, elem)).refusal(), &["a.key", &id.to_string()]);
    }
    let nested = [&9u32.to_le_bytes()[..], &1u64.to_le_bytes(), &4u32.to_le_bytes(), &[0; 16]].concat();
    assert_says(&tiny().set("a.key", Kv::Raw(9, nested)).refusal(), &["a.key", "an array of arrays"]);
    assert_says(&tiny().set("a.key", Kv::Raw(7, vec![2])).refusal(), &["a.key", "neither 0 nor 1"]);
    let mut bytes = tiny().bytes();
    bytes[32] = 0xff; // the first key's first byte
    assert_says(&refused(&bytes), &["the key of metadata entry 0", "not UTF-8", "\\xffeneral"]);
}

#[test]
fn values_that_do_not_fit_their_keys() {
    let epsilon = "llama.attention.layer_norm_rms_epsilon";
    for (key, value, parts) in [
        ("llama.block_count", Kv::str("three"), &["llama.block_count", "string", "an integer"][..]),
        ("llama.block_count", Kv::I32(-1), &["llama.block_count", "-1"]),
        ("llama.context_length", Kv::U64(1 << 40), &["llama.context_length", "1099511627776"]),
        ("llama.attention.head_count", Kv::U32(0), &["llama.attention.head_count", "0"]),
        ("llama.attention.head_count_kv", Kv::U32(0), &["llama.attention.head_count_kv", "0"]),
        ("llama.attention.head_count_kv", Kv::I32s(vec![2, 2, 1]), &["head_count_kv", "a layer with 1", "2"]),
        ("llama.attention.head_count_kv", Kv::I32s(vec![]), &["head_count_kv", "an array"]),
        ("llama.attention.head_count_kv", Kv::U32(5), &["blk.0.attn_k.weight", "32 rows", "5 heads"]),
        ("llama.attention.value_length", Kv::U32(8), &["value_length", "8", "16"]),
        ("llama.rope.dimension_count", Kv::U32(8), &["dimension_count", "8", "16"]),
        (epsilon, Kv::F32(f32::NAN), &[epsilon, "NaN"]),
        (epsilon, Kv::str("small"), &[epsilon, "string", "a number"]),
        ("llama.rope.freq_base", Kv::F32(f32::INFINITY), &["freq_base", "inf"]),
        ("general.architecture", Kv::U32(1), &["general.architecture", "u32", "a string"]),
        ("general.architecture", Kv::str("gpt-oss"), &["general.architecture", "gpt-oss", "llama"]),
        ("general.type", Kv::str("adapter"), &["general.type", "adapter"]),
        ("split.count", Kv::U32(3), &["one of 3 parts", "llama-gguf-split --merge"]),
        ("llama.expert_count", Kv::U32(8), &["llama.expert_count", "8 experts"]),
        ("llama.attention.causal", Kv::Bool(false), &["llama.attention.causal"]),
        ("llama.logit_scale", Kv::F32(0.1), &["llama.logit_scale", "0.1"]),
        ("general.alignment", Kv::U32(0), &["general.alignment", "0 is no power of two"]),
        ("general.alignment", Kv::U32(48), &["general.alignment", "48 is no power of two"]),
        ("general.alignment", Kv::str("32"), &["general.alignment", "string"]),
        ("tokenizer.ggml.eos_token_id", Kv::I32(-1), &["eos_token_id", "-1"]),
    ] {
        assert_says(&tiny().set(key, value).refusal(), parts);
    }
    for key in ["general.architecture", "llama.block_count", "llama.embedding_length", "llama.attention.head_count"] {
        assert_says(&tiny().remove(key).refusal(), &[key, "no such key"]);
    }
}

#[test]
fn vocabularies_that_do_not_fit_together() {
    let refused = |file: Gguf| {
        let (_folder, checkpoint) = file.open();
        chain(&checkpoint.gguf_vocab().unwrap_err())
    };
    let mut tokens = vec![b"a".to_vec(); VOCAB];
    tokens[9] = vec![b'a', 0xc3, 0x28];
    assert_says(
        &refused(tiny().set("tokenizer.ggml.tokens", Kv::Strs(tokens))),
        &["tiny.gguf", "tokenizer.ggml.tokens[9]", "not UTF-8", "a\\xc3("],
    );
    let merges = Kv::Strs(vec![b"a b".to_vec(), vec![0xff]]);
    assert_says(&refused(tiny().set("tokenizer.ggml.merges", merges)), &["tokenizer.ggml.merges[1]", "not UTF-8"]);
    assert_says(&refused(tiny().remove("tokenizer.ggml.tokens")), &["tokenizer.ggml.tokens", "no such key"]);
    assert_says(
        &refused(tiny().set("tokenizer.ggml.tokens", Kv::F32s(vec![0.0; VOCAB]))),
        &["tokenizer.ggml.tokens", "array of f32", "array of strings"],
    );
    assert_says(
        &refused(tiny().set("tokenizer.ggml.scores", Kv::F32s(vec![0.0; 3]))),
        &["tokenizer.ggml.scores", "3 values for 11 tokens"],
    );
    assert_says(
        &refused(tiny().set("tokenizer.ggml.token_type", Kv::F32s(vec![0.0; VOCAB]))),
        &["tokenizer.ggml.token_type", "array of f32"],
    );
    assert_says(&refused(tiny().set("tokenizer.chat_template", Kv::Str(vec![0x80]))), &["chat_template", "not UTF-8"]);
    assert_says(&refused(tiny().set("tokenizer.ggml.add_bos_token", Kv::U32(1))), &["add_bos_token", "a bool"]);
}

#[test]
fn tensors_out_of_the_file_or_over_each_other() {
    let last = "output_norm.weight";
    let file_len = tiny().bytes().len().to_string();
    for offset in [1 << 20, 1 << 40, u64::MAX - 31] {
        let message = tiny().with(last, |t| t.offset = Some(offset)).refusal();
        assert_says(&message, &["tiny.gguf", last, "would lie in bytes", &file_len]);
    }
    let message = tiny().with(last, |t| t.offset = Some(0)).refusal();
    assert_says(&message, &["token_embd.weight", last, "overlap"]);
    let message = tiny().with(last, |t| t.offset = Some(33)).refusal();
    assert_says(&message, &[last, "33", "general.alignment"]);
    let message = tiny().tensor(last, &[1], vec![0; 4]).refusal();
    assert_says(&message, &[last, "twice", "as entry"]);
    // Two names of the file for one tensor of the model.
    let message = tiny().tensor("model.norm.weight", &[1], vec![0; 4]).refusal();
    assert_says(&message, &["tensor model.norm.weight", "twice", last]);
}

#[test]
fn shapes_that_cannot_be() {
    let name = "blk.0.ffn_up.weight";
    for (dims, parts) in [
        (vec![], &["0 dimensions"][..]),
        (vec![1; 5], &["5 dimensions"]),
        (vec![0, 4], &["dimensions is 0"]),
        (vec![1 << 32, 1 << 32], &["more bytes than can be counted"]),
        (vec![u64::MAX, 2], &["more bytes than can be counted"]),
        (vec![1 << 40], &["would lie in bytes"]),
    ] {
        let message = tiny().with(name, |t| t.dims = dims).refusal();
        assert_says(&message, &[name]);
        assert_says(&message, parts);
    }
    let message = tiny().with(name, |t| (t.dims, t.ggml_type) = (vec![100, 2], 12)).refusal();
    assert_says(&message, &[name, "100 elements", "q4_k", "256"]);
    let message = tiny().with("blk.0.attn_q.weight", |t| t.dims = vec![64, 9]).refusal();
    assert_says(&message, &["blk.0.attn_q.weight", "9 rows", "6 heads"]);
}

#[test]
fn types_that_are_not_read() {
    for (id, found) in [(16, "iq2_xxs"), (34, "tq1_0"), (39, "mxfp4"), (26, "i32"), (9, "q8_1"), (777, "ggml type 777")]
    {
        let message = tiny().with("blk.2.ffn_down.weight", |t| t.ggml_type = id).refusal();
        assert_says(&message, &["tiny.gguf", "blk.2.ffn_down.weight", found, "q4_k", "q8_0", "quantize"]);
    }
    // The architecture is the better reason.
    let message = tiny()
        .set("general.architecture", Kv::str("gpt-oss"))
        .with("blk.2.ffn_down.weight", |t| t.ggml_type = 39)
        .refusal();
    assert_says(&message, &["gpt-oss"]);
}

#[test]
fn names_from_the_file_do_not_flood_the_message() {
    let long = "x".repeat(100_000);
    let message = tiny().tensor(&long, &[0], vec![]).refusal();
    assert!(message.len() < 1000, "{} bytes", message.len());
    let message = tiny().tensor("a\x1b[31m\n", &[0], vec![]).refusal();
    assert!(!message.contains(['\x1b', '\n']), "{message}");
}

#[cfg(unix)]
#[test]
fn what_is_no_file_is_not_waited_for() {
    let folder = folder(&[]);
    let socket = folder.path().join("model.gguf");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let error = Checkpoint::open(&socket).unwrap_err();
    assert_says(&chain(&error), &["model.gguf", "not a regular file"]);
}
