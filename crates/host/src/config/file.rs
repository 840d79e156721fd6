//! Settings from a TOML file.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::error::ConfigError;
use super::load::{Layer, Origin};
use super::schema::{BACKENDS, DEVICE, DEVICE_KIND, KEYS, Key, PLUGIN, PLUGIN_KEYS};
use super::value::{Value, describe, integer, quote, quote_key, shorten};
use crate::plugin::{PluginSpec, check_access};
use crate::registry::{BACKEND_NAME_RULE, is_backend_name};
use crate::suggest::nearest;

/// Most bytes of a configuration file. A larger one is some other file.
const MAX_BYTES: u64 = 1 << 20;

/// The text of a configuration file. `shown` is the path as messages have it.
pub(super) fn read(path: &Path, shown: &Path) -> Result<String, ConfigError> {
    let wrong = |problem: String| ConfigError::File { path: shown.to_owned(), problem };
    let failed = |error: std::io::Error| wrong(format!("cannot read it: {error}"));
    let metadata = fs::metadata(path).map_err(failed)?;
    if metadata.is_dir() {
        return Err(wrong("it is a folder; name a TOML file".into()));
    }
    if !metadata.is_file() {
        // A pipe without a writer would be waited for without end.
        return Err(wrong("it is not a regular file; write the settings to one".into()));
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|f| f.take(MAX_BYTES + 1).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes.len() as u64 > MAX_BYTES {
        let size = metadata.len().max(bytes.len() as u64);
        return Err(wrong(format!(
            "it has {size} bytes, more than the {MAX_BYTES} a configuration may have; is it the right file?"
        )));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..at].iter().filter(|b| **b == b'\n').count();
        wrong(format!("it is not UTF-8 text: byte {at}, in line {line}, begins no character"))
    })
}

/// The settings in `text`, the contents of the file that messages call `shown` and whose relative paths start at
/// `folder`. Of several errors the first in the file is reported.
pub(super) fn parse(text: &str, shown: &Path, folder: &Path) -> Result<Layer, ConfigError> {
    let line_starts = text.match_indices('\n').map(|(i, _)| i + 1).collect();
    let mut reader = Reader { line_starts, shown, folder, layer: Layer::default(), first_error: None };
    let document = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
        origin: reader.origin(error.span().map_or(0, |s| s.start)),
        problem: error.message().to_owned(),
    })?;
    reader.table("", document.get_ref());
    match reader.first_error {
        None => Ok(reader.layer),
        Some((_, error)) => Err(error),
    }
}

struct Reader<'a> {
    /// Where each line but the first begins.
    line_starts: Vec<usize>,
    shown: &'a Path,
    folder: &'a Path,
    layer: Layer,
    /// The error nearest to the file's beginning, and where it is.
    first_error: Option<(usize, ConfigError)>,
}

type Entry<'a> = (&'a Spanned<std::borrow::Cow<'a, str>>, &'a Spanned<DeValue<'a>>);

impl Reader<'_> {
    fn origin(&self, at: usize) -> Origin {
        let line = 1 + self.line_starts.partition_point(|start| *start <= at);
        Origin::File { path: self.shown.to_owned(), line }
    }

    fn fail(&mut self, at: usize, error: impl FnOnce(Origin) -> ConfigError) {
        if self.first_error.as_ref().is_none_or(|(other, _)| at < *other) {
            self.first_error = Some((at, error(self.origin(at))));
        }
    }

    fn wrong(&mut self, at: usize, key: String, value: &DeValue<'_>, rule: String) {
        self.fail(at, |origin| ConfigError::Value { origin, key, found: describe(value), rule });
    }

    /// The keys of the table `table` (empty: the top level).
    fn table(&mut self, table: &str, entries: &DeTable<'_>) {
        for (name, value) in entries {
            let at = name.span().start;
            let path =
                if table.is_empty() { name.get_ref().to_string() } else { format!("{table}.{}", name.get_ref()) };
            let dotted_name = name.get_ref().contains('.');
            match Key::find(&path).filter(|_| !dotted_name) {
                Some(key) => self.setting(at, key, value.get_ref()),
                None if table.is_empty() && is_table(name.get_ref()) => {
                    match value.get_ref() {
                        DeValue::Table(inner) if path == BACKENDS => self.backends(inner),
                        DeValue::Array(entries) if path == PLUGIN => self.plugins(at, entries),
                        other if path == PLUGIN => {
                            self.wrong(at, path.clone(), other, "be an array of tables: [[plugin]]".into());
                        }
                        DeValue::Table(inner) => self.table(&path, inner),
                        other => self.wrong(at, path.clone(), other, format!("be a table: [{path}]")),
                    };
                }
                None => self.unknown(at, table, name.get_ref()),
            }
        }
    }

    fn setting(&mut self, at: usize, key: &Key, value: &DeValue<'_>) {
        match key.kind.read_toml(value) {
            None => self.wrong(at, key.path.to_owned(), value, key.kind.rule()),
            Some(Value::Path(path)) => {
                let path: PathBuf = self.folder.join(path);
                let origin = self.origin(at);
                self.layer.set(key.path, Value::Path(path), origin);
            }
            Some(value) => {
                let origin = self.origin(at);
                self.layer.set(key.path, value, origin);
            }
        }
    }

    fn unknown(&mut self, at: usize, table: &str, name: &str) {
        let siblings = KEYS.iter().map(Key::table_and_name).filter(|(t, _)| *t == table);
        let mut known: Vec<&str> = siblings.map(|(_, name)| name).collect();
        if table.is_empty() {
            known.extend(TABLES);
        }
        let full = |n: &str| if table.is_empty() { n.to_owned() } else { format!("{table}.{n}") };
        // A key in the wrong table, or one written as `"engine.batch_size"`, is known exactly.
        let elsewhere = KEYS.iter().find(|k| k.table_and_name().1 == name || k.path == name).map(|k| k.path.to_owned());
        let near = elsewhere.or_else(|| nearest(name, known.iter().copied()).map(full));
        let place = if table.is_empty() { "the top level".to_owned() } else { format!("[{table}]") };
        let key = full(&shorten(&quote_key(name)));
        let known = format!("{place} has: {}", known.join(", "));
        self.fail(at, |origin| ConfigError::UnknownKey { origin, key, nearest: near, known });
    }

    /// The tables `[[plugin]]`. Whoever may change them decides what code runs.
    fn plugins(&mut self, at: usize, entries: &DeArray<'_>) {
        if let Err(error) = check_access(&self.folder.join(self.shown.file_name().unwrap_or_default())) {
            let problem = format!("it names plugins, so nobody else may be able to change it: {error}");
            let path = self.shown.to_owned();
            self.fail(at, |_| ConfigError::File { path, problem });
        }
        for entry in entries {
            match entry.get_ref() {
                DeValue::Table(keys) => self.plugin(entry.span().start, keys),
                other => self.wrong(entry.span().start, PLUGIN.into(), other, "be a table: [[plugin]]".into()),
            }
        }
    }

    fn plugin(&mut self, at: usize, keys: &DeTable<'_>) {
        let mut spec = PluginSpec { name: None, path: PathBuf::new(), sha256: None };
        for (key, value) in keys {
            let (at, key, value) = (key.span().start, key.get_ref(), value.get_ref());
            let path = format!("{PLUGIN}.{}", shorten(&quote_key(key)));
            if !PLUGIN_KEYS.contains(&&**key) {
                let nearest = nearest(key, PLUGIN_KEYS).map(|k| format!("{PLUGIN}.{k}"));
                let known = format!("[[{PLUGIN}]] has: {}", PLUGIN_KEYS.join(", "));
                self.fail(at, |origin| ConfigError::UnknownKey { origin, key: path, nearest, known });
                continue;
            }
            let text = value.as_str().unwrap_or_default();
            let rule = match &**key {
                "name" if is_backend_name(text) => {
                    spec.name = Some(text.to_owned());
                    continue;
                }
                "name" => format!("be the backend's name, in quotes: {BACKEND_NAME_RULE}"),
                "path" if Path::new(text).is_absolute() => {
                    spec.path = text.into();
                    continue;
                }
                "path" => {
                    let meant = self.folder.join(text);
                    format!("be an absolute path, in quotes, such as {}", quote(&meant.to_string_lossy()))
                }
                _ => match text.parse() {
                    Ok(hash) => {
                        spec.sha256 = Some(hash);
                        continue;
                    }
                    Err(()) => "be the SHA-256 of the library: 64 hexadecimal digits in quotes".into(),
                },
            };
            self.wrong(at, path, value, rule);
        }
        for (key, given) in [("name", spec.name.is_some()), ("path", !spec.path.as_os_str().is_empty())] {
            if !given && !keys.contains_key(key) {
                let rule = format!("have a {key}");
                self.fail(at, |origin| ConfigError::Value {
                    origin,
                    key: PLUGIN.into(),
                    found: format!("a table without `{key}`"),
                    rule,
                });
            }
        }
        let origin = self.origin(at);
        self.layer.add_plugin(spec, origin);
    }

    fn backends(&mut self, tables: &DeTable<'_>) {
        for (name, table) in tables {
            let at = name.span().start;
            let path = format!("{BACKENDS}.{}", shorten(&quote_key(name.get_ref())));
            match table.get_ref() {
                DeValue::Table(_) if !is_backend_name(name.get_ref()) => {
                    self.fail(at, |origin| ConfigError::Value {
                        origin,
                        key: path,
                        found: "the table of no backend".into(),
                        rule: format!("have a backend's name: {BACKEND_NAME_RULE}"),
                    });
                }
                DeValue::Table(settings) => {
                    for entry in settings {
                        self.backend_setting(name.get_ref(), entry);
                    }
                }
                other => self.wrong(at, path.clone(), other, format!("be a table: [{path}]")),
            }
        }
    }

    /// A key of a backend's table: `device`, or an option, which the backend gets as text.
    fn backend_setting(&mut self, backend: &str, (key, value): Entry<'_>) {
        let (at, key, value) = (key.span().start, key.get_ref(), value.get_ref());
        let path = format!("{BACKENDS}.{}.{}", shorten(backend), shorten(&quote_key(key)));
        let origin = self.origin(at);
        if key == DEVICE {
            match DEVICE_KIND.read_toml(value) {
                Some(Value::Integer(index)) => self.layer.set_device(backend, index, origin),
                _ => self.wrong(at, path, value, DEVICE_KIND.rule()),
            }
            return;
        }
        let text = match value {
            DeValue::String(s) => Some(s.to_string()),
            DeValue::Integer(n) => integer(n).map(|n| n.to_string()),
            DeValue::Boolean(b) => Some(b.to_string()),
            _ => None,
        };
        match text {
            Some(text) => self.layer.set_option(backend, key, text, origin),
            None => self.wrong(at, path, value, "be a string, a whole number, true or false".into()),
        }
    }
}

/// The tables of the top level.
const TABLES: [&str; 5] = [BACKENDS, "engine", "generate", PLUGIN, "plugins"];

fn is_table(name: &str) -> bool {
    TABLES.contains(&name)
}
