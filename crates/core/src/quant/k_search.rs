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
    let (groups, _) = x.as_chunks::<32>();
    let (scales, minimums) = search::<TRIES>(x, levels, first, &mut codes);
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

/// One number of each of the 8 groups: a group's are computed from its own alone, in the order of ggml, so that the bits
/// are the same, and those of all groups at once, so that it becomes vector code.
type Lanes = [f32; 8];

#[inline(always)]
fn lanes(f: impl FnMut(usize) -> f32) -> Lanes {
    std::array::from_fn(f)
}

/// The scale and minimum of each group, and its codes.
fn search<const TRIES: i32>(x: &[f32; 256], levels: i32, first: f32, codes: &mut [u8; 256]) -> (Lanes, Lanes) {
    // Element i of every group beside each other.
    let xs: [Lanes; 32] = std::array::from_fn(|i| lanes(|g| x[32 * g + i]));
    let mut squares = [0f32; 8];
    for x in &xs {
        squares = lanes(|g| squares[g] + x[g] * x[g]);
    }
    let average = lanes(|g| (squares[g] / 32.0).sqrt());
    let weights: [Lanes; 32] = std::array::from_fn(|i| lanes(|g| average[g] + xs[i][g].abs()));

    let (mut min, mut max) = (xs[0], xs[0]);
    let (mut sum_w, mut sum_x) = (weights[0], lanes(|g| weights[0][g] * xs[0][g]));
    for (x, w) in xs.iter().zip(&weights).skip(1) {
        min = lanes(|g| if x[g] < min[g] { x[g] } else { min[g] });
        max = lanes(|g| if x[g] > max[g] { x[g] } else { max[g] });
        sum_w = lanes(|g| sum_w[g] + w[g]);
        sum_x = lanes(|g| sum_x[g] + w[g] * x[g]);
    }
    min = lanes(|g| if min[g] > 0.0 { 0.0 } else { min[g] });
    // Where all are alike there is nothing to search: scale 0, and codes 0.
    let flat: [bool; 8] = std::array::from_fn(|g| max[g] == min[g]);
    let (lowest, most) = (min, levels as f32);

    let inverse = lanes(|g| most / (max[g] - min[g]));
    let mut scale = lanes(|g| 1.0 / inverse[g]);
    let (mut kept, mut tried) = ([[0f32; 8]; 32], [[0f32; 8]; 32]);
    for (l, x) in kept.iter_mut().zip(&xs) {
        *l = code(x, &inverse, &min, most);
    }
    let mut best = error(&xs, &weights, &kept, scale, min);
    for step in 0..=TRIES {
        // The minimum that a better try found is where the next ones begin.
        let inverse = lanes(|g| (first + STEP * step as f32 + most) / (max[g] - min[g]));
        let (mut sum_l, mut sum_l2, mut sum_xl) = ([0f32; 8], [0f32; 8], [0f32; 8]);
        for ((x, w), l) in xs.iter().zip(&weights).zip(&mut tried) {
            *l = code(x, &inverse, &min, most);
            sum_l = lanes(|g| sum_l[g] + w[g] * l[g]);
            sum_l2 = lanes(|g| sum_l2[g] + w[g] * l[g] * l[g]);
            sum_xl = lanes(|g| sum_xl[g] + w[g] * l[g] * x[g]);
        }
        let determinant = lanes(|g| sum_w[g] * sum_l2[g] - sum_l[g] * sum_l[g]);
        let free_min = lanes(|g| (sum_l2[g] * sum_x[g] - sum_l[g] * sum_xl[g]) / determinant[g]);
        let this_min = lanes(|g| if free_min[g] > 0.0 { 0.0 } else { free_min[g] });
        let this_scale = lanes(|g| {
            if free_min[g] > 0.0 {
                sum_xl[g] / sum_l2[g]
            } else {
                (sum_w[g] * sum_xl[g] - sum_x[g] * sum_l[g]) / determinant[g]
            }
        });
        let this_error = error(&xs, &weights, &tried, this_scale, this_min);
        let better: [bool; 8] = std::array::from_fn(|g| determinant[g] > 0.0 && this_error[g] < best[g]);
        if better.contains(&true) {
            let choose = |new: Lanes, old: Lanes| lanes(|g| if better[g] { new[g] } else { old[g] });
            for (kept, tried) in kept.iter_mut().zip(&tried) {
                *kept = choose(*tried, *kept);
            }
            (best, scale, min) = (choose(this_error, best), choose(this_scale, scale), choose(this_min, min));
        }
    }
    for (g, codes) in codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        *codes = std::array::from_fn(|i| if flat[g] { 0 } else { kept[i][g] as u8 });
    }
    (lanes(|g| if flat[g] { 0.0 } else { scale[g] }), lanes(|g| if flat[g] { -lowest[g] } else { -min[g] }))
}

/// The codes of the elements `x`.
#[inline(always)]
fn code(x: &Lanes, inverse: &Lanes, min: &Lanes, levels: f32) -> Lanes {
    let code = lanes(|g| nearest(inverse[g] * (x[g] - min[g])) as f32);
    let code = lanes(|g| if code[g] > 0.0 { code[g] } else { 0.0 });
    lanes(|g| if code[g] < levels { code[g] } else { levels })
}

/// The weighted squares of what the elements are off with these codes, scales and minimums.
#[inline(always)]
fn error(xs: &[Lanes; 32], weights: &[Lanes; 32], codes: &[Lanes; 32], scale: Lanes, min: Lanes) -> Lanes {
    let mut error = [0f32; 8];
    for ((x, w), l) in xs.iter().zip(weights).zip(codes) {
        let difference = lanes(|g| scale[g] * l[g] + min[g] - x[g]);
        error = lanes(|g| error[g] + w[g] * (difference[g] * difference[g]));
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_give_the_bits_of_one_group_after_the_other() {
        // Groups of all kinds beside each other: alike, of one sign, tiny, huge, with outliers.
        let mut state = 7u64;
        let mut uniform = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        };
        for round in 0..200 {
            let x: [f32; 256] = std::array::from_fn(|i| match (i / 32 + round) % 11 {
                0 => 0.0,
                1 => -0.25,
                2 => uniform() + 0.6,
                3 => uniform() - 0.6,
                4 => uniform() * 1e-42,
                5 => uniform() * 3e38,
                6 if i % 32 == 9 => 40.0,
                7 => (uniform() * 4.0).round(),
                _ => uniform() * uniform(),
            });
            for (levels, first) in [(15, -1.0), (31, -0.5)] {
                let mut codes = [0; 256];
                let (scales, minimums) = search::<20>(&x, levels, first, &mut codes);
                for (g, x) in x.as_chunks::<32>().0.iter().enumerate() {
                    let average = (x.iter().fold(0f32, |sum, x| sum + x * x) / 32.0).sqrt();
                    let mut expected = [0; 32];
                    let (scale, minimum) = group::<20>(x, &x.map(|x| average + x.abs()), levels, first, &mut expected);
                    // Of NaNs, which the largest numbers give, only that they are some.
                    let bits = |a: f32, b: f32| [a, b].map(|x| if x.is_nan() { u32::MAX } else { x.to_bits() });
                    assert_eq!(bits(scales[g], minimums[g]), bits(scale, minimum), "round {round}, group {g}");
                    assert_eq!(codes[32 * g..][..32], expected, "round {round}, group {g}");
                }
            }
        }
    }

    /// One group, an element after the other, as ggml writes it.
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
}
