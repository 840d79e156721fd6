//! Names: of repositories, of revisions, of files in them. Everything that becomes part of a path is checked here.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::HubError;

/// Longest name of a repository that the Hub gives out.
const MOST_REPO: usize = 96;
/// Longest name of a revision or a file.
const MOST_PATH: usize = 1024;

/// The name of a repository of models, such as `meta-llama/Llama-3.2-1B`; the Hub's oldest have no organisation.
///
/// The rules are those of huggingface_hub's `validate_repo_id`: letters, digits, `-`, `_` and `.`, at most 96; neither
/// `--` nor `..`; no part begins or ends with `-` or `.`; and it does not end in `.git`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RepoId(String);

impl RepoId {
    /// Its folder in a cache: `models--ORG--NAME`.
    pub fn folder_name(&self) -> String {
        format!("models--{}", self.0.replace('/', "--"))
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RepoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for RepoId {
    type Err = HubError;

    fn from_str(text: &str) -> Result<RepoId, HubError> {
        let wrong = |reason: &str| Err(HubError::Name { text: text.into(), reason: reason.into() });
        if text.matches('/').count() > 1 {
            return wrong("it has more than one `/`");
        }
        if text.len() > MOST_REPO {
            return wrong("it is longer than 96 characters");
        }
        if text.contains("--") || text.contains("..") || text.ends_with(".git") {
            return wrong("`--`, `..` and an ending `.git` are not allowed");
        }
        for part in text.split('/') {
            if part.is_empty() {
                return wrong("the organisation or the name is empty");
            }
            if !part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
                return wrong("only letters, digits, `-`, `_` and `.` are allowed");
            }
            if part.starts_with(['-', '.']) || part.ends_with(['-', '.']) {
                return wrong("no part may begin or end with `-` or `.`");
            }
        }
        Ok(RepoId(text.into()))
    }
}

/// A model to get: a repository, which of its revisions, and one of its files if not all of the model.
///
/// Written `ORG/NAME`, `ORG/NAME:FILE`, `ORG/NAME@REVISION` or `ORG/NAME@REVISION:FILE`, each with or without `hf:` in
/// front.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    /// The repository.
    pub repo: RepoId,
    /// A branch, a tag or a commit; `main` if `None`.
    pub revision: Option<String>,
    /// Path of a file in the repository.
    pub file: Option<String>,
}

impl Source {
    /// The revision, `main` if none is named.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }

    /// The same model in another revision.
    ///
    /// # Errors
    /// [`HubError::Name`] if this is no name of a revision.
    pub fn at(mut self, revision: &str) -> Result<Source, HubError> {
        // Git's names have no spaces.
        let spaces = if revision.contains(char::is_whitespace) { Err("has a space in it") } else { Ok(()) };
        check_path(revision).and(spaces).map_err(|reason| HubError::Name {
            text: revision.into(),
            reason: format!("as the name of a revision it {reason}"),
        })?;
        self.revision = Some(revision.into());
        Ok(self)
    }
}

impl FromStr for Source {
    type Err = HubError;

    fn from_str(text: &str) -> Result<Source, HubError> {
        let plain = text.strip_prefix("hf:").unwrap_or(text);
        let (name, file) = match plain.split_once(':') {
            Some((name, file)) => (name, Some(file)),
            None => (plain, None),
        };
        let (repo, revision) = match name.split_once('@') {
            Some((repo, revision)) => (repo, Some(revision)),
            None => (name, None),
        };
        if let Some(file) = file {
            let wrong = |reason| HubError::Name { text: text.into(), reason: format!("the file's name {reason}") };
            check_path(file).map_err(wrong)?;
        }
        let source = Source { repo: repo.parse()?, revision: None, file: file.map(Into::into) };
        match revision {
            Some(revision) => source.at(revision),
            None => Ok(source),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.repo)?;
        if let Some(revision) = &self.revision {
            write!(f, "@{revision}")?;
        }
        if let Some(file) = &self.file {
            write!(f, ":{file}")?;
        }
        Ok(())
    }
}

/// Whether `path` stays below the folder it is put in, on every system: parts between `/`, none of them empty, `.` or
/// `..`, and no `\`, `:` or control character. An error completes a sentence that begins with the path.
pub(crate) fn check_path(path: &str) -> Result<(), &'static str> {
    if path.is_empty() {
        return Err("is empty");
    }
    if path.len() > MOST_PATH {
        return Err("is longer than 1024 bytes");
    }
    if path.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        return Err("leaves its folder");
    }
    if path.chars().any(|c| c.is_control() || matches!(c, '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|')) {
        return Err("has characters that file names cannot have everywhere");
    }
    Ok(())
}

/// `path` below `folder`; it must have passed [`check_path`].
pub(crate) fn below(folder: &Path, path: &str) -> PathBuf {
    path.split('/').fold(folder.to_owned(), |folder, part| folder.join(part))
}

/// Whether a word from a server can be the name of a file or folder as it is.
pub(crate) fn is_plain(word: &str) -> bool {
    !word.is_empty()
        && word.len() <= 128
        && !word.starts_with('.')
        && !word.ends_with('.')
        && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_source_is_read_and_written() {
        for (text, repo, revision, file) in [
            ("meta-llama/Llama-3.2-1B", "meta-llama/Llama-3.2-1B", None, None),
            ("hf:a/b", "a/b", None, None),
            ("gpt2", "gpt2", None, None),
            ("a/b:c.gguf", "a/b", None, Some("c.gguf")),
            ("a/b@v1.0:sub/c.gguf", "a/b", Some("v1.0"), Some("sub/c.gguf")),
            ("a/b@refs/pr/3", "a/b", Some("refs/pr/3"), None),
        ] {
            let source: Source = text.parse().unwrap();
            assert_eq!(source.repo.as_str(), repo, "{text}");
            assert_eq!((source.revision.as_deref(), source.file.as_deref()), (revision, file), "{text}");
            assert_eq!(source.to_string(), text.trim_start_matches("hf:"));
        }
        assert_eq!("a/b".parse::<RepoId>().unwrap().folder_name(), "models--a--b");
        assert_eq!("gpt2".parse::<RepoId>().unwrap().folder_name(), "models--gpt2");
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in [
            "",
            "a/b/c",
            "/b",
            "a/",
            "../b",
            "a/..",
            "a--b/c",
            "a/b.git",
            "-a/b",
            "a/b.",
            "a b/c",
            "a/b:",
            "a/b@",
            "a/b@..:c",
            "a/b:../c",
            "a/b:/etc/passwd",
            "a/b:c//d",
            "a/b:c\\d",
            "a/b:c:d",
            "ä/b",
            "a/b:c\n",
            "a/b@c d",
            "./a",
            "a\\b",
        ] {
            let error = text.parse::<Source>().unwrap_err();
            assert!(matches!(error, HubError::Name { .. }), "{text:?}: {error}");
        }
        assert!(format!("a/{}", "b".repeat(95)).parse::<RepoId>().is_err());
    }

    proptest! {
        /// Whatever passes stays below its folder.
        #[test]
        fn a_checked_path_stays_below(path in "[a./\\\\:\\x00-]{0,12}") {
            if check_path(&path).is_ok() {
                let joined = below(Path::new("/cache/x"), &path);
                prop_assert!(joined.starts_with("/cache/x") && joined != Path::new("/cache/x"));
                prop_assert!(joined.components().all(|c| c != std::path::Component::ParentDir));
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,40}") {
            if let Ok(source) = text.parse::<Source>() {
                prop_assert_eq!(source.to_string().parse::<Source>().unwrap(), source);
            }
        }
    }
}
