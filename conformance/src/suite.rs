//! [`Suite`]: the files that cases compare with, from the program itself or from a folder.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use camelid_fetch::sha256;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use thiserror::Error;

use crate::case::{Case, Profile};
use crate::levels;

include!(concat!(env!("OUT_DIR"), "/suite_files.rs"));

/// The file that names every other file of a suite with its digest.
pub const INDEX: &str = "SUITE.toml";

/// Why a suite cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SuiteError {
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{}: {problem}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
}

/// `SUITE.toml`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    name: String,
    version: String,
    /// SHA-256 of every file, by its path with `/`.
    sha256: BTreeMap<String, String>,
}

/// The files of a suite, on disk.
#[derive(Debug)]
pub struct Suite {
    folder: PathBuf,
    version: String,
    digest: String,
    /// Removes the folder in the end, where it was unpacked from the program.
    _unpacked: Option<TempDir>,
}

impl Suite {
    /// The suite that this program was built with, unpacked into a temporary folder.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn embedded() -> Result<Suite, SuiteError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| SuiteError::Io { path, source }
        };
        let unpacked =
            tempfile::Builder::new().prefix("camelid-suite-").tempdir().map_err(io(&std::env::temp_dir()))?;
        for (name, bytes) in FILES {
            let path = unpacked.path().join(name);
            let folder = path.parent().expect("a file lies in a folder");
            fs::create_dir_all(folder).map_err(io(folder))?;
            fs::write(&path, bytes).map_err(io(&path))?;
        }
        Suite { _unpacked: Some(unpacked), ..Suite::default() }.read()
    }

    /// The suite in `folder`, every file checked against `SUITE.toml`.
    ///
    /// # Errors
    /// [`SuiteError::Damaged`] for a file that is missing, changed or not in the index.
    pub fn open(folder: &Path) -> Result<Suite, SuiteError> {
        Suite { folder: folder.to_owned(), ..Suite::default() }.read()
    }

    /// The suite in `folder`, unchecked: for worker processes, whose parent has checked it.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn open_unchecked(folder: &Path) -> Result<Suite, SuiteError> {
        let (index, digest) = read_index(folder)?;
        Ok(Suite { folder: folder.to_owned(), version: index.version, digest, _unpacked: None })
    }

    fn default() -> Suite {
        Suite { folder: PathBuf::new(), version: String::new(), digest: String::new(), _unpacked: None }
    }

    fn read(mut self) -> Result<Suite, SuiteError> {
        if let Some(unpacked) = &self._unpacked {
            self.folder = unpacked.path().to_owned();
        }
        let (index, digest) = read_index(&self.folder)?;
        let mut found = files(&self.folder)?;
        found.remove(INDEX);
        for (name, expected) in &index.sha256 {
            let path = self.folder.join(name);
            let Some(actual) = found.remove(name) else {
                let problem = format!("is named in {INDEX} and missing; restore it from the repository");
                return Err(SuiteError::Damaged { path, problem });
            };
            if actual != *expected {
                let problem = format!("SHA-256 is {actual}, {INDEX} says {expected}; restore it from the repository");
                return Err(SuiteError::Damaged { path, problem });
            }
        }
        if let Some((name, _)) = found.first_key_value() {
            let problem =
                format!("is not named in {INDEX}; `cargo run -p camelid-conformance --example bless` adds it");
            return Err(SuiteError::Damaged { path: self.folder.join(name), problem });
        }
        (self.version, self.digest) = (index.version, digest);
        Ok(self)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A file of the suite, by its path with `/`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The suite's version: cases are only added within a minor one, expectations only change with a major one.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// SHA-256 of `SUITE.toml`, and so of everything in the suite.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Every case, in order, after checking that they are those of the must-pass lists.
    ///
    /// # Errors
    /// [`SuiteError::Damaged`] for a case that is listed and not there, or there and not listed.
    pub fn cases(&self) -> Result<Vec<Case>, SuiteError> {
        let cases = levels::all(self)?;
        for profile in Profile::ALL {
            let path = self.path(&list_name(profile));
            let text = fs::read_to_string(&path).map_err(|source| SuiteError::Io { path: path.clone(), source })?;
            let mut listed: Vec<&str> = text.lines().collect();
            for case in cases.iter().filter(|c| c.profile == profile) {
                match listed.iter().position(|id| *id == case.id) {
                    Some(at) => drop(listed.remove(at)),
                    None => {
                        let problem = format!("case `{}` is not listed; a case is added to the list with it", case.id);
                        return Err(SuiteError::Damaged { path, problem });
                    }
                }
            }
            if let Some(id) = listed.first() {
                let problem =
                    format!("case `{id}` is listed and does not exist; the suite and this program do not match");
                return Err(SuiteError::Damaged { path, problem });
            }
        }
        Ok(cases)
    }
}

fn list_name(profile: Profile) -> String {
    format!("mustpass/{profile}.txt")
}

fn read_index(folder: &Path) -> Result<(Index, String), SuiteError> {
    let path = folder.join(INDEX);
    let text = fs::read_to_string(&path).map_err(|source| SuiteError::Io { path: path.clone(), source })?;
    let digest = sha256::of_file(&path).map_err(|source| SuiteError::Io { path: path.clone(), source })?;
    let index = toml::from_str(&text).map_err(|e| SuiteError::Damaged { path, problem: e.to_string() })?;
    Ok((index, digest))
}

/// Every file below `folder` by its path with `/`, with its digest.
fn files(folder: &Path) -> Result<BTreeMap<String, String>, SuiteError> {
    let (mut folders, mut found) = (vec![folder.to_owned()], BTreeMap::new());
    while let Some(next) = folders.pop() {
        let io = |source| SuiteError::Io { path: next.clone(), source };
        for entry in fs::read_dir(&next).map_err(io)? {
            let path = entry.map_err(io)?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(folder).expect("it was found below").components();
            let name: Vec<_> = name.map(|part| part.as_os_str().to_string_lossy()).collect();
            let digest = sha256::of_file(&path).map_err(|source| SuiteError::Io { path: path.clone(), source })?;
            found.insert(name.join("/"), digest);
        }
    }
    Ok(found)
}

/// Writes the must-pass lists and `SUITE.toml` of the suite in `folder` anew: what whoever adds a case runs, and whoever
/// reviews it reads the diff of.
///
/// # Errors
/// If a file cannot be read or written.
pub fn bless(folder: &Path, version: &str) -> Result<usize, SuiteError> {
    let write = |path: PathBuf, text: String| fs::write(&path, text).map_err(|source| SuiteError::Io { path, source });
    let suite = Suite { folder: folder.to_owned(), version: version.to_owned(), ..Suite::default() };
    let cases = levels::all(&suite)?;
    let lists = folder.join("mustpass");
    fs::create_dir_all(&lists).map_err(|source| SuiteError::Io { path: lists.clone(), source })?;
    for profile in Profile::ALL {
        let ids: String = cases.iter().filter(|c| c.profile == profile).map(|c| format!("{}\n", c.id)).collect();
        write(folder.join(list_name(profile)), ids)?;
    }
    let mut sha256 = files(folder)?;
    sha256.remove(INDEX);
    let index = Index { name: "camelid".into(), version: version.into(), sha256 };
    let text = toml::to_string(&index).expect("an index of strings can be written");
    write(folder.join(INDEX), format!("# Written by `cargo run -p camelid-conformance --example bless`.\n{text}"))?;
    Ok(cases.len())
}
