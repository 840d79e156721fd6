//! Blocks of 32 with one scale: q4_0, q4_1, q5_0, q5_1, q8_0.
//!
//! A step of a panel is `[16] f16` scales, for q4_1 and q5_1 `[16] f16` minima, for q5_0 and q5_1 `[16][4]` bytes of fifth
//! bits (bit `g` of byte `i` belongs to element `4 g + i`), and the codes in groups of four: `[4][16][4]` bytes of two
//! codes (the low half is element `4 g + i`, the high half `16 + 4 g + i`, as in the file), for q8_0 `[8][16][4]` bytes,
//! with 128 added, because dot products take unsigned codes.
//!
//! `y = sum over blocks of scale * (sum codes * x - offset * sum x) + minimum * sum x`, the inner sums in whole numbers.

use super::{Format, gather, spread};
use crate::activations::{Input, MINUS_8, Q8_BYTES, SCALE, SUM};
use crate::isa::{Isa, LANES, unroll};

/// `scale * (code - 8)`.
pub(crate) struct Q4_0;
/// `scale * code + minimum`.
pub(crate) struct Q4_1;
/// `scale * (code - 16)`.
pub(crate) struct Q5_0;
/// `scale * code + minimum`.
pub(crate) struct Q5_1;
/// `scale * code`.
pub(crate) struct Q8_0;

/// A vector of f16.
const HALVES: usize = 2 * LANES;
/// A vector of codes.
const CODES: usize = 4 * LANES;

/// The dot product of 32 codes with a token's block, in whole numbers. `START` tells how often the codes' offset is 8: -1
/// for never, `n` for `8 << n`.
#[inline(always)]
pub(super) unsafe fn dot32<I: Isa, const START: i32>(codes: &[I::Q; 8], x: *const u8) -> I::I {
    // SAFETY: `x` points to a block.
    unsafe {
        let at = |field: usize| x.add(field).cast::<i32>().read_unaligned();
        let start = match START {
            0 => I::splat_i32(at(MINUS_8)),
            1 => I::shl_i32::<1>(I::splat_i32(at(MINUS_8))),
            4 => I::shl_i32::<4>(I::splat_i32(at(MINUS_8))),
            _ => I::splat_i32(0),
        };
        let mut sum = start;
        unroll!(g < 8 => {
            // Of these only q8_0, whose offset is 128, has codes of eight bits.
            sum = if START == 4 { I::dot4(sum, codes[g], at(4 * g)) } else { I::dot4_low(sum, codes[g], at(4 * g)) };
        });
        sum
    }
}

/// `acc += scale * x.scale * dot`.
#[inline(always)]
pub(super) unsafe fn scaled<I: Isa>(acc: I::F, dot: I::I, scale: I::F, x: *const u8) -> I::F {
    // SAFETY: `x` points to a block.
    unsafe {
        let token = I::splat(x.add(SCALE).cast::<f32>().read_unaligned());
        I::fma(I::mul(I::to_f32(dot), token), scale, acc)
    }
}

/// `acc += minimum * x.sum`.
#[inline(always)]
pub(super) unsafe fn with_minimum<I: Isa>(acc: I::F, minimum: I::F, x: *const u8) -> I::F {
    // SAFETY: `x` points to a block.
    unsafe { I::fma(minimum, I::splat(x.add(SUM).cast::<f32>().read_unaligned()), acc) }
}

/// Eight vectors of codes from four of two codes a byte.
#[inline(always)]
unsafe fn nibbles<I: Isa>(p: *const u8) -> [I::Q; 8] {
    // SAFETY: four vectors are there.
    unsafe {
        let mut q = [I::load_q(p); 8];
        unroll!(g < 4 => {
            let both = I::load_q(p.add(g * CODES));
            q[g] = I::and_q(both, 0x0f);
            q[4 + g] = I::and_q(I::shr_q::<4>(both), 0x0f);
        });
        q
    }
}

/// The same with fifth bits from `h`.
#[inline(always)]
unsafe fn with_fifth_bits<I: Isa>(q: [I::Q; 8], h: *const u8) -> [I::Q; 8] {
    // SAFETY: a vector is there.
    unsafe {
        let h = I::load_q(h);
        let bit = 0x10;
        [
            I::or_q(q[0], I::and_q(I::shl_q::<4>(h), bit)),
            I::or_q(q[1], I::and_q(I::shl_q::<3>(h), bit)),
            I::or_q(q[2], I::and_q(I::shl_q::<2>(h), bit)),
            I::or_q(q[3], I::and_q(I::shl_q::<1>(h), bit)),
            I::or_q(q[4], I::and_q(h, bit)),
            I::or_q(q[5], I::and_q(I::shr_q::<1>(h), bit)),
            I::or_q(q[6], I::and_q(I::shr_q::<2>(h), bit)),
            I::or_q(q[7], I::and_q(I::shr_q::<3>(h), bit)),
        ]
    }
}

/// 32 bits in the file's order, bit `4 g + i` for element `4 g + i`, to bytes `i` with bits `g`; its own inverse but for
/// the order of arguments.
fn fifth_bits_by_group(bits: u32) -> [u8; 4] {
    std::array::from_fn(|i| (0..8).fold(0, |byte, g| byte | ((bits >> (4 * g + i) & 1) as u8) << g))
}

fn fifth_bits_in_order(bytes: [u8; 4]) -> u32 {
    (0..32).fold(0, |bits, e| bits | u32::from(bytes[e % 4] >> (e / 4) & 1) << e)
}

macro_rules! legacy {
    ($name:ident, row: $row:literal, minimum: $minimum:literal, fifth: $fifth:literal, start: $start:literal) => {
        impl $name {
            const FIFTH_AT: usize = if $minimum { 2 * HALVES } else { HALVES };
            const CODES_AT: usize = Self::FIFTH_AT + if $fifth { CODES } else { 0 };
        }

        impl Format for $name {
            const STEP: usize = 32;
            const ROW_BYTES: usize = $row;
            const PANEL_BYTES: usize = $row * LANES;
            const INPUT: Input = Input::Q8;

            fn put(row: &[u8], r: usize, panel: &mut [u8]) {
                let (halves, rest) = row.split_at(if $minimum { 4 } else { 2 });
                spread::<2>(halves, r, panel);
                let (fifth, codes) = rest.split_at(if $fifth { 4 } else { 0 });
                if let Ok(fifth) = fifth.try_into() {
                    let bytes = fifth_bits_by_group(u32::from_le_bytes(fifth));
                    spread::<4>(&bytes, r, &mut panel[Self::FIFTH_AT..]);
                }
                spread::<4>(codes, r, &mut panel[Self::CODES_AT..]);
            }

            fn take(panel: &[u8], r: usize, row: &mut [u8]) {
                let (halves, rest) = row.split_at_mut(if $minimum { 4 } else { 2 });
                gather::<2>(panel, r, halves);
                let (fifth, codes) = rest.split_at_mut(if $fifth { 4 } else { 0 });
                if $fifth {
                    let mut bytes = [0; 4];
                    gather::<4>(&panel[Self::FIFTH_AT..], r, &mut bytes);
                    fifth.copy_from_slice(&fifth_bits_in_order(bytes).to_le_bytes());
                }
                gather::<4>(&panel[Self::CODES_AT..], r, codes);
            }

            #[inline(always)]
            unsafe fn step<I: Isa, const M: usize>(panel: *const u8, x: *const u8, acc: &mut [I::F; M]) {
                // SAFETY: by contract.
                unsafe {
                    let scale = I::load_f16(panel.cast());
                    let mut q = nibbles::<I>(panel.add(Self::CODES_AT));
                    if $fifth {
                        q = with_fifth_bits::<I>(q, panel.add(Self::FIFTH_AT));
                    }
                    let minimum = if $minimum { I::load_f16(panel.add(HALVES).cast()) } else { scale };
                    unroll!(t < M => {
                        let x = x.add(t * Q8_BYTES);
                        acc[t] = scaled::<I>(acc[t], dot32::<I, $start>(&q, x), scale, x);
                        if $minimum {
                            acc[t] = with_minimum::<I>(acc[t], minimum, x);
                        }
                    });
                }
            }
        }
    };
}

legacy!(Q4_0, row: 18, minimum: false, fifth: false, start: 0);
legacy!(Q4_1, row: 20, minimum: true, fifth: false, start: -1);
legacy!(Q5_0, row: 22, minimum: false, fifth: true, start: 1);
legacy!(Q5_1, row: 24, minimum: true, fifth: true, start: -1);

impl Format for Q8_0 {
    const STEP: usize = 32;
    const ROW_BYTES: usize = 34;
    const PANEL_BYTES: usize = 34 * LANES;
    const INPUT: Input = Input::Q8;

    fn put(row: &[u8], r: usize, panel: &mut [u8]) {
        let (scale, codes) = row.split_at(2);
        spread::<2>(scale, r, panel);
        let mut unsigned = [0u8; 32];
        for (to, from) in unsigned.iter_mut().zip(codes) {
            *to = from ^ 0x80;
        }
        spread::<4>(&unsigned, r, &mut panel[HALVES..]);
    }

    fn take(panel: &[u8], r: usize, row: &mut [u8]) {
        let (scale, codes) = row.split_at_mut(2);
        gather::<2>(panel, r, scale);
        gather::<4>(&panel[HALVES..], r, codes);
        for code in codes {
            *code ^= 0x80;
        }
    }

    #[inline(always)]
    unsafe fn step<I: Isa, const M: usize>(panel: *const u8, x: *const u8, acc: &mut [I::F; M]) {
        // SAFETY: by contract.
        unsafe {
            let scale = I::load_f16(panel.cast());
            let codes = panel.add(HALVES);
            let q: [I::Q; 8] = [
                I::load_q(codes),
                I::load_q(codes.add(CODES)),
                I::load_q(codes.add(2 * CODES)),
                I::load_q(codes.add(3 * CODES)),
                I::load_q(codes.add(4 * CODES)),
                I::load_q(codes.add(5 * CODES)),
                I::load_q(codes.add(6 * CODES)),
                I::load_q(codes.add(7 * CODES)),
            ];
            unroll!(t < M => {
                let x = x.add(t * Q8_BYTES);
                acc[t] = scaled::<I>(acc[t], dot32::<I, 4>(&q, x), scale, x);
            });
        }
    }
}
