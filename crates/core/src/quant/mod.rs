//! Between the bytes of a tensor, as they lie in a checkpoint, and `f32`.
//!
//! One format is one file; each gives the bit layout of its block and one function that turns whole blocks into
//! floats. The values are those of the `gguf` Python package (its `quants.py`), bit for bit: the same `f32`
//! operations in the same order, nothing fused. Layouts are those of ggml (`ggml-common.h`), which defined them.
//! Most files have the way back too: ggml's reference quantizer, whose blocks are the same bit for bit where it is
//! compiled without fused operations (as for x86-64 without further flags).
//!
//! [`dequantize`] and [`quantize`] check their arguments; [`row_dequantizer`] and [`row_quantizer`] give the bare
//! functions for a loop over rows.
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
mod k_search;
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

/// Turns a row of floats into whole blocks: as many as both slices hold, whatever is left over is not touched.
pub type RowQuantizer = fn(&[f32], &mut [u8]);

/// Why bytes could not be dequantized, or floats not quantized.
#[derive(Debug, Error, PartialEq)]
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
    /// Nothing is known here that makes blocks of the type.
    #[error("cannot quantize to {dtype}; the types that can be made are {}", made_names())]
    CannotMake {
        /// The type asked for.
        dtype: DType,
    },
    /// A block format shares a scale, which one infinity or NaN would spoil.
    #[error("element {at} is {value}, which {dtype} cannot hold; the weights are damaged, or need bf16 or f32")]
    NotRepresentable {
        /// The type asked for.
        dtype: DType,
        /// Which element.
        at: usize,
        /// Its value.
        value: f32,
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

fn made_names() -> String {
    let names: Vec<_> =
        DType::ALL.iter().filter(|d| row_quantizer(**d).is_some()).filter_map(|d| d.known_name()).collect();
    names.join(", ")
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

/// The function that quantizes rows to `dtype`, or `None` for integers, vendors' own types, and those that are only read.
///
/// It checks nothing, as [`row_dequantizer`].
pub fn row_quantizer(dtype: DType) -> Option<RowQuantizer> {
    Some(match dtype {
        DType::F32 => f32::quantize,
        DType::F16 => f16::quantize,
        DType::BF16 => bf16::quantize,
        DType::Q4_0 => q4_0::quantize,
        DType::Q4_1 => q4_1::quantize,
        DType::Q5_0 => q5_0::quantize,
        DType::Q5_1 => q5_1::quantize,
        DType::Q8_0 => q8_0::quantize,
        DType::Q4_K => q4_k::quantize,
        DType::Q5_K => q5_k::quantize,
        DType::Q6_K => q6_k::quantize,
        _ => return None,
    })
}

/// Quantizes all of `x` to `dtype`, into `bytes`.
///
/// ```
/// use camelid_core::{DType, quant};
/// let mut bytes = [0; 34];
/// quant::quantize(DType::Q8_0, &[1.0; 32], &mut bytes).unwrap();
/// assert!(bytes[2..].iter().all(|code| *code == 127));
/// ```
///
/// # Errors
/// If blocks of `dtype` cannot be made, `x` is no whole number of them, `bytes` is not exactly as long as they take, or
/// an element is one that the type cannot hold: infinities and NaNs in block formats, finite values that would become
/// infinite in f16.
pub fn quantize(dtype: DType, x: &[f32], bytes: &mut [u8]) -> Result<(), QuantError> {
    let rows = row_quantizer(dtype).ok_or(QuantError::CannotMake { dtype })?;
    let elems = x.len();
    let expected = dtype.row_bytes(elems).ok_or(QuantError::PartialBlock { dtype, elems })?;
    if bytes.len() != expected {
        return Err(QuantError::WrongLength { dtype, elems, expected, found: bytes.len() });
    }
    let lost = if dtype.is_block() {
        x.iter().position(|x| !x.is_finite())
    } else if dtype == DType::F16 {
        // 65520 is the least that is rounded to infinity.
        x.iter().position(|x| x.is_finite() && x.abs() >= 65520.0)
    } else {
        None
    };
    if let Some(at) = lost {
        return Err(QuantError::NotRepresentable { dtype, at, value: x[at] });
    }
    rows(x, bytes);
    Ok(())
}

/// Calls `block` for every pair of a block of `B` bytes and its `E` elements, to fill the bytes.
#[inline(always)]
fn for_each_row_block<const B: usize, const E: usize>(
    x: &[f32],
    bytes: &mut [u8],
    block: impl Fn(&[f32; E], &mut [u8; B]),
) {
    let (xs, _) = x.as_chunks::<E>();
    let (blocks, _) = bytes.as_chunks_mut::<B>();
    for (x, bytes) in xs.iter().zip(blocks) {
        block(x, bytes);
    }
}

/// The element furthest from zero, the first of several.
#[inline(always)]
fn largest(x: &[f32]) -> f32 {
    let (mut magnitude, mut largest) = (0.0, 0.0);
    for x in x {
        if x.abs() > magnitude {
            (magnitude, largest) = (x.abs(), *x);
        }
    }
    largest
}

/// The smallest and the largest element.
#[inline(always)]
fn extremes(x: &[f32]) -> (f32, f32) {
    x.iter()
        .fold((f32::MAX, f32::MIN), |(min, max), x| (if *x < min { *x } else { min }, if *x > max { *x } else { max }))
}

/// `1 / d`, or 0 for 0.
#[inline(always)]
fn reciprocal(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

/// The two bytes of the f16 nearest to `x`.
#[inline(always)]
fn f16_bytes(x: f32) -> [u8; 2] {
    half::f16::from_f32(x).to_le_bytes()
}

/// C's `(int8_t)x` as x86-64 computes it, for `x` of any size: the integer part modulo 256, and 0 for what no `int` holds
/// (the scale of a block of the tiniest numbers has an infinite inverse).
#[inline(always)]
fn c_int8(x: f32) -> i8 {
    if x.abs() < 2_147_483_648.0 { x as i32 as i8 } else { 0 }
}

/// The nearest integer, ties to even, as ggml's `nearest_int` computes it; for `x` below 2^22.
#[inline(always)]
fn nearest(x: f32) -> i32 {
    ((x + 12_582_912.0).to_bits() & 0x007f_ffff) as i32 - 0x0040_0000
}

/// Codes of five bits as `q5_0` and `q5_1` store them: the low halves of elements `i` and `16 + i` in byte `i`, and the
/// fifth bits.
#[inline(always)]
fn split_fifth(codes: [u8; 32]) -> ([u8; 16], u32) {
    let low = std::array::from_fn(|i| codes[i] & 15 | (codes[16 + i] & 15) << 4);
    let fifth = codes.iter().enumerate().fold(0, |bits, (i, code)| bits | u32::from(code >> 4 & 1) << i);
    (low, fifth)
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
    fn quantizing_what_was_dequantized_loses_nothing_in_the_formats_of_whole_grids() {
        // Blocks that use their extreme codes: then the scale found is the scale there was.
        for dtype in [DType::F32, DType::F16, DType::BF16, DType::Q8_0, DType::Q4_0, DType::Q5_0] {
            // Element i of a block, from the lowest code up.
            let (lowest, step) = match dtype {
                DType::Q4_0 => (-8, 0.5),
                DType::Q5_0 => (-16, 1.0),
                _ => (-127, 8.0),
            };
            let x: Vec<f32> = (0..64).map(|i| (lowest as f32 + ((i * 5 % 32) as f32 * step).floor()) * 0.5).collect();
            let mut bytes = vec![0; dtype.row_bytes(64).unwrap()];
            quantize(dtype, &x, &mut bytes).unwrap();
            let mut back = vec![0.0; 64];
            dequantize(dtype, &bytes, &mut back).unwrap();
            assert_eq!(back, x, "{dtype}");
        }
    }

    #[test]
    fn what_cannot_be_quantized_is_an_error_that_says_why() {
        let mut bytes = [0; 34];
        let mut x = [1.0; 32];
        x[7] = f32::NAN;
        let error = quantize(DType::Q8_0, &x, &mut bytes).unwrap_err().to_string();
        assert!(error.contains("element 7 is NaN"), "{error}");
        let error = quantize(DType::F16, &[70000.0], &mut bytes[..2]).unwrap_err().to_string();
        assert!(error.contains("element 0 is 70000") && error.contains("bf16"), "{error}");
        quantize(DType::F16, &[f32::INFINITY, 65519.0], &mut bytes[..4]).unwrap();
        assert_eq!(bytes[..4], [0x00, 0x7c, 0xff, 0x7b]);
        let error = quantize(DType::Q2_K, &[0.0; 256], &mut [0; 84]).unwrap_err().to_string();
        assert!(error.contains("cannot quantize to q2_k") && error.contains("q4_k"), "{error}");
        assert!(matches!(quantize(DType::Q4_0, &[0.0; 31], &mut bytes), Err(QuantError::PartialBlock { .. })));
        assert!(matches!(quantize(DType::Q4_0, &[0.0; 32], &mut bytes), Err(QuantError::WrongLength { .. })));
    }

    #[test]
    fn any_finite_row_can_be_quantized() {
        // Zeros, the tiniest and the largest numbers: no panic, and the row functions stay inside their slices.
        for dtype in DType::ALL.iter().filter(|d| row_quantizer(**d).is_some()) {
            for value in [0.0, -0.0, 1e-45, -1e-40, 1e-38, 3e38, f32::MAX, f32::MIN] {
                let x: Vec<f32> = (0..256).map(|i| if i % 3 == 0 { value } else { -value / 7.0 }).collect();
                let mut bytes = vec![0; dtype.row_bytes(256).unwrap()];
                row_quantizer(*dtype).unwrap()(&x, &mut bytes);
                row_quantizer(*dtype).unwrap()(&x[..255], &mut bytes[1..]);
            }
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
