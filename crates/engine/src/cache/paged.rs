//! Blocks that sequences take as they grow, and share after a fork.

use camelid_core::Cache;
use camelid_core::cache::{CacheError, SequenceId, SlotCopy};
use camelid_core::graph::CacheLayout;

use super::{FreeList, MAX_SLOTS, Table, clamped, not_that_long};

/// A cache of blocks with reference counts.
///
/// A sequence has just the blocks that its tokens fill. A fork shares them all and copies nothing. Before a sequence
/// writes into a block that another one also has (its last, partly filled one, after a fork or a truncation), it takes
/// a block of its own and has the rows copied that it keeps: copy on write. Full blocks stay shared.
#[derive(Debug)]
pub struct PagedCache {
    layout: CacheLayout,
    context_size: usize,
    sequences: Table<Sequence>,
    free: FreeList,
    /// How many sequences have each block; as long as the highest block ever taken needs it.
    owners: Vec<usize>,
}

#[derive(Clone, Debug, Default)]
struct Sequence {
    /// `len.div_ceil(block_size)` of them.
    blocks: Vec<usize>,
    len: usize,
}

/// What an append would do.
struct Growth {
    /// The last block is shared and will be written to: it has to be copied.
    copy_on_write: bool,
    /// Blocks to take, the copy included.
    blocks: usize,
}

impl PagedCache {
    /// A cache of `num_blocks` blocks of `block_size` rows for `max_sequences` sequences of up to `context_size` tokens,
    /// which need not be a multiple of `block_size`.
    ///
    /// Zero counts as one, and there are at most `i32::MAX` rows in all; what is out of range is brought into it with a
    /// warning.
    pub fn new(num_blocks: usize, block_size: usize, max_sequences: usize, context_size: usize) -> PagedCache {
        let block_size = clamped("block_size", block_size, MAX_SLOTS);
        let num_blocks = clamped("num_blocks", num_blocks, MAX_SLOTS / block_size);
        let max_sequences = clamped("max_sequences", max_sequences, MAX_SLOTS);
        let context_size = clamped("context_size", context_size, MAX_SLOTS);
        let layout = CacheLayout {
            num_slots: num_blocks * block_size,
            block_size,
            blocks_per_sequence: context_size.div_ceil(block_size),
            max_sequences,
        };
        let (sequences, free) = (Table::new(max_sequences), FreeList::new(num_blocks));
        PagedCache { layout, context_size, sequences, free, owners: Vec::new() }
    }

    /// Blocks that no sequence has.
    pub fn free_blocks(&self) -> usize {
        self.free.len()
    }

    fn last_is_shared_and_partial(&self, s: &Sequence) -> bool {
        !s.len.is_multiple_of(self.layout.block_size) && s.blocks.last().is_some_and(|b| self.owners[*b] > 1)
    }

    fn growth(&self, s: &Sequence, count: usize) -> Growth {
        let copy_on_write = count > 0 && self.last_is_shared_and_partial(s);
        let grown = (s.len + count).div_ceil(self.layout.block_size) - s.blocks.len();
        Growth { copy_on_write, blocks: grown + usize::from(copy_on_write) }
    }

    fn room_of(&self, s: &Sequence) -> usize {
        let free_rows = self.free.len() * self.layout.block_size;
        let rows_left_in_last = s.blocks.len() * self.layout.block_size - s.len;
        let by_memory = match (self.last_is_shared_and_partial(s), self.free.len()) {
            (false, _) => rows_left_in_last + free_rows,
            (true, 0) => 0,
            // One of the free blocks becomes the copy.
            (true, _) => rows_left_in_last + free_rows - self.layout.block_size,
        };
        by_memory.min(self.context_size - s.len)
    }

    fn take_block(&mut self) -> usize {
        let block = self.free.take().expect("room was checked");
        if block >= self.owners.len() {
            self.owners.resize(block + 1, 0);
        }
        self.owners[block] = 1;
        block
    }

    fn drop_block(&mut self, block: usize) {
        self.owners[block] -= 1;
        if self.owners[block] == 0 {
            self.free.give_back(block);
        }
    }
}

impl Cache for PagedCache {
    fn layout(&self) -> CacheLayout {
        self.layout
    }

    fn create(&mut self) -> Result<SequenceId, CacheError> {
        self.sequences.insert(Sequence::default())
    }

    fn len(&self, sequence: SequenceId) -> Result<usize, CacheError> {
        Ok(self.sequences.get(sequence)?.len)
    }

    fn room(&self, sequence: SequenceId) -> Result<usize, CacheError> {
        Ok(self.room_of(self.sequences.get(sequence)?))
    }

    fn append(&mut self, sequence: SequenceId, count: usize) -> Result<Vec<SlotCopy>, CacheError> {
        let s = self.sequences.get(sequence)?;
        let (len, room) = (s.len, self.room_of(s));
        if count > room {
            return Err(CacheError::Full { len, room, wanted: count });
        }
        let growth = self.growth(s, count);
        let shared = s.blocks.last().copied();
        // From here on nothing can fail.
        let taken: Vec<usize> = (0..growth.blocks).map(|_| self.take_block()).collect();
        let mut copies = Vec::new();
        let block_size = self.layout.block_size;
        if let (true, Some(shared)) = (growth.copy_on_write, shared) {
            self.drop_block(shared);
            copies.push(SlotCopy { from: shared * block_size, to: taken[0] * block_size, rows: len % block_size });
        }
        let s = self.sequences.get_mut(sequence)?;
        if growth.copy_on_write {
            s.blocks.pop();
        }
        s.blocks.extend(taken);
        s.len += count;
        Ok(copies)
    }

    fn slot(&self, sequence: SequenceId, index: usize) -> Result<usize, CacheError> {
        let s = self.sequences.get(sequence)?;
        if index >= s.len {
            return Err(not_that_long(s.len, index));
        }
        let block_size = self.layout.block_size;
        Ok(s.blocks[index / block_size] * block_size + index % block_size)
    }

    /// # Panics
    /// If `row` is shorter than the sequence has blocks: it must have `blocks_per_sequence` entries.
    fn block_table(&self, sequence: SequenceId, row: &mut [i32]) -> Result<(), CacheError> {
        let blocks = &self.sequences.get(sequence)?.blocks;
        for (entry, block) in row[..blocks.len()].iter_mut().zip(blocks) {
            *entry = i32::try_from(*block).expect("limited by MAX_SLOTS");
        }
        Ok(())
    }

    fn truncate(&mut self, sequence: SequenceId, len: usize) -> Result<(), CacheError> {
        let block_size = self.layout.block_size;
        let s = self.sequences.get_mut(sequence)?;
        if len > s.len {
            return Err(not_that_long(s.len, len));
        }
        s.len = len;
        let dropped = s.blocks.split_off(len.div_ceil(block_size));
        dropped.into_iter().rev().for_each(|b| self.drop_block(b));
        Ok(())
    }

    fn fork(&mut self, sequence: SequenceId) -> Result<(SequenceId, Vec<SlotCopy>), CacheError> {
        let fork = self.sequences.get(sequence)?.clone();
        self.sequences.check_vacancy()?;
        fork.blocks.iter().for_each(|b| self.owners[*b] += 1);
        Ok((self.sequences.insert(fork)?, Vec::new()))
    }

    fn release(&mut self, sequence: SequenceId) -> Result<(), CacheError> {
        let s = self.sequences.remove(sequence)?;
        s.blocks.into_iter().rev().for_each(|b| self.drop_block(b));
        Ok(())
    }

    fn reset(&mut self) {
        self.sequences.clear();
        self.free.clear();
        self.owners.clear();
    }
}
