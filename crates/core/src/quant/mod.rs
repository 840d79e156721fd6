//! Dequantization: the bytes of a tensor, as they lie in a checkpoint, to `f32`.
//!
//! One format is one file; each gives the bit layout of its block and one function that turns whole blocks into
//! floats. The values are those of the `gguf` Python package (its `quants.py`), bit for bit: the same `f32`
//! operations in the same order, nothing fused. Layouts are those of ggml (`ggml-common.h`), which defined them.
//!
//! [`dequantize`] checks its arguments; [`row_dequantizer`] gives the bare function for a loop over rows.
//!
//! ```
//! use camelid_core::{DType, quant::dequantize};
//! let mut out = [0.0; 2];
//! dequantize(DType::BF16, &[0x80, 0x3f, 0x00, 0xc0], &mut out).unwrap();
//! assert_eq!(out, [1.0, -2.0]);
//! ```

use thiserror::Error;

use crate::DType;

mod bf16;
mod f16;
mod f32;
mod k_scales;
mod q2_k;
mod q3_k;
mod q4_0;
mod q4_1;
mod q4_k;
mod q5_0;
mod q5_1;
mod q5_k;
mod q6_k;
mod q8_0;

pub use f16::f16_to_f32;

/// Turns the whole blocks of a row into floats: as many as both slices hold, whatever is left over is not touched.
pub type RowDequantizer = fn(&[u8], &mut [f32]);

/// Why bytes could not be dequantized.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum QuantError {
    /// The type has no floating-point reading known here.
    #[error(
        "cannot dequantize {dtype}; the types that can be are {}. Convert the tensor to one of them",
        known_names()
    )]
    UnsupportedType {
        /// The type asked for.
        dtype: DType,
    },
    /// The number of elements is no whole number of blocks.
    #[error("{elems} elements are no whole number of {dtype} blocks of {} elements", .dtype.block_elems())]
    PartialBlock {
        /// The type of the blocks.
        dtype: DType,
        /// Elements asked for.
        elems: usize,
    },
    /// The bytes given are not the bytes that many elements take.
    #[error("{elems} elements of {dtype} take {expected} bytes, but {found} were given")]
    WrongLength {
        /// The type of the blocks.
        dtype: DType,
        /// Elements asked for.
        elems: usize,
        /// Bytes they take.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
}

fn known_names() -> String {
    let names: Vec<_> =
        DType::ALL.iter().filter(|d| row_dequantizer(**d).is_some()).filter_map(|d| d.known_name()).collect();
    names.join(", ")
}

/// The function that dequantizes rows of `dtype`, or `None` for integers and vendors' own types.
///
/// It checks nothing, so that a loop over the rows of a matrix pays for the choice once: give it slices of matching
/// length, whole blocks of both.
pub fn row_dequantizer(dtype: DType) -> Option<RowDequantizer> {
    Some(match dtype {
        DType::F32 => f32::dequantize,
        DType::F16 => f16::dequantize,
        DType::BF16 => bf16::dequantize,
        DType::Q4_0 => q4_0::dequantize,
        DType::Q4_1 => q4_1::dequantize,
        DType::Q5_0 => q5_0::dequantize,
        DType::Q5_1 => q5_1::dequantize,
        DType::Q8_0 => q8_0::dequantize,
        DType::Q2_K => q2_k::dequantize,
        DType::Q3_K => q3_k::dequantize,
        DType::Q4_K => q4_k::dequantize,
        DType::Q5_K => q5_k::dequantize,
        DType::Q6_K => q6_k::dequantize,
        _ => return None,
    })
}

/// Dequantizes one row without checking the lengths (see [`RowDequantizer`]).
///
/// # Errors
/// [`QuantError::UnsupportedType`] if `dtype` has no floating-point reading.
pub fn dequantize_row(dtype: DType, bytes: &[u8], out: &mut [f32]) -> Result<(), QuantError> {
    debug_assert_eq!(dtype.row_bytes(out.len()), Some(bytes.len()), "{dtype}: {} elements", out.len());
    row_dequantizer(dtype).ok_or(QuantError::UnsupportedType { dtype })?(bytes, out);
    Ok(())
}

/// Dequantizes `out.len()` elements of `dtype` from `bytes`.
///
/// # Errors
/// If `dtype` has no floating-point reading, `out` is no whole number of blocks, or `bytes` is not exactly as long as
/// that many elements take.
pub fn dequantize(dtype: DType, bytes: &[u8], out: &mut [f32]) -> Result<(), QuantError> {
    let rows = row_dequantizer(dtype).ok_or(QuantError::UnsupportedType { dtype })?;
    let elems = out.len();
    let expected = dtype.row_bytes(elems).ok_or(QuantError::PartialBlock { dtype, elems })?;
    if bytes.len() != expected {
        return Err(QuantError::WrongLength { dtype, elems, expected, found: bytes.len() });
    }
    rows(bytes, out);
    Ok(())
}

/// Calls `block` for every pair of a block of `B` bytes and its `E` elements.
///
/// Arrays instead of slices let the compiler unroll a block and drop its bounds checks.
#[inline(always)]
fn for_each_block<const B: usize, const E: usize>(
    bytes: &[u8],
    out: &mut [f32],
    block: impl Fn(&[u8; B], &mut [f32; E]),
) {
    let (blocks, _) = bytes.as_chunks::<B>();
    let (outs, _) = out.as_chunks_mut::<E>();
    for (bytes, out) in blocks.iter().zip(outs) {
        block(bytes, out);
    }
}

/// The `N` bytes of a block from `at` on. `at` and `N` are constants of a layout: a wrong one fails every test.
#[inline(always)]
fn part<const N: usize>(block: &[u8], at: usize) -> &[u8; N] {
    block[at..].first_chunk().expect("the layout lies inside its block")
}

/// The f16 at byte `at` of a block.
#[inline(always)]
fn f16_at(block: &[u8], at: usize) -> f32 {
    f16_to_f32(u16::from_le_bytes(*part(block, at)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_float_type_of_the_project_can_be_dequantized_and_no_other() {
        for dtype in DType::ALL {
            assert_eq!(row_dequantizer(*dtype).is_some(), dtype.is_float(), "{dtype}");
        }
        let vendor = DType::vendor(crate::dtype::VENDOR_ID_START, 32, 18).unwrap();
        let error = dequantize(vendor, &[0; 18], &mut [0.0; 32]).unwrap_err();
        assert_eq!(error, QuantError::UnsupportedType { dtype: vendor });
        assert!(error.to_string().contains("q4_0"), "names what is supported: {error}");
        assert!(dequantize_row(DType::I32, &[0; 4], &mut [0.0; 1]).is_err());
    }

    #[test]
    fn lengths_that_do_not_fit_are_errors_that_give_both() {
        let mut out = [0.0; 64];
        assert_eq!(
            dequantize(DType::Q4_0, &[0; 18], &mut out[..33]),
            Err(QuantError::PartialBlock { dtype: DType::Q4_0, elems: 33 })
        );
        for found in [0, 18, 35, 37, 54] {
            assert_eq!(
                dequantize(DType::Q4_0, &vec![0; found], &mut out),
                Err(QuantError::WrongLength { dtype: DType::Q4_0, elems: 64, expected: 36, found })
            );
        }
        assert_eq!(dequantize(DType::Q4_0, &[], &mut []), Ok(()));
    }

    #[test]
    fn a_row_function_stays_inside_slices_that_do_not_match() {
        for dtype in DType::ALL.iter().filter(|d| d.is_float()) {
            let row = row_dequantizer(*dtype).unwrap();
            let mut out = vec![7.0; 3 * dtype.block_elems() - 1];
            row(&vec![0; 2 * dtype.block_bytes() + 1], &mut out);
            assert!(out[2 * dtype.block_elems()..].iter().all(|v| *v == 7.0), "{dtype} wrote past two blocks");
            row(&vec![0; 5 * dtype.block_bytes()], &mut out);
        }
    }

    #[test]
    fn blocks_are_independent() {
        // Each block alone gives what it gives in a row: no state is carried from one to the next.
        for dtype in DType::ALL.iter().filter(|d| d.is_float()) {
            let (elems, size) = (dtype.block_elems(), dtype.block_bytes());
            // A multiplicative generator; exponents are kept small so that every scale is finite.
            let mut state = 12345u32;
            let bytes: Vec<u8> = (0..4 * size)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 24) as u8 & 0x3f
                })
                .collect();
            let mut row = vec![0.0; 4 * elems];
            dequantize(*dtype, &bytes, &mut row).unwrap();
            for (i, block) in bytes.chunks_exact(size).enumerate() {
                let mut alone = vec![0.0; elems];
                dequantize(*dtype, block, &mut alone).unwrap();
                assert_eq!(alone, row[i * elems..(i + 1) * elems], "{dtype} block {i}");
            }
        }
    }
}
