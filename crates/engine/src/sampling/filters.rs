//! Temperature, top-k, top-p and min-p: from scores to the tokens that may come, with their weights. The filters that
//! look at the entropy are in `informative`.

use std::cmp::Ordering;

use camelid_core::tokenizer::TokenId;

use super::{SamplingError, SamplingParams, informative};

/// A token that may come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub token: TokenId,
    /// Its logit after bias and penalties; not NaN.
    pub score: f64,
    /// In proportion to its probability; the most likely token has 1.
    pub weight: f64,
}

impl Candidate {
    pub(super) fn new(id: usize, score: f64) -> Candidate {
        Candidate { token: id as TokenId, score, weight: 0.0 }
    }

    /// Falling scores, and rising ids where they are equal: a total order, as no score is NaN.
    pub(super) fn most_likely_first(&self, other: &Candidate) -> Ordering {
        let by_score = other.score.partial_cmp(&self.score).unwrap_or(Ordering::Equal);
        by_score.then(self.token.cmp(&other.token))
    }
}

/// `score - max`, which is 0 where both are +inf.
pub(super) fn below(score: f64, max: f64) -> f64 {
    if score == max { 0.0 } else { score - max }
}

/// The `k`-th highest score, found without sorting them all; -inf if there are not more than `k`, or if `k` is 0.
pub(super) fn kth_score(scores: impl ExactSizeIterator<Item = f64>, k: usize) -> f64 {
    if k == 0 || k >= scores.len() {
        return f64::NEG_INFINITY;
    }
    let mut scores: Vec<f64> = scores.collect();
    let (_, kth, _) = scores.select_nth_unstable_by(k - 1, |a, b| b.partial_cmp(a).unwrap_or(Ordering::Equal));
    *kth
}

/// The tokens that temperature (not 0) and the filters leave of `scores`, in rising order of id. At least one, and
/// `least` where there are so many.
///
/// The order is transformers': temperature, top-h, top-k, top-p, min-p, typical-p, epsilon, eta. Top-h, top-k, top-p and
/// min-p each keep a beginning of the list of tokens from the most likely down, so their order is a matter only of which
/// probabilities top-p adds up: those among the tokens that top-k left.
pub(super) fn filter(scores: &[f64], params: &SamplingParams, least: usize) -> Result<Vec<Candidate>, SamplingError> {
    let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if max == f64::NEG_INFINITY {
        return Err(SamplingError::NothingLeft { vocab_size: scores.len() });
    }
    // The maximum is taken off first: a quotient of a large score and a small temperature would overflow.
    let weight = |score: f64| libm::exp(below(score, max) / params.temperature);
    let possible = |score: f64| score > f64::NEG_INFINITY;
    let candidates = scores.iter().enumerate().map(|(id, s)| Candidate::new(id, *s));
    let mut kept: Vec<Candidate> = match params.top_h {
        Some(share) => {
            let mut kept: Vec<Candidate> = candidates.filter(|c| possible(c.score)).collect();
            informative::top_h(&mut kept, share, weight);
            let kth = kth_score(kept.iter().map(|c| c.score), top_k(params, least));
            kept.retain(|c| c.score >= kth);
            kept
        }
        None => {
            let kth = kth_score(scores.iter().copied(), top_k(params, least));
            candidates.filter(|c| possible(c.score) && c.score >= kth).collect()
        }
    };
    for candidate in &mut kept {
        candidate.weight = weight(candidate.score);
    }
    // Of the probabilities' sum top-p needs all terms; of its tokens only those that min-p keeps as well.
    let total: f64 = kept.iter().map(|c| c.weight).sum();
    if params.min_p > 0.0 {
        let floor = kth_score(kept.iter().map(|c| c.score), least);
        kept.retain(|c| c.weight >= params.min_p || c.score >= floor);
    }
    if params.top_p < 1.0 {
        top_p(&mut kept, params.top_p * total, least);
    }
    informative::typical(&mut kept, params.typical_p, least);
    informative::epsilon(&mut kept, params.epsilon_cutoff, least);
    informative::eta(&mut kept, params.eta_cutoff, least);
    Ok(kept)
}

/// How many tokens top-k keeps; 0 for all.
fn top_k(params: &SamplingParams, least: usize) -> usize {
    if params.top_k == 0 { 0 } else { params.top_k.max(least) }
}

/// Keeps the fewest most likely tokens whose weights add up to `mass` or more, at least `least`; in rising order of id.
///
/// Sorts no more than it needs: the most likely 64 tokens, then twice as many, and so on.
fn top_p(candidates: &mut Vec<Candidate>, mass: f64, least: usize) {
    let mut sorted = 0;
    let mut kept = 0;
    let mut sum = 0.0;
    while kept < candidates.len() && (kept < least || sum < mass) {
        if kept == sorted {
            let chunk = sorted.max(64).min(candidates.len() - sorted);
            let rest = &mut candidates[sorted..];
            if chunk < rest.len() {
                rest.select_nth_unstable_by(chunk - 1, Candidate::most_likely_first);
            }
            rest[..chunk].sort_unstable_by(Candidate::most_likely_first);
            sorted += chunk;
        }
        sum += candidates[kept].weight;
        kept += 1;
    }
    candidates.truncate(kept);
    candidates.sort_unstable_by_key(|c| c.token);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kept(scores: &[f64], params: &SamplingParams) -> Vec<TokenId> {
        filter(scores, params, 1).unwrap().iter().map(|c| c.token).collect()
    }

    fn params(top_k: usize, top_p: f64, min_p: f64) -> SamplingParams {
        SamplingParams { temperature: 1.0, top_k, top_p, min_p, ..SamplingParams::default() }
    }

    #[test]
    fn top_k_keeps_all_that_tie_with_the_last() {
        let scores = [1.0, 2.0, 2.0, 3.0, 2.0];
        assert_eq!(kept(&scores, &params(1, 1.0, 0.0)), [3]);
        assert_eq!(kept(&scores, &params(2, 1.0, 0.0)), [1, 2, 3, 4]);
        assert_eq!(kept(&scores, &params(5, 1.0, 0.0)), [0, 1, 2, 3, 4]);
        assert_eq!(kept(&scores, &params(usize::MAX, 1.0, 0.0)), [0, 1, 2, 3, 4]);
        assert_eq!(kept(&scores, &params(0, 1.0, 0.0)), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn top_p_keeps_the_fewest_that_reach_it() {
        // Probabilities 1/8, 1/2, 1/8, 1/4.
        let scores = [0.125f64, 0.5, 0.125, 0.25].map(f64::ln);
        assert_eq!(kept(&scores, &params(0, 0.0, 0.0)), [1], "at least one");
        assert_eq!(kept(&scores, &params(0, 0.49, 0.0)), [1]);
        assert_eq!(kept(&scores, &params(0, 0.51, 0.0)), [1, 3]);
        assert_eq!(kept(&scores, &params(0, 0.8, 0.0)), [0, 1, 3], "of equals the lowest id");
        assert_eq!(kept(&scores, &params(0, 0.9, 0.0)), [0, 1, 2, 3]);
        assert_eq!(kept(&scores, &params(2, 0.6, 0.0)), [1], "2/3 among the two that top-k left");
        assert_eq!(kept(&[0.0; 4], &params(0, 0.5, 0.0)), [0, 1], "reached exactly");
    }

    #[test]
    fn min_p_is_relative_to_the_most_likely() {
        let scores = [0.0, -1.0, -2.0, -3.0];
        assert_eq!(kept(&scores, &params(0, 1.0, 0.2)), [0, 1]);
        assert_eq!(kept(&scores, &params(0, 1.0, 1.0)), [0]);
        assert_eq!(kept(&[1.0, 1.0, 0.0], &params(0, 1.0, 1.0)), [0, 1]);
        let hot = SamplingParams { temperature: 2.0, ..params(0, 1.0, 0.2) };
        assert_eq!(kept(&scores, &hot), [0, 1, 2, 3], "after the temperature");
        assert_eq!(kept(&[0.0, f64::NEG_INFINITY], &params(0, 1.0, 0.0)), [0], "-inf never comes");
    }

    #[test]
    fn beams_keep_as_many_as_they_need() {
        let scores = [0.0, -1.0, -2.0, -3.0, f64::NEG_INFINITY];
        let kept = |p: &SamplingParams, least| {
            let kept = filter(&scores, p, least).unwrap();
            kept.iter().map(|c| c.token).collect::<Vec<_>>()
        };
        for strict in [params(1, 1.0, 0.0), params(0, 0.01, 0.0), params(0, 1.0, 1.0)] {
            assert_eq!(kept(&strict, 1), [0]);
            assert_eq!(kept(&strict, 3), [0, 1, 2], "{strict:?}");
            assert_eq!(kept(&strict, 9), [0, 1, 2, 3], "{strict:?}: what cannot come is not kept");
        }
        let cutoffs = SamplingParams { epsilon_cutoff: 0.9, eta_cutoff: 0.9, ..params(0, 1.0, 0.0) };
        assert_eq!((kept(&cutoffs, 1), kept(&cutoffs, 2)), (vec![0], vec![0, 1]));
    }

    /// The definition, word for word: sort everything, then one filter after the other.
    fn by_definition(scores: &[f64], p: &SamplingParams) -> Vec<TokenId> {
        let mut list: Vec<(TokenId, f64)> = (0..).zip(scores.iter().copied()).filter(|(_, s)| s.is_finite()).collect();
        list.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap().then(a.0.cmp(&b.0)));
        if p.top_k > 0 && p.top_k < list.len() {
            let kth = list[p.top_k - 1].1;
            list.retain(|(_, s)| *s >= kth);
        }
        let best = list[0].1;
        let weight = |s: f64| libm::exp((s - best) / p.temperature);
        let mut by_id = list.clone();
        by_id.sort_by_key(|(id, _)| *id);
        let mass = p.top_p * by_id.iter().map(|(_, s)| weight(*s)).sum::<f64>();
        if p.top_p < 1.0 {
            let mut before = 0.0;
            let mut n = 0;
            list.retain(|(_, s)| {
                let keep = n == 0 || before < mass;
                before += weight(*s);
                n += 1;
                keep
            });
        }
        list.retain(|(_, s)| weight(*s) >= p.min_p);
        let mut ids: Vec<TokenId> = list.into_iter().map(|(id, _)| id).collect();
        ids.sort();
        ids
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn partial_selection_agrees_with_the_definition(
            quarters in prop::collection::vec(-40..24i32, 1..400),
            (temperature, top_k, top_p, min_p) in (0.1..3.0f64, 0..150usize, 0.0..1.2f64, 0.0..0.3f64),
        ) {
            let scores: Vec<f64> = quarters
                .iter()
                .map(|q| if *q == -40 { f64::NEG_INFINITY } else { f64::from(*q) / 4.0 })
                .collect();
            prop_assume!(scores.iter().any(|s| s.is_finite()));
            let p = SamplingParams {
                temperature, top_k, top_p: top_p.min(1.0), min_p: (min_p - 0.1).max(0.0), ..SamplingParams::default()
            };
            prop_assert_eq!(kept(&scores, &p), by_definition(&scores, &p));
        }
    }
}
