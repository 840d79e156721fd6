//! `camelid plugin`: the beginning of a backend of your own.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};

use crate::Error;

/// Make a plugin
#[derive(Args, Debug)]
pub struct PluginCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Write a complete small backend into a new folder, to be changed
    New(New),
}

#[derive(Args, Debug)]
struct New {
    /// Name of the backend: lower-case letters, digits, `-` and `_`, a letter first
    name: String,
    /// Language to write it in
    #[arg(long, value_enum)]
    lang: Language,
    /// Folder to make [default: the name]
    #[arg(long, value_name = "FOLDER")]
    path: Option<PathBuf>,
    /// Folder of the camelid-sdk crate that a Rust plugin is built with [default: the one this program was built with]
    #[arg(long, value_name = "FOLDER")]
    sdk: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Language {
    Rust,
    C,
}

/// Files of an example, by their paths in its folder.
type Template = &'static [(&'static str, &'static str)];

macro_rules! template {
    ($folder:literal: $($file:literal),* $(,)?) => {
        &[$(($file, include_str!(concat!("../../../../plugins/", $folder, "/", $file)))),*]
    };
}

const RUST: Template = template! {
    "example-rust": ".github/workflows/conformance.yml", ".gitignore", ".gitlab-ci.yml", "Cargo.toml", "README.md",
    "ci/conformance.sh", "conformance.toml", "libcamelid_example.plugin.toml", "src/kernels.rs", "src/lib.rs",
    "tests/conformance.rs", "tests/operations.rs",
};
const C: Template = template! {
    "example-c": ".github/workflows/conformance.yml", ".gitignore", ".gitlab-ci.yml", "Makefile", "README.md",
    "ci/conformance.sh", "conformance.toml", "libcamelid_example_c.plugin.toml", "example.h", "plugin.c", "memory.c",
    "claims.c", "plan.c", "ops.c", "dtype.c", "test.c",
};
const HEADER: &str = include_str!("../../../abi/include/camelid_backend.h");

impl PluginCommand {
    pub fn run(self) -> Result<(), Error> {
        let Action::New(new) = self.action;
        new.run()
    }
}

impl New {
    fn run(self) -> Result<(), Error> {
        let name = &self.name;
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(fits) {
            return Err(format!(
                "`{name}` is no name for a backend: lower-case letters, digits, `-` and `_`, a letter first"
            )
            .into());
        }
        let folder = self.path.clone().unwrap_or_else(|| PathBuf::from(name));
        if folder.exists() {
            return Err(format!("{} is there already; name another folder with --path", folder.display()).into());
        }
        let files = match self.lang {
            Language::Rust => rust(name, &self.sdk()?),
            Language::C => c(name),
        };
        for (path, text) in &files {
            let path = folder.join(path);
            let parent = path.parent().unwrap_or(&folder);
            fs::create_dir_all(parent).map_err(|e| format!("{} cannot be made: {e}", parent.display()))?;
            fs::write(&path, text).map_err(|e| format!("{} cannot be written: {e}", path.display()))?;
        }
        let library = library(name);
        let (build, built) = match self.lang {
            Language::Rust => ("cargo build --release && cp *.plugin.toml target/release/", "target/release"),
            Language::C => ("make", "build"),
        };
        outln!("wrote {} files to {}; now:", files.len(), folder.display());
        outln!("  cd {} && {build}", folder.display());
        outln!("  camelid generate --backend {name} --plugin {built}/{library} \"Once upon a time\"");
        Ok(())
    }

    /// The folder of the sdk.
    fn sdk(&self) -> Result<PathBuf, Error> {
        let given = self.sdk.clone().unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../sdk"));
        let folder = given.canonicalize().unwrap_or_else(|_| given.clone());
        if folder.join("Cargo.toml").is_file() {
            return Ok(folder);
        }
        Err(format!("{} is not the folder of camelid-sdk; name it with --sdk", folder.display()).into())
    }
}

/// The file name of the plugin's library.
fn library(name: &str) -> String {
    format!("libcamelid_{}{}", name.replace('-', "_"), std::env::consts::DLL_SUFFIX)
}

fn filled(template: Template, replacements: &[(&str, String)]) -> Vec<(String, String)> {
    let fill = |text: &str| replacements.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
    template.iter().map(|(path, text)| (fill(path), fill(text))).collect()
}

fn target() -> (&'static str, String) {
    ("x86_64-linux", camelid_sdk::TARGET.to_owned())
}

fn rust(name: &str, sdk: &Path) -> Vec<(String, String)> {
    let identifier = name.replace('-', "_");
    let path = |p: &Path| toml_string(&p.to_string_lossy());
    filled(
        RUST,
        &[
            ("camelid-example", format!("camelid-{name}")),
            ("camelid_example", format!("camelid_{identifier}")),
            ("\"example\"", format!("\"{name}\"")),
            ("Example", camel(name)),
            ("\"../../crates/sdk\"", path(sdk)),
            ("\"../../conformance\"", path(&sdk.join("../../conformance"))),
            target(),
        ],
    )
}

fn c(name: &str) -> Vec<(String, String)> {
    let mut files = filled(
        C,
        &[
            ("camelid_example_c", format!("camelid_{}", name.replace('-', "_"))),
            ("example-c", name.to_owned()),
            ("../../crates/abi/include", "include".to_owned()),
            target(),
        ],
    );
    files.push(("include/camelid_backend.h".to_owned(), HEADER.to_owned()));
    files
}

/// `my-npu` as a Rust type: `MyNpu`.
fn camel(name: &str) -> String {
    let part = |part: &str| part.chars().take(1).map(|c| c.to_ascii_uppercase()).chain(part.chars().skip(1)).collect();
    name.split(['-', '_']).map(part).collect::<Vec<String>>().concat()
}

fn toml_string(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use camelid_sdk::abi;

    use super::*;

    /// A file that is added to an example belongs to what is written.
    #[test]
    fn the_templates_have_every_file_of_the_examples() {
        for (folder, template) in [("example-rust", RUST), ("example-c", C)] {
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins").join(folder);
            let mut found = Vec::new();
            let mut folders = vec![root.clone()];
            while let Some(folder) = folders.pop() {
                for entry in fs::read_dir(folder).unwrap() {
                    let path = entry.unwrap().path();
                    let name = path.file_name().unwrap().to_string_lossy().into_owned();
                    match path.is_dir() {
                        true if ["target", "build", "conformance-report"].contains(&&*name) => {}
                        true => folders.push(path),
                        false if ["Cargo.lock"].contains(&&*name) => {}
                        false => found.push(path.strip_prefix(&root).unwrap().to_string_lossy().into_owned()),
                    }
                }
            }
            let mut expected: Vec<&str> = template.iter().map(|(path, _)| *path).collect();
            expected.sort_unstable();
            found.sort();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn names_become_identifiers() {
        assert_eq!((camel("my-npu_2"), library("my-npu")), ("MyNpu2".to_owned(), "libcamelid_my_npu.so".to_owned()));
        assert_eq!(toml_string("a\\\"b"), r#""a\\\"b""#);
    }

    #[test]
    fn what_is_written_has_the_new_name_and_not_the_examples() {
        let files = [rust("my-npu", Path::new("/sdk")), c("my-npu")].concat();
        for (path, text) in &files {
            assert!(!path.contains("example_") && !text.contains("camelid_example"), "{path}");
            assert!(!text.contains("\"example\"") && !text.contains("example-c"), "{path}");
        }
        let manifests = files.iter().filter(|(path, _)| path == "libcamelid_my_npu.plugin.toml");
        for (_, text) in manifests {
            assert!(text.contains("name = \"my-npu\"") && text.contains(&format!("abi_major = {}", abi::ABI_MAJOR)));
        }
    }
}
