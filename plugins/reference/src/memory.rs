//! Bytes at an address where f32 and i32 may lie, allocated without ever aborting.

use bytemuck::{cast_slice, cast_slice_mut};
use thiserror::Error;

/// There is not enough memory.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("cannot get {bytes} bytes of memory")]
pub(crate) struct OutOfMemory {
    pub bytes: usize,
}

/// What fresh memory holds in builds with debug assertions: NaN as f32, f16 or bf16, -1 as i32. Whoever relies on
/// fresh memory being zero is found out; release builds leave it to the system, which hands out zeros page by page
/// as they are touched.
const FRESH: u32 = u32::MAX;

/// `len` bytes.
pub(crate) struct Memory {
    words: Vec<u32>, // [ceil(len / 4)]
    len: usize,
}

impl Memory {
    /// Fresh memory: its contents are unspecified.
    pub(crate) fn fresh(len: usize) -> Result<Memory, OutOfMemory> {
        let count = len.div_ceil(size_of::<u32>());
        let mut words = Vec::new();
        words.try_reserve_exact(count).map_err(|_| OutOfMemory { bytes: len })?;
        if cfg!(debug_assertions) {
            words.resize(count, FRESH);
        } else {
            // `vec!` would abort where there is no memory, so the line above asked first; it alone leaves pages
            // untouched until they are used, which a cache for a long context may never be.
            drop(words);
            words = vec![0; count];
        }
        Ok(Memory { words, len })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &cast_slice(&self.words)[..self.len]
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut cast_slice_mut(&mut self.words)[..self.len]
    }

    /// The memory as f32s: as many as fit.
    pub(crate) fn floats_mut(&mut self) -> &mut [f32] {
        let count = self.len / size_of::<f32>();
        &mut cast_slice_mut(&mut self.words)[..count]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_need_not_be_whole_words() {
        for len in [0, 1, 3, 4, 5, 4096] {
            let mut memory = Memory::fresh(len).unwrap();
            assert_eq!((memory.bytes().len(), memory.bytes_mut().len()), (len, len));
            assert_eq!(memory.floats_mut().len(), len / 4);
        }
    }

    #[test]
    fn too_much_is_an_error_and_not_an_abort() {
        for bytes in [usize::MAX, usize::MAX / 2, 1 << 60] {
            assert_eq!(Memory::fresh(bytes).err(), Some(OutOfMemory { bytes }));
        }
    }

    #[test]
    #[cfg(debug_assertions)]
    fn fresh_memory_is_poisoned_in_debug_builds() {
        assert!(Memory::fresh(8).unwrap().floats_mut().iter().all(|v| v.is_nan()));
    }
}
