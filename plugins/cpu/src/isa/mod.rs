//! What the kernels are written in: sixteen lanes, and the sets of instructions that have them.
//!
//! Every kernel is written once, over [`Isa`]; [`crate::kernel`] makes one of it for each set of instructions. The lanes
//! are the sixteen rows of a panel of weights (`crate::formats`), or sixteen neighbours of a row. [`Portable`] says
//! what each function means and is what the others are tested against; on integers all agree bit for bit, on floats up
//! to the order of a sum inside [`Isa::reduce_add`] and whether a product is rounded before it is added.
//!
//! No closure may call these functions where speed matters: a closure is compiled without the caller's instructions, so
//! that every instruction in it is a call until the closure is inlined, and a closure of many calls never is.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
#[cfg(test)]
mod tests;

use std::fmt;

use half::bf16;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::{Avx512, Avx512Bf16};
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::{Neon, NeonI8mm};
pub(crate) use portable::Portable;

/// Lanes of a vector, rows of a panel.
pub(crate) const LANES: usize = 16;

/// Asks for the line of the cache at `p`, which may be any address, before it is read.
#[inline(always)]
#[cfg_attr(not(target_arch = "x86_64"), expect(unused_variables, reason = "no intrinsic is stable elsewhere"))]
pub(crate) fn prefetch(p: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch of any address does nothing else.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(p.cast());
    }
}

/// Sixteen lanes of f32 or i32, or of four codes each.
///
/// # Safety
/// All functions: the processor has the set of instructions, and pointers point to as many bytes as are read or written,
/// at any alignment.
pub(crate) trait Isa: Copy + Send + Sync + 'static {
    /// Sixteen f32.
    type F: Copy;
    /// Sixteen i32.
    type I: Copy;
    /// Sixty-four bytes: four codes a lane.
    type Q: Copy;

    /// The most tokens that a kernel takes at once: as many as there are registers for.
    const TILE: usize;

    unsafe fn splat(x: f32) -> Self::F;
    unsafe fn load(p: *const f32) -> Self::F;
    unsafe fn store(p: *mut f32, x: Self::F);
    unsafe fn add(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn sub(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn div(a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`.
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// The larger; `b` where one of them is NaN.
    unsafe fn max(a: Self::F, b: Self::F) -> Self::F;
    /// The smaller; `b` where one of them is NaN.
    unsafe fn min(a: Self::F, b: Self::F) -> Self::F;
    /// To the nearest whole number, halves to even.
    unsafe fn round(x: Self::F) -> Self::F;
    /// `x * 2^n` for whole `n` from -252 to 254, rounded once where the result is subnormal.
    unsafe fn scale(x: Self::F, n: Self::F) -> Self::F;
    unsafe fn reduce_add(x: Self::F) -> f32;
    /// The largest lane; not for NaN.
    unsafe fn reduce_max(x: Self::F) -> f32;

    /// Sixteen f16 as f32.
    unsafe fn load_f16(p: *const u16) -> Self::F;
    /// Sixteen bf16 as f32.
    unsafe fn load_bf16(p: *const u16) -> Self::F;
    /// Sixteen unsigned bytes as f32.
    unsafe fn load_u8(p: *const u8) -> Self::F;
    /// Sixteen signed bytes as f32.
    unsafe fn load_i8(p: *const i8) -> Self::F;
    /// Of sixteen pairs of bf16, the first of each pair as f32.
    unsafe fn pair_low(pairs: Self::Q) -> Self::F;
    /// The second of each pair.
    unsafe fn pair_high(pairs: Self::Q) -> Self::F;

    /// Of sixteen pairs of bf16, each pair's product with the pair `x`, added to `acc`.
    #[inline(always)]
    unsafe fn dot2(acc: Self::F, w: Self::Q, x: u32) -> Self::F {
        // SAFETY: by contract.
        unsafe {
            let (low, high) = (f32::from_bits(x << 16), f32::from_bits(x & 0xffff_0000));
            let acc = Self::fma(Self::pair_low(w), Self::splat(low), acc);
            Self::fma(Self::pair_high(w), Self::splat(high), acc)
        }
    }

    unsafe fn splat_i32(x: i32) -> Self::I;
    unsafe fn sub_i32(a: Self::I, b: Self::I) -> Self::I;
    unsafe fn shl_i32<const N: u32>(x: Self::I) -> Self::I;
    unsafe fn to_f32(x: Self::I) -> Self::F;
    /// Lane by lane, the four unsigned codes times the four signed bytes of `x` (from the lowest), added to `acc`.
    unsafe fn dot4(acc: Self::I, codes: Self::Q, x: i32) -> Self::I;

    /// [`Isa::dot4`] for codes up to 127.
    #[inline(always)]
    unsafe fn dot4_low(acc: Self::I, codes: Self::Q, x: i32) -> Self::I {
        // SAFETY: by contract.
        unsafe { Self::dot4(acc, codes, x) }
    }

    unsafe fn load_q(p: *const u8) -> Self::Q;
    unsafe fn and_q(a: Self::Q, mask: u8) -> Self::Q;
    unsafe fn or_q(a: Self::Q, b: Self::Q) -> Self::Q;
    /// Shifts 16 bits at a time: bits of the neighbouring byte come in, and are masked off by the caller.
    unsafe fn shr_q<const N: u32>(a: Self::Q) -> Self::Q;
    /// As [`Isa::shr_q`], to the left.
    unsafe fn shl_q<const N: u32>(a: Self::Q) -> Self::Q;

    /// Lane `i` is the sum of the lanes of `x[i]`.
    #[inline(always)]
    unsafe fn reduce_add_each(x: [Self::F; LANES]) -> Self::F {
        // SAFETY: by contract; the array has sixteen elements.
        unsafe {
            let mut sums = [0.0f32; LANES];
            for (sum, x) in sums.iter_mut().zip(x) {
                *sum = Self::reduce_add(x);
            }
            Self::load(sums.as_ptr())
        }
    }

    /// Lane `i` of the result `j` is lane `j` of `x[i]`.
    #[inline(always)]
    unsafe fn transpose(x: [Self::F; LANES]) -> [Self::F; LANES] {
        // SAFETY: by contract; the arrays have sixteen elements.
        unsafe {
            let mut rows = [[0.0f32; LANES]; LANES];
            for (row, x) in rows.iter_mut().zip(x) {
                Self::store(row.as_mut_ptr(), x);
            }
            let mut turned = [[0.0f32; LANES]; LANES];
            for (i, row) in rows.iter().enumerate() {
                for (column, value) in turned.iter_mut().zip(row) {
                    column[i] = *value;
                }
            }
            let mut y = x;
            for (y, row) in y.iter_mut().zip(&turned) {
                *y = Self::load(row.as_ptr());
            }
            y
        }
    }

    /// Lane by lane the two numbers rounded to bf16 (to the nearest, halves to even), as the bits of a pair.
    #[inline(always)]
    unsafe fn bf16_pairs(first: Self::F, second: Self::F) -> Self::F {
        // SAFETY: by contract; the arrays have sixteen elements.
        unsafe {
            let mut both = [[0.0f32; LANES]; 2];
            Self::store(both[0].as_mut_ptr(), first);
            Self::store(both[1].as_mut_ptr(), second);
            let bits = |x: f32| u32::from(bf16::from_f32(x).to_bits());
            let [first, second] = &mut both;
            for (a, b) in first.iter_mut().zip(second) {
                *a = f32::from_bits(bits(*a) | bits(*b) << 16);
            }
            Self::load(both[0].as_ptr())
        }
    }

    /// 32 f16 rounded to as many bf16.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn load_f16_as_bf16(p: *const u8) -> Self::Q {
        // SAFETY: by contract; the array has 64 bytes.
        unsafe {
            let mut halves = p.cast::<[u16; 2 * LANES]>().read_unaligned();
            for x in &mut halves {
                *x = bf16::from_f32(half::f16::from_bits(*x).to_f32()).to_bits();
            }
            Self::load_q(halves.as_ptr().cast())
        }
    }

    /// The first `n` of sixteen f32, zeros after them.
    #[inline(always)]
    unsafe fn load_some(p: *const f32, n: usize) -> Self::F {
        // SAFETY: by contract `n` elements are there; the array has sixteen.
        unsafe {
            if n == LANES {
                return Self::load(p);
            }
            let mut all = [0.0f32; LANES];
            std::ptr::copy_nonoverlapping(p.cast::<u8>(), all.as_mut_ptr().cast::<u8>(), n * size_of::<f32>());
            Self::load(all.as_ptr())
        }
    }

    /// Stores the first `n` of sixteen f32.
    #[inline(always)]
    unsafe fn store_some(p: *mut f32, n: usize, x: Self::F) {
        // SAFETY: by contract there is room for `n` elements; the array has sixteen.
        unsafe {
            if n == LANES {
                return Self::store(p, x);
            }
            let mut all = [0.0f32; LANES];
            Self::store(all.as_mut_ptr(), x);
            std::ptr::copy_nonoverlapping(all.as_ptr().cast::<u8>(), p.cast::<u8>(), n * size_of::<f32>());
        }
    }

    /// `e^x` within 2 units in the last place; 0 far below and infinity far above, NaN for NaN.
    #[inline(always)]
    unsafe fn exp(x: Self::F) -> Self::F {
        // x = n ln 2 + r with |r| <= ln 2 / 2; e^r by its Taylor series to the seventh power, whose rest is below 2^-27.
        // ln 2 is taken in two parts, so that n times the first is exact (Cody and Waite 1980).
        // SAFETY: by contract.
        unsafe {
            let x = Self::min(Self::splat(90.0), Self::max(Self::splat(-106.0), x));
            let n = Self::round(Self::mul(x, Self::splat(std::f32::consts::LOG2_E)));
            let r = Self::fma(n, Self::splat(-0.693_359_4), x);
            let r = Self::fma(n, Self::splat(2.121_944_4e-4), r);
            let mut y = Self::splat(1.0 / 5040.0);
            for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
                y = Self::fma(y, r, Self::splat(c));
            }
            Self::scale(y, n)
        }
    }

    /// `x / (1 + e^-x)`.
    #[inline(always)]
    unsafe fn silu(x: Self::F) -> Self::F {
        // SAFETY: by contract.
        unsafe {
            let e = Self::exp(Self::sub(Self::splat(0.0), x));
            Self::div(x, Self::add(Self::splat(1.0), e))
        }
    }
}

/// A set of instructions, by the name that the option `isa` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IsaName {
    /// AVX-512 with VNNI and BF16 (Zen 4, Cooper Lake, Sapphire Rapids and later).
    Avx512Bf16,
    /// AVX-512 with VNNI (Ice Lake and later).
    Avx512,
    /// AVX2, FMA and F16C (Haswell, Zen and later).
    Avx2,
    /// NEON with dot products and the 8-bit matrix extension (ARMv8.6 and later).
    NeonI8mm,
    /// NEON with dot products (ARMv8.2 and later).
    Neon,
    /// Any processor.
    Portable,
}

impl IsaName {
    /// All, the fastest first.
    pub(crate) const ALL: [IsaName; 6] =
        [IsaName::Avx512Bf16, IsaName::Avx512, IsaName::Avx2, IsaName::NeonI8mm, IsaName::Neon, IsaName::Portable];

    pub(crate) fn name(self) -> &'static str {
        match self {
            IsaName::Avx512Bf16 => "avx512-bf16",
            IsaName::Avx512 => "avx512",
            IsaName::Avx2 => "avx2",
            IsaName::NeonI8mm => "neon-i8mm",
            IsaName::Neon => "neon",
            IsaName::Portable => "portable",
        }
    }

    /// Whether this processor has it.
    pub(crate) fn is_here(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            let avx2 = || has!("avx2") && has!("fma") && has!("f16c");
            let avx512 = || {
                avx2()
                    && has!("avx512f")
                    && has!("avx512bw")
                    && has!("avx512dq")
                    && has!("avx512vl")
                    && has!("avx512vnni")
            };
            match self {
                IsaName::Avx512Bf16 => avx512() && has!("avx512bf16"),
                IsaName::Avx512 => avx512(),
                IsaName::Avx2 => avx2(),
                IsaName::NeonI8mm | IsaName::Neon => false,
                IsaName::Portable => true,
            }
        }
        #[cfg(target_arch = "aarch64")]
        {
            use std::arch::is_aarch64_feature_detected as has;
            match self {
                IsaName::NeonI8mm => has!("neon") && has!("dotprod") && has!("fp16") && has!("i8mm"),
                IsaName::Neon => has!("neon") && has!("dotprod") && has!("fp16"),
                IsaName::Portable => true,
                _ => false,
            }
        }
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        {
            self == IsaName::Portable
        }
    }

    /// The fastest that this processor has.
    pub(crate) fn best() -> IsaName {
        IsaName::ALL.into_iter().find(|isa| isa.is_here()).unwrap_or(IsaName::Portable)
    }
}

impl fmt::Display for IsaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Runs `$body` with `$i` from 0 to `$n` (at most sixteen), written out, so that arrays indexed by `$i` live in registers.
macro_rules! unroll {
    ($i:ident < $n:expr => $body:block) => {
        $crate::isa::unroll!(@ $i $n, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    (@ $i:ident $n:expr, $body:block, $($at:literal)*) => {
        $(if $at < $n { let $i: usize = $at; $body })*
    };
}
pub(crate) use unroll;
