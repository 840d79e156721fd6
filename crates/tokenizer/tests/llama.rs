//! [`LlamaTokenizer`] with every parameter, and batches of texts, against what transformers 5.8.0 gives
//! (`conformance/reference/llama_tokenizer_cases.py`).

use std::fs;
use std::path::{Path, PathBuf};

use camelid_core::tokenizer::{EncodeOptions, Tokenizer};
use camelid_tokenizer::{
    BatchEncoding, BatchError, BatchOptions, HfTokenizer, LlamaTokenizer, LlamaTokenizerBuilder, Merges, OffsetUnit,
    Padding, Side, SpecialName, SpecialToken, SpecialsError, TextInput, TokenizerConfig, Truncation, Vocabulary,
};
use serde_json::{Value, json};
use tempfile::TempDir;

const CASES: &str = include_str!("data/llama/cases.json");

fn cases(part: &str) -> Vec<Value> {
    let mut all: Value = serde_json::from_str(CASES).unwrap();
    let Value::Array(cases) = all[part].take() else { panic!("{part} is no list") };
    assert!(!cases.is_empty());
    cases
}

/// The vocabulary that the cases were made with.
fn pieces() -> (Vocabulary, Merges) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/suite/tokenizer/pieces.vocab.json");
    let json: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let model = &json["tokenizer"]["model"];
    let ids = model["vocab"].as_object().unwrap().iter().map(|(t, id)| (t.clone(), id.as_u64().unwrap() as u32));
    let pair = |merge: &Value| match merge {
        Value::String(line) => line.split_once(' ').map(|(l, r)| (l.to_owned(), r.to_owned())).unwrap(),
        pair => (pair[0].as_str().unwrap().to_owned(), pair[1].as_str().unwrap().to_owned()),
    };
    let merges = model["merges"].as_array().unwrap().iter().map(pair);
    (Vocabulary::Ids(ids.collect()), Merges::Pairs(merges.collect()))
}

fn token(json: &Value) -> SpecialToken {
    match json {
        Value::String(text) => text.as_str().into(),
        json => {
            let flag = |key: &str| json[key].as_bool().unwrap();
            SpecialToken {
                content: json["content"].as_str().unwrap().to_owned(),
                single_word: flag("single_word"),
                lstrip: flag("lstrip"),
                rstrip: flag("rstrip"),
                normalized: flag("normalized"),
                special: flag("special"),
            }
        }
    }
}

/// A builder with the parameters of a case.
fn builder(parameters: &Value) -> LlamaTokenizerBuilder {
    let (vocab, merges) = pieces();
    let mut builder = LlamaTokenizer::builder().vocab(vocab).merges(merges);
    for (key, value) in parameters.as_object().unwrap() {
        let yes = || value.as_bool().unwrap();
        builder = match key.as_str() {
            "add_bos_token" => builder.add_bos_token(yes()),
            "add_eos_token" => builder.add_eos_token(yes()),
            "add_prefix_space" => builder.add_prefix_space(yes()),
            "legacy" => builder.legacy(yes()),
            "clean_up_tokenization_spaces" => builder.clean_up_tokenization_spaces(yes()),
            "use_default_system_prompt" => builder.use_default_system_prompt(yes()),
            "split_special_tokens" => builder.split_special_tokens(yes()),
            "bos_token" => builder.bos_token(token(value)),
            "eos_token" => builder.eos_token(token(value)),
            "unk_token" => builder.unk_token(token(value)),
            "pad_token" => builder.pad_token(token(value)),
            "extra_special_tokens" => {
                builder.extra_special_tokens(value.as_array().unwrap().iter().map(token).collect())
            }
            "truncation_side" => builder.truncation_side(side(value)),
            "model_max_length" => builder.model_max_length(value.as_u64().unwrap() as usize),
            other => panic!("{other}"),
        };
    }
    builder
}

fn side(value: &Value) -> Side {
    if value == "left" { Side::Left } else { Side::Right }
}

fn numbers(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as u32).collect()
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn every_parameter_has_the_effect_it_has_in_transformers() {
    for case in cases("builder") {
        let parameters = &case["parameters"];
        let tokenizer = builder(parameters).build().unwrap();
        assert_eq!(json!(tokenizer.vocab_size()), case["size"], "{parameters}");
        for row in case["texts"].as_array().unwrap() {
            let written = row["text"].as_str().unwrap();
            let ids = tokenizer.encode_one(written, &BatchOptions::default()).unwrap().remove(0).ids;
            assert_eq!(ids, numbers(&row["ids"]), "{parameters} {written:?}");
            assert_eq!(text(tokenizer.decode(&ids, false).unwrap()), row["decoded"], "{parameters} {written:?}");
            assert_eq!(text(tokenizer.decode(&ids, true).unwrap()), row["skipped"], "{parameters} {written:?}");
            if parameters["split_special_tokens"].is_null() {
                assert_eq!(tokenizer.encode(written, EncodeOptions::default()).unwrap().ids, ids, "{written:?}");
            }
        }
        let pair = tokenizer.encode_one(("the camel", "of water"), &BatchOptions::default()).unwrap().remove(0);
        assert_eq!(pair.ids, numbers(&case["pair"]["input_ids"]), "{parameters}");
        assert_eq!(pair.token_type_ids, numbers(&case["pair"]["token_type_ids"]), "{parameters}");
        assert_eq!(pair.special_tokens_mask, numbers(&case["pair"]["special_tokens_mask"]), "{parameters}");

        let finished = numbers(&case["finished"]);
        let mask = tokenizer.get_special_tokens_mask(&finished, None, true).unwrap();
        assert_eq!(mask, numbers(&case["mask"]), "{parameters}");
        assert_eq!(tokenizer.all_special_ids(), numbers(&case["special_ids"]), "{parameters}");
        let to_add = [false, true].map(|pair| tokenizer.num_special_tokens_to_add(pair) as u32);
        assert_eq!(to_add.to_vec(), numbers(&case["to_add"]));
        let found = tokenizer.convert_tokens_to_ids(&["the", "no such token", "</s>"]);
        assert_eq!(json!(found), case["unknown"], "{parameters}");
        assert_eq!(json!(tokenizer.convert_ids_to_tokens(&[0, 1, 2, 300], true)), case["tokens"], "{parameters}");
    }
}

/// What the documentation says; transformers 5.8.0 has no answer.
#[test]
fn the_mask_of_texts_without_special_tokens_is_that_of_the_finished_sequence() {
    for (bos, eos) in [(false, false), (true, false), (false, true), (true, true)] {
        let tokenizer = builder(&json!({"add_bos_token": bos, "add_eos_token": eos})).build().unwrap();
        let around = |n: usize| [vec![1; bos.into()], vec![0; n], vec![1; eos.into()]].concat();
        let (first, second) = ([300, 1, 301], [302, 2]);
        let mask = |second| tokenizer.get_special_tokens_mask(&first, second, false).unwrap();
        assert_eq!(mask(None), around(3));
        assert_eq!(mask(Some(&second)), [around(3), around(2)].concat());
        assert_eq!(tokenizer.get_special_tokens_mask(&[], Some(&[]), false).unwrap(), [around(0), around(0)].concat());
        let built = tokenizer.build_inputs_with_special_tokens(&first, Some(&second)).unwrap();
        let (bos, eos) = (vec![1; bos.into()], vec![2; eos.into()]);
        let expected = [&bos[..], &first, &eos, &bos, &second, &eos].concat();
        assert_eq!(built, expected);
        let error = tokenizer.get_special_tokens_mask(&first, Some(&second), true).unwrap_err();
        assert!(matches!(error, SpecialsError::SecondSequence) && error.to_string().contains("second sequence"));
    }
}

/// The keyword arguments of a call as options.
fn options(call: &Value) -> BatchOptions {
    let mut options = BatchOptions { offsets: OffsetUnit::Chars, ..BatchOptions::default() };
    for (key, value) in call.as_object().unwrap() {
        let number = || value.as_u64().unwrap() as usize;
        match key.as_str() {
            "padding" => {
                options.padding = if *value == "max_length" { Padding::MaxLength } else { Padding::Longest };
            }
            "padding_side" => options.padding_side = Some(side(value)),
            "pad_to_multiple_of" => options.pad_to_multiple_of = Some(number()),
            "max_length" => options.max_length = Some(number()),
            "stride" => options.stride = number(),
            "return_overflowing_tokens" => options.overflowing = true,
            "add_special_tokens" => options.add_special_tokens = value.as_bool().unwrap(),
            "truncation" => {
                options.truncation = match value {
                    Value::Bool(false) => Truncation::No,
                    Value::String(name) if name == "only_first" => Truncation::OnlyFirst,
                    _ => Truncation::LongestFirst,
                }
            }
            other => panic!("{other}"),
        }
    }
    options
}

const BATCH: [&str; 4] = ["the camel crosses the desert", "water", "in 12 days; l'été, пустыня 🐪", ""];
const SECOND: [&str; 4] = ["of the", "the camel is an animal of the desert", "", "x"];

#[test]
fn batches_and_pairs_are_cut_and_filled_up_as_in_transformers() {
    let mut refused = 0;
    for case in cases("batch") {
        let tokenizer = builder(&case["made"]).build().unwrap();
        let pairs = case["pairs"].as_bool().unwrap();
        let inputs: Vec<TextInput<'_>> =
            BATCH.iter().zip(SECOND).map(|(text, pair)| TextInput { text, pair: pairs.then_some(pair) }).collect();
        let what = format!("{} {pairs} {}", case["made"], case["call"]);
        let found = tokenizer.encode_batch(&inputs, &options(&case["call"]));
        if case["found"].get("refused").is_some() {
            assert!(found.is_err(), "{what}: {found:?}");
            refused += 1;
            continue;
        }
        if let Err(BatchError::NoRoom { max_length, .. }) = found {
            // There the library counts below zero, and cuts nothing.
            let rows = case["found"]["input_ids"].as_array().unwrap();
            assert!(rows.iter().any(|row| row.as_array().unwrap().len() > max_length), "{what}");
            continue;
        }
        let found = found.unwrap_or_else(|e| panic!("{what}: {e}"));
        let rows = |row: &dyn Fn(&BatchEncoding) -> Value| found.iter().map(row).collect::<Vec<_>>();
        let offsets = |e: &BatchEncoding| json!(e.offsets.iter().map(|r| [r.start, r.end]).collect::<Vec<_>>());
        let expected = &case["found"];
        assert_eq!(json!(rows(&|e| json!(e.ids))), expected["input_ids"], "{what}");
        assert_eq!(json!(rows(&|e| json!(e.attention_mask))), expected["attention_mask"], "{what}");
        assert_eq!(json!(rows(&|e| json!(e.token_type_ids))), expected["token_type_ids"], "{what}");
        assert_eq!(json!(rows(&|e| json!(e.special_tokens_mask))), expected["special_tokens_mask"], "{what}");
        assert_eq!(json!(rows(&offsets)), expected["offset_mapping"], "{what}");
        if let Some(samples) = expected.get("overflow_to_sample_mapping") {
            assert_eq!(json!(rows(&|e| json!(e.sample))), *samples, "{what}");
        }
    }
    assert!(refused > 0, "no case is refused");
}

#[test]
fn what_cannot_be_cut_or_filled_up_is_an_error_that_says_why() {
    let mut tokenizer = builder(&json!({"add_bos_token": true, "add_eos_token": true})).build().unwrap();
    let longest = BatchOptions { padding: Padding::Longest, ..BatchOptions::default() };
    let error = tokenizer.encode_batch(&["a".into()], &longest).unwrap_err();
    assert!(matches!(error, BatchError::NoPadToken) && error.to_string().contains("pad_token"), "{error}");
    tokenizer.set_special_token(SpecialName::Pad, Some("</s>".into())).unwrap();
    assert_eq!(tokenizer.encode_batch(&[], &longest).unwrap(), []);

    let cut = |max_length, stride, truncation| {
        let options = BatchOptions { max_length: Some(max_length), stride, truncation, ..BatchOptions::default() };
        tokenizer.encode_one(("the camel", "of the desert and the water"), &options)
    };
    assert!(matches!(cut(3, 0, Truncation::Auto), Err(BatchError::NoRoom { max_length: 3, special: 4 })));
    assert!(matches!(cut(6, 2, Truncation::Auto), Err(BatchError::Stride { stride: 2, room: 2 })));
    assert!(matches!(cut(5, 0, Truncation::OnlyFirst), Err(BatchError::Library(_))));
    assert_eq!(cut(4, 0, Truncation::LongestFirst).unwrap()[0].ids, [1, 2, 1, 2]);
    let multiple = BatchOptions {
        pad_to_multiple_of: Some(8),
        max_length: Some(12),
        padding: Padding::Longest,
        truncation: Truncation::LongestFirst,
        ..BatchOptions::default()
    };
    let error = tokenizer.encode_batch(&["a".into()], &multiple).unwrap_err().to_string();
    assert!(error.contains("12") && error.contains('8'), "{error}");
}

#[test]
fn offsets_count_bytes_or_characters() {
    let tokenizer = builder(&json!({})).build().unwrap();
    let of = |offsets| {
        let options = BatchOptions { offsets, ..BatchOptions::default() };
        tokenizer.encode_one(("été the", "🐪 x"), &options).unwrap().remove(0)
    };
    let (bytes, chars) = (of(OffsetUnit::Bytes), of(OffsetUnit::Chars));
    assert_eq!((&bytes.ids, &bytes.sequence_ids), (&chars.ids, &chars.sequence_ids));
    let end = |e: &BatchEncoding, n| {
        e.offsets.iter().zip(&e.sequence_ids).filter(|(_, s)| **s == Some(n)).map(|(r, _)| r.end).max().unwrap()
    };
    assert_eq!((end(&bytes, 0), end(&bytes, 1)), ("été the".len(), "🐪 x".len()));
    assert_eq!((end(&chars, 0), end(&chars, 1)), (7, 3));
}

#[test]
fn the_post_processor_follows_the_tokens_when_told_to() {
    let mut tokenizer = builder(&json!({"add_bos_token": true})).build().unwrap();
    let ids = |t: &HfTokenizer| t.encode("x", EncodeOptions::default()).unwrap().ids;
    let plain = ids(&tokenizer)[1..].to_vec();
    let the = tokenizer.token_to_id("▁the").unwrap();
    tokenizer.set_special_token(SpecialName::Bos, Some("▁the".into())).unwrap();
    assert_eq!(tokenizer.special_tokens().bos, Some(the));
    assert_eq!(ids(&tokenizer)[0], 1, "the old one, until it is updated");
    tokenizer.update_post_processor().unwrap();
    assert_eq!(ids(&tokenizer), [&[the][..], &plain].concat());
    tokenizer.set_add_eos_token(true).unwrap();
    assert_eq!(ids(&tokenizer), [&[the][..], &plain, &[2]].concat());
    tokenizer.set_add_bos_token(false).unwrap();
    assert_eq!(ids(&tokenizer), [&plain[..], &[2]].concat());
    assert_eq!((tokenizer.add_bos_token(), tokenizer.add_eos_token()), (false, true));
    tokenizer.set_special_token(SpecialName::Eos, None).unwrap();
    tokenizer.update_post_processor().unwrap();
    assert_eq!(ids(&tokenizer), plain);
    assert!(!tokenizer.add_eos_token(), "without the token nothing is added");
    let error = tokenizer.set_special_token(SpecialName::Pad, Some("<nowhere>".into())).unwrap_err();
    assert!(matches!(&error, SpecialsError::NotThere { token } if token == "<nowhere>"), "{error}");
}

#[test]
fn added_tokens_are_found_first_and_get_the_next_ids() {
    let mut tokenizer = builder(&json!({})).build().unwrap();
    let size = tokenizer.vocab_size() as u32;
    let ids = |t: &HfTokenizer, text: &str| t.encode(text, EncodeOptions::default()).unwrap().ids;
    let rstrip = SpecialToken { rstrip: true, special: false, ..SpecialToken::new("<new>") };
    assert_eq!(tokenizer.add_tokens(&[rstrip.clone(), "<s>".into()], false).unwrap(), 1);
    assert_eq!(tokenizer.add_tokens(&[rstrip], false).unwrap(), 0);
    assert_eq!((tokenizer.token_to_id("<new>"), tokenizer.vocab_size() as u32), (Some(size), size + 1));
    assert_eq!(ids(&tokenizer, "<new>   the"), [&[size][..], &ids(&tokenizer, "<s>the")[1..]].concat());
    assert_eq!(tokenizer.decode(&[size], true).unwrap(), b"<new>");
    let named = [(SpecialName::Pad, SpecialToken::new("<fill>"))];
    assert_eq!(tokenizer.add_special_tokens(&named, &["<extra>".into()]).unwrap(), 2);
    assert_eq!((tokenizer.special_tokens().pad, tokenizer.token_to_id("<extra>")), (Some(size + 1), Some(size + 2)));
    assert_eq!(tokenizer.decode(&[size + 1, size + 2], true).unwrap(), b"");
    assert_eq!(tokenizer.all_special_tokens(), ["<s>", "</s>", "<unk>", "<fill>", "<extra>"]);
    let added: Vec<u32> = tokenizer.added_tokens().into_iter().map(|(id, _)| id).collect();
    assert_eq!(added, [0, 1, 2, size, size + 1, size + 2]);
}

#[test]
fn vocabularies_and_merges_come_from_files_lists_and_maps() {
    let dir = TempDir::new().unwrap();
    let file = |name: &str, text: &str| -> PathBuf {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let tokens = ["<unk>", "<s>", "</s>", "▁", "h", "i", "hi", "▁hi"].map(str::to_owned);
    let ids: Vec<(String, u32)> = tokens.iter().cloned().zip(0..).collect();
    let object: serde_json::Map<String, Value> = ids.iter().map(|(token, id)| (token.clone(), json!(id))).collect();
    let map = file("vocab.json", &json!(object).to_string());
    let list = file("list.json", &json!(tokens).to_string());
    let text = file("merges.txt", "#version: 0.2\nh i\n▁ hi\n");
    let pairs = || Merges::Pairs([("h", "i"), ("▁", "hi")].map(|(l, r)| (l.to_owned(), r.to_owned())).into());
    for (vocab, merges) in [
        (Vocabulary::File(map), Merges::File(text.clone())),
        (Vocabulary::File(list), pairs()),
        (Vocabulary::Ids(ids), pairs()),
        (Vocabulary::Tokens(tokens.into()), Merges::File(text)),
    ] {
        let tokenizer = LlamaTokenizer::builder().vocab(vocab).merges(merges).build().unwrap();
        assert_eq!(tokenizer.encode("hi hi", EncodeOptions::default()).unwrap().ids, [7, 7]);
        assert_eq!(tokenizer.decode(&[7, 7], false).unwrap(), b"hi hi");
    }
    let bare = LlamaTokenizer::builder().unk_token("[U]").bos_token("[B]").add_bos_token(true).build().unwrap();
    let all: Vec<_> = (0..3).map(|id| bare.id_to_token(id).unwrap()).collect();
    assert_eq!((bare.vocab_size(), &all[..]), (3, &["[U]", "[B]", "</s>"].map(str::to_owned)[..]));
    assert_eq!(bare.encode("", EncodeOptions::default()).unwrap().ids, [1]);

    let refused = |vocab: Vocabulary, merges: Merges, words: &[&str]| {
        let error = LlamaTokenizer::builder().vocab(vocab).merges(merges).build().unwrap_err().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error} lacks one of {words:?}");
    };
    let none = || Merges::Pairs(Vec::new());
    let bad = |text: &str| Vocabulary::File(file("bad.json", text));
    refused(bad("{"), none(), &["bad.json", "not valid JSON"]);
    refused(bad("5"), none(), &["bad.json", "neither an object nor a list"]);
    refused(bad(r#"{"a": -1}"#), none(), &["bad.json", "a", "-1", "32 bits"]);
    refused(bad(r#"["a", 1]"#), none(), &["bad.json", "[1]", "strings"]);
    refused(Vocabulary::File(dir.path().join("nowhere")), none(), &["cannot read", "nowhere"]);
    refused(Vocabulary::Tokens(vec!["a".into(), "a".into()]), none(), &["vocab", "\"a\"", "0 and 1"]);
    let merges = Merges::File(file("bad.txt", "#version: 0.2\nab\n"));
    refused(Vocabulary::Tokens(vec!["a".into()]), merges, &["bad.txt", "line 2", "\"ab\""]);
    let merges = Merges::Pairs(vec![("a".into(), "b".into())]);
    refused(Vocabulary::Tokens(vec!["a".into()]), merges, &["model.merges[0]", "\"b\"", "not in model.vocab"]);
}

#[test]
fn a_saved_folder_is_the_tokenizer_again() {
    let parameters = json!({
        "add_bos_token": true, "pad_token": "<pad>", "legacy": true, "use_default_system_prompt": true,
        "truncation_side": "left", "model_max_length": 99, "extra_special_tokens": ["of"],
        "eos_token": {"content": "<end>", "single_word": false, "lstrip": true, "rstrip": false, "normalized": false, "special": true},
    });
    let mut tokenizer = builder(&parameters).build().unwrap();
    tokenizer.add_tokens(&[SpecialToken { special: false, ..SpecialToken::new("<tool>") }], false).unwrap();
    let dir = TempDir::new().unwrap();
    let folder = dir.path().join("made");
    let files = tokenizer.save_pretrained(&folder, None).unwrap();
    assert!(files.iter().all(|file| file.is_file()) && files.len() == 2, "{files:?}");
    let again = HfTokenizer::from_folder(&folder).unwrap();
    for text in ["the <end> of<tool> x<pad>", " water", "été 🐪"] {
        assert_eq!(
            again.encode_one((text, "x"), &BatchOptions::default()).unwrap(),
            tokenizer.encode_one((text, "x"), &BatchOptions::default()).unwrap(),
            "{text:?}"
        );
    }
    assert_eq!(again.special_tokens(), tokenizer.special_tokens());
    let (old, new) = (tokenizer.config(), again.config());
    assert_eq!(new.eos_token, old.eos_token);
    assert_eq!((new.legacy, new.use_default_system_prompt), (Some(true), true));
    assert_eq!(
        (new.model_max_length, new.truncation_side, new.padding_side()),
        (Some(99), Some(Side::Left), Side::Left)
    );
    assert_eq!(new.tokenizer_class.as_deref(), Some("LlamaTokenizer"));

    let files = again.save_vocabulary(dir.path(), Some("x")).unwrap();
    assert_eq!(files, [dir.path().join("x-tokenizer.json")]);
    let error = again.save_vocabulary(&dir.path().join("nowhere"), None).unwrap_err().to_string();
    assert!(error.contains("nowhere") && error.contains("no folder"), "{error}");
}

#[test]
fn a_class_without_a_side_has_that_of_transformers() {
    let side = |json: Value| TokenizerConfig::from_json(json.to_string().as_bytes(), "x").unwrap().padding_side();
    assert_eq!(side(json!({})), Side::Left);
    assert_eq!(side(json!({"tokenizer_class": "LlamaTokenizerFast"})), Side::Left);
    assert_eq!(side(json!({"tokenizer_class": "PreTrainedTokenizerFast"})), Side::Right);
    assert_eq!(side(json!({"tokenizer_class": "PreTrainedTokenizerFast", "padding_side": "left"})), Side::Left);
    let error = TokenizerConfig::from_json(br#"{"padding_side": "up"}"#, "file.json").unwrap_err().to_string();
    assert!(error.contains("file.json") && error.contains("padding_side") && error.contains("up"), "{error}");
    let config = TokenizerConfig::from_json(br#"{"model_max_length": 1000000000000000019884624838656}"#, "x").unwrap();
    assert_eq!(config.model_max_length, None);
}
