//! q5_k: as q4_k, with a fifth bit for each code.
//!
//! A step of a panel: scales as in [`super::q4_k`], then fifth bits `[8][16][4]` (bit `b` of element `4 g + i` of sub-block
//! `b`, as in the file) and codes `[4][8][16][4]`.

use super::legacy::{dot32, scaled, with_minimum};
use super::q4_k::{MINIMA_AT, put_scales, scales, take_scales};
use super::{Format, gather, spread};
use crate::activations::{Input, Q8_BYTES};
use crate::isa::{Isa, LANES, unroll};

/// q5_k weights.
pub(crate) struct Q5K;

const FIFTH_AT: usize = MINIMA_AT + 8 * LANES;
const CODES_AT: usize = FIFTH_AT + 32 * LANES;

/// The fifth bits of sub-block `B`, as 16 where they are set.
#[inline(always)]
unsafe fn fifth<I: Isa, const B: usize>(h: I::Q) -> I::Q {
    // SAFETY: as `Isa`.
    unsafe {
        let moved = match B {
            0 => I::shl_q::<4>(h),
            1 => I::shl_q::<3>(h),
            2 => I::shl_q::<2>(h),
            3 => I::shl_q::<1>(h),
            4 => h,
            5 => I::shr_q::<1>(h),
            6 => I::shr_q::<2>(h),
            _ => I::shr_q::<3>(h),
        };
        I::and_q(moved, 0x10)
    }
}

/// The codes of sub-block `B`.
#[inline(always)]
unsafe fn codes<I: Isa, const B: usize>(panel: *const u8) -> [I::Q; 8] {
    // SAFETY: `panel` points to a step.
    unsafe {
        let (fours, fifths) = (panel.add(CODES_AT + B / 2 * 32 * LANES), panel.add(FIFTH_AT));
        let mut q = [I::load_q(fours); 8];
        unroll!(g < 8 => {
            let both = I::load_q(fours.add(g * 4 * LANES));
            let four = if B.is_multiple_of(2) { both } else { I::shr_q::<4>(both) };
            q[g] = I::or_q(I::and_q(four, 0x0f), fifth::<I, B>(I::load_q(fifths.add(g * 4 * LANES))));
        });
        q
    }
}

impl Format for Q5K {
    const STEP: usize = 256;
    const ROW_BYTES: usize = 176;
    const PANEL_BYTES: usize = CODES_AT + 128 * LANES;
    const INPUT: Input = Input::Q8;

    fn put(row: &[u8], r: usize, panel: &mut [u8]) {
        put_scales(row, r, panel);
        spread::<4>(&row[16..48], r, &mut panel[FIFTH_AT..]);
        spread::<4>(&row[48..], r, &mut panel[CODES_AT..]);
    }

    fn take(panel: &[u8], r: usize, row: &mut [u8]) {
        take_scales(panel, r, row);
        gather::<4>(&panel[FIFTH_AT..], r, &mut row[16..48]);
        gather::<4>(&panel[CODES_AT..], r, &mut row[48..]);
    }

    #[inline(always)]
    unsafe fn step<I: Isa, const M: usize>(panel: *const u8, x: *const u8, acc: &mut [I::F; M]) {
        macro_rules! sub_block {
            ($b:literal, $d:ident, $minus_dmin:ident) => {
                let q = codes::<I, $b>(panel);
                let (scale, minimum) = scales::<I>(panel, $d, $minus_dmin, $b);
                unroll!(t < M => {
                    let x = x.add(($b * M + t) * Q8_BYTES);
                    acc[t] = scaled::<I>(acc[t], dot32::<I, -1>(&q, x), scale, x);
                    acc[t] = with_minimum::<I>(acc[t], minimum, x);
                });
            };
        }
        // SAFETY: by contract.
        unsafe {
            let d = I::load_f16(panel.cast());
            let minus_dmin = I::sub(I::splat(0.0), I::load_f16(panel.add(2 * LANES).cast()));
            sub_block!(0, d, minus_dmin);
            sub_block!(1, d, minus_dmin);
            sub_block!(2, d, minus_dmin);
            sub_block!(3, d, minus_dmin);
            sub_block!(4, d, minus_dmin);
            sub_block!(5, d, minus_dmin);
            sub_block!(6, d, minus_dmin);
            sub_block!(7, d, minus_dmin);
        }
    }
}
