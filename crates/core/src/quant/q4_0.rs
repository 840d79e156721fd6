//! `q4_0`: 32 elements in 18 bytes.
//!
//! ```text
//! byte  0..2   d       f16   scale
//! byte  2..18  codes   u4    element i in the low half of byte i, element 16 + i in its high half
//! x = d * (code - 8)
//! ```

use super::{c_int8, f16_at, f16_bytes, for_each_block, for_each_row_block, largest, part, reciprocal};

/// `bytes [18 n] -> out [32 n]`
pub(super) fn dequantize(bytes: &[u8], out: &mut [f32]) {
    for_each_block::<18, 32>(bytes, out, |block, out| {
        let d = f16_at(block, 0);
        let codes: &[u8; 16] = part(block, 2);
        let (low, high) = out.split_at_mut(16);
        for ((code, low), high) in codes.iter().zip(low).zip(high) {
            *low = d * (i32::from(code & 15).wrapping_sub(8)) as f32;
            *high = d * (i32::from(code >> 4).wrapping_sub(8)) as f32;
        }
    });
}

/// `x [32 n] -> bytes [18 n]`: the element furthest from zero gets the code 0, so that `d` has its sign.
///
/// The rule of ggml's `quantize_row_q4_0_ref`, bit for bit.
pub(super) fn quantize(x: &[f32], bytes: &mut [u8]) {
    for_each_row_block::<18, 32>(x, bytes, |x, block| {
        let d = largest(x) / -8.0;
        let inverse = reciprocal(d);
        block[..2].copy_from_slice(&f16_bytes(d));
        let code = |x: f32| c_int8(x * inverse + 8.5).min(15) as u8;
        for i in 0..16 {
            block[2 + i] = code(x[i]) | code(x[16 + i]) << 4;
        }
    });
}

#[cfg(test)]
mod tests {
    #[test]
    fn low_halves_come_first() {
        let mut block = [0x88; 18];
        block[..2].copy_from_slice(&half::f16::from_f32(0.5).to_le_bytes());
        block[2] = 0xf0; // element 0 = 0, element 16 = 15
        let mut out = [0.0; 32];
        super::dequantize(&block, &mut out);
        assert_eq!((out[0], out[16]), (-4.0, 3.5));
        assert!(out.iter().enumerate().all(|(i, x)| i == 0 || i == 16 || *x == 0.0));
    }
}
