//! `tokenizer_config.json`, `special_tokens_map.json` and the chat template files: what is said about a tokenizer outside
//! of `tokenizer.json`.

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
    /// Further special tokens (`additional_special_tokens`, or `extra_special_tokens` in newer files).
    pub additional_special_tokens: Vec<SpecialToken>,
    /// Put the bos token in front; `None` leaves it to the post-processor of `tokenizer.json`.
    pub add_bos_token: Option<bool>,
    /// Put the eos token behind; `None` leaves it to the post-processor of `tokenizer.json`.
    pub add_eos_token: Option<bool>,
    /// Remove spaces before punctuation when decoding. As in transformers, it has no effect on BPE vocabularies, where
    /// it would change what the tokens say.
    pub clean_up_tokenization_spaces: bool,
    /// The chat templates; a single one is called `default`.
    pub chat_templates: Vec<NamedTemplate>,
}

/// A special token as a configuration names it: a string, or an object with matching rules.
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
}

impl SpecialToken {
    /// A token without matching rules.
    pub fn new(content: impl Into<String>) -> Self {
        SpecialToken { content: content.into(), single_word: false, lstrip: false, rstrip: false, normalized: false }
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
            chat_templates: chat_templates(&json, origin)?,
            ..TokenizerConfig::default()
        };
        config.fill_special_tokens(&json, origin)?;
        Ok(config)
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
                *slot = Some(special_token(value, key, origin)?);
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
