//! Caches with one fault, around an honest one.

use std::collections::BTreeMap;

use camelid_core::Cache;
use camelid_core::cache::{CacheError, SequenceId, SlotCopy};
use camelid_core::graph::CacheLayout;

use crate::{Level, Mutant, fire};

const fn mutant(id: &'static str, about: &'static str) -> Mutant {
    Mutant { id, level: Level::Cache, about, cases: &[] }
}

/// Every fault of a cache; [`FaultyCache`] knows them by name.
pub(crate) const MUTANTS: &[Mutant] = &[
    mutant("cache_truncates_one_less", "truncate leaves a token too many"),
    mutant("cache_truncates_one_more", "truncate takes a token too many"),
    mutant("cache_never_truncates", "truncate does nothing"),
    mutant("cache_resets_nothing", "reset does nothing"),
    mutant("cache_fork_copies_nothing", "what a fork must copy is not said"),
    mutant("cache_append_copies_nothing", "what an append must copy is not said"),
    mutant("cache_copies_a_row_less", "the last row of a copy is left out"),
    mutant("cache_copies_backwards", "copies go from the new rows to the old"),
    mutant("cache_slot_one_on", "a token's row is the one behind it"),
    mutant("cache_slot_at_boundary", "the first row of a block is the last of the one before"),
    mutant("cache_table_swapped", "the first two blocks of a table are swapped"),
    mutant("cache_table_of_another", "the block table of the sequence that was made first"),
    mutant("cache_table_ends_early", "the last block of a table is the first"),
    mutant("cache_length_one_more", "a sequence is said to hold a token more"),
    mutant("cache_room_one_more", "there is said to be room for a token more"),
    mutant("cache_room_one_less", "there is said to be room for a token less"),
    mutant("cache_never_releases", "release does nothing"),
    mutant("cache_forgets_who_is_gone", "a sequence that was released is said to be empty"),
    mutant("cache_one_sequence_less", "the last sequence there can be is refused"),
    mutant("cache_appends_one_less", "room is made for a token less"),
    mutant("cache_full_all_the_same", "an append that does not fit takes what fits"),
    mutant("cache_fork_is_empty", "a fork holds nothing"),
    mutant("cache_fork_is_the_origin", "a fork is the same sequence"),
];

/// Whether `id` is a fault of a cache.
pub fn is_cache(id: &str) -> bool {
    MUTANTS.iter().any(|m| m.id == id)
}

/// `inner` with the fault called `id`; as it is if there is none of this name.
pub fn cache(id: &str, inner: Box<dyn Cache>) -> Box<dyn Cache> {
    let Some(fault) = MUTANTS.iter().find(|m| m.id == id).map(|m| m.id) else { return inner };
    Box::new(FaultyCache { inner, fault, first: None, gone: BTreeMap::new() })
}

struct FaultyCache {
    inner: Box<dyn Cache>,
    fault: &'static str,
    /// The sequence that was made first.
    first: Option<SequenceId>,
    /// Sequences that were released.
    gone: BTreeMap<SequenceId, ()>,
}

impl FaultyCache {
    fn is(&self, fault: &str) -> bool {
        self.fault == fault
    }

    fn copies(&self, mut copies: Vec<SlotCopy>, nothing: &str) -> Vec<SlotCopy> {
        if copies.is_empty() {
            return copies;
        }
        if self.is(nothing) {
            fire();
            return Vec::new();
        }
        for copy in &mut copies {
            if self.is("cache_copies_a_row_less") {
                fire();
                copy.rows -= 1;
            }
            if self.is("cache_copies_backwards") {
                fire();
                std::mem::swap(&mut copy.from, &mut copy.to);
            }
        }
        copies
    }
}

impl Cache for FaultyCache {
    fn layout(&self) -> CacheLayout {
        self.inner.layout()
    }

    fn create(&mut self) -> Result<SequenceId, CacheError> {
        let id = self.inner.create()?;
        if self.is("cache_one_sequence_less") {
            let probe = self.inner.create();
            match probe {
                Ok(another) => self.inner.release(another)?,
                Err(error) => {
                    fire();
                    self.inner.release(id)?;
                    return Err(error);
                }
            }
        }
        self.first.get_or_insert(id);
        Ok(id)
    }

    fn len(&self, sequence: SequenceId) -> Result<usize, CacheError> {
        if self.is("cache_forgets_who_is_gone") && self.gone.contains_key(&sequence) {
            fire();
            return Ok(0);
        }
        let len = self.inner.len(sequence)?;
        if self.is("cache_length_one_more") {
            fire();
            return Ok(len + 1);
        }
        Ok(len)
    }

    fn room(&self, sequence: SequenceId) -> Result<usize, CacheError> {
        let room = self.inner.room(sequence)?;
        match self.fault {
            "cache_room_one_more" => {
                fire();
                Ok(room + 1)
            }
            "cache_room_one_less" if room > 0 => {
                fire();
                Ok(room - 1)
            }
            _ => Ok(room),
        }
    }

    fn append(&mut self, sequence: SequenceId, count: usize) -> Result<Vec<SlotCopy>, CacheError> {
        let room = self.inner.room(sequence)?;
        let count = match self.fault {
            "cache_appends_one_less" if count > 1 => {
                fire();
                count - 1
            }
            "cache_full_all_the_same" if count > room => {
                fire();
                room
            }
            _ => count,
        };
        let copies = self.inner.append(sequence, count)?;
        Ok(self.copies(copies, "cache_append_copies_nothing"))
    }

    fn slot(&self, sequence: SequenceId, index: usize) -> Result<usize, CacheError> {
        let (slot, layout) = (self.inner.slot(sequence, index)?, self.inner.layout());
        match self.fault {
            "cache_slot_one_on" => {
                fire();
                Ok((slot + 1) % layout.num_slots)
            }
            "cache_slot_at_boundary" if index > 0 && index.is_multiple_of(layout.block_size) => {
                fire();
                self.inner.slot(sequence, index - 1)
            }
            _ => Ok(slot),
        }
    }

    fn block_table(&self, sequence: SequenceId, row: &mut [i32]) -> Result<(), CacheError> {
        let blocks = self.inner.len(sequence)?.div_ceil(self.inner.layout().block_size);
        self.inner.block_table(sequence, row)?;
        match (self.fault, self.first) {
            ("cache_table_swapped", _) if blocks > 1 => {
                fire();
                row.swap(0, 1);
            }
            ("cache_table_ends_early", _) if blocks > 1 => {
                fire();
                row[blocks - 1] = row[0];
            }
            ("cache_table_of_another", Some(first)) if first != sequence => {
                let mut other = row.to_vec();
                if self.inner.block_table(first, &mut other).is_ok() && other != row {
                    fire();
                    row.copy_from_slice(&other);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn truncate(&mut self, sequence: SequenceId, len: usize) -> Result<(), CacheError> {
        let before = self.inner.len(sequence)?;
        match self.fault {
            "cache_truncates_one_less" if len < before => {
                fire();
                self.inner.truncate(sequence, len + 1)
            }
            "cache_truncates_one_more" if len > 0 && len <= before => {
                fire();
                self.inner.truncate(sequence, len - 1)
            }
            "cache_never_truncates" if len < before => {
                fire();
                Ok(())
            }
            _ => self.inner.truncate(sequence, len),
        }
    }

    fn fork(&mut self, sequence: SequenceId) -> Result<(SequenceId, Vec<SlotCopy>), CacheError> {
        if self.is("cache_fork_is_the_origin") {
            self.inner.len(sequence)?;
            fire();
            return Ok((sequence, Vec::new()));
        }
        let (fork, copies) = self.inner.fork(sequence)?;
        if self.is("cache_fork_is_empty") && self.inner.len(fork)? > 0 {
            fire();
            self.inner.truncate(fork, 0)?;
            return Ok((fork, Vec::new()));
        }
        Ok((fork, self.copies(copies, "cache_fork_copies_nothing")))
    }

    fn release(&mut self, sequence: SequenceId) -> Result<(), CacheError> {
        if self.is("cache_never_releases") {
            self.inner.len(sequence)?;
            fire();
            return Ok(());
        }
        self.inner.release(sequence)?;
        self.gone.insert(sequence, ());
        Ok(())
    }

    fn reset(&mut self) {
        if self.is("cache_resets_nothing") {
            fire();
            return;
        }
        self.first = None;
        self.inner.reset();
    }
}
