//! Filters that measure tokens by their information: top-h, typical-p, epsilon and eta.
//!
//! Each takes candidates that can come, in rising order of id and (but for top-h) with their weights, and keeps some of
//! them in that order. Probabilities are those among the candidates it is given, as in transformers.

use std::cmp::Ordering;

use camelid_core::tokenizer::TokenId;

use super::filters::{Candidate, Reach, kth_score};

/// Tokens that top-h looks at.
const TOP_H_TOKENS: usize = 100;

/// Of the 100 most likely candidates keeps the most likely whose terms `-p ln p` add up to at most `share` of the
/// entropy, and the first. `weight` of a score is in proportion to its probability.
pub(super) fn top_h(candidates: &mut Vec<Candidate>, share: f64, weight: impl Fn(f64) -> f64) {
    if candidates.len() > TOP_H_TOKENS {
        candidates.select_nth_unstable_by(TOP_H_TOKENS - 1, Candidate::most_likely_first);
        candidates.truncate(TOP_H_TOKENS);
    }
    candidates.sort_unstable_by(Candidate::most_likely_first);
    candidates.iter_mut().for_each(|c| c.weight = weight(c.score));
    let total: f64 = candidates.iter().map(|c| c.weight).sum();
    let term = |c: &Candidate| information_share(c.weight / total);
    let limit = share * candidates.iter().map(term).sum::<f64>();
    let mut sum = 0.0;
    let kept = candidates.iter().take_while(|c| {
        sum += term(c);
        c.weight > 0.0 && sum <= limit
    });
    let kept = kept.count().max(1);
    candidates.truncate(kept);
    candidates.sort_unstable_by_key(|c| c.token);
}

/// Keeps the candidates whose information `-ln p` is nearest to the entropy: the fewest that together have the
/// probability `mass`, those as near as the last of them, and at least `least`. All for a mass of 1.
pub(super) fn typical(candidates: &mut Vec<Candidate>, mass: f64, least: usize) {
    if mass >= 1.0 || least >= candidates.len() {
        return;
    }
    let total: f64 = candidates.iter().map(|c| c.weight).sum();
    // The logarithm of each probability serves the entropy and the distance from it.
    let mut rated: Vec<(f64, Candidate)> = candidates.iter().map(|c| (libm::log(c.weight / total), *c)).collect();
    let terms = rated.iter().map(|(log, c)| if c.weight / total > 0.0 { -(c.weight / total) * log } else { 0.0 });
    let entropy: f64 = terms.sum();
    rated.iter_mut().for_each(|(log, _)| *log = (-*log - entropy).abs());
    let nearest_first = |a: &(f64, Candidate), b: &(f64, Candidate)| {
        a.0.partial_cmp(&b.0).unwrap_or(Ordering::Equal).then(a.1.token.cmp(&b.1.token))
    };
    let reach = Reach { mass, total: 1.0, least: 1 };
    let mut farthest = reach.last(&rated, |(distance, _)| *distance, |(_, c)| c.weight / total, nearest_first);
    // All that are as near as the last one are kept.
    farthest.1.token = TokenId::MAX;
    if least > rated.iter().filter(|r| nearest_first(r, &farthest).is_le()).count() {
        farthest = *rated.select_nth_unstable_by(least - 1, nearest_first).1;
    }
    rated.retain(|r| nearest_first(r, &farthest).is_le());
    *candidates = rated.into_iter().map(|(_, c)| c).collect();
    candidates.sort_unstable_by_key(|c| c.token);
}

/// Keeps the candidates of at least the probability `cutoff`, and the `least` most likely. All for a cutoff of 0.
pub(super) fn epsilon(candidates: &mut Vec<Candidate>, cutoff: f64, least: usize) {
    if cutoff > 0.0 {
        let total: f64 = candidates.iter().map(|c| c.weight).sum();
        let floor = floor(candidates, least);
        candidates.retain(|c| c.weight / total >= cutoff || c.score >= floor);
    }
}

/// As [`epsilon`] with the smaller of `cutoff` and `sqrt(cutoff) * exp(-entropy)`.
pub(super) fn eta(candidates: &mut Vec<Candidate>, cutoff: f64, least: usize) {
    if cutoff > 0.0 {
        let eta = cutoff.min(cutoff.sqrt() * libm::exp(-entropy(candidates)));
        epsilon(candidates, eta, least);
    }
}

/// The `least`-th highest score; -inf if there are no more.
fn floor(candidates: &[Candidate], least: usize) -> f64 {
    kth_score(candidates.iter().map(|c| c.score), least)
}

/// In nats.
fn entropy(candidates: &[Candidate]) -> f64 {
    let total: f64 = candidates.iter().map(|c| c.weight).sum();
    candidates.iter().map(|c| information_share(c.weight / total)).sum()
}

/// `-p ln p`, 0 for 0.
fn information_share(p: f64) -> f64 {
    if p > 0.0 { -p * libm::log(p) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Candidates with these probabilities.
    fn candidates(probabilities: &[f64]) -> Vec<Candidate> {
        let max = probabilities.iter().copied().fold(0.0, f64::max);
        let one = |(id, p): (usize, &f64)| Candidate { weight: p / max, ..Candidate::new(id, p.ln()) };
        probabilities.iter().enumerate().map(one).collect()
    }

    fn ids(candidates: &[Candidate]) -> Vec<u32> {
        candidates.iter().map(|c| c.token).collect()
    }

    #[test]
    fn typical_leaves_out_what_is_too_likely() {
        // Entropy 1.03 nats: nearest is 0.25 (1.39), then 0.6 (0.51), then 0.1 and 0.05.
        let all = candidates(&[0.05, 0.6, 0.1, 0.25]);
        let kept = |mass, least| {
            let mut c = all.clone();
            typical(&mut c, mass, least);
            ids(&c)
        };
        assert_eq!(kept(0.2, 1), [3]);
        assert_eq!(kept(0.3, 1), [1, 3]);
        assert_eq!(kept(0.86, 1), [1, 2, 3]);
        assert_eq!(kept(0.2, 2), [1, 3]);
        assert_eq!(kept(1.0, 1), [0, 1, 2, 3]);
        let mut even = candidates(&[0.25; 4]);
        typical(&mut even, 0.3, 1);
        assert_eq!(ids(&even), [0, 1, 2, 3], "all are equally near");
    }

    #[test]
    fn cutoffs_keep_the_most_likely() {
        let all = candidates(&[0.05, 0.6, 0.1, 0.25]);
        let kept = |f: fn(&mut Vec<Candidate>, f64, usize), cutoff, least| {
            let mut c = all.clone();
            f(&mut c, cutoff, least);
            ids(&c)
        };
        assert_eq!(kept(epsilon, 0.08, 1), [1, 2, 3]);
        assert_eq!(kept(epsilon, 0.9, 1), [1]);
        assert_eq!(kept(epsilon, 0.9, 2), [1, 3]);
        assert_eq!(kept(epsilon, 0.0, 1), [0, 1, 2, 3]);
        // sqrt(0.5) * exp(-1.0297) = 0.2525, and 0.09 < sqrt(0.09) * 0.357 = 0.107.
        assert_eq!(kept(eta, 0.5, 1), [1]);
        assert_eq!(kept(eta, 0.48, 1), [1, 3]);
        assert_eq!(kept(eta, 0.09, 1), [1, 2, 3]);
    }

    #[test]
    fn top_h_keeps_a_share_of_the_entropy() {
        // Terms: 0.306 of 0.6, 0.347 of 0.25, 0.230 of 0.1, 0.150 of 0.05.
        let all = candidates(&[0.05, 0.6, 0.1, 0.25]);
        let kept = |share: f64| {
            let mut c = all.clone();
            top_h(&mut c, share, f64::exp);
            ids(&c)
        };
        assert_eq!(kept(0.1), [1], "always the most likely");
        assert_eq!(kept(0.6), [1]);
        assert_eq!(kept(0.7), [1, 3]);
        assert_eq!(kept(0.9), [1, 2, 3]);
        assert_eq!(kept(1.0), [0, 1, 2, 3]);
        let mut many = candidates(&[0.005; 200]);
        top_h(&mut many, 1.0, f64::exp);
        assert!(many.len() >= 99 && many.len() <= 100, "{} of the first hundred", many.len());
    }
}
