//! A phase: what the threads do between two barriers.

use std::ops::Range;

use camelid_core::backend::BackendError;
use camelid_core::graph::SymbolValues;

use crate::isa::IsaName;

/// One or several operations that are computed together, cut into items that do not depend on each other.
///
/// Results do not depend on which thread computes an item, nor on how many there are.
pub(crate) trait Phase: Send + Sync {
    /// How many items there are at this step.
    fn items(&self, symbols: &SymbolValues) -> usize;

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
    /// What only the contents of inputs can make wrong. Other items may or may not have been computed.
    ///
    /// # Safety
    /// The values lie where the plan says, phases before this one are done, and no item is computed twice at a time.
    unsafe fn run(&self, at: &Step<'_>, items: Range<usize>) -> Result<(), BackendError>;
}

/// A thread at a step.
pub(crate) struct Step<'a> {
    pub symbols: &'a SymbolValues,
    pub isa: IsaName,
    /// The thread's own memory, as large as the largest [`Phase::scratch`] of the plan, at a multiple of 64.
    pub scratch: *mut u8,
}
