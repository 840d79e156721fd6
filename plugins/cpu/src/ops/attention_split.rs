//! Attention of sequences with one new token: the context in pieces of [`PIECE`] keys that threads divide among them, and
//! then, head by head, the pieces together (Dao et al. 2023, "flash decoding").

use std::ops::Range;
use std::sync::Arc;

use camelid_core::DType;
use camelid_core::backend::BackendError;
use camelid_core::graph::SymbolValues;

use super::attention::{Attention, Sequence, load_cache};
use super::rope_append::{Append, Rope, narrow};
use crate::isa::{Isa, LANES, prefetch, unroll};
use crate::kernel::{Task, on};
use crate::plan::{Phase, Step};

/// Keys of the shortest and of the longest piece.
const PIECE: (usize, usize) = (32, 256);
/// A sequence goes into no more pieces than this, unless they are the longest.
const FEW: usize = 16;

/// What a piece leaves for each head of its group: the largest score, the sum of weights, and from [`STATE`] on the weighted
/// sum of values.
const STATE: usize = LANES;

/// Keys of the pieces of a sequence of `len` tokens: short ones leave work for every thread, long ones leave little to put
/// together.
fn piece_of(len: usize) -> usize {
    len.div_ceil(FEW).next_power_of_two().clamp(PIECE.0, PIECE.1)
}

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
    /// The most pieces of a sequence of up to `len` tokens.
    pub(crate) fn pieces(len: usize) -> usize {
        len.div_ceil(PIECE.1).max(FEW.min(len.div_ceil(PIECE.0)))
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
        let piece = piece_of(sequence.len);
        self.attention.begin(sequence.len - 1) / piece..sequence.len.div_ceil(piece).min(self.pieces)
    }

    /// # Safety
    /// The inputs are there.
    unsafe fn sequences(&self, symbols: &SymbolValues) -> impl Iterator<Item = Sequence> {
        let all = self.attention.seq_len.elements(symbols);
        // SAFETY: by contract.
        (0..all).map(|s| unsafe { self.attention.sequence(s) })
    }
}

/// RoPE and the caches of a plan for one token, done by the pieces that read them: whoever has the last piece of a key head
/// puts the token's key and value there first, so that nobody has to wait for them.
pub(crate) struct OnTheWay {
    pub attention: Attention,
    pub q: Rope,
    /// With its place in the cache.
    pub k: Rope,
    pub v: Append,
}

impl OnTheWay {
    /// Whether the token goes to the row that attention reads last, and only there: another piece might be reading it.
    ///
    /// # Safety
    /// [`Attention::check`] found nothing wrong.
    pub(super) unsafe fn fits(&self, symbols: &SymbolValues) -> bool {
        let (a, index) = (&self.attention, self.v.index);
        if a.q.rows(symbols) != 1 || index.elements(symbols) != 1 {
            return false;
        }
        // SAFETY: by contract.
        unsafe {
            let mut sequences = (0..a.seq_len.elements(symbols)).map(|s| a.sequence(s));
            sequences.find(|s| s.count == 1).is_some_and(|s| {
                let (table, size) = (a.table_of(&s, symbols), a.spec.block_size);
                let block = |b: usize| table.add(b).read_unaligned();
                let last = (s.len - 1) / size;
                usize::try_from(index.index(0)) == Ok(a.cache_row(table, s.len - 1))
                    && (a.begin(s.len - 1) / size..last).all(|b| block(b) != block(last))
            })
        }
    }

    /// Puts key head `head` of the token into the caches; `key` is memory for it.
    ///
    /// # Safety
    /// As [`Isa`]; [`OnTheWay::fits`], and nobody else has this head.
    #[inline(always)]
    unsafe fn append<I: Isa>(&self, at: &Step<'_>, head: usize, key: *mut f32) {
        let d = self.k.head_dim;
        // SAFETY: by contract.
        unsafe {
            self.k.rotate::<I>(at.symbols, 0, head, key);
            let row = self.v.index.index(0) as usize;
            let value = self.v.rows.f32().add(head * d).cast_const();
            for (table, numbers) in [(self.attention.k, key.cast_const()), (self.attention.v, value)] {
                let elements = row * table.columns(at.symbols) + head * d;
                let to = table.ptr.add(table.ty.dtype.row_bytes(elements).expect("a head is whole blocks"));
                narrow(at.isa, std::slice::from_raw_parts(numbers, d), table.ty.dtype, to);
            }
        }
    }
}

/// An item is a piece of a sequence with one key head.
pub(crate) struct AttentionPieces {
    pub partial: Partial,
    pub on_the_way: Option<Arc<OnTheWay>>,
}

impl Phase for AttentionPieces {
    unsafe fn items(&self, symbols: &SymbolValues) -> Result<usize, BackendError> {
        // SAFETY: by contract; what the inputs say is checked before it is used.
        let sequences = unsafe {
            self.partial.attention.check(symbols)?;
            self.partial.sequences(symbols)
        };
        let pieces: usize = sequences.map(|s| self.partial.pieces_of(&s).len()).sum();
        Ok(pieces * self.partial.attention.spec.num_kv_heads)
    }

    fn grain(&self, items: usize, threads: usize) -> usize {
        // The heads of a piece lie side by side.
        (items / (threads * 8)).next_multiple_of(self.partial.attention.spec.num_kv_heads)
    }

    fn scratch(&self) -> usize {
        let a = &self.partial.attention;
        // Scores, queries and a key, and where the keys' rows begin.
        (a.group() * PIECE.1 + (a.group() + 1) * a.spec.head_dim) * size_of::<f32>() + PIECE.1 * size_of::<usize>()
    }

    unsafe fn run(&self, at: &Step<'_>, items: Range<usize>) -> Result<(), BackendError> {
        let a = &self.partial.attention;
        // SAFETY: by contract; the inputs were checked when the items were counted.
        unsafe {
            let on_the_way = self.on_the_way.as_deref().filter(|a| a.fits(at.symbols));
            let heads = a.spec.num_kv_heads;
            for item in items.clone() {
                let (mut number, head) = (item / heads, item % heads);
                let first = head == 0 || item == items.start;
                let ask = if first { (heads - head).min(items.end - item) } else { 0 };
                for sequence in self.partial.sequences(at.symbols) {
                    let pieces = self.partial.pieces_of(&sequence);
                    if number < pieces.len() {
                        let piece = pieces.start + number;
                        on(at.isa, Piece { partial: &self.partial, on_the_way, sequence, piece, head, ask, at });
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
    on_the_way: Option<&'a OnTheWay>,
    sequence: Sequence,
    piece: usize,
    head: usize,
    /// How many heads' keys and values are asked for ahead, from this head on: those of the piece that this thread reads now.
    ask: usize,
    at: &'a Step<'a>,
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
        // The type is looked at once, and not at every load.
        // SAFETY: by contract.
        unsafe {
            match self.partial.attention.k.ty.dtype {
                DType::F16 => self.typed::<I, CachedF16>(),
                DType::BF16 => self.typed::<I, CachedBf16>(),
                DType::Q8_0 => self.typed::<I, CachedQ8_0>(),
                _ => self.typed::<I, CachedF32>(),
            }
        }
    }
}

impl Piece<'_> {
    #[inline(always)]
    unsafe fn typed<I: Isa, C: Cached>(self) {
        let Piece { partial, on_the_way, sequence, piece, head, ask, at } = self;
        let Attention { spec, q, k, v, .. } = &partial.attention;
        let (group, d) = (partial.attention.group(), spec.head_dim);
        let dtype = C::DTYPE;
        let bytes = dtype.row_bytes(d).expect("a head is whole blocks");
        let keys = piece_of(sequence.len);
        let first = (piece * keys).max(partial.attention.begin(sequence.len - 1));
        let count = ((piece + 1) * keys).min(sequence.len) - first;
        // SAFETY: the memory has these sizes; the cache rows were checked.
        unsafe {
            let rows = at.scratch.cast::<usize>(); // [PIECE.1]
            let queries = rows.add(PIECE.1).cast::<f32>(); // [group][d]
            let key = queries.add(group * d); // [d]
            let scores = key.add(d); // [group][PIECE.1]
            let left = partial.at(sequence.number, head, piece); // [group][STATE + d]

            let table = partial.attention.table_of(&sequence, at.symbols);
            for j in 0..count {
                let row = partial.attention.cache_row(table, first + j);
                *rows.add(j) = (row * spec.num_kv_heads + head) * bytes;
            }
            let mut from = q.f32().add(sequence.first * spec.num_heads * d + head * group * d);
            if let Some(fused) = on_the_way {
                for h in 0..group {
                    fused.q.rotate::<I>(at.symbols, 0, head * group + h, queries.add(h * d));
                }
                from = queries;
                if first + count == sequence.len {
                    fused.append::<I>(at, head, key);
                }
            }
            for i in (0..group * d).step_by(LANES) {
                I::store(queries.add(i), I::mul(I::load(from.add(i)), I::splat(spec.scale)));
            }
            // Rows lie too far apart for the processor to guess the next.
            let ask = |cache: *const u8, j: usize| {
                for j in j..(j + LANES).min(count) {
                    for line in (0..ask * bytes).step_by(64) {
                        prefetch(cache.wrapping_add(*rows.add(j) + line));
                    }
                }
            };
            ask(k.ptr, 0);
            for j in (0..count).step_by(LANES) {
                ask(k.ptr, j + LANES);
                ask(v.ptr, j);
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
                    I::store(scores.add(h * PIECE.1 + j), I::reduce_add_each(x));
                }
            }
            for h in 0..group {
                let row = scores.add(h * PIECE.1);
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
                by_rows!(many, M => {
                    // As many vectors at a time as there are registers for sums that do not wait for each other.
                    let (values, weights) = ((v.ptr.cast_const(), rows.cast_const()), scores.add(h * PIECE.1));
                    let to = left.add(h * (STATE + d) + STATE);
                    let mut i = 0;
                    while M <= 4 && i + 4 * LANES <= d {
                        weigh::<I, C, M, 4>(values, (weights, count), i, to, STATE + d);
                        i += 4 * LANES;
                    }
                    while i < d {
                        weigh::<I, C, M, 1>(values, (weights, count), i, to, STATE + d);
                        i += LANES;
                    }
                });
                h += many;
            }
        }
    }
}

/// The type of a cache, known when the program is compiled.
trait Cached {
    const DTYPE: DType;
}

struct CachedF32;
struct CachedF16;
struct CachedBf16;
struct CachedQ8_0;

impl Cached for CachedF32 {
    const DTYPE: DType = DType::F32;
}
impl Cached for CachedF16 {
    const DTYPE: DType = DType::F16;
}
impl Cached for CachedBf16 {
    const DTYPE: DType = DType::BF16;
}
impl Cached for CachedQ8_0 {
    const DTYPE: DType = DType::Q8_0;
}

/// Weighted sums of `V` vectors of `count` values, from column `i` on, for `M` heads, whose weights lie [`PIECE`] apart, and
/// whose sums go `stride` apart.
#[inline(always)]
unsafe fn weigh<I: Isa, C: Cached, const M: usize, const V: usize>(
    (values, rows): (*const u8, *const usize),
    (weights, count): (*const f32, usize),
    i: usize,
    to: *mut f32,
    stride: usize,
) {
    // SAFETY: by the caller's sizes.
    unsafe {
        let mut sums = [[I::splat(0.0); V]; M];
        for j in 0..count {
            let row = values.add(*rows.add(j));
            let mut value = [I::splat(0.0); V];
            unroll!(n < V => { value[n] = load_cache::<I>(C::DTYPE, row, i + n * LANES); });
            unroll!(m < M => {
                let w = I::splat(*weights.add(m * PIECE.1 + j));
                unroll!(n < V => { sums[m][n] = I::fma(value[n], w, sums[m][n]); });
            });
        }
        for (m, sums) in sums.into_iter().enumerate() {
            for (n, sum) in sums.into_iter().enumerate() {
                I::store(to.add(m * stride + i + n * LANES), sum);
            }
        }
    }
}

/// The first item is the padding; the others are each a key head of a sequence whose pieces are put together.
pub(crate) struct AttentionJoin(pub Partial);

impl Phase for AttentionJoin {
    unsafe fn items(&self, symbols: &SymbolValues) -> Result<usize, BackendError> {
        Ok(self.0.attention.seq_len.elements(symbols) * self.0.attention.spec.num_kv_heads + 1)
    }

    fn each(&self, symbols: &SymbolValues) -> bool {
        let pieces = |s: Sequence| self.0.pieces_of(&s).len();
        // SAFETY: the phase before has found that the inputs are right.
        let all = unsafe { self.0.sequences(symbols) };
        self.0.attention.y.stride > 0 && all.map(pieces).sum::<usize>() <= FEW
    }

    fn scratch(&self) -> usize {
        self.0.pieces.next_multiple_of(LANES) * size_of::<f32>()
    }

    unsafe fn run(&self, at: &Step<'_>, items: Range<usize>) -> Result<(), BackendError> {
        let a = &self.0.attention;
        let heads = a.spec.num_kv_heads;
        for item in items {
            // SAFETY: by contract; the inputs were checked by the phase before.
            unsafe {
                let Some(item) = item.checked_sub(1) else {
                    at.written(a.y).for_each(|y| Attention { y, ..*a }.clear_padding(at.symbols));
                    continue;
                };
                let sequence = a.sequence(item / heads);
                on(at.isa, Join { partial: &self.0, sequence, head: item % heads, at });
            }
        }
        Ok(())
    }
}

struct Join<'a> {
    partial: &'a Partial,
    sequence: Sequence,
    head: usize,
    at: &'a Step<'a>,
}

impl Task for Join<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        let Join { partial, sequence, head, at } = self;
        let pieces = partial.pieces_of(&sequence);
        if pieces.is_empty() {
            return;
        }
        let Attention { spec, y, .. } = &partial.attention;
        let (group, d) = (partial.attention.group(), spec.head_dim);
        let factors = at.scratch.cast::<f32>(); // [pieces]
        let whole = pieces.len().next_multiple_of(LANES);
        // SAFETY: the pieces were left by the phase before; the head's columns of y are this item's.
        unsafe {
            for h in 0..group {
                let state = |piece: usize| partial.at(sequence.number, head, pieces.start + piece).add(h * (STATE + d));
                for i in 0..whole {
                    *factors.add(i) = if i < pieces.len() { *state(i) } else { f32::NEG_INFINITY };
                }
                let mut most = I::splat(f32::NEG_INFINITY);
                for i in (0..whole).step_by(LANES) {
                    most = I::max(I::load(factors.add(i)), most);
                }
                let most = I::splat(I::reduce_max(most));
                for i in (0..whole).step_by(LANES) {
                    I::store(factors.add(i), I::exp(I::sub(I::load(factors.add(i)), most)));
                }
                let weight = (0..pieces.len()).fold(0.0, |sum, i| sum + *state(i).add(1) * *factors.add(i));
                let to = (sequence.first * spec.num_heads + head * group + h) * d;
                for i in (0..d).step_by(LANES) {
                    let mut sum = I::splat(0.0);
                    for piece in 0..pieces.len() {
                        sum = I::fma(I::load(state(piece).add(STATE + i)), I::splat(*factors.add(piece)), sum);
                    }
                    let result = I::div(sum, I::splat(weight));
                    for y in at.written(*y) {
                        I::store(y.f32().add(to + i), result);
                    }
                }
            }
        }
    }
}
