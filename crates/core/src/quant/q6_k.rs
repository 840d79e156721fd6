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

use super::{f16_at, f16_bytes, for_each_block, for_each_row_block, largest, nearest, part};

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

/// Groups whose elements are all nearer to zero count as zero.
const SMALLEST: f32 = 1e-15;

/// `x [256 n] -> bytes [210 n]`: the scale of each group with the least weighted error, and of these the largest gets
/// the scale -128.
///
/// The rule of ggml's `quantize_row_q6_K_ref` (no importance matrix), bit for bit.
pub(super) fn quantize(x: &[f32], bytes: &mut [u8]) {
    for_each_row_block::<210, 256>(x, bytes, |x, block| {
        let mut codes = [0u8; 256];
        let mut scales = [0f32; 16];
        let mut top = 0f32;
        let groups = x.as_chunks::<16>().0.iter().zip(codes.as_chunks_mut::<16>().0);
        for (scale, (x, codes)) in scales.iter_mut().zip(groups) {
            *scale = search(x, codes);
            if scale.abs() > top.abs() {
                top = *scale;
            }
        }
        block.fill(0);
        if top.abs() < SMALLEST {
            return;
        }
        let inverse = -128.0 / top;
        block[208..].copy_from_slice(&f16_bytes(1.0 / inverse));
        let d = f16_at(block, 208);
        let groups = x.as_chunks::<16>().0.iter().zip(codes.as_chunks_mut::<16>().0);
        for (g, (scale, (x, codes))) in scales.iter().zip(groups).enumerate() {
            let scale = nearest(inverse * scale).min(127) as i8;
            block[192 + g] = scale as u8;
            let scale = d * f32::from(scale);
            if scale == 0.0 {
                continue;
            }
            for (x, code) in x.iter().zip(codes) {
                *code = (nearest(x / scale).clamp(-32, 31) + 32) as u8;
            }
        }
        for (run, codes) in codes.as_chunks::<128>().0.iter().enumerate() {
            for i in 0..32 {
                let [a, b, c, d] = [codes[i], codes[32 + i], codes[64 + i], codes[96 + i]];
                block[64 * run + i] = a & 15 | (c & 15) << 4;
                block[64 * run + 32 + i] = b & 15 | (d & 15) << 4;
                block[128 + 32 * run + i] = a >> 4 | (b >> 4) << 2 | (c >> 4) << 4 | (d >> 4) << 6;
            }
        }
    });
}

/// The scale of a group of which `codes` are those of the best try (ggml's `make_qx_quants` with 32 levels each side
/// and the squares of the elements as weights).
fn search(x: &[f32; 16], codes: &mut [u8; 16]) -> f32 {
    let max = largest(x);
    if max.abs() < SMALLEST {
        codes.fill(0);
        return 0.0;
    }
    let code = |inverse: f32, x: f32| nearest(inverse * x).clamp(-32, 31);
    let sums = |inverse: f32| {
        let (mut products, mut squares) = (0f32, 0f32);
        for x in x {
            let (weight, l) = (x * x, code(inverse, *x) as f32);
            products += weight * x * l;
            squares += weight * l * l;
        }
        (products, squares)
    };
    let mut keep = |inverse: f32| {
        for (to, x) in codes.iter_mut().zip(x) {
            *to = (code(inverse, *x) + 32) as u8;
        }
    };
    let first = -32.0 / max;
    let (products, squares) = sums(first);
    keep(first);
    let mut scale = if squares == 0.0 { 0.0 } else { products / squares };
    let mut best = scale * products;
    for step in (-9..=9).filter(|step| *step != 0) {
        let inverse = -(32.0 + 0.1 * step as f32) / max;
        let (products, squares) = sums(inverse);
        if squares > 0.0 && products * products > best * squares {
            keep(inverse);
            scale = products / squares;
            best = scale * products;
        }
    }
    scale
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
