//! AVX2 with FMA and F16C: two registers a vector.
//!
//! A comment on every one of these intrinsics would say the same: the caller of [`Isa`] promises the instructions, and
//! as many bytes behind pointers as are read or written. It is said here once.
#![allow(clippy::undocumented_unsafe_blocks)]

use std::arch::x86_64::*;

use super::{Isa, LANES};

/// AVX2, FMA and F16C.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2;

impl Isa for Avx2 {
    type F = [__m256; 2];
    type I = [__m256i; 2];
    type Q = [__m256i; 2];

    const TILE: usize = 4;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::F {
        unsafe { [_mm256_set1_ps(x); 2] }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self::F {
        unsafe { [_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))] }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, x: Self::F) {
        unsafe {
            _mm256_storeu_ps(p, x[0]);
            _mm256_storeu_ps(p.add(8), x[1]);
        }
    }
    #[inline(always)]
    unsafe fn add(a: Self::F, b: Self::F) -> Self::F {
        unsafe { [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn sub(a: Self::F, b: Self::F) -> Self::F {
        unsafe { [_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F {
        unsafe { [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn div(a: Self::F, b: Self::F) -> Self::F {
        unsafe { [_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        unsafe { [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])] }
    }
    #[inline(always)]
    unsafe fn max(a: Self::F, b: Self::F) -> Self::F {
        unsafe { [_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn min(a: Self::F, b: Self::F) -> Self::F {
        unsafe { [_mm256_min_ps(a[0], b[0]), _mm256_min_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn round(x: Self::F) -> Self::F {
        const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        unsafe { [_mm256_round_ps::<NEAREST>(x[0]), _mm256_round_ps::<NEAREST>(x[1])] }
    }
    #[inline(always)]
    unsafe fn scale(x: Self::F, n: Self::F) -> Self::F {
        unsafe { [scale(x[0], n[0]), scale(x[1], n[1])] }
    }
    #[inline(always)]
    unsafe fn reduce_add(x: Self::F) -> f32 {
        unsafe {
            let x = _mm256_add_ps(x[0], x[1]);
            let x = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
        }
    }
    #[inline(always)]
    unsafe fn reduce_max(x: Self::F) -> f32 {
        unsafe {
            let x = _mm256_max_ps(x[0], x[1]);
            let x = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let x = _mm_max_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)))
        }
    }

    #[inline(always)]
    unsafe fn load_f16(p: *const u16) -> Self::F {
        unsafe { [_mm256_cvtph_ps(_mm_loadu_si128(p.cast())), _mm256_cvtph_ps(_mm_loadu_si128(p.add(8).cast()))] }
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u16) -> Self::F {
        unsafe { [load_bf16(p), load_bf16(p.add(8))] }
    }
    #[inline(always)]
    unsafe fn load_u8(p: *const u8) -> Self::F {
        unsafe {
            let bytes = _mm_loadu_si128(p.cast());
            let high = _mm_srli_si128::<8>(bytes);
            [_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes)), _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(high))]
        }
    }
    #[inline(always)]
    unsafe fn load_i8(p: *const i8) -> Self::F {
        unsafe {
            let bytes = _mm_loadu_si128(p.cast());
            let high = _mm_srli_si128::<8>(bytes);
            [_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)), _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(high))]
        }
    }
    #[inline(always)]
    unsafe fn pair_low(pairs: Self::Q) -> Self::F {
        unsafe {
            [
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(pairs[0])),
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(pairs[1])),
            ]
        }
    }
    #[inline(always)]
    unsafe fn pair_high(pairs: Self::Q) -> Self::F {
        unsafe {
            let high = _mm256_set1_epi32(0xffff_0000_u32 as i32);
            [
                _mm256_castsi256_ps(_mm256_and_si256(pairs[0], high)),
                _mm256_castsi256_ps(_mm256_and_si256(pairs[1], high)),
            ]
        }
    }

    #[inline(always)]
    unsafe fn splat_i32(x: i32) -> Self::I {
        unsafe { [_mm256_set1_epi32(x); 2] }
    }
    #[inline(always)]
    unsafe fn sub_i32(a: Self::I, b: Self::I) -> Self::I {
        unsafe { [_mm256_sub_epi32(a[0], b[0]), _mm256_sub_epi32(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn shl_i32<const N: u32>(x: Self::I) -> Self::I {
        unsafe {
            let n = _mm_cvtsi32_si128(N as i32);
            [_mm256_sll_epi32(x[0], n), _mm256_sll_epi32(x[1], n)]
        }
    }
    #[inline(always)]
    unsafe fn to_f32(x: Self::I) -> Self::F {
        unsafe { [_mm256_cvtepi32_ps(x[0]), _mm256_cvtepi32_ps(x[1])] }
    }
    #[inline(always)]
    unsafe fn dot4(acc: Self::I, codes: Self::Q, x: i32) -> Self::I {
        unsafe {
            // Products of pairs are added in 16 bits, which codes above 128 do not fit. Odd and even bytes are therefore
            // multiplied apart, in 16 bits each, and every pair of products is added in 32.
            let x = _mm256_set1_epi32(x);
            let even = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(x));
            let odd = _mm256_srai_epi16::<8>(x);
            [dot4(acc[0], codes[0], even, odd), dot4(acc[1], codes[1], even, odd)]
        }
    }
    #[inline(always)]
    unsafe fn dot4_low(acc: Self::I, codes: Self::Q, x: i32) -> Self::I {
        unsafe {
            let x = _mm256_set1_epi32(x);
            [dot4_low(acc[0], codes[0], x), dot4_low(acc[1], codes[1], x)]
        }
    }

    #[inline(always)]
    unsafe fn load_q(p: *const u8) -> Self::Q {
        unsafe { [_mm256_loadu_si256(p.cast()), _mm256_loadu_si256(p.add(32).cast())] }
    }
    #[inline(always)]
    unsafe fn and_q(a: Self::Q, mask: u8) -> Self::Q {
        unsafe {
            let mask = _mm256_set1_epi8(mask as i8);
            [_mm256_and_si256(a[0], mask), _mm256_and_si256(a[1], mask)]
        }
    }
    #[inline(always)]
    unsafe fn or_q(a: Self::Q, b: Self::Q) -> Self::Q {
        unsafe { [_mm256_or_si256(a[0], b[0]), _mm256_or_si256(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn shr_q<const N: u32>(a: Self::Q) -> Self::Q {
        unsafe {
            let n = _mm_cvtsi32_si128(N as i32);
            [_mm256_srl_epi16(a[0], n), _mm256_srl_epi16(a[1], n)]
        }
    }
    #[inline(always)]
    unsafe fn shl_q<const N: u32>(a: Self::Q) -> Self::Q {
        unsafe {
            let n = _mm_cvtsi32_si128(N as i32);
            [_mm256_sll_epi16(a[0], n), _mm256_sll_epi16(a[1], n)]
        }
    }

    #[inline(always)]
    unsafe fn reduce_add_each(x: [Self::F; LANES]) -> Self::F {
        unsafe { [reduce_eight(&x[..8]), reduce_eight(&x[8..])] }
    }

    #[inline(always)]
    unsafe fn load_some(p: *const f32, n: usize) -> Self::F {
        unsafe {
            let (low, high) = masks(n);
            [_mm256_maskload_ps(p, low), _mm256_maskload_ps(p.wrapping_add(8), high)]
        }
    }
    #[inline(always)]
    unsafe fn store_some(p: *mut f32, n: usize, x: Self::F) {
        unsafe {
            let (low, high) = masks(n);
            _mm256_maskstore_ps(p, low, x[0]);
            _mm256_maskstore_ps(p.wrapping_add(8), high, x[1]);
        }
    }
}

/// [`Isa::scale`] of half a vector, in two steps as `Portable`.
#[inline(always)]
unsafe fn scale(x: __m256, n: __m256) -> __m256 {
    unsafe {
        let n = _mm256_cvtps_epi32(n);
        let last = _mm256_min_epi32(_mm256_max_epi32(n, _mm256_set1_epi32(-126)), _mm256_set1_epi32(127));
        _mm256_mul_ps(_mm256_mul_ps(x, pow2(_mm256_sub_epi32(n, last))), pow2(last))
    }
}

/// `2^n`.
#[inline(always)]
unsafe fn pow2(n: __m256i) -> __m256 {
    unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(n, _mm256_set1_epi32(127)))) }
}

/// [`Isa::load_bf16`] of half a vector.
#[inline(always)]
unsafe fn load_bf16(p: *const u16) -> __m256 {
    unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast())))) }
}

/// [`Isa::dot4`] of half a vector, with the even and the odd bytes of `x` in 16 bits.
#[inline(always)]
unsafe fn dot4(acc: __m256i, codes: __m256i, even: __m256i, odd: __m256i) -> __m256i {
    unsafe {
        let even = _mm256_madd_epi16(_mm256_and_si256(codes, _mm256_set1_epi16(0xff)), even);
        let odd = _mm256_madd_epi16(_mm256_srli_epi16::<8>(codes), odd);
        _mm256_add_epi32(acc, _mm256_add_epi32(even, odd))
    }
}

/// [`Isa::dot4_low`] of half a vector: two products of 127 by 128 fit 16 bits.
#[inline(always)]
unsafe fn dot4_low(acc: __m256i, codes: __m256i, x: __m256i) -> __m256i {
    unsafe {
        let pairs = _mm256_madd_epi16(_mm256_maddubs_epi16(codes, x), _mm256_set1_epi16(1));
        _mm256_add_epi32(acc, pairs)
    }
}

/// The sums of eight vectors.
#[inline(always)]
unsafe fn reduce_eight(x: &[[__m256; 2]]) -> __m256 {
    unsafe {
        let (low, high) = (reduce_four(&x[..4]), reduce_four(&x[4..]));
        _mm256_add_ps(_mm256_permute2f128_ps::<0x20>(low, high), _mm256_permute2f128_ps::<0x31>(low, high))
    }
}

/// Sums of four vectors in two parts each, four lanes apart.
#[inline(always)]
unsafe fn reduce_four(x: &[[__m256; 2]]) -> __m256 {
    unsafe {
        let ab = _mm256_hadd_ps(_mm256_add_ps(x[0][0], x[0][1]), _mm256_add_ps(x[1][0], x[1][1]));
        let cd = _mm256_hadd_ps(_mm256_add_ps(x[2][0], x[2][1]), _mm256_add_ps(x[3][0], x[3][1]));
        _mm256_hadd_ps(ab, cd)
    }
}

/// All bits of the first `n` lanes.
#[inline(always)]
unsafe fn masks(n: usize) -> (__m256i, __m256i) {
    unsafe {
        let n = _mm256_set1_epi32(n as i32);
        let low = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        let high = _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15);
        (_mm256_cmpgt_epi32(n, low), _mm256_cmpgt_epi32(n, high))
    }
}
