//! [`PluginError`]: why a plugin is not loaded.

use std::path::PathBuf;

use camelid_sdk::import::ConnectError;
use thiserror::Error;

use super::Sha256;

/// Why a plugin is not loaded. The one who shows it names the library before it.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum PluginError {
    /// The path is relative.
    #[error("a plugin is named by an absolute path, as in {}", absolute.display())]
    Relative {
        /// What it would be from the working directory.
        absolute: PathBuf,
    },
    /// A folder of plugins cannot be read.
    #[error("the folder of plugins cannot be read: {problem}")]
    Folder {
        /// What the system says.
        problem: String,
    },
    /// Folders are named, but only pinned libraries are trusted.
    #[error(
        "plugins.trust is \"hash\", which takes no plugins from folders; name each in a [[plugin]] table with its sha256, \
         or write plugins.trust = \"path\""
    )]
    FolderNotTrusted,
    /// There is no such file.
    #[error("there is no such file; build the plugin, or correct its path")]
    Missing,
    /// The file cannot be read.
    #[error("the library cannot be read: {problem}")]
    Unreadable {
        /// What the system says.
        problem: String,
    },
    /// Somebody else may change the file, or a folder above it.
    #[error("{} {problem}; whoever can change it could run code as you. {remedy}", place.display())]
    Writable {
        /// File or folder.
        place: PathBuf,
        /// Who can change it.
        problem: String,
        /// What to do.
        remedy: String,
    },
    /// The manifest beside the library is missing or wrong.
    #[error("its manifest {}: {problem}", sidecar.display())]
    Sidecar {
        /// The manifest.
        sidecar: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// The plugin has another name than the one it is configured under.
    #[error("the plugin is called `{found}`, but the configuration calls it `{expected}`; write name = \"{found}\"")]
    OtherName {
        /// Its name.
        found: String,
        /// The name in the configuration.
        expected: String,
    },
    /// The file is no library for this machine.
    #[error("{problem}")]
    NotALibrary {
        /// What it is, and what to do.
        problem: String,
    },
    /// The file's hash is not the pinned one.
    #[error(
        "the library's SHA-256 is {found}, but {expected} is pinned; if you trust the new file, write sha256 = \"{found}\""
    )]
    Hash {
        /// The file's.
        found: Sha256,
        /// The pinned one.
        expected: Sha256,
    },
    /// A pinned hash is asked for and there is none.
    #[error("it has no sha256, and plugins.trust is \"hash\"; if you trust the file, write sha256 = \"{found}\"")]
    NotPinned {
        /// The file's hash.
        found: Sha256,
    },
    /// The system's loader refused the library.
    #[error("the system cannot load it: {problem}")]
    Loader {
        /// What the loader says.
        problem: String,
    },
    /// The library lacks a symbol.
    #[error("it does not export `{symbol}`; it is no Camelid plugin, or one for another version of the interface")]
    Symbol {
        /// The symbol.
        symbol: String,
    },
    /// The library's own manifest is not the one beside it.
    #[error("its `{field}` is \"{library}\", but the manifest beside it says \"{sidecar}\"; they are not of one build")]
    Disagrees {
        /// Which field.
        field: &'static str,
        /// What the library says.
        library: String,
        /// What the manifest beside it says.
        sidecar: String,
    },
    /// The library is no plugin for this host.
    #[error("{0}")]
    Connect(#[from] ConnectError),
}
