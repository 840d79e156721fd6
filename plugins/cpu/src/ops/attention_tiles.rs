//! Attention of sequences with several new tokens: tiles of rows (tokens times heads of a group) against blocks of keys.

use std::ops::Range;

use camelid_core::DType;
use camelid_core::backend::BackendError;
use camelid_core::graph::SymbolValues;

use super::attention::{Attention, Sequence, load_cache};
use crate::activations::tiles;
use crate::isa::{Isa, LANES, unroll};
use crate::kernel::{Task, on};
use crate::plan::{Phase, Step};

/// Keys of a block.
const KEYS: usize = 64;

/// Runs `$body` with the constant `$M` of this value: 1, 2, 4, 8 or 16.
macro_rules! by_count {
    ($count:expr, $M:ident => $body:block) => {
        match $count {
            1 => {
                const $M: usize = 1;
                $body
            }
            2 => {
                const $M: usize = 2;
                $body
            }
            4 => {
                const $M: usize = 4;
                $body
            }
            8 => {
                const $M: usize = 8;
                $body
            }
            _ => {
                const $M: usize = 16;
                $body
            }
        }
    };
}

/// An item is a tile of tokens of a sequence with one key head; sequences that are split have none, but for the checks.
pub(crate) struct AttentionTiles {
    pub attention: Attention,
    /// Whether a phase before this one has computed the sequences with one new token.
    pub split: bool,
}

/// A tile's memory.
struct Sizes {
    /// Head dimension in whole vectors.
    d: usize,
    rows: usize,
}

impl Sizes {
    /// f32s: queries, turned keys, values, scores, sums, and the state of each row.
    fn floats(&self) -> usize {
        let Sizes { d, rows } = *self;
        rows * d + 2 * KEYS * d + rows * KEYS + rows * d + 4 * rows
    }
}

impl AttentionTiles {
    fn sizes(&self) -> Sizes {
        let a = &self.attention;
        let rows = (a.tile_tokens() * a.group()).next_multiple_of(LANES);
        Sizes { d: a.spec.head_dim.next_multiple_of(LANES), rows }
    }

    /// Tiles of a sequence.
    fn tiles_of(&self, sequence: &Sequence) -> usize {
        if self.split && self.attention.splits(sequence.count) {
            return 0;
        }
        sequence.count.div_ceil(self.attention.tile_tokens())
    }
}

impl Phase for AttentionTiles {
    unsafe fn items(&self, symbols: &SymbolValues) -> Result<usize, BackendError> {
        let a = &self.attention;
        let sequences = a.seq_len.elements(symbols);
        // SAFETY: by contract; what the inputs say is checked before it is used.
        let tiles: usize = unsafe {
            a.check(symbols)?;
            (0..sequences).map(|s| self.tiles_of(&a.sequence(s))).sum()
        };
        // One more for the padding, which the other way has seen to if there is one.
        Ok(tiles * a.spec.num_kv_heads + usize::from(!self.split))
    }

    fn grain(&self, _: usize, _: usize) -> usize {
        1
    }

    fn scratch(&self) -> usize {
        self.sizes().floats() * size_of::<f32>()
    }

    unsafe fn run(&self, at: &Step<'_>, items: Range<usize>) -> Result<(), BackendError> {
        let a = &self.attention;
        // SAFETY: by contract; the inputs were checked when the items were counted.
        unsafe {
            let sequences = a.seq_len.elements(at.symbols);
            for item in items {
                let Some(item) = (if self.split { Some(item) } else { item.checked_sub(1) }) else {
                    a.clear_padding(at.symbols);
                    continue;
                };
                let (mut tile, head) = (item / a.spec.num_kv_heads, item % a.spec.num_kv_heads);
                for s in 0..sequences {
                    let sequence = a.sequence(s);
                    let tiles = self.tiles_of(&sequence);
                    if tile < tiles {
                        // The last tiles see most and take longest: they come first.
                        let tile = tiles - 1 - tile;
                        let table = a.table_of(&sequence, at.symbols);
                        let sizes = self.sizes();
                        on(at.isa, Tile { a, sequence, table, tile, head, sizes, scratch: at.scratch.cast() });
                        break;
                    }
                    tile -= tiles;
                }
            }
        }
        Ok(())
    }
}

/// The same where a row ends before a whole vector, which one of q8_0 does not: zeros after its `n` elements.
#[inline(always)]
unsafe fn load_cache_some<I: Isa>(dtype: DType, row: *const u8, i: usize, n: usize) -> I::F {
    // SAFETY: `n` elements from `i` on are there.
    unsafe {
        if n >= LANES {
            return load_cache::<I>(dtype, row, i);
        }
        match dtype {
            DType::F32 => I::load_some(row.cast::<f32>().add(i), n),
            _ => {
                let mut halves = [0u16; LANES];
                std::ptr::copy_nonoverlapping(row.cast::<u16>().add(i).cast::<u8>(), halves.as_mut_ptr().cast(), 2 * n);
                load_cache::<I>(dtype, halves.as_ptr().cast(), 0)
            }
        }
    }
}

/// `acc[m] += sum over k of a[k * a_step + m * a_row] * b[k * b_step + ..16]`: `M` rows of sixteen results.
#[inline(always)]
unsafe fn product<I: Isa, const M: usize>(
    (a, a_step, a_row): (*const f32, usize, usize),
    (b, b_step): (*const f32, usize),
    k: usize,
    acc: &mut [I::F; M],
) {
    // SAFETY: by the callers' sizes.
    unsafe {
        for k in 0..k {
            let b = I::load(b.add(k * b_step));
            let a = a.add(k * a_step);
            unroll!(m < M => { acc[m] = I::fma(b, I::splat(*a.add(m * a_row)), acc[m]); });
        }
    }
}

/// A tile of tokens of one sequence, with one key head.
struct Tile<'a> {
    a: &'a Attention,
    sequence: Sequence,
    table: *const i32,
    tile: usize,
    head: usize,
    sizes: Sizes,
    scratch: *mut f32,
}

impl Task for Tile<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        let Tile { a, sequence, table, tile, head, sizes: Sizes { d, rows: most_rows }, scratch } = self;
        let Attention { spec, q, k, v, y, .. } = a;
        let (group, head_dim) = (a.group(), spec.head_dim);
        let tokens = tile * a.tile_tokens()..((tile + 1) * a.tile_tokens()).min(sequence.count);
        let rows = tokens.len() * group;
        let q_width = spec.num_heads * head_dim;
        // The index in its sequence of the tile's first token.
        let base = sequence.len - sequence.count + tokens.start;
        let dtype = k.ty.dtype;
        let kv_bytes = dtype.row_bytes(head_dim).expect("a head is whole blocks");
        let groups = || tiles(rows, I::TILE.min(LANES));
        // SAFETY: the memory has these sizes; the cache rows were checked.
        unsafe {
            let queries = scratch; // [d][rows of a group of rows], group after group
            let keys = queries.add(most_rows * d); // [KEYS / 16][d][16]
            let values = keys.add(KEYS * d); // [KEYS][d]
            let scores = values.add(KEYS * d); // [rows][KEYS]
            let sums = scores.add(most_rows * KEYS); // [rows][d]
            let largest = sums.add(most_rows * d); // [rows]
            let weights = largest.add(most_rows); // [rows]
            let largest_now = weights.add(most_rows); // [rows]
            let weights_now = largest_now.add(most_rows); // [rows]
            let mut factors = [0.0f32; LANES];

            // Rows are (token, head of the group); queries lie as activations do, a group of rows side by side.
            for (first, count) in groups() {
                for i in (0..d).step_by(LANES) {
                    let n = LANES.min(head_dim - i);
                    let mut x = [I::splat(0.0); LANES];
                    for (r, x) in (first..first + count).zip(&mut x) {
                        let (t, h) = (r / group, head * group + r % group);
                        let from = q.f32().add((sequence.first + tokens.start + t) * q_width + h * head_dim);
                        *x = I::mul(I::load_some(from.add(i), n), I::splat(spec.scale));
                    }
                    for (e, turned) in I::transpose(x).into_iter().enumerate() {
                        I::store_some(queries.add(first * d + (i + e) * count), count, turned);
                    }
                }
            }
            std::ptr::write_bytes(sums, 0, rows * d);
            // Vectors of rows are whole.
            std::ptr::write_bytes(weights, 0, most_rows);
            for r in 0..most_rows {
                // Not infinite: the difference of two of them would not be a number.
                *largest.add(r) = f32::MIN;
                *largest_now.add(r) = f32::MIN;
                *weights_now.add(r) = 0.0;
            }

            let end = base + tokens.len(); // keys that the last token sees
            let mut block = a.begin(base) / KEYS * KEYS;
            while block < end {
                let from = block.max(a.begin(base));
                let to = (block + KEYS).min(end);
                // Keys and values as f32, keys with sixteen of them in the lanes; zeros where there are none.
                let mut nothing = I::splat(0.0);
                for part in 0..KEYS / LANES {
                    for i in (0..d).step_by(LANES) {
                        let n = LANES.min(head_dim - i);
                        let mut x = [I::splat(0.0); LANES];
                        for (lane, x) in x.iter_mut().enumerate() {
                            let j = block + part * LANES + lane;
                            if j >= from && j < to {
                                let at = (a.cache_row(table, j) * spec.num_kv_heads + head) * kv_bytes;
                                *x = load_cache_some::<I>(dtype, k.ptr.add(at), i, n);
                                let value = load_cache_some::<I>(dtype, v.ptr.add(at), i, n);
                                nothing = I::fma(value, I::splat(0.0), nothing);
                                I::store(values.add((part * LANES + lane) * d + i), value);
                            } else {
                                I::store(values.add((part * LANES + lane) * d + i), I::splat(0.0));
                            }
                        }
                        let turned = I::transpose(x);
                        for (e, turned) in turned.into_iter().enumerate() {
                            I::store(keys.add((part * d + i + e) * LANES), turned);
                        }
                    }
                }
                // Zero times infinity or NaN is NaN.
                let finite = I::reduce_add(nothing) == 0.0;
                // Sixteens of keys that a group of rows sees: what its last row does.
                let used = |last: usize| (to.min(base + last / group + 1).max(block) - block).div_ceil(LANES);
                for (first, count) in groups() {
                    for part in 0..used(first + count - 1) {
                        let q = (queries.add(first * d).cast_const(), count, 1);
                        let k = (keys.add(part * d * LANES).cast_const(), LANES);
                        let to = scores.add(first * KEYS + part * LANES);
                        by_count!(count, M => {
                            let mut acc = [I::splat(0.0); M];
                            product::<I, M>(q, k, d, &mut acc);
                            for (m, acc) in acc.into_iter().enumerate() {
                                I::store(to.add(m * KEYS), acc);
                            }
                        });
                    }
                }
                // The weights of each row, with what the row does not see at zero.
                for (first, count) in groups() {
                    let used = used(first + count - 1);
                    for r in first..first + count {
                        let index = base + r / group;
                        let seen = from.max(a.begin(index))..to.min(index + 1);
                        let row = scores.add(r * KEYS);
                        if seen.is_empty() {
                            std::ptr::write_bytes(row, 0, KEYS);
                            *largest_now.add(r) = *largest.add(r);
                            *weights_now.add(r) = 0.0;
                            continue;
                        }
                        for j in (block..seen.start).chain(seen.end..block + used * LANES) {
                            *row.add(j - block) = f32::NEG_INFINITY;
                        }
                        let mut most = I::splat(*largest.add(r));
                        for part in 0..used {
                            most = I::max(I::load(row.add(part * LANES)), most);
                        }
                        let most = I::reduce_max(most);
                        // What is not seen weighs exp(-infinity), exactly nothing.
                        let shift = I::splat(most);
                        let mut sum = I::splat(0.0);
                        for part in 0..used {
                            let w = I::exp(I::sub(I::load(row.add(part * LANES)), shift));
                            sum = I::add(sum, w);
                            I::store(row.add(part * LANES), w);
                        }
                        *largest_now.add(r) = most;
                        *weights_now.add(r) = I::reduce_add(sum);
                    }
                }
                // What was found before weighs less where a larger score has come.
                for r in (0..rows).step_by(LANES) {
                    let (old, now) = (I::load(largest.add(r)), I::load(largest_now.add(r)));
                    let factor = I::exp(I::sub(old, now));
                    I::store(factors.as_mut_ptr(), factor);
                    I::store(weights.add(r), I::fma(I::load(weights.add(r)), factor, I::load(weights_now.add(r))));
                    I::store(largest.add(r), now);
                    for (r, factor) in (r..rows).zip(factors) {
                        if factor != 1.0 {
                            for i in (0..d).step_by(LANES) {
                                let at = sums.add(r * d + i);
                                I::store(at, I::mul(I::load(at), I::splat(factor)));
                            }
                        }
                    }
                }
                if finite {
                    for (first, count) in groups() {
                        let keys = used(first + count - 1) * LANES;
                        for i in (0..d).step_by(LANES) {
                            let w = (scores.add(first * KEYS).cast_const(), 1, KEYS);
                            let x = (values.add(i).cast_const(), d);
                            let to = sums.add(first * d + i);
                            by_count!(count, M => {
                                let mut acc = [I::splat(0.0); M];
                                for (m, acc) in acc.iter_mut().enumerate() {
                                    *acc = I::load(to.add(m * d));
                                }
                                product::<I, M>(w, x, keys, &mut acc);
                                for (m, acc) in acc.into_iter().enumerate() {
                                    I::store(to.add(m * d), acc);
                                }
                            });
                        }
                    }
                } else {
                    // A value that a row does not see must not reach it even as zero times infinity.
                    for r in 0..rows {
                        let index = base + r / group;
                        for j in from.max(a.begin(index))..to.min(index + 1) {
                            let w = I::splat(*scores.add(r * KEYS + j - block));
                            for i in (0..d).step_by(LANES) {
                                let at = sums.add(r * d + i);
                                I::store(at, I::fma(w, I::load(values.add((j - block) * d + i)), I::load(at)));
                            }
                        }
                    }
                }
                block += KEYS;
            }
            for r in 0..rows {
                let (t, h) = (r / group, head * group + r % group);
                let to = y.f32().add((sequence.first + tokens.start + t) * q_width + h * head_dim);
                let weight = I::splat(*weights.add(r));
                for i in (0..head_dim).step_by(LANES) {
                    let x = I::div(I::load(sums.add(r * d + i)), weight);
                    I::store_some(to.add(i), LANES.min(head_dim - i), x);
                }
            }
        }
    }
}
