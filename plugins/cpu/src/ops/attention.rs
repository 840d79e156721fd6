//! `attention`: causal, over cached keys and values, with an online softmax (Milakov and Gimelshein 2018; Dao et al. 2022).
//!
//! Keys are taken in blocks, and for each row of queries the largest score so far, the sum of weights and the weighted sum
//! of values are carried along, so that memory does not grow with the context. The query heads of a group share their key
//! head: its keys are read once for all of them. Two ways:
//!
//! - **Tiles** ([`super::attention_tiles`]), for sequences with several new tokens: the rows of a tile (tokens times heads of the group)
//!   against blocks of [`KEYS`] keys, turned so that sixteen keys lie in the lanes. Both products are the f32 kernel.
//! - **Split** ([`super::attention_split`]), for sequences with one new token, as in decoding: the context in pieces of fixed
//!   length, so that all threads have work however few heads there are.
//!
//! Which way a sequence goes depends on its own number of new tokens alone, and the boundaries of blocks and pieces on its
//! own positions, so no token's bits depend on another sequence.
//!
//! Here stands what both have in common: what attention works on, and the checks of what the host says about sequences.

use camelid_core::DType;
use camelid_core::backend::BackendError;
use camelid_core::graph::SymbolValues;
use camelid_core::ops::AttentionSpec;

use super::cache_q8_0::load_q8_0;
use crate::isa::{Isa, LANES};
use crate::plan::Value;

/// The most rows of a tile.
pub(super) const ROWS: usize = 96;

/// What attention works on.
#[derive(Clone, Copy)]
pub(crate) struct Attention {
    pub spec: AttentionSpec,
    /// `[T, H * D]` f32.
    pub q: Value,
    /// `[N, G * D]`
    pub k: Value,
    pub v: Value,
    pub q_start: Value,
    pub seq_len: Value,
    pub block_table: Value,
    /// `[T, H * D]` f32.
    pub y: Value,
}

/// One sequence: its new tokens are rows `first..first + count` of q, the last `count` of its `len` tokens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sequence {
    pub number: usize,
    pub first: usize,
    pub count: usize,
    pub len: usize,
}

impl Attention {
    /// Query heads of a key head.
    pub(super) fn group(&self) -> usize {
        self.spec.num_heads / self.spec.num_kv_heads
    }

    /// Tokens of a tile: as many as make whole groups of sixteen rows, if some do.
    pub(super) fn tile_tokens(&self) -> usize {
        let most = (ROWS / self.group()).max(1);
        (1..=most).rev().find(|tokens| (tokens * self.group()).is_multiple_of(LANES)).unwrap_or(most)
    }

    /// Whether sequences with one new token go in pieces.
    pub(crate) fn can_split(spec: &AttentionSpec) -> bool {
        spec.head_dim.is_multiple_of(LANES) && spec.num_heads / spec.num_kv_heads <= LANES
    }

    /// Whether a sequence with so many new tokens goes in pieces.
    pub(super) fn splits(&self, count: usize) -> bool {
        count == 1 && Attention::can_split(&self.spec)
    }

    /// Sequence `number` as the inputs have it, unchecked.
    ///
    /// # Safety
    /// The values are there.
    pub(super) unsafe fn sequence(&self, number: usize) -> Sequence {
        let size = |value: i32| usize::try_from(value).unwrap_or(0);
        // SAFETY: by contract.
        unsafe {
            let (first, next) = (size(self.q_start.index(number)), size(self.q_start.index(number + 1)));
            Sequence { number, first, count: next.saturating_sub(first), len: size(self.seq_len.index(number)) }
        }
    }

    /// Checks that sequences follow one another among the tokens of the step, and that each has the blocks it needs.
    ///
    /// # Safety
    /// The values are there.
    pub(super) unsafe fn check(&self, symbols: &SymbolValues) -> Result<(), BackendError> {
        let wrong = |operand: &str, at: usize, value: i32, rule: String| {
            let message = format!("operand `{operand}`: element {at} is {value}, but it must be {rule}");
            Err(BackendError::invalid(message))
        };
        let tokens = self.q.rows(symbols);
        let sequences = self.seq_len.elements(symbols);
        let bounds = self.q_start.elements(symbols);
        if bounds != sequences + 1 {
            let message = format!("operand `q_start` has {bounds} elements, but it must have {}", sequences + 1);
            return Err(BackendError::invalid(message));
        }
        let blocks = self.block_table.columns(symbols);
        let limit = self.k.rows(symbols) / self.spec.block_size;
        // SAFETY: by contract.
        unsafe {
            let mut least = 0;
            for at in 0..bounds {
                let value = self.q_start.index(at);
                if at == 0 && value != 0 {
                    return wrong("q_start", at, value, "0: the first sequence begins with the first token".into());
                }
                if value < least || value as usize > tokens {
                    let rule =
                        format!("in {least}..={tokens}: sequences follow one another, and there are {tokens} tokens");
                    return wrong("q_start", at, value, rule);
                }
                least = value;
            }
            let most = blocks.saturating_mul(self.spec.block_size);
            for s in 0..sequences {
                let Sequence { count, len, .. } = self.sequence(s);
                let value = self.seq_len.index(s);
                if value < 0 || len < count || (len > most && count > 0) {
                    let rule = format!("in {count}..={most}: at least its new tokens, at most its {blocks} blocks");
                    return wrong("seq_len", s, value, rule);
                }
                if count == 0 {
                    continue;
                }
                let seen_from = self.begin(len - count);
                for b in seen_from / self.spec.block_size..len.div_ceil(self.spec.block_size) {
                    let at = s * blocks + b;
                    let value = self.block_table.index(at);
                    if usize::try_from(value).is_ok_and(|block| block < limit) {
                        continue;
                    }
                    let rule = format!("in 0..{limit}, because sequence {s} reaches this block");
                    return wrong("block_table", at, value, rule);
                }
            }
        }
        Ok(())
    }

    /// The first index that the token at `index` sees.
    pub(super) fn begin(&self, index: usize) -> usize {
        self.spec.window.map_or(0, |w| (index + 1).saturating_sub(w))
    }

    /// The blocks of a sequence.
    ///
    /// # Safety
    /// The values are there.
    #[inline]
    pub(super) unsafe fn table_of(&self, sequence: &Sequence, symbols: &SymbolValues) -> *const i32 {
        // SAFETY: by contract; a row each.
        unsafe { self.block_table.ptr.cast::<i32>().add(sequence.number * self.block_table.columns(symbols)) }
    }

    /// The cache row of index `j` of a sequence.
    ///
    /// # Safety
    /// [`Attention::check`] found nothing wrong, and `j` is less than the sequence's length and not before what it sees.
    #[inline(always)]
    pub(super) unsafe fn cache_row(&self, table: *const i32, j: usize) -> usize {
        let size = self.spec.block_size;
        // SAFETY: by contract.
        unsafe { table.add(j / size).read_unaligned() as usize * size + j % size }
    }

    /// Zeros for the tokens past the last sequence.
    ///
    /// # Safety
    /// [`Attention::check`] found nothing wrong.
    pub(super) unsafe fn clear_padding(&self, symbols: &SymbolValues) {
        let (rows, width) = (self.y.rows(symbols), self.y.columns(symbols));
        // SAFETY: by contract; the rows are nobody else's.
        unsafe {
            let sequences = self.seq_len.elements(symbols);
            let end = self.q_start.index(sequences) as usize;
            std::ptr::write_bytes(self.y.f32().add(end * width), 0, (rows - end) * width);
        }
    }
}

/// Sixteen elements of a head in the cache as f32; `i` is a multiple of sixteen.
#[inline(always)]
pub(super) unsafe fn load_cache<I: Isa>(dtype: DType, row: *const u8, i: usize) -> I::F {
    // SAFETY: sixteen elements from `i` on are there.
    unsafe {
        match dtype {
            DType::F16 => I::load_f16(row.cast::<u16>().add(i)),
            DType::BF16 => I::load_bf16(row.cast::<u16>().add(i)),
            DType::Q8_0 => load_q8_0::<I>(row, i),
            _ => I::load(row.cast::<f32>().add(i)),
        }
    }
}
