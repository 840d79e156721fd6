//! From the vocabulary of a GGUF file to `tokenizer.json` and `tokenizer_config.json`.
//!
//! The pieces are those that transformers gives Llama tokenizers (`convert_slow_tokenizer.py`, `integrations/ggml.py`): for
//! byte-level BPE the pre-tokenizer behind its name, for SentencePiece the merges that its scores imply.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use camelid_core::tokenizer::GgufVocab;
use serde_json::{Map, Value, json};

use super::vocab::{GPT2, LLAMA3, kind};
use crate::WeightsError;
use crate::error::{MAKE_AGAIN, quoted, shown};

/// The two files.
pub(super) struct TokenizerJson {
    pub(super) tokenizer: Value,
    pub(super) config: Value,
}

/// Makes the files; `context` is the longest text.
pub(super) fn make(path: &Path, vocab: &GgufVocab, context: u64) -> Result<TokenizerJson, WeightsError> {
    let maker = Maker { path, vocab };
    let sentencepiece = match vocab.model.as_str() {
        "llama" => true,
        "gpt2" => false,
        other => {
            let remedy = "\"llama\" and \"gpt2\" are converted: take the tokenizer of the model it was made from";
            return Err(WeightsError::unsupported(path, "tokenizer.ggml.model", shown(other), remedy));
        }
    };
    let (mut entries, added) = maker.tokens(sentencepiece)?;
    let (normalizer, pre_tokenizer, decoder, model) =
        if sentencepiece { maker.sentencepiece(&mut entries)? } else { maker.byte_level(&mut entries)? };
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": maker.post_processor(sentencepiece),
        "decoder": decoder,
        "model": model,
    });
    let mut config = Map::new();
    let token = |id: Option<u32>| id.and_then(|id| vocab.tokens.get(id as usize));
    for (field, id) in
        [("bos_token", vocab.bos), ("eos_token", vocab.eos), ("unk_token", vocab.unk), ("pad_token", vocab.pad)]
    {
        if let Some(text) = token(id) {
            config.insert(field.into(), json!(text));
        }
    }
    config.insert("tokenizer_class".into(), json!("PreTrainedTokenizerFast"));
    config.insert("clean_up_tokenization_spaces".into(), json!(false));
    config.insert("model_max_length".into(), json!(context));
    if let Some(template) = &vocab.chat_template {
        config.insert("chat_template".into(), json!(template));
    }
    Ok(TokenizerJson { tokenizer, config: Value::Object(config) })
}

/// Texts and ids, in order of the ids.
type Entries<'a> = BTreeMap<u32, &'a str>;

struct Maker<'a> {
    path: &'a Path,
    vocab: &'a GgufVocab,
}

impl<'a> Maker<'a> {
    fn malformed(&self, key: &str, found: String) -> WeightsError {
        WeightsError::malformed(self.path, format!("tokenizer.ggml.{key}"), found, MAKE_AGAIN)
    }

    fn kind(&self, id: usize) -> i32 {
        self.vocab.token_types.as_ref().map_or(kind::NORMAL, |types| types[id])
    }

    /// The entries of the model, and the list of added tokens. Padding that only fills up the embeddings is neither.
    fn tokens(&self, sentencepiece: bool) -> Result<(Entries<'a>, Vec<Value>), WeightsError> {
        let mut entries = Entries::new();
        let mut added = Vec::new();
        let mut seen: HashMap<&str, usize> = HashMap::new();
        let special = [self.vocab.bos, self.vocab.eos, self.vocab.eot, self.vocab.eom, self.vocab.pad];
        // The library numbers added tokens on from those of the model: only those that follow it directly need no place
        // in it.
        let mut gap = false;
        let normal = |id: &usize| matches!(self.kind(*id), kind::NORMAL | kind::BYTE);
        let last = (0..self.vocab.tokens.len()).rev().find(normal).unwrap_or(0);
        for (i, text) in self.vocab.tokens.iter().enumerate() {
            // The reader counted the types against the tokens.
            let (id, kind) = (i as u32, self.kind(i));
            if kind == kind::UNUSED && text == &format!("[PAD{i}]") {
                gap = true;
                continue;
            }
            if let Some(first) = seen.insert(text, i) {
                let found = format!("token {i} is {} again, the text of token {first}", quoted(text.as_bytes()));
                return Err(self.malformed("tokens", found));
            }
            let is_special = matches!(kind, kind::CONTROL | kind::UNKNOWN) || special.contains(&Some(id));
            let is_added = is_special || kind == kind::USER_DEFINED;
            if is_added {
                added.push(json!({
                    "id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": is_special,
                }));
            }
            if sentencepiece || !is_added || i < last || gap {
                entries.insert(id, text);
            }
        }
        Ok((entries, added))
    }

    fn byte_level(&self, entries: &mut Entries<'a>) -> Result<(Value, Value, Value, Value), WeightsError> {
        let merges = self.vocab.merges.as_ref().ok_or_else(|| self.malformed("merges", "it is missing".into()))?;
        let mut pairs = Vec::with_capacity(merges.len());
        for merge in merges {
            // The left token may itself begin with a space.
            let cut = merge.char_indices().skip(1).find(|(_, c)| *c == ' ').map(|(at, _)| at);
            let cut =
                cut.ok_or_else(|| self.malformed("merges", format!("{} is no pair", quoted(merge.as_bytes()))))?;
            pairs.push(json!([merge[..cut], merge[cut + 1..]]));
        }
        let regex = |pattern: &str| json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
        let byte_level = |use_regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex});
        let sequence = |steps: [Value; 2]| json!({"type": "Sequence", "pretokenizers": steps});
        let pre = self.vocab.pre.as_deref().unwrap_or("default");
        let llama3 = matches!(pre, "llama-bpe" | "llama3" | "llama-v3");
        let pre_tokenizer = match pre {
            _ if llama3 => sequence([regex(LLAMA3), byte_level(false)]),
            "smollm" => sequence([json!({"type": "Digits", "individual_digits": true}), byte_level(true)]),
            "gpt-2" => sequence([regex(GPT2[0]), byte_level(false)]),
            other => {
                let remedy =
                    "llama-bpe, smollm and gpt-2 are converted: take the tokenizer of the model it was made from";
                return Err(WeightsError::unsupported(self.path, "tokenizer.ggml.pre", shown(other), remedy));
            }
        };
        let model = json!({
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": llama3,
            "vocab": vocabulary(entries), "merges": pairs,
        });
        let decoder = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
        Ok((Value::Null, pre_tokenizer, decoder, model))
    }

    fn sentencepiece(&self, entries: &mut Entries<'a>) -> Result<(Value, Value, Value, Value), WeightsError> {
        let scores = self.vocab.scores.as_ref().ok_or_else(|| self.malformed("scores", "it is missing".into()))?;
        let ids: HashMap<&str, u32> = entries.iter().map(|(id, text)| (*text, *id)).collect();
        let mut merges: Vec<(f32, &str, &str)> = Vec::new();
        for (id, text) in &*entries {
            if self.kind(*id as usize) != kind::NORMAL {
                continue;
            }
            let mut pairs: Vec<(u32, u32, &str, &str)> = text
                .char_indices()
                .skip(1)
                .filter_map(|(at, _)| {
                    let (a, b) = text.split_at(at);
                    Some((*ids.get(a)?, *ids.get(b)?, a, b))
                })
                .collect();
            pairs.sort_unstable();
            merges.extend(pairs.into_iter().map(|(_, _, a, b)| (scores[*id as usize], a, b)));
        }
        // Stable, so that equal ones stay in the order of their tokens.
        let chars = |text: &str| text.chars().count();
        merges.sort_by(|x, y| y.0.total_cmp(&x.0).then(chars(y.1).cmp(&chars(x.1))).then(chars(y.2).cmp(&chars(x.2))));
        let prefix = self.vocab.add_space_prefix.unwrap_or(true);
        let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
        let normalizer = if prefix {
            json!({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, replace]})
        } else {
            replace
        };
        let mut decoders = vec![
            json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
            json!({"type": "ByteFallback"}),
            json!({"type": "Fuse"}),
        ];
        if prefix {
            decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
        }
        let unknown = self.vocab.unk.and_then(|id| self.vocab.tokens.get(id as usize));
        let model = json!({
            "type": "BPE", "dropout": null, "unk_token": unknown, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
            "vocab": vocabulary(entries), "merges": merges.iter().map(|(_, a, b)| json!([a, b])).collect::<Vec<_>>(),
        });
        Ok((normalizer, Value::Null, json!({"type": "Sequence", "decoders": decoders}), model))
    }

    /// A template that frames a text with the bos and eos tokens, as far as they are added.
    fn post_processor(&self, sentencepiece: bool) -> Value {
        let vocab = self.vocab;
        let llama3 = vocab.pre.as_deref().is_some_and(|pre| matches!(pre, "llama-bpe" | "llama3" | "llama-v3"));
        let add_bos = vocab.add_bos.unwrap_or(sentencepiece || llama3);
        let token = |add: bool, id: Option<u32>| {
            let id = id.filter(|_| add)?;
            Some((id, vocab.tokens.get(id as usize)?))
        };
        let bos = token(add_bos, vocab.bos);
        let eos = token(vocab.add_eos.unwrap_or(false), vocab.eos);
        if bos.is_none() && eos.is_none() {
            return Value::Null;
        }
        let special = |token: Option<(u32, &String)>, segment: u32| {
            token.map(|(_, text)| json!({"SpecialToken": {"id": text, "type_id": segment}}))
        };
        let framed = |name: &str, segment: u32| {
            let text = json!({"Sequence": {"id": name, "type_id": segment}});
            special(bos, segment).into_iter().chain([text]).chain(special(eos, segment)).collect::<Vec<_>>()
        };
        let specials: Map<String, Value> = [bos, eos]
            .into_iter()
            .flatten()
            .map(|(id, text)| (text.clone(), json!({"id": text, "ids": [id], "tokens": [text]})))
            .collect();
        let pair: Vec<Value> = framed("A", 0).into_iter().chain(framed("B", 1)).collect();
        json!({"type": "TemplateProcessing", "single": framed("A", 0), "pair": pair, "special_tokens": specials})
    }
}

fn vocabulary(entries: &Entries<'_>) -> Value {
    Value::Object(entries.iter().map(|(id, text)| ((*text).to_owned(), json!(id))).collect())
}
