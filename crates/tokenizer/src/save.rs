//! Writing a tokenizer down: the vocabulary alone, or the folder that transformers loads.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::config::{SpecialToken, TokenizerConfig};
use crate::error::SaveError;
use crate::hf::HfTokenizer;

/// What transformers writes for a length without bounds.
const NO_LENGTH: f64 = 1e30;

impl HfTokenizer {
    /// The contents of a `tokenizer.json` that says the same.
    ///
    /// The vocabulary of a GGUF file gets the merges that its scores amount to: they are tried in the order of the
    /// scores, and text becomes the same tokens but where one token can be put together in two ways at overlapping
    /// places.
    ///
    /// # Errors
    /// [`SaveError::Library`] if the library refuses.
    pub fn to_tokenizer_json(&self) -> Result<Value, SaveError> {
        let mut json = serde_json::to_value(&self.library).map_err(|e| SaveError::Library(e.to_string()))?;
        if let Some(sentencepiece) = &self.sentencepiece {
            json["model"]["merges"] = sentencepiece.merge_list(|id| self.library.id_to_token(id)).into();
            json["model"]["byte_fallback"] = true.into();
            json["model"]["fuse_unk"] = true.into();
            json["model"]["unk_token"] = self.config.unk_token.as_ref().map(|t| t.content.clone()).into();
        }
        Ok(json)
    }

    /// Writes the vocabulary into `folder`: `tokenizer.json` and, if the tokenizer was read from a `tokenizer.model`,
    /// a copy of that. A prefix stands before both names with a `-`. Tells the files.
    ///
    /// # Errors
    /// [`SaveError`] with the path at fault.
    pub fn save_vocabulary(&self, folder: &Path, prefix: Option<&str>) -> Result<Vec<PathBuf>, SaveError> {
        if !folder.is_dir() {
            return Err(SaveError::NoFolder { path: folder.to_owned() });
        }
        let json = folder.join(name(prefix, "tokenizer.json"));
        write_json(&json, &self.to_tokenizer_json()?)?;
        let mut files = vec![json];
        if let Some(source) = &self.vocab_file {
            let copy = folder.join(name(prefix, "tokenizer.model"));
            let same = fs::canonicalize(source).ok().is_some_and(|path| fs::canonicalize(&copy).ok() == Some(path));
            if !same {
                let failed = |error| SaveError::Write { path: copy.clone(), source: error };
                fs::copy(source, &copy).map_err(failed)?;
            }
            files.push(copy);
        }
        Ok(files)
    }

    /// Writes the folder that [`from_folder`](Self::from_folder) and transformers' `from_pretrained` load:
    /// `tokenizer.json`, `tokenizer_config.json` and the chat templates. Makes the folder. Tells the files.
    ///
    /// # Errors
    /// [`SaveError`] with the path at fault.
    pub fn save_pretrained(&self, folder: &Path, prefix: Option<&str>) -> Result<Vec<PathBuf>, SaveError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| SaveError::Write { path, source }
        };
        fs::create_dir_all(folder).map_err(failed(folder))?;
        let (json, config) =
            (folder.join(name(prefix, "tokenizer.json")), folder.join(name(prefix, "tokenizer_config.json")));
        write_json(&json, &self.to_tokenizer_json()?)?;
        write_json(&config, &config_json(&self.config))?;
        let mut files = vec![json, config];
        for template in &self.config.chat_templates {
            let file = if template.name == "default" {
                folder.join(name(prefix, "chat_template.jinja"))
            } else {
                // A name that is a path would leave the folder.
                let stem: String =
                    template.name.chars().map(|c| if c.is_alphanumeric() || c == '-' { c } else { '_' }).collect();
                let more = folder.join("additional_chat_templates");
                fs::create_dir_all(&more).map_err(failed(&more))?;
                more.join(format!("{stem}.jinja"))
            };
            fs::write(&file, &template.template).map_err(failed(&file))?;
            files.push(file);
        }
        Ok(files)
    }
}

fn name(prefix: Option<&str>, name: &str) -> String {
    prefix.filter(|p| !p.is_empty()).map_or_else(|| name.to_owned(), |prefix| format!("{prefix}-{name}"))
}

fn write_json(path: &Path, json: &Value) -> Result<(), SaveError> {
    let text = serde_json::to_string_pretty(json).map_err(|e| SaveError::Library(e.to_string()))?;
    fs::write(path, text + "\n").map_err(|source| SaveError::Write { path: path.to_owned(), source })
}

/// What goes into `tokenizer_config.json`. As in transformers 5, it has no `add_bos_token` and `add_eos_token`: the
/// template in `tokenizer.json` says what is added.
fn config_json(config: &TokenizerConfig) -> Value {
    let mut json = Map::new();
    let named = [
        ("bos_token", &config.bos_token),
        ("eos_token", &config.eos_token),
        ("unk_token", &config.unk_token),
        ("pad_token", &config.pad_token),
    ];
    for (key, token) in named {
        if let Some(token) = token {
            json.insert(key.into(), token_json(token));
        }
    }
    if !config.additional_special_tokens.is_empty() {
        let extra: Vec<Value> = config.additional_special_tokens.iter().map(token_json).collect();
        json.insert("extra_special_tokens".into(), extra.into());
    }
    json.insert("add_prefix_space".into(), config.add_prefix_space.into());
    json.insert("clean_up_tokenization_spaces".into(), config.clean_up_tokenization_spaces.into());
    if let Some(legacy) = config.legacy {
        json.insert("legacy".into(), legacy.into());
    }
    json.insert("model_max_length".into(), config.model_max_length.map_or(json!(NO_LENGTH), |n| n.into()));
    json.insert("padding_side".into(), config.padding_side().name().into());
    if let Some(side) = config.truncation_side {
        json.insert("truncation_side".into(), side.name().into());
    }
    json.insert("split_special_tokens".into(), config.split_special_tokens.into());
    json.insert("use_default_system_prompt".into(), config.use_default_system_prompt.into());
    // Under another class transformers takes tokenizer.json as it is.
    let class = config.tokenizer_class.as_deref().filter(|class| *class == "LlamaTokenizer");
    json.insert("tokenizer_class".into(), class.unwrap_or("PreTrainedTokenizerFast").into());
    Value::Object(json)
}

/// A token by its text; with its rules if it has any, as transformers writes an `AddedToken`.
fn token_json(token: &SpecialToken) -> Value {
    if *token == SpecialToken::new(token.content.as_str()) {
        return token.content.as_str().into();
    }
    json!({
        "__type": "AddedToken",
        "content": token.content,
        "single_word": token.single_word,
        "lstrip": token.lstrip,
        "rstrip": token.rstrip,
        "normalized": token.normalized,
        "special": token.special,
    })
}
