//! What templates expect from Python: `json.dumps` and `strftime`.

use jiff::civil::DateTime;
use jiff::fmt::strtime::{BrokenDownTime, Config};
use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

/// Nesting of a value that can be written as JSON.
const MAX_DEPTH: usize = 100;
const MAX_INDENT: usize = 64;

/// `tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False)`: `json.dumps` of Python, which
/// transformers puts in place of Jinja's filter, since that one escapes HTML.
pub(super) fn tojson(state: &State, value: Value, args: Rest<Value>, kwargs: Kwargs) -> Result<String, Error> {
    let argument = |position: usize, name: &str| -> Result<Option<Value>, Error> {
        let value = match args.get(position) {
            Some(value) => Some(value.clone()),
            None => kwargs.get::<Option<Value>>(name)?,
        };
        Ok(value.filter(|v| !v.is_none() && !v.is_undefined()))
    };
    if args.len() > 4 {
        return Err(Error::from(ErrorKind::TooManyArguments));
    }
    let ensure_ascii = argument(0, "ensure_ascii")?.is_some_and(|v| v.is_true());
    let indent = argument(1, "indent")?.map(|v| indent(&v)).transpose()?;
    let separators = argument(2, "separators")?.map(|v| separators(&v)).transpose()?;
    let sort_keys = argument(3, "sort_keys")?.is_some_and(|v| v.is_true());
    kwargs.assert_all_used()?;

    // With an indent, Python leaves no space at the end of a line.
    let comma = if indent.is_some() { "," } else { ", " };
    let (item, key) = separators.unwrap_or_else(|| (comma.to_owned(), ": ".to_owned()));
    let mut writer = JsonWriter { state, out: String::new(), paid: 0, ensure_ascii, indent, item, key, sort_keys };
    writer.value(&value, 0)?;
    writer.pay()?;
    Ok(writer.out)
}

/// A number of spaces, or the text itself.
fn indent(value: &Value) -> Result<String, Error> {
    if let Some(text) = value.as_str() {
        return if text.len() <= MAX_INDENT { Ok(text.to_owned()) } else { Err(invalid("tojson: indent is too long")) };
    }
    match i64::try_from(value.clone()) {
        Ok(spaces) if spaces <= MAX_INDENT as i64 => Ok(" ".repeat(usize::try_from(spaces).unwrap_or(0))),
        Ok(spaces) => Err(invalid(format!("tojson: indent {spaces} is over {MAX_INDENT}"))),
        Err(_) => Err(invalid(format!("tojson: indent has to be a number or a string, not {value}"))),
    }
}

fn separators(value: &Value) -> Result<(String, String), Error> {
    let parts: Vec<Value> = value.try_iter()?.take(3).collect();
    match parts.iter().map(Value::as_str).collect::<Vec<_>>()[..] {
        [Some(item), Some(key)] if item.len() + key.len() <= MAX_INDENT => Ok((item.to_owned(), key.to_owned())),
        _ => Err(invalid("tojson: separators has to be two short strings")),
    }
}

struct JsonWriter<'a, 'e> {
    state: &'a State<'a, 'e>,
    out: String,
    /// Bytes of `out` already charged.
    paid: usize,
    ensure_ascii: bool,
    indent: Option<String>,
    item: String,
    key: String,
    sort_keys: bool,
}

impl JsonWriter<'_, '_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(invalid(format!("tojson: a value nested deeper than {MAX_DEPTH}")));
        }
        self.pay()?;
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number if value.is_integer() => self.out.push_str(&value.to_string()),
            ValueKind::Number => self.out.push_str(&float(f64::try_from(value.clone())?)),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => self.list(value, depth)?,
            ValueKind::Map => self.object(value, depth)?,
            other => return Err(invalid(format!("tojson: {other} cannot be written as JSON"))),
        }
        Ok(())
    }

    fn list(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        self.out.push('[');
        let mut empty = true;
        for item in value.try_iter()? {
            self.separate(empty, depth + 1);
            empty = false;
            self.value(&item, depth + 1)?;
        }
        self.close(']', empty, depth);
        Ok(())
    }

    fn object(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        let mut keys: Vec<Value> = value.try_iter()?.collect();
        if self.sort_keys {
            keys.sort();
        }
        self.out.push('{');
        for (index, key) in keys.iter().enumerate() {
            self.separate(index == 0, depth + 1);
            match key.kind() {
                ValueKind::String => self.string(key.as_str().unwrap_or_default()),
                // Python writes the other simple kinds as strings.
                ValueKind::None | ValueKind::Bool | ValueKind::Number => {
                    self.out.push('"');
                    self.value(key, depth + 1)?;
                    self.out.push('"');
                }
                other => return Err(invalid(format!("tojson: {other} cannot be a key"))),
            }
            self.out.push_str(&self.key);
            self.value(&value.get_item(key)?, depth + 1)?;
        }
        self.close('}', keys.is_empty(), depth);
        Ok(())
    }

    fn separate(&mut self, first: bool, depth: usize) {
        if !first {
            self.out.push_str(&self.item);
        }
        self.new_line(depth);
    }

    fn close(&mut self, bracket: char, empty: bool, depth: usize) {
        if !empty {
            self.new_line(depth);
        }
        self.out.push(bracket);
    }

    fn new_line(&mut self, depth: usize) {
        if let Some(indent) = &self.indent {
            self.out.push('\n');
            (0..depth).for_each(|_| self.out.push_str(indent));
        }
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                c if c < ' ' || (self.ensure_ascii && !(' '..='~').contains(&c)) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        self.out.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }

    /// Charges the template for what has been written since the last time.
    fn pay(&mut self) -> Result<(), Error> {
        let due = self.out.len() - self.paid;
        self.paid = self.out.len();
        self.state.consume_fuel(1 + due as u64 / 16)
    }
}

/// A float as Python's `repr` writes it: the shortest digits that read back the same, with an exponent below 1e-4 and
/// from 1e16 on.
fn float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return scientific };
    match exponent.parse::<i32>() {
        Ok(exponent @ (..-4 | 16..)) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
        _ => format!("{value:?}"),
    }
}

/// `datetime.strftime`: an unknown directive is written as it is, as the C library does.
pub(super) fn strftime(format: &str, time: DateTime) -> Result<String, Error> {
    let mut text = String::new();
    let config = Config::new().lenient(true);
    BrokenDownTime::from(time)
        .format_with_config(&config, format, &mut text)
        .map_err(|e| invalid(format!("strftime_now({format:?}): {e}")))?;
    Ok(text)
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_as_python_writes_them() {
        for (value, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (1e-4, "0.0001"),
            (1.25e-5, "1.25e-05"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(float(value), text);
        }
    }
}
