//! `specs/config.md` says what the program does: its examples load, its tables have every key, its messages come.

use std::fs;
use std::path::Path;

use camelid_host::config::{KEYS, Kind};
use camelid_host::{Config, ConfigSources, Loaded};

fn manual() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../specs/config.md")).unwrap()
}

/// The code blocks of `language`, in order.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once(&format!("```{language}\n")) {
        let (block, after) = after.split_once("```").expect("a block ends");
        blocks.push(block.to_owned());
        rest = after;
    }
    blocks
}

fn load(file: &str) -> Loaded {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("camelid.toml"), file).unwrap();
    Config::load(&ConfigSources { cwd: folder.path().into(), ..ConfigSources::default() }).unwrap()
}

#[test]
fn the_examples_are_right() {
    let examples = blocks(&manual(), "toml");
    assert_eq!(examples.len(), 5);
    for example in &examples {
        assert!(!load(example).settings().is_empty());
    }
    let first = load(&examples[0]).config;
    assert_eq!(first.backend.as_deref(), Some("reference"));
    assert_eq!(first.device("reference").1.get("threads"), Some("2"));
    assert_eq!(first.generate.stop, Some(vec!["\n\n".to_owned(), "</s>".to_owned()]));
    let tables = load(&examples[1]).config.backends;
    assert_eq!(tables["my-npu"].device, Some(1));
    assert_eq!(tables["my-npu"].options["profile"], "false");
}

/// A row of a table, by the key in its first cell; the cells without their bars.
fn row<'a>(section: &'a str, name: &str) -> Vec<&'a str> {
    let start = format!("| `{name}` |");
    let line = section.lines().find(|l| l.starts_with(&start)).unwrap_or_else(|| panic!("no row for {name}"));
    line.trim_matches('|').split('|').map(str::trim).collect()
}

#[test]
fn the_tables_have_every_key_with_its_range_default_variable_and_flag() {
    let manual = manual();
    let mut rows = 0;
    for key in KEYS {
        let (table, name) = key.table_and_name();
        let heading = if table.is_empty() { "## Top level".to_owned() } else { format!("## `[{table}]`") };
        let section = manual.split_once(&format!("{heading}\n")).unwrap().1;
        let section = section.split("\n## ").next().unwrap();
        let [_, value, default, variable, flag] = row(section, name)[..] else { panic!("{name}: five cells") };
        assert_eq!(default.trim_matches('`'), key.default, "{name}");
        assert_eq!(variable, format!("`{}`", key.variable()), "{name}");
        assert_eq!(flag.split(',').next().unwrap(), key.flag.map_or(String::new(), |f| format!("`{f}`")), "{name}");
        let range = match key.kind {
            Kind::Integer { min, max } => format!("from {min} to {max}"),
            Kind::Number { min, max, .. } if min.is_infinite() && max.is_infinite() => "a number".into(),
            Kind::Number { min, above: true, max } if max.is_finite() => format!("above {min} and at most {max}"),
            Kind::Number { min, above: true, .. } => format!("a number above {min}"),
            Kind::Number { min, max, .. } if max.is_finite() => format!("from {min} to {max}"),
            Kind::Number { min, .. } => format!("a number of at least {min}"),
            _ => String::new(),
        };
        assert!(value.ends_with(&range), "{name}: {value} / {range}");
        if let Kind::Choice(names) = key.kind {
            assert!(names.iter().all(|n| value.contains(&format!("`\"{n}\"`"))), "{name}: {value}");
        }
        rows += 1;
    }
    let written = manual.lines().filter(|l| l.starts_with("| `") && l.contains("`CAMELID_")).count();
    assert_eq!(written, rows, "the manual has rows of keys that are not there");
}

#[test]
fn the_precedence_example_comes_out_as_written() {
    let manual = manual();
    let (files, expected) = (blocks(&manual, "toml"), blocks(&manual, "text"));
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("camelid.toml"), &files[3]).unwrap();
    fs::create_dir(folder.path().join("ci")).unwrap();
    fs::write(folder.path().join("ci/check.toml"), &files[4]).unwrap();
    let variable = |name: &str, value: &str| {
        assert!(manual.contains(&format!("`{name}={value}`")));
        (name.to_owned(), value.to_owned())
    };
    let mut overrides = Config::default();
    overrides.generate.max_new_tokens = Some(8);
    let sources = ConfigSources {
        cwd: folder.path().into(),
        explicit_file: Some("ci/check.toml".into()),
        env: vec![variable("CAMELID_GENERATE_SEED", "3"), variable("CAMELID_ENGINE_CACHE", "paged")],
        overrides,
    };
    let loaded = Config::load(&sources).unwrap();
    let lines: String =
        loaded.settings().iter().map(|s| format!("{} = {}  # {}\n", s.key, s.value, s.origin)).collect();
    assert_eq!(lines.replace(folder.path().to_str().unwrap(), "/srv/app"), expected[0]);
}

#[test]
fn the_messages_are_those_the_manual_shows() {
    let folder = tempfile::tempdir().unwrap();
    let fails = |file: &str, explicit: Option<&str>, env: &[(&str, &str)]| {
        fs::write(folder.path().join("camelid.toml"), file).unwrap();
        let sources = ConfigSources {
            cwd: folder.path().into(),
            explicit_file: explicit.map(Into::into),
            env: env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            overrides: Config::default(),
        };
        Config::load(&sources).unwrap_err().to_string()
    };
    let messages = [
        fails("[engine]\ncontxt_size = 1", None, &[]),
        fails("[generate]\ntop_p = 1.5", None, &[]),
        fails("[engine]\nbatch_size = \"512\"", None, &[]),
        fails("", None, &[("CAMELID_GENERATE_TOP_K", "forty")]),
        fails("", None, &[("CAMELID_TEMPERATURE", "1")]),
        fails("", Some("missing.toml"), &[]),
    ];
    let expected = &blocks(&manual(), "text")[1];
    // The last message ends in the system's own words.
    let system = expected.lines().last().unwrap().split("cannot read it").next().unwrap();
    assert!(messages[5].starts_with(system), "{}", messages[5]);
    assert_eq!(messages[..5], expected.lines().take(5).collect::<Vec<_>>());
}
