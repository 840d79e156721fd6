//! `q4_k`: 256 elements in 144 bytes, in 8 groups of 32.
//!
//! ```text
//! byte  0..2    d       f16  scale of the scales
//! byte  2..4    dmin    f16  scale of the minimums
//! byte  4..16   scales  u6   see `k_scales`
//! byte 16..144  codes   u4   four runs of 32 bytes for 64 elements each: element i of a run in the low half of its
//!                            byte i, element 32 + i in the high half
//! x = (d * scale) * code - (dmin * minimum)
//! ```

use super::{f16_at, for_each_block, for_each_row_block, k_scales, k_search, part};

/// `bytes [144 n] -> out [256 n]`
pub(super) fn dequantize(bytes: &[u8], out: &mut [f32]) {
    for_each_block::<144, 256>(bytes, out, |block, out| {
        let (d, dmin) = (f16_at(block, 0), f16_at(block, 2));
        let scales = k_scales::unpack(part(block, 4));
        let (groups, _) = out.as_chunks_mut::<32>();
        for (g, group) in groups.iter_mut().enumerate() {
            let (scale, minimum) = (d * f32::from(scales[g].0), dmin * f32::from(scales[g].1));
            let codes: &[u8; 32] = part(block, 16 + g / 2 * 32);
            let shift = g % 2 * 4;
            for (out, code) in group.iter_mut().zip(codes) {
                *out = scale * i32::from(code >> shift & 15) as f32 - minimum;
            }
        }
    });
}

/// `x [256 n] -> bytes [144 n]`: scales and minimums of the groups by [`k_search`], which then share `d` and `dmin`.
///
/// The rule of ggml's `quantize_row_q4_K_ref` (no importance matrix), bit for bit.
pub(super) fn quantize(x: &[f32], bytes: &mut [u8]) {
    for_each_row_block::<144, 256>(x, bytes, |x, block| {
        let codes = k_search::super_block::<20>(x, 15, -1.0, &mut block[..16]);
        for (run, codes) in codes.as_chunks::<64>().0.iter().enumerate() {
            for i in 0..32 {
                block[16 + 32 * run + i] = codes[i] | codes[32 + i] << 4;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_code_lies_where_its_element_says() {
        for element in 0..256 {
            let mut block = [0; 144];
            block[..2].copy_from_slice(&half::f16::from_f32(1.0).to_le_bytes());
            block[2..4].copy_from_slice(&half::f16::from_f32(0.5).to_le_bytes());
            block[4..12].fill(1);
            block[12..16].fill(0x11);
            let (run, half, i) = (element / 64, element % 64 / 32, element % 32);
            block[16 + 32 * run + i] = 15 << (4 * half);
            let mut out = [0.0; 256];
            super::dequantize(&block, &mut out);
            for (j, x) in out.iter().enumerate() {
                assert_eq!(*x, if j == element { 14.5 } else { -0.5 }, "element {j} when {element} is set");
            }
        }
    }
}
