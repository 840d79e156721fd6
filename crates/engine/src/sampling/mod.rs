//! Choosing tokens from logits, on the host: the same logits, parameters and seed give the same tokens on any backend.
//!
//! [`SamplingParams`] says how, [`Sampler`] does it, [`log_probs`] reports what the model itself thought. Nothing here
//! touches a device or a cache. Start reading at [`Sampler::sample`].
//!
//! # Order
//! That of transformers' `generate`, which is not the order of anybody else. Each rule works on what the ones above left:
//!
//! | Rule | Parameter | Where |
//! |---|---|---|
//! | *(beams only: log-softmax)* | | [`Sampler::beam_scores`] |
//! | bias of tokens, then of sequences | `logit_bias`, `sequence_bias` | `penalties`, [`Constraints`] |
//! | encoder repetition penalty, over the prompt | `encoder_repetition_penalty` | `penalties` |
//! | repetition penalty | `repetition_penalty` | `penalties` |
//! | presence and frequency penalty *(OpenAI's; transformers has neither)* | `presence_penalty`, `frequency_penalty` | `penalties` |
//! | no n-gram twice, then none of the prompt | `no_repeat_ngram_size`, `encoder_no_repeat_ngram_size` | [`Constraints`] |
//! | bad words | `bad_words_ids` | [`Constraints`] |
//! | no end before the least length | `min_length`, `min_new_tokens` | [`Constraints`] |
//! | forced first and last token | `forced_bos_token_id`, `forced_eos_token_id` | [`Constraints`] |
//! | NaN and infinities replaced | `remove_invalid_values` | [`Constraints`] |
//! | the end drawn nearer | `exponential_decay_length_penalty` | [`Constraints`] |
//! | suppressed tokens, everywhere and at the beginning | `suppress_tokens`, `begin_suppress_tokens` | [`Constraints`] |
//! | **greedy choice and beam search stop here** | `temperature` 0 | |
//! | temperature | `temperature` | `filters` |
//! | top-h, top-k, top-p, min-p | `top_h`, `top_k`, `top_p`, `min_p` | `filters`, `informative` |
//! | typical-p, epsilon, eta | `typical_p`, `epsilon_cutoff`, `eta_cutoff` | `informative` |
//! | *(beams only: log-softmax again)* | `renormalize_logits` | [`Sampler::beam_scores`] |
//!
//! In beam sampling every filter keeps at least one token more than there are end-of-sequence tokens (two, if there are
//! none): a beam that could only end would leave the search with nothing.
//!
//! # Reproducibility
//! All arithmetic is in f64, in an order fixed by token ids and sorted logits; `exp` and `ln` are those of the `libm`
//! crate, which is the same code on every platform; the random number for the i-th generated token depends on the
//! seed and on i alone. What is left to a backend is the logits: where two differ in rounding, so may a token whose
//! share of the cumulative distribution ends within that rounding of the number drawn.

mod constraints;
mod error;
mod exp;
mod filters;
mod greedy;
mod informative;
mod logprobs;
mod params;
mod penalties;
pub(crate) mod rng;

pub use constraints::Constraints;
pub use error::SamplingError;
pub use logprobs::{TokenLogprob, log_probs};
pub use params::SamplingParams;

use camelid_core::tokenizer::TokenId;

use constraints::Place;
use filters::Candidate;
use penalties::Penalties;

/// A chosen token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampled {
    /// The token.
    pub token: TokenId,
    /// Natural logarithm of the probability with which it was chosen: after bias, penalties, temperature and filters; 0
    /// for a greedy choice. [`log_probs`] has the model's own.
    pub logprob: f64,
}

/// Chooses the tokens of one sequence.
///
/// It keeps no state that matters from one call to the next: what it answers depends on its parameters and on the
/// arguments only, so a sequence may be rolled back, forked or resumed at any time.
#[derive(Clone, Debug)]
pub struct Sampler {
    params: SamplingParams,
    penalties: Penalties,
    scores: Vec<f64>,
    eos: Vec<TokenId>,
    max_new_tokens: Option<usize>,
}

impl Sampler {
    /// A sampler that follows `params`.
    ///
    /// # Errors
    /// [`SamplingError::Param`] for a value out of range.
    pub fn new(params: SamplingParams) -> Result<Sampler, SamplingError> {
        params.check()?;
        let (penalties, scores) = (Penalties::default(), Vec::new());
        Ok(Sampler { params, penalties, scores, eos: Vec::new(), max_new_tokens: None })
    }

    /// The same, knowing which tokens end the sequence and how many there will be at most: without it the
    /// [`Constraints`] on the end have no effect.
    pub fn with_ends(mut self, eos: &[TokenId], max_new_tokens: usize) -> Sampler {
        self.eos = eos.to_vec();
        self.max_new_tokens = Some(max_new_tokens);
        self
    }

    /// What it follows.
    pub fn params(&self) -> &SamplingParams {
        &self.params
    }

    /// Chooses the token that comes after `history`, whose first `prompt_len` tokens are the prompt.
    ///
    /// `logits` `[vocab_size]` are the model's for the last token of `history`. A logit of -inf is never chosen; one of
    /// +inf always is, each of several with the same probability (greedy: the lowest id).
    ///
    /// The choice is by inverse cumulative distribution over the tokens that the filters leave, in rising order of
    /// id: the first whose cumulative probability exceeds the number drawn for index `history.len() - prompt_len`.
    ///
    /// # Errors
    /// A [`SamplingError`] for logits that are no distribution (NaN, none above -inf) and for ids outside of the
    /// vocabulary in `history` or in the logit bias.
    pub fn sample(&mut self, logits: &[f32], history: &[TokenId], prompt_len: usize) -> Result<Sampled, SamplingError> {
        if self.params.temperature == 0.0 {
            return Ok(Sampled { token: self.greedy(logits, history, prompt_len)?, logprob: 0.0 });
        }
        self.score(logits, history, prompt_len)?;
        let kept = filters::filter(&self.scores, &self.params, 1)?;
        let index = (history.len() - prompt_len) as u64;
        let total: f64 = kept.iter().map(|c| c.weight).sum();
        let chosen = choose(&kept, total, rng::uniform(self.params.seed, index));
        Ok(Sampled { token: chosen.token, logprob: libm::log(chosen.weight / total) })
    }

    /// The distribution that [`Sampler::sample`] draws from: the tokens the filters leave, in rising order of id, with
    /// probabilities that add up to 1. For a greedy choice it is one token.
    ///
    /// # Errors
    /// As [`Sampler::sample`].
    pub fn distribution(
        &mut self,
        logits: &[f32],
        history: &[TokenId],
        prompt_len: usize,
    ) -> Result<Vec<(TokenId, f64)>, SamplingError> {
        if self.params.temperature == 0.0 {
            return Ok(vec![(self.greedy(logits, history, prompt_len)?, 1.0)]);
        }
        self.score(logits, history, prompt_len)?;
        let kept = filters::filter(&self.scores, &self.params, 1)?;
        let total: f64 = kept.iter().map(|c| c.weight).sum();
        Ok(kept.into_iter().map(|c| (c.token, c.weight / total)).collect())
    }

    /// What a beam that ends with `history` adds for each next token, `[vocab_size]`: the log-probabilities after every
    /// rule that [`Sampler::sample`] follows, -inf for a token that must not come. All of them may be -inf.
    ///
    /// # Errors
    /// As [`Sampler::sample`].
    pub fn beam_scores(
        &mut self,
        logits: &[f32],
        history: &[TokenId],
        prompt_len: usize,
    ) -> Result<&[f64], SamplingError> {
        self.check(logits, history, prompt_len)?;
        self.scores.clear();
        self.scores.extend(logits.iter().map(|l| f64::from(*l)));
        log_softmax(&mut self.scores);
        self.process(history, prompt_len)?;
        if self.params.temperature > 0.0 && self.scores.iter().any(|s| *s > f64::NEG_INFINITY) {
            let least = if self.eos.is_empty() { 2 } else { self.eos.len() + 1 };
            let kept = filters::filter(&self.scores, &self.params, least)?;
            self.scores.fill(f64::NEG_INFINITY);
            for candidate in kept {
                self.scores[candidate.token as usize] = candidate.score / self.params.temperature;
            }
        }
        if self.params.renormalize_logits {
            log_softmax(&mut self.scores);
        }
        Ok(&self.scores)
    }

    /// Fills `self.scores` with the logits after all rules but the filters: no NaN, `[vocab_size]`.
    fn score(&mut self, logits: &[f32], history: &[TokenId], prompt_len: usize) -> Result<(), SamplingError> {
        self.check(logits, history, prompt_len)?;
        self.scores.clear();
        self.scores.extend(logits.iter().map(|l| f64::from(*l)));
        self.process(history, prompt_len)
    }

    fn check(&self, logits: &[f32], history: &[TokenId], prompt_len: usize) -> Result<(), SamplingError> {
        match check_logits(logits) {
            Err(SamplingError::Nan { .. }) if self.params.constraints.remove_invalid_values => {}
            other => other?,
        }
        if prompt_len > history.len() {
            return Err(SamplingError::PromptLen { prompt_len, history_len: history.len() });
        }
        Ok(())
    }

    /// Every rule above the temperature in the module's table, on `self.scores`.
    fn process(&mut self, history: &[TokenId], prompt_len: usize) -> Result<(), SamplingError> {
        let params = &self.params;
        let at = Place { history, prompt_len, eos: &self.eos, max_new_tokens: self.max_new_tokens };
        penalties::add_bias(&mut self.scores, &params.logit_bias)?;
        params.constraints.shift(&mut self.scores, at)?;
        let to_prompt = params.constraints.encoder_repetition_penalty;
        self.penalties.apply_to_prompt(&mut self.scores, to_prompt, &history[..prompt_len])?;
        self.penalties.apply(&mut self.scores, params, history, prompt_len)?;
        params.constraints.restrict(&mut self.scores, at)
    }

    /// The lowest id among those of the highest score.
    fn greedy(&mut self, logits: &[f32], history: &[TokenId], prompt_len: usize) -> Result<TokenId, SamplingError> {
        let nothing = SamplingError::NothingLeft { vocab_size: logits.len() };
        if self.params.keeps_scores() {
            // Nothing moves a score: the logits are looked at once, where they lie. What is wrong with them is said below.
            if let Some(id) = greedy::first_highest(logits)
                && prompt_len <= history.len()
            {
                return if logits[id] > f32::NEG_INFINITY { Ok(id as TokenId) } else { Err(nothing) };
            }
        }
        self.score(logits, history, prompt_len)?;
        match greedy::first_highest(&self.scores) {
            Some(id) if self.scores[id] > f64::NEG_INFINITY => Ok(id as TokenId),
            _ => Err(nothing),
        }
    }
}

/// The first candidate whose cumulative weight exceeds `uniform`'s share of the total.
fn choose(kept: &[Candidate], total: f64, uniform: f64) -> &Candidate {
    let target = uniform * total;
    let mut cumulative = 0.0;
    let mut last = &kept[0];
    for candidate in kept.iter().filter(|c| c.weight > 0.0) {
        cumulative += candidate.weight;
        last = candidate;
        if cumulative > target {
            break;
        }
    }
    // `uniform < 1` but its product with the total may round up to the total: then it is the last one.
    last
}

/// `x - ln(sum(exp(x)))`; infinite ones share alike, and where all are -inf they stay.
fn log_softmax(scores: &mut [f64]) {
    let max = filters::highest(scores);
    if max == f64::NEG_INFINITY {
        return;
    }
    let log_sum = libm::log(scores.iter().map(|s| libm::exp(filters::below(*s, max))).sum());
    scores.iter_mut().for_each(|s| *s = filters::below(*s, max) - log_sum);
}

fn check_logits(logits: &[f32]) -> Result<(), SamplingError> {
    if logits.is_empty() {
        return Err(SamplingError::NoLogits);
    }
    // A run of them at a time, without looking which.
    if !logits.chunks(1024).any(|chunk| chunk.iter().fold(false, |any, l| any | l.is_nan())) {
        return Ok(());
    }
    let index = logits.iter().position(|l| l.is_nan()).unwrap_or(0);
    Err(SamplingError::Nan { index, vocab_size: logits.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampler(params: SamplingParams) -> Sampler {
        Sampler::new(params).unwrap()
    }

    fn sampling(seed: u64) -> SamplingParams {
        SamplingParams { temperature: 1.0, seed, ..SamplingParams::default() }
    }

    #[test]
    fn greedy_takes_the_lowest_id_among_the_highest() {
        let mut greedy = sampler(SamplingParams::default());
        let mut token = |logits: &[f32]| greedy.sample(logits, &[], 0).unwrap();
        assert_eq!(token(&[1.0, 3.0, 3.0, 2.0]), Sampled { token: 1, logprob: 0.0 });
        assert_eq!(token(&[-0.0, 0.0]).token, 0);
        assert_eq!(token(&[f32::NEG_INFINITY, -1e30]).token, 1);
        assert_eq!(token(&[1.0, f32::INFINITY, f32::INFINITY]).token, 1);
    }

    #[test]
    fn logits_that_are_no_distribution_are_errors() {
        for params in [SamplingParams::default(), sampling(1)] {
            let mut s = sampler(params);
            let nan = s.sample(&[0.0, f32::NAN, f32::NAN], &[], 0).unwrap_err();
            assert_eq!(nan, SamplingError::Nan { index: 1, vocab_size: 3 });
            assert!(nan.to_string().contains("logit 1 of 3 is NaN"), "{nan}");
            let none = s.sample(&[f32::NEG_INFINITY; 4], &[], 0).unwrap_err();
            assert_eq!(none, SamplingError::NothingLeft { vocab_size: 4 });
            assert_eq!(s.sample(&[], &[], 0), Err(SamplingError::NoLogits));
            assert_eq!(s.sample(&[0.0], &[0], 2), Err(SamplingError::PromptLen { prompt_len: 2, history_len: 1 }));
        }
    }

    #[test]
    fn infinite_logits_win_and_share_alike() {
        let mut s = sampler(SamplingParams { top_k: 3, top_p: 0.9, min_p: 0.1, temperature: 0.3, ..sampling(5) });
        let logits = [f32::INFINITY, 3e38, f32::NEG_INFINITY, f32::INFINITY];
        assert_eq!(s.distribution(&logits, &[], 0).unwrap(), [(0, 0.5), (3, 0.5)]);
    }

    #[test]
    fn the_coldest_temperature_is_greedy_and_the_hottest_uniform() {
        let logits = [1.0f32, 3e38, -3e38, 0.0];
        let at = |temperature| {
            let mut s = sampler(SamplingParams { temperature, ..sampling(1) });
            s.distribution(&logits, &[], 0).unwrap()
        };
        let cold: Vec<f64> = at(f64::from_bits(1)).into_iter().map(|(_, p)| p).collect();
        assert_eq!(cold, [0.0, 1.0, 0.0, 0.0]);
        assert!(at(1e300).iter().all(|(_, p)| (p - 0.25).abs() < 1e-12));
    }

    #[test]
    fn a_draw_depends_on_its_index_and_the_seed_alone() {
        let logits: Vec<f32> = (0..50).map(|i| (i as f32 * 0.7).sin()).collect();
        let mut one = sampler(sampling(42));
        let history: Vec<TokenId> = (0..40).collect();
        let in_order: Vec<TokenId> = (0..40).map(|n| one.sample(&logits, &history[..n], 0).unwrap().token).collect();
        // Backwards, by a new sampler each, with another prompt in front: the same tokens.
        for n in (0..40).rev() {
            let prompted: Vec<TokenId> = [9, 9, 9].iter().chain(&history[..n]).copied().collect();
            assert_eq!(sampler(sampling(42)).sample(&logits, &prompted, 3).unwrap().token, in_order[n]);
        }
        let mut other = sampler(sampling(43));
        let others: Vec<TokenId> = (0..40).map(|n| other.sample(&logits, &history[..n], 0).unwrap().token).collect();
        assert_ne!(in_order, others);
    }

    /// Fixed seeds: either it always passes or it never does. The bound is the 99.9% quantile of chi-square.
    #[test]
    fn tokens_come_as_often_as_their_probabilities_say() {
        let logits = [0.0f32, 1.0, -1.0, 2.0, 0.5, f32::NEG_INFINITY, -3.0, 1.5];
        let draws = 20_000;
        for (params, degrees_of_freedom_quantile) in [
            (sampling(7), 22.46),                                                     // 7 tokens
            (SamplingParams { temperature: 2.5, ..sampling(8) }, 22.46),              // 7 tokens
            (SamplingParams { top_k: 4, ..sampling(9) }, 16.27),                      // 4 tokens
            (SamplingParams { top_p: 0.8, temperature: 0.8, ..sampling(10) }, 13.82), // 3 tokens
        ] {
            let mut s = sampler(params);
            let expected = s.distribution(&logits, &[], 0).unwrap();
            let mut counts = [0u32; 8];
            let history = vec![0; draws];
            for i in 0..draws {
                let sampled = s.sample(&logits, &history[..i], 0).unwrap();
                let (_, p) = expected.iter().find(|(token, _)| *token == sampled.token).expect("a kept token");
                assert!((sampled.logprob - p.ln()).abs() < 1e-12);
                counts[sampled.token as usize] += 1;
            }
            let chi_square: f64 = expected
                .iter()
                .map(|(token, p)| {
                    let e = p * draws as f64;
                    (f64::from(counts[*token as usize]) - e).powi(2) / e
                })
                .sum();
            assert!(chi_square < degrees_of_freedom_quantile, "{chi_square} for {counts:?}");
        }
    }

    #[test]
    fn beams_add_log_probabilities() {
        let logits = [0.0f32, 1.0, 2.0, 3.0];
        let expected: Vec<f64> = {
            let sum: f64 = logits.iter().map(|l| f64::from(*l).exp()).sum();
            logits.iter().map(|l| f64::from(*l) - sum.ln()).collect()
        };
        let scores = |params: SamplingParams, eos: &[TokenId]| {
            let mut s = sampler(params).with_ends(eos, 10);
            s.beam_scores(&logits, &[1], 1).unwrap().to_vec()
        };
        let near = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| a == b || (a - b).abs() < 1e-14);
        assert!(near(&scores(SamplingParams::default(), &[]), &expected));
        let mut twice = expected.clone();
        twice[1] *= 2.0;
        let penalty = SamplingParams { repetition_penalty: 2.0, ..SamplingParams::default() };
        assert!(near(&scores(penalty, &[]), &twice), "a log-probability is negative");
        // Beam sampling: at least one token more than there are ends.
        let strict = SamplingParams { temperature: 2.0, top_k: 1, ..sampling(1) };
        let none = f64::NEG_INFINITY;
        assert!(near(&scores(strict.clone(), &[]), &[none, none, expected[2] / 2.0, expected[3] / 2.0]));
        let three = [none, expected[1] / 2.0, expected[2] / 2.0, expected[3] / 2.0];
        assert!(near(&scores(strict.clone(), &[0, 2]), &three));
        let again = scores(SamplingParams { renormalize_logits: true, ..strict }, &[]);
        assert!((again.iter().map(|s| s.exp()).sum::<f64>() - 1.0).abs() < 1e-14);
    }

    #[test]
    fn a_logit_that_is_no_number_can_be_removed() {
        let remove = Constraints { remove_invalid_values: true, ..Constraints::default() };
        let params = SamplingParams { constraints: remove, ..SamplingParams::default() };
        assert_eq!(sampler(params).sample(&[-1.0, f32::NAN, -2.0], &[], 0).unwrap().token, 1);
    }

    #[test]
    fn a_number_close_to_one_gets_the_last_token_that_can_come() {
        let kept = [
            Candidate { token: 3, score: 0.0, weight: 0.1 },
            Candidate { token: 4, score: 0.0, weight: 0.2 },
            Candidate { token: 5, score: 0.0, weight: 0.0 },
        ];
        let total = 0.1 + 0.2;
        assert_eq!(choose(&kept, total, 1.0).token, 4);
        assert_eq!(choose(&kept, total, 0.0).token, 3);
        assert_eq!(choose(&kept, total, 0.34).token, 4);
    }
}
