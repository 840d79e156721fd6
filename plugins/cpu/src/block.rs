//! Memory for numbers: aligned, zero at first, on huge pages where it is large.

use std::ops::Range;
use std::sync::Arc;

use camelid_core::backend::{BackendError, ErrorCode};
use memmap2::{MmapMut, MmapRaw};

/// From this size on memory is mapped by itself: pages are there when they are touched, and may be huge.
const MAPPED: usize = 1 << 20;
/// A huge page.
const HUGE: usize = 2 << 20;
/// What an [`Arena`] maps at a time.
const CHUNK: usize = 64 << 20;

/// `len` bytes at an address that is a multiple of 64.
pub(crate) enum Block {
    Small { lines: Box<[Line]>, len: usize },
    Mapped(MmapMut),
    Part { chunk: Arc<MmapRaw>, at: Range<usize> },
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
        Ok(Block::Mapped(mapped(what, len)?))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Block::Small { lines, len } => {
                // SAFETY: the lines are bytes, at least `len` of them.
                unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), *len) }
            }
            Block::Mapped(map) => map,
            Block::Part { chunk, at } => {
                // SAFETY: the range lies inside the chunk, and nobody else has it.
                unsafe { std::slice::from_raw_parts(chunk.as_ptr().add(at.start), at.len()) }
            }
        }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Block::Small { lines, len } => {
                // SAFETY: the lines are bytes, at least `len` of them.
                unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), *len) }
            }
            Block::Mapped(map) => map,
            Block::Part { chunk, at } => {
                // SAFETY: as above.
                unsafe { std::slice::from_raw_parts_mut(chunk.as_mut_ptr().add(at.start), at.len()) }
            }
        }
    }

    /// Where it begins; it stays there.
    pub(crate) fn start(&mut self) -> *mut u8 {
        match self {
            Block::Small { lines, .. } => lines.as_mut_ptr().cast(),
            Block::Mapped(map) => map.as_mut_ptr(),
            Block::Part { chunk, at } => chunk.as_mut_ptr().wrapping_add(at.start),
        }
    }
}

/// Memory by itself, zero.
fn mapped(what: &str, len: usize) -> Result<MmapMut, BackendError> {
    let map = MmapMut::map_anon(len).map_err(|_| {
        let message = format!(
            "{what}: cannot get {len} bytes of memory; a smaller context_size or batch_size needs less, a smaller model too"
        );
        BackendError::new(ErrorCode::OutOfMemory, message)
    })?;
    // It is as right without, only slower.
    #[cfg(target_os = "linux")]
    let _ = map.advise(memmap2::Advice::HugePage);
    Ok(map)
}

/// Where weights lie one after the other, so that those smaller than a huge page are on huge pages too: a step reads all of
/// them (`specs/decisions/0007-the-cpu-backend.md` has what that gains).
#[derive(Default)]
pub(crate) struct Arena {
    chunk: Option<Arc<MmapRaw>>,
    /// What of the chunk is given away.
    used: usize,
}

impl Arena {
    /// Fresh memory for `what`. A chunk lives as long as the last block in it.
    ///
    /// # Errors
    /// As [`Block::new`].
    pub(crate) fn block(&mut self, what: &str, len: usize) -> Result<Block, BackendError> {
        if len > CHUNK / 8 {
            return Block::new(what, len);
        }
        let taken = len.next_multiple_of(64);
        let chunk = match &self.chunk {
            Some(chunk) if self.used + taken <= chunk.len() => chunk,
            _ => {
                let map = MmapRaw::from(mapped(what, CHUNK + HUGE)?);
                // A huge page begins at a multiple of its size.
                self.used = map.as_ptr().align_offset(HUGE);
                self.chunk.insert(Arc::new(map))
            }
        };
        let at = self.used..self.used + len;
        self.used += taken;
        Ok(Block::Part { chunk: chunk.clone(), at })
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
    fn weights_lie_side_by_side_and_outlive_the_arena() {
        let mut arena = Arena::default();
        let sizes = [1, 64, 100, CHUNK / 8, CHUNK / 8 + 1, 0, 63];
        let mut blocks: Vec<Block> = (0..5).flat_map(|_| sizes).map(|len| arena.block("test", len).unwrap()).collect();
        drop(arena);
        for (i, block) in blocks.iter_mut().enumerate() {
            assert_eq!(block.bytes().len(), sizes[i % sizes.len()]);
            assert_eq!(block.start().addr() % 64, 0);
            assert!(block.bytes().iter().all(|b| *b == 0));
            block.bytes_mut().fill(i as u8 + 1);
        }
        for (i, block) in blocks.iter().enumerate() {
            assert!(block.bytes().iter().all(|b| *b == i as u8 + 1), "block {i} was written by another");
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
