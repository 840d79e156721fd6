//! [`WeightsError`]: what can be wrong with a checkpoint.

use std::fmt::{self, Display};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::Mismatch;

/// Why a checkpoint could not be read. Every message names the file, the field or tensor, what was found, and what
/// to do about it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// The path leads to nothing that can be read as a checkpoint.
    #[error("{} is no checkpoint: {found}; {remedy}", path.display())]
    NotACheckpoint {
        /// The path asked for.
        path: PathBuf,
        /// What lies there instead.
        found: String,
        /// What to do.
        remedy: String,
    },
    /// The operating system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was being done: "open", "read", "map".
        action: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A JSON file or header cannot be parsed.
    #[error("{}: {what} is not what it should be; download the file again or restore it from its source", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Which part of it: "the safetensors header", "the config".
        what: &'static str,
        /// Where it breaks and why.
        source: serde_json::Error,
    },
    /// The file ends before something that it announces.
    #[error(
        "{}: the file ends inside {what}, which takes {needed} bytes from byte {at} on, but the file has only \
         {file_len} bytes; it is truncated or damaged: download or copy it again",
        path.display()
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// What was being read.
        what: String,
        /// Where it begins, in bytes from the start of the file.
        at: u64,
        /// How many bytes it takes.
        needed: u64,
        /// How many bytes the file has.
        file_len: u64,
    },
    /// A field holds something that no valid file holds.
    #[error("{}: {what}: {found}; {remedy}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The field or tensor.
        what: String,
        /// What was found there.
        found: String,
        /// What to do.
        remedy: String,
    },
    /// A valid file of a kind that Camelid does not run.
    #[error("{}: {what}: {found} is not supported; {remedy}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The field or tensor.
        what: String,
        /// What was found there.
        found: String,
        /// What to do.
        remedy: String,
    },
    /// A tensor is stored in a type that cannot be computed with.
    #[error("{}: tensor {tensor} is stored as {found}; supported are {supported}; {remedy}", path.display())]
    UnsupportedTensorType {
        /// The file.
        path: PathBuf,
        /// The tensor, as the file names it.
        tensor: String,
        /// Its type, as the file names it.
        found: String,
        /// The types that are read.
        supported: String,
        /// What to do.
        remedy: String,
    },
    /// The same name twice.
    #[error("{}: {what} occurs twice: {first} and {second}; the file is damaged or was written wrongly: make it again", path.display())]
    Duplicate {
        /// The file.
        path: PathBuf,
        /// What occurs twice.
        what: String,
        /// Where first.
        first: String,
        /// Where again.
        second: String,
    },
    /// A tensor's bytes lie outside of the file.
    #[error(
        "{}: tensor {tensor} would lie in bytes {start}..{end}, but the file has only {file_len}; it is truncated or \
         damaged: download or copy it again",
        path.display()
    )]
    OutOfFile {
        /// The file.
        path: PathBuf,
        /// The tensor, as the file names it.
        tensor: String,
        /// First byte.
        start: u64,
        /// One past the last byte.
        end: u64,
        /// Bytes of the file.
        file_len: u64,
    },
    /// Two tensors claim the same bytes.
    #[error(
        "{}: tensors {first} and {second} overlap: the first ends at byte {first_end}, the second begins at byte \
         {second_start}; the file is damaged or was written wrongly: make it again",
        path.display()
    )]
    Overlap {
        /// The file.
        path: PathBuf,
        /// The tensor that begins first.
        first: String,
        /// One past its last byte.
        first_end: u64,
        /// The tensor that begins inside it.
        second: String,
        /// Its first byte.
        second_start: u64,
    },
    /// Text that is not UTF-8.
    #[error("{}: {what} is not UTF-8: {bytes}; the file was written by a faulty converter: convert the model again", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// The field, with its index.
        what: String,
        /// The bytes, escaped.
        bytes: String,
    },
    /// The index names a shard that is not there.
    #[error(
        "{}: shard {shard} is missing; it holds {tensors} tensors, {first} among them: download it into the same folder",
        index.display()
    )]
    MissingShard {
        /// The index file.
        index: PathBuf,
        /// The file it names.
        shard: String,
        /// How many tensors it should hold.
        tensors: usize,
        /// One of them.
        first: String,
    },
    /// The index and the shards disagree.
    #[error("{}: the index contradicts the shards: {}; download the index and the shards again, together", index.display(), Listed(problems))]
    IndexContradiction {
        /// The index file.
        index: PathBuf,
        /// Every contradiction.
        problems: Vec<String>,
    },
    /// A pickle names a function or class that no checkpoint of tensors needs.
    #[error(
        "{}: the pickle names {global}, which is none of those that a file of tensors needs; nothing was run. Do not load \
         the file with PyTorch either, unless you trust its maker: save its tensors alone (torch.save(model.state_dict(), \
         ...)) or as safetensors",
        path.display()
    )]
    ForeignGlobal {
        /// The file.
        path: PathBuf,
        /// Module and name, as Python writes them.
        global: String,
    },
    /// Something lies where the result should go.
    #[error("{} exists already{}; give another path, or --force to replace what it holds", path.display(), if *.folder { " and is not empty" } else { "" })]
    OutputExists {
        /// The path asked for.
        path: PathBuf,
        /// True if it is a folder.
        folder: bool,
    },
    /// The tensors are not those of the model that the config describes.
    #[error("{}: the tensors do not fit the config: {mismatch}", path.display())]
    Mismatch {
        /// The checkpoint.
        path: PathBuf,
        /// All differences.
        mismatch: Box<Mismatch>,
    },
}

impl WeightsError {
    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> WeightsError {
        let path = path.to_owned();
        move |source| WeightsError::Io { path, action, source }
    }

    pub(crate) fn malformed(
        path: &Path,
        what: impl Into<String>,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> WeightsError {
        WeightsError::Malformed { path: path.to_owned(), what: what.into(), found: found.into(), remedy: remedy.into() }
    }

    pub(crate) fn unsupported(
        path: &Path,
        what: impl Into<String>,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> WeightsError {
        let (what, found, remedy) = (what.into(), found.into(), remedy.into());
        WeightsError::Unsupported { path: path.to_owned(), what, found, remedy }
    }
}

/// The remedy for a field that a correct writer never writes.
pub(crate) const MAKE_AGAIN: &str = "the file is damaged or was written wrongly: download or convert it again";

/// The first eight of a list, and how many more there are.
pub(crate) struct Listed<'a, T>(pub &'a [T]);

impl<T: Display> Display for Listed<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 8;
        for (i, item) in self.0.iter().take(SHOWN).enumerate() {
            write!(f, "{}{item}", if i == 0 { "" } else { ", " })?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// Bytes of a file as they are shown in a message: quoted, escaped, and cut off where they get long.
pub(crate) fn quoted(bytes: &[u8]) -> String {
    const SHOWN: usize = 80;
    let cut = bytes.len() > SHOWN;
    format!("\"{}{}\"", bytes[..bytes.len().min(SHOWN)].escape_ascii(), if cut { "..." } else { "" })
}

/// A name from a file as it is shown in a message: as it is if it is plain, otherwise [`quoted`].
pub(crate) fn shown(name: &str) -> String {
    let plain = !name.is_empty() && name.len() <= 120 && name.bytes().all(|b| b.is_ascii_graphic());
    if plain { name.to_owned() } else { quoted(name.as_bytes()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_and_names_are_cut() {
        assert_eq!(Listed(&[1, 2]).to_string(), "1, 2");
        let many: Vec<u32> = (0..11).collect();
        assert_eq!(Listed(&many).to_string(), "0, 1, 2, 3, 4, 5, 6, 7 and 3 more");
        assert_eq!(shown("blk.0.attn_q.weight"), "blk.0.attn_q.weight");
        assert_eq!(shown("a\n"), "\"a\\n\"");
        assert!(shown(&"x".repeat(1 << 20)).len() < 100);
    }
}
