//! A phase: what the threads do between two barriers, or each for itself.

use std::ops::Range;

use camelid_core::backend::BackendError;
use camelid_core::graph::SymbolValues;

use super::Value;
use crate::isa::IsaName;

/// One or several operations that are computed together, cut into items that do not depend on each other.
///
/// Results do not depend on which thread computes an item, nor on how many there are.
pub(crate) trait Phase: Send + Sync {
    /// How many items there are at this step. Without any, nothing waits for the phase.
    ///
    /// # Errors
    /// What only the contents of inputs can make wrong; every thread finds the same.
    ///
    /// # Safety
    /// The values lie where the plan says, and phases before this one are done.
    unsafe fn items(&self, symbols: &SymbolValues) -> Result<usize, BackendError>;

    /// Whether every thread computes all items at this step, into copies of its own ([`Value::stride`]), because that takes
    /// less time than to wait for each other.
    fn each(&self, _symbols: &SymbolValues) -> bool {
        false
    }

    /// How many items a thread takes at once.
    fn grain(&self, items: usize, threads: usize) -> usize {
        // Enough pieces that a thread that was kept from running does not keep the others waiting.
        (items / (threads * 8)).max(1)
    }

    /// Bytes of memory each thread needs to itself.
    fn scratch(&self) -> usize {
        0
    }

    /// Computes some items.
    ///
    /// # Errors
    /// As [`Phase::items`]. Other items may or may not have been computed.
    ///
    /// # Safety
    /// As [`Phase::items`], and no item is computed twice at a time, but by each thread for itself.
    unsafe fn run(&self, at: &Step<'_>, items: Range<usize>) -> Result<(), BackendError>;
}

/// The part of a phase that a thread takes first: the items come in order, so that it goes through memory in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    pub thread: usize,
    pub threads: usize,
}

impl Share {
    /// Its part of `items`.
    pub(crate) fn of(self, items: usize) -> Range<usize> {
        let until = |threads: usize| (items as u128 * threads as u128 / self.threads as u128) as usize;
        until(self.thread)..until(self.thread + 1)
    }
}

/// A thread at a phase of a step.
pub(crate) struct Step<'a> {
    pub symbols: &'a SymbolValues,
    pub isa: IsaName,
    pub me: Share,
    /// Whether each thread computes this phase for itself.
    pub each: bool,
    /// The thread's own memory, as large as the largest [`Phase::scratch`] of the plan, at a multiple of 64.
    pub scratch: *mut u8,
}

impl Step<'_> {
    /// The value as this thread reads it: its own copy, or everybody's.
    pub(crate) fn own(&self, value: Value) -> Value {
        value.copy(self.me.thread)
    }

    /// The copies of a value that this thread writes: its own, or where one thread computes for all, all of them.
    pub(crate) fn written(&self, value: Value) -> impl Iterator<Item = Value> {
        let copies = if self.each {
            self.me.thread..self.me.thread + 1
        } else if value.stride == 0 {
            0..1
        } else {
            0..self.me.threads
        };
        copies.map(move |thread| value.copy(thread))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_all_items_once_in_order() {
        for items in [0, 1, 7, 60, usize::MAX / 2] {
            for threads in [1, 2, 3, 64] {
                let mut next = 0;
                for thread in 0..threads {
                    let share = Share { thread, threads }.of(items);
                    assert_eq!(share.start, next);
                    next = share.end;
                }
                assert_eq!(next, items);
            }
        }
    }
}
