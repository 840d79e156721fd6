//! Temperature, top-k, top-p and min-p: from scores to the tokens that may come, with their weights. The filters that
//! look at the entropy are in `informative`.

use std::cmp::Ordering;

use camelid_core::tokenizer::TokenId;

use super::exp::exp_in_place;
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

/// The highest score; -inf of none. None is NaN.
pub(super) fn highest(scores: &[f64]) -> f64 {
    let (chunks, rest) = scores.as_chunks::<16>();
    let mut lanes = [f64::NEG_INFINITY; 16];
    for chunk in chunks {
        for (lane, score) in lanes.iter_mut().zip(chunk) {
            *lane = if *score > *lane { *score } else { *lane };
        }
    }
    lanes.iter().chain(rest).copied().fold(f64::NEG_INFINITY, f64::max)
}

/// The `k`-th highest score, found without sorting them all; -inf if there are not more than `k`, or if `k` is 0.
pub(super) fn kth_score(scores: impl ExactSizeIterator<Item = f64>, k: usize) -> f64 {
    if k == 0 || k >= scores.len() {
        return f64::NEG_INFINITY;
    }
    // What could be among the `k` highest: above the `k`-th of those looked at so far.
    let mut best: Vec<f64> = Vec::new();
    let room = k.saturating_mul(2).max(256);
    let mut floor = f64::NEG_INFINITY;
    let kth =
        |best: &mut Vec<f64>| *best.select_nth_unstable_by(k - 1, |a, b| b.partial_cmp(a).unwrap_or(Ordering::Equal)).1;
    for score in scores {
        if score > floor {
            best.push(score);
            if best.len() == room {
                floor = kth(&mut best);
                best.truncate(k);
            }
        }
    }
    // Fewer than `k` are above -inf.
    if best.len() < k { f64::NEG_INFINITY } else { kth(&mut best) }
}

/// The tokens that temperature (not 0) and the filters leave of `scores`, in rising order of id. At least one, and
/// `least` where there are so many.
///
/// The order is transformers': temperature, top-h, top-k, top-p, min-p, typical-p, epsilon, eta. Top-h, top-k, top-p and
/// min-p each keep a beginning of the list of tokens from the most likely down, so their order is a matter only of which
/// probabilities top-p adds up: those among the tokens that top-k left.
pub(super) fn filter(scores: &[f64], params: &SamplingParams, least: usize) -> Result<Vec<Candidate>, SamplingError> {
    let max = highest(scores);
    if max == f64::NEG_INFINITY {
        return Err(SamplingError::NothingLeft { vocab_size: scores.len() });
    }
    // The maximum is taken off first: a quotient of a large score and a small temperature would overflow.
    let exponent = |score: f64| below(score, max) / params.temperature;
    let possible = |score: f64| score > f64::NEG_INFINITY;
    let candidates = scores.iter().enumerate().map(|(id, s)| Candidate::new(id, *s));
    let mut kept: Vec<Candidate> = match params.top_h {
        Some(share) => {
            let mut kept: Vec<Candidate> = candidates.filter(|c| possible(c.score)).collect();
            informative::top_h(&mut kept, share, |score| libm::exp(exponent(score)));
            let kth = kth_score(kept.iter().map(|c| c.score), top_k(params, least));
            kept.retain(|c| c.score >= kth);
            kept
        }
        None => {
            let kth = kth_score(scores.iter().copied(), top_k(params, least));
            candidates.filter(|c| possible(c.score) && c.score >= kth).collect()
        }
    };
    let floor = if params.min_p > 0.0 { kth_score(kept.iter().map(|c| c.score), least) } else { f64::NEG_INFINITY };
    if params.min_p > 0.0 && params.top_p >= 1.0 {
        // Nobody asks for the weights of those that min-p is sure to leave out.
        let nearly = libm::log(params.min_p) - 1e-6;
        kept.retain(|c| exponent(c.score) >= nearly || c.score >= floor);
    }
    let mut weights: Vec<f64> = kept.iter().map(|c| exponent(c.score)).collect();
    exp_in_place(&mut weights);
    kept.iter_mut().zip(weights).for_each(|(candidate, weight)| candidate.weight = weight);
    // Of the probabilities' sum top-p needs all terms; of its tokens only those that min-p keeps as well.
    let total: f64 = if params.top_p < 1.0 { kept.iter().map(|c| c.weight).sum() } else { 0.0 };
    if params.min_p > 0.0 {
        kept.retain(|c| c.weight >= params.min_p || c.score >= floor);
    }
    if params.top_p < 1.0 {
        let place = |c: &Candidate| -exponent(c.score);
        let reach = Reach { mass: params.top_p * total, total, least };
        let last = reach.last(&kept, place, |c| c.weight, Candidate::most_likely_first);
        kept.retain(|c| c.most_likely_first(&last).is_le());
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

/// Fewer than this many are sorted right away.
const FEW: usize = 256;
/// Drawers for what lies from 0 to 64, and for all beyond.
const DRAWERS: usize = 1024;

/// The shortest beginning of a list in order whose shares add up to `mass` or more.
pub(super) struct Reach {
    pub mass: f64,
    /// About the sum of all shares, not below it.
    pub total: f64,
    /// How many the beginning has at least, from 1 up.
    pub least: usize,
}

impl Reach {
    /// The last item of that beginning; that of the whole list if it does not reach the mass. `items` is not empty, and
    /// lies in any order.
    ///
    /// The sum is that of the items in `order`, one after the other: where it is so near the mass that rounding
    /// decides, they are sorted and added up; else they are not. An item with a smaller `place`, from 0 up, comes first.
    pub fn last<T: Copy>(
        &self,
        items: &[T],
        place: impl Fn(&T) -> f64,
        share: impl Fn(&T) -> f64,
        order: impl Fn(&T, &T) -> Ordering,
    ) -> T {
        if self.least == 1
            && items.len() > FEW
            && let Some(last) = self.estimate(items, place, &share, &order)
        {
            return last;
        }
        self.sorted(items, share, order)
    }

    /// Sorts no more than it needs: the first 64, then twice as many, and so on.
    fn sorted<T: Copy>(&self, items: &[T], share: impl Fn(&T) -> f64, order: impl Fn(&T, &T) -> Ordering) -> T {
        let mut items = items.to_vec();
        let (mut sorted, mut kept, mut sum) = (0, 0, 0.0);
        while kept < items.len() && (kept < self.least || sum < self.mass) {
            if kept == sorted {
                let chunk = sorted.max(64).min(items.len() - sorted);
                let rest = &mut items[sorted..];
                if chunk < rest.len() {
                    rest.select_nth_unstable_by(chunk - 1, &order);
                }
                rest[..chunk].sort_unstable_by(&order);
                sorted += chunk;
            }
            sum += share(&items[kept]);
            kept += 1;
        }
        items[kept - 1]
    }

    /// The same from sums by drawers, of which only one is sorted; `None` where it is too close.
    fn estimate<T: Copy>(
        &self,
        items: &[T],
        place: impl Fn(&T) -> f64,
        share: impl Fn(&T) -> f64,
        order: impl Fn(&T, &T) -> Ordering,
    ) -> Option<T> {
        let drawer = |item: &T| ((place(item) * 16.0) as usize).min(DRAWERS - 1);
        let mut sums = [0f64; DRAWERS];
        for item in items {
            sums[drawer(item)] += share(item);
        }
        let (mut sum, mut decisive) = (0.0, 0);
        while decisive < DRAWERS && sum + sums[decisive] < self.mass {
            sum += sums[decisive];
            decisive += 1;
        }
        let mut list: Vec<T> = items.iter().copied().filter(|item| drawer(item) == decisive).collect();
        list.sort_unstable_by(order);
        // Sums in another order differ by far less than this.
        let close = |sum: f64| (sum - self.mass).abs() <= 1e-9 * self.total;
        for item in list {
            if close(sum) {
                return None;
            }
            sum += share(&item);
            if sum >= self.mass {
                return if close(sum) { None } else { Some(item) };
            }
        }
        None
    }
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

    #[test]
    fn drawers_find_what_sorting_finds() {
        // Thousands of tokens, many of them alike, far apart, or cut where the sum is reached exactly.
        let wave = |i: usize| (i as f64 * 0.61).sin() * 6.0 + (i as f64 * 0.013).cos() * 4.0;
        let lists: [Vec<f64>; 4] = [
            (0..3000).map(wave).collect(),
            (0..3000).map(|i| wave(i).round()).collect(),
            vec![1.5; 1024],
            (0..2000).map(|i| if i % 7 == 0 { wave(i) } else { wave(i) - 300.0 }).collect(),
        ];
        for scores in &lists {
            let max = highest(scores);
            let candidates: Vec<Candidate> = scores
                .iter()
                .enumerate()
                .map(|(id, s)| Candidate { weight: libm::exp(s - max), ..Candidate::new(id, *s) })
                .collect();
            let total: f64 = candidates.iter().map(|c| c.weight).sum();
            for p in [0.0, 1e-6, 0.1, 0.25, 0.5, 0.9, 0.95, 0.999, 1.0 - 1e-12] {
                let reach = Reach { mass: p * total, total, least: 1 };
                let share = |c: &Candidate| c.weight;
                let quick = reach.last(&candidates, |c| max - c.score, share, Candidate::most_likely_first);
                let sorted = reach.sorted(&candidates, share, Candidate::most_likely_first);
                assert_eq!(quick.token, sorted.token, "{p} of {} tokens", scores.len());
            }
        }
    }

    #[test]
    fn the_kth_score_is_found_among_many() {
        let scores: Vec<f64> = (0..5000).map(|i: u64| (i * 7919 % 1013) as f64).collect();
        let mut sorted = scores.clone();
        sorted.sort_by(|a, b| b.total_cmp(a));
        for k in [1, 2, 49, 50, 255, 256, 257, 2000, 4999] {
            assert_eq!(kth_score(scores.iter().copied(), k), sorted[k - 1], "{k}");
        }
        assert_eq!(kth_score(scores.iter().copied(), 5000), f64::NEG_INFINITY);
        let few = [f64::NEG_INFINITY, 3.0, f64::NEG_INFINITY, f64::NEG_INFINITY];
        assert_eq!(kth_score(few.into_iter(), 2), f64::NEG_INFINITY);
        assert_eq!(kth_score(few.into_iter(), 1), 3.0);
        assert_eq!((highest(&scores), highest(&few), highest(&[])), (1012.0, 3.0, f64::NEG_INFINITY));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn partial_selection_agrees_with_the_definition(
            quarters in prop::collection::vec(-40..24i32, 1..900),
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
