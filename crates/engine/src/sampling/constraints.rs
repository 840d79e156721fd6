//! [`Constraints`]: tokens and sequences that are forbidden, forced or shifted, by the rules of transformers' processors.

use camelid_core::tokenizer::TokenId;

use super::SamplingError;
use super::params::{rule, wrong};

/// What may come, whatever the model thinks. The default has no effect. Named as in transformers' `GenerationConfig`.
///
/// Lengths are in tokens. A *length* without "new" counts the prompt, which in a conversation is everything so far.
#[derive(Clone, Debug, PartialEq)]
pub struct Constraints {
    /// Added to the score of a sequence's last token where the history ends with the tokens before it; finite or -inf.
    /// A sequence longer than the history has no effect, as in transformers (none).
    pub sequence_bias: Vec<(Vec<TokenId>, f32)>,
    /// Once for every token of the prompt, a positive score is multiplied by it and a negative one divided; above 0 (1).
    pub encoder_repetition_penalty: f64,
    /// No sequence of so many tokens comes twice, the prompt included; 0 for no rule (0).
    pub no_repeat_ngram_size: usize,
    /// No sequence of so many tokens of the prompt comes again; 0 for no rule (0).
    pub encoder_no_repeat_ngram_size: usize,
    /// Sequences that must not come, none of them empty. An end-of-sequence token alone is passed over, as in
    /// transformers (none).
    pub bad_words_ids: Vec<Vec<TokenId>>,
    /// No end-of-sequence token before prompt and generation have this length (0).
    pub min_length: usize,
    /// No end-of-sequence token among so many generated ones; if given, `min_length` has no effect (`None`).
    pub min_new_tokens: Option<usize>,
    /// The token that comes after a prompt of one token (`None`).
    pub forced_bos_token_id: Option<TokenId>,
    /// The tokens of which one comes last where the most new tokens are reached (none).
    pub forced_eos_token_id: Vec<TokenId>,
    /// Logits that are NaN become 0 in place of an error, and infinite ones the largest finite f32 (false).
    pub remove_invalid_values: bool,
    /// `(start, factor)`: after `start` generated tokens an end-of-sequence token's score grows by
    /// `|score| * (factor^n - 1)`, n counting from there (`None`).
    pub exponential_decay_length_penalty: Option<(usize, f64)>,
    /// Tokens that never come; ids that the vocabulary does not have are passed over (none).
    pub suppress_tokens: Vec<TokenId>,
    /// Tokens that do not come first; after a prompt of one token with `forced_bos_token_id`, second (none).
    pub begin_suppress_tokens: Vec<TokenId>,
}

impl Default for Constraints {
    fn default() -> Constraints {
        Constraints {
            sequence_bias: Vec::new(),
            encoder_repetition_penalty: 1.0,
            no_repeat_ngram_size: 0,
            encoder_no_repeat_ngram_size: 0,
            bad_words_ids: Vec::new(),
            min_length: 0,
            min_new_tokens: None,
            forced_bos_token_id: None,
            forced_eos_token_id: Vec::new(),
            remove_invalid_values: false,
            exponential_decay_length_penalty: None,
            suppress_tokens: Vec::new(),
            begin_suppress_tokens: Vec::new(),
        }
    }
}

/// Where a sequence stands when its next token is chosen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub history: &'a [TokenId],
    pub prompt_len: usize,
    /// Tokens that end the sequence.
    pub eos: &'a [TokenId],
    pub max_new_tokens: Option<usize>,
}

impl Constraints {
    /// Checks every field.
    pub(super) fn check(&self) -> Result<(), SamplingError> {
        let penalty = self.encoder_repetition_penalty;
        let valid = penalty.is_finite() && penalty > 0.0;
        rule("encoder_repetition_penalty", penalty, valid, "be a number above 0 (1 has no effect)")?;
        if let Some((_, factor)) = self.exponential_decay_length_penalty {
            rule("exponential_decay_length_penalty", factor, factor.is_finite(), "have a finite factor")?;
        }
        for (tokens, bias) in &self.sequence_bias {
            let found = || format!("{bias} for {tokens:?}");
            if bias.is_nan() || *bias == f32::INFINITY {
                return Err(wrong("sequence_bias", found(), "be a finite number or -inf for each sequence"));
            }
            if tokens.is_empty() {
                return Err(wrong("sequence_bias", found(), "have no empty sequence"));
            }
        }
        if self.bad_words_ids.iter().any(Vec::is_empty) {
            return Err(wrong("bad_words_ids", format!("{:?}", self.bad_words_ids), "have no empty list"));
        }
        Ok(())
    }

    /// The sequence bias.
    pub(super) fn shift(&self, scores: &mut [f64], at: Place<'_>) -> Result<(), SamplingError> {
        for (tokens, bias) in &self.sequence_bias {
            add_to_last(scores, tokens, *bias, at.history, "the sequence bias")?;
        }
        Ok(())
    }

    /// Everything after the repetition penalty, in transformers' order.
    pub(super) fn restrict(&self, scores: &mut [f64], at: Place<'_>) -> Result<(), SamplingError> {
        let Place { history, prompt_len, eos, max_new_tokens } = at;
        let new_tokens = history.len() - prompt_len;
        forbid_ngrams(scores, self.no_repeat_ngram_size, history, history)?;
        forbid_ngrams(scores, self.encoder_no_repeat_ngram_size, &history[..prompt_len], history)?;
        for tokens in &self.bad_words_ids {
            if !matches!(tokens[..], [one] if eos.contains(&one)) {
                add_to_last(scores, tokens, f32::NEG_INFINITY, history, "the bad words")?;
            }
        }
        let too_short = match self.min_new_tokens {
            Some(least) => new_tokens < least,
            None => history.len() < self.min_length,
        };
        if too_short {
            forbid(scores, eos);
        }
        if let (Some(bos), 1) = (self.forced_bos_token_id, history.len()) {
            force(scores, &[bos], "forced_bos_token_id")?;
        }
        if !self.forced_eos_token_id.is_empty() && max_new_tokens.is_some_and(|most| new_tokens + 1 == most) {
            force(scores, &self.forced_eos_token_id, "forced_eos_token_id")?;
        }
        if self.remove_invalid_values {
            for score in scores.iter_mut() {
                // Whatever the type it computes in here: transformers' scores are f32.
                let limit = f64::from(f32::MAX);
                *score = if score.is_nan() { 0.0 } else { score.clamp(-limit, limit) };
            }
        }
        if let Some((start, factor)) = self.exponential_decay_length_penalty
            && new_tokens > start
        {
            let growth = libm::pow(factor, (new_tokens - start) as f64) - 1.0;
            for id in distinct(eos) {
                if let Some(score) = scores.get_mut(id as usize).filter(|s| s.is_finite()) {
                    *score += score.abs() * growth;
                }
            }
        }
        forbid(scores, &self.suppress_tokens);
        let begin = prompt_len + usize::from(prompt_len == 1 && self.forced_bos_token_id.is_some());
        if history.len() == begin {
            forbid(scores, &self.begin_suppress_tokens);
        }
        Ok(())
    }
}

/// Adds `bias` to the last of `tokens` if `history` ends with the others; -inf forbids it, whatever its score.
fn add_to_last(
    scores: &mut [f64],
    tokens: &[TokenId],
    bias: f32,
    history: &[TokenId],
    place: &'static str,
) -> Result<(), SamplingError> {
    let vocab_size = scores.len();
    if let Some(id) = tokens.iter().find(|t| **t as usize >= vocab_size) {
        return Err(SamplingError::TokenOutOfRange { id: *id, place, vocab_size });
    }
    let Some((last, before)) = tokens.split_last() else { return Ok(()) };
    // transformers asks for as many tokens as the whole sequence has, though one fewer would do.
    let comes = before.is_empty() || (tokens.len() <= history.len() && history.ends_with(before));
    if comes {
        let score = &mut scores[*last as usize];
        *score = if bias == f32::NEG_INFINITY { f64::NEG_INFINITY } else { *score + f64::from(bias) };
    }
    Ok(())
}

/// Forbids what came in `seen` after the tokens that `history` ends with, `size` tokens in all.
fn forbid_ngrams(scores: &mut [f64], size: usize, seen: &[TokenId], history: &[TokenId]) -> Result<(), SamplingError> {
    if size == 0 || history.len() + 1 < size {
        return Ok(());
    }
    let vocab_size = scores.len();
    let ending = &history[history.len() + 1 - size..];
    for ngram in seen.windows(size) {
        if ngram.starts_with(ending) {
            let id = ngram[size - 1];
            let score = scores.get_mut(id as usize);
            let place = "the history";
            *score.ok_or(SamplingError::TokenOutOfRange { id, place, vocab_size })? = f64::NEG_INFINITY;
        }
    }
    Ok(())
}

fn forbid(scores: &mut [f64], tokens: &[TokenId]) {
    for id in tokens {
        if let Some(score) = scores.get_mut(*id as usize) {
            *score = f64::NEG_INFINITY;
        }
    }
}

/// Gives `tokens` the score 0 and all others -inf.
fn force(scores: &mut [f64], tokens: &[TokenId], place: &'static str) -> Result<(), SamplingError> {
    let vocab_size = scores.len();
    scores.fill(f64::NEG_INFINITY);
    for id in tokens {
        let score = scores.get_mut(*id as usize);
        *score.ok_or(SamplingError::TokenOutOfRange { id: *id, place, vocab_size })? = 0.0;
    }
    Ok(())
}

fn distinct(tokens: &[TokenId]) -> impl Iterator<Item = TokenId> + '_ {
    tokens.iter().enumerate().filter(|(i, t)| !tokens[..*i].contains(t)).map(|(_, t)| *t)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INF: f64 = f64::INFINITY;

    /// What is left of scores 1, 2, 3, ... with token 2 for the end.
    fn left(constraints: &Constraints, history: &[TokenId], prompt_len: usize) -> Vec<f64> {
        let mut scores: Vec<f64> = (1..=6).map(f64::from).collect();
        let at = Place { history, prompt_len, eos: &[2], max_new_tokens: Some(4) };
        constraints.shift(&mut scores, at).unwrap();
        constraints.restrict(&mut scores, at).unwrap();
        scores
    }

    fn forbidden(constraints: &Constraints, history: &[TokenId], prompt_len: usize) -> Vec<usize> {
        let scores = left(constraints, history, prompt_len);
        (0..6).filter(|i| scores[*i] == -INF).collect()
    }

    fn none() -> Constraints {
        Constraints::default()
    }

    #[test]
    fn the_default_changes_nothing() {
        assert_eq!(left(&none(), &[0, 1, 0, 1], 2), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        none().check().unwrap();
    }

    #[test]
    fn an_ngram_does_not_come_twice() {
        let size = |n| Constraints { no_repeat_ngram_size: n, ..none() };
        assert_eq!(forbidden(&size(2), &[0, 1, 0, 3, 0], 5), [1, 3]);
        assert_eq!(forbidden(&size(3), &[0, 1, 5, 3, 0, 1], 2), [5]);
        assert_eq!(forbidden(&size(1), &[4, 4, 0], 1), [0, 4], "of one token: every one that came");
        assert_eq!(forbidden(&size(4), &[0, 1], 1), [0usize; 0], "longer than everything so far");
        assert_eq!(forbidden(&size(3), &[0, 1], 1), [0usize; 0]);
        let prompt_only = Constraints { encoder_no_repeat_ngram_size: 2, ..none() };
        assert_eq!(forbidden(&prompt_only, &[0, 1, 0, 3, 0], 3), [1]);
    }

    #[test]
    fn a_sequence_is_shifted_or_forbidden_at_its_last_token() {
        let bias = Constraints { sequence_bias: vec![(vec![4], 0.5), (vec![0, 1, 4], -2.0)], ..none() };
        assert_eq!(left(&bias, &[3, 0, 1], 1)[4], 3.5);
        assert_eq!(left(&bias, &[3, 1, 0], 1)[4], 5.5);
        assert_eq!(left(&bias, &[0, 1], 1)[4], 5.5, "three tokens do not fit a history of two");
        let words = Constraints { bad_words_ids: vec![vec![3], vec![2], vec![1, 5], vec![0, 2]], ..none() };
        assert_eq!(forbidden(&words, &[0, 1], 1), [3, 5]);
        assert_eq!(
            forbidden(&words, &[1, 0], 1),
            [2, 3],
            "the end alone is passed over, at the end of a word it is not"
        );
    }

    #[test]
    fn the_end_waits_for_the_least_length() {
        let new = |n| Constraints { min_new_tokens: Some(n), min_length: 99, ..none() };
        assert_eq!(forbidden(&new(2), &[0, 0, 0, 1], 3), [2]);
        assert_eq!(forbidden(&new(2), &[0, 0, 0, 1, 1], 3), [0usize; 0]);
        assert_eq!(forbidden(&new(0), &[0], 1), [0usize; 0], "new tokens go before the length in all");
        let length = Constraints { min_length: 4, ..none() };
        assert_eq!(forbidden(&length, &[0, 0, 1], 2), [2]);
        assert_eq!(forbidden(&length, &[0, 0, 1, 1], 2), [0usize; 0]);
    }

    #[test]
    fn forced_tokens_come_alone() {
        let bos = Constraints { forced_bos_token_id: Some(5), begin_suppress_tokens: vec![5, 4], ..none() };
        assert_eq!(left(&bos, &[3], 1), [-INF, -INF, -INF, -INF, -INF, 0.0]);
        assert_eq!(forbidden(&bos, &[3, 5], 1), [4, 5], "the beginning is after the forced token");
        assert_eq!(forbidden(&bos, &[3, 5], 2), [4, 5]);
        assert_eq!(forbidden(&bos, &[3, 5, 0], 2), [0usize; 0]);
        let eos = Constraints { forced_eos_token_id: vec![2, 3], min_new_tokens: Some(9), ..none() };
        assert_eq!(left(&eos, &[0, 0, 0, 0], 1), [-INF, -INF, 0.0, 0.0, -INF, -INF], "the fourth of four new tokens");
        assert_eq!(forbidden(&eos, &[0, 0, 0], 1), [2]);
    }

    #[test]
    fn the_decay_draws_the_end_nearer() {
        let decay = Constraints { exponential_decay_length_penalty: Some((1, 1.5)), ..none() };
        assert_eq!(left(&decay, &[0, 0], 1)[2], 3.0, "not before it starts");
        assert_eq!(left(&decay, &[0, 0, 0], 1)[2], 4.5);
        assert_eq!(left(&decay, &[0, 0, 0, 0], 1)[2], 3.0 + 3.0 * 1.25);
        let forbidden = Constraints { min_new_tokens: Some(9), ..decay };
        assert_eq!(left(&forbidden, &[0, 0, 0, 0], 1)[2], -INF, "what is forbidden stays so");
    }

    #[test]
    fn what_is_no_number_can_be_removed() {
        let mut scores = [f64::NAN, INF, -INF, 1.0];
        let at = Place { history: &[], prompt_len: 0, eos: &[], max_new_tokens: None };
        let remove = Constraints { remove_invalid_values: true, suppress_tokens: vec![3, 77], ..none() };
        remove.restrict(&mut scores, at).unwrap();
        assert_eq!(scores, [0.0, f64::from(f32::MAX), f64::from(f32::MIN), -INF]);
    }

    #[test]
    fn values_out_of_range_are_named() {
        let message = |c: Constraints| c.check().unwrap_err().to_string();
        assert!(message(Constraints { encoder_repetition_penalty: 0.0, ..none() }).contains("`encoder_repetition_"));
        assert!(message(Constraints { bad_words_ids: vec![vec![]], ..none() }).contains("`bad_words_ids` is [[]]"));
        assert!(
            message(Constraints { sequence_bias: vec![(vec![1], f32::NAN)], ..none() }).contains("`sequence_bias`")
        );
        assert!(message(Constraints { sequence_bias: vec![(vec![], 1.0)], ..none() }).contains("no empty sequence"));
        let decay = Constraints { exponential_decay_length_penalty: Some((1, INF)), ..none() };
        assert!(message(decay).contains("finite factor"));
        let at = Place { history: &[], prompt_len: 0, eos: &[], max_new_tokens: None };
        let outside = Constraints { bad_words_ids: vec![vec![9]], ..none() };
        assert!(outside.restrict(&mut [0.0; 3], at).unwrap_err().to_string().contains("token id 9 in the bad words"));
        let outside = Constraints { sequence_bias: vec![(vec![1, 9], 1.0)], ..none() };
        assert!(outside.shift(&mut [0.0; 3], at).unwrap_err().to_string().contains("token id 9 in the sequence bias"));
    }
}
