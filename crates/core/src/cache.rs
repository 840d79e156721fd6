//! The [`Cache`] trait: which cache row belongs to which token.
//!
//! A cache is bookkeeping: it hands out rows and answers with indices. It never touches the bytes, which the device
//! owns, so every cache works on every backend. What it wants copied (a fork's partly filled block) it says, and the
//! engine has the device do it.

use thiserror::Error;

use crate::graph::CacheLayout;

/// A sequence in a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SequenceId(pub u64);

/// Rows to copy in every plane of every layer before the next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotCopy {
    /// First row to copy from.
    pub from: usize,
    /// First row to copy to.
    pub to: usize,
    /// How many rows.
    pub rows: usize,
}

/// A cache policy.
///
/// Every function either does all it says or changes nothing. The rows of a sequence are its tokens in order; see
/// [`CacheLayout`] for how blocks make rows.
pub trait Cache: Send {
    /// How the memory is divided; never changes.
    fn layout(&self) -> CacheLayout;

    /// A new, empty sequence.
    ///
    /// # Errors
    /// [`CacheError::TooManySequences`].
    fn create(&mut self) -> Result<SequenceId, CacheError>;

    /// Tokens in the sequence.
    fn len(&self, sequence: SequenceId) -> Result<usize, CacheError>;

    /// How many more tokens the sequence could take now.
    fn room(&self, sequence: SequenceId) -> Result<usize, CacheError>;

    /// Makes room for `count` more tokens. The copies come before anything is written to the new rows.
    ///
    /// # Errors
    /// [`CacheError::Full`] if the sequence would outgrow its limit or the memory.
    fn append(&mut self, sequence: SequenceId, count: usize) -> Result<Vec<SlotCopy>, CacheError>;

    /// The row of token `index` of the sequence.
    fn slot(&self, sequence: SequenceId, index: usize) -> Result<usize, CacheError>;

    /// Writes the sequence's blocks to the front of `row`, which has `blocks_per_sequence` entries.
    fn block_table(&self, sequence: SequenceId, row: &mut [i32]) -> Result<(), CacheError>;

    /// Forgets all tokens from index `len` on.
    ///
    /// # Errors
    /// [`CacheError::NotThatLong`] if the sequence is shorter.
    fn truncate(&mut self, sequence: SequenceId, len: usize) -> Result<(), CacheError>;

    /// A second sequence with the same tokens; from here on each has its own future.
    fn fork(&mut self, sequence: SequenceId) -> Result<(SequenceId, Vec<SlotCopy>), CacheError>;

    /// Forgets the sequence.
    fn release(&mut self, sequence: SequenceId) -> Result<(), CacheError>;

    /// Forgets all sequences.
    fn reset(&mut self);
}

/// Why a cache refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CacheError {
    /// No room for more tokens.
    #[error(
        "the sequence holds {len} tokens and has room for {room} more, but {wanted} are to be added; raise `context_size` \
         or make the prompt shorter"
    )]
    Full {
        /// Tokens in the sequence.
        len: usize,
        /// How many more it could take.
        room: usize,
        /// How many it was to take.
        wanted: usize,
    },
    /// No room for more sequences.
    #[error("all {max_sequences} sequences are in use; release one or raise `max_sequences`")]
    TooManySequences {
        /// How many there can be.
        max_sequences: usize,
    },
    /// The sequence does not exist, or was released.
    #[error("sequence {} does not exist", .0.0)]
    UnknownSequence(SequenceId),
    /// An index or length past the sequence's end.
    #[error("the sequence holds {len} tokens, but index {wanted} was asked for")]
    NotThatLong {
        /// Tokens in the sequence.
        len: usize,
        /// The index or length asked for.
        wanted: usize,
    },
}
