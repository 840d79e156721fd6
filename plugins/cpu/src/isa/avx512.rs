//! AVX-512 with VNNI, and with BF16 where there is that too: one register a vector.
//!
//! A comment on every one of these intrinsics would say the same: the caller of [`Isa`] promises the instructions, and
//! as many bytes behind pointers as are read or written. It is said here once.
#![allow(clippy::undocumented_unsafe_blocks)]

use std::arch::x86_64::*;

use super::{Isa, LANES};

/// AVX-512 F, BW, DQ, VL and VNNI.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512;

/// The same and BF16.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512Bf16;

/// `_mm512_unpacklo_pd` of pairs of f32.
#[inline(always)]
unsafe fn unpacklo_pairs(a: __m512, b: __m512) -> __m512 {
    unsafe { _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b))) }
}

/// `_mm512_unpackhi_pd` of pairs of f32.
#[inline(always)]
unsafe fn unpackhi_pairs(a: __m512, b: __m512) -> __m512 {
    unsafe { _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b))) }
}

/// Rounded to bf16, in the upper half of each lane; the lower has anything.
#[inline(always)]
unsafe fn rounded(x: __m512) -> __m512i {
    unsafe {
        let bits = _mm512_castps_si512(x);
        let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
        let near = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
        // What makes a NaN may lie in the bits that go.
        let quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x0040_0000));
        _mm512_mask_mov_epi32(near, _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x), quiet)
    }
}

macro_rules! avx512 {
    ($isa:ident { $($own:item)* }) => {
        impl Isa for $isa {
            type F = __m512;
            type I = __m512i;
            type Q = __m512i;

            const TILE: usize = 16;

            #[inline(always)]
            unsafe fn splat(x: f32) -> __m512 {
                unsafe { _mm512_set1_ps(x) }
            }
            #[inline(always)]
            unsafe fn load(p: *const f32) -> __m512 {
                unsafe { _mm512_loadu_ps(p) }
            }
            #[inline(always)]
            unsafe fn store(p: *mut f32, x: __m512) {
                unsafe { _mm512_storeu_ps(p, x) }
            }
            #[inline(always)]
            unsafe fn add(a: __m512, b: __m512) -> __m512 {
                unsafe { _mm512_add_ps(a, b) }
            }
            #[inline(always)]
            unsafe fn sub(a: __m512, b: __m512) -> __m512 {
                unsafe { _mm512_sub_ps(a, b) }
            }
            #[inline(always)]
            unsafe fn mul(a: __m512, b: __m512) -> __m512 {
                unsafe { _mm512_mul_ps(a, b) }
            }
            #[inline(always)]
            unsafe fn div(a: __m512, b: __m512) -> __m512 {
                unsafe { _mm512_div_ps(a, b) }
            }
            #[inline(always)]
            unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
                unsafe { _mm512_fmadd_ps(a, b, c) }
            }
            #[inline(always)]
            unsafe fn max(a: __m512, b: __m512) -> __m512 {
                unsafe { _mm512_max_ps(a, b) }
            }
            #[inline(always)]
            unsafe fn min(a: __m512, b: __m512) -> __m512 {
                unsafe { _mm512_min_ps(a, b) }
            }
            #[inline(always)]
            unsafe fn round(x: __m512) -> __m512 {
                unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x) }
            }
            #[inline(always)]
            unsafe fn scale(x: __m512, n: __m512) -> __m512 {
                unsafe { _mm512_scalef_ps(x, n) }
            }
            #[inline(always)]
            unsafe fn reduce_add(x: __m512) -> f32 {
                unsafe { _mm512_reduce_add_ps(x) }
            }
            #[inline(always)]
            unsafe fn reduce_max(x: __m512) -> f32 {
                unsafe { _mm512_reduce_max_ps(x) }
            }

            #[inline(always)]
            unsafe fn load_f16(p: *const u16) -> __m512 {
                unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())) }
            }
            #[inline(always)]
            unsafe fn load_bf16(p: *const u16) -> __m512 {
                unsafe {
                    let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()));
                    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
                }
            }
            #[inline(always)]
            unsafe fn load_u8(p: *const u8) -> __m512 {
                unsafe { _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast()))) }
            }
            #[inline(always)]
            unsafe fn load_i8(p: *const i8) -> __m512 {
                unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p.cast()))) }
            }
            #[inline(always)]
            unsafe fn pair_low(pairs: __m512i) -> __m512 {
                unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<16>(pairs)) }
            }
            #[inline(always)]
            unsafe fn pair_high(pairs: __m512i) -> __m512 {
                unsafe { _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(0xffff_0000_u32 as i32))) }
            }

            #[inline(always)]
            unsafe fn splat_i32(x: i32) -> __m512i {
                unsafe { _mm512_set1_epi32(x) }
            }
            #[inline(always)]
            unsafe fn sub_i32(a: __m512i, b: __m512i) -> __m512i {
                unsafe { _mm512_sub_epi32(a, b) }
            }
            #[inline(always)]
            unsafe fn shl_i32<const N: u32>(x: __m512i) -> __m512i {
                unsafe { _mm512_slli_epi32::<N>(x) }
            }
            #[inline(always)]
            unsafe fn to_f32(x: __m512i) -> __m512 {
                unsafe { _mm512_cvtepi32_ps(x) }
            }
            #[inline(always)]
            unsafe fn dot4(acc: __m512i, codes: __m512i, x: i32) -> __m512i {
                unsafe { _mm512_dpbusd_epi32(acc, codes, _mm512_set1_epi32(x)) }
            }

            #[inline(always)]
            unsafe fn load_q(p: *const u8) -> __m512i {
                unsafe { _mm512_loadu_si512(p.cast()) }
            }
            #[inline(always)]
            unsafe fn and_q(a: __m512i, mask: u8) -> __m512i {
                unsafe { _mm512_and_si512(a, _mm512_set1_epi8(mask as i8)) }
            }
            #[inline(always)]
            unsafe fn or_q(a: __m512i, b: __m512i) -> __m512i {
                unsafe { _mm512_or_si512(a, b) }
            }
            #[inline(always)]
            unsafe fn shr_q<const N: u32>(a: __m512i) -> __m512i {
                unsafe { _mm512_srli_epi16::<N>(a) }
            }
            #[inline(always)]
            unsafe fn shl_q<const N: u32>(a: __m512i) -> __m512i {
                unsafe { _mm512_slli_epi16::<N>(a) }
            }

            #[inline(always)]
            unsafe fn reduce_add_each(x: [__m512; LANES]) -> __m512 {
                unsafe {
                    // Each stage adds the halves of two vectors and keeps the sums of both in one.
                    let mut pairs = [_mm512_setzero_ps(); 8];
                    for i in 0..8 {
                        // Lane order does not matter before the last stage but must be the same in all of them: the
                        // final permutation puts the sums in order.
                        let (a, b) = (x[2 * i], x[2 * i + 1]);
                        pairs[i] = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
                    }
                    let mut fours = [_mm512_setzero_ps(); 4];
                    for i in 0..4 {
                        let (a, b) = (_mm512_castps_pd(pairs[2 * i]), _mm512_castps_pd(pairs[2 * i + 1]));
                        fours[i] = _mm512_add_ps(
                            _mm512_castpd_ps(_mm512_unpacklo_pd(a, b)),
                            _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)),
                        );
                    }
                    // Every 128-bit part of fours[i] has partial sums of x[4 i ..= 4 i + 3].
                    let mut halves = [_mm512_setzero_ps(); 2];
                    for i in 0..2 {
                        let (a, b) = (fours[2 * i], fours[2 * i + 1]);
                        halves[i] = _mm512_add_ps(
                            _mm512_shuffle_f32x4::<0b10_00_10_00>(a, b),
                            _mm512_shuffle_f32x4::<0b11_01_11_01>(a, b),
                        );
                    }
                    // halves[i]: two parts of fours[2 i], then two of fours[2 i + 1].
                    let (a, b) = (halves[0], halves[1]);
                    _mm512_add_ps(
                        _mm512_shuffle_f32x4::<0b10_00_10_00>(a, b),
                        _mm512_shuffle_f32x4::<0b11_01_11_01>(a, b),
                    )
                }
            }

            #[inline(always)]
            unsafe fn transpose(x: [__m512; LANES]) -> [__m512; LANES] {
                unsafe {
                    let mut t = x;
                    for i in 0..8 {
                        t[2 * i] = _mm512_unpacklo_ps(x[2 * i], x[2 * i + 1]);
                        t[2 * i + 1] = _mm512_unpackhi_ps(x[2 * i], x[2 * i + 1]);
                    }
                    let mut u = t;
                    for i in 0..4 {
                        let (a, b, c, d) = (t[4 * i], t[4 * i + 1], t[4 * i + 2], t[4 * i + 3]);
                        u[4 * i] = unpacklo_pairs(a, c);
                        u[4 * i + 1] = unpackhi_pairs(a, c);
                        u[4 * i + 2] = unpacklo_pairs(b, d);
                        u[4 * i + 3] = unpackhi_pairs(b, d);
                    }
                    // u[4 i + k], part p: rows 4 i ..= 4 i + 3 of column 4 p + k.
                    let mut y = u;
                    for k in 0..4 {
                        let (a, b, c, d) = (u[k], u[4 + k], u[8 + k], u[12 + k]);
                        let ab_even = _mm512_shuffle_f32x4::<0b10_00_10_00>(a, b);
                        let ab_odd = _mm512_shuffle_f32x4::<0b11_01_11_01>(a, b);
                        let cd_even = _mm512_shuffle_f32x4::<0b10_00_10_00>(c, d);
                        let cd_odd = _mm512_shuffle_f32x4::<0b11_01_11_01>(c, d);
                        y[k] = _mm512_shuffle_f32x4::<0b10_00_10_00>(ab_even, cd_even);
                        y[8 + k] = _mm512_shuffle_f32x4::<0b11_01_11_01>(ab_even, cd_even);
                        y[4 + k] = _mm512_shuffle_f32x4::<0b10_00_10_00>(ab_odd, cd_odd);
                        y[12 + k] = _mm512_shuffle_f32x4::<0b11_01_11_01>(ab_odd, cd_odd);
                    }
                    y
                }
            }

            #[inline(always)]
            unsafe fn bf16_pairs(first: __m512, second: __m512) -> __m512 {
                unsafe {
                    let first = _mm512_srli_epi32::<16>(rounded(first));
                    // 0xca: bit by bit `if high { second } else { first }`.
                    let high = _mm512_set1_epi32(0xffff_0000_u32 as i32);
                    _mm512_castsi512_ps(_mm512_ternarylogic_epi32::<0xca>(high, rounded(second), first))
                }
            }

            #[inline(always)]
            unsafe fn load_some(p: *const f32, n: usize) -> __m512 {
                unsafe { _mm512_maskz_loadu_ps(((1u32 << n) - 1) as __mmask16, p) }
            }
            #[inline(always)]
            unsafe fn store_some(p: *mut f32, n: usize, x: __m512) {
                unsafe { _mm512_mask_storeu_ps(p, ((1u32 << n) - 1) as __mmask16, x) }
            }

            $($own)*
        }
    };
}

avx512!(Avx512 {});

avx512!(Avx512Bf16 {
    #[inline(always)]
    unsafe fn dot2(acc: __m512, w: __m512i, x: u32) -> __m512 {
        unsafe {
            let x = _mm512_set1_epi32(x as i32);
            // SAFETY: both are 512 bits without a meaning of their own.
            let (w, x) = (std::mem::transmute::<__m512i, __m512bh>(w), std::mem::transmute::<__m512i, __m512bh>(x));
            _mm512_dpbf16_ps(acc, w, x)
        }
    }

    #[inline(always)]
    unsafe fn load_f16_as_bf16(p: *const u8) -> __m512i {
        unsafe {
            let (low, high) = (Self::load_f16(p.cast()), Self::load_f16(p.cast::<u16>().add(LANES)));
            // SAFETY: as above.
            std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low))
        }
    }
});
