//! `q6_k`: 256 elements in 210 bytes, in 16 groups of 16.
//!
//! ```text
//! byte   0..128  low     u4   two runs of 64 bytes for 128 elements each: element i of a run in the low half of its
//!                             byte i, element 64 + i in the high half
//! byte 128..192  high    u2   two runs of 32 bytes for 128 elements each: bits 5 and 6 of element 32 k + i of a run
//!                             are bits 2k, 2k+1 of its byte i
//! byte 192..208  scales  i8   of group g in byte g
//! byte 208..210  d       f16  scale of the scales
//! x = (d * scale) * ((low | high << 4) - 32)
//! ```

use super::{f16_at, for_each_block, part};

/// `bytes [210 n] -> out [256 n]`
pub(super) fn dequantize(bytes: &[u8], out: &mut [f32]) {
    for_each_block::<210, 256>(bytes, out, |block, out| {
        let low: &[u8; 128] = part(block, 0);
        let high: &[u8; 64] = part(block, 128);
        let scales: &[u8; 16] = part(block, 192);
        let d = f16_at(block, 208);
        let (groups, _) = out.as_chunks_mut::<16>();
        for (g, group) in groups.iter_mut().enumerate() {
            let scale = d * f32::from(scales[g] as i8);
            // Group g: run g / 8 and, inside its 128 elements, those from 16 (g % 8) on.
            let (run, first) = (g / 8, g % 8 * 16);
            let low: &[u8; 16] = part(low, 64 * run + first % 64);
            let high: &[u8; 16] = part(high, 32 * run + first % 32);
            let (low_shift, high_shift) = (first / 64 * 4, first / 32 * 2);
            for (out, (low, high)) in group.iter_mut().zip(low.iter().zip(high)) {
                let code = (low >> low_shift & 15) | (high >> high_shift & 3) << 4;
                *out = scale * i32::from(code).wrapping_sub(32) as f32;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_code_lies_where_its_element_says() {
        for element in 0..256 {
            let mut block = [0; 210];
            block[192..208].fill(0xff); // -1
            block[208..].copy_from_slice(&half::f16::from_f32(1.0).to_le_bytes());
            let (run, e) = (element / 128, element % 128);
            block[64 * run + e % 64] = 15 << (e / 64 * 4);
            block[128 + 32 * run + e % 32] = 3 << (e / 32 * 2);
            let mut out = [0.0; 256];
            super::dequantize(&block, &mut out);
            for (j, x) in out.iter().enumerate() {
                assert_eq!(*x, if j == element { -31.0 } else { 32.0 }, "element {j} when {element} is set");
            }
        }
    }
}
