//! Reading the fields of a JSON object, with errors that name them.

use serde_json::{Map, Value};

use super::ConfigError;

/// Dimensions beyond this are no model but a damaged file; products of two of them still fit in 64 bits.
pub(in crate::llama) const MAX_DIMENSION: usize = 1 << 28;

/// The fields of a JSON object. A field that is null counts as missing.
pub(in crate::llama) struct Fields<'a> {
    /// What stands before a field's name in messages; empty at the top level.
    pub(in crate::llama) prefix: &'a str,
    pub(in crate::llama) map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    pub(in crate::llama) fn get(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name).filter(|v| !v.is_null())
    }

    /// The first of the names that is there.
    pub(in crate::llama) fn any_of(&self, names: &[&'static str]) -> Option<&'static str> {
        names.iter().copied().find(|n| self.get(n).is_some())
    }

    pub(in crate::llama) fn name(&self, field: &str) -> String {
        if self.prefix.is_empty() { field.to_owned() } else { format!("{}.{field}", self.prefix) }
    }

    pub(in crate::llama) fn wrong(&self, field: &str, found: impl ToString, rule: impl Into<String>) -> ConfigError {
        ConfigError::wrong(self.name(field), found, rule)
    }

    pub(in crate::llama) fn text(&self, field: &str) -> Result<Option<&'a str>, ConfigError> {
        self.get(field).map(|v| v.as_str().ok_or_else(|| self.wrong(field, v, "be a string"))).transpose()
    }

    pub(in crate::llama) fn number(&self, field: &str) -> Result<Option<f64>, ConfigError> {
        self.get(field)
            .map(|v| v.as_f64().filter(|n| n.is_finite()).ok_or_else(|| self.wrong(field, v, "be a number")))
            .transpose()
    }

    /// A list of numbers.
    pub(in crate::llama) fn numbers(&self, field: &str) -> Result<Option<Vec<f64>>, ConfigError> {
        let Some(v) = self.get(field) else { return Ok(None) };
        let items = v.as_array().and_then(|items| items.iter().map(Value::as_f64).collect::<Option<Vec<f64>>>());
        items
            .filter(|n| n.iter().all(|n| n.is_finite()))
            .map(Some)
            .ok_or_else(|| self.wrong(field, v, "be a list of numbers"))
    }

    pub(in crate::llama) fn flag(&self, field: &str, default: bool) -> Result<bool, ConfigError> {
        self.get(field).map_or(Ok(default), |v| v.as_bool().ok_or_else(|| self.wrong(field, v, "be true or false")))
    }

    /// A whole number of at least one; large ones are refused before anything is computed from them.
    pub(in crate::llama) fn size(&self, field: &str, default: usize) -> Result<usize, ConfigError> {
        let Some(v) = self.get(field) else { return Ok(default) };
        match whole(v) {
            Some(n) if (1..=MAX_DIMENSION).contains(&n) => Ok(n),
            _ => Err(self.wrong(field, v, format!("be a whole number from 1 to {MAX_DIMENSION}"))),
        }
    }

    /// One token id, a list of them, or (as old checkpoints write "none") -1.
    pub(super) fn token_ids(&self, field: &str, default: &[u32]) -> Result<Vec<u32>, ConfigError> {
        if self.map.get(field).is_some_and(Value::is_null) {
            return Ok(Vec::new());
        }
        let Some(v) = self.get(field) else { return Ok(default.to_vec()) };
        let items = v.as_array().map_or(std::slice::from_ref(v), Vec::as_slice);
        let id = |item: &Value| match item.as_i64() {
            Some(-1) => Ok(None),
            Some(n) => u32::try_from(n).map(Some).map_err(|_| ()),
            None => Err(()),
        };
        let ids: Result<Vec<_>, ()> = items.iter().map(id).collect();
        ids.map(|ids| ids.into_iter().flatten().collect())
            .map_err(|()| self.wrong(field, v, "be a token id or a list of token ids"))
    }
}

/// A whole number; Python writes 4096.0 where a division made it.
fn whole(v: &Value) -> Option<usize> {
    let n = v.as_u64().or_else(|| v.as_f64().filter(|x| x.fract() == 0.0 && *x >= 0.0).map(|x| x as u64));
    n.and_then(|n| usize::try_from(n).ok())
}
