//! Perplexity of a text, and how far a model's predictions are from another's.
//!
//! The text is read in overlapping windows, as Hugging Face's "Perplexity of fixed-length models" does: each window is
//! [`Windows::context`] tokens long and begins [`Windows::stride`] tokens after the one before; it starts from an empty
//! cache at position 0, and of its predictions only those of tokens that no earlier window held are counted. Read
//! [`perplexity`] for what is averaged, [`compare()`] for the divergence.
//!
//! All sums are in f64. Logits are read a few rows at a time, so that memory does not grow with the window.

mod compare;
mod stats;
mod windows;

use camelid_core::tokenizer::TokenId;
use thiserror::Error;

use crate::error::EngineError;
use crate::session::{Outputs, SequenceInput, Session};

pub use compare::{Comparison, Spread, compare};
pub use stats::Estimate;
pub use windows::{Window, Windows};

/// Most bytes of logits on the host at a time.
const LOGITS_BYTES: usize = 64 << 20;

/// An error of an evaluation.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PerplexityError {
    /// The engine refused.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// There is nothing to predict.
    #[error("the text has {tokens} tokens, but a prediction needs at least 2: one to predict from and one to predict")]
    TooShort {
        /// Tokens of the text, special ones included.
        tokens: usize,
    },
    /// A window's length makes no sense.
    #[error("the context is {context}, but it must {rule}")]
    Context {
        /// Tokens of a window.
        context: usize,
        /// The rule.
        rule: String,
    },
    /// A stride makes no sense.
    #[error("the stride is {stride}, but it must be from 1 to the context, {context}: a longer one would skip tokens")]
    Stride {
        /// Tokens from one window to the next.
        stride: usize,
        /// Tokens of a window.
        context: usize,
    },
    /// Logits that are no distribution.
    #[error("the logits that predict token {index} of the text are no distribution: {found}")]
    NoDistribution {
        /// Index in the text's tokens.
        index: usize,
        /// What is among them.
        found: &'static str,
    },
    /// Two models whose predictions cannot be compared.
    #[error("the model predicts {model} tokens and the other {base}: only models of one vocabulary can be compared")]
    VocabSize {
        /// Rows of the model's head.
        model: usize,
        /// Rows of the other's.
        base: usize,
    },
}

/// How well a model predicts a text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Perplexity {
    /// Tokens of the text.
    pub tokens: usize,
    /// Windows it was read in.
    pub windows: usize,
    /// Tokens predicted: all but the first of the text, and where the stride is the context, but the first of each window.
    pub scored: usize,
    /// Negative log-likelihood in nats, averaged as Hugging Face's page does: the mean of each window counts as often as
    /// the window has new tokens, less one. (Every window but the first predicts all of its new tokens if it overlaps the
    /// one before; the page counts one less there too.)
    pub nll: f64,
    /// The same as the plain mean over all predicted tokens, with its standard error.
    pub token_nll: Estimate,
}

impl Perplexity {
    /// `exp(nll)`: the number that Hugging Face's page computes.
    pub fn value(&self) -> f64 {
        libm::exp(self.nll)
    }

    /// `exp` of the plain mean, with its standard error: `value * error of the mean`.
    pub fn per_token(&self) -> Estimate {
        let value = libm::exp(self.token_nll.mean);
        Estimate { mean: value, error: value * self.token_nll.error }
    }
}

/// Perplexity of `tokens` under the session's model. `progress` hears the windows done, those in all, and the tokens
/// computed so far.
///
/// `tokens` are the text's as the tokenizer gives them, a beginning-of-sequence token at the front of the text included if
/// it adds one; windows after the first get none. All sequences of the session are forgotten.
///
/// # Errors
/// A [`PerplexityError`] for windows that make no sense or that the session has no room for, a text of fewer than two
/// tokens, and logits that are not numbers.
pub fn perplexity(
    session: &mut Session,
    tokens: &[TokenId],
    windows: Windows,
    progress: &mut dyn FnMut(usize, usize, usize),
) -> Result<Perplexity, PerplexityError> {
    let vocab_size = session.model().config().vocab_size;
    let list = windows.over(tokens.len())?;
    windows.check_room(tokens.len(), session.context_size())?;
    let mut tally = Tally::default();
    let mut computed = 0;
    for (done, window) in list.iter().enumerate() {
        let mut feed = Feed::new(session)?;
        for chunk in window.chunks(rows_together(vocab_size)) {
            let rows = feed.step(session, &tokens[chunk.tokens.clone()], &chunk.rows)?;
            for (row, target) in rows.chunks_exact(vocab_size).zip(chunk.targets.clone()) {
                let row = Row::new(row, target)?;
                tally.add(-row.log_prob(tokens[target]));
            }
        }
        tally.end_window(window);
        computed += window.end - window.begin;
        progress(done + 1, list.len(), computed);
    }
    session.reset();
    Ok(tally.finish(tokens.len()))
}

/// Rows of logits that are read together.
fn rows_together(vocab_size: usize) -> usize {
    (LOGITS_BYTES / size_of::<f32>() / vocab_size.max(1)).max(1)
}

/// The one sequence of a window.
struct Feed(camelid_core::cache::SequenceId);

impl Feed {
    fn new(session: &mut Session) -> Result<Feed, EngineError> {
        session.reset();
        Ok(Feed(session.create()?))
    }

    /// Appends tokens and returns these rows' logits, `[rows, vocab_size]`.
    fn step(&mut self, session: &mut Session, tokens: &[TokenId], rows: &[usize]) -> Result<Vec<f32>, EngineError> {
        let outputs = if rows.is_empty() { Outputs::None } else { Outputs::Rows(rows) };
        let logits = session.step(&[SequenceInput { sequence: self.0, tokens, positions: None, outputs }])?;
        Ok(logits.of_input(0).to_vec())
    }
}

/// Negative log-likelihoods of predicted tokens, in the order of the text.
#[derive(Default)]
struct Tally {
    nll: Vec<f64>,
    windows: usize,
    /// Where the current window's begin in `nll`.
    window_start: usize,
    /// As Hugging Face's page weighs them.
    weighted: f64,
    weights: usize,
}

impl Tally {
    fn add(&mut self, nll: f64) {
        self.nll.push(nll);
    }

    fn end_window(&mut self, window: &Window) {
        let new = &self.nll[self.window_start..];
        // A window of one new token and no overlap predicts nothing; the page would average no losses there.
        if !new.is_empty() {
            let weight = window.end - window.new - 1;
            // Otherwise 0 times an infinite loss would be no number.
            if weight > 0 {
                self.weighted += stats::sum(new) / new.len() as f64 * weight as f64;
                self.weights += weight;
            }
        }
        self.window_start = self.nll.len();
        self.windows += 1;
    }

    fn finish(&self, tokens: usize) -> Perplexity {
        Perplexity {
            tokens,
            windows: self.windows,
            scored: self.nll.len(),
            nll: self.weighted / self.weights as f64,
            token_nll: Estimate::of(&self.nll),
        }
    }
}

/// A row of logits as a distribution.
struct Row<'a> {
    logits: &'a [f32],
    /// The largest, and the logarithm of the sum of `exp(logit - max)`.
    max: f64,
    log_sum: f64,
}

impl<'a> Row<'a> {
    /// `target` is the index in the text of the token that the row predicts.
    fn new(logits: &'a [f32], target: usize) -> Result<Row<'a>, PerplexityError> {
        let wrong = |found| Err(PerplexityError::NoDistribution { index: target, found });
        if logits.iter().any(|l| l.is_nan()) {
            return wrong("NaN");
        }
        let max = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        if max.is_infinite() {
            return wrong(if max > 0.0 { "infinity" } else { "minus infinity alone" });
        }
        let sum: f64 = logits.iter().map(|l| libm::exp(f64::from(*l) - max)).sum();
        Ok(Row { logits, max, log_sum: libm::log(sum) })
    }

    /// Natural logarithm of a token's probability; -inf if it cannot come.
    fn log_prob(&self, token: TokenId) -> f64 {
        self.log_prob_of(self.logits[token as usize])
    }

    fn log_prob_of(&self, logit: f32) -> f64 {
        f64::from(logit) - self.max - self.log_sum
    }

    /// The likeliest token, of equal ones the lowest id.
    fn top(&self) -> usize {
        let max = self.max as f32;
        self.logits.iter().position(|l| *l == max).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_a_distribution_or_an_error() {
        let logits = [1.0f32, 3.0, 3.0, f32::NEG_INFINITY];
        let row = Row::new(&logits, 0).unwrap();
        let total: f64 = logits.iter().map(|l| row.log_prob_of(*l).exp()).sum();
        assert!((total - 1.0).abs() < 1e-14);
        assert_eq!((row.top(), row.log_prob(3)), (1, f64::NEG_INFINITY));
        for (logits, found) in
            [([f32::NAN, 1.0], "NaN"), ([f32::INFINITY, 1.0], "infinity"), ([f32::NEG_INFINITY; 2], "alone")]
        {
            let error = Row::new(&logits, 7).err().unwrap().to_string();
            assert!(error.contains(found) && error.contains("token 7"), "{error}");
        }
        assert!(Row::new(&[3e38, -3e38], 0).unwrap().log_prob(1) < -1e38);
    }

    #[test]
    fn windows_are_weighed_as_the_page_does() {
        // Windows of 4 with stride 2 over 6 tokens: [0, 4) predicts 3, [2, 6) predicts 2 and counts once.
        let mut tally = Tally::default();
        let windows = Windows { context: 4, stride: 2 }.over(6).unwrap();
        for (window, losses) in windows.iter().zip([&[1.0, 2.0, 6.0][..], &[5.0, 7.0]]) {
            losses.iter().for_each(|l| tally.add(*l));
            tally.end_window(window);
        }
        let result = tally.finish(6);
        assert_eq!((result.windows, result.scored), (2, 5));
        assert_eq!(result.nll, (3.0 * 3.0 + 6.0) / 4.0);
        assert_eq!(result.token_nll.mean, 21.0 / 5.0);
    }
}
