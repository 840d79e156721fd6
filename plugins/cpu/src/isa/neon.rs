//! NEON with dot products, and with those of unsigned by signed bytes where there are those too: four registers a vector.
//!
//! Three instructions have no stable function yet and are written as assembly: `sdot`, `usdot` and, from halves, `fcvtl`.
//! The assembler must be told of the first two even inside functions that may use them, because closures in such functions
//! are compiled apart.
//!
//! A comment on every one of these intrinsics would say the same: the caller of [`Isa`] promises the instructions, and
//! as many bytes behind pointers as are read or written. It is said here once.
#![allow(clippy::undocumented_unsafe_blocks)]
// Some of these are safe functions where the instructions are there, some are not, depending on the compiler's version.
#![allow(unused_unsafe)]

use std::arch::aarch64::*;
use std::arch::asm;
use std::array::from_fn;

use super::{Isa, LANES};

/// NEON with dot products (ARMv8.2).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Neon;

/// The same and the 8-bit matrix extension, which multiplies unsigned by signed bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NeonI8mm;

/// A vector from what its four registers are.
macro_rules! four {
    (|$i:ident| $register:expr) => {
        [
            {
                let $i: usize = 0;
                $register
            },
            {
                let $i: usize = 1;
                $register
            },
            {
                let $i: usize = 2;
                $register
            },
            {
                let $i: usize = 3;
                $register
            },
        ]
    };
}

/// Adds to each lane of `acc` the products of four signed bytes of `a` and `b`.
#[inline(always)]
unsafe fn sdot(mut acc: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    unsafe {
        asm!(".arch_extension dotprod", "sdot {acc:v}.4s, {a:v}.16b, {b:v}.16b", acc = inout(vreg) acc, a = in(vreg) a, b = in(vreg) b,
             options(pure, nomem, nostack, preserves_flags));
    }
    acc
}

/// The same of unsigned bytes of `a` and signed bytes of `b`.
#[inline(always)]
unsafe fn usdot(mut acc: int32x4_t, a: uint8x16_t, b: int8x16_t) -> int32x4_t {
    unsafe {
        asm!(".arch_extension i8mm", "usdot {acc:v}.4s, {a:v}.16b, {b:v}.16b", acc = inout(vreg) acc, a = in(vreg) a, b = in(vreg) b,
             options(pure, nomem, nostack, preserves_flags));
    }
    acc
}

/// Four f16 as f32.
#[inline(always)]
unsafe fn from_f16(halves: uint16x4_t) -> float32x4_t {
    let whole: float32x4_t;
    unsafe {
        asm!("fcvtl {whole:v}.4s, {halves:v}.4h", whole = lateout(vreg) whole, halves = in(vreg) halves,
             options(pure, nomem, nostack, preserves_flags));
    }
    whole
}

/// The four lanes of `x` shifted to the right.
#[inline(always)]
unsafe fn shr_u16<const N: u32>(x: uint16x8_t) -> uint16x8_t {
    // The function's count is another type of constant.
    unsafe {
        match N {
            0 => x,
            1 => vshrq_n_u16::<1>(x),
            2 => vshrq_n_u16::<2>(x),
            3 => vshrq_n_u16::<3>(x),
            4 => vshrq_n_u16::<4>(x),
            _ => vshlq_u16(x, vdupq_n_s16(-(N as i16))),
        }
    }
}

macro_rules! neon {
    ($isa:ident, dot4: |$acc:ident, $codes:ident, $x:ident| $dot4:block) => {
        impl Isa for $isa {
            type F = [float32x4_t; 4];
            type I = [int32x4_t; 4];
            type Q = [uint8x16_t; 4];

            const TILE: usize = 4;

            #[inline(always)]
            unsafe fn splat(x: f32) -> Self::F {
                unsafe { [vdupq_n_f32(x); 4] }
            }
            #[inline(always)]
            unsafe fn load(p: *const f32) -> Self::F {
                unsafe { four!(|i| vld1q_f32(p.add(4 * i))) }
            }
            #[inline(always)]
            unsafe fn store(p: *mut f32, x: Self::F) {
                unsafe {
                    four!(|i| vst1q_f32(p.add(4 * i), x[i]));
                }
            }
            #[inline(always)]
            unsafe fn add(a: Self::F, b: Self::F) -> Self::F {
                unsafe { four!(|i| vaddq_f32(a[i], b[i])) }
            }
            #[inline(always)]
            unsafe fn sub(a: Self::F, b: Self::F) -> Self::F {
                unsafe { four!(|i| vsubq_f32(a[i], b[i])) }
            }
            #[inline(always)]
            unsafe fn mul(a: Self::F, b: Self::F) -> Self::F {
                unsafe { four!(|i| vmulq_f32(a[i], b[i])) }
            }
            #[inline(always)]
            unsafe fn div(a: Self::F, b: Self::F) -> Self::F {
                unsafe { four!(|i| vdivq_f32(a[i], b[i])) }
            }
            #[inline(always)]
            unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F {
                unsafe { four!(|i| vfmaq_f32(c[i], a[i], b[i])) }
            }
            #[inline(always)]
            unsafe fn max(a: Self::F, b: Self::F) -> Self::F {
                // The instruction for it gives NaN where one is NaN.
                unsafe { four!(|i| vbslq_f32(vcgtq_f32(a[i], b[i]), a[i], b[i])) }
            }
            #[inline(always)]
            unsafe fn min(a: Self::F, b: Self::F) -> Self::F {
                unsafe { four!(|i| vbslq_f32(vcltq_f32(a[i], b[i]), a[i], b[i])) }
            }
            #[inline(always)]
            unsafe fn round(x: Self::F) -> Self::F {
                unsafe { four!(|i| vrndnq_f32(x[i])) }
            }
            #[inline(always)]
            unsafe fn scale(x: Self::F, n: Self::F) -> Self::F {
                // In two steps, as `Portable`.
                unsafe {
                    let pow2 = |n| vreinterpretq_f32_s32(vshlq_n_s32::<23>(vaddq_s32(n, vdupq_n_s32(127))));
                    four!(|i| {
                        let n = vcvtq_s32_f32(n[i]);
                        let last = vminq_s32(vmaxq_s32(n, vdupq_n_s32(-126)), vdupq_n_s32(127));
                        vmulq_f32(vmulq_f32(x[i], pow2(vsubq_s32(n, last))), pow2(last))
                    })
                }
            }
            #[inline(always)]
            unsafe fn reduce_add(x: Self::F) -> f32 {
                unsafe { vaddvq_f32(vaddq_f32(vaddq_f32(x[0], x[1]), vaddq_f32(x[2], x[3]))) }
            }
            #[inline(always)]
            unsafe fn reduce_max(x: Self::F) -> f32 {
                unsafe { vmaxvq_f32(vmaxq_f32(vmaxq_f32(x[0], x[1]), vmaxq_f32(x[2], x[3]))) }
            }

            #[inline(always)]
            unsafe fn load_f16(p: *const u16) -> Self::F {
                unsafe { four!(|i| from_f16(vld1_u16(p.add(4 * i)))) }
            }
            #[inline(always)]
            unsafe fn load_bf16(p: *const u16) -> Self::F {
                unsafe { four!(|i| vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(p.add(4 * i))))) }
            }
            #[inline(always)]
            unsafe fn load_u8(p: *const u8) -> Self::F {
                unsafe {
                    let bytes = vld1q_u8(p);
                    let (low, high) = (vmovl_u8(vget_low_u8(bytes)), vmovl_u8(vget_high_u8(bytes)));
                    let wide = |x| vcvtq_f32_u32(vmovl_u16(x));
                    [
                        wide(vget_low_u16(low)),
                        wide(vget_high_u16(low)),
                        wide(vget_low_u16(high)),
                        wide(vget_high_u16(high)),
                    ]
                }
            }
            #[inline(always)]
            unsafe fn load_i8(p: *const i8) -> Self::F {
                unsafe {
                    let bytes = vld1q_s8(p);
                    let (low, high) = (vmovl_s8(vget_low_s8(bytes)), vmovl_s8(vget_high_s8(bytes)));
                    let wide = |x| vcvtq_f32_s32(vmovl_s16(x));
                    [
                        wide(vget_low_s16(low)),
                        wide(vget_high_s16(low)),
                        wide(vget_low_s16(high)),
                        wide(vget_high_s16(high)),
                    ]
                }
            }
            #[inline(always)]
            unsafe fn pair_low(pairs: Self::Q) -> Self::F {
                unsafe { four!(|i| vreinterpretq_f32_u32(vshlq_n_u32::<16>(vreinterpretq_u32_u8(pairs[i])))) }
            }
            #[inline(always)]
            unsafe fn pair_high(pairs: Self::Q) -> Self::F {
                unsafe {
                    let high = vdupq_n_u32(0xffff_0000);
                    four!(|i| vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_u8(pairs[i]), high)))
                }
            }

            #[inline(always)]
            unsafe fn splat_i32(x: i32) -> Self::I {
                unsafe { [vdupq_n_s32(x); 4] }
            }
            #[inline(always)]
            unsafe fn sub_i32(a: Self::I, b: Self::I) -> Self::I {
                unsafe { four!(|i| vsubq_s32(a[i], b[i])) }
            }
            #[inline(always)]
            unsafe fn shl_i32<const N: u32>(x: Self::I) -> Self::I {
                unsafe { four!(|i| vshlq_s32(x[i], vdupq_n_s32(N as i32))) }
            }
            #[inline(always)]
            unsafe fn to_f32(x: Self::I) -> Self::F {
                unsafe { four!(|i| vcvtq_f32_s32(x[i])) }
            }
            #[inline(always)]
            unsafe fn dot4($acc: Self::I, $codes: Self::Q, x: i32) -> Self::I {
                unsafe {
                    let $x = vreinterpretq_s8_s32(vdupq_n_s32(x));
                    $dot4
                }
            }
            #[inline(always)]
            unsafe fn dot4_low(acc: Self::I, codes: Self::Q, x: i32) -> Self::I {
                unsafe {
                    let x = vreinterpretq_s8_s32(vdupq_n_s32(x));
                    four!(|i| sdot(acc[i], vreinterpretq_s8_u8(codes[i]), x))
                }
            }

            #[inline(always)]
            unsafe fn load_q(p: *const u8) -> Self::Q {
                unsafe { four!(|i| vld1q_u8(p.add(16 * i))) }
            }
            #[inline(always)]
            unsafe fn and_q(a: Self::Q, mask: u8) -> Self::Q {
                unsafe { four!(|i| vandq_u8(a[i], vdupq_n_u8(mask))) }
            }
            #[inline(always)]
            unsafe fn or_q(a: Self::Q, b: Self::Q) -> Self::Q {
                unsafe { four!(|i| vorrq_u8(a[i], b[i])) }
            }
            #[inline(always)]
            unsafe fn shr_q<const N: u32>(a: Self::Q) -> Self::Q {
                unsafe { four!(|i| vreinterpretq_u8_u16(shr_u16::<N>(vreinterpretq_u16_u8(a[i])))) }
            }
            #[inline(always)]
            unsafe fn shl_q<const N: u32>(a: Self::Q) -> Self::Q {
                unsafe {
                    let n = vdupq_n_s16(N as i16);
                    four!(|i| vreinterpretq_u8_u16(vshlq_u16(vreinterpretq_u16_u8(a[i]), n)))
                }
            }

            #[inline(always)]
            unsafe fn reduce_add_each(x: [Self::F; LANES]) -> Self::F {
                unsafe {
                    let whole: [float32x4_t; LANES] =
                        from_fn(|i| vaddq_f32(vaddq_f32(x[i][0], x[i][1]), vaddq_f32(x[i][2], x[i][3])));
                    four!(|i| {
                        let ab = vpaddq_f32(whole[4 * i], whole[4 * i + 1]);
                        vpaddq_f32(ab, vpaddq_f32(whole[4 * i + 2], whole[4 * i + 3]))
                    })
                }
            }
        }
    };
}

neon!(Neon, dot4: |acc, codes, x| {
    // Signed by signed: codes less 128, and 128 times the sum of `x` for it, which is twice the product with 64.
    let half = vdupq_n_s8(64);
    let rest = sdot(sdot(vdupq_n_s32(0), x, half), x, half);
    four!(|i| {
        let signed = vreinterpretq_s8_u8(veorq_u8(codes[i], vdupq_n_u8(0x80)));
        sdot(vaddq_s32(acc[i], rest), signed, x)
    })
});

neon!(NeonI8mm, dot4: |acc, codes, x| { four!(|i| usdot(acc[i], codes[i], x)) });
