//! Weights as the kernels read them: panels of sixteen rows.
//!
//! A panel holds sixteen rows of a matrix `[N, K]`, step by step along `K`. In every step the rows lie side by side, so that
//! a vector has one lane a row and no sum ever crosses lanes. The codes of a block format keep the bytes of their file:
//! groups of four of them go where the kernel wants them, `[groups][16 rows][4]`, and scales gather at the front. A panel
//! takes as many bytes as its rows do in the file (k-quants a little more: their 6-bit scales become bytes), rows that
//! the matrix does not have are zeros, and [`Format::take`] gives every row back bit for bit.
//!
//! One format = one file: the layout, how it is packed and unpacked, and the kernel's step.

mod float;
mod k_scales;
mod legacy;
mod q4_k;
mod q5_k;
mod q6_k;
#[cfg(test)]
mod tests;

#[cfg(target_arch = "x86_64")]
pub(crate) use float::{Bf16, F16AsBf16};
pub(crate) use float::{Bf16AsF32, F16, F32};
pub(crate) use legacy::{Q4_0, Q4_1, Q5_0, Q5_1, Q8_0};
pub(crate) use q4_k::Q4K;
pub(crate) use q5_k::Q5K;
pub(crate) use q6_k::Q6K;

use crate::activations::Input;
use crate::isa::{Isa, LANES};

/// How weights of one type lie in panels, and how a step along `K` is computed.
pub(crate) trait Format: 'static {
    /// Elements of `K` that a step takes.
    const STEP: usize;
    /// Bytes of a step of one row in the file; for types without blocks of `STEP` elements.
    const ROW_BYTES: usize;
    /// Bytes of a step of a panel.
    const PANEL_BYTES: usize;
    /// What activations the kernel reads.
    const INPUT: Input;

    /// Puts a step of row `r` where it belongs in a step of a panel. `row` may be shorter than a step where `K` ends; the
    /// panel was zero before.
    fn put(row: &[u8], r: usize, panel: &mut [u8]);

    /// The inverse of [`Format::put`].
    fn take(panel: &[u8], r: usize, row: &mut [u8]);

    /// Adds one step's products of sixteen rows with `M` tokens to `acc`.
    ///
    /// # Safety
    /// As [`Isa`]; `panel` points to a step of a panel, `x` to the step's activations of `M` tokens ([`Input`]).
    unsafe fn step<I: Isa, const M: usize>(panel: *const u8, x: *const u8, acc: &mut [I::F; M]);
}

/// Copies `row`, in groups of `N` bytes, to lane `r` of as many vectors.
#[inline(always)]
fn spread<const N: usize>(row: &[u8], r: usize, panel: &mut [u8]) {
    for (group, to) in row.chunks_exact(N).zip(panel.chunks_exact_mut(N * LANES)) {
        to[r * N..(r + 1) * N].copy_from_slice(group);
    }
}

/// The inverse of [`spread`].
#[inline(always)]
fn gather<const N: usize>(panel: &[u8], r: usize, row: &mut [u8]) {
    for (group, from) in row.chunks_exact_mut(N).zip(panel.chunks_exact(N * LANES)) {
        group.copy_from_slice(&from[r * N..(r + 1) * N]);
    }
}
