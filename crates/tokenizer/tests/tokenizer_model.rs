//! `tokenizer.model`, SentencePiece's and tiktoken's, against those libraries and transformers
//! (`conformance/reference/llama_tokenizer_cases.py`); and files that are none.

mod common;
#[path = "common/proto.rs"]
mod proto;
#[path = "common/strings.rs"]
mod strings;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use camelid_core::tokenizer::{EncodeOptions, Tokenizer};
use camelid_tokenizer::{HfTokenizer, TokenizerConfig, llama3_special_tokens};
use common::{PARSE, PLAIN, ids};
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/llama").join(name)
}

fn read_json(name: &str) -> Value {
    serde_json::from_slice(&fs::read(data(name)).unwrap()).unwrap()
}

fn load(name: &str) -> HfTokenizer {
    HfTokenizer::from_tokenizer_model(&data(&format!("{name}.model")), None).unwrap()
}

fn numbers(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as u32).collect()
}

#[test]
fn the_strings_are_those_of_the_generator() {
    assert_eq!(json!(strings::strings(8)), read_json("strings.json")["first"]);
}

#[test]
fn texts_become_the_ids_of_transformers_and_of_sentencepiece() {
    let cases = read_json("cases.json");
    for (name, case) in cases["sentencepiece"].as_object().unwrap() {
        let tokenizer = load(name);
        for row in case["texts"].as_array().unwrap() {
            let text = row["text"].as_str().unwrap();
            let found = tokenizer.encode(text, EncodeOptions::default()).unwrap().ids;
            // transformers leaves out what has no token, and keeps spaces that the model has trimmed.
            if ["bytes", "no_prefix"].contains(&name.as_str()) {
                assert_eq!(found, numbers(&row["ids"]), "{name} {text:?}");
                let written = |skip| String::from_utf8(tokenizer.decode(&found, skip).unwrap()).unwrap();
                assert_eq!(
                    (json!(written(false)), json!(written(true))),
                    (row["decoded"].clone(), row["skipped"].clone())
                );
            }
            // sentencepiece has no special tokens in texts, and doubles a space in front.
            let plain = !text.contains(['<', '▁']) && (name == "trimmed" || !text.starts_with(' '));
            if plain {
                assert_eq!(found[1..], numbers(&row["sentencepiece"]), "{name} {text:?}");
            }
        }
        for (key, token) in case["special"].as_object().unwrap() {
            let special = tokenizer.special_tokens();
            let id = match key.as_str() {
                "bos_token" => special.bos,
                "eos_token" => special.eos.first().copied(),
                "unk_token" => special.unk,
                _ => special.pad,
            };
            if name != "unknown" {
                assert_eq!(json!(id.and_then(|id| tokenizer.id_to_token(id))), *token, "{name} {key}");
            }
        }
    }
    // transformers takes its own names for special tokens, and adds tokens for them; the model knows better.
    let unknown = load("unknown");
    assert_eq!(unknown.all_special_tokens(), ["<begin>", "<end>", "<unk>", "<pad>"]);
    assert_eq!(unknown.encode("☃☃", EncodeOptions::default()).unwrap().ids.last(), Some(&0));
}

#[test]
fn thousands_of_strings_become_the_same_ids() {
    let digests = read_json("strings.json");
    for (name, groups) in digests["small"].as_object().unwrap() {
        let groups: Vec<String> = serde_json::from_value(groups.clone()).unwrap();
        let (file, sentencepiece) = match name.strip_suffix("_sentencepiece") {
            Some(file) => (file, true),
            None => (name.as_str(), false),
        };
        if !sentencepiece && ["trimmed", "unknown"].contains(&file) {
            continue; // see above
        }
        let tokenizer = load(file);
        let change = |text: &str| if sentencepiece { strings::inner(text) } else { text.to_owned() };
        strings::compare(name, &groups, change, |text| ids(&tokenizer, text, PLAIN));
    }
}

#[test]
fn what_a_model_says_is_what_is_left_unsaid_elsewhere() {
    let with = |config: Value| {
        let config = TokenizerConfig::from_json(config.to_string().as_bytes(), "x").unwrap();
        HfTokenizer::from_tokenizer_model(&data("bytes.model"), Some(config)).unwrap()
    };
    let found = |config: Value, text: &str| ids(&with(config), text, EncodeOptions::default());
    let (space, the, bare) = (json!({}), "the", ids(&load("bytes"), "x<tool>the", PARSE));
    let with_space = found(space, the);
    assert_eq!(with_space[0], 1);
    assert_eq!(found(json!({"add_bos_token": false, "add_eos_token": true}), the), [&with_space[1..], &[2]].concat());
    assert_eq!(
        found(json!({"add_prefix_space": false}), the)[1..],
        bare[bare.len() - (found(json!({"add_prefix_space": false}), the).len() - 1)..]
    );
    let legacy = found(json!({"legacy": true}), "x<tool>the");
    assert!(legacy.ends_with(&with_space[1..]) && !bare.ends_with(&with_space[1..]), "{legacy:?} {bare:?}");
    assert_eq!(with(json!({"pad_token": "</s>"})).special_tokens().pad, Some(2));
}

#[test]
fn tiktoken_files_give_the_ids_of_tiktoken() {
    let tokenizer = load("ranks");
    assert_eq!(tokenizer.vocab_size(), 640 + 256);
    assert_eq!(tokenizer.id_to_token(640).as_deref(), Some("<|begin_of_text|>"));
    assert_eq!(tokenizer.special_tokens().eos, [641]);
    assert_eq!(tokenizer.frame(), (&[640][..], &[][..]));
    for row in read_json("cases.json")["tiktoken"].as_array().unwrap() {
        let text = row["text"].as_str().unwrap();
        assert_eq!(ids(&tokenizer, text, PARSE), numbers(&row["ids"]), "{text:?}");
        assert_eq!(ids(&tokenizer, text, PLAIN), numbers(&row["plain"]), "{text:?}");
        let bytes: String =
            tokenizer.decode(&numbers(&row["ids"]), false).unwrap().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(json!(bytes), row["bytes"], "{text:?}");
    }
    let config = json!({
        "added_tokens_decoder": {"641": {"content": "<b>", "special": true}, "640": {"content": "<a>", "special": false}},
        "eos_token": "<b>",
    });
    let config = TokenizerConfig::from_json(config.to_string().as_bytes(), "x").unwrap();
    let named = HfTokenizer::from_tokenizer_model(&data("ranks.model"), Some(config)).unwrap();
    assert_eq!((named.vocab_size(), &named.special_tokens().all[..]), (642, &[641][..]));
    assert_eq!(named.frame(), (&[][..], &[][..]));
}

#[test]
fn a_folder_with_a_model_file_is_read_and_saved() {
    for name in ["bytes", "ranks", "trimmed", "unknown"] {
        let dir = TempDir::new().unwrap();
        fs::copy(data(&format!("{name}.model")), dir.path().join("tokenizer.model")).unwrap();
        let tokenizer = HfTokenizer::from_folder(dir.path()).unwrap();
        let saved = dir.path().join("saved");
        fs::create_dir(&saved).unwrap();
        let files = tokenizer.save_vocabulary(&saved, Some("my")).unwrap();
        assert_eq!(files, [saved.join("my-tokenizer.json"), saved.join("my-tokenizer.model")]);
        let copy = fs::read(&files[1]).unwrap();
        assert_eq!(copy, fs::read(data(&format!("{name}.model"))).unwrap());
        // Onto itself: the file stays whole.
        tokenizer.save_vocabulary(dir.path(), None).unwrap();
        assert_eq!(copy, fs::read(dir.path().join("tokenizer.model")).unwrap());

        let files = tokenizer.save_pretrained(&saved, None).unwrap();
        let again = HfTokenizer::from_folder(&saved).unwrap();
        assert_eq!(again.special_tokens(), tokenizer.special_tokens(), "{files:?}");
        for text in strings::strings(300) {
            for options in [PLAIN, EncodeOptions::default()] {
                assert_eq!(ids(&again, &text, options), ids(&tokenizer, &text, options), "{name} {text:?}");
            }
        }
    }
}

/// The pieces of a small model.
fn small() -> Vec<(String, f32, u64)> {
    let mut pieces: Vec<(String, f32, u64)> =
        vec![("<unk>".into(), 0.0, 2), ("<s>".into(), 0.0, 3), ("</s>".into(), 0.0, 3)];
    pieces.extend((0..=255).map(|byte| (format!("<0x{byte:02X}>"), 0.0, 6)));
    pieces.extend([
        ("hi".into(), -1.0, 1),
        ("▁hi".into(), -2.0, 1),
        ("▁".into(), -3.0, 1),
        ("h".into(), -4.0, 1),
        ("i".into(), -5.0, 1),
    ]);
    pieces
}

#[test]
fn all_types_of_pieces_are_read() {
    let mut pieces = small();
    pieces.extend([("<tool>".into(), 0.0, 4), ("hih".into(), -0.5, 5)]);
    let tokenizer = HfTokenizer::from_tokenizer_model_bytes(&proto::model(&pieces), None).unwrap();
    // The unused piece is passed through and never comes out.
    assert_eq!(ids(&tokenizer, "hi hih", EncodeOptions::default()), [1, 260, 261, 259, 262]);
    assert_eq!(ids(&tokenizer, "<tool>A<tool>", PLAIN), [264, 3 + 0x41, 264]);
    assert_eq!(tokenizer.special_tokens().all, [0, 1, 2]);
    assert_eq!(tokenizer.decode(&[1, 260, 264, 3 + 0xC3, 3 + 0xA9], true).unwrap(), "hi<tool>é".as_bytes());
}

#[test]
fn a_model_that_is_none_is_an_error_that_names_the_place() {
    let refused = |bytes: &[u8], words: &[&str]| {
        let error = HfTokenizer::from_tokenizer_model_bytes(bytes, None).unwrap_err().to_string();
        let all = words.iter().chain(&["tokenizer.model"]).all(|word| error.contains(word));
        assert!(all, "{error} lacks one of {words:?}");
    };
    let whole = proto::model(&small());
    refused(b"", &["empty"]);
    refused(&whole[..whole.len() - 3], &["byte", "longer than the file", "fetch it again"]);
    refused(&[&whole[..], &proto::varint(1 << 3 | 2), &[0xFF; 9], &[1]].concat(), &["longer than the file"]);
    refused(&[proto::trainer(true), proto::normalizer()].concat(), &["pieces", "none"]);
    let changed = |index: usize, piece: (&str, f32, u64)| {
        let mut pieces = small();
        pieces[index] = (piece.0.to_owned(), piece.1, piece.2);
        proto::model(&pieces)
    };
    refused(&changed(259, ("", 0.0, 1)), &["pieces[259]", "empty"]);
    refused(&changed(259, ("▁hi", 0.0, 1)), &["pieces[260]", "piece 259 too", "distinct"]);
    refused(&changed(259, ("x", f32::NAN, 1)), &["pieces[259]", "not a number"]);
    refused(&changed(259, ("x", 0.0, 9)), &["pieces[259].type", "9"]);
    refused(&changed(5, ("<0xZZ>", 0.0, 6)), &["pieces[5]", "BYTE"]);
    refused(&changed(1, ("<s>", 0.0, 2)), &["pieces[1]", "second unknown token"]);
    refused(&changed(259, (&"x".repeat(600), 0.0, 1)), &["pieces[259]", "600 bytes"]);
    let with = |spec: Vec<u8>| [&proto::model(&small())[..], &spec].concat();
    refused(&with(proto::bytes(2, &proto::number(3, 1))), &["trainer_spec.model_type", "UNIGRAM", "BPE"]);
    refused(&with(proto::bytes(2, &proto::number(24, 1))), &["treat_whitespace_as_suffix"]);
    refused(&with(proto::bytes(3, &proto::number(5, 0))), &["escape_whitespaces"]);
    let nfkc = [proto::bytes(1, b"nmt_nfkc"), proto::bytes(2, b"table")].concat();
    refused(&with(proto::bytes(3, &nfkc)), &["normalizer_spec.name", "nmt_nfkc", "identity"]);
    refused(&with(proto::bytes(3, &proto::bytes(1, b"\xFF"))), &["normalizer_spec.name", "utf-8"]);
    refused(&with(proto::number(1, 5)), &["byte", "field 1 is not a message"]);
    refused(&with(proto::bytes(2, &proto::bytes(35, b"x"))), &["field 35 is not a number"]);
    refused(b"PK\x03\x04 no model at all", &["byte 2"]);

    let missing = HfTokenizer::from_tokenizer_model(Path::new("nowhere/tokenizer.model"), None).unwrap_err();
    assert!(missing.to_string().contains("cannot read nowhere"), "{missing}");
}

/// A tiktoken file of the bytes and these lines.
fn ranks(more: &[&str]) -> String {
    let bytes = (0..=255u8).map(|byte| format!("{} {byte}\n", base64(&[byte])));
    bytes.chain(more.iter().map(|line| format!("{line}\n"))).collect()
}

/// Base64 of at most three bytes.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let word = bytes.iter().fold(0u32, |word, b| word << 8 | u32::from(*b)) << (8 * (3 - bytes.len()));
    let digit = |n: usize| if n > bytes.len() { '=' } else { char::from(DIGITS[(word >> (18 - 6 * n)) as usize & 63]) };
    (0..4).map(digit).collect()
}

#[test]
fn ranks_that_are_none_are_an_error_that_names_the_line() {
    let load = |text: &str| HfTokenizer::from_tokenizer_model_bytes(text.as_bytes(), None);
    let two = [format!("{} 256", base64(b"hi")), format!("{} 257", base64(b"hih"))];
    let tokenizer = load(&ranks(&[&two[0], "", &two[1]])).unwrap();
    assert_eq!(ids(&tokenizer, "hihi", PLAIN), [256, 256]);
    assert_eq!(ids(&tokenizer, "hih", PLAIN), [257]);
    let refused = |more: &[&str], words: &[&str]| {
        let error = load(&ranks(more)).unwrap_err().to_string();
        let all = words.iter().chain(&["tokenizer.model"]).all(|word| error.contains(word));
        assert!(all, "{error} lacks one of {words:?}");
    };
    refused(&["aGk=256"], &["line 257", "no space"]);
    refused(&["a*k= 256"], &["line 257", "not base64"]);
    refused(&["aGk 256"], &["line 257", "not base64"]);
    refused(&["aGk= "], &["line 257", "rank"]);
    refused(&["aGk= -1"], &["line 257", "rank", "-1"]);
    refused(&["aGk= 99999999999999999999"], &["line 257", "32 bits"]);
    refused(&["aGk= 4000000000"], &["line 257", "rank 4000000000", "none is 256", "without a gap"]);
    refused(&["aGk= 7"], &["line 257", "rank 7", "line 8 has too"]);
    refused(&["aA== 256"], &["line 257", "line 105 again"]);
    refused(&[" 256"], &["line 257", "empty token"]);
    refused(&[&format!("{} 256", "AAAA".repeat(2000))], &["line 257", "8000 characters"]);
    let error = load(&ranks(&[]).replace("/w== 255\n", "")).unwrap_err().to_string();
    assert!(error.contains("0xFF"), "{error}");
    assert_eq!(llama3_special_tokens().len(), 256);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_a_tokenizer_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = HfTokenizer::from_tokenizer_model_bytes(&bytes, None);
    }

    #[test]
    fn a_model_with_any_byte_changed_is_a_tokenizer_or_an_error(
        at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>(), text in any::<String>(),
    ) {
        let mut bytes = proto::model(&small());
        let (at, cut) = (at.index(bytes.len()), cut.index(bytes.len() * 4));
        bytes[at] = byte;
        bytes.truncate(cut);
        if let Ok(tokenizer) = HfTokenizer::from_tokenizer_model_bytes(&bytes, None) {
            let found = tokenizer.encode(&text, PLAIN);
            if let Ok(found) = found {
                prop_assert!(found.ids.iter().all(|id| (*id as usize) < tokenizer.vocab_size()));
            }
        }
    }

    #[test]
    fn ranks_with_any_byte_changed_are_a_tokenizer_or_an_error(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = ranks(&["aGk= 256"]).into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = HfTokenizer::from_tokenizer_model_bytes(&bytes, None);
    }

    #[test]
    fn texts_come_back_from_every_file(text in any::<String>()) {
        static LOADED: LazyLock<[(&str, HfTokenizer); 2]> = LazyLock::new(|| ["bytes", "ranks"].map(|name| (name, load(name))));
        for (name, tokenizer) in LOADED.iter() {
            let found = ids(tokenizer, &text, PLAIN);
            let back = String::from_utf8(tokenizer.decode(&found, false).unwrap()).unwrap();
            // A space in front is the one that is put there; `▁` is a space.
            let expected = if *name == "bytes" { text.replace('▁', " ") } else { text.clone() };
            let expected = if *name == "bytes" { expected.strip_prefix(' ').unwrap_or(&expected) } else { &expected };
            prop_assert_eq!(back, expected);
        }
    }
}
