//! q6_k: 256 elements of 6 bits, sixteen sub-blocks of 16 with a scale of 8 bits each, `w = d * scale * (code - 32)`.
//!
//! A step of a panel: `[16] f16` scales of scales, `[16][16]` bytes of signed scales, 32 bytes of nothing, then for each half of 128 elements the
//! upper two bits `[8][16][4]` and the lower four `[2][8][16][4]`, all as they come in the file: of half `h`, elements
//! `32 b + 4 g + i` have their upper bits in bits `2 b` of vector `g`, and their lower four in the low (`b` = 0, 1) or
//! high (`b` = 2, 3) half of part `b % 2`.

use super::{Format, gather, spread};
use crate::activations::{Input, MINUS_8, MINUS_8_FIRST, Q8_BYTES};
use crate::formats::legacy::scaled;
use crate::isa::{Isa, LANES, unroll};

/// q6_k weights.
pub(crate) struct Q6K;

const SCALES_AT: usize = 2 * LANES;
/// Half a line of the cache further than need be, so that no vector lies across two.
const HALVES_AT: usize = SCALES_AT + 16 * LANES + 32;
/// Bytes of a half of a row: upper bits and lower bits.
const UPPER: usize = 32;
const LOWER: usize = 64;
const HALF: usize = (UPPER + LOWER) * LANES;

/// The codes of sub-blocks `2 B` and `2 B + 1` of a half.
#[inline(always)]
unsafe fn codes<I: Isa, const B: usize>(half: *const u8) -> [I::Q; 8] {
    // SAFETY: `half` points to a half of a step.
    unsafe {
        let lowers = half.add(UPPER * LANES + B % 2 * 32 * LANES);
        let mut q = [I::load_q(half); 8];
        unroll!(g < 8 => {
            let lower = I::load_q(lowers.add(g * 4 * LANES));
            let lower = if B < 2 { lower } else { I::shr_q::<4>(lower) };
            let upper = I::load_q(half.add(g * 4 * LANES));
            let upper = match B {
                0 => I::shl_q::<4>(upper),
                1 => I::shl_q::<2>(upper),
                2 => upper,
                _ => I::shr_q::<2>(upper),
            };
            q[g] = I::or_q(I::and_q(lower, 0x0f), I::and_q(upper, 0x30));
        });
        q
    }
}

impl Format for Q6K {
    const STEP: usize = 256;
    const ROW_BYTES: usize = 210;
    const PANEL_BYTES: usize = HALVES_AT + 2 * HALF;
    const INPUT: Input = Input::Q8;

    // In the file: lower bits [128], upper bits [64], scales [16], d.
    fn put(row: &[u8], r: usize, panel: &mut [u8]) {
        spread::<2>(&row[208..], r, panel);
        spread::<1>(&row[192..208], r, &mut panel[SCALES_AT..SCALES_AT + 16 * LANES]);
        for half in 0..2 {
            let to = &mut panel[HALVES_AT + half * HALF..][..HALF];
            spread::<4>(&row[128 + half * UPPER..][..UPPER], r, to);
            spread::<4>(&row[half * LOWER..][..LOWER], r, &mut to[UPPER * LANES..]);
        }
    }

    fn take(panel: &[u8], r: usize, row: &mut [u8]) {
        gather::<2>(panel, r, &mut row[208..]);
        gather::<1>(&panel[SCALES_AT..SCALES_AT + 16 * LANES], r, &mut row[192..208]);
        for half in 0..2 {
            let from = &panel[HALVES_AT + half * HALF..][..HALF];
            gather::<4>(from, r, &mut row[128 + half * UPPER..][..UPPER]);
            gather::<4>(&from[UPPER * LANES..], r, &mut row[half * LOWER..][..LOWER]);
        }
    }

    #[inline(always)]
    unsafe fn step<I: Isa, const M: usize>(panel: *const u8, x: *const u8, acc: &mut [I::F; M]) {
        macro_rules! sub_blocks {
            ($half:ident, $b:literal, $d:ident) => {
                let q = codes::<I, $b>(panel.add(HALVES_AT + $half * HALF));
                let block = 4 * $half + $b;
                let scales = panel.add(SCALES_AT + 2 * block * LANES).cast::<i8>();
                let (first, second) = (I::mul($d, I::load_i8(scales)), I::mul($d, I::load_i8(scales.add(LANES))));
                unroll!(t < M => {
                    let x = x.add((block * M + t) * Q8_BYTES);
                    let at = |field: usize| x.add(field).cast::<i32>().read_unaligned();
                    // Offset 32 = 8 << 2.
                    let mut a = I::shl_i32::<2>(I::splat_i32(at(MINUS_8_FIRST)));
                    let mut b = I::sub_i32(I::shl_i32::<2>(I::splat_i32(at(MINUS_8))), a);
                    unroll!(g < 4 => { a = I::dot4_low(a, q[g], at(4 * g)); });
                    unroll!(g < 4 => { b = I::dot4_low(b, q[4 + g], at(16 + 4 * g)); });
                    acc[t] = scaled::<I>(acc[t], a, first, x);
                    acc[t] = scaled::<I>(acc[t], b, second, x);
                });
            };
        }
        // SAFETY: by contract.
        unsafe {
            let d = I::load_f16(panel.cast());
            for half in 0..2 {
                sub_blocks!(half, 0, d);
                sub_blocks!(half, 1, d);
                sub_blocks!(half, 2, d);
                sub_blocks!(half, 3, d);
            }
        }
    }
}
