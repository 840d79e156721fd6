//! f32, f16 and bf16: `[K / 4][4][16 rows]`; bf16, and f16 that is used as bf16, in pairs along `K`, `[K / 4][2][16 rows][2]`.

use super::{Format, gather, spread};
use crate::activations::Input;
use crate::isa::{Isa, LANES, unroll};

/// f32 weights.
pub(crate) struct F32;
/// f16 weights.
pub(crate) struct F16;
/// bf16 weights, activations rounded to bf16.
#[cfg(target_arch = "x86_64")]
pub(crate) struct Bf16;
/// bf16 weights where rounding the activations would gain nothing.
pub(crate) struct Bf16AsF32;
/// f16 weights that are rounded to bf16 when they are used, with activations rounded to bf16.
#[cfg(target_arch = "x86_64")]
pub(crate) struct F16AsBf16;

/// Adds four elements' products: `w[k]` with each token's `x[k]`.
macro_rules! four {
    ($I:ident, $M:ident, $acc:ident, $x:ident, $($k:literal => $w:expr),*) => {
        // SAFETY: by the contract of `Format::step`.
        unsafe {
            $(
                let w = $w;
                unroll!(t < $M => {
                    let x = $x.cast::<f32>().add($k * $M + t).read_unaligned();
                    $acc[t] = $I::fma(w, $I::splat(x), $acc[t]);
                });
            )*
        }
    };
}

/// Adds two pairs' products: `w` of bf16 with each token's `x` of bf16.
#[cfg(target_arch = "x86_64")]
macro_rules! pairs {
    ($I:ident, $M:ident, $acc:ident, $x:ident, $($w:expr),*) => {
        for (pair, w) in [$($w),*].into_iter().enumerate() {
            unroll!(t < $M => {
                let x = $x.cast::<u32>().add(pair * $M + t).read_unaligned();
                $acc[t] = $I::dot2($acc[t], w, x);
            });
        }
    };
}

impl Format for F32 {
    const STEP: usize = 4;
    const ROW_BYTES: usize = 16;
    const PANEL_BYTES: usize = 16 * LANES;
    const INPUT: Input = Input::F32;

    fn put(row: &[u8], r: usize, panel: &mut [u8]) {
        spread::<4>(row, r, panel);
    }

    fn take(panel: &[u8], r: usize, row: &mut [u8]) {
        gather::<4>(panel, r, row);
    }

    #[inline(always)]
    unsafe fn step<I: Isa, const M: usize>(panel: *const u8, x: *const u8, acc: &mut [I::F; M]) {
        let p = panel.cast::<f32>();
        four!(I, M, acc, x, 0 => I::load(p), 1 => I::load(p.add(16)), 2 => I::load(p.add(32)), 3 => I::load(p.add(48)));
    }
}

impl Format for F16 {
    const STEP: usize = 4;
    const ROW_BYTES: usize = 8;
    const PANEL_BYTES: usize = 8 * LANES;
    const INPUT: Input = Input::F32;

    fn put(row: &[u8], r: usize, panel: &mut [u8]) {
        spread::<2>(row, r, panel);
    }

    fn take(panel: &[u8], r: usize, row: &mut [u8]) {
        gather::<2>(panel, r, row);
    }

    #[inline(always)]
    unsafe fn step<I: Isa, const M: usize>(panel: *const u8, x: *const u8, acc: &mut [I::F; M]) {
        let p = panel.cast::<u16>();
        four!(I, M, acc, x, 0 => I::load_f16(p), 1 => I::load_f16(p.add(16)), 2 => I::load_f16(p.add(32)),
              3 => I::load_f16(p.add(48)));
    }
}

/// How 16 bits lie in pairs along `K`: what the formats below have in common. Where `K` is odd, the last pair is half there.
macro_rules! in_pairs {
    () => {
        const STEP: usize = 4;
        const ROW_BYTES: usize = 8;
        const PANEL_BYTES: usize = 8 * LANES;

        fn put(row: &[u8], r: usize, panel: &mut [u8]) {
            spread::<4>(row, r, panel);
            if let (whole, [low, high]) = row.split_at(row.len() / 4 * 4) {
                let at = whole.len() * LANES + r * 4;
                panel[at..at + 2].copy_from_slice(&[*low, *high]);
            }
        }

        fn take(panel: &[u8], r: usize, row: &mut [u8]) {
            gather::<4>(panel, r, row);
            let whole = row.len() / 4 * 4;
            if let Some(last) = row.get_mut(whole..whole + 2) {
                let at = whole * LANES + r * 4;
                last.copy_from_slice(&panel[at..at + 2]);
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
impl Format for Bf16 {
    const INPUT: Input = Input::Bf16;
    in_pairs!();

    #[inline(always)]
    unsafe fn step<I: Isa, const M: usize>(panel: *const u8, x: *const u8, acc: &mut [I::F; M]) {
        // SAFETY: by contract.
        unsafe {
            pairs!(I, M, acc, x, I::load_q(panel), I::load_q(panel.add(4 * LANES)));
        }
    }
}

impl Format for Bf16AsF32 {
    const INPUT: Input = Input::F32;
    in_pairs!();

    #[inline(always)]
    unsafe fn step<I: Isa, const M: usize>(panel: *const u8, x: *const u8, acc: &mut [I::F; M]) {
        four!(I, M, acc, x, 0 => I::pair_low(I::load_q(panel)), 1 => I::pair_high(I::load_q(panel)),
              2 => I::pair_low(I::load_q(panel.add(4 * LANES))), 3 => I::pair_high(I::load_q(panel.add(4 * LANES))));
    }
}

#[cfg(target_arch = "x86_64")]
impl Format for F16AsBf16 {
    const INPUT: Input = Input::Bf16;
    in_pairs!();

    #[inline(always)]
    unsafe fn step<I: Isa, const M: usize>(panel: *const u8, x: *const u8, acc: &mut [I::F; M]) {
        // SAFETY: by contract.
        unsafe {
            pairs!(I, M, acc, x, I::load_f16_as_bf16(panel), I::load_f16_as_bf16(panel.add(4 * LANES)));
        }
    }
}
