//! Whether the bytes that came are the file: by the digest that its etag is.
//!
//! A large file's etag on the Hub is the SHA-256 of its contents; a small one's is the SHA-1 that git gives it, over
//! `blob LENGTH\0` and the contents. Other servers give other etags, which tell nothing: then only the length is compared.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha1::{Digest, Sha1};
use sha2::Sha256;

use crate::HubError;

/// How a file was compared with what the server said of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Checked {
    /// SHA-256 of the contents.
    Sha256,
    /// SHA-1 of git's blob.
    GitSha1,
    /// The length alone: the server gives no digest.
    Length,
    /// Not at all: the server gives no digest and no length.
    Nothing,
}

impl Checked {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Checked::Sha256 => "SHA-256",
            Checked::GitSha1 => "git SHA-1",
            Checked::Length => "length",
            Checked::Nothing => "nothing",
        }
    }

    /// What can be compared for a file with this etag, of this length if it is known.
    pub(crate) fn of(etag: &str, size: Option<u64>) -> Checked {
        let hex = etag.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        match etag.len() {
            64 if hex => Checked::Sha256,
            40 if hex => Checked::GitSha1,
            _ if size.is_some() => Checked::Length,
            _ => Checked::Nothing,
        }
    }
}

/// A digest that grows with the file. Git's needs the length first; where that is not known, it is computed at the end.
pub(crate) enum Running {
    Sha256(Sha256),
    GitSha1(Sha1),
    AtTheEnd,
}

impl Running {
    pub fn new(checked: Checked, size: Option<u64>) -> Running {
        match (checked, size) {
            (Checked::Sha256, _) => Running::Sha256(Sha256::new()),
            (Checked::GitSha1, Some(size)) => {
                let mut hasher = Sha1::new();
                hasher.update(format!("blob {size}\0"));
                Running::GitSha1(hasher)
            }
            _ => Running::AtTheEnd,
        }
    }

    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Running::Sha256(hasher) => hasher.update(bytes),
            Running::GitSha1(hasher) => hasher.update(bytes),
            Running::AtTheEnd => {}
        }
    }

    /// Adds a file's first `len` bytes; how many there were.
    pub fn update_from(&mut self, path: &Path, len: u64) -> Result<u64, HubError> {
        let mut reader = File::open(path).map_err(HubError::io(path, "open"))?.take(len);
        let mut buffer = vec![0; 1 << 18];
        let mut done = 0;
        loop {
            match reader.read(&mut buffer).map_err(HubError::io(path, "read"))? {
                0 => return Ok(done),
                n => {
                    self.update(&buffer[..n]);
                    done += n as u64;
                }
            }
        }
    }

    /// The digest, in hexadecimal; `None` for what has no digest. `path` is the whole file.
    pub fn finish(self, checked: Checked, path: &Path, size: u64) -> Result<Option<String>, HubError> {
        Ok(match self {
            Running::Sha256(hasher) => Some(hex(&hasher.finalize())),
            Running::GitSha1(hasher) => Some(hex(&hasher.finalize())),
            Running::AtTheEnd if checked == Checked::GitSha1 => {
                let mut running = Running::new(checked, Some(size));
                running.update_from(path, size)?;
                running.finish(checked, path, size)?
            }
            Running::AtTheEnd => None,
        })
    }
}

/// SHA-256 of a word, as a name for what must not name a file itself.
pub(crate) fn sha256_of(word: &str) -> String {
    hex(&Sha256::digest(word.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(checked: Checked, size: Option<u64>, text: &str) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, text).unwrap();
        let mut running = Running::new(checked, size);
        assert_eq!(running.update_from(&path, 3).unwrap(), 3);
        running.update(&text.as_bytes()[3..]);
        running.finish(checked, &path, text.len() as u64).unwrap()
    }

    #[test]
    fn digests_are_those_of_git_and_sha256sum() {
        let text = "what is up, doc?";
        let sha1 = Some("bd9dbf5aae1a3862dd1526723246b20206e5fc37".to_owned());
        assert_eq!(digest(Checked::GitSha1, Some(16), text), sha1);
        assert_eq!(digest(Checked::GitSha1, None, text), sha1, "the length comes last");
        assert_eq!(digest(Checked::Sha256, None, text), Some(sha256_of(text)));
        assert_eq!(sha256_of("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(digest(Checked::Length, Some(16), text), None);
    }

    #[test]
    fn an_etag_tells_what_can_be_checked() {
        let (sha1, sha256) = ("0123456789abcdef".repeat(4)[..40].to_owned(), "0123456789abcdef".repeat(4));
        assert_eq!(Checked::of(&sha256, None), Checked::Sha256);
        assert_eq!(Checked::of(&sha1, None), Checked::GitSha1);
        assert_eq!(Checked::of(&sha1.to_uppercase(), Some(1)), Checked::Length);
        assert_eq!(Checked::of("66f-2a", Some(1)), Checked::Length);
        assert_eq!(Checked::of("66f-2a", None), Checked::Nothing);
    }
}
