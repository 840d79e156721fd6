//! The rules for tokens on fixed logits, in transformers' order and by its spelling.

use std::collections::BTreeMap;

use camelid_core::tokenizer::TokenId;
use camelid_engine::generation_config::GenerationConfig;
use camelid_engine::sampling::Sampler;
use serde::Deserialize;

use crate::case::{Case, Context, Evidence, Measure, Problem, Profile};
use crate::check;
use crate::suite::{Suite, SuiteError};

const FILE: &str = "generate/processors.toml";

/// How far a probability or a score may be off: both sides compute in f64.
const LIMIT: f64 = 1e-10;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    logits: BTreeMap<String, Vec<f32>>,
    case: Vec<Left>,
}

/// What the rules leave.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Left {
    id: String,
    logits: String,
    /// As in generation_config.json.
    config: String,
    eos: Vec<TokenId>,
    history: Vec<TokenId>,
    prompt_len: usize,
    max_new_tokens: usize,
    /// Whether the values are scores of a beam; else they are probabilities.
    beams: bool,
    tokens: Vec<TokenId>,
    values: Vec<f64>,
}

/// Its cases.
pub(super) fn cases(suite: &Suite) -> Result<Vec<Case>, SuiteError> {
    let damaged = |problem: String| SuiteError::Damaged { path: FILE.into(), problem };
    let file: File = toml::from_str(&suite.text(FILE)?).map_err(|e| damaged(e.to_string()))?;
    let mut cases = Vec::new();
    for left in file.case {
        let logits = file.logits.get(&left.logits);
        let logits = logits.ok_or_else(|| damaged(format!("no logits `{}`", left.logits)))?.clone();
        if left.tokens.len() != left.values.len() {
            return Err(damaged(format!("`{}`: lists of other lengths", left.id)));
        }
        let config = parse(&left.config).map_err(|problem| damaged(format!("`{}`: {problem}", left.id)))?;
        let about = "which tokens a configuration's rules leave, and how likely";
        let id = left.id.clone();
        cases.push(Case::new(id, Profile::Core, about, move |_: &Context<'_>| ask(&left, &config, &logits)));
    }
    Ok(cases)
}

/// A configuration as generation_config.json has it.
pub(super) fn parse(json: &str) -> Result<GenerationConfig, String> {
    let value = serde_json::from_str(json).map_err(|e| e.to_string())?;
    GenerationConfig::from_value(&value).map_err(|e| e.to_string())
}

fn ask(left: &Left, config: &GenerationConfig, logits: &[f32]) -> Result<Evidence, Problem> {
    let fail = |e: camelid_engine::sampling::SamplingError| Problem::fail(e.to_string());
    let sampler = Sampler::new(config.sampling_params()).map_err(fail)?;
    let mut sampler = sampler.with_ends(&left.eos, left.max_new_tokens);
    let found: Vec<(TokenId, f64)> = if left.beams {
        let scores = sampler.beam_scores(logits, &left.history, left.prompt_len).map_err(fail)?;
        (0..).zip(scores.iter().copied()).filter(|(_, s)| *s > f64::NEG_INFINITY).collect()
    } else {
        sampler.distribution(logits, &left.history, left.prompt_len).map_err(fail)?
    };
    let tokens: Vec<TokenId> = found.iter().map(|(token, _)| *token).collect();
    check!(tokens == left.tokens, "tokens {tokens:?} are left, expected {:?}", left.tokens);
    let mut farthest: f64 = 0.0;
    for ((token, value), expected) in found.iter().zip(&left.values) {
        let off = (value - expected).abs();
        check!(off <= LIMIT * expected.abs().max(1.0), "token {token} has {value}, expected {expected}");
        farthest = farthest.max(off);
    }
    let measure = Measure { metric: "max".into(), what: "probability or score".into(), value: farthest, limit: LIMIT };
    Ok(Evidence { measures: vec![measure], notes: Vec::new() })
}
