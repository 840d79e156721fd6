//! The sampler on fixed logits.

use std::collections::BTreeMap;
use std::sync::Arc;

use camelid_core::tokenizer::TokenId;
use camelid_engine::sampling::{Sampler, SamplingError, SamplingParams, log_probs};
use serde::Deserialize;

use crate::case::{Case, Context, Evidence, Measure, Problem, Profile};
use crate::check;
use crate::suite::{Suite, SuiteError};

const FILE: &str = "generate/sampler.toml";

/// How far a logarithm of a probability may be off: both sides compute in f64.
const LIMIT: f64 = 1e-10;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    seeds: Vec<u64>,
    logits: BTreeMap<String, Vec<f32>>,
    case: Vec<Draws>,
}

/// A distribution, and what comes from it for each seed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Draws {
    id: String,
    logits: String,
    params: Params,
    history: Vec<TokenId>,
    prompt_len: usize,
    tokens: Vec<TokenId>,
    probabilities: Vec<f64>,
    /// One a seed; -1 where rounding may decide.
    drawn: Vec<i64>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Params {
    temperature: f64,
    top_k: usize,
    top_p: f64,
    min_p: f64,
    repetition_penalty: f64,
    presence_penalty: f64,
    frequency_penalty: f64,
    penalty_window: Option<usize>,
    logit_bias: Vec<(TokenId, f32)>,
}

impl Default for Params {
    fn default() -> Params {
        Params {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            penalty_window: None,
            logit_bias: Vec::new(),
        }
    }
}

impl Params {
    fn with_seed(&self, seed: u64) -> SamplingParams {
        SamplingParams {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            penalty_window: self.penalty_window,
            logit_bias: self.logit_bias.clone(),
            seed,
            ..SamplingParams::default()
        }
    }
}

/// Its cases.
pub(super) fn cases(suite: &Suite) -> Result<Vec<Case>, SuiteError> {
    let damaged = |problem: String| SuiteError::Damaged { path: FILE.into(), problem };
    let file: File = toml::from_str(&suite.text(FILE)?).map_err(|e| damaged(e.to_string()))?;
    let seeds: Arc<[u64]> = file.seeds.into();
    let mut cases = Vec::new();
    for draws in file.case {
        let logits = file.logits.get(&draws.logits);
        let logits = logits.ok_or_else(|| damaged(format!("no logits `{}`", draws.logits)))?.clone();
        if draws.drawn.len() != seeds.len() || draws.tokens.len() != draws.probabilities.len() {
            return Err(damaged(format!("`{}`: lists of other lengths", draws.id)));
        }
        let (id, seeds) = (draws.id.clone(), seeds.clone());
        let about = "which tokens may come, how likely, and which come for two dozen seeds";
        cases.push(Case::new(id, Profile::Core, about, move |cx: &Context<'_>| draw(cx, &draws, &logits, &seeds)));
    }
    let refusals: [(&str, &str, Refusal); 6] = [
        ("nan", "a logit that is no number is an error that names it", refuses_nan),
        ("nothing_left", "if no token can come, that is an error", refuses_nothing),
        ("no_logits", "no logits are an error", refuses_none),
        ("history", "a token of the history outside the vocabulary is an error", refuses_history),
        ("bias", "a bias for a token outside the vocabulary is an error", refuses_bias),
        ("prompt_len", "a prompt longer than the history is an error", refuses_prompt),
    ];
    for (name, about, refusal) in refusals {
        let id = format!("generate/refusal/{name}");
        cases.push(Case::new(id, Profile::Core, about, move |cx: &Context<'_>| {
            refusal(cx).map(|()| Evidence::default())
        }));
    }
    for (name, logits) in file.logits {
        let id = format!("generate/logprobs/{name}");
        let about = "log-probabilities of a chosen token and of the most likely ones";
        cases.push(Case::new(id, Profile::Core, about, move |_: &Context<'_>| reported(&logits)));
    }
    let id = "generate/sampler/independent_of_calls";
    let about = "what is drawn depends on seed and index, not on what was drawn before or by whom";
    cases.push(Case::new(id, Profile::Core, about, independent));
    Ok(cases)
}

fn sampler(params: SamplingParams) -> Result<Sampler, Problem> {
    Sampler::new(params).map_err(|e| Problem::fail(e.to_string()))
}

fn draw(cx: &Context<'_>, draws: &Draws, logits: &[f32], seeds: &[u64]) -> Result<Evidence, Problem> {
    let mut farthest: f64 = 0.0;
    for (seed, expected) in seeds.iter().zip(&draws.drawn) {
        let mut sampler = sampler(draws.params.with_seed(*seed))?;
        let found = cx.subject.sample(&mut sampler, logits, &draws.history, draws.prompt_len);
        let found = found.map_err(|e| Problem::fail(format!("seed {seed}: {e}")))?;
        let Some(at) = draws.tokens.iter().position(|t| *t == found.token) else {
            let message = format!("seed {seed}: token {} came; only {:?} may", found.token, draws.tokens);
            return Err(Problem::fail(message));
        };
        let right = *expected < 0 || i64::from(found.token) == *expected;
        check!(right, "seed {seed}: token {} came, expected {expected}", found.token);
        let expected = draws.probabilities[at].ln();
        let off = (found.logprob - expected).abs();
        check!(
            off <= LIMIT,
            "seed {seed}: token {} has the log-probability {}, expected {expected}",
            found.token,
            found.logprob
        );
        farthest = farthest.max(off);
    }
    let measure = Measure { metric: "max".into(), what: "log-probability".into(), value: farthest, limit: LIMIT };
    Ok(Evidence { measures: vec![measure], notes: Vec::new() })
}

type Refusal = fn(&Context<'_>) -> Result<(), Problem>;

/// Asks greedily and at temperature 1 with other parameters as `adjust` makes them, for an error that `fits`.
fn refuses(
    cx: &Context<'_>,
    logits: &[f32],
    (history, prompt_len): (&[TokenId], usize),
    adjust: impl Fn(&mut SamplingParams),
    fits: impl Fn(&SamplingError) -> bool,
) -> Result<(), Problem> {
    for temperature in [0.0, 1.0] {
        let mut params = SamplingParams { temperature, ..SamplingParams::default() };
        adjust(&mut params);
        let answer = cx.subject.sample(&mut sampler(params)?, logits, history, prompt_len);
        match answer {
            Ok(sampled) => {
                let message = format!("temperature {temperature}: token {} came; it must be an error", sampled.token);
                return Err(Problem::fail(message));
            }
            Err(error) => check!(fits(&error), "temperature {temperature}: another error was expected than: {error}"),
        }
    }
    Ok(())
}

fn refuses_nan(cx: &Context<'_>) -> Result<(), Problem> {
    let nan = |e: &SamplingError| matches!(e, SamplingError::Nan { index: 2, .. });
    refuses(cx, &[0.0, 9.0, f32::NAN, f32::NAN], (&[], 0), |_| {}, nan)
}

fn refuses_nothing(cx: &Context<'_>) -> Result<(), Problem> {
    let nothing = |e: &SamplingError| matches!(e, SamplingError::NothingLeft { .. });
    refuses(cx, &[f32::NEG_INFINITY; 3], (&[], 0), |_| {}, nothing)?;
    let forbid = |p: &mut SamplingParams| p.logit_bias = vec![(0, f32::NEG_INFINITY), (1, f32::NEG_INFINITY)];
    refuses(cx, &[1.0, 2.0], (&[], 0), forbid, nothing)
}

fn refuses_none(cx: &Context<'_>) -> Result<(), Problem> {
    refuses(cx, &[], (&[], 0), |_| {}, |e| matches!(e, SamplingError::NoLogits))
}

fn refuses_history(cx: &Context<'_>) -> Result<(), Problem> {
    let outside = |e: &SamplingError| matches!(e, SamplingError::TokenOutOfRange { id: 3, .. });
    refuses(cx, &[1.0; 3], (&[0, 3], 1), |p| p.repetition_penalty = 1.1, outside)
}

fn refuses_bias(cx: &Context<'_>) -> Result<(), Problem> {
    let outside = |e: &SamplingError| matches!(e, SamplingError::TokenOutOfRange { id: 3, .. });
    refuses(cx, &[1.0; 3], (&[], 0), |p| p.logit_bias = vec![(3, 1.0)], outside)
}

fn refuses_prompt(cx: &Context<'_>) -> Result<(), Problem> {
    refuses(cx, &[1.0; 3], (&[0], 2), |_| {}, |e| matches!(e, SamplingError::PromptLen { .. }))
}

/// `log softmax` from its definition, and the order of the most likely.
fn reported(logits: &[f32]) -> Result<Evidence, Problem> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let below = |x: f32| if x == max { 0.0 } else { f64::from(x) - f64::from(max) };
    let sum: f64 = logits.iter().map(|x| below(*x).exp()).sum();
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|a, b| logits[*b].partial_cmp(&logits[*a]).expect("no logit is NaN").then(a.cmp(b)));
    let mut farthest: f64 = 0.0;
    for top_n in [0, 1, 3, logits.len(), logits.len() + 5] {
        for chosen in [0, logits.len() - 1, order[0]] {
            let list = log_probs(logits, chosen as TokenId, top_n).map_err(|e| Problem::fail(e.to_string()))?;
            let expected: Vec<usize> = [chosen].iter().chain(order.iter().take(top_n)).copied().collect();
            let found: Vec<usize> = list.iter().map(|t| t.token as usize).collect();
            check!(found == expected, "the {top_n} most likely after token {chosen}: {found:?}, expected {expected:?}");
            for entry in &list {
                let expected = below(logits[entry.token as usize]) - sum.ln();
                let off = if entry.logprob == expected { 0.0 } else { (entry.logprob - expected).abs() };
                check!(off <= LIMIT, "token {}: log-probability {}, expected {expected}", entry.token, entry.logprob);
                farthest = farthest.max(off);
            }
        }
    }
    let measure = Measure { metric: "max".into(), what: "log-probability".into(), value: farthest, limit: LIMIT };
    Ok(Evidence { measures: vec![measure], notes: Vec::new() })
}

fn independent(cx: &Context<'_>) -> Result<Evidence, Problem> {
    let logits: Vec<f32> = (0..50).map(|i| ((i * 37 % 50) as f32) / 11.0).collect();
    let params = |seed| SamplingParams { temperature: 1.0, seed, ..SamplingParams::default() };
    let draw = |sampler: &mut Sampler, history: &[TokenId], prompt_len: usize| {
        let sampled = cx.subject.sample(sampler, &logits, history, prompt_len);
        sampled.map(|s| s.token).map_err(|e| Problem::fail(e.to_string()))
    };
    let history: Vec<TokenId> = (0..60).map(|i| i % 50).collect();
    let mut one = sampler(params(42))?;
    let forwards = (0..60).map(|n| draw(&mut one, &history[..n], 0)).collect::<Result<Vec<_>, _>>()?;
    for n in (0..60).rev() {
        let behind_a_prompt: Vec<TokenId> = [9, 9, 9].iter().chain(&history[..n]).copied().collect();
        let again = draw(&mut sampler(params(42))?, &behind_a_prompt, 3)?;
        check!(again == forwards[n], "index {n}: token {again} from a new sampler, {} from one in use", forwards[n]);
    }
    let mut other = sampler(params(43))?;
    let others = (0..60).map(|n| draw(&mut other, &history[..n], 0)).collect::<Result<Vec<_>, _>>()?;
    check!(others != forwards, "two seeds draw the same sixty tokens");
    check!(forwards.iter().any(|t| *t != forwards[0]), "sixty draws are all token {}", forwards[0]);
    Ok(Evidence::default())
}
