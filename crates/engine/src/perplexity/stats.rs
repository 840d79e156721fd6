//! Means with standard errors, and percentiles.

/// A mean and how far it may be off.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// Its standard error: the root of the variance over `n - 1`, as llama.cpp computes it; 0 for one value.
    pub error: f64,
}

impl Estimate {
    /// Of at least one value.
    pub(super) fn of(values: &[f64]) -> Estimate {
        Estimate { mean: mean(values), error: covariance(values, values).sqrt() }
    }
}

/// The sum, with the rounding errors carried along (Neumaier).
pub(super) fn sum(values: &[f64]) -> f64 {
    let (mut sum, mut lost) = (0.0f64, 0.0f64);
    for &value in values {
        let next = sum + value;
        if !next.is_finite() {
            return values.iter().sum();
        }
        lost += if sum.abs() >= value.abs() { (sum - next) + value } else { (value - next) + sum };
        sum = next;
    }
    sum + lost
}

/// The mean.
pub(super) fn mean(values: &[f64]) -> f64 {
    sum(values) / values.len() as f64
}

/// Covariance of two means: that of the values, over `n - 1`; 0 for one value.
pub(super) fn covariance(a: &[f64], b: &[f64]) -> f64 {
    if a.len() < 2 {
        return 0.0;
    }
    let (mean_a, mean_b) = (mean(a), mean(b));
    let products: Vec<f64> = a.iter().zip(b).map(|(x, y)| (x - mean_a) * (y - mean_b)).collect();
    mean(&products) / (a.len() - 1) as f64
}

/// The value below which a share of the sorted values lies, between two of them by their distance (NumPy's `linear`).
pub(super) fn percentile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let low = (place as usize).min(sorted.len() - 1);
    let high = (low + 1).min(sorted.len() - 1);
    let part = place - low as f64;
    if part == 0.0 { sorted[low] } else { (1.0 - part) * sorted[low] + part * sorted[high] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_errors_and_percentiles() {
        let values = [1.0, 2.0, 3.0, 6.0];
        let estimate = Estimate::of(&values);
        assert_eq!(estimate.mean, 3.0);
        assert!((estimate.error - (3.5f64 / 3.0).sqrt()).abs() < 1e-15);
        assert_eq!(Estimate::of(&[5.0]), Estimate { mean: 5.0, error: 0.0 });
        assert_eq!([0.0, 0.25, 0.5, 0.75, 1.0].map(|p| percentile(&values, p)), [1.0, 1.75, 2.5, 3.75, 6.0]);
        assert!((percentile(&values, 0.9) - 5.1).abs() < 1e-14);
        assert_eq!(percentile(&[4.0], 0.99), 4.0);
        assert_eq!(sum(&[1e100, 1.0, -1e100]), 1.0);
        assert_eq!(mean(&[1.0, f64::INFINITY]), f64::INFINITY);
        assert_eq!(percentile(&[1.0, f64::INFINITY], 0.0), 1.0);
    }
}
