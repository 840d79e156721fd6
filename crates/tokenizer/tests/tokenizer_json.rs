//! `tokenizer.json` and the files beside it.

mod common;

use std::fs;
use std::path::Path;

use camelid_core::tokenizer::{EncodeOptions, Tokenizer};
use camelid_tokenizer::{HfTokenizer, LoadError, SpecialToken, TemplateError, TokenizerConfig};
use common::{PARSE, PLAIN, ids, tokens};
use serde_json::{Value, json};
use tempfile::TempDir;

const LLAMA: &str = include_str!("data/llama_tokenizer.json");

fn load(json: &str) -> Result<HfTokenizer, LoadError> {
    HfTokenizer::from_tokenizer_json(json.as_bytes(), None)
}

fn with_config(config: Value) -> Result<HfTokenizer, LoadError> {
    let config = TokenizerConfig::from_json(config.to_string().as_bytes(), "tokenizer_config.json")?;
    HfTokenizer::from_tokenizer_json(LLAMA.as_bytes(), Some(config))
}

/// The file above, changed in one place.
fn changed(change: impl FnOnce(&mut Value)) -> String {
    let mut json: Value = serde_json::from_str(LLAMA).unwrap();
    change(&mut json);
    json.to_string()
}

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

#[test]
fn the_file_decides() {
    let tokenizer = load(LLAMA).unwrap();
    // Longer than the file's truncation rule, shorter than its padding rule: neither is applied.
    assert_eq!(tokens(&tokenizer, "Banana B a n a", EncodeOptions::default())[..3], ["<s>", "▁Banana", "▁B"]);
    assert_eq!(ids(&tokenizer, "Banana B a n a", EncodeOptions::default()).len(), 9);
    assert_eq!(tokenizer.decode(&[1, 23, 14], true).unwrap(), b"Banana B");
    assert_eq!(tokenizer.decode(&[1, 23], false).unwrap(), b"<s> Banana");
    assert_eq!(tokenizer.token_bytes(23).unwrap(), b" Banana");
    assert_eq!(tokenizer.decode(&[9, 5, 6, 7, 8], true).unwrap(), "🦙".as_bytes());
    assert_eq!(tokenizer.decode(&[9, 5, 6], true).unwrap(), b"\xF0\x9F");
    assert_eq!(tokenizer.vocab_size(), 26);
    assert_eq!(tokenizer.special_tokens().all, [0, 1, 2, 24]);
    // It names no bos token: that is the configuration's part.
    assert_eq!(tokenizer.special_tokens().bos, None);
}

/// The merges of the file could spell `</s>`.
#[test]
fn special_tokens_in_text_count_only_if_asked_for() {
    let tokenizer = load(LLAMA).unwrap();
    assert_eq!(ids(&tokenizer, "B</s><|end|>  B", PARSE), [14, 2, 24, 14]);
    let plain = tokenizer.encode("B</s>", PLAIN).unwrap();
    assert_eq!(plain.ids, [14, 17, 18, 19, 20]);
    assert_eq!(plain.offsets, [0..1, 1..2, 2..3, 3..4, 4..5]);
    // A token that is not special keeps its id (and its rules) either way.
    for options in [PLAIN, PARSE] {
        assert!(ids(&tokenizer, "a tool", options).ends_with(&[25]));
        assert!(!ids(&tokenizer, "a tools", options).contains(&25));
    }
}

#[test]
fn the_configuration_names_special_tokens() {
    let tokenizer = with_config(json!({
        "bos_token": {"content": "<s>", "lstrip": false, "normalized": false, "rstrip": false, "single_word": false},
        "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "[PAD]", "additional_special_tokens": ["ana", "absent"],
        "tokenizer_class": "BertTokenizer", "clean_up_tokenization_spaces": true, "chat_template": null, "model_max_length": 1e30
    }))
    .unwrap();
    let special = tokenizer.special_tokens();
    assert_eq!((special.bos, &special.eos[..], special.unk, special.pad), (Some(1), &[2][..], Some(0), None));
    assert_eq!(special.all, [0, 1, 2, 15, 24]);
    assert_eq!(ids(&tokenizer, "Ban ana", PARSE), [16, 9, 15]);
    assert!(!ids(&tokenizer, "Ban ana", PLAIN).contains(&15));
    let options = tokenizer.render_options();
    assert_eq!((options.bos_token.as_deref(), options.eos_token.as_deref()), (Some("<s>"), Some("</s>")));
    assert_eq!(options.extra["unk_token"], "<unk>");
    assert_eq!(tokenizer.config().bos_token, Some(SpecialToken::new("<s>")));
    assert!(!options.extra.contains_key("pad_token"));
}

#[test]
fn explicit_flags_override_the_post_processor() {
    let frame = |config: Value| {
        let tokenizer = with_config(config).unwrap();
        (tokenizer.frame().0.to_vec(), tokenizer.frame().1.to_vec())
    };
    let both = json!({"bos_token": "<s>", "eos_token": "</s>"});
    let and = |more: Value| {
        let mut config = both.clone();
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config
    };
    assert_eq!(frame(both.clone()), (vec![1], vec![]));
    assert_eq!(frame(and(json!({"add_bos_token": null}))), (vec![1], vec![]));
    assert_eq!(frame(and(json!({"add_bos_token": false}))), (vec![], vec![]));
    assert_eq!(frame(and(json!({"add_eos_token": true}))), (vec![1], vec![2]));
    assert_eq!(frame(and(json!({"add_bos_token": true, "add_eos_token": false}))), (vec![1], vec![]));
}

#[test]
fn a_folder_is_read_as_a_whole() {
    let config = r#"{"bos_token": "<s>", "chat_template": [{"name": "default", "template": "D"}, {"name": "tool_use", "template": "T"}]}"#;
    let map = r#"{"bos_token": "</s>", "eos_token": {"content": "</s>"}, "pad_token": null}"#;
    let files = [("tokenizer.json", LLAMA), ("tokenizer_config.json", config), ("special_tokens_map.json", map)];
    let dir = folder(&files);
    let tokenizer = HfTokenizer::from_folder(dir.path()).unwrap();
    // What the configuration says goes before the map.
    assert_eq!((tokenizer.special_tokens().bos, &tokenizer.special_tokens().eos[..]), (Some(1), &[2][..]));
    assert_eq!(tokenizer.chat_template_source(None, false).unwrap(), Some("D"));
    assert_eq!(tokenizer.chat_template_source(None, true).unwrap(), Some("T"));
    assert_eq!(tokenizer.chat_template_source(Some("tool_use"), false).unwrap(), Some("T"));
    let error = tokenizer.chat_template_source(Some("rag"), false).unwrap_err();
    assert!(
        matches!(error, TemplateError::NoSuchTemplate { ref name, ref known } if name == "rag" && known.len() == 2)
    );

    let jinja = [("chat_template.jinja", "J{{ bos_token }}"), ("additional_chat_templates/rag.jinja", "R")];
    let dir = folder(&[&files[..], &jinja[..]].concat());
    let tokenizer = HfTokenizer::from_folder(dir.path()).unwrap();
    assert_eq!(tokenizer.chat_template_source(Some("rag"), false).unwrap(), Some("R"));
    let template = tokenizer.chat_template(None, false).unwrap().unwrap();
    assert_eq!(template.render(&[], &tokenizer.render_options()).unwrap(), "J<s>");

    let dir = folder(&files[..1]);
    let tokenizer = HfTokenizer::from_folder(dir.path()).unwrap();
    assert!(tokenizer.chat_template(None, false).unwrap().is_none());
}

#[test]
fn a_folder_without_tokenizer_says_what_to_do() {
    let message = |dir: &Path| HfTokenizer::from_folder(dir).unwrap_err().to_string();
    let dir = folder(&[("tokenizer.model", "")]);
    assert!(message(dir.path()).contains("tokenizer.model: the file: empty"));
    let dir = folder(&[("vocab.json", "{}"), ("merges.txt", "")]);
    assert!(message(dir.path()).contains("merges.txt"));
    assert!(message(&dir.path().join("nowhere")).contains("does not exist"));
    let error = HfTokenizer::from_tokenizer_file(&dir.path().join("tokenizer.json"), None).unwrap_err();
    assert!(matches!(error, LoadError::Read { .. }), "{error}");
}

#[test]
fn what_does_not_fit_together_is_an_error_that_names_the_place() {
    let refused = |json: &str, words: &[&str]| {
        let error = load(json).unwrap_err().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error} lacks one of {words:?}");
    };
    refused(&LLAMA[..LLAMA.len() / 2], &["tokenizer.json", "not valid JSON", "line"]);
    refused("[]", &["tokenizer.json", "found a list"]);
    refused("{}", &["model", "missing"]);
    refused(&changed(|j| j["model"] = json!("BPE")), &["model", "found a string"]);
    refused(&changed(|j| j["model"]["vocab"] = json!(null)), &["model.vocab", "null"]);
    refused(&changed(|j| j["model"]["vocab"]["a"] = json!(-1)), &["model.vocab[\"a\"]", "32 bits"]);
    refused(&changed(|j| j["model"]["vocab"]["a"] = json!(10)), &["model.vocab[\"a\"]", "\"B\"", "distinct"]);
    refused(
        &changed(|j| j["model"]["merges"][3] = json!(["▁Banana", "▁Banana"])),
        &["model.merges[3]", "▁Banana▁Banana"],
    );
    refused(&changed(|j| j["model"]["merges"][0] = json!("nospace")), &["model.merges[0]", "not a pair"]);
    refused(&changed(|j| j["model"]["merges"][1] = json!([1, 2])), &["model.merges[1]", "not a pair"]);
    refused(&changed(|j| j["model"]["merges"] = json!({})), &["model.merges", "found an object"]);
    refused(&changed(|j| j["model"]["continuing_subword_prefix"] = json!("##")), &["model.merges[0]", "##"]);
    refused(&changed(|j| j["version"] = json!("2.0")), &["tokenizer.json", "2.0"]);
    refused(&changed(|j| j["pre_tokenizer"] = json!({"type": "Magic"})), &["tokenizer.json"]);
    let regex = json!({"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": false});
    refused(&changed(|j| j["pre_tokenizer"] = regex), &["tokenizer.json"]);
    let no_text = json!([{"SpecialToken": {"id": "<s>", "type_id": 0}}]);
    refused(&changed(|j| j["post_processor"]["single"] = no_text), &["post_processor", "0 times"]);
    refused(
        &changed(|j| j["post_processor"]["special_tokens"]["<s>"]["ids"] = json!([999])),
        &["post_processor", "999"],
    );
}

#[test]
fn a_configuration_that_cannot_be_is_an_error_that_names_the_field() {
    let refused = |config: Value, words: &[&str]| {
        let error = with_config(config).unwrap_err().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error} lacks one of {words:?}");
    };
    refused(json!([]), &["tokenizer_config.json", "found a list"]);
    refused(json!({"bos_token": 1}), &["bos_token", "found a number"]);
    refused(json!({"eos_token": {"special": true}}), &["eos_token", "no `content`"]);
    refused(json!({"eos_token": "<|eot|>"}), &["eos_token", "<|eot|>", "not in the vocabulary"]);
    refused(json!({"add_bos_token": "yes"}), &["add_bos_token", "found a string"]);
    refused(json!({"add_bos_token": true}), &["add_bos_token", "no bos_token"]);
    refused(json!({"chat_template": 5}), &["chat_template", "found a number"]);
    refused(json!({"chat_template": [{"name": "x"}]}), &["chat_template[0]", "template"]);
    let twice = json!([{"name": "x", "template": ""}, {"name": "x", "template": ""}]);
    refused(json!({"chat_template": twice}), &["chat_template[1]", "\"x\""]);
    refused(json!({"additional_special_tokens": ["a", 3]}), &["additional_special_tokens[1]", "found a number"]);

    let dir = folder(&[("tokenizer.json", LLAMA), ("tokenizer_config.json", "{")]);
    let error = HfTokenizer::from_folder(dir.path()).unwrap_err().to_string();
    assert!(error.contains("tokenizer_config.json") && error.contains("not valid JSON"), "{error}");
    fs::remove_file(dir.path().join("tokenizer_config.json")).unwrap();
    fs::write(dir.path().join("chat_template.jinja"), b"\xFF").unwrap();
    let error = HfTokenizer::from_folder(dir.path()).unwrap_err().to_string();
    assert!(error.contains("chat_template.jinja") && error.contains("UTF-8"), "{error}");
}

/// The library writes past a buffer it sized by the longest token, and splits characters, if merges do not fit.
#[test]
fn merges_that_would_break_the_library_are_refused() {
    let long = changed(|j| j["model"]["merges"] = json!([["▁Banana", "▁Banana"], ["▁Ban", "▁Ban"]]));
    assert!(matches!(load(&long), Err(LoadError::Field { .. })));
    let split = changed(|j| {
        j["model"]["continuing_subword_prefix"] = json!("x");
        j["model"]["merges"] = json!([["a", "▁B"]]);
    });
    assert!(matches!(load(&split), Err(LoadError::Field { .. })));
}
