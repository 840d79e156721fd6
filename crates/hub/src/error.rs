//! What can go wrong between a model's name and its files.

use std::path::PathBuf;

use thiserror::Error;

/// An error of getting models.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HubError {
    /// What was given is not the name of a model.
    #[error("`{text}` is not the name of a model: {reason}; write ORG/NAME, ORG/NAME:FILE or ORG/NAME@REVISION:FILE")]
    Name {
        /// What was given.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A setting of the environment makes no sense.
    #[error("{name} is `{found}`, but it must {rule}")]
    Setting {
        /// The variable.
        name: &'static str,
        /// Its value; never a token's.
        found: String,
        /// The rule.
        rule: &'static str,
    },
    /// The cache does not hold it.
    #[error("{what} is not in the cache {cache}{there}; `camelid pull {what}` gets it", cache = cache.display())]
    NotCached {
        /// The model, and the file if one was named.
        what: String,
        /// The cache.
        cache: PathBuf,
        /// What is there in its place, with a comma before it; may be empty.
        there: String,
    },
    /// The cache holds a part of it.
    #[error(
        "{folder}: the model is not complete, {missing} is missing; `camelid pull {what}` gets what is missing",
        folder = folder.display()
    )]
    Incomplete {
        /// The model.
        what: String,
        /// Its snapshot.
        folder: PathBuf,
        /// What is missing.
        missing: String,
    },
    /// The server refused, for a reason that trying again does not change.
    #[error("{url}: the server answered {status}: {reason}")]
    Refused {
        /// What was asked for.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What that means here, and the remedy.
        reason: String,
    },
    /// It did not work, however often it was tried.
    #[error(
        "{url}: given up after {attempts} attempts, the last of which failed because {reason}; what has come is kept: \
         the same command goes on from there"
    )]
    GivenUp {
        /// What was asked for.
        url: String,
        /// How often.
        attempts: u32,
        /// Why the last attempt failed.
        reason: String,
    },
    /// The server leads somewhere that is not followed.
    #[error("{url}: the server redirects, {reason}")]
    Redirect {
        /// What was asked for.
        url: String,
        /// Why it is not followed.
        reason: String,
    },
    /// The server's answer is not one of a model hub.
    #[error("{url}: the answer cannot be used: {reason}; is HF_ENDPOINT the address of a model hub?")]
    Answer {
        /// What was asked for.
        url: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// The bytes that came are not the file.
    #[error(
        "{file}: what came from {url} is not the file: its {kind} is {found}, but should be {expected}; it was deleted, \
         pull again"
    )]
    Corrupt {
        /// The file's name in the repository.
        file: String,
        /// Where it came from.
        url: String,
        /// What was compared: SHA-256, git SHA-1 or length.
        kind: &'static str,
        /// What the server had said.
        expected: String,
        /// What came.
        found: String,
    },
    /// The file kept changing on the server.
    #[error("{url}: the file changed on the server while it was read, several times; pull a commit with --revision")]
    Changing {
        /// Where it came from.
        url: String,
    },
    /// A repository that holds several models.
    #[error("{repo} holds several models, name the one you want: {}", files.iter().map(|f| format!("{repo}:{f}")).collect::<Vec<_>>().join(", "))]
    SeveralModels {
        /// The repository.
        repo: String,
        /// Its GGUF files.
        files: Vec<String>,
    },
    /// A repository without weights.
    #[error("{repo} holds no weights that are known (safetensors, GGUF, PyTorch); name a file to get it: {repo}:FILE")]
    NoWeights {
        /// The repository.
        repo: String,
    },
    /// A file of the cache.
    #[error("{path}: cannot {action}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
}

impl HubError {
    /// Makes the error of a file that cannot be read, written, ...
    pub(crate) fn io(path: impl Into<PathBuf>, action: &'static str) -> impl FnOnce(std::io::Error) -> HubError {
        let path = path.into();
        move |source| HubError::Io { path, action, source }
    }
}

/// Text from a server, fit for a terminal: no control characters, and not too much of it.
pub(crate) fn shown(text: &str) -> String {
    const MOST: usize = 200;
    let mut line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MOST).collect();
    if text.chars().count() > MOST {
        line.push('…');
    }
    line
}
