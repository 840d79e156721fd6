//! q4_k: 256 elements, eight sub-blocks of 32 with a scale and a minimum of 6 bits each.
//!
//! A step of a panel: `[16] f16` scales of scales, `[16] f16` scales of minima, `[8][16]` bytes of scales, `[8][16]` bytes of
//! minima, and the codes `[4][8][16][4]`: in chunk `c`, the low halves are sub-block `2 c` and the high halves `2 c + 1`, as
//! in the file. `w = d * scale * code - dmin * minimum`.

use super::legacy::{dot32, scaled, with_minimum};
use super::{Format, gather, k_scales, spread};
use crate::activations::{Input, Q8_BYTES};
use crate::isa::{Isa, LANES, unroll};

/// q4_k weights.
pub(crate) struct Q4K;

pub(super) const SCALES_AT: usize = 4 * LANES;
pub(super) const MINIMA_AT: usize = SCALES_AT + 8 * LANES;
const CODES_AT: usize = MINIMA_AT + 8 * LANES;

/// The block's first 16 bytes, `d`, `dmin` and the packed scales, to their places.
pub(super) fn put_scales(block: &[u8], r: usize, panel: &mut [u8]) {
    spread::<2>(&block[..4], r, panel);
    let (scales, minima) = k_scales::unpack(block[4..16].try_into().expect("twelve bytes"));
    spread::<1>(&scales, r, &mut panel[SCALES_AT..MINIMA_AT]);
    spread::<1>(&minima, r, &mut panel[MINIMA_AT..]);
}

/// The inverse of [`put_scales`].
pub(super) fn take_scales(panel: &[u8], r: usize, block: &mut [u8]) {
    gather::<2>(panel, r, &mut block[..4]);
    let (mut scales, mut minima) = ([0; 8], [0; 8]);
    gather::<1>(&panel[SCALES_AT..MINIMA_AT], r, &mut scales);
    gather::<1>(&panel[MINIMA_AT..], r, &mut minima);
    block[4..16].copy_from_slice(&k_scales::pack(scales, minima));
}

/// The scale and the negative minimum of sub-block `b`.
#[inline(always)]
pub(super) unsafe fn scales<I: Isa>(panel: *const u8, d: I::F, minus_dmin: I::F, b: usize) -> (I::F, I::F) {
    // SAFETY: `panel` points to a step.
    unsafe {
        let scale = I::mul(d, I::load_u8(panel.add(SCALES_AT + b * LANES)));
        let minimum = I::mul(minus_dmin, I::load_u8(panel.add(MINIMA_AT + b * LANES)));
        (scale, minimum)
    }
}

impl Format for Q4K {
    const STEP: usize = 256;
    const ROW_BYTES: usize = 144;
    const PANEL_BYTES: usize = CODES_AT + 128 * LANES;
    const INPUT: Input = Input::Q8;

    fn put(row: &[u8], r: usize, panel: &mut [u8]) {
        put_scales(row, r, panel);
        spread::<4>(&row[16..], r, &mut panel[CODES_AT..]);
    }

    fn take(panel: &[u8], r: usize, row: &mut [u8]) {
        take_scales(panel, r, row);
        gather::<4>(&panel[CODES_AT..], r, &mut row[16..]);
    }

    #[inline(always)]
    unsafe fn step<I: Isa, const M: usize>(panel: *const u8, x: *const u8, acc: &mut [I::F; M]) {
        // SAFETY: by contract.
        unsafe {
            let d = I::load_f16(panel.cast());
            let minus_dmin = I::sub(I::splat(0.0), I::load_f16(panel.add(2 * LANES).cast()));
            for chunk in 0..4 {
                let codes = panel.add(CODES_AT + chunk * 32 * LANES);
                let mut q = [I::load_q(codes); 8];
                unroll!(g < 8 => { q[g] = I::and_q(I::load_q(codes.add(g * 4 * LANES)), 0x0f); });
                let (scale, minimum) = scales::<I>(panel, d, minus_dmin, 2 * chunk);
                unroll!(t < M => {
                    let x = x.add((2 * chunk * M + t) * Q8_BYTES);
                    acc[t] = scaled::<I>(acc[t], dot32::<I, -1>(&q, x), scale, x);
                    acc[t] = with_minimum::<I>(acc[t], minimum, x);
                });
                unroll!(g < 8 => { q[g] = I::and_q(I::shr_q::<4>(I::load_q(codes.add(g * 4 * LANES))), 0x0f); });
                let (scale, minimum) = scales::<I>(panel, d, minus_dmin, 2 * chunk + 1);
                unroll!(t < M => {
                    let x = x.add(((2 * chunk + 1) * M + t) * Q8_BYTES);
                    acc[t] = scaled::<I>(acc[t], dot32::<I, -1>(&q, x), scale, x);
                    acc[t] = with_minimum::<I>(acc[t], minimum, x);
                });
            }
        }
    }
}
