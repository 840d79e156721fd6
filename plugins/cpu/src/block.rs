//! Memory for numbers: aligned, zero at first, on huge pages where it is large.

use camelid_core::backend::{BackendError, ErrorCode};
use memmap2::MmapMut;

/// From this size on memory is mapped by itself: pages are there when they are touched, and may be huge.
const MAPPED: usize = 1 << 20;

/// `len` bytes at an address that is a multiple of 64.
pub(crate) enum Block {
    Small { lines: Box<[Line]>, len: usize },
    Mapped(MmapMut),
}

/// A line of the cache.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Line([u8; 64]);

impl Block {
    /// Fresh memory for `what`.
    ///
    /// # Errors
    /// [`ErrorCode::OutOfMemory`] naming it, its size and the remedy.
    pub(crate) fn new(what: &str, len: usize) -> Result<Block, BackendError> {
        if len < MAPPED {
            return Ok(Block::Small { lines: vec![Line([0; 64]); len.div_ceil(64)].into(), len });
        }
        let map = MmapMut::map_anon(len).map_err(|_| {
            let message = format!(
                "{what}: cannot get {len} bytes of memory; a smaller context_size or batch_size needs less, a smaller model too"
            );
            BackendError::new(ErrorCode::OutOfMemory, message)
        })?;
        // It is as right without, only slower.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        Ok(Block::Mapped(map))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Block::Small { lines, len } => {
                // SAFETY: the lines are bytes, at least `len` of them.
                unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), *len) }
            }
            Block::Mapped(map) => map,
        }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Block::Small { lines, len } => {
                // SAFETY: the lines are bytes, at least `len` of them.
                unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), *len) }
            }
            Block::Mapped(map) => map,
        }
    }

    /// Where it begins; it stays there.
    pub(crate) fn start(&mut self) -> *mut u8 {
        match self {
            Block::Small { lines, .. } => lines.as_mut_ptr().cast(),
            Block::Mapped(map) => map.as_mut_ptr(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_aligned_and_zero_at_every_size() {
        for len in [0, 1, 63, 64, 65, MAPPED - 1, MAPPED, MAPPED + 1] {
            let mut block = Block::new("test", len).unwrap();
            assert_eq!(block.bytes().len(), len);
            assert_eq!(block.bytes_mut().len(), len);
            assert_eq!(block.start().addr() % 64, 0);
            assert!(block.bytes().iter().all(|b| *b == 0));
        }
    }

    #[test]
    fn too_much_is_an_error_that_says_for_what() {
        for len in [usize::MAX, 1 << 60] {
            let error = Block::new("buffer `kv cache`", len).err().unwrap();
            assert_eq!(error.code, ErrorCode::OutOfMemory);
            assert!(error.message.contains("`kv cache`") && error.message.contains(&len.to_string()), "{error}");
        }
    }
}
