//! `q5_1`: 32 elements in 24 bytes.
//!
//! ```text
//! byte  0..2   d       f16   scale
//! byte  2..4   m       f16   minimum
//! byte  4..8   high    u32   bit i is the fifth bit of element i
//! byte  8..24  low     u4    element i in the low half of byte i, element 16 + i in its high half
//! x = d * (low | fifth << 4) + m
//! ```

use super::{c_int8, extremes, f16_at, f16_bytes, for_each_block, for_each_row_block, part, reciprocal, split_fifth};

/// `bytes [24 n] -> out [32 n]`
pub(super) fn dequantize(bytes: &[u8], out: &mut [f32]) {
    for_each_block::<24, 32>(bytes, out, |block, out| {
        let (d, m) = (f16_at(block, 0), f16_at(block, 2));
        let fifth = u32::from_le_bytes(*part(block, 4));
        let codes: &[u8; 16] = part(block, 8);
        let (low, high) = out.split_at_mut(16);
        for (i, ((code, low), high)) in (0u32..).zip(codes.iter().zip(low).zip(high)) {
            let a = u32::from(code & 15) | (fifth >> i & 1) << 4;
            let b = u32::from(code >> 4) | (fifth >> (i + 16) & 1) << 4;
            *low = d * a as i32 as f32 + m;
            *high = d * b as i32 as f32 + m;
        }
    });
}

/// `x [32 n] -> bytes [24 n]`: the smallest element gets the code 0, the largest 31.
///
/// The rule of ggml's `quantize_row_q5_1_ref`, bit for bit.
pub(super) fn quantize(x: &[f32], bytes: &mut [u8]) {
    for_each_row_block::<24, 32>(x, bytes, |x, block| {
        let (min, max) = extremes(x);
        let d = (max - min) / 31.0;
        let inverse = reciprocal(d);
        let (low, fifth) = split_fifth(x.map(|x| c_int8((x - min) * inverse + 0.5) as u8));
        block[..2].copy_from_slice(&f16_bytes(d));
        block[2..4].copy_from_slice(&f16_bytes(min));
        block[4..8].copy_from_slice(&fifth.to_le_bytes());
        block[8..].copy_from_slice(&low);
    });
}

#[cfg(test)]
mod tests {
    #[test]
    fn each_fifth_bit_belongs_to_its_element() {
        for i in 0..32 {
            let mut block = [0; 24];
            block[..2].copy_from_slice(&half::f16::from_f32(0.5).to_le_bytes());
            block[2..4].copy_from_slice(&half::f16::from_f32(3.0).to_le_bytes());
            block[4..8].copy_from_slice(&(1u32 << i).to_le_bytes());
            let mut out = [0.0; 32];
            super::dequantize(&block, &mut out);
            let expected: Vec<f32> = (0..32).map(|j| if i == j { 11.0 } else { 3.0 }).collect();
            assert_eq!(out.as_slice(), expected);
        }
    }
}
