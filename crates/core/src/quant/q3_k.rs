//! `q3_k`: 256 elements in 110 bytes, in 16 groups of 16.
//!
//! ```text
//! byte   0..32   high    u1   bit e / 32 of byte e % 32 is the third bit of element e
//! byte  32..96   low     u2   two runs of 32 bytes for 128 elements each: element 32 k + i of a run is in
//!                             bits 2k, 2k+1 of its byte i
//! byte  96..108  scales  u6   of group g: low 4 bits in byte g % 8 (half g / 8), high 2 bits in byte 8 + g % 4
//!                             (bit pair g / 4)
//! byte 108..110  d       f16  scale of the scales
//! x = (d * (scale - 32)) * (low - (third bit set ? 0 : 4))
//! ```

use super::{f16_at, for_each_block, part};

/// `bytes [110 n] -> out [256 n]`
pub(super) fn dequantize(bytes: &[u8], out: &mut [f32]) {
    for_each_block::<110, 256>(bytes, out, |block, out| {
        let third: &[u8; 32] = part(block, 0);
        let codes: &[u8; 64] = part(block, 32);
        let scales: &[u8; 12] = part(block, 96);
        let d = f16_at(block, 108);
        let (groups, _) = out.as_chunks_mut::<16>();
        for (g, group) in groups.iter_mut().enumerate() {
            let low = scales[g % 8] >> (g / 8 * 4) & 15;
            let high = scales[8 + g % 4] >> (g / 4 * 2) & 3;
            let scale = d * (i32::from(low | high << 4).wrapping_sub(32)) as f32;
            // Group g: run g / 8, bit pair (g % 8) / 2, first or second half of the run's 32 bytes.
            let (run, shift, half) = (g / 8, g % 8 / 2 * 2, g % 2);
            let codes: &[u8; 16] = part(codes, 32 * run + 16 * half);
            let third: &[u8; 16] = part(third, 16 * half);
            for (out, (code, third)) in group.iter_mut().zip(codes.iter().zip(third)) {
                // The bit is stored inverted: set means that nothing is taken away.
                let code = (code >> shift & 3) | (third >> (g / 2) & 1) << 2;
                *out = scale * i32::from(code).wrapping_sub(4) as f32;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_code_lies_where_its_element_says() {
        for element in 0..256 {
            let mut block = [0; 110];
            // Scales: 0b100001 - 32 = 1 for every group.
            block[96..104].fill(0x11);
            block[104..108].fill(0b10_10_10_10);
            block[108..].copy_from_slice(&half::f16::from_f32(1.0).to_le_bytes());
            let (run, k, i) = (element / 128, element % 128 / 32, element % 32);
            block[i] = 1 << (element / 32);
            block[32 + 32 * run + i] = 3 << (2 * k);
            let mut out = [0.0; 256];
            super::dequantize(&block, &mut out);
            for (j, x) in out.iter().enumerate() {
                assert_eq!(*x, if j == element { 3.0 } else { -4.0 }, "element {j} when {element} is set");
            }
        }
    }

    #[test]
    fn a_scale_lies_where_its_group_says() {
        for group in 0..16 {
            let mut block = [0; 110];
            block[96 + group % 8] = 0xf << (group / 8 * 4);
            block[104 + group % 4] = 3 << (group / 4 * 2);
            block[108..].copy_from_slice(&half::f16::from_f32(1.0).to_le_bytes());
            let mut out = [0.0; 256];
            super::dequantize(&block, &mut out);
            for (j, x) in out.iter().enumerate() {
                assert_eq!(*x, if j / 16 == group { -4.0 * 31.0 } else { 128.0 }, "element {j}, group {group} set");
            }
        }
    }
}
