//! Any processor: what every function of [`Isa`] means.

use half::{bf16, f16};

use super::{Isa, LANES};

/// Plain Rust, which the compiler may or may not turn into vectors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Portable;

#[inline(always)]
fn each<T: Copy>(f: impl FnMut(usize) -> T) -> [T; LANES] {
    std::array::from_fn(f)
}

#[inline(always)]
fn words(q: [u8; 64], f: impl Fn(u16) -> u16) -> [u8; 64] {
    let mut y = q;
    for pair in y.as_chunks_mut::<2>().0 {
        *pair = f(u16::from_le_bytes(*pair)).to_le_bytes();
    }
    y
}

// SAFETY of the whole: reads and writes are of what the caller has promised, unaligned.
impl Isa for Portable {
    type F = [f32; LANES];
    type I = [i32; LANES];
    type Q = [u8; 64];

    const TILE: usize = 2;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::F {
        [x; LANES]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self::F {
        // SAFETY: sixteen f32 are there.
        unsafe { p.cast::<Self::F>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, x: Self::F) {
        // SAFETY: there is room for sixteen f32.
        unsafe { p.cast::<Self::F>().write_unaligned(x) }
    }
    #[inline(always)]
    unsafe fn add(a: Self::F, b: Self::F) -> Self::F {
        each(|i| a[i] + b[i])
    }
    #[inline(always)]
    unsafe fn sub(a: Self::F, b: Self::F) -> Self::F {
        each(|i| a[i] - b[i])
    }
    #[inline(always)]
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F {
        each(|i| a[i] * b[i])
    }
    #[inline(always)]
    unsafe fn div(a: Self::F, b: Self::F) -> Self::F {
        each(|i| a[i] / b[i])
    }
    #[inline(always)]
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        // Rounded twice: without an instruction for it, a fused product is a call of a function.
        each(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    unsafe fn max(a: Self::F, b: Self::F) -> Self::F {
        each(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn min(a: Self::F, b: Self::F) -> Self::F {
        each(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn round(x: Self::F) -> Self::F {
        each(|i| x[i].round_ties_even())
    }
    #[inline(always)]
    unsafe fn scale(x: Self::F, n: Self::F) -> Self::F {
        // In two steps, as one power of two does not reach; the larger step last, or what is subnormal on the way is
        // rounded twice.
        let pow2 = |n: i32| f32::from_bits(((n + 127) << 23) as u32);
        each(|i| {
            let n = n[i] as i32;
            let last = n.clamp(-126, 127);
            x[i] * pow2(n - last) * pow2(last)
        })
    }
    #[inline(always)]
    unsafe fn reduce_add(x: Self::F) -> f32 {
        x.iter().sum()
    }
    #[inline(always)]
    unsafe fn reduce_max(x: Self::F) -> f32 {
        x.into_iter().fold(f32::NEG_INFINITY, f32::max)
    }

    #[inline(always)]
    unsafe fn load_f16(p: *const u16) -> Self::F {
        // SAFETY: sixteen f16 are there.
        let bits = unsafe { p.cast::<[u16; LANES]>().read_unaligned() };
        each(|i| f16::from_bits(bits[i]).to_f32())
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u16) -> Self::F {
        // SAFETY: sixteen bf16 are there.
        let bits = unsafe { p.cast::<[u16; LANES]>().read_unaligned() };
        each(|i| bf16::from_bits(bits[i]).to_f32())
    }
    #[inline(always)]
    unsafe fn load_u8(p: *const u8) -> Self::F {
        // SAFETY: sixteen bytes are there.
        let bytes = unsafe { p.cast::<[u8; LANES]>().read_unaligned() };
        each(|i| f32::from(bytes[i]))
    }
    #[inline(always)]
    unsafe fn load_i8(p: *const i8) -> Self::F {
        // SAFETY: sixteen bytes are there.
        let bytes = unsafe { p.cast::<[i8; LANES]>().read_unaligned() };
        each(|i| f32::from(bytes[i]))
    }
    #[inline(always)]
    unsafe fn pair_low(pairs: Self::Q) -> Self::F {
        each(|i| bf16::from_le_bytes([pairs[4 * i], pairs[4 * i + 1]]).to_f32())
    }
    #[inline(always)]
    unsafe fn pair_high(pairs: Self::Q) -> Self::F {
        each(|i| bf16::from_le_bytes([pairs[4 * i + 2], pairs[4 * i + 3]]).to_f32())
    }

    #[inline(always)]
    unsafe fn splat_i32(x: i32) -> Self::I {
        [x; LANES]
    }
    #[inline(always)]
    unsafe fn sub_i32(a: Self::I, b: Self::I) -> Self::I {
        each(|i| a[i].wrapping_sub(b[i]))
    }
    #[inline(always)]
    unsafe fn shl_i32<const N: u32>(x: Self::I) -> Self::I {
        each(|i| x[i] << N)
    }
    #[inline(always)]
    unsafe fn to_f32(x: Self::I) -> Self::F {
        each(|i| x[i] as f32)
    }
    #[inline(always)]
    unsafe fn dot4(acc: Self::I, codes: Self::Q, x: i32) -> Self::I {
        let x = x.to_le_bytes();
        each(|i| (0..4).fold(acc[i], |sum, j| sum + i32::from(codes[4 * i + j]) * i32::from(x[j] as i8)))
    }

    #[inline(always)]
    unsafe fn load_q(p: *const u8) -> Self::Q {
        // SAFETY: sixty-four bytes are there.
        unsafe { p.cast::<Self::Q>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn and_q(a: Self::Q, mask: u8) -> Self::Q {
        a.map(|a| a & mask)
    }
    #[inline(always)]
    unsafe fn or_q(a: Self::Q, b: Self::Q) -> Self::Q {
        std::array::from_fn(|i| a[i] | b[i])
    }
    #[inline(always)]
    unsafe fn shr_q<const N: u32>(a: Self::Q) -> Self::Q {
        words(a, |w| w >> N)
    }
    #[inline(always)]
    unsafe fn shl_q<const N: u32>(a: Self::Q) -> Self::Q {
        words(a, |w| w << N)
    }
}
