//! The metadata of a GGUF file: typed values under unique keys.
//!
//! Values stay in the memory map; an entry remembers where its value begins. Only arrays of strings need more, since
//! their elements differ in length: every 64th has its place noted, so that a vocabulary of 128 thousand tokens costs
//! 16 KB.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use camelid_core::Bytes;

use super::cursor::Cursor;
use super::value::MARK_EVERY;
pub use super::value::{Array, Type, Value};
use crate::WeightsError;
use crate::error::{MAKE_AGAIN, quoted, shown};

/// All metadata of a file, in its order.
#[derive(Clone)]
pub struct Metadata {
    path: Arc<Path>,
    bytes: Bytes,
    entries: Vec<Entry>,
    /// Indices into `entries`, in order of their keys.
    by_key: Vec<u32>,
}

#[derive(Clone)]
struct Entry {
    /// Where the key is; checked to be UTF-8.
    key: (usize, usize),
    /// The type of the value, or of the elements if `count` says that it is an array.
    scalar: Type,
    count: Option<u64>,
    /// Where the value is, or the first element.
    start: usize,
    end: usize,
    /// Of an array of strings: where elements 64, 128, ... begin, counted from `start`.
    marks: Box<[u64]>,
}

/// The smallest entry: the length of a key of one character, the type, a value of one byte.
const MIN_ENTRY_BYTES: u64 = 8 + 1 + 4 + 1;
const ARRAY: u32 = 9;

impl Metadata {
    /// Reads `count` entries; `cursor` is left behind the last.
    pub(super) fn parse(cursor: &mut Cursor<'_>, bytes: &Bytes, count: u64) -> Result<Metadata, WeightsError> {
        let path: Arc<Path> = Arc::from(cursor.path());
        cursor.check_count(count, MIN_ENTRY_BYTES, "metadata entries")?;
        let mut entries = Vec::new();
        for i in 0..count {
            entries.push(entry(cursor, i)?);
        }
        // More entries than u32 counts would fill a file of 56 GB with metadata alone.
        let n = u32::try_from(entries.len())
            .map_err(|_| WeightsError::malformed(&path, "number of metadata entries", count.to_string(), MAKE_AGAIN))?;
        let key = |i: u32| {
            let (start, end) = entries[i as usize].key;
            &bytes[start..end]
        };
        let mut by_key: Vec<u32> = (0..n).collect();
        by_key.sort_unstable_by_key(|i| (key(*i), *i));
        if let Some(pair) = by_key.windows(2).find(|pair| key(pair[0]) == key(pair[1])) {
            return Err(WeightsError::Duplicate {
                path: path.to_path_buf(),
                what: format!("metadata key {}", shown(&String::from_utf8_lossy(key(pair[0])))),
                first: format!("as entry {}", pair[0]),
                second: format!("as entry {}", pair[1]),
            });
        }
        Ok(Metadata { path, bytes: bytes.clone(), entries, by_key })
    }

    /// The file.
    pub fn path(&self) -> &Arc<Path> {
        &self.path
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if there are no metadata.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All entries, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Value<'_>)> {
        self.entries.iter().filter_map(|e| Some((self.key(e), self.value(e)?)))
    }

    /// True if there is a value under `key`.
    pub fn contains(&self, key: &str) -> bool {
        self.entry(key).is_some()
    }

    /// The value under `key`.
    pub fn get(&self, key: &str) -> Option<Value<'_>> {
        self.value(self.entry(key)?)
    }

    fn key(&self, entry: &Entry) -> &str {
        std::str::from_utf8(&self.bytes[entry.key.0..entry.key.1]).unwrap_or_default()
    }

    fn entry(&self, key: &str) -> Option<&Entry> {
        let at = self.by_key.binary_search_by(|i| self.key(&self.entries[*i as usize]).cmp(key)).ok()?;
        self.entries.get(self.by_key[at] as usize)
    }

    fn value<'a>(&'a self, entry: &'a Entry) -> Option<Value<'a>> {
        let bytes = self.bytes.get(entry.start..entry.end)?;
        match entry.count {
            Some(count) => Some(Value::Array(Array { scalar: entry.scalar, count, bytes, marks: &entry.marks })),
            None => entry.scalar.value(bytes),
        }
    }

    /// An integer of any width that fits a `u32`.
    pub fn u32(&self, key: &str) -> Result<Option<u32>, WeightsError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let n = value.integer().ok_or_else(|| self.wrong_type(key, "an integer"))?;
        u32::try_from(n).map(Some).map_err(|_| WeightsError::malformed(&self.path, key, n.to_string(), MAKE_AGAIN))
    }

    /// A number. One that is stored in single precision is given as the shortest decimal that stands for it, which
    /// is what it was before it was stored: 1e-5, not 9.999999747378752e-6.
    pub fn number(&self, key: &str) -> Result<Option<f64>, WeightsError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let number = match value {
            Value::F32(x) => shortest(x),
            Value::F64(x) => x,
            other => other.integer().ok_or_else(|| self.wrong_type(key, "a number"))? as f64,
        };
        if !number.is_finite() {
            return Err(WeightsError::malformed(&self.path, key, number.to_string(), MAKE_AGAIN));
        }
        Ok(Some(number))
    }

    /// True or false.
    pub fn bool(&self, key: &str) -> Result<Option<bool>, WeightsError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(b)) => Ok(Some(b)),
            Some(_) => Err(self.wrong_type(key, "a bool")),
        }
    }

    /// Text.
    pub fn str(&self, key: &str) -> Result<Option<&str>, WeightsError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(bytes)) => match std::str::from_utf8(bytes) {
                Ok(text) => Ok(Some(text)),
                Err(_) => Err(WeightsError::NotUtf8 {
                    path: self.path.to_path_buf(),
                    what: key.to_owned(),
                    bytes: quoted(bytes),
                }),
            },
            Some(_) => Err(self.wrong_type(key, "a string")),
        }
    }

    /// An array of any type.
    pub fn array(&self, key: &str) -> Result<Option<Array<'_>>, WeightsError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Array(array)) => Ok(Some(array)),
            Some(_) => Err(self.wrong_type(key, "an array")),
        }
    }

    pub(super) fn f32s(&self, key: &str) -> Result<Option<Vec<f32>>, WeightsError> {
        self.elements(key, "an array of f32", |value| match value {
            Value::F32(x) => Some(x),
            _ => None,
        })
    }

    pub(super) fn i32s(&self, key: &str) -> Result<Option<Vec<i32>>, WeightsError> {
        self.elements(key, "an array of i32", |value| value.integer().and_then(|n| i32::try_from(n).ok()))
    }

    fn elements<T>(
        &self,
        key: &str,
        expected: &'static str,
        convert: impl Fn(Value<'_>) -> Option<T>,
    ) -> Result<Option<Vec<T>>, WeightsError> {
        let Some(array) = self.array(key)? else { return Ok(None) };
        let values: Option<Vec<T>> = array.iter().map(convert).collect();
        values.map(Some).ok_or_else(|| self.wrong_type(key, expected))
    }

    pub(super) fn missing(&self, key: &str) -> WeightsError {
        WeightsError::malformed(&self.path, key, "there is no such key in the metadata", MAKE_AGAIN)
    }

    pub(super) fn wrong_type(&self, key: &str, expected: &str) -> WeightsError {
        let found = match self.entry(key) {
            Some(Entry { scalar, count: Some(_), .. }) => format!("an array of {}", scalar.name()),
            Some(Entry { scalar, .. }) => scalar.name().to_owned(),
            None => "nothing".to_owned(),
        };
        WeightsError::malformed(&self.path, key, format!("it is {found}, not {expected}"), MAKE_AGAIN)
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Metadata({} entries of {})", self.entries.len(), self.path.display())
    }
}

/// The number that the shortest decimal for `x` stands for.
pub(super) fn shortest(x: f32) -> f64 {
    x.to_string().parse().unwrap_or(f64::from(x))
}

fn entry(cursor: &mut Cursor<'_>, i: u64) -> Result<Entry, WeightsError> {
    let path = cursor.path();
    let key = cursor.string(|| format!("the key of metadata entry {i}"))?;
    let key_end = cursor.position();
    let what = || format!("metadata entry {i}");
    let Ok(name) = std::str::from_utf8(key) else {
        let what = format!("the key of {}", what());
        return Err(WeightsError::NotUtf8 { path: path.to_owned(), what, bytes: quoted(key) });
    };
    if name.is_empty() {
        return Err(WeightsError::malformed(path, what(), "its key is empty", MAKE_AGAIN));
    }
    let unknown = |id: u32| {
        WeightsError::malformed(
            path,
            format!("metadata {}", shown(name)),
            format!("unknown value type {id}"),
            MAKE_AGAIN,
        )
    };
    let id = cursor.u32(|| format!("the type of metadata {}", shown(name)))?;
    let (scalar, count) = if id == ARRAY {
        let id = cursor.u32(|| format!("the element type of metadata {}", shown(name)))?;
        if id == ARRAY {
            return Err(WeightsError::Unsupported {
                path: path.to_owned(),
                what: format!("metadata {}", shown(name)),
                found: "an array of arrays".into(),
                remedy: "no Llama model needs one: remove the key or convert the model again".into(),
            });
        }
        let count = cursor.u64(|| format!("the length of metadata {}", shown(name)))?;
        (Type::from_id(id).ok_or_else(|| unknown(id))?, Some(count))
    } else {
        (Type::from_id(id).ok_or_else(|| unknown(id))?, None)
    };
    let start = cursor.position();
    let marks = skip_values(cursor, name, scalar, count.unwrap_or(1))?;
    Ok(Entry { key: (key_end - key.len(), key_end), scalar, count, start, end: cursor.position(), marks })
}

/// Moves the cursor over `count` values; gives the marks of an array of strings.
fn skip_values(cursor: &mut Cursor<'_>, key: &str, scalar: Type, count: u64) -> Result<Box<[u64]>, WeightsError> {
    cursor.check_count(count, scalar.min_bytes(), &format!("values of metadata {}", shown(key)))?;
    if scalar != Type::String {
        let values = cursor.take(count * scalar.min_bytes(), || format!("the values of metadata {}", shown(key)))?;
        if scalar == Type::Bool
            && let Some(byte) = values.iter().find(|b| **b > 1)
        {
            let found = format!("a bool is {byte}, neither 0 nor 1");
            return Err(WeightsError::malformed(cursor.path(), format!("metadata {}", shown(key)), found, MAKE_AGAIN));
        }
        return Ok(Box::default());
    }
    let start = cursor.position();
    let mut marks = Vec::new();
    for i in 0..count {
        if i > 0 && i % MARK_EVERY == 0 {
            marks.push((cursor.position() - start) as u64);
        }
        cursor.string(|| format!("string {i} of metadata {}", shown(key)))?;
    }
    Ok(marks.into_boxed_slice())
}
