//! How far computed values are from reference values: one number to hold against a limit, or the reason there is none.
//!
//! Values that are not finite must be the same on both sides (NaN where the reference has NaN, infinities with their
//! sign) and take no part in the number; -0 equals 0; a reference that is zero everywhere has no scale, so the values
//! must then be within [`ZERO_REFERENCE_LIMIT`] of it.

use thiserror::Error;

/// The largest absolute difference from a reference that is zero everywhere.
pub const ZERO_REFERENCE_LIMIT: f64 = 1e-6;

/// Why two arrays have no distance.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum CompareError {
    /// The arrays hold different numbers of elements.
    #[error("{actual} values were computed and the reference has {expected}: compare the same rows of the same output")]
    Length {
        /// Computed elements.
        actual: usize,
        /// Reference elements.
        expected: usize,
    },
    /// Both arrays are empty, so the comparison would prove nothing.
    #[error("there is nothing to compare: both sides are empty")]
    Empty,
    /// An element that is not finite on one side, or infinite with the other sign.
    #[error("element {index} of {len} is {actual} where the reference has {expected}")]
    NotFinite {
        /// Flat index of the first such element.
        index: usize,
        /// Elements compared.
        len: usize,
        /// Computed value.
        actual: f32,
        /// Reference value.
        expected: f64,
    },
    /// The reference is zero everywhere and a computed value is too far from it.
    #[error(
        "the reference is 0 in all {len} elements and element {index} is {actual:e}: \
         at most {ZERO_REFERENCE_LIMIT:e} is allowed there"
    )]
    ZeroReference {
        /// Flat index of the element farthest from zero.
        index: usize,
        /// Elements compared.
        len: usize,
        /// Computed value.
        actual: f32,
    },
}

/// `max |a - e| / rms(e)`: the element-wise distance, which a single wrong element cannot hide in.
///
/// # Errors
/// See [`CompareError`]. The number itself is never NaN.
pub fn max_over_rms(actual: &[f32], expected: &[f64]) -> Result<f64, CompareError> {
    let Some(scale) = check(actual, expected)? else { return Ok(0.0) };
    let mut squares = 0.0;
    let (mut count, mut largest) = (0_u64, 0.0_f64);
    for (a, e) in finite(actual, expected) {
        squares += (e / scale).powi(2);
        largest = largest.max(((a - e) / scale).abs());
        count += 1;
    }
    Ok(largest / (squares / count as f64).sqrt())
}

/// `sum (a - e)^2 / sum e^2`: the normalized mean squared error, which sees a small loss of precision everywhere.
///
/// # Errors
/// See [`CompareError`]. The number itself is never NaN.
pub fn nmse(actual: &[f32], expected: &[f64]) -> Result<f64, CompareError> {
    let Some(scale) = check(actual, expected)? else { return Ok(0.0) };
    let (mut errors, mut squares) = (0.0, 0.0);
    for (a, e) in finite(actual, expected) {
        errors += ((a - e) / scale).powi(2);
        squares += (e / scale).powi(2);
    }
    Ok(errors / squares)
}

/// The largest finite |e|, by which both metrics divide first: squares of 1e-200 or 1e200 are not f64 numbers.
/// None if the reference is zero everywhere and the computed values are near enough.
fn check(actual: &[f32], expected: &[f64]) -> Result<Option<f64>, CompareError> {
    let len = expected.len();
    if actual.len() != len {
        return Err(CompareError::Length { actual: actual.len(), expected: len });
    }
    if len == 0 {
        return Err(CompareError::Empty);
    }
    let (mut scale, mut farthest) = (0.0_f64, 0);
    for (index, (&a, &e)) in actual.iter().zip(expected).enumerate() {
        let same = if e.is_nan() { a.is_nan() } else { f64::from(a) == e };
        let finite = a.is_finite() && e.is_finite();
        if !finite && !same {
            return Err(CompareError::NotFinite { index, len, actual: a, expected: e });
        }
        if e.is_finite() {
            scale = scale.max(e.abs());
            // NaN and infinities were dealt with above, so the order is total among what is left.
            if a.abs() > actual[farthest].abs() || !actual[farthest].is_finite() {
                farthest = index;
            }
        }
    }
    if scale > 0.0 {
        return Ok(Some(scale));
    }
    let value = actual[farthest];
    if value.is_finite() && f64::from(value.abs()) > ZERO_REFERENCE_LIMIT {
        return Err(CompareError::ZeroReference { index: farthest, len, actual: value });
    }
    Ok(None)
}

fn finite<'a>(actual: &'a [f32], expected: &'a [f64]) -> impl Iterator<Item = (f64, f64)> + 'a {
    actual.iter().zip(expected).filter(|(_, e)| e.is_finite()).map(|(a, e)| (f64::from(*a), *e))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Both metrics share the rules, so each rule is tested on both.
    fn both(actual: &[f32], expected: &[f64]) -> [Result<f64, CompareError>; 2] {
        [max_over_rms(actual, expected), nmse(actual, expected)]
    }

    #[test]
    fn the_numbers_are_those_of_the_formulas() {
        // rms([3, 4, 0, 0]) = sqrt(25 / 4) = 2.5; the differences are 0, 1, 0, -0.5.
        let (actual, expected) = ([3.0, 5.0, 0.0, -0.5], [3.0, 4.0, 0.0, 0.0]);
        assert_eq!(max_over_rms(&actual, &expected), Ok(0.4));
        assert_eq!(nmse(&actual, &expected), Ok(1.25 / 25.0));
        assert_eq!(both(&[3.0, 4.0], &[3.0, 4.0]), [Ok(0.0), Ok(0.0)]);
    }

    #[test]
    fn different_lengths_and_nothing_at_all_are_errors() {
        for result in both(&[1.0], &[1.0, 2.0]) {
            assert_eq!(result, Err(CompareError::Length { actual: 1, expected: 2 }));
        }
        for result in both(&[], &[]) {
            assert_eq!(result, Err(CompareError::Empty));
        }
    }

    #[test]
    fn values_that_are_not_finite_must_be_those_of_the_reference() {
        let (nan, inf) = (f32::NAN, f32::INFINITY);
        for (actual, expected) in [
            (nan, 1.0),
            (1.0, f64::NAN),
            (inf, 1.0),
            (inf, f64::NEG_INFINITY),
            (nan, f64::INFINITY),
            (f32::MAX, f64::INFINITY),
        ] {
            for result in both(&[1.0, actual, nan], &[1.0, expected, 2.0]) {
                let error = result.unwrap_err();
                assert!(matches!(error, CompareError::NotFinite { index: 1, len: 3, .. }), "{error}");
            }
        }
        let actual = [nan, inf, -inf, 3.0, 5.0];
        let expected = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 3.0, 4.0];
        assert_eq!(both(&actual, &expected), both(&actual[3..], &expected[3..]));
        assert_eq!(both(&[nan, inf], &[f64::NAN, f64::INFINITY]), [Ok(0.0), Ok(0.0)]);
    }

    #[test]
    fn a_reference_of_zeros_is_compared_absolutely() {
        assert_eq!(both(&[0.0, -0.0, -9e-7], &[0.0, 0.0, -0.0]), [Ok(0.0), Ok(0.0)]);
        for result in both(&[0.0, -2e-6, 1e-6], &[0.0; 3]) {
            assert_eq!(result, Err(CompareError::ZeroReference { index: 1, len: 3, actual: -2e-6 }));
        }
        for result in both(&[f32::NAN, 1.0], &[f64::NAN, 0.0]) {
            assert!(matches!(result, Err(CompareError::ZeroReference { index: 1, .. })), "{result:?}");
        }
    }

    #[test]
    fn tiny_and_huge_references_neither_vanish_nor_overflow() {
        for e in [1e-300, 5e-324, 1e300] {
            // A computed 0 is wrong by exactly the whole reference.
            for result in both(&[0.0, 0.0], &[e, -e]) {
                assert_eq!(result, Ok(1.0), "reference {e:e}");
            }
        }
        for result in both(&[f32::MAX], &[5e-324]) {
            assert_eq!(result, Ok(f64::INFINITY));
        }
    }

    proptest! {
        #[test]
        fn one_wrong_element_is_never_hidden(
            mut actual in prop::collection::vec(-10.0_f32..10.0, 1..300), at in any::<prop::sample::Index>(),
        ) {
            let expected: Vec<f64> = actual.iter().map(|&a| f64::from(a)).collect();
            prop_assert_eq!(max_over_rms(&actual, &expected).unwrap_or(0.0), 0.0);
            let at = at.index(actual.len());
            actual[at] += 1.0;
            // rms <= 10, so a difference of about 1 is at least about a tenth of it.
            if let Ok(distance) = max_over_rms(&actual, &expected) {
                prop_assert!(distance > 0.0999, "{distance}");
            }
        }

        #[test]
        fn no_input_gives_nan_or_a_panic(
            pairs in prop::collection::vec((any::<f32>(), any::<f64>()), 0..20),
        ) {
            let (actual, expected): (Vec<f32>, Vec<f64>) = pairs.into_iter().unzip();
            for distance in both(&actual, &expected).into_iter().flatten() {
                prop_assert!(distance >= 0.0);
            }
        }
    }
}
