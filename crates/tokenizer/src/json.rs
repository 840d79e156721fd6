//! `tokenizer.json` and the folder around it.

use std::collections::HashMap;
use std::path::Path;

use camelid_core::tokenizer::{SpecialTokens, TokenId};
use serde_json::Value;
use tokenizers::Tokenizer;

use crate::config::{Side, SpecialToken, TokenizerConfig, wrong_type};
use crate::error::{LoadError, guarded, read};
use crate::frame;
use crate::hf::{HfTokenizer, Parts};

impl HfTokenizer {
    /// The tokenizer of a model folder: `tokenizer.json` or, without it, `tokenizer.model`; and beside it, if they are
    /// there, `tokenizer_config.json`, `special_tokens_map.json`, `chat_template.jinja` and
    /// `additional_chat_templates/*.jinja`.
    ///
    /// `generation_config.json`, which may name more end-of-sequence ids, is left to whoever generates.
    pub fn from_folder(folder: &Path) -> Result<Self, LoadError> {
        let file = folder.join("tokenizer.json");
        let model = folder.join("tokenizer.model");
        if !file.is_file() && model.is_file() {
            return HfTokenizer::from_tokenizer_model(&model, Some(HfTokenizer::folder_config(folder)?));
        }
        if !file.is_file() {
            return Err(LoadError::NoTokenizer { folder: folder.to_owned(), found: what_is_there(folder) });
        }
        let config = HfTokenizer::folder_config(folder)?;
        HfTokenizer::from_tokenizer_file(&file, Some(config))
    }

    /// The tokenizer of a `tokenizer.json`, wherever it lies.
    pub fn from_tokenizer_file(file: &Path, config: Option<TokenizerConfig>) -> Result<Self, LoadError> {
        let bytes = read(file)?;
        from_json(&bytes, config.unwrap_or_default(), &file.display().to_string())
    }

    /// The tokenizer in the bytes of a `tokenizer.json`.
    ///
    /// The file decides about everything but this: special tokens that `config` names are special even if the file does
    /// not say so, and `add_bos_token` and `add_eos_token`, where set, override its post-processor. Truncation and
    /// padding rules in the file are left aside, since a caller who wants either asks for it.
    pub fn from_tokenizer_json(bytes: &[u8], config: Option<TokenizerConfig>) -> Result<Self, LoadError> {
        from_json(bytes, config.unwrap_or_default(), "tokenizer.json")
    }
}

impl HfTokenizer {
    /// What a folder says about a tokenizer beside its vocabulary: `tokenizer_config.json`, `special_tokens_map.json`,
    /// and the chat templates.
    ///
    /// # Errors
    /// For files that are there and cannot be read.
    pub fn folder_config(folder: &Path) -> Result<TokenizerConfig, LoadError> {
        let optional = |name: &str| -> Result<Option<(Vec<u8>, String)>, LoadError> {
            let path = folder.join(name);
            if !path.is_file() {
                return Ok(None);
            }
            Ok(Some((read(&path)?, path.display().to_string())))
        };
        let mut config = match optional("tokenizer_config.json")? {
            Some((bytes, origin)) => TokenizerConfig::from_json(&bytes, &origin)?,
            None => TokenizerConfig::default(),
        };
        if let Some((bytes, origin)) = optional("special_tokens_map.json")? {
            config.merge_special_tokens_map(&bytes, &origin)?;
        }
        let text = |bytes: Vec<u8>, origin: &str| {
            String::from_utf8(bytes)
                .map_err(|e| LoadError::field(origin, "the template", e.to_string(), "it has to be UTF-8 text"))
        };
        if let Some((bytes, origin)) = optional("chat_template.jinja")? {
            config.set_chat_template("default", text(bytes, &origin)?);
        }
        let more = folder.join("additional_chat_templates");
        if more.is_dir() {
            let unreadable = |source| LoadError::Read { path: more.clone(), source };
            let mut paths = Vec::new();
            for entry in std::fs::read_dir(&more).map_err(unreadable)? {
                paths.push(entry.map_err(unreadable)?.path());
            }
            paths.sort();
            for path in paths.into_iter().filter(|p| p.extension().is_some_and(|e| e == "jinja")) {
                let name = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
                config.set_chat_template(name, text(read(&path)?, &path.display().to_string())?);
            }
        }
        Ok(config)
    }
}

/// What a folder without `tokenizer.json` has, and what to do about it.
fn what_is_there(folder: &Path) -> String {
    let has = |name: &str| folder.join(name).is_file();
    if has("vocab.json") && has("merges.txt") {
        "it has vocab.json and merges.txt, which lack the rules for cutting words; save the tokenizer with \
         transformers' save_pretrained, which writes tokenizer.json"
            .to_owned()
    } else if folder.is_dir() {
        "put the file there that belongs to the model".to_owned()
    } else {
        "the folder does not exist".to_owned()
    }
}

fn from_json(bytes: &[u8], config: TokenizerConfig, origin: &str) -> Result<HfTokenizer, LoadError> {
    let json = serde_json::from_slice(bytes).map_err(|source| LoadError::Json { origin: origin.to_owned(), source })?;
    from_value(json, config, origin)
}

/// The tokenizer that the contents of a `tokenizer.json` describe.
pub(crate) fn from_value(mut json: Value, mut config: TokenizerConfig, origin: &str) -> Result<HfTokenizer, LoadError> {
    let Some(fields) = json.as_object_mut() else {
        return Err(wrong_type(origin, "the file", &json, "an object"));
    };
    sides_of(&mut config, fields.remove("padding"), fields.remove("truncation"));
    match fields.get("model") {
        Some(Value::Object(model)) => check_merges(model, origin)?,
        Some(other) => return Err(wrong_type(origin, "model", other, "an object")),
        None => return Err(LoadError::field(origin, "model", "missing", "this is not a tokenizer.json")),
    }
    let listed = added_tokens(fields.get("added_tokens"));
    let library = guarded(|| serde_json::from_value::<Tokenizer>(json).map_err(Into::into));
    let mut library = library.map_err(|e| LoadError::library(origin, e))?;
    for (content, id) in listed {
        let given = library.token_to_id(&content);
        if given != Some(id) {
            tracing::warn!("{origin}: added token {content:?} says its id is {id}, but it is {given:?}");
        }
    }

    add_special_tokens(&mut library, &mut config, origin)?;
    let id = |token: &Option<SpecialToken>| token.as_ref().and_then(|t| library.token_to_id(&t.content));
    let special = SpecialTokens {
        bos: id(&config.bos_token),
        eos: id(&config.eos_token).into_iter().collect(),
        pad: id(&config.pad_token),
        unk: id(&config.unk_token),
        all: Vec::new(),
    };
    let (mut before, mut after) = frame::of(&library, origin)?;
    if let Some(add) = config.add_bos_token {
        before = wanted(add, special.bos, "bos", origin)?;
    }
    if let Some(add) = config.add_eos_token {
        after = wanted(add, special.eos.first().copied(), "eos", origin)?;
    }
    let explicit = config.add_bos_token.is_some() || config.add_eos_token.is_some();
    HfTokenizer::assemble(Parts {
        library,
        sentencepiece: None,
        frame: explicit.then_some((before, after)),
        special,
        config,
        added_verbatim: false,
        origin,
    })
}

/// Takes the sides, and the padding token, from rules in the file where the configuration names none. As in transformers,
/// the rules themselves wait until a caller asks for padding or truncation.
fn sides_of(config: &mut TokenizerConfig, padding: Option<Value>, truncation: Option<Value>) {
    let side = |rules: &Option<Value>| match rules.as_ref()?.get("direction")?.as_str()? {
        "Left" => Some(Side::Left),
        "Right" => Some(Side::Right),
        _ => None,
    };
    config.padding_side = config.padding_side.or(side(&padding));
    config.truncation_side = config.truncation_side.or(side(&truncation));
    if let (None, Some(token)) = (&config.pad_token, padding.as_ref().and_then(|p| p.get("pad_token")?.as_str())) {
        config.pad_token = Some(SpecialToken::new(token));
    }
}

/// Checks the merges of a BPE model by index. The library would index out of bounds on some that do not fit.
fn check_merges(model: &serde_json::Map<String, Value>, origin: &str) -> Result<(), LoadError> {
    let Some(merges) = model.get("merges") else { return Ok(()) };
    let Some(Value::Array(merges)) = Some(merges) else {
        return Err(wrong_type(origin, "model.merges", merges, "a list"));
    };
    let vocab = match model.get("vocab") {
        Some(Value::Object(vocab)) => vocab,
        Some(other) => return Err(wrong_type(origin, "model.vocab", other, "an object of tokens and ids")),
        None => return Err(LoadError::field(origin, "model.vocab", "missing", "a BPE model has one")),
    };
    let mut token_of_id: HashMap<u64, &str> = HashMap::with_capacity(vocab.len());
    for (token, id) in vocab {
        let Some(id) = id.as_u64().filter(|id| *id <= u64::from(u32::MAX)) else {
            return Err(wrong_type(origin, &format!("model.vocab[{token:?}]"), id, "an id of 32 bits"));
        };
        if let Some(other) = token_of_id.insert(id, token) {
            let found = format!("{id}, which is also the id of {other:?}");
            return Err(LoadError::field(origin, format!("model.vocab[{token:?}]"), found, "ids have to be distinct"));
        }
    }
    let prefix = model.get("continuing_subword_prefix").and_then(Value::as_str).unwrap_or_default();
    for (index, merge) in merges.iter().enumerate() {
        let fail = |found: String| {
            Err(LoadError::field(origin, format!("model.merges[{index}]"), found, "the file is damaged or was edited"))
        };
        let pair = match merge {
            Value::String(line) if line.starts_with("#version") => continue,
            Value::String(line) => line.split_once(' '),
            Value::Array(pair) => match pair.as_slice() {
                [Value::String(left), Value::String(right)] => Some((left.as_str(), right.as_str())),
                _ => None,
            },
            _ => None,
        };
        let Some((left, right)) = pair else { return fail(format!("{merge} is not a pair of tokens")) };
        let Some(rest) = right.strip_prefix(prefix) else {
            return fail(format!("{right:?} does not begin with continuing_subword_prefix {prefix:?}"));
        };
        let joined = [left, rest].concat();
        if let Some(unknown) = [left, right, &joined].into_iter().find(|token| !vocab.contains_key(*token)) {
            return fail(format!("{unknown:?} is not in model.vocab"));
        }
    }
    Ok(())
}

/// The added tokens that the file lists, with the ids it gives them.
fn added_tokens(list: Option<&Value>) -> Vec<(String, TokenId)> {
    let entry = |token: &Value| {
        let id = token.get("id")?.as_u64()?;
        Some((token.get("content")?.as_str()?.to_owned(), u32::try_from(id).ok()?))
    };
    list.and_then(Value::as_array).into_iter().flatten().filter_map(entry).collect()
}

/// Makes the special tokens that `config` names special in the library too.
fn add_special_tokens(library: &mut Tokenizer, config: &mut TokenizerConfig, origin: &str) -> Result<(), LoadError> {
    for (field, token) in [("bos_token", &config.bos_token), ("eos_token", &config.eos_token)] {
        if let Some(token) = token.as_ref().filter(|t| library.token_to_id(&t.content).is_none()) {
            return Err(LoadError::field(
                origin,
                field,
                format!("tokenizer_config.json names {:?}, which is not in the vocabulary", token.content),
                "the two files do not belong together",
            ));
        }
    }
    // Fine-tunes name padding and other tokens that the model never had: an id past its embedding would not help them.
    let mut known = |token: &SpecialToken| {
        let known = library.token_to_id(&token.content).is_some();
        if !known {
            tracing::warn!("{origin}: special token {:?} is not in the vocabulary, leaving it out", token.content);
        }
        known
    };
    config.pad_token = config.pad_token.take().filter(&mut known);
    config.unk_token = config.unk_token.take().filter(&mut known);
    config.additional_special_tokens.retain(known);

    let mut tokens = Vec::new();
    for token in config.named().chain(&config.additional_special_tokens) {
        let added = library.get_added_vocabulary().get_added_tokens_decoder();
        let listed = library.token_to_id(&token.content).and_then(|id| added.get(&id));
        tokens.push(match listed {
            Some(listed) if listed.special || !token.special => continue,
            // The file's own rules for matching stay.
            Some(listed) => listed.clone().special(true),
            None => token.added(),
        });
    }
    guarded(|| library.add_special_tokens(tokens)).map_err(|e| LoadError::library(origin, e))?;
    Ok(())
}

fn wanted(add: bool, id: Option<TokenId>, name: &str, origin: &str) -> Result<Vec<TokenId>, LoadError> {
    match (add, id) {
        (false, _) => Ok(Vec::new()),
        (true, Some(id)) => Ok(vec![id]),
        (true, None) => Err(LoadError::field(
            origin,
            format!("add_{name}_token"),
            format!("true, but there is no {name}_token"),
            format!("name the {name}_token in tokenizer_config.json"),
        )),
    }
}
