//! Which continuations of the beams are looked at.

use std::cmp::Ordering;

use crate::sampling::rng;

/// A continuation: `beam * vocab_size + token`, and its score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pick {
    pub index: usize,
    pub score: f64,
}

fn best_first(a: &Pick, b: &Pick) -> Ordering {
    b.score.total_cmp(&a.score).then(a.index.cmp(&b.index))
}

/// The `count` continuations of the highest scores, best first; of equal ones the first.
pub(super) fn best(scores: &[Vec<f64>], count: usize) -> Vec<Pick> {
    let mut picks = Vec::new();
    for (beam, row) in scores.iter().enumerate() {
        let at = |(token, score): (usize, &f64)| Pick { index: beam * row.len() + token, score: *score };
        let mut own: Vec<Pick> = row.iter().enumerate().map(at).collect();
        if count < own.len() {
            own.select_nth_unstable_by(count, best_first);
            own.truncate(count);
        }
        picks.extend(own);
    }
    picks.sort_unstable_by(best_first);
    picks.truncate(count);
    picks
}

/// `count` continuations drawn without replacement by `softmax(scores)`, in the order they are drawn. The n-th draw takes
/// the random number of index `from + n`. Where no more have a probability, the best of the others follow.
pub(super) fn drawn(scores: &[Vec<f64>], count: usize, seed: u64, from: u64) -> Vec<Pick> {
    let max = scores.iter().flatten().copied().fold(f64::NEG_INFINITY, f64::max);
    let flat: Vec<f64> = scores.iter().flatten().copied().collect();
    let mut weights: Vec<f64> = flat.iter().map(|s| if max.is_finite() { libm::exp(s - max) } else { 0.0 }).collect();
    let mut picks: Vec<Pick> = Vec::with_capacity(count);
    for n in 0..count.min(flat.len()) as u64 {
        let total: f64 = weights.iter().sum();
        if total <= 0.0 {
            break;
        }
        let target = rng::uniform(seed, from + n) * total;
        let mut cumulative = 0.0;
        let mut chosen = 0;
        for (index, weight) in weights.iter().enumerate().filter(|(_, w)| **w > 0.0) {
            cumulative += weight;
            chosen = index;
            if cumulative > target {
                break;
            }
        }
        weights[chosen] = 0.0;
        picks.push(Pick { index: chosen, score: flat[chosen] });
    }
    if picks.len() < count {
        let others = best(scores, count + picks.len());
        let others: Vec<Pick> = others.into_iter().filter(|o| picks.iter().all(|p| p.index != o.index)).collect();
        picks.extend(others.into_iter().take(count - picks.len()));
    }
    picks
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NONE: f64 = f64::NEG_INFINITY;

    fn indices(picks: &[Pick]) -> Vec<usize> {
        picks.iter().map(|p| p.index).collect()
    }

    #[test]
    fn the_best_come_first_and_of_equals_the_first() {
        let scores = [vec![1.0, 5.0, 3.0], vec![5.0, NONE, 4.0]];
        assert_eq!(indices(&best(&scores, 4)), [1, 3, 5, 2]);
        assert_eq!(indices(&best(&scores, 99)), [1, 3, 5, 2, 0, 4]);
        assert_eq!(best(&scores, 1), [Pick { index: 1, score: 5.0 }]);
    }

    proptest! {
        #[test]
        fn partial_selection_agrees_with_sorting(
            rows in prop::collection::vec(prop::collection::vec(-8..8i32, 7), 1..5), count in 0..40usize,
        ) {
            let scores: Vec<Vec<f64>> = rows.iter().map(|r| r.iter().map(|x| f64::from(*x)).collect()).collect();
            let flat: Vec<f64> = scores.iter().flatten().copied().collect();
            let mut order: Vec<usize> = (0..flat.len()).collect();
            order.sort_by(|a, b| flat[*b].total_cmp(&flat[*a]).then(a.cmp(b)));
            order.truncate(count);
            prop_assert_eq!(indices(&best(&scores, count)), order);
        }
    }

    /// Fixed seeds. The pair (a, b) comes with the probability p(a) * p(b) / (1 - p(a)).
    #[test]
    fn draws_without_replacement_come_as_often_as_they_should() {
        let p = [0.1, 0.2, 0.3, 0.4f64];
        let scores = [vec![p[0].ln(), p[1].ln()], vec![p[2].ln(), p[3].ln()]];
        let draws = 20_000;
        let mut counts = [[0u32; 4]; 4];
        for seed in 0..draws {
            let [a, b] = indices(&drawn(&scores, 2, seed, 6))[..] else { panic!("two of them") };
            counts[a][b] += 1;
        }
        let mut chi_square = 0.0;
        for a in 0..4 {
            assert_eq!(counts[a][a], 0);
            for b in (0..4).filter(|b| *b != a) {
                let expected = draws as f64 * p[a] * p[b] / (1.0 - p[a]);
                chi_square += (f64::from(counts[a][b]) - expected).powi(2) / expected;
            }
        }
        // The 99.9% quantile for 11 degrees of freedom.
        assert!(chi_square < 31.26, "{chi_square}: {counts:?}");
    }

    #[test]
    fn where_nothing_is_likely_the_best_follow() {
        let scores = [vec![0.0, NONE, NONE], vec![-1e9, NONE, -2e9]];
        assert_eq!(indices(&drawn(&scores, 4, 3, 0)), [0, 3, 5, 1]);
        assert_eq!(indices(&drawn(&[vec![NONE, NONE]], 2, 3, 0)), [0, 1]);
        assert_eq!(drawn(&scores, 99, 3, 0).len(), 6);
    }
}
