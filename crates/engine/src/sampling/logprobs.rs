//! Log-probabilities of the model's own distribution.

use camelid_core::tokenizer::TokenId;

use super::filters::{self, Candidate};
use super::{SamplingError, check_logits};

/// A token with its log-probability.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenLogprob {
    /// The token.
    pub token: TokenId,
    /// Natural logarithm of its probability; -inf for a token that cannot come.
    pub logprob: f64,
}

/// Log-probabilities under `softmax(logits)`: the raw distribution, before bias, penalties, temperature and filters.
///
/// First comes `chosen`, then the `top_n` tokens of the largest logits (all, if there are fewer) from the largest down, of
/// equal ones the lowest id first. `chosen` is among them again if it is one of them.
///
/// # Errors
/// A [`SamplingError`] for logits that are no distribution, and for a `chosen` that has none.
pub fn log_probs(logits: &[f32], chosen: TokenId, top_n: usize) -> Result<Vec<TokenLogprob>, SamplingError> {
    check_logits(logits)?;
    let vocab_size = logits.len();
    if chosen as usize >= vocab_size {
        return Err(SamplingError::TokenOutOfRange { id: chosen, place: "the tokens to report", vocab_size });
    }
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if max == f32::NEG_INFINITY {
        return Err(SamplingError::NothingLeft { vocab_size });
    }
    let max = f64::from(max);
    let sum: f64 = logits.iter().map(|l| libm::exp(filters::below(f64::from(*l), max))).sum();
    let log_sum = libm::log(sum);
    let entry = |token: TokenId| {
        let logprob = filters::below(f64::from(logits[token as usize]), max) - log_sum;
        TokenLogprob { token, logprob }
    };
    let mut list = vec![entry(chosen)];
    if top_n > 0 {
        let scores = || logits.iter().map(|l| f64::from(*l));
        let nth = filters::kth_score(scores(), top_n);
        let best = scores().enumerate().filter(|(_, s)| *s >= nth);
        let mut best: Vec<Candidate> = best.map(|(id, s)| Candidate::new(id, s)).collect();
        best.sort_unstable_by(Candidate::most_likely_first);
        list.extend(best.iter().take(top_n).map(|c| entry(c.token)));
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(list: &[TokenLogprob]) -> Vec<TokenId> {
        list.iter().map(|t| t.token).collect()
    }

    #[test]
    fn the_chosen_token_comes_first_and_then_the_most_likely() {
        let logits = [0.0f32, 2.0, 2.0, -1.0, f32::NEG_INFINITY, 3.0];
        let list = log_probs(&logits, 3, 3).unwrap();
        assert_eq!(tokens(&list), [3, 5, 1, 2]);
        let sum: f64 = logits.iter().map(|l| f64::from(*l).exp()).sum();
        for entry in &list {
            assert!((entry.logprob - (f64::from(logits[entry.token as usize]) - sum.ln())).abs() < 1e-14);
        }
        let all = log_probs(&logits, 1, 99).unwrap();
        assert_eq!(tokens(&all), [1, 5, 1, 2, 0, 3, 4]);
        assert_eq!(all[6].logprob, f64::NEG_INFINITY);
        assert!((all[1..].iter().map(|t| t.logprob.exp()).sum::<f64>() - 1.0).abs() < 1e-14);
        assert_eq!(tokens(&log_probs(&logits, 0, 0).unwrap()), [0]);
    }

    #[test]
    fn ties_at_the_edge_go_to_the_lowest_ids() {
        assert_eq!(tokens(&log_probs(&[1.0, 5.0, 5.0, 5.0, 5.0], 0, 2).unwrap()), [0, 1, 2]);
    }

    #[test]
    fn far_apart_and_infinite_logits_do_not_overflow() {
        let list = log_probs(&[3e38, -3e38], 1, 1).unwrap();
        assert_eq!((list[1].logprob, list[0].logprob < -1e38), (0.0, true));
        let list = log_probs(&[f32::INFINITY, 1.0, f32::INFINITY], 1, 2).unwrap();
        assert_eq!((list[0].logprob, list[1].logprob), (f64::NEG_INFINITY, -std::f64::consts::LN_2));
    }

    #[test]
    fn what_is_no_distribution_is_an_error() {
        assert_eq!(log_probs(&[f32::NAN], 0, 1), Err(SamplingError::Nan { index: 0, vocab_size: 1 }));
        assert_eq!(log_probs(&[f32::NEG_INFINITY], 0, 1), Err(SamplingError::NothingLeft { vocab_size: 1 }));
        assert_eq!(log_probs(&[], 0, 1), Err(SamplingError::NoLogits));
        assert!(log_probs(&[0.0], 1, 1).unwrap_err().to_string().contains("token id 1"));
    }
}
