//! `q4_0`: 32 elements in 18 bytes.
//!
//! ```text
//! byte  0..2   d       f16   scale
//! byte  2..18  codes   u4    element i in the low half of byte i, element 16 + i in its high half
//! x = d * (code - 8)
//! ```

use super::{f16_at, for_each_block, part};

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
