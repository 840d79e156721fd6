//! Reading little-endian values from a file's bytes, never past their end.

use std::path::Path;

use crate::WeightsError;

/// A position in the bytes of a file. Every read is checked against what is left.
pub(super) struct Cursor<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(path: &'a Path, bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { path, bytes, position: 0 }
    }

    /// A cursor from `position` on.
    pub(super) fn at(path: &'a Path, bytes: &'a [u8], position: usize) -> Cursor<'a> {
        Cursor { path, bytes, position: position.min(bytes.len()) }
    }

    pub(super) fn path(&self) -> &'a Path {
        self.path
    }

    /// Bytes from the start of the file.
    pub(super) fn position(&self) -> usize {
        self.position
    }

    pub(super) fn remaining(&self) -> u64 {
        (self.bytes.len() - self.position) as u64
    }

    /// The next `len` bytes; `what` names them if the file ends before.
    pub(super) fn take(&mut self, len: u64, what: impl FnOnce() -> String) -> Result<&'a [u8], WeightsError> {
        if len > self.remaining() {
            return Err(WeightsError::Truncated {
                path: self.path.to_owned(),
                what: what(),
                at: self.position as u64,
                needed: len,
                file_len: self.bytes.len() as u64,
            });
        }
        let start = self.position;
        self.position += len as usize;
        Ok(&self.bytes[start..self.position])
    }

    fn array<const N: usize>(&mut self, what: impl FnOnce() -> String) -> Result<[u8; N], WeightsError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N as u64, what)?);
        Ok(out)
    }

    pub(super) fn u32(&mut self, what: impl FnOnce() -> String) -> Result<u32, WeightsError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub(super) fn u64(&mut self, what: impl FnOnce() -> String) -> Result<u64, WeightsError> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// A string: its length, then its bytes, whatever they are.
    pub(super) fn string(&mut self, what: impl Fn() -> String) -> Result<&'a [u8], WeightsError> {
        let len = self.u64(|| format!("the length of {}", what()))?;
        self.take(len, what)
    }

    /// Refuses a count of things that take at least `each` bytes if they cannot all be in the rest of the file.
    pub(super) fn check_count(&self, count: u64, each: u64, what: &str) -> Result<(), WeightsError> {
        if count > self.remaining() / each {
            return Err(WeightsError::Truncated {
                path: self.path.to_owned(),
                what: format!("{count} {what}"),
                at: self.position as u64,
                needed: count.saturating_mul(each),
                file_len: self.bytes.len() as u64,
            });
        }
        Ok(())
    }
}
