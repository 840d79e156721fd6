//! `LlamaTokenizer`: a tokenizer out of its parts, with every parameter of transformers' class of this name.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use camelid_core::tokenizer::TokenId;
use serde_json::{Value, json};

use crate::config::{NamedTemplate, Side, SpecialToken, TokenizerConfig};
use crate::error::{LoadError, read};
use crate::hf::HfTokenizer;
use crate::json::from_value;

/// The tokenizer class of the Llama documentation. Whatever a tokenizer is made of, it is of this one type.
pub type LlamaTokenizer = HfTokenizer;

/// The name that transformers keeps for older programs.
pub type LlamaTokenizerFast = LlamaTokenizer;

const ORIGIN: &str = "LlamaTokenizer";

/// A vocabulary: the tokens and their ids.
#[derive(Clone, Debug)]
pub enum Vocabulary {
    /// A `vocab.json`: an object of tokens and ids, or a list of tokens in order of their ids.
    File(PathBuf),
    /// Tokens with their ids.
    Ids(Vec<(String, TokenId)>),
    /// Tokens in order of their ids.
    Tokens(Vec<String>),
}

/// Merges, the first to be tried first.
#[derive(Clone, Debug)]
pub enum Merges {
    /// A `merges.txt`: `left right` on each line, the first of which may be a `#version`.
    File(PathBuf),
    /// Left and right tokens.
    Pairs(Vec<(String, String)>),
}

/// The parts of a [`LlamaTokenizer`]: byte-pair encoding over spaces written `▁`, with byte fallback and no
/// normalization.
///
/// The parameters, their defaults and their effects are those of `LlamaTokenizer` of transformers 5.8.0
/// (`models/llama/tokenization_llama.py`). A vocabulary given as a list has its positions for ids, as the
/// documentation says (5.8.0 refuses it).
///
/// ```
/// use camelid_core::tokenizer::{EncodeOptions, Tokenizer};
/// use camelid_tokenizer::{LlamaTokenizer, Merges, Vocabulary};
///
/// let tokens = ["<unk>", "<s>", "</s>", "▁", "h", "i", "hi", "▁hi"].map(str::to_owned);
/// let merges = [("h", "i"), ("▁", "hi")].map(|(l, r)| (l.to_owned(), r.to_owned()));
/// let tokenizer = LlamaTokenizer::builder()
///     .vocab(Vocabulary::Tokens(tokens.into()))
///     .merges(Merges::Pairs(merges.into()))
///     .add_bos_token(true)
///     .build()?;
/// assert_eq!(tokenizer.encode("hi hi", EncodeOptions::default())?.ids, [1, 7, 7]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct LlamaTokenizerBuilder {
    vocab: Option<Vocabulary>,
    merges: Merges,
    config: TokenizerConfig,
}

impl HfTokenizer {
    /// The parts of a new tokenizer, none of them given yet.
    pub fn builder() -> LlamaTokenizerBuilder {
        LlamaTokenizerBuilder {
            vocab: None,
            merges: Merges::Pairs(Vec::new()),
            config: TokenizerConfig {
                unk_token: Some("<unk>".into()),
                bos_token: Some("<s>".into()),
                eos_token: Some("</s>".into()),
                tokenizer_class: Some("LlamaTokenizer".to_owned()),
                ..TokenizerConfig::default()
            },
        }
    }
}

impl LlamaTokenizerBuilder {
    /// The tokens and their ids. Without it, the unknown token is 0, the bos token 1, the eos token 2.
    pub fn vocab(mut self, vocab: Vocabulary) -> Self {
        self.vocab = Some(vocab);
        self
    }

    /// The merges; without them every character is a token.
    pub fn merges(mut self, merges: Merges) -> Self {
        self.merges = merges;
        self
    }

    /// Whether decoding removes spaces before punctuation. As in transformers, BPE vocabularies are left as they are;
    /// see [`TokenizerConfig::clean_up_bpe_too`].
    pub fn clean_up_tokenization_spaces(mut self, clean_up: bool) -> Self {
        self.config.clean_up_tokenization_spaces = clean_up;
        self
    }

    /// The unknown token; `<unk>` without it. A token that is not in the vocabulary has its id.
    pub fn unk_token(mut self, token: impl Into<SpecialToken>) -> Self {
        self.config.unk_token = Some(token.into());
        self
    }

    /// The beginning-of-sequence token; `<s>` without it.
    pub fn bos_token(mut self, token: impl Into<SpecialToken>) -> Self {
        self.config.bos_token = Some(token.into());
        self
    }

    /// The end-of-sequence token; `</s>` without it.
    pub fn eos_token(mut self, token: impl Into<SpecialToken>) -> Self {
        self.config.eos_token = Some(token.into());
        self
    }

    /// The padding token; there is none without it.
    pub fn pad_token(mut self, token: impl Into<SpecialToken>) -> Self {
        self.config.pad_token = Some(token.into());
        self
    }

    /// Further special tokens (`extra_special_tokens`, `additional_special_tokens`).
    pub fn extra_special_tokens(mut self, tokens: Vec<SpecialToken>) -> Self {
        self.config.additional_special_tokens = tokens;
        self
    }

    /// Whether a sequence begins with the bos token; false without it.
    pub fn add_bos_token(mut self, add: bool) -> Self {
        self.config.add_bos_token = Some(add);
        self
    }

    /// Whether a sequence ends with the eos token; false without it.
    pub fn add_eos_token(mut self, add: bool) -> Self {
        self.config.add_eos_token = Some(add);
        self
    }

    /// Stored and saved; nothing in transformers 5 depends on it.
    pub fn use_default_system_prompt(mut self, yes: bool) -> Self {
        self.config.use_default_system_prompt = yes;
        self
    }

    /// Whether a space goes in front of the first word; true without it.
    pub fn add_prefix_space(mut self, add: bool) -> Self {
        self.config.add_prefix_space = Some(add);
        self
    }

    /// Whether that space also goes behind each special token; false without it.
    pub fn legacy(mut self, legacy: bool) -> Self {
        self.config.legacy = Some(legacy);
        self
    }

    /// The side that padding goes to; the left one without it.
    pub fn padding_side(mut self, side: Side) -> Self {
        self.config.padding_side = Some(side);
        self
    }

    /// The side that truncation cuts; the right one without it.
    pub fn truncation_side(mut self, side: Side) -> Self {
        self.config.truncation_side = Some(side);
        self
    }

    /// The most tokens the model takes: what truncation and padding go by if a call names no length.
    pub fn model_max_length(mut self, length: usize) -> Self {
        self.config.model_max_length = Some(length);
        self
    }

    /// Whether special tokens that are written out in a text are plain text; false without it.
    pub fn split_special_tokens(mut self, split: bool) -> Self {
        self.config.split_special_tokens = split;
        self
    }

    /// The chat templates.
    pub fn chat_templates(mut self, templates: Vec<NamedTemplate>) -> Self {
        self.config.chat_templates = templates;
        self
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// For files that cannot be read, ids that are there twice, merges of tokens that are not there.
    pub fn build(self) -> Result<LlamaTokenizer, LoadError> {
        let mut config = self.config;
        let (tokens, vocab_origin) = match self.vocab {
            Some(Vocabulary::File(path)) => (vocab_file(&path)?, path.display().to_string()),
            Some(Vocabulary::Ids(tokens)) => (tokens, ORIGIN.to_owned()),
            Some(Vocabulary::Tokens(tokens)) => (tokens.into_iter().zip(0..).collect(), ORIGIN.to_owned()),
            None => {
                let named = [&config.unk_token, &config.bos_token, &config.eos_token].into_iter().flatten();
                let mut tokens: Vec<(String, TokenId)> = Vec::new();
                for token in named {
                    if tokens.iter().all(|(text, _)| *text != token.content) {
                        tokens.push((token.content.clone(), tokens.len() as TokenId));
                    }
                }
                (tokens, ORIGIN.to_owned())
            }
        };
        let mut ids: HashMap<&str, TokenId> = HashMap::with_capacity(tokens.len());
        for (text, id) in &tokens {
            if let Some(first) = ids.insert(text, *id) {
                let found = format!("{text:?} has the ids {first} and {id}");
                return Err(LoadError::field(&vocab_origin, "vocab", found, "a token has one id"));
            }
        }
        // As transformers does, special tokens that the vocabulary lacks get the ids behind it, in this order.
        let mut added: Vec<(TokenId, SpecialToken)> = Vec::new();
        let mut next = tokens.len() as TokenId;
        for token in config.named().chain(&config.additional_special_tokens) {
            if added.iter().any(|(_, known)| known.content == token.content) {
                continue;
            }
            let id = ids.get(token.content.as_str()).copied().unwrap_or_else(|| {
                next += 1;
                next - 1
            });
            added.push((id, token.clone()));
        }
        // The library gives ids in order.
        added.sort_by_key(|(id, _)| *id);
        config.add_bos_token = Some(config.add_bos_token.unwrap_or(false));
        config.add_eos_token = Some(config.add_eos_token.unwrap_or(false));
        let merges = match self.merges {
            Merges::File(path) => merges_file(&path)?,
            Merges::Pairs(pairs) => pairs,
        };
        LlamaParts {
            unk_token: None,
            byte_fallback: true,
            normalizer: Value::Null,
            prepend_scheme: prepend_scheme(config.add_prefix_space.unwrap_or(true), config.legacy.unwrap_or(false)),
            tokens,
            merges,
            added,
            config,
        }
        .assemble(&vocab_origin)
    }
}

/// The name of Metaspace's scheme: where it puts a space that the text does not have.
pub(crate) fn prepend_scheme(add_prefix_space: bool, legacy: bool) -> &'static str {
    match (add_prefix_space, legacy) {
        (false, _) => "never",
        (true, false) => "first",
        (true, true) => "always",
    }
}

/// All that goes into a tokenizer of this kind.
pub(crate) struct LlamaParts {
    pub tokens: Vec<(String, TokenId)>,
    pub merges: Vec<(String, String)>,
    /// What stands for a character that is no token, nor its bytes; without it the character is lost.
    pub unk_token: Option<String>,
    pub byte_fallback: bool,
    pub normalizer: Value,
    pub prepend_scheme: &'static str,
    /// Tokens that are found before all merging, in order of their ids.
    pub added: Vec<(TokenId, SpecialToken)>,
    pub config: TokenizerConfig,
}

impl LlamaParts {
    /// The tokenizer.
    pub(crate) fn assemble(self, origin: &str) -> Result<LlamaTokenizer, LoadError> {
        let mut decoders = vec![
            json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
            json!({"type": "ByteFallback"}),
            json!({"type": "Fuse"}),
        ];
        if self.prepend_scheme != "never" {
            decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
        }
        let added: Vec<Value> = self.added.iter().map(|(id, token)| token.to_json(*id)).collect();
        let vocab: serde_json::Map<String, Value> =
            self.tokens.into_iter().map(|(text, id)| (text, id.into())).collect();
        let json = json!({
            "version": "1.0",
            "added_tokens": added,
            "normalizer": self.normalizer,
            "pre_tokenizer": {
                "type": "Metaspace", "replacement": "▁", "prepend_scheme": self.prepend_scheme, "split": false,
            },
            "post_processor": null,
            "decoder": {"type": "Sequence", "decoders": decoders},
            "model": {
                "type": "BPE",
                "dropout": null,
                "unk_token": self.unk_token,
                "continuing_subword_prefix": null,
                "end_of_word_suffix": null,
                "fuse_unk": true,
                "byte_fallback": self.byte_fallback,
                "ignore_merges": false,
                "vocab": vocab,
                "merges": self.merges,
            },
        });
        from_value(json, self.config, origin)
    }
}

/// The tokens of a `vocab.json`.
fn vocab_file(path: &Path) -> Result<Vec<(String, TokenId)>, LoadError> {
    let origin = path.display().to_string();
    let json =
        serde_json::from_slice(&read(path)?).map_err(|source| LoadError::Json { origin: origin.clone(), source })?;
    let refuse = |field: String, found: String, remedy: &str| Err(LoadError::field(&origin, field, found, remedy));
    match json {
        Value::Object(tokens) => {
            let mut ids = Vec::with_capacity(tokens.len());
            for (token, id) in tokens {
                let Some(number) = id.as_u64().and_then(|id| TokenId::try_from(id).ok()) else {
                    return refuse(format!("[{token:?}]"), id.to_string(), "an id is a number of 32 bits");
                };
                ids.push((token, number));
            }
            Ok(ids)
        }
        Value::Array(tokens) => {
            let mut ids = Vec::with_capacity(tokens.len());
            for (token, id) in tokens.into_iter().zip(0..) {
                let Value::String(token) = token else {
                    return refuse(format!("[{id}]"), token.to_string(), "a list holds tokens as strings");
                };
                ids.push((token, id));
            }
            Ok(ids)
        }
        _ => refuse("the file".into(), "neither an object nor a list".into(), "it has to be a vocab.json"),
    }
}

/// The pairs of a `merges.txt`.
fn merges_file(path: &Path) -> Result<Vec<(String, String)>, LoadError> {
    let origin = path.display().to_string();
    let text = String::from_utf8(read(path)?)
        .map_err(|e| LoadError::field(&origin, "the file", e.to_string(), "it has to be UTF-8 text"))?;
    let mut pairs = Vec::new();
    for (n, line) in text.lines().enumerate() {
        if line.starts_with("#version") || line.is_empty() {
            continue;
        }
        let Some((left, right)) = line.split_once(' ') else {
            let field = format!("line {}", n + 1);
            return Err(LoadError::field(
                &origin,
                field,
                format!("{line:?}"),
                "a merge is two tokens with a space between",
            ));
        };
        pairs.push((left.to_owned(), right.to_owned()));
    }
    Ok(pairs)
}
