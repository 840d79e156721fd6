//! What a setting may be: its kind, its values, and how they are read from TOML and from text.

use std::path::PathBuf;

use toml::de::{DeInteger, DeValue};

use crate::registry::{BACKEND_NAME_RULE, is_backend_name};

/// What a key's value may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// The name of a backend.
    BackendName,
    /// A path, not empty.
    Path,
    /// A whole number from `min` to `max`.
    Integer {
        /// The smallest.
        min: u64,
        /// The largest.
        max: u64,
    },
    /// A finite number of at least `min`, or above it, and at most `max`.
    Number {
        /// The lower bound.
        min: f64,
        /// Whether the lower bound itself is excluded.
        above: bool,
        /// The upper bound; infinite for none.
        max: f64,
    },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A list of strings, none of them empty.
    Strings,
    /// true or false.
    Switch,
    /// A list of token ids; as text also with commas alone.
    TokenIds,
    /// A list of lists of token ids, none of them empty.
    TokenIdLists,
    /// A list of pairs: a list of token ids, not empty, and a finite number or -inf.
    Biases,
    /// A pair: a whole number and a finite number.
    Decay,
}

/// A value on its way into a [`Config`](super::Config).
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Text(String),
    Path(PathBuf),
    Integer(u64),
    Number(f64),
    Strings(Vec<String>),
    Switch(bool),
    TokenIds(Vec<u32>),
    TokenIdLists(Vec<Vec<u32>>),
    Biases(Vec<(Vec<u32>, f64)>),
    Decay((usize, f64)),
}

/// A type a setting can have in [`Config`](super::Config).
pub(super) trait Field: Sized {
    fn to_value(&self) -> Value;
    /// `None` for a value of another kind, which a key's [`Kind`] does not let through.
    fn from_value(value: Value) -> Option<Self>;
}

macro_rules! fields {
    ($($type:ty: $variant:ident($v:ident) => $out:expr, $this:ident => $back:expr;)*) => {$(
        impl Field for $type {
            fn to_value(&self) -> Value {
                let $this = self;
                Value::$variant($back)
            }

            fn from_value(value: Value) -> Option<$type> {
                match value {
                    Value::$variant($v) => $out,
                    _ => None,
                }
            }
        }
    )*};
}

fields! {
    String: Text(v) => Some(v), this => this.clone();
    PathBuf: Path(v) => Some(v), this => this.clone();
    u64: Integer(v) => Some(v), this => *this;
    usize: Integer(v) => usize::try_from(v).ok(), this => *this as u64;
    f64: Number(v) => Some(v), this => *this;
    Vec<String>: Strings(v) => Some(v), this => this.clone();
    bool: Switch(v) => Some(v), this => *this;
    Vec<u32>: TokenIds(v) => Some(v), this => this.clone();
    Vec<Vec<u32>>: TokenIdLists(v) => Some(v), this => this.clone();
    Vec<(Vec<u32>, f64)>: Biases(v) => Some(v), this => this.clone();
    (usize, f64): Decay(v) => Some(v), this => *this;
}

impl Kind {
    /// The rule, to stand after "it must".
    pub fn rule(&self) -> String {
        match self {
            Kind::BackendName => format!(
                "be a string, the name of a backend ({BACKEND_NAME_RULE}); a backend's own settings go into \
                 [backends.NAME]"
            ),
            Kind::Path => "be a string, the path of a checkpoint".into(),
            Kind::Integer { min: 0, max: u64::MAX } => "be a whole number of at least 0 and below 2^64".into(),
            Kind::Integer { min, max } => format!("be a whole number from {min} to {max}"),
            Kind::Number { min, max, .. } if min.is_infinite() && max.is_infinite() => "be a finite number".into(),
            Kind::Number { min, above, max } => {
                let from = if *above { "above" } else { "of at least" };
                let to = if max.is_finite() { format!(" and at most {max}") } else { String::new() };
                format!("be a finite number {from} {min}{to}")
            }
            Kind::Choice(names) => {
                let quoted: Vec<String> = names.iter().map(|n| format!("\"{n}\"")).collect();
                format!("be {}", quoted.join(" or "))
            }
            Kind::Strings => "be a list of strings, none of them empty, such as [\"END\"]".into(),
            Kind::Switch => "be true or false".into(),
            Kind::TokenIds => "be a list of token ids, such as [1, 2]".into(),
            Kind::TokenIdLists => "be a list of lists of token ids, none of them empty, such as [[1], [2, 3]]".into(),
            Kind::Biases => {
                "be a list of pairs, each a list of token ids and a number, such as [[[1, 2], -1.5]]".into()
            }
            Kind::Decay => "be a pair of a whole number and a finite number, such as [5, 1.2]".into(),
        }
    }

    /// Whether `value` is of this kind and in its range.
    pub(super) fn allows(&self, value: &Value) -> bool {
        match (self, value) {
            (Kind::BackendName, Value::Text(name)) => is_backend_name(name),
            (Kind::Path, Value::Path(path)) => !path.as_os_str().is_empty(),
            (Kind::Integer { min, max }, Value::Integer(n)) => (min..=max).contains(&n),
            (Kind::Number { min, above, max }, Value::Number(x)) => {
                x.is_finite() && x >= min && x <= max && !(*above && x == min)
            }
            (Kind::Choice(names), Value::Text(name)) => names.contains(&name.as_str()),
            (Kind::Strings, Value::Strings(list)) => list.iter().all(|s| !s.is_empty()),
            (Kind::Switch, Value::Switch(_)) | (Kind::TokenIds, Value::TokenIds(_)) => true,
            (Kind::TokenIdLists, Value::TokenIdLists(lists)) => lists.iter().all(|list| !list.is_empty()),
            (Kind::Biases, Value::Biases(pairs)) => pairs
                .iter()
                .all(|(tokens, bias)| !tokens.is_empty() && (bias.is_finite() || *bias == f64::NEG_INFINITY)),
            (Kind::Decay, Value::Decay((_, factor))) => factor.is_finite(),
            _ => false,
        }
    }

    /// The value in a file, if it is of this kind and in its range.
    pub(super) fn read_toml(&self, value: &DeValue<'_>) -> Option<Value> {
        let read = match (self, value) {
            (Kind::BackendName | Kind::Choice(_), DeValue::String(s)) => Value::Text(s.to_string()),
            (Kind::Path, DeValue::String(s)) => Value::Path(PathBuf::from(s.as_ref())),
            (Kind::Integer { .. }, DeValue::Integer(n)) => Value::Integer(u64::try_from(integer(n)?).ok()?),
            (Kind::Number { .. }, DeValue::Integer(n)) => Value::Number(integer(n)? as f64),
            (Kind::Number { .. }, DeValue::Float(x)) => Value::Number(x.as_str().parse().ok()?),
            (Kind::Strings, DeValue::Array(list)) => {
                let strings = list.iter().map(|s| s.get_ref().as_str().map(str::to_owned));
                Value::Strings(strings.collect::<Option<_>>()?)
            }
            (Kind::Choice(_), DeValue::Boolean(b)) => Value::Text(b.to_string()),
            (Kind::Switch, DeValue::Boolean(b)) => Value::Switch(*b),
            (Kind::TokenIds, list) => Value::TokenIds(token_ids(list)?),
            (Kind::TokenIdLists, DeValue::Array(lists)) => {
                Value::TokenIdLists(lists.iter().map(|list| token_ids(list.get_ref())).collect::<Option<_>>()?)
            }
            (Kind::Biases, DeValue::Array(pairs)) => {
                let biases = pairs.iter().map(|entry| {
                    let (tokens, bias) = pair(entry.get_ref())?;
                    Some((token_ids(tokens)?, number(bias)?))
                });
                Value::Biases(biases.collect::<Option<_>>()?)
            }
            (Kind::Decay, entry) => {
                let (start, factor) = pair(entry)?;
                let DeValue::Integer(start) = start else { return None };
                Value::Decay((usize::try_from(integer(start)?).ok()?, number(factor)?))
            }
            _ => return None,
        };
        self.allows(&read).then_some(read)
    }

    /// The value in a variable's text, if it is of this kind and in its range.
    pub(super) fn read_text(&self, text: &str) -> Option<Value> {
        let read = match self {
            Kind::BackendName | Kind::Choice(_) => Value::Text(text.to_owned()),
            Kind::Path => Value::Path(PathBuf::from(text)),
            Kind::Integer { .. } => Value::Integer(text.parse().ok()?),
            Kind::Number { .. } => Value::Number(text.parse().ok()?),
            // A list is written as in a file; anything that does not look like one is a single string.
            Kind::Strings if text.trim_start().starts_with('[') => {
                return self.read_toml(DeValue::parse(text.trim()).ok()?.get_ref());
            }
            Kind::Strings => Value::Strings(vec![text.to_owned()]),
            Kind::Switch => Value::Switch(text.parse().ok()?),
            Kind::TokenIds if !text.trim_start().starts_with('[') => {
                let ids = text.split(',').map(|id| id.trim().parse().ok());
                Value::TokenIds(ids.collect::<Option<_>>()?)
            }
            Kind::TokenIds | Kind::TokenIdLists | Kind::Biases | Kind::Decay => {
                return self.read_toml(DeValue::parse(text.trim()).ok()?.get_ref());
            }
        };
        self.allows(&read).then_some(read)
    }
}

impl Value {
    /// The value as TOML, on one line.
    pub(super) fn to_toml(&self) -> String {
        match self {
            Value::Text(s) => quote(s),
            Value::Path(path) => quote(&path.to_string_lossy()),
            Value::Integer(n) => n.to_string(),
            Value::Number(x) => format!("{x:?}"),
            Value::Strings(list) => {
                format!("[{}]", list.iter().map(|s| quote(s)).collect::<Vec<_>>().join(", "))
            }
            Value::Switch(b) => b.to_string(),
            Value::TokenIds(ids) => format!("{ids:?}"),
            Value::TokenIdLists(lists) => format!("{lists:?}"),
            Value::Biases(pairs) => {
                let pairs: Vec<String> = pairs.iter().map(|(tokens, bias)| format!("[{tokens:?}, {bias:?}]")).collect();
                format!("[{}]", pairs.join(", "))
            }
            Value::Decay((start, factor)) => format!("[{start}, {factor:?}]"),
        }
    }
}

fn token_ids(value: &DeValue<'_>) -> Option<Vec<u32>> {
    let ids = value.as_array()?.iter().map(|id| match id.get_ref() {
        DeValue::Integer(n) => u32::try_from(integer(n)?).ok(),
        _ => None,
    });
    ids.collect()
}

/// The two entries of a list of two.
fn pair<'v, 'a>(value: &'v DeValue<'a>) -> Option<(&'v DeValue<'a>, &'v DeValue<'a>)> {
    let list = value.as_array()?;
    (list.len() == 2).then(|| (list[0].get_ref(), list[1].get_ref()))
}

fn number(value: &DeValue<'_>) -> Option<f64> {
    match value {
        DeValue::Integer(n) => Some(integer(n)? as f64),
        DeValue::Float(x) => x.as_str().parse().ok(),
        _ => None,
    }
}

/// The number an integer in a file stands for, in any of its notations.
pub(super) fn integer(n: &DeInteger<'_>) -> Option<i128> {
    i128::from_str_radix(n.as_str(), n.radix()).ok()
}

/// What a value in a file is, for messages: `the string "512"`.
pub(super) fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(s) => format!("the string {}", shorten(&quote(s))),
        DeValue::Integer(n) => shorten(&n.to_string()),
        DeValue::Float(x) => shorten(x.as_str()),
        DeValue::Boolean(b) => b.to_string(),
        DeValue::Datetime(d) => format!("the date {d}"),
        DeValue::Array(list) => format!("a list of {}", list.len()),
        DeValue::Table(_) => "a table".into(),
    }
}

/// `s` as a basic string of TOML: quoted, on one line, control characters escaped.
pub(super) fn quote(s: &str) -> String {
    let mut quoted = String::from("\"");
    for c in s.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", c as u32)),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// `key` as it is written in a file: bare where that is allowed.
pub(super) fn quote_key(key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if bare { key.to_owned() } else { quote(key) }
}

/// At most so many characters of a text, so that a message stays a message.
pub(super) fn shorten(text: &str) -> String {
    const MOST: usize = 60;
    match text.char_indices().nth(MOST) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}...", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_at_their_ends() {
        let unit = Kind::Number { min: 0.0, above: true, max: 1.0 };
        let accepted = |text: &str| unit.read_text(text).is_some();
        assert!(accepted("1") && accepted("1.0") && accepted("5e-324"));
        for text in ["0", "-0.0", "1.0000001", "nan", "inf", "-1", "", " 1", "1,0"] {
            assert!(!accepted(text), "{text:?}");
        }
        let whole = Kind::Integer { min: 1, max: 8 };
        assert_eq!(whole.read_text("8"), Some(Value::Integer(8)));
        for text in ["0", "9", "-1", "1.0", "0x4", "99999999999999999999999"] {
            assert!(whole.read_text(text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn lists_and_pairs_of_numbers_read_back_as_themselves() {
        let same = |kind: Kind, text: &str| {
            let value = kind.read_text(text).unwrap_or_else(|| panic!("{text}"));
            let written = value.to_toml();
            assert_eq!(kind.read_toml(DeValue::parse(&written).unwrap().get_ref()), Some(value), "{written}");
        };
        same(Kind::Switch, "true");
        for text in ["7", "1, 2,3", "[]", "[4, 0x10]"] {
            same(Kind::TokenIds, text);
        }
        assert_eq!(Kind::TokenIds.read_text("1, 2"), Some(Value::TokenIds(vec![1, 2])));
        same(Kind::TokenIdLists, "[[1, 2], [3]]");
        same(Kind::Biases, "[[[1, 2], -1.5], [[3], 2], [[4], -inf]]");
        same(Kind::Decay, "[5, 1.25]");
        for (kind, wrong) in [
            (Kind::Switch, "yes"),
            (Kind::TokenIds, "1,,2"),
            (Kind::TokenIds, "-1"),
            (Kind::TokenIds, "[4294967296]"),
            (Kind::TokenIdLists, "[[1], []]"),
            (Kind::TokenIdLists, "[1]"),
            (Kind::Biases, "[[[], 1.0]]"),
            (Kind::Biases, "[[[1], inf]]"),
            (Kind::Biases, "[[[1]]]"),
            (Kind::Decay, "[1.5, 1]"),
            (Kind::Decay, "[1, nan]"),
            (Kind::Decay, "5"),
        ] {
            assert_eq!(kind.read_text(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_quoted_string_reads_back_as_itself() {
        for s in ["", "plain", "a \"b\" \\ c", "line\nfeed\ttab\rreturn", "\u{0}\u{1b}\u{7f}\u{85}", "héé 🦙", "'''"]
        {
            let quoted = quote(s);
            assert!(!quoted.contains('\n'));
            assert_eq!(DeValue::parse(&quoted).unwrap().get_ref().as_str(), Some(s), "{quoted}");
        }
    }
}
