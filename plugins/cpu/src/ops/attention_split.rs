//! Attention of sequences with one new token: the context in pieces of [`PIECE`] keys that threads divide among them, and
//! then, head by head, the pieces together (Dao et al. 2023, "flash decoding").

use std::ops::Range;

use camelid_core::backend::BackendError;
use camelid_core::graph::SymbolValues;

use super::attention::{Attention, Sequence, load_cache};
use crate::isa::{Isa, LANES, unroll};
use crate::kernel::{Task, on};
use crate::plan::{Phase, Step};

/// Keys of a piece.
const PIECE: usize = 64;

/// What a piece leaves for each head of its group: the largest score, the sum of weights, and from [`STATE`] on the weighted
/// sum of values.
const STATE: usize = LANES;

/// Where pieces leave what they found: `[S][G][pieces][group][STATE + D]` f32.
#[derive(Clone, Copy)]
pub(crate) struct Partial {
    pub attention: Attention,
    pub memory: *mut f32,
    /// The most pieces a sequence can have.
    pub pieces: usize,
}

// SAFETY: as for `Value`.
unsafe impl Send for Partial {}
// SAFETY: as above.
unsafe impl Sync for Partial {}

impl Partial {
    /// The most pieces of a sequence of `len` tokens.
    pub(crate) fn pieces(len: usize) -> usize {
        len.div_ceil(PIECE)
    }

    /// f32s for `sequences` sequences, or `None` if that overflows.
    pub(crate) fn floats(attention: &Attention, sequences: usize, pieces: usize) -> Option<usize> {
        let spec = &attention.spec;
        sequences.checked_mul(spec.num_heads)?.checked_mul(pieces)?.checked_mul(STATE + spec.head_dim)
    }

    /// What piece `piece` of sequence `s` left for key head `head`.
    ///
    /// # Safety
    /// There are as many.
    unsafe fn at(&self, s: usize, head: usize, piece: usize) -> *mut f32 {
        let spec = &self.attention.spec;
        let each = self.attention.group() * (STATE + spec.head_dim);
        // SAFETY: by contract.
        unsafe { self.memory.add(((s * spec.num_kv_heads + head) * self.pieces + piece) * each) }
    }

    /// The pieces that the new token of a sequence sees.
    fn pieces_of(&self, sequence: &Sequence) -> Range<usize> {
        if !self.attention.splits(sequence.count) || sequence.len == 0 {
            return 0..0;
        }
        self.attention.begin(sequence.len - 1) / PIECE..Partial::pieces(sequence.len).min(self.pieces)
    }

    /// # Safety
    /// The inputs are there.
    unsafe fn sequences(&self, symbols: &SymbolValues) -> impl Iterator<Item = Sequence> {
        let all = self.attention.seq_len.elements(symbols);
        // SAFETY: by contract.
        (0..all).map(|s| unsafe { self.attention.sequence(s) })
    }
}

/// An item is a piece of a sequence with one key head.
pub(crate) struct AttentionPieces(pub Partial);

impl Phase for AttentionPieces {
    fn items(&self, symbols: &SymbolValues) -> usize {
        // SAFETY: the inputs are there when a step runs.
        let pieces: usize = unsafe { self.0.sequences(symbols) }.map(|s| self.0.pieces_of(&s).len()).sum();
        pieces * self.0.attention.spec.num_kv_heads
    }

    fn grain(&self, items: usize, threads: usize) -> usize {
        (items / (threads * 8)).max(1)
    }

    fn scratch(&self) -> usize {
        let a = &self.0.attention;
        // Scores, queries, and where the keys' rows begin.
        (a.group() * PIECE + a.group() * a.spec.head_dim) * size_of::<f32>() + PIECE * size_of::<usize>()
    }

    unsafe fn run(&self, at: &Step<'_>, items: Range<usize>) -> Result<(), BackendError> {
        let a = &self.0.attention;
        // SAFETY: by contract; what the inputs say is checked before it is used.
        unsafe {
            a.check(at.symbols)?;
            for item in items {
                let (mut number, head) = (item / a.spec.num_kv_heads, item % a.spec.num_kv_heads);
                for sequence in self.0.sequences(at.symbols) {
                    let pieces = self.0.pieces_of(&sequence);
                    if number < pieces.len() {
                        let piece = pieces.start + number;
                        let table = a.block_table.ptr.cast::<i32>();
                        let table = table.add(sequence.number * a.block_table.columns(at.symbols));
                        on(at.isa, Piece { partial: &self.0, sequence, table, piece, head, scratch: at.scratch });
                        break;
                    }
                    number -= pieces.len();
                }
            }
        }
        Ok(())
    }
}

/// One piece with one key head.
struct Piece<'a> {
    partial: &'a Partial,
    sequence: Sequence,
    table: *const i32,
    piece: usize,
    head: usize,
    scratch: *mut u8,
}

/// Runs `$body` with the constant `$M` of as many rows, at most 8 of those left.
macro_rules! by_rows {
    ($count:expr, $M:ident => $body:block) => {
        by_rows!(@ $count, $M, $body, 1 2 3 4 5 6 7)
    };
    (@ $count:expr, $M:ident, $body:block, $($n:literal)*) => {
        match $count {
            $($n => {
                const $M: usize = $n;
                $body
            })*
            _ => {
                const $M: usize = 8;
                $body
            }
        }
    };
}

impl Task for Piece<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        let Piece { partial, sequence, table, piece, head, scratch } = self;
        let Attention { spec, q, k, v, .. } = &partial.attention;
        let (group, d) = (partial.attention.group(), spec.head_dim);
        let dtype = k.ty.dtype;
        let bytes = dtype.row_bytes(d).expect("a head is whole blocks");
        let first = (piece * PIECE).max(partial.attention.begin(sequence.len - 1));
        let count = ((piece + 1) * PIECE).min(sequence.len) - first;
        // SAFETY: the memory has these sizes; the cache rows were checked.
        unsafe {
            let rows = scratch.cast::<usize>(); // [PIECE]
            let queries = rows.add(PIECE).cast::<f32>(); // [group][d]
            let scores = queries.add(group * d); // [group][PIECE]
            let left = partial.at(sequence.number, head, piece); // [group][STATE + d]

            for j in 0..count {
                let row = partial.attention.cache_row(table, first + j);
                *rows.add(j) = (row * spec.num_kv_heads + head) * bytes;
            }
            let from = q.f32().add(sequence.first * spec.num_heads * d + head * group * d);
            for i in (0..group * d).step_by(LANES) {
                I::store(queries.add(i), I::mul(I::load(from.add(i)), I::splat(spec.scale)));
            }
            for j in (0..count).step_by(LANES) {
                for h in 0..group {
                    let mut x = [I::splat(0.0); LANES];
                    let n = LANES.min(count - j);
                    for i in (0..d).step_by(LANES) {
                        let query = I::load(queries.add(h * d + i));
                        if n == LANES {
                            unroll!(lane < 16 => {
                                let key = load_cache::<I>(dtype, k.ptr.add(*rows.add(j + lane)), i);
                                x[lane] = I::fma(query, key, x[lane]);
                            });
                        } else {
                            for (lane, x) in x[..n].iter_mut().enumerate() {
                                let key = load_cache::<I>(dtype, k.ptr.add(*rows.add(j + lane)), i);
                                *x = I::fma(query, key, *x);
                            }
                        }
                    }
                    I::store(scores.add(h * PIECE + j), I::reduce_add_each(x));
                }
            }
            for h in 0..group {
                let row = scores.add(h * PIECE);
                for j in count..count.next_multiple_of(LANES) {
                    *row.add(j) = f32::NEG_INFINITY;
                }
                let mut most = I::splat(f32::NEG_INFINITY);
                for j in (0..count).step_by(LANES) {
                    most = I::max(I::load(row.add(j)), most);
                }
                let most = I::reduce_max(most);
                let mut sum = I::splat(0.0);
                for j in (0..count).step_by(LANES) {
                    let w = I::exp(I::sub(I::load(row.add(j)), I::splat(most)));
                    sum = I::add(sum, w);
                    I::store(row.add(j), w);
                }
                let state = left.add(h * (STATE + d));
                *state = most;
                *state.add(1) = I::reduce_add(sum);
            }
            let mut h = 0;
            while h < group {
                let many = (group - h).min(8);
                for i in (0..d).step_by(LANES) {
                    by_rows!(many, M => {
                        let mut acc = [I::splat(0.0); M];
                        for j in 0..count {
                            let value = load_cache::<I>(dtype, v.ptr.add(*rows.add(j)), i);
                            let w = scores.add(h * PIECE + j);
                            unroll!(m < M => { acc[m] = I::fma(value, I::splat(*w.add(m * PIECE)), acc[m]); });
                        }
                        for (m, acc) in acc.into_iter().enumerate() {
                            I::store(left.add((h + m) * (STATE + d) + STATE + i), acc);
                        }
                    });
                }
                h += many;
            }
        }
    }
}

/// The first item is the padding; the others are each a key head of a sequence whose pieces are put together.
pub(crate) struct AttentionJoin(pub Partial);

impl Phase for AttentionJoin {
    fn items(&self, symbols: &SymbolValues) -> usize {
        self.0.attention.seq_len.elements(symbols) * self.0.attention.spec.num_kv_heads + 1
    }

    unsafe fn run(&self, at: &Step<'_>, items: Range<usize>) -> Result<(), BackendError> {
        let heads = self.0.attention.spec.num_kv_heads;
        for item in items {
            // SAFETY: by contract; the inputs were checked by the phase before if it had pieces.
            unsafe {
                let Some(item) = item.checked_sub(1) else {
                    self.0.attention.check(at.symbols)?;
                    self.0.attention.clear_padding(at.symbols);
                    continue;
                };
                let sequence = self.0.attention.sequence(item / heads);
                on(at.isa, Join { partial: &self.0, sequence, head: item % heads });
            }
        }
        Ok(())
    }
}

struct Join<'a> {
    partial: &'a Partial,
    sequence: Sequence,
    head: usize,
}

impl Task for Join<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        let Join { partial, sequence, head } = self;
        let pieces = partial.pieces_of(&sequence);
        if pieces.is_empty() {
            return;
        }
        let Attention { spec, y, .. } = &partial.attention;
        let (group, d) = (partial.attention.group(), spec.head_dim);
        // SAFETY: the pieces were left by the phase before; the head's columns of y are this item's.
        unsafe {
            for h in 0..group {
                let state = |piece: usize| partial.at(sequence.number, head, piece).add(h * (STATE + d));
                let mut most = f32::NEG_INFINITY;
                for piece in pieces.clone() {
                    most = most.max(*state(piece));
                }
                let mut weight = 0.0f32;
                for piece in pieces.clone() {
                    // Overwrites the largest score with the piece's factor.
                    let factor = if *state(piece) == most { 1.0 } else { (*state(piece) - most).exp() };
                    *state(piece) = factor;
                    weight += *state(piece).add(1) * factor;
                }
                let to = y.f32().add((sequence.first * spec.num_heads + head * group + h) * d);
                for i in (0..d).step_by(LANES) {
                    let mut sum = I::splat(0.0);
                    for piece in pieces.clone() {
                        sum = I::fma(I::load(state(piece).add(STATE + i)), I::splat(*state(piece)), sum);
                    }
                    I::store(to.add(i), I::div(sum, I::splat(weight)));
                }
            }
        }
    }
}
