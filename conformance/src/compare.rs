//! How far computed values are from reference values: one number to hold against a limit, or the reason there is none.
//!
//! Values that are not finite must be the same on both sides (NaN where the reference has NaN, infinities with their
//! sign) and take no part in the number; -0 equals 0; a reference that is zero everywhere has no scale, so the values
//! must then be within [`ZERO_REFERENCE_LIMIT`] of it.

use serde::{Deserialize, Serialize};
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

/// An element and what it should be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Worst {
    /// Which output.
    pub output: String,
    /// Its index, one number a dimension.
    pub index: Vec<usize>,
    /// What was computed; as text, because JSON knows no NaN.
    pub actual: String,
    /// What the reference has.
    pub expected: String,
}

/// The `count` elements farthest from the reference, farthest first; elements that are not finite where they should
/// be come before all others.
pub fn worst(output: &str, dims: &[usize], actual: &[f32], expected: &[f64], count: usize) -> Vec<Worst> {
    let distance = |i: usize| {
        let (a, e) = (f64::from(actual[i]), expected[i]);
        let same = a == e || (a.is_nan() && e.is_nan());
        if same { 0.0 } else { Some((a - e).abs()).filter(|d| !d.is_nan()).unwrap_or(f64::INFINITY) }
    };
    let len = actual.len().min(expected.len());
    let mut wrong: Vec<(f64, usize)> = (0..len).map(|i| (distance(i), i)).filter(|(d, _)| *d > 0.0).collect();
    wrong.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    wrong.truncate(count);
    wrong
        .into_iter()
        .map(|(_, i)| Worst {
            output: output.to_owned(),
            index: unravel(i, dims),
            actual: format!("{:e}", actual[i]),
            expected: format!("{:e}", expected[i]),
        })
        .collect()
}

pub(crate) fn unravel(mut flat: usize, dims: &[usize]) -> Vec<usize> {
    let mut index = vec![0; dims.len()];
    for (i, dim) in dims.iter().enumerate().rev() {
        index[i] = flat % (*dim).max(1);
        flat /= (*dim).max(1);
    }
    index
}

/// The Kullback-Leibler divergence of softmax(actual) from softmax(expected), in nats, for each row of `columns`
/// logits: what a reader of the text would notice. A constant added to a row is not seen: pair it with another metric.
///
/// # Errors
/// See [`CompareError`]; so for rows that are not finite on either side.
pub fn kl(actual: &[f32], expected: &[f64], columns: usize) -> Result<Vec<f64>, CompareError> {
    check(actual, expected)?;
    let rows = actual.chunks(columns).zip(expected.chunks(columns));
    Ok(rows.map(|(a, e)| kl_row(a, e)).collect())
}

fn kl_row(actual: &[f32], expected: &[f64]) -> f64 {
    let log_softmax = |row: Vec<f64>| -> Vec<f64> {
        let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = row.iter().map(|x| (x - max).exp()).sum();
        row.iter().map(|x| x - max - sum.ln()).collect()
    };
    let (a, e) = (log_softmax(actual.iter().map(|x| f64::from(*x)).collect()), log_softmax(expected.to_vec()));
    let sum: f64 = e.iter().zip(&a).map(|(e, a)| if e.exp() == 0.0 { 0.0 } else { e.exp() * (e - a) }).sum();
    // Rounding can leave a divergence of nothing a little below zero.
    sum.max(0.0)
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
    fn the_worst_elements_come_first_with_their_place() {
        let found = worst("y", &[2, 3], &[1.0, 2.0, f32::NAN, 4.0, 7.0, 6.0], &[1.0, 2.5, 3.0, 4.0, 5.0, 6.0], 9);
        let places: Vec<_> = found.iter().map(|w| (w.index.clone(), w.actual.as_str())).collect();
        assert_eq!(places, [(vec![0, 2], "NaN"), (vec![1, 1], "7e0"), (vec![0, 1], "2e0")]);
    }

    #[test]
    fn the_divergence_is_that_of_the_formula_and_blind_to_a_constant() {
        // p = (3/4, 1/4), q = (1/2, 1/2): 3/4 ln 3/2 + 1/4 ln 1/2.
        let expected = [3.0_f64.ln(), 0.0];
        let found = kl(&[5.0, 5.0], &expected, 2).unwrap();
        assert!((found[0] - (0.75 * 1.5_f64.ln() + 0.25 * 0.5_f64.ln())).abs() < 1e-15, "{found:?}");
        let shifted = kl(&[3.0_f32.ln() + 8.0, 8.0, 0.0, 0.0], &[3.0_f64.ln(), 0.0, 0.0, 0.0], 2).unwrap();
        assert!(shifted[0] < 1e-12 && shifted[1] == 0.0, "{shifted:?}");
        assert!(kl(&[f32::NAN, 0.0], &expected, 2).is_err());
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
