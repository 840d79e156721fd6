//! Classification: which token stands for a row, and what the scores of its classes mean.

use camelid_core::llama::ProblemType;
use camelid_core::tokenizer::TokenId;

use super::ForwardError;
use crate::error::EngineError;
use crate::feed::Feed;
use crate::plans::Taps;
use crate::session::{Outputs, Session};
use crate::step::Content;

/// The token of each row whose scores are the row's, as transformers' `GenericForSequenceClassification` chooses it: the
/// rightmost one that is not the padding token, the first if all are; the last if no padding token is defined, which only
/// one row may leave open, or if the inputs are embeddings.
pub(super) fn pooled(
    ids: Option<&[Vec<TokenId>]>,
    batch: usize,
    length: usize,
    pad_token_id: Option<i64>,
) -> Result<Vec<usize>, ForwardError> {
    match (pad_token_id, ids) {
        (None, _) if batch > 1 => Err(ForwardError::NoPadToken { rows: batch }),
        (None, _) => Ok(vec![length - 1]),
        (Some(pad), Some(rows)) => Ok(rows.iter().map(|ids| rightmost(ids, pad)).collect()),
        (Some(_), None) => {
            tracing::warn!("padding is not seen in `inputs_embeds`: the last position of each row is classified");
            Ok(vec![length - 1; batch])
        }
    }
}

fn rightmost(ids: &[TokenId], pad: i64) -> usize {
    ids.iter().rposition(|id| i64::from(*id) != pad).unwrap_or(0)
}

/// Scores of texts, each alone, given as tokens: for each text `[num_labels]`. As many as the session holds are computed
/// together.
///
/// # Errors
/// [`EngineError::NoClassifier`], [`EngineError::EmptyPrompt`] for a text without tokens, and as [`Session::step`].
pub fn classify(session: &mut Session, texts: &[Vec<TokenId>]) -> Result<Vec<Vec<f32>>, EngineError> {
    session.model().num_labels()?;
    if texts.iter().any(Vec::is_empty) {
        return Err(EngineError::EmptyPrompt);
    }
    let pad = session.model().pad_token_id();
    let rows: Vec<[usize; 1]> =
        texts.iter().map(|ids| [pad.map_or(ids.len() - 1, |pad| rightmost(ids, pad))]).collect();
    let mut scores = vec![Vec::new(); texts.len()];
    let together = session.max_sequences();
    for (group, first) in texts.chunks(together).zip((0..).step_by(together)) {
        let mut sequences = Vec::new();
        let result = (|| {
            for _ in group {
                sequences.push(session.create()?);
            }
            let feeds: Vec<Feed<'_>> = (group.iter().zip(&sequences).zip(&rows[first..]))
                .map(|((ids, sequence), row)| Feed {
                    sequence: *sequence,
                    content: Content::Tokens(ids),
                    positions: None,
                    outputs: Outputs::Rows(row),
                    mask: None,
                })
                .collect();
            session.feed(&feeds, Taps::default(), &mut |part| scores[first + part.owner].extend_from_slice(part.logits))
        })();
        for sequence in sequences {
            session.release(sequence)?;
        }
        result?;
    }
    Ok(scores)
}

/// How scores become what is shown of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// One of the classes holds: probabilities that sum to one.
    Softmax,
    /// Each label holds or not: a probability of its own.
    Sigmoid,
    /// Numbers as they are.
    None,
}

impl Activation {
    /// The one that transformers' text classification pipeline applies.
    pub fn of(problem: Option<ProblemType>, num_labels: usize) -> Activation {
        match problem {
            Some(ProblemType::Regression) => Activation::None,
            Some(ProblemType::MultiLabel) => Activation::Sigmoid,
            _ if num_labels == 1 => Activation::Sigmoid,
            _ => Activation::Softmax,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Activation::Softmax => "softmax",
            Activation::Sigmoid => "sigmoid",
            Activation::None => "none",
        }
    }

    /// What is shown of `logits`.
    pub fn apply(self, logits: &[f32]) -> Vec<f64> {
        let logits = logits.iter().map(|x| f64::from(*x));
        match self {
            Activation::None => logits.collect(),
            Activation::Sigmoid => logits.map(|x| 1.0 / (1.0 + libm::exp(-x))).collect(),
            Activation::Softmax => {
                let largest = logits.clone().fold(f64::NEG_INFINITY, f64::max);
                let weights: Vec<f64> = logits.map(|x| libm::exp(x - largest)).collect();
                let sum: f64 = weights.iter().sum();
                weights.into_iter().map(|w| w / sum).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rightmost_token_that_is_no_padding_stands_for_a_row() {
        let rows = [vec![5, 6, 0], vec![0, 0, 7], vec![0, 5, 0], vec![0, 0, 0], vec![5, 0, 0]];
        assert_eq!(pooled(Some(&rows), 5, 3, Some(0)).unwrap(), [1, 2, 1, 0, 0]);
        assert_eq!(pooled(Some(&rows), 5, 3, Some(-1)).unwrap(), [2; 5], "no token is -1");
        assert_eq!(pooled(None, 5, 3, Some(0)).unwrap(), [2; 5]);
        assert_eq!(pooled(Some(&rows[..1]), 1, 3, None).unwrap(), [2]);
        assert_eq!(pooled(Some(&rows), 5, 3, None), Err(ForwardError::NoPadToken { rows: 5 }));
    }

    #[test]
    fn scores_are_shown_as_the_problem_asks() {
        let of = Activation::of;
        assert_eq!(of(None, 3), Activation::Softmax);
        assert_eq!(of(None, 1), Activation::Sigmoid);
        assert_eq!(of(Some(ProblemType::Regression), 1), Activation::None);
        assert_eq!(of(Some(ProblemType::MultiLabel), 3), Activation::Sigmoid);
        let shown = Activation::Softmax.apply(&[1000.0, 1000.0]);
        assert!(shown.iter().all(|p| (p - 0.5).abs() < 1e-12), "{shown:?}");
        assert!((Activation::Sigmoid.apply(&[0.0])[0] - 0.5).abs() < 1e-12);
        assert_eq!(Activation::None.apply(&[-3.5]), [-3.5]);
    }
}
