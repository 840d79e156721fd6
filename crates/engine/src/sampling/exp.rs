//! `exp` of many numbers at once, bit for bit that of the `libm` crate.

const LN2_HIGH: f64 = 6.931_471_803_691_238e-1;
const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;
const INVERSE_LN2: f64 = std::f64::consts::LOG2_E;
/// Of the polynomial, from the square up.
const P: [f64; 5] = [
    1.666_666_666_666_660_2e-1,
    -2.777_777_777_701_559_3e-3,
    6.613_756_321_437_934e-5,
    -1.653_390_220_546_525_2e-6,
    4.138_136_797_057_238_5e-8,
];

/// Replaces every `x`, at most 0, by `exp(x)`.
///
/// Softmax takes this of a whole vocabulary. One call for each token takes longer than everything else in a sampler, so
/// here is the same computation (FreeBSD's `e_exp.c`, as `libm` has it) without branches, which becomes vector code. Lanes
/// that need a special case go to `libm` itself.
pub(super) fn exp_in_place(values: &mut [f64]) {
    let (chunks, rest) = values.as_chunks_mut::<8>();
    for chunk in chunks {
        // Nearer to underflow a result may need rounding twice.
        if chunk.iter().fold(true, |all, x| all & (*x >= -700.0) & (*x <= 0.0)) {
            chunk.iter_mut().for_each(|x| *x = exp(*x));
        } else {
            chunk.iter_mut().for_each(|x| *x = libm::exp(*x));
        }
    }
    rest.iter_mut().for_each(|x| *x = libm::exp(*x));
}

/// For `x` from -700 to 0.
#[inline(always)]
fn exp(x: f64) -> f64 {
    // The bounds are those of the upper half of the bits.
    let magnitude = (x.to_bits() >> 32) as u32 & 0x7fff_ffff;
    let far = (INVERSE_LN2 * x - 0.5) as i32;
    let k = if magnitude >= 0x3ff0_a2b2 { far } else { -i32::from(magnitude > 0x3fd6_2e42) };
    let high = x - f64::from(k) * LN2_HIGH;
    let low = f64::from(k) * LN2_LOW;
    let r = high - low;
    let square = r * r;
    let c = r - square * (P[0] + square * (P[1] + square * (P[2] + square * (P[3] + square * P[4]))));
    let y = 1.0 + (r * c / (2.0 - c) - low + high);
    let scaled = y * f64::from_bits(((1023 + k) as u64) << 52);
    if magnitude > 0x3e30_0000 { scaled } else { 1.0 + x }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn same(values: &[f64]) {
        let mut made = values.to_vec();
        exp_in_place(&mut made);
        for (x, made) in values.iter().zip(made) {
            assert_eq!(made.to_bits(), libm::exp(*x).to_bits(), "exp({x:e})");
        }
    }

    #[test]
    fn edges_and_a_fine_grid_are_those_of_libm() {
        let near = |x: f64| (-40..40).map(move |i| f64::from_bits((x.to_bits() as i64 + i) as u64));
        let ln2 = std::f64::consts::LN_2;
        let edges = [2f64.powi(-28), 0.5 * ln2, ln2, 1.5 * ln2, 2.5 * ln2, 100.5 * ln2, 700.0, 708.4, 745.13, 1e-300];
        let mut values: Vec<f64> = edges.iter().flat_map(|x| near(-x)).collect();
        // The upper half of the bits alone decides.
        values.extend(
            [0x3ff0_a2b2u64, 0x3fd6_2e42, 0x3fd6_2e43, 0x3e30_0000, 0x3e30_0001]
                .iter()
                .flat_map(|bits| [0, 1, 0xffff_ffff].map(|low| -f64::from_bits(bits << 32 | low))),
        );
        values.extend([0.0, -0.0, f64::NEG_INFINITY, f64::MIN, -5e-324, -1e-20, -3.0, -2.0]);
        same(&values);
        same(&(0..200_000).map(|i| f64::from(i) * -3.517e-3).collect::<Vec<_>>());
        same(&[2.0, -0.5, -1.0, -2.0, -3.0, -4.0, -5.0, f64::INFINITY]);
    }

    proptest! {
        #[test]
        fn any_number_gives_what_libm_gives(values in prop::collection::vec(-720.0..0.0f64, 1..40), small in -2.0..0.0f64) {
            same(&values);
            same(&values.iter().map(|x| x / 700.0 * small).collect::<Vec<_>>());
        }
    }
}
