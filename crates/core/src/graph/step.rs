//! The inputs of a step: the ragged batch as index tensors.
//!
//! The tokens of all sequences lie flat in `[T]`, one sequence after the other; `q_start` tells where each begins.
//! Where a sequence's keys and values live is told by `slot` (for the new tokens) and `block_table` (for all of
//! them), so a backend needs to know nothing of the cache's policy.

use std::fmt;

use super::shape::{Dim, Symbol, TensorType};
use crate::DType;

/// How a cache divides its memory, as far as shapes depend on it.
///
/// The rows ("slots") of every layer's key and value planes are numbered `0..num_slots`; block `b` is the slots
/// `b * block_size .. (b + 1) * block_size`. Token `i` of a sequence lies in block `block_table[s][i / block_size]`
/// at row `i % block_size`. A contiguous cache is one block a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheLayout {
    /// Rows of each plane.
    pub num_slots: usize,
    /// Rows of a block.
    pub block_size: usize,
    /// Most blocks a sequence can have: the second dimension of `block_table`.
    pub blocks_per_sequence: usize,
    /// Most sequences at a time.
    pub max_sequences: usize,
}

impl CacheLayout {
    /// The longest sequence that fits.
    pub fn max_sequence_len(&self) -> usize {
        self.blocks_per_sequence * self.block_size
    }
}

/// An input whose contents the engine writes before every step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StepInput {
    /// `[T] i32`: token ids, each below `vocab_size`.
    Tokens,
    /// `[T, hidden_size] f32`: embeddings in place of tokens.
    Embeds {
        /// Width of an embedding.
        hidden_size: usize,
    },
    /// `[T] i32`: row of the RoPE tables for each token.
    Positions,
    /// `[T] i32`: the cache row that takes each token's key and value; -1 for a padding token, which is not stored.
    Slot,
    /// `[S, blocks] i32`: the blocks of each sequence, in order; entries past its length are unspecified.
    BlockTable {
        /// Entries a sequence has room for.
        blocks: usize,
    },
    /// `[S] i32`: length of each sequence, this step's tokens included.
    SeqLen,
    /// `[P] i32`: `q_start[s]..q_start[s + 1]` are the tokens of sequence `s`; `q_start[0] = 0`. Tokens from
    /// `q_start[S]` on are padding.
    QStart,
    /// `[O] i32`: the tokens whose logits are wanted.
    OutRow,
    /// `[T, kv_heads, L] i32`, for lowered attention: row `slot * kv_heads + head` of the plane viewed as
    /// `[slots * kv_heads, head_dim]` for each token's context; -1 past its end.
    ContextRow {
        /// Key/value heads.
        kv_heads: usize,
    },
    /// `[T, L] f32`, for lowered attention: 0 where a token may look, [`crate::ops::softmax::MASKED`] elsewhere.
    ContextMask {
        /// Sliding window: how many tokens, itself included, a token sees; all if `None`.
        window: Option<usize>,
    },
}

impl StepInput {
    /// The name of the input in the graph.
    pub fn name(&self) -> String {
        match self {
            StepInput::Tokens => "tokens".into(),
            StepInput::Embeds { .. } => "embeds".into(),
            StepInput::Positions => "positions".into(),
            StepInput::Slot => "slot".into(),
            StepInput::BlockTable { .. } => "block_table".into(),
            StepInput::SeqLen => "seq_len".into(),
            StepInput::QStart => "q_start".into(),
            StepInput::OutRow => "out_row".into(),
            StepInput::ContextRow { .. } => "context_row".into(),
            StepInput::ContextMask { window: None } => "context_mask".into(),
            StepInput::ContextMask { window: Some(w) } => format!("context_mask.window{w}"),
        }
    }

    /// Its type.
    pub fn ty(&self) -> TensorType {
        let t = Dim::Sym(Symbol::T);
        let l = Dim::Sym(Symbol::L);
        let (dtype, dims): (DType, Vec<Dim>) = match *self {
            StepInput::Tokens | StepInput::Positions | StepInput::Slot => (DType::I32, vec![t]),
            StepInput::Embeds { hidden_size } => (DType::F32, vec![t, hidden_size.into()]),
            StepInput::BlockTable { blocks } => (DType::I32, vec![Symbol::S.into(), blocks.into()]),
            StepInput::SeqLen => (DType::I32, vec![Symbol::S.into()]),
            StepInput::QStart => (DType::I32, vec![Symbol::P.into()]),
            StepInput::OutRow => (DType::I32, vec![Symbol::O.into()]),
            StepInput::ContextRow { kv_heads } => (DType::I32, vec![t, kv_heads.into(), l]),
            StepInput::ContextMask { .. } => (DType::F32, vec![t, l]),
        };
        TensorType::new(dtype, &dims).expect("scalar types of rank three at most")
    }
}

impl fmt::Display for StepInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}
