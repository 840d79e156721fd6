//! Activations as the kernels read them.
//!
//! The rows of `x [T, K]` are cut into tiles of 16, 8, 4, 2 and 1 tokens ([`tiles`]); in a tile the tokens lie side by side,
//! step by step along `K`, as the weights' rows do in a panel. How a token's numbers look depends on the weights: f32, pairs
//! of bf16, or blocks of 32 in 8 bits. A token's numbers do not depend on the other tokens.

use std::ops::Range;

use half::bf16;

use crate::isa::{Isa, LANES};

/// The form of activations that a format's kernel reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Input {
    /// f32, one after the other; `K` in whole fours.
    F32,
    /// Pairs of bf16; `K` in whole fours.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "nothing else multiplies bf16"))]
    Bf16,
    /// Blocks of 32 in 8 bits: [`Q8Block`].
    Q8,
}

/// 32 activations in 8 bits: `x[i] = scale * codes[i]`, with `scale = max |x| / 127`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Q8Block {
    pub codes: [i8; 32],
    pub scale: f32,
    /// `scale` times the sum of the codes: what a minimum is multiplied with.
    pub sum: f32,
    /// -8 times the sum of the codes: what codes that are stored with an offset of 8 begin with.
    pub minus_8: i32,
    /// -8 times the sum of the first sixteen.
    pub minus_8_first: i32,
}

/// Offsets of the fields of a [`Q8Block`].
pub(crate) const SCALE: usize = 32;
pub(crate) const SUM: usize = 36;
pub(crate) const MINUS_8: usize = 40;
pub(crate) const MINUS_8_FIRST: usize = 44;

/// Bytes of a [`Q8Block`].
pub(crate) const Q8_BYTES: usize = size_of::<Q8Block>();

impl Input {
    /// Elements that lie together.
    pub(crate) fn step(self) -> usize {
        match self {
            Input::F32 => 1,
            Input::Bf16 => 2,
            Input::Q8 => 32,
        }
    }

    /// Bytes of those.
    pub(crate) fn step_bytes(self) -> usize {
        match self {
            Input::F32 | Input::Bf16 => 4,
            Input::Q8 => Q8_BYTES,
        }
    }

    /// Bytes of a token with rows of `k` elements, or `None` if that overflows.
    pub(crate) fn row_bytes(self, k: usize) -> Option<usize> {
        let whole = match self {
            Input::F32 | Input::Bf16 => k.checked_next_multiple_of(4)?,
            Input::Q8 => k.checked_next_multiple_of(32)?,
        };
        (whole / self.step()).checked_mul(self.step_bytes())
    }
}

/// The tiles of `tokens` tokens: first token and number of tokens, which is a power of two up to `most`.
pub(crate) fn tiles(tokens: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    tiles_from(0, tokens, most)
}

/// The tiles of the tokens `from..to`, where `from` is a multiple of `most`, and `to` too unless no tokens follow.
pub(crate) fn tiles_from(from: usize, to: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut at = from;
    std::iter::from_fn(move || {
        let left = to - at;
        if left == 0 {
            return None;
        }
        let count = if left >= most { most } else { 1 << left.ilog2() };
        at += count;
        Some((at - count, count))
    })
}

/// The tile that token `t` of `tokens` lies in.
pub(crate) fn tile_of(t: usize, tokens: usize, most: usize) -> (usize, usize) {
    let whole = tokens / most * most;
    if t < whole {
        return (t / most * most, most);
    }
    let (mut at, mut left) = (whole, tokens - whole);
    loop {
        let count = 1 << left.ilog2();
        if t < at + count {
            return (at, count);
        }
        at += count;
        left -= count;
    }
}

/// Writes `rows` of the `tokens` rows `x [tokens, K]` into `to`, where all of them go.
///
/// # Safety
/// As [`Isa`]; `x` points to `tokens` rows of `k` f32, `to` to [`Input::row_bytes`] times `tokens` bytes. Other threads may write
/// other rows.
#[inline(always)]
pub(crate) unsafe fn prepare<I: Isa>(
    input: Input,
    x: *const f32,
    k: usize,
    rows: Range<usize>,
    tokens: usize,
    to: *mut u8,
) {
    let row_bytes = input.row_bytes(k).expect("memory of this size was made");
    for rows in parts(rows) {
        let (first, count) = tile_of(rows.start, tokens, I::TILE);
        // SAFETY: the rows lie inside `x`, and their tiles inside `to`.
        unsafe {
            if input != Input::Q8 && rows.len() == LANES && count == LANES {
                prepare_tile::<I>(input, x.add(first * k), k, to.add(first * row_bytes));
                continue;
            }
            for t in rows {
                let (first, count) = tile_of(t, tokens, I::TILE);
                let start = to.add(first * row_bytes + (t - first) * input.step_bytes());
                prepare_row::<I>(input, x.add(t * k), k, start, count * input.step_bytes());
            }
        }
    }
}

/// `rows` cut where tiles of sixteen begin.
pub(crate) fn parts(rows: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let Range { start, end } = rows;
    (start / LANES..end.div_ceil(LANES)).map(move |i| start.max(i * LANES)..end.min((i + 1) * LANES))
}

/// How many rows a thread takes at once, so that tiles of sixteen are seldom cut.
pub(crate) fn rows_at_once(rows: usize, threads: usize) -> usize {
    if rows < LANES * threads { 1 } else { (rows / (threads * 8)).max(1).next_multiple_of(LANES) }
}

/// A row, `x [K]`, whose steps begin `stride` bytes after one another from `start` on.
///
/// # Safety
/// As [`prepare`].
#[inline(always)]
unsafe fn prepare_row<I: Isa>(input: Input, x: *const f32, k: usize, start: *mut u8, stride: usize) {
    // SAFETY: by contract.
    unsafe {
        match input {
            Input::F32 => {
                for i in 0..k.next_multiple_of(4) {
                    let value = if i < k { x.add(i).read_unaligned() } else { 0.0 };
                    start.add(i * stride).cast::<f32>().write_unaligned(value);
                }
            }
            Input::Bf16 => {
                let half =
                    |i: usize| if i < k { u32::from(bf16::from_f32(x.add(i).read_unaligned()).to_bits()) } else { 0 };
                for i in 0..k.next_multiple_of(4) / 2 {
                    start.add(i * stride).cast::<u32>().write_unaligned(half(2 * i) | half(2 * i + 1) << 16);
                }
            }
            Input::Q8 => {
                for b in 0..k.div_ceil(32) {
                    let left = k - 32 * b;
                    let (v0, v1) = (
                        I::load_some(x.add(32 * b), left.min(LANES)),
                        I::load_some(x.add(32 * b + LANES.min(left)), left.saturating_sub(LANES).min(LANES)),
                    );
                    quantize::<I>(v0, v1, start.add(b * stride));
                }
            }
        }
    }
}

/// Sixteen rows, `x [16, K]`, in f32 or bf16: one tile.
///
/// # Safety
/// As [`prepare`].
#[inline(always)]
unsafe fn prepare_tile<I: Isa>(input: Input, x: *const f32, k: usize, mut to: *mut u8) {
    // SAFETY: by contract.
    unsafe {
        for i in (0..k).step_by(LANES) {
            let n = LANES.min(k - i);
            let mut rows = [I::splat(0.0); LANES];
            for (t, row) in rows.iter_mut().enumerate() {
                *row = I::load_some(x.add(t * k + i), n);
            }
            to = turn::<I>(input, rows, n, to);
        }
    }
}

/// Sixteen rows of `n` numbers in f32 or bf16 at `to`, and where the next numbers go.
///
/// # Safety
/// As [`prepare`].
#[inline(always)]
unsafe fn turn<I: Isa>(input: Input, rows: [I::F; LANES], n: usize, mut to: *mut u8) -> *mut u8 {
    // SAFETY: by contract; a vector is a step of all sixteen.
    unsafe {
        let turned = I::transpose(rows);
        let steps = n.next_multiple_of(4);
        if input == Input::F32 {
            for step in &turned[..steps] {
                I::store(to.cast(), *step);
                to = to.add(4 * LANES);
            }
        } else {
            for pair in turned[..steps].chunks_exact(2) {
                I::store(to.cast(), I::bf16_pairs(pair[0], pair[1]));
                to = to.add(4 * LANES);
            }
        }
        to
    }
}

/// The next `n` columns of a tile's rows, at most 32 and zeros from there on, to where these columns lie in the tile.
///
/// # Safety
/// As [`prepare`].
#[inline(always)]
pub(crate) unsafe fn prepare_columns<I: Isa>(input: Input, rows: &[[I::F; 2]], n: usize, to: *mut u8) {
    // SAFETY: by contract.
    unsafe {
        if input != Input::Q8 && rows.len() == LANES {
            let mut halves = [[I::splat(0.0); LANES]; 2];
            for (t, row) in rows.iter().enumerate() {
                (halves[0][t], halves[1][t]) = (row[0], row[1]);
            }
            let next = turn::<I>(input, halves[0], n.min(LANES), to);
            if n > LANES {
                turn::<I>(input, halves[1], n - LANES, next);
            }
            return;
        }
        for (t, row) in rows.iter().enumerate() {
            let start = to.add(t * input.step_bytes());
            if input == Input::Q8 {
                quantize::<I>(row[0], row[1], start);
            } else {
                let mut numbers = [0.0f32; 2 * LANES];
                I::store(numbers.as_mut_ptr(), row[0]);
                I::store(numbers.as_mut_ptr().add(LANES), row[1]);
                prepare_row::<I>(input, numbers.as_ptr(), n, start, rows.len() * input.step_bytes());
            }
        }
    }
}

/// Quantizes 32 numbers into a [`Q8Block`] at `to`. What 8 bits cannot say (infinities, NaN, numbers of which none is above
/// 1e-36) becomes a block of NaN, so that nothing it reaches is taken for a result: `Matrix::tile` computes that again.
///
/// # Safety
/// As [`Isa`]; there is room for a block at `to`.
#[inline(always)]
pub(crate) unsafe fn quantize<I: Isa>(v0: I::F, v1: I::F, to: *mut u8) {
    // SAFETY: by contract; arrays have sixteen elements.
    unsafe {
        let zero = I::splat(0.0);
        let largest = I::reduce_max(I::max(I::max(v0, I::sub(zero, v0)), I::max(v1, I::sub(zero, v1))));
        let mut block = Q8Block { codes: [0; 32], scale: 0.0, sum: 0.0, minus_8: 0, minus_8_first: 0 };
        // A NaN may be lost in a maximum, but not in a sum.
        let sum = I::reduce_add(I::add(v0, v1));
        let fits = largest < 1e38 && sum.is_finite() && (largest == 0.0 || largest > 1e-36);
        if !fits {
            (block.scale, block.sum) = (f32::NAN, f32::NAN);
        } else if largest > 0.0 {
            let (scale, inverse) = (largest / 127.0, I::splat(127.0 / largest));
            let mut whole = [0.0f32; 32];
            I::store(whole.as_mut_ptr(), I::round(I::mul(v0, inverse)));
            I::store(whole.as_mut_ptr().add(LANES), I::round(I::mul(v1, inverse)));
            let (mut first, mut all) = (0i32, 0i32);
            for (i, (code, value)) in block.codes.iter_mut().zip(whole).enumerate() {
                let value = value.to_int_unchecked::<i32>();
                *code = value as i8;
                all += value;
                first += if i < LANES { value } else { 0 };
            }
            block.scale = scale;
            block.sum = scale * all as f32;
            block.minus_8 = -8 * all;
            block.minus_8_first = -8 * first;
        }
        to.cast::<Q8Block>().write_unaligned(block);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::{IsaName, Portable};
    use crate::kernel::{Task, on};

    /// `x [tokens, k]` prepared by rows, or by 32 columns of a tile at a time.
    struct Both<'a> {
        input: Input,
        x: &'a [f32],
        k: usize,
        tokens: usize,
    }

    impl Task for Both<'_> {
        type Output = [Vec<u8>; 2];

        #[inline(always)]
        unsafe fn run<I: Isa>(self) -> [Vec<u8>; 2] {
            let Both { input, x, k, tokens } = self;
            let row_bytes = input.row_bytes(k).unwrap();
            let [mut by_rows, mut by_columns] = [(); 2].map(|()| vec![0xffu8; row_bytes * tokens]);
            // SAFETY: rows of `k`, and room for `tokens` of them; `n` numbers of a row are left.
            unsafe {
                prepare::<I>(input, x.as_ptr(), k, 0..tokens, tokens, by_rows.as_mut_ptr());
                for (first, count) in tiles(tokens, I::TILE) {
                    for column in (0..k).step_by(32) {
                        let n = 32.min(k - column);
                        let mut rows = [[I::splat(0.0); 2]; LANES];
                        for (t, row) in rows[..count].iter_mut().enumerate() {
                            let from = x[(first + t) * k + column..].as_ptr();
                            row[0] = I::load_some(from, n.min(LANES));
                            if n > LANES {
                                row[1] = I::load_some(from.add(LANES), n - LANES);
                            }
                        }
                        let at = first * row_bytes + column / input.step() * count * input.step_bytes();
                        prepare_columns::<I>(input, &rows[..count], n, by_columns[at..].as_mut_ptr());
                    }
                }
            }
            [by_rows, by_columns]
        }
    }

    #[test]
    fn columns_and_rows_are_prepared_alike_on_every_set_of_instructions() {
        for isa in IsaName::ALL.into_iter().filter(|isa| isa.is_here()) {
            for (input, k) in
                [Input::F32, Input::Bf16, Input::Q8].into_iter().flat_map(|i| [1, 7, 32, 50, 81].map(|k| (i, k)))
            {
                for tokens in [1, 3, 16, 39] {
                    let x: Vec<f32> = (0..tokens * k).map(|i| (i as f32 * 0.37).sin() * 5.0).collect();
                    // SAFETY: the instructions are here.
                    let [rows, columns] = unsafe { on(isa, Both { input, x: &x, k, tokens }) };
                    assert!(rows == columns, "{isa} {input:?} k {k} tokens {tokens}");
                }
            }
        }
    }

    #[test]
    fn every_token_has_one_tile() {
        for most in [1, 4, 16] {
            for tokens in 0..70 {
                let mut next = 0;
                for (at, count) in tiles(tokens, most) {
                    assert_eq!(at, next);
                    assert!(count <= most && count.is_power_of_two());
                    for t in at..at + count {
                        assert_eq!(tile_of(t, tokens, most), (at, count));
                    }
                    next += count;
                }
                assert_eq!(next, tokens);
            }
        }
    }

    #[test]
    fn rows_are_cut_where_tiles_begin() {
        let cut = |rows| parts(rows).map(|part| (part.start, part.end)).collect::<Vec<_>>();
        assert_eq!(cut(0..33), [(0, 16), (16, 32), (32, 33)]);
        assert_eq!(cut(3..40), [(3, 16), (16, 32), (32, 40)]);
        assert_eq!(cut(17..19), [(17, 19)]);
        assert_eq!(cut(16..16), []);
        for (rows, threads) in [(1, 1), (15, 1), (16, 2), (300, 2), (512, 3)] {
            let at_once = rows_at_once(rows, threads);
            assert!(at_once == 1 || at_once.is_multiple_of(LANES), "{rows} {threads}");
        }
    }

    fn quantized(x: &[f32; 32]) -> Q8Block {
        let mut block = [0u8; Q8_BYTES];
        // SAFETY: any processor; 32 numbers, and room for a block.
        unsafe {
            let (v0, v1) = (Portable::load(x.as_ptr()), Portable::load(x.as_ptr().add(LANES)));
            quantize::<Portable>(v0, v1, block.as_mut_ptr());
            block.as_ptr().cast::<Q8Block>().read_unaligned()
        }
    }

    #[test]
    fn blocks_hold_their_numbers_to_half_a_step() {
        let x: [f32; 32] = std::array::from_fn(|i| (i as f32 - 9.5) * 0.37);
        let block = quantized(&x);
        for (x, code) in x.iter().zip(block.codes) {
            assert!((x - block.scale * f32::from(code)).abs() <= block.scale * 0.5001);
        }
        let all: i32 = block.codes.iter().map(|c| i32::from(*c)).sum();
        let first: i32 = block.codes[..16].iter().map(|c| i32::from(*c)).sum();
        assert_eq!((block.minus_8, block.minus_8_first), (-8 * all, -8 * first));
    }

    #[test]
    fn what_eight_bits_cannot_say_is_nan() {
        for (value, expected) in [(0.0, true), (1.0, true), (f32::NAN, false), (f32::INFINITY, false), (1e-38, false)] {
            let mut x = [0.0; 32];
            x[17] = value;
            let block = quantized(&x);
            assert_eq!(!block.scale.is_nan() && !block.sum.is_nan(), expected, "{value}");
        }
    }
}
