//! Shared, read-only bytes: what a weight is made of before a backend takes it.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

/// A range of bytes together with whatever keeps them alive (a memory map, a vector).
///
/// Cloning is cheap and never copies the bytes; a backend that keeps a clone aliases them and lets go by dropping it.
#[derive(Clone)]
pub struct Bytes {
    owner: Arc<dyn AsRef<[u8]> + Send + Sync>,
    range: Range<usize>,
}

impl Bytes {
    /// All bytes of `owner`.
    pub fn new(owner: Arc<dyn AsRef<[u8]> + Send + Sync>) -> Bytes {
        let len = (*owner).as_ref().len();
        Bytes { owner, range: 0..len }
    }

    /// The bytes of `self` in `range`, or `None` if it does not lie inside.
    pub fn slice(&self, range: Range<usize>) -> Option<Bytes> {
        if range.start > range.end || range.end > self.range.len() {
            return None;
        }
        let start = self.range.start + range.start;
        Some(Bytes { owner: self.owner.clone(), range: start..start + range.len() })
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Bytes {
        Bytes::new(Arc::new(bytes))
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &(*self.owner).as_ref()[self.range.clone()]
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bytes({} bytes)", self.range.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_stay_inside_and_compose() {
        let bytes = Bytes::from(vec![0, 1, 2, 3, 4, 5]);
        let inner = bytes.slice(1..5).unwrap();
        assert_eq!(&*inner, &[1, 2, 3, 4]);
        assert_eq!(&*inner.slice(1..2).unwrap(), &[2]);
        assert!(inner.slice(0..5).is_none());
        #[allow(clippy::reversed_empty_ranges)]
        let reversed = 3..2;
        assert!(inner.slice(reversed).is_none());
    }
}
