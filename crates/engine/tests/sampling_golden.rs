//! The sampler against transformers' logits processors. `data/make_sampling.py` made the expectations.

use camelid_core::tokenizer::TokenId;
use camelid_engine::sampling::{Sampler, SamplingParams};
use serde_json::Value;

const GOLDEN: &str = include_str!("data/sampling.json");

/// A forbidden token's logit is null in the file: JSON has no infinity.
fn logits(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().map_or(f32::NEG_INFINITY, |x| x as f32)).collect()
}

fn params(value: &Value) -> SamplingParams {
    let number = |name: &str, default| value.get(name).map_or(default, |x: &Value| x.as_f64().unwrap());
    let bias = value.get("logit_bias").and_then(Value::as_array).into_iter().flatten();
    SamplingParams {
        temperature: number("temperature", f64::NAN),
        top_k: value.get("top_k").map_or(0, |k| k.as_u64().unwrap() as usize),
        top_p: number("top_p", 1.0),
        min_p: number("min_p", 0.0),
        repetition_penalty: number("repetition_penalty", 1.0),
        logit_bias: bias.map(|pair| (pair[0].as_u64().unwrap() as TokenId, pair[1].as_f64().unwrap() as f32)).collect(),
        ..SamplingParams::default()
    }
}

fn sorted(mut probabilities: Vec<f64>) -> Vec<f64> {
    probabilities.sort_by(f64::total_cmp);
    probabilities
}

#[test]
fn the_tokens_left_and_their_probabilities_are_those_of_transformers() {
    let golden: Value = serde_json::from_str(GOLDEN).unwrap();
    let vocabularies: Vec<Vec<f32>> = golden["logits"].as_array().unwrap().iter().map(logits).collect();
    let cases = golden["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 105);
    for (i, case) in cases.iter().enumerate() {
        let what = format!("case {i}: {}", case["params"]);
        let ids = |name: &str| -> Vec<TokenId> {
            case[name].as_array().unwrap().iter().map(|x| x.as_u64().unwrap() as TokenId).collect()
        };
        let (history, expected) = (ids("history"), ids("tokens"));
        let expected_probabilities: Vec<f64> =
            case["probabilities"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
        let logits = &vocabularies[case["logits"].as_u64().unwrap() as usize];
        let mut sampler = Sampler::new(params(&case["params"])).unwrap();
        let (tokens, probabilities): (Vec<TokenId>, Vec<f64>) =
            sampler.distribution(logits, &history, history.len()).unwrap().into_iter().unzip();

        assert_eq!(tokens.len(), expected.len(), "{what}");
        // Which of equally likely tokens top-p keeps at its edge is left open there, and is the lowest ids here.
        let tie = case["tie_at_the_edge"].as_bool().unwrap();
        if !tie {
            assert_eq!(tokens, expected, "{what}");
        }
        let pairs = if tie {
            sorted(probabilities).into_iter().zip(sorted(expected_probabilities))
        } else {
            probabilities.into_iter().zip(expected_probabilities)
        };
        for (ours, theirs) in pairs {
            assert!((ours - theirs).abs() < 1e-8, "{what}: {ours} is not {theirs}");
        }
    }
}
