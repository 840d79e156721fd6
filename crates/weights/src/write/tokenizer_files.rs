//! The tokenizer of a Hugging Face folder, as its files hold it.

use std::path::Path;

use serde_json::Value;

use super::sentencepiece;
use crate::WeightsError;

/// Files that make up a tokenizer, copied from folder to folder.
pub(super) const NAMES: [&str; 9] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
];

/// A `tokenizer.json` or `tokenizer.model`, and what lies beside it.
#[derive(Clone, Debug, Default)]
pub struct TokenizerFiles {
    /// The contents of `tokenizer.json`.
    pub json: Option<Vec<u8>>,
    /// The contents of `tokenizer.model`.
    pub model: Option<Vec<u8>>,
    /// The contents of `tokenizer_config.json`.
    pub config: Option<Vec<u8>>,
    /// The contents of `chat_template.jinja`.
    pub chat_template: Option<Vec<u8>>,
}

impl TokenizerFiles {
    /// The tokenizer in a folder, or `None` if it has neither `tokenizer.json` nor a `tokenizer.model` of SentencePiece.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn in_folder(folder: &Path) -> Result<Option<TokenizerFiles>, WeightsError> {
        let read = |name: &str| {
            let path = folder.join(name);
            match std::fs::read(&path) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(e) => Err(WeightsError::io(&path, "read")(e)),
            }
        };
        let (json, model) = (read("tokenizer.json")?, read("tokenizer.model")?.filter(|m| sentencepiece::is_one(m)));
        if json.is_none() && model.is_none() {
            return Ok(None);
        }
        let (config, chat_template) = (read("tokenizer_config.json")?, read("chat_template.jinja")?);
        Ok(Some(TokenizerFiles { json, model, config, chat_template }))
    }

    /// `tokenizer.json`, if it is there, and `tokenizer_config.json`, parsed; the latter is an empty object if it is not.
    pub(super) fn parse(&self, folder: &Path) -> Result<(Option<Value>, Value), WeightsError> {
        let parse = |name: &str, text: &[u8], what| {
            let json: Value = serde_json::from_slice(text).map_err(|source| WeightsError::Json {
                path: folder.join(name),
                what,
                source,
            })?;
            if json.is_object() {
                return Ok(json);
            }
            let remedy = "download the tokenizer of the model again";
            Err(WeightsError::malformed(&folder.join(name), what, "it is no JSON object", remedy))
        };
        let json = self.json.as_ref().map(|json| parse("tokenizer.json", json, "the tokenizer")).transpose()?;
        let config = match &self.config {
            Some(text) => parse("tokenizer_config.json", text, "the tokenizer's config")?,
            None => Value::Object(serde_json::Map::new()),
        };
        Ok((json, config))
    }

    /// The chat template: that of the config if it has one, as llama.cpp's converter takes it, or else the file's.
    pub(super) fn template(&self, config: &Value) -> Option<String> {
        let of_config = match config.get("chat_template") {
            Some(Value::String(template)) => Some(template.clone()),
            Some(Value::Array(named)) => {
                let text = |t: &Value| t.get("template").and_then(Value::as_str).map(str::to_owned);
                let default = |t: &&Value| t.get("name").and_then(Value::as_str) == Some("default");
                named.iter().find(default).and_then(text)
            }
            _ => None,
        };
        of_config.or_else(|| String::from_utf8(self.chat_template.clone()?).ok())
    }
}
