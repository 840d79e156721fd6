//! `q2_k`: 256 elements in 84 bytes, in 16 groups of 16.
//!
//! ```text
//! byte  0..16  scales  u4,u4  of group g: scale in the low half of byte g, minimum in its high half
//! byte 16..80  codes   u2     two runs of 32 bytes for 128 elements each: element 32 k + i of a run is in
//!                             bits 2k, 2k+1 of its byte i
//! byte 80..82  d       f16    scale of the scales
//! byte 82..84  dmin    f16    scale of the minimums
//! x = (d * scale) * code - (dmin * minimum)
//! ```

use super::{f16_at, for_each_block, part};

/// `bytes [84 n] -> out [256 n]`
pub(super) fn dequantize(bytes: &[u8], out: &mut [f32]) {
    for_each_block::<84, 256>(bytes, out, |block, out| {
        let scales: &[u8; 16] = part(block, 0);
        let codes: &[u8; 64] = part(block, 16);
        let (d, dmin) = (f16_at(block, 80), f16_at(block, 82));
        let (groups, _) = out.as_chunks_mut::<16>();
        for (g, group) in groups.iter_mut().enumerate() {
            let scale = d * f32::from(scales[g] & 15);
            let minimum = dmin * f32::from(scales[g] >> 4);
            // Group g: run g / 8, bit pair (g % 8) / 2, first or second half of the run's 32 bytes.
            let (run, shift, half) = (g / 8, g % 8 / 2 * 2, g % 2);
            let codes: &[u8; 16] = part(codes, 32 * run + 16 * half);
            for (out, code) in group.iter_mut().zip(codes) {
                *out = scale * i32::from(code >> shift & 3) as f32 - minimum;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_code_lies_where_its_element_says() {
        for element in 0..256 {
            let mut block = [0; 84];
            block[..16].fill(0x11);
            block[80..82].copy_from_slice(&half::f16::from_f32(1.0).to_le_bytes());
            block[82..84].copy_from_slice(&half::f16::from_f32(0.5).to_le_bytes());
            let (run, k, i) = (element / 128, element % 128 / 32, element % 32);
            block[16 + 32 * run + i] = 3 << (2 * k);
            let mut out = [0.0; 256];
            super::dequantize(&block, &mut out);
            for (j, x) in out.iter().enumerate() {
                assert_eq!(*x, if j == element { 2.5 } else { -0.5 }, "element {j} when {element} is set");
            }
        }
    }
}
