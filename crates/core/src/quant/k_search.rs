//! How `q4_k` and `q5_k` choose scales and minimums: a search for the least weighted error.
//!
//! Each group of 32 elements tries a number of scales; for the codes that each gives, the scale and minimum with the
//! least squares error follow in closed form. The scales and minimums of the 8 groups are then rounded to 6 bits, and
//! the codes computed again with what the rounding left. The rule is ggml's `make_qkx2_quants` and what its callers do
//! around it; the order of operations is kept, since it decides the last bit.

use super::{f16_at, f16_bytes, k_scales, nearest, part};

/// Distance between two tries, in codes.
const STEP: f32 = 0.1;

/// Writes `d`, `dmin` and the scales of a block of 256 elements to `head [16]`; gives the codes, from 0 to `levels`.
///
/// The tries go from `levels + first` on, `TRIES` steps up.
pub(super) fn super_block<const TRIES: i32>(x: &[f32; 256], levels: i32, first: f32, head: &mut [u8]) -> [u8; 256] {
    let mut codes = [0; 256];
    let (mut scales, mut minimums) = ([0f32; 8], [0f32; 8]);
    let (groups, _) = x.as_chunks::<32>();
    for (g, (x, codes)) in groups.iter().zip(codes.as_chunks_mut::<32>().0).enumerate() {
        let mut squares = 0f32;
        for x in x {
            squares += x * x;
        }
        let average = (squares / 32.0).sqrt();
        let weights = x.map(|x| average + x.abs());
        (scales[g], minimums[g]) = group::<TRIES>(x, &weights, levels, first, codes);
    }
    let max = |values: &[f32; 8]| values.iter().fold(0f32, |max, v| if *v > max { *v } else { max });
    let (max_scale, max_minimum) = (max(&scales), max(&minimums));
    let inverse = |max: f32| if max > 0.0 { 63.0 / max } else { 0.0 };
    let rounded = |inverse: f32, v: f32| (nearest(inverse * v) as u8).min(63);
    let (inverse_scale, inverse_minimum) = (inverse(max_scale), inverse(max_minimum));
    let packed: [(u8, u8); 8] =
        std::array::from_fn(|g| (rounded(inverse_scale, scales[g]), rounded(inverse_minimum, minimums[g])));
    head[..2].copy_from_slice(&f16_bytes(max_scale / 63.0));
    head[2..4].copy_from_slice(&f16_bytes(max_minimum / 63.0));
    head[4..16].copy_from_slice(&k_scales::pack(packed));

    let (d, dmin) = (f16_at(head, 0), f16_at(head, 2));
    let unpacked = k_scales::unpack(part(head, 4));
    for ((x, codes), (scale, minimum)) in groups.iter().zip(codes.as_chunks_mut::<32>().0).zip(unpacked) {
        let (scale, minimum) = (d * f32::from(scale), dmin * f32::from(minimum));
        if scale == 0.0 {
            continue;
        }
        for (code, x) in codes.iter_mut().zip(x) {
            *code = nearest((x + minimum) / scale).clamp(0, levels) as u8;
        }
    }
    codes
}

/// The scale and minimum of one group, and its codes.
fn group<const TRIES: i32>(
    x: &[f32; 32],
    weights: &[f32; 32],
    levels: i32,
    first: f32,
    codes: &mut [u8; 32],
) -> (f32, f32) {
    let (mut min, mut max) = (x[0], x[0]);
    let (mut sum_w, mut sum_x) = (weights[0], weights[0] * x[0]);
    for (x, w) in x.iter().zip(weights).skip(1) {
        if *x < min {
            min = *x;
        }
        if *x > max {
            max = *x;
        }
        sum_w += w;
        sum_x += w * x;
    }
    if min > 0.0 {
        min = 0.0;
    }
    if max == min {
        codes.fill(0);
        return (0.0, -min);
    }
    let code = |inverse: f32, min: f32, x: f32| nearest(inverse * (x - min)).clamp(0, levels) as u8;
    let error = |scale: f32, min: f32, codes: &[u8; 32]| {
        let mut error = 0f32;
        for ((x, w), l) in x.iter().zip(weights).zip(codes) {
            let difference = scale * f32::from(*l) + min - x;
            error += w * (difference * difference);
        }
        error
    };
    let inverse = levels as f32 / (max - min);
    let mut scale = 1.0 / inverse;
    *codes = x.map(|x| code(inverse, min, x));
    let mut best = error(scale, min, codes);
    for step in 0..=TRIES {
        // The minimum that a better try found is where the next ones begin.
        let inverse = (first + STEP * step as f32 + levels as f32) / (max - min);
        let tried = x.map(|x| code(inverse, min, x));
        let (mut sum_l, mut sum_l2, mut sum_xl) = (0f32, 0f32, 0f32);
        for ((x, w), l) in x.iter().zip(weights).zip(&tried) {
            let l = f32::from(*l);
            sum_l += w * l;
            sum_l2 += w * l * l;
            sum_xl += w * l * x;
        }
        let determinant = sum_w * sum_l2 - sum_l * sum_l;
        if determinant > 0.0 {
            let mut this_scale = (sum_w * sum_xl - sum_x * sum_l) / determinant;
            let mut this_min = (sum_l2 * sum_x - sum_l * sum_xl) / determinant;
            if this_min > 0.0 {
                this_min = 0.0;
                this_scale = sum_xl / sum_l2;
            }
            let this_error = error(this_scale, this_min, &tried);
            if this_error < best {
                *codes = tried;
                (best, scale, min) = (this_error, this_scale, this_min);
            }
        }
    }
    (scale, -min)
}
