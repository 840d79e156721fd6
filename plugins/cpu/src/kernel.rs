//! Which functions compute: every kernel, made for every set of instructions.
//!
//! A kernel is generic over [`Isa`]; a processor runs what was compiled for its instructions, which is picked at run time:
//! products of weights by a table of functions ([`Kernel`]), everything else by [`on`].

use camelid_core::DType;

use crate::activations::Input;
#[cfg(target_arch = "x86_64")]
use crate::formats::{Bf16, F16AsBf16};
use crate::formats::{Bf16AsF32, F16, F32, Format, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0};
#[cfg(target_arch = "x86_64")]
use crate::isa::{Avx2, Avx512, Avx512Bf16};
use crate::isa::{Isa, IsaName, LANES, Portable};
#[cfg(target_arch = "aarch64")]
use crate::isa::{Neon, NeonI8mm};

/// Work that is written over [`Isa`]: its fields are what it works on.
pub(crate) trait Task {
    /// What comes of it.
    type Output;

    /// Does the work. Must be `#[inline(always)]`, or it is not compiled for the instructions.
    ///
    /// # Safety
    /// As [`Isa`], and what the task says of its fields.
    unsafe fn run<I: Isa>(self) -> Self::Output;
}

/// Does `task` on these instructions.
///
/// # Safety
/// The processor has them ([`IsaName::is_here`]); what the task says.
#[inline]
pub(crate) unsafe fn on<T: Task>(isa: IsaName, task: T) -> T::Output {
    macro_rules! with {
        ($isa:ident, $features:literal) => {{
            #[target_feature(enable = $features)]
            unsafe fn run<T: Task>(task: T) -> T::Output {
                // SAFETY: by the caller's word.
                unsafe { task.run::<$isa>() }
            }
            // SAFETY: by the caller's word.
            unsafe { run(task) }
        }};
    }
    match isa {
        #[cfg(target_arch = "x86_64")]
        // No task multiplies bf16.
        IsaName::Avx512 | IsaName::Avx512Bf16 => {
            with!(Avx512, "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")
        }
        #[cfg(target_arch = "x86_64")]
        IsaName::Avx2 => with!(Avx2, "avx2,fma,f16c"),
        #[cfg(target_arch = "aarch64")]
        IsaName::NeonI8mm => with!(NeonI8mm, "neon,dotprod,fp16,i8mm"),
        #[cfg(target_arch = "aarch64")]
        IsaName::Neon => with!(Neon, "neon,dotprod,fp16"),
        // SAFETY: any processor can.
        _ => unsafe { task.run::<Portable>() },
    }
}

/// Computes a panel of sixteen rows times a tile of tokens: `panel`, `steps` along `K`, the tile's activations, and
/// `[tokens][16]` results. Of activations in 8 bits it says whether all results are finite; of others always `true`.
pub(crate) type TileFn = unsafe fn(panel: *const u8, steps: usize, x: *const u8, y: *mut f32) -> bool;

/// Which kernels a device uses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kernels {
    pub isa: IsaName,
    /// Whether f16 weights and their activations are rounded to bf16 where the instructions multiply that.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "nothing else multiplies bf16"))]
    pub f16_as_bf16: bool,
}

impl Kernels {
    /// [`Kernel::of`], or where it is asked for the one that rounds f16 to bf16.
    pub(crate) fn of(self, dtype: DType) -> Option<Kernel> {
        #[cfg(target_arch = "x86_64")]
        if self.f16_as_bf16 && dtype == DType::F16 && self.isa == IsaName::Avx512Bf16 {
            return Some(Kernel { tiles: x86::avx512_bf16::<F16AsBf16>(), ..kernel::<F16AsBf16>(dtype, self.isa) });
        }
        Kernel::of(dtype, self.isa)
    }
}

/// How weights of one type are packed and computed on one set of instructions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kernel {
    /// The type of the weights.
    pub dtype: DType,
    /// What activations it reads.
    pub input: Input,
    /// Elements of `K` a step takes.
    pub step: usize,
    /// Bytes of a step of a row in the file.
    pub row_bytes: usize,
    /// Bytes of a step of a panel.
    pub panel_bytes: usize,
    /// [`Format::put`].
    pub put: fn(&[u8], usize, &mut [u8]),
    /// [`Format::take`].
    pub take: fn(&[u8], usize, &mut [u8]),
    /// The most tokens of a tile.
    pub tile: usize,
    /// For 1, 2, 4, 8 and 16 tokens, as far as a tile goes.
    pub tiles: [TileFn; 5],
}

impl Kernel {
    /// The types that have panels of their own.
    pub(crate) const TYPES: [DType; 11] = [
        DType::F32,
        DType::F16,
        DType::BF16,
        DType::Q4_0,
        DType::Q4_1,
        DType::Q5_0,
        DType::Q5_1,
        DType::Q8_0,
        DType::Q4_K,
        DType::Q5_K,
        DType::Q6_K,
    ];

    /// The kernel for weights of this type, or `None` if they have no panels of their own: they are dequantized.
    pub(crate) fn of(dtype: DType, isa: IsaName) -> Option<Kernel> {
        Some(match dtype {
            DType::F32 => kernel::<F32>(dtype, isa),
            DType::F16 => kernel::<F16>(dtype, isa),
            #[cfg(target_arch = "x86_64")]
            DType::BF16 if isa == IsaName::Avx512Bf16 => {
                // The panels are the same, the activations are not.
                Kernel { input: Bf16::INPUT, tiles: x86::avx512_bf16::<Bf16>(), ..kernel::<Bf16AsF32>(dtype, isa) }
            }
            DType::BF16 => kernel::<Bf16AsF32>(dtype, isa),
            DType::Q4_0 => kernel::<Q4_0>(dtype, isa),
            DType::Q4_1 => kernel::<Q4_1>(dtype, isa),
            DType::Q5_0 => kernel::<Q5_0>(dtype, isa),
            DType::Q5_1 => kernel::<Q5_1>(dtype, isa),
            DType::Q8_0 => kernel::<Q8_0>(dtype, isa),
            DType::Q4_K => kernel::<Q4K>(dtype, isa),
            DType::Q5_K => kernel::<Q5K>(dtype, isa),
            DType::Q6_K => kernel::<Q6K>(dtype, isa),
            _ => return None,
        })
    }

    /// Bytes of a panel of rows of `k` elements, or `None` if that overflows.
    pub(crate) fn panel_len(&self, k: usize) -> Option<usize> {
        self.steps(k).checked_mul(self.panel_bytes)
    }

    /// Steps along rows of `k` elements.
    pub(crate) fn steps(&self, k: usize) -> usize {
        k.div_ceil(self.step)
    }

    /// Bytes of a row of `k` elements in the file.
    pub(crate) fn file_row_bytes(&self, k: usize) -> usize {
        // Only types whose step is longer than a block have rows that end inside a step.
        if k.is_multiple_of(self.step) { k / self.step * self.row_bytes } else { k * self.row_bytes / self.step }
    }

    /// Packs `rows` (up to sixteen, each as it lies in the file, one after the other) into `panel`, which is zero.
    pub(crate) fn pack(&self, rows: &[u8], k: usize, panel: &mut [u8]) {
        for (r, row) in rows.chunks_exact(self.file_row_bytes(k).max(1)).enumerate() {
            for (from, to) in row.chunks(self.row_bytes).zip(panel.chunks_exact_mut(self.panel_bytes)) {
                (self.put)(from, r, to);
            }
        }
    }

    /// Gives row `r` of a panel back as it lay in the file.
    pub(crate) fn unpack(&self, panel: &[u8], r: usize, row: &mut [u8]) {
        for (to, from) in row.chunks_mut(self.row_bytes).zip(panel.chunks_exact(self.panel_bytes)) {
            (self.take)(from, r, to);
        }
    }
}

fn kernel<F: Format>(dtype: DType, isa: IsaName) -> Kernel {
    let (tile, tiles) = match isa {
        #[cfg(target_arch = "x86_64")]
        IsaName::Avx512 | IsaName::Avx512Bf16 => (Avx512::TILE, x86::avx512::<F>()),
        #[cfg(target_arch = "x86_64")]
        IsaName::Avx2 => (Avx2::TILE, x86::avx2::<F>()),
        #[cfg(target_arch = "aarch64")]
        IsaName::NeonI8mm => (NeonI8mm::TILE, arm::neon_i8mm::<F>()),
        #[cfg(target_arch = "aarch64")]
        IsaName::Neon => (Neon::TILE, arm::neon::<F>()),
        _ => (Portable::TILE, portable::<F>()),
    };
    Kernel {
        dtype,
        input: F::INPUT,
        step: F::STEP,
        row_bytes: F::ROW_BYTES,
        panel_bytes: F::PANEL_BYTES,
        put: F::put,
        take: F::take,
        tile,
        tiles,
    }
}

/// A panel times a tile of `M` tokens.
///
/// # Safety
/// As [`Isa`]; `steps` steps of a panel and of `M` tokens' activations are there, and room for `[M][16]` results.
#[inline(always)]
unsafe fn tile<I: Isa, F: Format, const M: usize>(
    mut panel: *const u8,
    steps: usize,
    mut x: *const u8,
    y: *mut f32,
) -> bool {
    // SAFETY: by contract.
    unsafe {
        let mut acc = [I::splat(0.0); M];
        let x_step = F::STEP / F::INPUT.step() * F::INPUT.step_bytes() * M;
        for _ in 0..steps {
            F::step::<I, M>(panel, x, &mut acc);
            panel = panel.add(F::PANEL_BYTES);
            x = x.add(x_step);
        }
        // Zero times infinity or NaN is NaN.
        let mut nothing = I::splat(0.0);
        for (t, acc) in acc.into_iter().enumerate() {
            I::store(y.add(t * LANES), acc);
            nothing = I::fma(acc, I::splat(0.0), nothing);
        }
        F::INPUT != Input::Q8 || I::reduce_add(nothing) == 0.0
    }
}

fn portable<F: Format>() -> [TileFn; 5] {
    let two: TileFn = tile::<Portable, F, 2>;
    [tile::<Portable, F, 1>, two, two, two, two]
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::*;

    pub(super) fn avx512_bf16<F: Format>() -> [TileFn; 5] {
        #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")]
        unsafe fn run<F: Format, const M: usize>(panel: *const u8, steps: usize, x: *const u8, y: *mut f32) -> bool {
            // SAFETY: by the caller's word.
            unsafe { tile::<Avx512Bf16, F, M>(panel, steps, x, y) }
        }
        [run::<F, 1>, run::<F, 2>, run::<F, 4>, run::<F, 8>, run::<F, 16>]
    }

    pub(super) fn avx512<F: Format>() -> [TileFn; 5] {
        #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
        unsafe fn run<F: Format, const M: usize>(panel: *const u8, steps: usize, x: *const u8, y: *mut f32) -> bool {
            // SAFETY: by the caller's word.
            unsafe { tile::<Avx512, F, M>(panel, steps, x, y) }
        }
        [run::<F, 1>, run::<F, 2>, run::<F, 4>, run::<F, 8>, run::<F, 16>]
    }

    pub(super) fn avx2<F: Format>() -> [TileFn; 5] {
        #[target_feature(enable = "avx2,fma,f16c")]
        unsafe fn run<F: Format, const M: usize>(panel: *const u8, steps: usize, x: *const u8, y: *mut f32) -> bool {
            // SAFETY: by the caller's word.
            unsafe { tile::<Avx2, F, M>(panel, steps, x, y) }
        }
        [run::<F, 1>, run::<F, 2>, run::<F, 4>, run::<F, 4>, run::<F, 4>]
    }
}

#[cfg(target_arch = "aarch64")]
mod arm {
    use super::*;

    pub(super) fn neon_i8mm<F: Format>() -> [TileFn; 5] {
        #[target_feature(enable = "neon,dotprod,fp16,i8mm")]
        unsafe fn run<F: Format, const M: usize>(panel: *const u8, steps: usize, x: *const u8, y: *mut f32) -> bool {
            // SAFETY: by the caller's word.
            unsafe { tile::<NeonI8mm, F, M>(panel, steps, x, y) }
        }
        [run::<F, 1>, run::<F, 2>, run::<F, 4>, run::<F, 4>, run::<F, 4>]
    }

    pub(super) fn neon<F: Format>() -> [TileFn; 5] {
        #[target_feature(enable = "neon,dotprod,fp16")]
        unsafe fn run<F: Format, const M: usize>(panel: *const u8, steps: usize, x: *const u8, y: *mut f32) -> bool {
            // SAFETY: by the caller's word.
            unsafe { tile::<Neon, F, M>(panel, steps, x, y) }
        }
        [run::<F, 1>, run::<F, 2>, run::<F, 4>, run::<F, 4>, run::<F, 4>]
    }
}
