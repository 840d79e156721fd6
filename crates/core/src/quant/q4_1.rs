//! `q4_1`: 32 elements in 20 bytes.
//!
//! ```text
//! byte  0..2   d       f16   scale
//! byte  2..4   m       f16   minimum
//! byte  4..20  codes   u4    element i in the low half of byte i, element 16 + i in its high half
//! x = d * code + m
//! ```

use super::{c_int8, extremes, f16_at, f16_bytes, for_each_block, for_each_row_block, part, reciprocal};

/// `bytes [20 n] -> out [32 n]`
pub(super) fn dequantize(bytes: &[u8], out: &mut [f32]) {
    for_each_block::<20, 32>(bytes, out, |block, out| {
        let (d, m) = (f16_at(block, 0), f16_at(block, 2));
        let codes: &[u8; 16] = part(block, 4);
        let (low, high) = out.split_at_mut(16);
        for ((code, low), high) in codes.iter().zip(low).zip(high) {
            *low = d * i32::from(code & 15) as f32 + m;
            *high = d * i32::from(code >> 4) as f32 + m;
        }
    });
}

/// `x [32 n] -> bytes [20 n]`: the smallest element gets the code 0, the largest 15.
///
/// The rule of ggml's `quantize_row_q4_1_ref`, bit for bit.
pub(super) fn quantize(x: &[f32], bytes: &mut [u8]) {
    for_each_row_block::<20, 32>(x, bytes, |x, block| {
        let (min, max) = extremes(x);
        let d = (max - min) / 15.0;
        let inverse = reciprocal(d);
        block[..2].copy_from_slice(&f16_bytes(d));
        block[2..4].copy_from_slice(&f16_bytes(min));
        let code = |x: f32| c_int8((x - min) * inverse + 0.5).min(15) as u8;
        for i in 0..16 {
            block[4 + i] = code(x[i]) | code(x[16 + i]) << 4;
        }
    });
}

#[cfg(test)]
mod tests {
    #[test]
    fn codes_count_from_the_minimum() {
        let mut block = [0; 20];
        block[..2].copy_from_slice(&half::f16::from_f32(0.25).to_le_bytes());
        block[2..4].copy_from_slice(&half::f16::from_f32(-1.0).to_le_bytes());
        block[4] = 0x2f; // element 0 = 15, element 16 = 2
        let mut out = [0.0; 32];
        super::dequantize(&block, &mut out);
        assert_eq!((out[0], out[1], out[16]), (2.75, -1.0, -0.5));
    }
}
