//! [`Suite`]: the files that cases compare with, from the program itself or from a folder.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use camelid_fetch::sha256;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use thiserror::Error;

use crate::case::{Case, Profile};
use crate::fixtures::{Fixture, FixtureError};
use crate::levels::{self, Finder};

include!(concat!(env!("OUT_DIR"), "/suite_files.rs"));

/// The version of the suite in this repository: a patch mends, a minor one adds cases, a major one changes expectations.
pub const VERSION: &str = "1.2.0";

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

/// The files of a suite.
#[derive(Debug, Default)]
pub struct Suite {
    /// Where the files lie; in the program if `None`.
    folder: Option<PathBuf>,
    version: String,
    digest: String,
    open: Mutex<BTreeMap<String, Arc<Fixture>>>,
    /// Where folders of the program's suite are unpacked that are asked for by path; removed in the end.
    unpacked: OnceLock<Option<TempDir>>,
}

impl Suite {
    /// The suite that this program was built with.
    ///
    /// # Errors
    /// If it was built with a damaged one.
    pub fn embedded() -> Result<Suite, SuiteError> {
        let mut suite = Suite::default();
        suite.read_index()?;
        Ok(suite)
    }

    /// The suite in `folder`, every file checked against `SUITE.toml`.
    ///
    /// # Errors
    /// [`SuiteError::Damaged`] for a file that is missing, changed or not in the index.
    pub fn open(folder: &Path) -> Result<Suite, SuiteError> {
        let mut suite = Suite { folder: Some(folder.to_owned()), ..Suite::default() };
        let index = suite.read_index()?;
        let mut found = digests(folder)?;
        found.remove(INDEX);
        for (name, expected) in &index.sha256 {
            let path = folder.join(name);
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
            return Err(SuiteError::Damaged { path: folder.join(name), problem });
        }
        Ok(suite)
    }

    /// The suite in `folder`, unchecked: for worker processes, whose parent has checked it.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn open_unchecked(folder: &Path) -> Result<Suite, SuiteError> {
        let mut suite = Suite { folder: Some(folder.to_owned()), ..Suite::default() };
        suite.read_index()?;
        Ok(suite)
    }

    fn read_index(&mut self) -> Result<Index, SuiteError> {
        let text = self.text(INDEX)?;
        let damaged = |e: toml::de::Error| SuiteError::Damaged { path: self.shown(INDEX), problem: e.to_string() };
        let index: Index = toml::from_str(&text).map_err(damaged)?;
        self.version.clone_from(&index.version);
        self.digest = sha256::of_bytes(text.as_bytes());
        Ok(index)
    }

    /// The bytes of a file, by its path with `/`.
    ///
    /// # Errors
    /// If it is not there.
    pub fn bytes(&self, name: &str) -> Result<Cow<'static, [u8]>, SuiteError> {
        let Some(folder) = &self.folder else {
            return match FILES.binary_search_by(|(file, _)| (*file).cmp(name)) {
                Ok(at) => Ok(Cow::Borrowed(FILES[at].1)),
                Err(_) => {
                    let source = std::io::ErrorKind::NotFound.into();
                    Err(SuiteError::Io { path: self.shown(name), source })
                }
            };
        };
        let path = folder.join(name);
        fs::read(&path).map(Cow::Owned).map_err(|source| SuiteError::Io { path, source })
    }

    /// A file of text.
    ///
    /// # Errors
    /// If it is not there, or is no text.
    pub fn text(&self, name: &str) -> Result<String, SuiteError> {
        let damaged =
            |e: std::string::FromUtf8Error| SuiteError::Damaged { path: self.shown(name), problem: e.to_string() };
        String::from_utf8(self.bytes(name)?.into_owned()).map_err(damaged)
    }

    /// Whether there is a file, by its path with `/`.
    pub fn has(&self, name: &str) -> bool {
        match &self.folder {
            Some(folder) => folder.join(name).is_file(),
            None => FILES.binary_search_by(|(file, _)| (*file).cmp(name)).is_ok(),
        }
    }

    /// The files below a folder of the suite, by their paths with `/` from the suite's own folder, sorted.
    ///
    /// # Errors
    /// If a folder cannot be read.
    pub fn files(&self, folder: &str) -> Result<Vec<String>, SuiteError> {
        let prefix = format!("{folder}/");
        let Some(root) = &self.folder else {
            return Ok(FILES.iter().map(|(n, _)| *n).filter(|n| n.starts_with(&prefix)).map(str::to_owned).collect());
        };
        if !root.join(folder).is_dir() {
            return Ok(Vec::new());
        }
        let mut found: Vec<String> = walk(&root.join(folder))?.into_iter().map(|name| prefix.clone() + &name).collect();
        found.sort();
        Ok(found)
    }

    /// A file or folder of the suite on disk, by its path with `/`. Of the program's own suite the file's folder is
    /// unpacked first; where that fails the path leads nowhere, and whoever reads it says so.
    pub fn path(&self, name: &str) -> PathBuf {
        if let Some(folder) = &self.folder {
            return folder.join(name);
        }
        let unpack = || tempfile::Builder::new().prefix("camelid-suite-").tempdir().ok();
        let Some(folder) = self.unpacked.get_or_init(unpack) else { return self.shown(name) };
        for (file, bytes) in FILES.iter().filter(|(file, _)| *file == name || file.starts_with(&format!("{name}/"))) {
            let path = folder.path().join(file);
            if path.is_file() {
                continue;
            }
            let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, bytes));
            if let Err(error) = written {
                tracing::warn!("{}: {error}", path.display());
            }
        }
        folder.path().join(name)
    }

    /// A name as messages show it.
    fn shown(&self, name: &str) -> PathBuf {
        self.folder.as_deref().unwrap_or(Path::new("(the program's suite)")).join(name)
    }

    /// A safetensors file of the suite, read once and kept.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn fixture(&self, name: &str) -> Result<Arc<Fixture>, FixtureError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fixture) = open.get(name) {
            return Ok(fixture.clone());
        }
        let bytes = self.bytes(name).map_err(|e| FixtureError::Suite(e.to_string()))?;
        let fixture = Arc::new(Fixture::parse(self.shown(name), bytes)?);
        open.insert(name.to_owned(), fixture.clone());
        Ok(fixture)
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
            let (path, text) = (self.shown(&list_name(profile)), self.text(&list_name(profile))?);
            let mut listed: BTreeSet<&str> = text.lines().collect();
            for case in cases.iter().filter(|c| c.profile == profile) {
                if !listed.remove(case.id.as_str()) {
                    return Err(not_listed(path, case));
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

    /// The case `id`, without reading what only others need: after checking that its must-pass list has it. `None` if
    /// there is none.
    ///
    /// # Errors
    /// [`SuiteError::Damaged`] for a case that is there and not listed.
    pub fn case(&self, id: &str) -> Result<Option<Case>, SuiteError> {
        let Some(case) = Finder::new(self).take(id)? else { return Ok(None) };
        let list = list_name(case.profile);
        if !self.text(&list)?.lines().any(|listed| listed == id) {
            return Err(not_listed(self.shown(&list), &case));
        }
        Ok(Some(case))
    }
}

fn not_listed(path: PathBuf, case: &Case) -> SuiteError {
    let problem = format!("case `{}` is not listed; a case is added to the list with it", case.id);
    SuiteError::Damaged { path, problem }
}

fn list_name(profile: Profile) -> String {
    format!("mustpass/{profile}.txt")
}

/// Every file below `folder`, by its path with `/`.
fn walk(folder: &Path) -> Result<Vec<String>, SuiteError> {
    let (mut folders, mut found) = (vec![folder.to_owned()], Vec::new());
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
            found.push(name.join("/"));
        }
    }
    Ok(found)
}

/// The digest of every file below `folder`.
fn digests(folder: &Path) -> Result<BTreeMap<String, String>, SuiteError> {
    let digest = |name: String| {
        let path = folder.join(&name);
        let digest = sha256::of_file(&path).map_err(|source| SuiteError::Io { path, source })?;
        Ok((name, digest))
    };
    walk(folder)?.into_iter().map(digest).collect()
}

/// Writes the must-pass lists and `SUITE.toml` of the suite in `folder` anew: what whoever adds a case runs, and whoever
/// reviews it reads the diff of.
///
/// # Errors
/// If a file cannot be read or written.
pub fn bless(folder: &Path, version: &str) -> Result<usize, SuiteError> {
    let write = |path: PathBuf, text: String| fs::write(&path, text).map_err(|source| SuiteError::Io { path, source });
    let suite = Suite { folder: Some(folder.to_owned()), ..Suite::default() };
    let cases = levels::all(&suite)?;
    let lists = folder.join("mustpass");
    fs::create_dir_all(&lists).map_err(|source| SuiteError::Io { path: lists.clone(), source })?;
    for profile in Profile::ALL {
        let ids: String = cases.iter().filter(|c| c.profile == profile).map(|c| format!("{}\n", c.id)).collect();
        write(folder.join(list_name(profile)), ids)?;
    }
    let mut sha256 = digests(folder)?;
    sha256.remove(INDEX);
    let index = Index { name: "camelid".into(), version: version.into(), sha256 };
    let text = toml::to_string(&index).expect("an index of strings can be written");
    write(folder.join(INDEX), format!("# Written by `cargo run -p camelid-conformance --example bless`.\n{text}"))?;
    Ok(cases.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::suite_dir;

    /// A copy of the committed suite, to be damaged.
    fn copy() -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in walk(&suite_dir()).unwrap() {
            let to = folder.path().join(&name);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(suite_dir().join(&name), to).unwrap();
        }
        folder
    }

    fn complaint(folder: &TempDir) -> String {
        Suite::open(folder.path()).and_then(|suite| suite.cases().map(drop)).unwrap_err().to_string()
    }

    #[test]
    fn the_committed_suite_is_whole_and_is_the_programs_own() {
        let (committed, own) = (Suite::open(&suite_dir()).unwrap(), Suite::embedded().unwrap());
        assert_eq!(committed.digest(), own.digest());
        let count = |suite: &Suite| suite.cases().unwrap().len();
        assert!(count(&committed) == count(&own) && count(&own) > 1400, "{}", count(&own));
        assert_eq!(own.version(), VERSION, "run `cargo run -p camelid-conformance --example bless`");
    }

    #[test]
    fn a_changed_a_missing_and_a_strange_file_are_found() {
        let folder = copy();
        let path = folder.path().join("op/rope.safetensors");
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
        assert!(complaint(&folder).contains("op/rope.safetensors: SHA-256 is"), "{}", complaint(&folder));
        fs::remove_file(&path).unwrap();
        assert!(complaint(&folder).contains("is named in SUITE.toml and missing"), "{}", complaint(&folder));
        let folder = copy();
        fs::write(folder.path().join("op/more.toml"), "").unwrap();
        assert!(complaint(&folder).contains("op/more.toml: is not named in SUITE.toml"), "{}", complaint(&folder));
    }

    #[test]
    fn a_case_that_is_listed_and_not_there_or_there_and_not_listed_is_found() {
        for (edit, said) in [
            ("op/rope/f32/t7", "case `op/rope/f32/t7` is not listed"),
            ("", "case `op/rope/f32/gone` is listed and does not exist"),
        ] {
            let folder = copy();
            let list = folder.path().join("mustpass/core.txt");
            let text = fs::read_to_string(&list).unwrap();
            let kept: String = text.lines().filter(|id| *id != edit).map(|id| format!("{id}\n")).collect();
            let text = if edit.is_empty() { kept + "op/rope/f32/gone\n" } else { kept };
            fs::write(&list, text).unwrap();
            let index = folder.path().join(INDEX);
            let old = sha256::of_file(&suite_dir().join("mustpass/core.txt")).unwrap();
            let new = sha256::of_file(&list).unwrap();
            fs::write(&index, fs::read_to_string(&index).unwrap().replace(&old, &new)).unwrap();
            assert!(complaint(&folder).contains(said), "{}", complaint(&folder));
            // Alone too, where nothing else is read.
            let one = |id: &str| Suite::open(folder.path()).unwrap().case(id);
            if edit.is_empty() {
                assert!(one("op/rope/f32/gone").unwrap().is_none());
            } else {
                let alone = one(edit).unwrap_err().to_string();
                assert!(alone.contains(said), "{alone}");
            }
            assert_eq!(one("op/rope/f32/t1").unwrap().map(|case| case.id).as_deref(), Some("op/rope/f32/t1"));
        }
    }
}
