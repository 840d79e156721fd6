//! The one way products are summed here. Every kernel that contracts two rows calls it, so a row's bits never depend
//! on where the row stands or on what is computed beside it.

/// Partial sums that run side by side: enough of them for the compiler to use vector registers, in an order that is
/// part of the result.
const LANES: usize = 16;

/// `sum_i a[i] * b[i]` for rows of one length.
///
/// The product of two f32 is exact in f64, so only the sums round: the error is at most `len * 2^-53 * sum |a b|`.
/// Lane `l` sums the products `l`, `l + 16`, `l + 32`, ...; then the lanes are added pairwise.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f64 {
    debug_assert_eq!(a.len(), b.len());
    let (a_chunks, a_rest) = a.as_chunks::<LANES>(); // [len / 16][16]
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0f64; LANES];
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..LANES {
            sums[lane] += f64::from(a[lane]) * f64::from(b[lane]);
        }
    }
    for ((sum, a), b) in sums.iter_mut().zip(a_rest).zip(b_rest) {
        *sum += f64::from(*a) * f64::from(*b);
    }
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
        width /= 2;
    }
    sums[0]
}

#[cfg(test)]
mod tests {
    use super::dot;
    use crate::tensor::testing::noise;

    #[test]
    fn it_is_the_sum_of_products_for_every_remainder() {
        for len in 0..70 {
            let (a, b) = (noise(len, len as usize), noise(len + 100, len as usize));
            let plain: f64 = a.iter().zip(&b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            assert!((dot(&a, &b) - plain).abs() < 1e-14, "{len} elements");
        }
    }

    #[test]
    fn what_f32_would_lose_is_kept() {
        // In f32 the ones vanish beside 2^24.
        let a = [16_777_216.0, 1.0, 1.0, -16_777_216.0];
        assert_eq!(dot(&a, &[1.0; 4]), 2.0);
        assert_eq!(dot(&[f32::MAX; 32], &[f32::MAX; 32]), 32.0 * f64::from(f32::MAX) * f64::from(f32::MAX));
    }

    #[test]
    fn not_a_number_and_infinity_come_through() {
        let mut a = [1.0; 33];
        a[32] = f32::NAN;
        assert!(dot(&a, &[0.0; 33]).is_nan());
        a[32] = f32::INFINITY;
        assert_eq!(dot(&a, &[1.0; 33]), f64::INFINITY);
    }
}
