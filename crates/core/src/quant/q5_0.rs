//! `q5_0`: 32 elements in 22 bytes.
//!
//! ```text
//! byte  0..2   d       f16   scale
//! byte  2..6   high    u32   bit i is the fifth bit of element i
//! byte  6..22  low     u4    element i in the low half of byte i, element 16 + i in its high half
//! x = d * ((low | fifth << 4) - 16)
//! ```

use super::{c_int8, f16_at, f16_bytes, for_each_block, for_each_row_block, largest, part, reciprocal, split_fifth};

/// `bytes [22 n] -> out [32 n]`
pub(super) fn dequantize(bytes: &[u8], out: &mut [f32]) {
    for_each_block::<22, 32>(bytes, out, |block, out| {
        let d = f16_at(block, 0);
        let fifth = u32::from_le_bytes(*part(block, 2));
        let codes: &[u8; 16] = part(block, 6);
        let (low, high) = out.split_at_mut(16);
        for (i, ((code, low), high)) in (0u32..).zip(codes.iter().zip(low).zip(high)) {
            let a = u32::from(code & 15) | (fifth >> i & 1) << 4;
            let b = u32::from(code >> 4) | (fifth >> (i + 16) & 1) << 4;
            *low = d * (a as i32).wrapping_sub(16) as f32;
            *high = d * (b as i32).wrapping_sub(16) as f32;
        }
    });
}

/// `x [32 n] -> bytes [22 n]`: the element furthest from zero gets the code 0, so that `d` has its sign.
///
/// The rule of ggml's `quantize_row_q5_0_ref`, bit for bit.
pub(super) fn quantize(x: &[f32], bytes: &mut [u8]) {
    for_each_row_block::<22, 32>(x, bytes, |x, block| {
        let d = largest(x) / -16.0;
        let inverse = reciprocal(d);
        let (low, fifth) = split_fifth(x.map(|x| c_int8(x * inverse + 16.5).min(31) as u8));
        block[..2].copy_from_slice(&f16_bytes(d));
        block[2..6].copy_from_slice(&fifth.to_le_bytes());
        block[6..].copy_from_slice(&low);
    });
}

#[cfg(test)]
mod tests {
    #[test]
    fn each_fifth_bit_belongs_to_its_element() {
        for i in 0..32 {
            let mut block = [0; 22];
            block[..2].copy_from_slice(&half::f16::from_f32(1.0).to_le_bytes());
            block[2..6].copy_from_slice(&(1u32 << i).to_le_bytes());
            let mut out = [0.0; 32];
            super::dequantize(&block, &mut out);
            let expected: Vec<f32> = (0..32).map(|j| if i == j { 0.0 } else { -16.0 }).collect();
            assert_eq!(out.as_slice(), expected);
        }
    }
}
