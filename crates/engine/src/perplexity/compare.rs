//! How far a model's predictions are from those of another, the base: of the same model unquantized, say.
//!
//! The numbers are those of llama.cpp's `--kl-divergence`, over the tokens that [`super::perplexity`] predicts.

use camelid_core::tokenizer::TokenId;

use super::stats::{self, Estimate, covariance, percentile};
use super::{Feed, Perplexity, PerplexityError, Row, Tally, Windows, rows_together};
use crate::session::Session;

/// How values are spread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Their mean.
    pub mean: Estimate,
    /// The smallest.
    pub min: f64,
    /// Half are below it.
    pub median: f64,
    /// 90 of 100 are below it.
    pub p90: f64,
    /// 95 of 100 are below it.
    pub p95: f64,
    /// 99 of 100 are below it.
    pub p99: f64,
    /// 999 of 1000 are below it.
    pub p999: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    fn of(values: &[f64]) -> Spread {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        Spread {
            mean: Estimate::of(values),
            min: sorted[0],
            median: percentile(&sorted, 0.5),
            p90: percentile(&sorted, 0.9),
            p95: percentile(&sorted, 0.95),
            p99: percentile(&sorted, 0.99),
            p999: percentile(&sorted, 0.999),
            max: sorted[sorted.len() - 1],
        }
    }
}

/// A model beside its base, over the same tokens of the same text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// The model.
    pub model: Perplexity,
    /// The base.
    pub base: Perplexity,
    /// KL(base || model) of each prediction in nats: `sum_i b_i ln(b_i / m_i)` over the vocabulary. Infinite where the model
    /// rules a token out that the base does not.
    pub kl: Spread,
    /// The share of predictions whose likeliest token is the same; the error is `sqrt(p (1 - p) / (n - 1))`.
    pub same_top: Estimate,
    /// By how much the probability of the token that came differs, model less base.
    pub delta_p: Spread,
    /// The root mean square of that difference.
    pub delta_p_rms: Estimate,
    /// `ln(PPL / PPL of base)`, by the plain means over tokens; the error allows for their correlation.
    pub ln_ratio: Estimate,
    /// `PPL / PPL of base`.
    pub ratio: Estimate,
    /// `PPL - PPL of base`.
    pub difference: Estimate,
    /// `|PPL - PPL of base| / PPL of base`.
    pub relative: Estimate,
    /// Correlation of the two models' losses; not a number if one of them is the same everywhere.
    pub correlation: f64,
}

/// Compares the session's model with the base session's on `tokens`. `progress` and the windows are as for
/// [`super::perplexity`]; all sequences of both sessions are forgotten.
///
/// # Errors
/// As [`super::perplexity`], and [`PerplexityError::VocabSize`] for models of different vocabularies.
pub fn compare(
    session: &mut Session,
    base: &mut Session,
    tokens: &[TokenId],
    windows: Windows,
    progress: &mut dyn FnMut(usize, usize, usize),
) -> Result<Comparison, PerplexityError> {
    let sizes = [&*session, &*base].map(|s| s.model().config().vocab_size);
    let [vocab_size, base_size] = sizes;
    if vocab_size != base_size {
        return Err(PerplexityError::VocabSize { model: vocab_size, base: base_size });
    }
    let list = windows.over(tokens.len())?;
    windows.check_room(tokens.len(), session.context_size().min(base.context_size()))?;
    let mut pairs = Pairs::default();
    let mut computed = 0;
    for (done, window) in list.iter().enumerate() {
        let (mut feed, mut base_feed) = (Feed::new(session)?, Feed::new(base)?);
        // Half the rows each: two models' logits lie side by side.
        for chunk in window.chunks((rows_together(vocab_size) / 2).max(1)) {
            let part = &tokens[chunk.tokens.clone()];
            let rows = feed.step(session, part, &chunk.rows)?;
            let base_rows = base_feed.step(base, part, &chunk.rows)?;
            let both = rows.chunks_exact(vocab_size).zip(base_rows.chunks_exact(vocab_size));
            for ((row, base_row), target) in both.zip(chunk.targets.clone()) {
                pairs.add(&Row::new(row, target)?, &Row::new(base_row, target)?, tokens[target]);
            }
        }
        pairs.model.end_window(window);
        pairs.base.end_window(window);
        computed += window.end - window.begin;
        progress(done + 1, list.len(), computed);
    }
    session.reset();
    base.reset();
    Ok(pairs.finish(tokens.len()))
}

/// What each prediction gave.
#[derive(Default)]
struct Pairs {
    model: Tally,
    base: Tally,
    kl: Vec<f64>,
    delta_p: Vec<f64>,
    same_top: usize,
}

impl Pairs {
    fn add(&mut self, model: &Row<'_>, base: &Row<'_>, token: TokenId) {
        let (log_m, log_b) = (model.log_prob(token), base.log_prob(token));
        self.model.add(-log_m);
        self.base.add(-log_b);
        self.delta_p.push(libm::exp(log_m) - libm::exp(log_b));
        self.same_top += usize::from(model.top() == base.top());
        self.kl.push(divergence(base, model));
    }

    fn finish(&self, tokens: usize) -> Comparison {
        let (m, b) = (&self.model.nll, &self.base.nll);
        let n = self.kl.len() as f64;
        let (model, base) = (self.model.finish(tokens), self.base.finish(tokens));
        let (var_m, var_b, cov) = (covariance(m, m), covariance(b, b), covariance(m, b));
        let ln_ratio = Estimate {
            mean: model.token_nll.mean - base.token_nll.mean,
            error: (var_m + var_b - 2.0 * cov).max(0.0).sqrt(),
        };
        let ratio = libm::exp(ln_ratio.mean);
        let ratio = Estimate { mean: ratio, error: ratio * ln_ratio.error };
        let (p, q) = (model.per_token().mean, base.per_token().mean);
        let error = (p * p * var_m + q * q * var_b - 2.0 * p * q * cov).max(0.0).sqrt();
        let squares: Vec<f64> = self.delta_p.iter().map(|d| d * d).collect();
        let square = Estimate::of(&squares);
        let rms = square.mean.sqrt();
        let same = self.same_top as f64 / n;
        Comparison {
            model,
            base,
            kl: Spread::of(&self.kl),
            same_top: Estimate { mean: same, error: (same * (1.0 - same) / (n - 1.0).max(1.0)).sqrt() },
            delta_p: Spread::of(&self.delta_p),
            delta_p_rms: Estimate { mean: rms, error: if rms > 0.0 { 0.5 / rms * square.error } else { 0.0 } },
            ln_ratio,
            ratio,
            difference: Estimate { mean: p - q, error },
            // The relative difference is the ratio less one.
            relative: Estimate { mean: libm::expm1(ln_ratio.mean).abs(), error: ratio.error },
            correlation: cov / (var_m.sqrt() * var_b.sqrt()),
        }
    }
}

/// KL(base || model) in nats. Rounding may not make it negative.
fn divergence(base: &Row<'_>, model: &Row<'_>) -> f64 {
    let terms = base.logits.iter().zip(model.logits).map(|(b, m)| {
        let log_b = base.log_prob_of(*b);
        let p = libm::exp(log_b);
        if p > 0.0 { p * (log_b - model.log_prob_of(*m)) } else { 0.0 }
    });
    stats::sum(&terms.collect::<Vec<f64>>()).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kl(base: &[f32], model: &[f32]) -> f64 {
        divergence(&Row::new(base, 0).unwrap(), &Row::new(model, 0).unwrap())
    }

    #[test]
    fn divergence_is_that_of_the_definition() {
        let (b, m) = ([0.25f64, 0.5, 0.25], [0.5f64, 0.25, 0.25]);
        let logits = |p: [f64; 3]| p.map(|x| x.ln() as f32);
        let expected: f64 = b.iter().zip(m).map(|(b, m)| b * (b / m).ln()).sum();
        assert!((kl(&logits(b), &logits(m)) - expected).abs() < 1e-7);
        assert_eq!(kl(&[1.0, 2.0], &[1.0, 2.0]), 0.0);
        assert_eq!(kl(&[1.0, f32::NEG_INFINITY], &[0.0, f32::NEG_INFINITY]), 0.0);
        assert_eq!(kl(&[0.0, 0.0], &[0.0, f32::NEG_INFINITY]), f64::INFINITY);
        // What can hardly come hardly counts, however far the other is.
        assert_eq!(kl(&[0.0, -3e38], &[0.0, 0.0]), 2f64.ln());
    }

    #[test]
    fn what_is_the_same_has_no_distance() {
        let mut pairs = Pairs::default();
        for (i, logits) in [[0.5f32, 1.0, -2.0], [3.0, 1.0, 2.0], [0.0, 0.1, 0.2]].iter().enumerate() {
            let row = Row::new(logits, i).unwrap();
            pairs.add(&row, &row, i as TokenId);
        }
        let window = super::super::Window { begin: 0, new: 0, end: 4 };
        pairs.model.end_window(&window);
        pairs.base.end_window(&window);
        let result = pairs.finish(4);
        assert_eq!((result.kl.max, result.same_top.mean, result.delta_p_rms.mean), (0.0, 1.0, 0.0));
        assert_eq!((result.ratio.mean, result.difference.mean, result.relative.mean), (1.0, 0.0, 0.0));
        assert_eq!((result.ln_ratio.error, result.delta_p_rms.error), (0.0, 0.0));
        assert!((result.correlation - 1.0).abs() < 1e-12);
    }
}
