//! From a `tokenizer.json` to the vocabulary that a GGUF file holds.
//!
//! GGUF knows two kinds for Llamas: byte-level BPE with its merges ("gpt2"), whose way of cutting text into words goes by a
//! name, and SentencePiece's BPE with a score for each token ("llama"). What a `tokenizer.json` says beyond that cannot be said
//! there, so it is refused by name. Token types and keys are those of llama.cpp's converter (`conversion/base.py`).

use std::path::Path;

use camelid_core::tokenizer::GgufVocab;
use serde_json::{Map, Value, json};

use super::sentencepiece;
use super::tokenizer_files::TokenizerFiles;
use crate::WeightsError;
use crate::error::{quoted, shown};

/// Token types of GGUF.
pub(super) mod kind {
    pub(crate) const NORMAL: i32 = 1;
    pub(crate) const UNKNOWN: i32 = 2;
    pub(crate) const CONTROL: i32 = 3;
    pub(crate) const USER_DEFINED: i32 = 4;
    pub(crate) const UNUSED: i32 = 5;
    pub(crate) const BYTE: i32 = 6;
}

/// How Llama 3 cuts text into words.
pub(super) const LLAMA3: &str = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
/// How GPT-2 does.
pub(super) const GPT2: [&str; 2] = [
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
    "'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
];

const REMEDY: &str = "GGUF has no way to say it: keep the safetensors, or convert with a tokenizer it knows";

/// Reads a tokenizer for a model whose embeddings have `rows` rows.
pub(super) fn read(folder: &Path, files: &TokenizerFiles, rows: usize) -> Result<GgufVocab, WeightsError> {
    let (json, config) = files.parse(folder)?;
    let path = folder.join("tokenizer.model");
    let pieces = files.model.as_ref().map(|model| sentencepiece::read(&path, model)).transpose()?;
    let mut vocab = match (json, pieces) {
        (Some(json), pieces) => {
            let reader = Reader { path: &folder.join("tokenizer.json"), json: &json, config: &config };
            let mut vocab = reader.vocab(rows)?;
            if let Some(pieces) = pieces {
                take_scores(&mut vocab, &pieces);
            }
            vocab
        }
        (None, Some(pieces)) => pad(&path, pieces, &config, rows)?,
        (None, None) => GgufVocab::default(),
    };
    vocab.chat_template = files.template(&config);
    Ok(vocab)
}

/// The scores of SentencePiece itself, which a `tokenizer.json` has lost, for the tokens that are its pieces.
fn take_scores(vocab: &mut GgufVocab, pieces: &GgufVocab) {
    let (Some(scores), Some(of_pieces)) = (&mut vocab.scores, &pieces.scores) else { return };
    for (i, (text, score)) in pieces.tokens.iter().zip(of_pieces).enumerate() {
        if vocab.tokens.get(i) == Some(text) {
            scores[i] = *score;
        }
    }
}

/// A vocabulary of pieces alone, with names for the other rows of the embeddings, and what the config says of it.
fn pad(path: &Path, mut vocab: GgufVocab, config: &Value, rows: usize) -> Result<GgufVocab, WeightsError> {
    let count = vocab.tokens.len();
    if count > rows {
        let found = format!("it has {count} pieces, but the embeddings have {rows} rows");
        let remedy = "use the tokenizer.model that belongs to the weights";
        return Err(WeightsError::malformed(path, "the SentencePiece model", found, remedy));
    }
    vocab.tokens.extend((count..rows).map(|i| format!("[PAD{i}]")));
    vocab.scores.get_or_insert_default().resize(rows, -10000.0);
    vocab.token_types.get_or_insert_default().resize(rows, kind::UNUSED);
    vocab.add_bos = config["add_bos_token"].as_bool().or(vocab.add_bos);
    vocab.add_eos = config["add_eos_token"].as_bool().or(vocab.add_eos);
    Ok(vocab)
}

struct Reader<'a> {
    path: &'a Path,
    json: &'a Value,
    config: &'a Value,
}

/// A token that is found as a whole.
struct Added<'a> {
    id: usize,
    content: &'a str,
    special: bool,
}

impl<'a> Reader<'a> {
    fn unsupported<T>(&self, what: &str, found: impl Into<String>) -> Result<T, WeightsError> {
        Err(WeightsError::unsupported(self.path, what, found, REMEDY))
    }

    fn malformed(&self, what: &str, found: impl Into<String>) -> WeightsError {
        WeightsError::malformed(self.path, what, found, "download the tokenizer of the model again")
    }

    fn vocab(&self, rows: usize) -> Result<GgufVocab, WeightsError> {
        let model = &self.json["model"];
        // Files of old versions of the library do not give the type.
        match model["type"].as_str().unwrap_or("BPE") {
            "BPE" => {}
            other => return self.unsupported("model.type", shown(other)),
        }
        let entries = model["vocab"].as_object().ok_or_else(|| self.malformed("model.vocab", "it is no object"))?;
        let added = self.added()?;
        let unknown = model["unk_token"].as_str();
        let bytes = model["byte_fallback"].as_bool().unwrap_or(false);

        let mut tokens: Vec<String> = (0..rows).map(|i| format!("[PAD{i}]")).collect();
        let mut types = vec![kind::UNUSED; rows];
        let mut put = |id: u64, text: &str, kind: i32| {
            let slot = usize::try_from(id).ok().filter(|id| *id < rows);
            let slot = slot.ok_or_else(|| {
                let found =
                    format!("the token {} has id {id}, but the embeddings have {rows} rows", quoted(text.as_bytes()));
                self.malformed("model.vocab", found)
            })?;
            tokens[slot] = text.to_owned();
            types[slot] = kind;
            Ok(())
        };
        for (text, id) in entries {
            let id = id.as_u64().ok_or_else(|| self.malformed("model.vocab", format!("{id} is no id")))?;
            put(id, text, if bytes && is_byte(text) { kind::BYTE } else { kind::NORMAL })?;
        }
        for token in &added {
            let control = token.special || looks_special(token.content);
            let kind = match () {
                () if bytes && unknown == Some(token.content) => kind::UNKNOWN,
                () if control => kind::CONTROL,
                () => kind::USER_DEFINED,
            };
            let text = if control { token.content.to_owned() } else { token.content.replace('▁', " ") };
            put(token.id as u64, &text, kind)?;
        }

        let merges = self.merges(model)?;
        let mut vocab = GgufVocab { tokens, token_types: Some(types), ..GgufVocab::default() };
        if bytes {
            self.sentencepiece(&mut vocab, entries, &merges)?;
        } else {
            vocab.model = "gpt2".into();
            vocab.pre = Some(self.pre_tokenizer()?.into());
            // A space separates the two; one inside is spelled as byte-level BPE spells it.
            let part = |text: &str| text.replace(' ', "Ġ");
            vocab.merges = Some(merges.iter().map(|(a, b)| format!("{} {}", part(a), part(b))).collect());
        }
        self.special_tokens(&mut vocab, entries, &added)?;
        Ok(vocab)
    }

    fn added(&self) -> Result<Vec<Added<'a>>, WeightsError> {
        let list = self.json["added_tokens"].as_array().map(Vec::as_slice).unwrap_or_default();
        list.iter()
            .map(|token| {
                let id = token["id"].as_u64().and_then(|id| usize::try_from(id).ok());
                match (id, token["content"].as_str()) {
                    (Some(id), Some(content)) => {
                        Ok(Added { id, content, special: token["special"].as_bool().unwrap_or(false) })
                    }
                    _ => Err(self.malformed("added_tokens", "an entry lacks its id or content")),
                }
            })
            .collect()
    }

    /// The merges, in either of the two forms that are written.
    fn merges(&self, model: &'a Value) -> Result<Vec<(&'a str, &'a str)>, WeightsError> {
        let list = model["merges"].as_array().ok_or_else(|| self.malformed("model.merges", "it is no list"))?;
        list.iter()
            .filter(|merge| !merge.as_str().is_some_and(|m| m.starts_with("#version")))
            .map(|merge| {
                let pair = match merge {
                    Value::String(line) => line.split_once(' '),
                    Value::Array(pair) => match pair.as_slice() {
                        [Value::String(a), Value::String(b)] => Some((a.as_str(), b.as_str())),
                        _ => None,
                    },
                    _ => None,
                };
                pair.ok_or_else(|| self.malformed("model.merges", format!("{merge} is no pair of tokens")))
            })
            .collect()
    }

    /// GGUF's name for the way this tokenizer cuts text into words.
    fn pre_tokenizer(&self) -> Result<&'static str, WeightsError> {
        if !self.json["normalizer"].is_null()
            && self.json["normalizer"] != json!({"type": "Sequence", "normalizers": []})
        {
            return self.unsupported("normalizer", shown(self.json["normalizer"]["type"].as_str().unwrap_or("?")));
        }
        let pre = &self.json["pre_tokenizer"];
        let steps: Vec<&Value> = match pre["type"].as_str() {
            Some("Sequence") => pre["pretokenizers"].as_array().into_iter().flatten().collect(),
            _ => vec![pre],
        };
        let byte_level = |step: &Value, regex: bool| {
            step["type"] == "ByteLevel"
                && step["add_prefix_space"] != true
                && step["use_regex"].as_bool().unwrap_or(true) == regex
        };
        let split = |step: &Value, patterns: &[&str]| {
            step["type"] == "Split"
                && step["behavior"] == "Isolated"
                && step["invert"] != true
                && step["pattern"]["Regex"].as_str().is_some_and(|p| patterns.contains(&p))
        };
        let digits = |step: &Value| step["type"] == "Digits" && step["individual_digits"] == true;
        let name = match steps.as_slice() {
            [a] if byte_level(a, true) => "gpt-2",
            [a, b] if split(a, &GPT2) && byte_level(b, false) => "gpt-2",
            [a, b] if split(a, &[LLAMA3]) && byte_level(b, false) => "llama-bpe",
            [a, b] if digits(a) && byte_level(b, true) => "smollm",
            [a, b, c] if digits(a) && split(b, &GPT2) && byte_level(c, false) => "smollm",
            _ => {
                let found: String = pre.to_string().chars().take(200).collect();
                return self.unsupported("pre_tokenizer", format!("{found}, none of llama-bpe, smollm and gpt-2,"));
            }
        };
        Ok(name)
    }

    /// Scores out of the order of the merges: SentencePiece joins the pair with the best score first, as BPE the pair
    /// with the first merge.
    fn sentencepiece(
        &self,
        vocab: &mut GgufVocab,
        entries: &Map<String, Value>,
        merges: &[(&str, &str)],
    ) -> Result<(), WeightsError> {
        vocab.model = "llama".into();
        vocab.pre = Some("default".into());
        vocab.add_space_prefix = Some(self.space_prefix()?);
        // A token that no merge gives comes after all that one does; special tokens have no score.
        let last = -(merges.len() as f32) - 1.0;
        let types = vocab.token_types.as_deref().unwrap_or_default();
        let score = |kind: &i32| if *kind == kind::NORMAL { last } else { 0.0 };
        let mut scores: Vec<f32> = types.iter().map(score).collect();
        let mut ranked = vec![false; scores.len()];
        for (rank, (a, b)) in merges.iter().enumerate() {
            let Some(id) = entries.get(&format!("{a}{b}")).and_then(Value::as_u64) else {
                let found =
                    format!("{} joins two tokens to one that is not there", quoted(format!("{a} {b}").as_bytes()));
                return Err(self.malformed("model.merges", found));
            };
            let id = id as usize;
            if !std::mem::replace(&mut ranked[id], true) {
                scores[id] = -(rank as f32) - 1.0;
            }
        }
        vocab.scores = Some(scores);
        Ok(())
    }

    /// Whether a space goes before the first word; everything else must be as in Llama 2.
    fn space_prefix(&self) -> Result<bool, WeightsError> {
        let normalizer = &self.json["normalizer"];
        let replaces =
            |step: &Value| step["type"] == "Replace" && step["pattern"]["String"] == " " && step["content"] == "▁";
        let prepends = |step: &Value| step["type"] == "Prepend" && step["prepend"] == "▁";
        let steps: Vec<&Value> = match normalizer["type"].as_str() {
            Some("Sequence") => normalizer["normalizers"].as_array().into_iter().flatten().collect(),
            None => Vec::new(),
            Some(_) => vec![normalizer],
        };
        let pre = &self.json["pre_tokenizer"];
        let metaspace = pre["type"] == "Metaspace" && pre["replacement"] == "▁" && pre["split"] == false;
        match steps.as_slice() {
            [a, b] if prepends(a) && replaces(b) && pre.is_null() => Ok(true),
            [a] if replaces(a) && pre.is_null() => Ok(false),
            [] if metaspace => match pre["prepend_scheme"].as_str().unwrap_or("always") {
                "always" | "first" => Ok(true),
                "never" => Ok(false),
                other => self.unsupported("pre_tokenizer.prepend_scheme", shown(other)),
            },
            _ => self.unsupported("normalizer", "another than Llama's (Prepend and Replace, or Metaspace)"),
        }
    }

    fn special_tokens(
        &self,
        vocab: &mut GgufVocab,
        entries: &Map<String, Value>,
        added: &[Added<'_>],
    ) -> Result<(), WeightsError> {
        let id_of = |text: &str| {
            let added = added.iter().find(|t| t.content == text).map(|t| t.id as u64);
            added.or_else(|| entries.get(text)?.as_u64()).and_then(|id| u32::try_from(id).ok())
        };
        let named = |field: &str| {
            let token = &self.config[field];
            token.as_str().or_else(|| token["content"].as_str()).and_then(id_of)
        };
        vocab.bos = named("bos_token");
        vocab.eos = named("eos_token");
        vocab.pad = named("pad_token");
        vocab.unk = named("unk_token").or_else(|| self.json["model"]["unk_token"].as_str().and_then(id_of));
        let (before, after) = self.frame();
        let flag = |field: &str| self.config[field].as_bool();
        vocab.bos = vocab.bos.or_else(|| before.and_then(id_of));
        // What the post-processor adds is what the tokenizer does; a flag beside it overrides that in transformers 5.
        let adds = |token: Option<&str>, id: Option<u32>| token.and_then(id_of).is_some_and(|t| Some(t) == id);
        if let Some(token) = before.filter(|t| id_of(t) != vocab.bos) {
            return self.unsupported(
                "post_processor",
                format!("{} before the text, which is not the bos token,", shown(token)),
            );
        }
        if let Some(token) = after.filter(|t| id_of(t) != vocab.eos) {
            return self.unsupported(
                "post_processor",
                format!("{} behind the text, which is not the eos token,", shown(token)),
            );
        }
        vocab.add_bos = Some(flag("add_bos_token").unwrap_or(adds(before, vocab.bos)));
        vocab.add_eos = Some(flag("add_eos_token").unwrap_or(adds(after, vocab.eos)));
        Ok(())
    }

    /// The special tokens that the post-processor puts before and behind a text.
    fn frame(&self) -> (Option<&'a str>, Option<&'a str>) {
        let post = &self.json["post_processor"];
        let steps: Vec<&Value> = match post["type"].as_str() {
            Some("Sequence") => post["processors"].as_array().into_iter().flatten().collect(),
            _ => vec![post],
        };
        let Some(template) = steps.into_iter().find(|s| s["type"] == "TemplateProcessing") else { return (None, None) };
        let single = template["single"].as_array().map(Vec::as_slice).unwrap_or_default();
        let special = |step: Option<&'a Value>| step.and_then(|s| s["SpecialToken"]["id"].as_str());
        (special(single.first()), special(single.last()))
    }
}

/// True for `<0x00>` to `<0xFF>`.
fn is_byte(text: &str) -> bool {
    let digits = text.strip_prefix("<0x").and_then(|t| t.strip_suffix('>'));
    digits.is_some_and(|d| d.len() == 2 && d.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// True for tokens that some models forget to mark as special.
fn looks_special(text: &str) -> bool {
    matches!(text, "<pad>" | "<mask>" | "<2mass>" | "[@BOS@]") || (text.starts_with("<|") && text.ends_with("|>"))
}
