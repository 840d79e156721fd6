//! Reading `generation_config.json` field by field.

use camelid_core::tokenizer::TokenId;
use serde_json::{Map, Value};

use super::GenerationConfigError;
use crate::generate::EarlyStopping;

/// Reads the fields of the document and remembers which.
pub(super) struct Fields<'a> {
    pub map: &'a Map<String, Value>,
    pub read: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// The field as `read` understands it; an error with `rule` if it does not.
    pub fn get<T>(
        &mut self,
        field: &'static str,
        rule: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, GenerationConfigError> {
        self.read.push(field);
        match self.map.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => read(value).map(Some).ok_or_else(|| GenerationConfigError::Field {
                field,
                found: shown(value),
                rule: rule.into(),
            }),
        }
    }

    pub fn size(&mut self, field: &'static str) -> Result<Option<usize>, GenerationConfigError> {
        self.get(field, "be a whole number of at least 0", |v| v.as_u64().and_then(|n| usize::try_from(n).ok()))
    }

    pub fn token_id(&mut self, field: &'static str) -> Result<Option<TokenId>, GenerationConfigError> {
        Ok(self.get(field, "be a token id", id)?.flatten())
    }

    pub fn token_ids(&mut self, field: &'static str) -> Result<Vec<TokenId>, GenerationConfigError> {
        let list = self.get(field, "be a token id or a list of token ids", |v| one_or_more(v, id))?;
        Ok(list.unwrap_or_default().into_iter().flatten().collect())
    }

    pub fn strings(&mut self, field: &'static str) -> Result<Vec<String>, GenerationConfigError> {
        let text = |v: &Value| v.as_str().filter(|s| !s.is_empty()).map(str::to_string);
        let list = self.get(field, "be a string or a list of strings, none of them empty", |v| one_or_more(v, text))?;
        Ok(list.unwrap_or_default())
    }

    /// A whole number of at least 1.
    pub fn count(&mut self, field: &'static str) -> Result<Option<usize>, GenerationConfigError> {
        let count = |v: &Value| v.as_u64().filter(|n| *n > 0).and_then(|n| usize::try_from(n).ok());
        self.get(field, "be a whole number of at least 1", count)
    }

    pub fn token_lists(&mut self, field: &'static str) -> Result<Vec<Vec<TokenId>>, GenerationConfigError> {
        let lists = |v: &Value| v.as_array()?.iter().map(tokens).collect();
        Ok(self.get(field, "be a list of lists of token ids, none of them empty", lists)?.unwrap_or_default())
    }

    /// Pairs of tokens and number. A file written in Python may have them as they are, in a list.
    pub fn biases(&mut self, field: &'static str) -> Result<Vec<(Vec<TokenId>, f32)>, GenerationConfigError> {
        let pair = |v: &Value| match v.as_array().map(Vec::as_slice) {
            Some([list, bias]) => Some((tokens(list)?, number(bias)? as f32)),
            _ => None,
        };
        let rule = "be a list of pairs: a list of token ids, not empty, and a number";
        Ok(self.get(field, rule, |v| v.as_array()?.iter().map(pair).collect())?.unwrap_or_default())
    }

    pub fn decay(&mut self, field: &'static str) -> Result<Option<(usize, f64)>, GenerationConfigError> {
        self.get(field, "be a pair: a whole number of at least 0 and a number", |v| {
            match v.as_array().map(Vec::as_slice) {
                Some([start, factor]) => Some((usize::try_from(start.as_u64()?).ok()?, factor.as_f64()?)),
                _ => None,
            }
        })
    }

    pub fn early_stopping(&mut self, field: &'static str) -> Result<Option<EarlyStopping>, GenerationConfigError> {
        self.get(field, "be true, false or \"never\"", |v| match v {
            Value::Bool(true) => Some(EarlyStopping::Yes),
            Value::Bool(false) => Some(EarlyStopping::No),
            Value::String(s) if s == "never" => Some(EarlyStopping::Never),
            _ => None,
        })
    }

    /// The first field that asks for another way of generating, with its value and why there is none.
    pub fn refused(&mut self) -> Option<(&'static str, String, &'static str)> {
        let sampled = self.map.get("do_sample") == Some(&Value::Bool(true));
        let beams = self.map.get("num_beams").and_then(Value::as_u64).unwrap_or(1) > 1;
        REFUSED.iter().find_map(|(field, holds, reason)| {
            let value = self.map.get(*field).filter(|v| !v.is_null())?;
            let asks = match holds {
                Asks::Number { without } => value.as_f64().is_none_or(|n| n != *without),
                Asks::Anything => *value != Value::Bool(false) && !value.as_array().is_some_and(Vec::is_empty),
                Asks::WithBeams { without } => beams && value.as_f64().is_none_or(|n| n > *without),
                Asks::Greedily { without } => !sampled && !beams && value.as_f64().is_none_or(|n| n > *without),
            };
            asks.then(|| (*field, shown(value), *reason))
        })
    }

    pub fn pass_over_the_rest(&self) {
        for (field, _) in self.map.iter().filter(|(field, _)| !self.read.contains(&field.as_str())) {
            tracing::debug!("generation_config.json: `{field}` is passed over");
        }
    }
}

/// Which values of a field ask for another way of generating.
enum Asks {
    /// Any number but this.
    Number { without: f64 },
    /// All but false and an empty list.
    Anything,
    /// Numbers above this, in beam search.
    WithBeams { without: f64 },
    /// Numbers above this, where one token is chosen at a time and not drawn.
    Greedily { without: f64 },
}

/// Fields with which transformers would choose other tokens, when they do, and why Camelid does not.
const REFUSED: [(&str, Asks, &str); 8] = [
    (
        "penalty_alpha",
        Asks::Greedily { without: 0.0 },
        "contrastive search is not supported: transformers has moved it out",
    ),
    ("dola_layers", Asks::Anything, "DoLa is not supported: transformers has moved it out"),
    (
        "num_beam_groups",
        Asks::WithBeams { without: 1.0 },
        "group beam search is not supported: transformers has moved it out",
    ),
    ("constraints", Asks::Anything, "constrained beam search is not supported: transformers has moved it out"),
    ("force_words_ids", Asks::Anything, "constrained beam search is not supported: transformers has moved it out"),
    ("guidance_scale", Asks::Number { without: 1.0 }, "classifier-free guidance is not supported"),
    ("watermarking_config", Asks::Anything, "watermarks are not supported"),
    ("assistant_early_exit", Asks::Anything, "a draft by early exit is not supported; a draft model is"),
];

/// A token id; `Some(None)` for a negative number, which stands for no token.
fn id(value: &Value) -> Option<Option<TokenId>> {
    let n = value.as_i64()?;
    if n < 0 { Some(None) } else { TokenId::try_from(n).ok().map(Some) }
}

fn one_or_more<T>(value: &Value, read: impl Fn(&Value) -> Option<T>) -> Option<Vec<T>> {
    match value {
        Value::Array(list) => list.iter().map(read).collect(),
        one => read(one).map(|x| vec![x]),
    }
}

/// The value as JSON, shortened to what an error message can take.
pub(super) fn shown(value: &Value) -> String {
    const MOST: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(MOST) {
        None => text,
        Some((end, _)) => format!("{}...", &text[..end]),
    }
}

/// A list of at least one token id.
fn tokens(value: &Value) -> Option<Vec<TokenId>> {
    let list: Vec<TokenId> = value.as_array()?.iter().map(|v| id(v).flatten()).collect::<Option<_>>()?;
    (!list.is_empty()).then_some(list)
}

/// A number; Python's JSON has infinite ones under names that are no JSON, so they come as strings.
fn number(value: &Value) -> Option<f64> {
    match value.as_str() {
        Some("-inf" | "-Infinity") => Some(f64::NEG_INFINITY),
        Some(_) => None,
        None => value.as_f64(),
    }
}
