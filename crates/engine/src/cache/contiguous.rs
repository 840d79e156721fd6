//! One run of rows a sequence.

use camelid_core::Cache;
use camelid_core::cache::{CacheError, SequenceId, SlotCopy};
use camelid_core::graph::CacheLayout;

use super::{FreeList, MAX_SLOTS, Table, clamped, not_that_long};

/// A cache in which every sequence owns `context_size` rows from the start: one block a sequence.
///
/// The simplest policy and the one with the simplest addresses. A fork copies all rows of its parent at once, and
/// memory is spent on the longest sequence that could come. [`super::PagedCache`] shares instead.
#[derive(Debug)]
pub struct ContiguousCache {
    layout: CacheLayout,
    sequences: Table<Sequence>,
    free: FreeList,
}

#[derive(Debug)]
struct Sequence {
    block: usize,
    len: usize,
}

impl ContiguousCache {
    /// A cache for `max_sequences` sequences of up to `context_size` tokens.
    ///
    /// Zero counts as one, and there are at most `i32::MAX` rows in all; what is out of range is brought into it with a
    /// warning.
    pub fn new(max_sequences: usize, context_size: usize) -> ContiguousCache {
        let context_size = clamped("context_size", context_size, MAX_SLOTS);
        let max_sequences = clamped("max_sequences", max_sequences, MAX_SLOTS / context_size);
        let layout = CacheLayout {
            num_slots: max_sequences * context_size,
            block_size: context_size,
            blocks_per_sequence: 1,
            max_sequences,
        };
        ContiguousCache { layout, sequences: Table::new(max_sequences), free: FreeList::new(max_sequences) }
    }

    fn insert(&mut self, len: usize) -> Result<(SequenceId, usize), CacheError> {
        self.sequences.check_vacancy()?;
        let block = self.free.take().expect("there are as many blocks as sequences");
        Ok((self.sequences.insert(Sequence { block, len })?, block))
    }
}

impl Cache for ContiguousCache {
    fn layout(&self) -> CacheLayout {
        self.layout
    }

    fn create(&mut self) -> Result<SequenceId, CacheError> {
        Ok(self.insert(0)?.0)
    }

    fn len(&self, sequence: SequenceId) -> Result<usize, CacheError> {
        Ok(self.sequences.get(sequence)?.len)
    }

    fn room(&self, sequence: SequenceId) -> Result<usize, CacheError> {
        Ok(self.layout.block_size - self.sequences.get(sequence)?.len)
    }

    fn append(&mut self, sequence: SequenceId, count: usize) -> Result<Vec<SlotCopy>, CacheError> {
        let room = self.room(sequence)?;
        let s = self.sequences.get_mut(sequence)?;
        if count > room {
            return Err(CacheError::Full { len: s.len, room, wanted: count });
        }
        s.len += count;
        Ok(Vec::new())
    }

    fn slot(&self, sequence: SequenceId, index: usize) -> Result<usize, CacheError> {
        let s = self.sequences.get(sequence)?;
        if index >= s.len {
            return Err(not_that_long(s.len, index));
        }
        Ok(s.block * self.layout.block_size + index)
    }

    /// # Panics
    /// If `row` is empty: it must have `blocks_per_sequence` entries.
    fn block_table(&self, sequence: SequenceId, row: &mut [i32]) -> Result<(), CacheError> {
        row[0] = i32::try_from(self.sequences.get(sequence)?.block).expect("limited by MAX_SLOTS");
        Ok(())
    }

    fn truncate(&mut self, sequence: SequenceId, len: usize) -> Result<(), CacheError> {
        let s = self.sequences.get_mut(sequence)?;
        if len > s.len {
            return Err(not_that_long(s.len, len));
        }
        s.len = len;
        Ok(())
    }

    fn fork(&mut self, sequence: SequenceId) -> Result<(SequenceId, Vec<SlotCopy>), CacheError> {
        let &Sequence { block: parent, len } = self.sequences.get(sequence)?;
        let (id, block) = self.insert(len)?;
        let block_size = self.layout.block_size;
        let copy = SlotCopy { from: parent * block_size, to: block * block_size, rows: len };
        Ok((id, if len == 0 { Vec::new() } else { vec![copy] }))
    }

    fn release(&mut self, sequence: SequenceId) -> Result<(), CacheError> {
        self.free.give_back(self.sequences.remove(sequence)?.block);
        Ok(())
    }

    fn reset(&mut self) {
        self.sequences.clear();
        self.free.clear();
    }
}
