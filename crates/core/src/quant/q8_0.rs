//! `q8_0`: 32 elements in 34 bytes.
//!
//! ```text
//! byte  0..2   d       f16   scale
//! byte  2..34  codes   i8    element i in byte i
//! x = code * d
//! ```

use super::{c_int8, f16_at, f16_bytes, for_each_block, for_each_row_block, part, reciprocal};

/// `bytes [34 n] -> out [32 n]`
pub(super) fn dequantize(bytes: &[u8], out: &mut [f32]) {
    for_each_block::<34, 32>(bytes, out, |block, out| {
        let d = f16_at(block, 0);
        let codes: &[u8; 32] = part(block, 2);
        for (out, code) in out.iter_mut().zip(codes) {
            *out = i32::from(*code as i8) as f32 * d;
        }
    });
}

/// `x [32 n] -> bytes [34 n]`: the element furthest from zero gets the code 127 or -127; codes are rounded to the
/// nearest, halves away from zero.
///
/// The rule of ggml's `quantize_row_q8_0_ref`, bit for bit on finite numbers; a block with an infinity or a NaN, which
/// ggml takes for zero, reads as NaN: its scale is none.
pub(super) fn quantize(x: &[f32], bytes: &mut [u8]) {
    for_each_row_block::<34, 32>(x, bytes, |x, block| {
        let most = x.iter().fold(0.0f32, |max, x| if x.abs() > max { x.abs() } else { max });
        let d = if x.iter().any(|x| x.is_nan()) { f32::NAN } else { most / 127.0 };
        let inverse = reciprocal(d);
        block[..2].copy_from_slice(&f16_bytes(d));
        for (code, x) in block[2..].iter_mut().zip(x) {
            *code = c_int8((x * inverse).round()) as u8;
        }
    });
}

#[cfg(test)]
mod tests {
    #[test]
    fn codes_are_signed() {
        let mut block = [0; 34];
        block[..2].copy_from_slice(&half::f16::from_f32(2.0).to_le_bytes());
        block[2] = 0x80;
        block[33] = 0x7f;
        let mut out = [0.0; 32];
        super::dequantize(&block, &mut out);
        assert_eq!((out[0], out[1], out[31]), (-256.0, 0.0, 254.0));
    }
    #[test]
    fn halves_go_away_from_zero_and_the_scale_is_rounded_after_the_codes() {
        let mut x = [0.0f32; 32];
        x[..7].copy_from_slice(&[127.0, 0.5, -0.5, 1.5, -2.5, 0.499_999_97, -126.5]);
        let mut block = [0; 34];
        super::quantize(&x, &mut block);
        assert_eq!(block[2..9].iter().map(|c| *c as i8).collect::<Vec<_>>(), [127, 1, -1, 2, -3, 0, -127]);
        // d = 1.0003 is 1 as f16; by that 1 the second would be 127.
        x[..2].copy_from_slice(&[127.0381, 126.52]);
        super::quantize(&x, &mut block);
        assert_eq!(block[..4], [0x00, 0x3c, 127, 126]);
    }

    #[test]
    fn a_block_that_holds_no_number_reads_as_no_number_and_its_neighbour_does_not() {
        for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = [1.0f32; 64];
            x[40] = odd;
            let (mut bytes, mut out) = ([0; 68], [0.0; 64]);
            super::quantize(&x, &mut bytes);
            super::dequantize(&bytes, &mut out);
            assert!(out[..32].iter().all(|x| x.is_finite()) && out[32..].iter().all(|x| x.is_nan()), "{odd}");
        }
    }
}
