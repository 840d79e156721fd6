//! `q4_1`: 32 elements in 20 bytes.
//!
//! ```text
//! byte  0..2   d       f16   scale
//! byte  2..4   m       f16   minimum
//! byte  4..20  codes   u4    element i in the low half of byte i, element 16 + i in its high half
//! x = d * code + m
//! ```

use super::{f16_at, for_each_block, part};

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
