//! The cache policies: which row of the device's key and value planes belongs to which token.
//!
//! [`ContiguousCache`] gives every sequence one run of rows, [`PagedCache`] blocks as it grows, shared after a fork.
//! Both only keep books; the bytes are the device's, and the session copies them when a cache says so. The contract
//! is [`camelid_core::Cache`]'s; start there, and at the tests of this module, which run over every policy.

mod contiguous;
mod paged;
#[cfg(test)]
mod tests;

pub use contiguous::ContiguousCache;
pub use paged::PagedCache;

use camelid_core::cache::{CacheError, SequenceId};
use std::collections::BTreeMap;

/// Rows and blocks go to the device as `i32`; a cache hands out no more than that can name.
const MAX_SLOTS: usize = i32::MAX as usize;

/// The live sequences of a cache under ids that are never used twice, not even after [`Table::clear`].
#[derive(Debug)]
struct Table<S> {
    live: BTreeMap<SequenceId, S>,
    next_id: u64,
    max_sequences: usize,
}

impl<S> Table<S> {
    fn new(max_sequences: usize) -> Table<S> {
        Table { live: BTreeMap::new(), next_id: 0, max_sequences }
    }

    fn check_vacancy(&self) -> Result<(), CacheError> {
        let full = self.live.len() >= self.max_sequences;
        if full { Err(CacheError::TooManySequences { max_sequences: self.max_sequences }) } else { Ok(()) }
    }

    fn insert(&mut self, sequence: S) -> Result<SequenceId, CacheError> {
        self.check_vacancy()?;
        let id = SequenceId(self.next_id);
        self.next_id += 1;
        self.live.insert(id, sequence);
        Ok(id)
    }

    fn get(&self, id: SequenceId) -> Result<&S, CacheError> {
        self.live.get(&id).ok_or(CacheError::UnknownSequence(id))
    }

    fn get_mut(&mut self, id: SequenceId) -> Result<&mut S, CacheError> {
        self.live.get_mut(&id).ok_or(CacheError::UnknownSequence(id))
    }

    fn remove(&mut self, id: SequenceId) -> Result<S, CacheError> {
        self.live.remove(&id).ok_or(CacheError::UnknownSequence(id))
    }

    fn clear(&mut self) {
        self.live.clear();
    }
}

/// Numbers `0..capacity` to take and give back: the last one given back comes first, then the lowest never taken. It
/// holds memory only for what was given back.
#[derive(Debug)]
struct FreeList {
    given_back: Vec<usize>,
    untouched: usize,
    capacity: usize,
}

impl FreeList {
    fn new(capacity: usize) -> FreeList {
        FreeList { given_back: Vec::new(), untouched: 0, capacity }
    }

    fn len(&self) -> usize {
        self.given_back.len() + (self.capacity - self.untouched)
    }

    fn take(&mut self) -> Option<usize> {
        self.given_back.pop().or_else(|| {
            let next = self.untouched;
            (next < self.capacity).then(|| {
                self.untouched += 1;
                next
            })
        })
    }

    fn give_back(&mut self, number: usize) {
        self.given_back.push(number);
    }

    fn clear(&mut self) {
        *self = FreeList::new(self.capacity);
    }
}

/// `value`, or the nearest value in range with a warning: a constructor has no error to give, and the session checks
/// its options before it comes here.
fn clamped(what: &str, value: usize, most: usize) -> usize {
    let clamped = value.clamp(1, most.max(1));
    if clamped != value {
        tracing::warn!("a cache cannot have {what} = {value}; it gets {clamped}");
    }
    clamped
}

fn not_that_long(len: usize, wanted: usize) -> CacheError {
    CacheError::NotThatLong { len, wanted }
}
