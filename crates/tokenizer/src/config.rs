//! `tokenizer_config.json`, `special_tokens_map.json` and the chat template files: what is said about a tokenizer outside
//! of `tokenizer.json`.

use camelid_core::tokenizer::TokenId;
use serde_json::{Map, Value};

use crate::error::LoadError;

/// What `tokenizer_config.json` says, as far as encoding, decoding and chat templates depend on it. The class name in
/// it decides nothing: `tokenizer.json` does.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenizerConfig {
    /// Beginning of sequence.
    pub bos_token: Option<SpecialToken>,
    /// End of sequence.
    pub eos_token: Option<SpecialToken>,
    /// Stands for what the vocabulary cannot write.
    pub unk_token: Option<SpecialToken>,
    /// Padding.
    pub pad_token: Option<SpecialToken>,
    /// Further special tokens (`additional_special_tokens`, or `extra_special_tokens` in newer files; `sep_token`,
    /// `cls_token` and `mask_token` too, which a Llama has no use for).
    pub additional_special_tokens: Vec<SpecialToken>,
    /// `added_tokens_decoder`: tokens with the ids they have. Read where a vocabulary file names none (tiktoken's).
    pub added_tokens: Vec<(TokenId, SpecialToken)>,
    /// Put the bos token in front; `None` leaves it to the post-processor of `tokenizer.json`.
    pub add_bos_token: Option<bool>,
    /// Put the eos token behind; `None` leaves it to the post-processor of `tokenizer.json`.
    pub add_eos_token: Option<bool>,
    /// Remove spaces before punctuation when decoding. As in transformers, it has no effect on BPE vocabularies, where
    /// it would change what the tokens say.
    pub clean_up_tokenization_spaces: bool,
    /// Do so for BPE vocabularies too (`clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output`).
    pub clean_up_bpe_too: bool,
    /// Put a space in front of the first word; only read where a vocabulary file does not say (`tokenizer.model`).
    pub add_prefix_space: Option<bool>,
    /// Put a space behind each special token too; only read as `add_prefix_space` is.
    pub legacy: Option<bool>,
    /// Stored for chat templates; transformers 5 reads and writes it and does nothing with it.
    pub use_default_system_prompt: bool,
    /// Take special tokens that are written out in a text as plain text.
    pub split_special_tokens: bool,
    /// The side that padding goes to; see [`padding_side`](Self::padding_side).
    pub padding_side: Option<Side>,
    /// The side that truncation cuts; without it the right one.
    pub truncation_side: Option<Side>,
    /// The most tokens the model takes; `None` if the file says nothing or names a number beyond all bounds.
    pub model_max_length: Option<usize>,
    /// The class that transformers would make. Only the default of the padding side depends on it.
    pub tokenizer_class: Option<String>,
    /// The chat templates; a single one is called `default`.
    pub chat_templates: Vec<NamedTemplate>,
}

/// One end of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// In front of the first token.
    Left,
    /// Behind the last token.
    Right,
}

impl Side {
    /// `left` or `right`.
    pub fn name(self) -> &'static str {
        match self {
            Side::Left => "left",
            Side::Right => "right",
        }
    }
}

/// A special token as a configuration names it: a string, or an object with matching rules (`AddedToken`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecialToken {
    /// The token as it is written.
    pub content: String,
    /// Match only as a whole word.
    pub single_word: bool,
    /// Take the white space on the left along.
    pub lstrip: bool,
    /// Take the white space on the right along.
    pub rstrip: bool,
    /// Match in the normalized text.
    pub normalized: bool,
    /// Left out of decoded text where special tokens are.
    pub special: bool,
}

impl SpecialToken {
    /// A special token without matching rules.
    pub fn new(content: impl Into<String>) -> Self {
        SpecialToken {
            content: content.into(),
            single_word: false,
            lstrip: false,
            rstrip: false,
            normalized: false,
            special: true,
        }
    }

    /// The token that the library has.
    pub(crate) fn of_added(token: &tokenizers::AddedToken) -> Self {
        SpecialToken {
            content: token.content.clone(),
            single_word: token.single_word,
            lstrip: token.lstrip,
            rstrip: token.rstrip,
            normalized: token.normalized,
            special: token.special,
        }
    }

    /// The token with its id, as `tokenizer.json` lists it.
    pub(crate) fn to_json(&self, id: TokenId) -> Value {
        serde_json::json!({
            "id": id,
            "content": self.content,
            "single_word": self.single_word,
            "lstrip": self.lstrip,
            "rstrip": self.rstrip,
            "normalized": self.normalized,
            "special": self.special,
        })
    }

    /// The token as the library takes it.
    pub(crate) fn added(&self) -> tokenizers::AddedToken {
        tokenizers::AddedToken::from(self.content.as_str(), self.special)
            .single_word(self.single_word)
            .lstrip(self.lstrip)
            .rstrip(self.rstrip)
            .normalized(self.normalized)
    }
}

impl From<&str> for SpecialToken {
    fn from(content: &str) -> Self {
        SpecialToken::new(content)
    }
}

impl From<String> for SpecialToken {
    fn from(content: String) -> Self {
        SpecialToken::new(content)
    }
}

/// A chat template and its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedTemplate {
    /// `default`, `tool_use`, ...
    pub name: String,
    /// The Jinja source.
    pub template: String,
}

impl TokenizerConfig {
    /// Reads the bytes of a `tokenizer_config.json`; `origin` names them in errors. Unknown keys are left alone, and
    /// `null` is the same as a missing key.
    pub fn from_json(bytes: &[u8], origin: &str) -> Result<Self, LoadError> {
        let json = parse_object(bytes, origin)?;
        let mut config = TokenizerConfig {
            add_bos_token: boolean(&json, "add_bos_token", origin)?,
            add_eos_token: boolean(&json, "add_eos_token", origin)?,
            clean_up_tokenization_spaces: boolean(&json, "clean_up_tokenization_spaces", origin)?.unwrap_or(false),
            clean_up_bpe_too: boolean(&json, CLEAN_UP_BPE, origin)?.unwrap_or(false),
            add_prefix_space: boolean(&json, "add_prefix_space", origin)?,
            legacy: boolean(&json, "legacy", origin)?,
            use_default_system_prompt: boolean(&json, "use_default_system_prompt", origin)?.unwrap_or(false),
            split_special_tokens: boolean(&json, "split_special_tokens", origin)?.unwrap_or(false),
            padding_side: side(&json, "padding_side", origin)?,
            truncation_side: side(&json, "truncation_side", origin)?,
            model_max_length: length(&json, "model_max_length", origin)?,
            tokenizer_class: json.get("tokenizer_class").and_then(Value::as_str).map(str::to_owned),
            added_tokens: added_tokens_decoder(&json, origin)?,
            chat_templates: chat_templates(&json, origin)?,
            ..TokenizerConfig::default()
        };
        config.fill_special_tokens(&json, origin)?;
        Ok(config)
    }

    /// The side that padding goes to: the one the file names or, as in transformers, the left one for the class
    /// `LlamaTokenizer` and the right one for other classes; the left one if it names no class.
    pub fn padding_side(&self) -> Side {
        let class = self.tokenizer_class.as_deref();
        let llama = matches!(class, None | Some("LlamaTokenizer" | "LlamaTokenizerFast"));
        self.padding_side.unwrap_or(if llama { Side::Left } else { Side::Right })
    }

    /// The special tokens that have a name, in transformers' order: bos, eos, unk, pad.
    pub(crate) fn named(&self) -> impl Iterator<Item = &SpecialToken> {
        [&self.bos_token, &self.eos_token, &self.unk_token, &self.pad_token].into_iter().flatten()
    }

    /// Takes the special tokens of a `special_tokens_map.json` where `tokenizer_config.json` has none.
    pub fn merge_special_tokens_map(&mut self, bytes: &[u8], origin: &str) -> Result<(), LoadError> {
        let json = parse_object(bytes, origin)?;
        self.fill_special_tokens(&json, origin)
    }

    /// Puts a template in, in place of one with the same name.
    pub fn set_chat_template(&mut self, name: impl Into<String>, template: impl Into<String>) {
        let (name, template) = (name.into(), template.into());
        match self.chat_templates.iter_mut().find(|t| t.name == name) {
            Some(known) => known.template = template,
            None => self.chat_templates.push(NamedTemplate { name, template }),
        }
    }

    fn fill_special_tokens(&mut self, json: &Map<String, Value>, origin: &str) -> Result<(), LoadError> {
        for (slot, key) in [
            (&mut self.bos_token, "bos_token"),
            (&mut self.eos_token, "eos_token"),
            (&mut self.unk_token, "unk_token"),
            (&mut self.pad_token, "pad_token"),
        ] {
            if slot.is_none()
                && let Some(value) = present(json, key)
            {
                // A token with a name is special, whatever else is said of it.
                *slot = Some(SpecialToken { special: true, ..special_token(value, key, origin)? });
            }
        }
        if self.additional_special_tokens.is_empty() {
            for key in ["additional_special_tokens", "extra_special_tokens"] {
                // Newer files also use an object here (names of tokens for images and the like): its values count.
                let listed: Vec<&Value> = match present(json, key) {
                    None => continue,
                    Some(Value::Array(list)) => list.iter().collect(),
                    Some(Value::Object(named)) => named.values().collect(),
                    Some(other) => return Err(wrong_type(origin, key, other, "a list of tokens")),
                };
                for (index, value) in listed.into_iter().enumerate() {
                    let token = special_token(value, &format!("{key}[{index}]"), origin)?;
                    self.additional_special_tokens.push(token);
                }
            }
            for key in ["sep_token", "cls_token", "mask_token"] {
                if let Some(value) = present(json, key) {
                    self.additional_special_tokens.push(special_token(value, key, origin)?);
                }
            }
        }
        Ok(())
    }
}

fn parse_object(bytes: &[u8], origin: &str) -> Result<Map<String, Value>, LoadError> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(json)) => Ok(json),
        Ok(other) => Err(wrong_type(origin, "the file", &other, "an object")),
        Err(source) => Err(LoadError::Json { origin: origin.to_owned(), source }),
    }
}

/// The value of a key that is there and not null.
fn present<'a>(json: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    json.get(key).filter(|value| !value.is_null())
}

fn boolean(json: &Map<String, Value>, key: &str, origin: &str) -> Result<Option<bool>, LoadError> {
    match present(json, key) {
        None => Ok(None),
        Some(Value::Bool(b)) => Ok(Some(*b)),
        Some(other) => Err(wrong_type(origin, key, other, "true or false")),
    }
}

const CLEAN_UP_BPE: &str = "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output";

fn side(json: &Map<String, Value>, key: &str, origin: &str) -> Result<Option<Side>, LoadError> {
    match present(json, key) {
        None => Ok(None),
        Some(Value::String(side)) if side == "left" => Ok(Some(Side::Left)),
        Some(Value::String(side)) if side == "right" => Ok(Some(Side::Right)),
        Some(other) => Err(LoadError::field(origin, key, other.to_string(), "it has to be \"left\" or \"right\"")),
    }
}

/// A number of tokens. Files write 1e30, as a float or with all its digits, for one beyond all bounds.
fn length(json: &Map<String, Value>, key: &str, origin: &str) -> Result<Option<usize>, LoadError> {
    match present(json, key) {
        None => Ok(None),
        Some(Value::Number(number)) => match number.as_u64() {
            Some(count) => Ok(usize::try_from(count).ok()),
            None if number.as_f64().is_some_and(|n| n >= 1e18) => Ok(None),
            None => Err(LoadError::field(origin, key, number.to_string(), "it has to be a number of tokens")),
        },
        Some(other) => Err(wrong_type(origin, key, other, "a number of tokens")),
    }
}

fn added_tokens_decoder(json: &Map<String, Value>, origin: &str) -> Result<Vec<(TokenId, SpecialToken)>, LoadError> {
    let key = "added_tokens_decoder";
    let tokens = match present(json, key) {
        None => return Ok(Vec::new()),
        Some(Value::Object(tokens)) => tokens,
        Some(other) => return Err(wrong_type(origin, key, other, "an object of ids and tokens")),
    };
    let mut all = Vec::with_capacity(tokens.len());
    for (id, token) in tokens {
        let field = format!("{key}[{id:?}]");
        let Ok(number) = id.parse() else {
            return Err(LoadError::field(origin, field, "its key is no id", "the keys are ids of 32 bits"));
        };
        all.push((number, special_token(token, &field, origin)?));
    }
    all.sort_by_key(|(id, _)| *id);
    Ok(all)
}

fn special_token(value: &Value, field: &str, origin: &str) -> Result<SpecialToken, LoadError> {
    match value {
        Value::String(content) => Ok(SpecialToken::new(content.as_str())),
        Value::Object(json) => {
            let Some(Value::String(content)) = json.get("content") else {
                let found =
                    json.get("content").map_or("no `content`".to_owned(), |v| format!("`content` is {}", kind(v)));
                return Err(LoadError::field(origin, field, found, "it has to hold the token as a string"));
            };
            Ok(SpecialToken {
                content: content.clone(),
                single_word: boolean(json, "single_word", origin)?.unwrap_or(false),
                lstrip: boolean(json, "lstrip", origin)?.unwrap_or(false),
                rstrip: boolean(json, "rstrip", origin)?.unwrap_or(false),
                normalized: boolean(json, "normalized", origin)?.unwrap_or(false),
                special: boolean(json, "special", origin)?.unwrap_or(true),
            })
        }
        other => Err(wrong_type(origin, field, other, "a string or an object with `content`")),
    }
}

fn chat_templates(json: &Map<String, Value>, origin: &str) -> Result<Vec<NamedTemplate>, LoadError> {
    match present(json, "chat_template") {
        None => Ok(Vec::new()),
        Some(Value::String(template)) => {
            Ok(vec![NamedTemplate { name: "default".to_owned(), template: template.clone() }])
        }
        Some(Value::Array(list)) => {
            let mut templates: Vec<NamedTemplate> = Vec::with_capacity(list.len());
            for (index, entry) in list.iter().enumerate() {
                let text = |key: &str| entry.get(key).and_then(Value::as_str).map(str::to_owned);
                let (Some(name), Some(template)) = (text("name"), text("template")) else {
                    return Err(LoadError::field(
                        origin,
                        format!("chat_template[{index}]"),
                        "no `name` and `template` strings",
                        "a list of templates holds objects with both",
                    ));
                };
                if templates.iter().any(|t| t.name == name) {
                    return Err(LoadError::field(
                        origin,
                        format!("chat_template[{index}]"),
                        format!("a second template named {name:?}"),
                        "rename or remove one of them",
                    ));
                }
                templates.push(NamedTemplate { name, template });
            }
            Ok(templates)
        }
        Some(other) => Err(wrong_type(origin, "chat_template", other, "a string or a list of templates")),
    }
}

pub(crate) fn wrong_type(origin: &str, field: &str, found: &Value, wanted: &str) -> LoadError {
    LoadError::field(origin, field, format!("found {}", kind(found)), format!("it has to be {wanted}"))
}

/// The kind of a JSON value, in words.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
