//! Strided perplexity and divergence against Hugging Face's page and llama.cpp's formulas, both computed in float64 by
//! `conformance/reference/perplexity_cases.py`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use camelid_core::tokenizer::TokenId;
use camelid_engine::perplexity::{Estimate, Perplexity, PerplexityError, Spread, Windows, compare, perplexity};
use camelid_engine::{LoadOptions, Model, Session, SessionOptions};
use camelid_host::Registry;
// The backend that computes.
use camelid_reference as _;
use camelid_weights::Checkpoint;
use serde_json::Value;

const GOLDEN: &str = include_str!("data/perplexity.json");

fn suite(model: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/suite/model").join(model)
}

fn model(folder: &Path) -> Arc<Model> {
    let device = Registry::linked().unwrap().open("reference", 0, &Default::default()).unwrap();
    let checkpoint = Checkpoint::open(folder).unwrap();
    Arc::new(Model::load(&checkpoint, None, device, LoadOptions::default(), &mut |_, _| {}).unwrap())
}

fn session(model: &Arc<Model>) -> Session {
    // A batch that divides no window: steps are split.
    Session::new(model.clone(), &SessionOptions { batch_size: 37, ..SessionOptions::default() }).unwrap()
}

fn ids(case: &Value) -> Vec<TokenId> {
    case["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as TokenId).collect()
}

fn windows(case: &Value) -> Windows {
    let number = |name: &str| case[name].as_u64().unwrap() as usize;
    Windows { context: number("context"), stride: number("stride") }
}

/// `found` is within `relative` of the number expected, or within `absolute`.
#[track_caller]
fn close(found: f64, expected: &Value, relative: f64, absolute: f64, what: &str) {
    let expected = expected.as_f64().unwrap();
    assert!((found - expected).abs() <= relative * expected.abs() + absolute, "{what}: {found}, expected {expected}");
}

#[track_caller]
fn close_estimate(found: Estimate, expected: &Value, absolute: f64, what: &str) {
    close(found.mean, &expected[0], 1e-6, absolute, what);
    close(found.error, &expected[1], 1e-5, absolute, &format!("the error of {what}"));
}

#[track_caller]
fn check(found: &Perplexity, expected: &Value, what: &str) {
    assert_eq!(found.windows as u64, expected["windows"].as_u64().unwrap(), "{what}");
    assert_eq!(found.scored as u64, expected["scored"].as_u64().unwrap(), "{what}");
    close(found.value(), &expected["perplexity"], 1e-6, 0.0, what);
    close(found.nll, &expected["nll"], 1e-6, 0.0, what);
    close_estimate(found.token_nll, &expected["token_nll"], 0.0, what);
}

#[track_caller]
fn check_spread(found: &Spread, expected: &Value, absolute: f64, what: &str) {
    close_estimate(found.mean, &expected["mean"], absolute, what);
    let percentiles = [
        (found.min, "min"),
        (found.median, "median"),
        (found.p90, "p90"),
        (found.p95, "p95"),
        (found.p99, "p99"),
        (found.p999, "p999"),
        (found.max, "max"),
    ];
    for (value, name) in percentiles {
        close(value, &expected[name], 1e-5, absolute, &format!("{name} of {what}"));
    }
}

#[test]
fn perplexity_is_that_of_the_page() {
    let golden: Value = serde_json::from_str(GOLDEN).unwrap();
    let cases = golden["texts"].as_array().unwrap();
    assert_eq!(cases.len(), 11);
    for case in cases {
        let name = case["model"].as_str().unwrap();
        let what = format!("{name}, {} of {}", case["stride"], case["context"]);
        let model = model(&suite(name));
        let mut heard = Vec::new();
        let tokens = ids(case);
        let result = perplexity(&mut session(&model), &tokens, windows(case), &mut |done, all, computed| {
            heard.push((done, all, computed));
        })
        .unwrap();
        check(&result, case, &what);
        assert_eq!(result.tokens, tokens.len());
        let (done, all, computed) = heard[heard.len() - 1];
        assert!(done == all && all == result.windows && heard.len() == all && computed >= tokens.len(), "{heard:?}");
    }
}

#[test]
fn the_distance_from_a_base_is_that_of_the_formulas() {
    let golden: Value = serde_json::from_str(GOLDEN).unwrap();
    let cases = golden["pairs"].as_array().unwrap();
    assert_eq!(cases.len(), 4);
    for case in cases {
        let base_folder = suite(case["base_model"].as_str().unwrap());
        let changed = tempfile::tempdir().unwrap();
        let mut config: Value =
            serde_json::from_str(&fs::read_to_string(base_folder.join("config.json")).unwrap()).unwrap();
        for (key, value) in case["changes"].as_object().unwrap() {
            config[key] = value.clone();
        }
        fs::write(changed.path().join("config.json"), config.to_string()).unwrap();
        fs::copy(base_folder.join("model.safetensors"), changed.path().join("model.safetensors")).unwrap();
        let (model, base) = (model(changed.path()), model(&base_folder));
        let result =
            compare(&mut session(&model), &mut session(&base), &ids(case), windows(case), &mut |_, _, _| {}).unwrap();
        let what = format!("{} with {}", case["base_model"], case["changes"]);
        check(&result.model, &case["model"], &what);
        check(&result.base, &case["base"], &what);
        // Probabilities and differences of logarithms carry the absolute error of f32 logits.
        check_spread(&result.kl, &case["kl"], 5e-8, "KL");
        check_spread(&result.delta_p, &case["delta_p"], 2e-7, "delta p");
        close_estimate(result.same_top, &case["same_top"], 0.0, "same top");
        close_estimate(result.delta_p_rms, &case["delta_p_rms"], 5e-8, "rms of delta p");
        close_estimate(result.ln_ratio, &case["ln_ratio"], 2e-7, "ln of the ratio");
        close_estimate(result.ratio, &case["ratio"], 2e-7, "ratio");
        close_estimate(result.relative, &case["relative"], 2e-7, "relative difference");
        let ppl = case["base"]["perplexity"].as_f64().unwrap();
        close_estimate(result.difference, &case["difference"], 2e-7 * ppl, "difference");
        close(result.correlation, &case["correlation"], 1e-5, 0.0, "correlation");
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let gqa = model(&suite("gqa"));
    let mut session =
        Session::new(gqa.clone(), &SessionOptions { context_size: Some(20), ..Default::default() }).unwrap();
    let mut run = |tokens: &[TokenId], context, stride| {
        perplexity(&mut session, tokens, Windows { context, stride }, &mut |_, _, _| {})
    };
    assert!(matches!(run(&[5], 10, 5), Err(PerplexityError::TooShort { tokens: 1 })));
    assert!(matches!(run(&[], 10, 5), Err(PerplexityError::TooShort { tokens: 0 })));
    assert!(matches!(run(&[1; 30], 10, 11), Err(PerplexityError::Stride { .. })));
    assert!(matches!(run(&[1; 30], 21, 5), Err(PerplexityError::Context { .. })), "more than the session has room for");
    assert!(run(&[1; 19], 21, 5).is_ok(), "the text is shorter than that");
    assert!(matches!(run(&[1, 100_000], 10, 5), Err(PerplexityError::Engine(_))));
    let other = model(&suite("bias"));
    let error = compare(
        &mut session,
        &mut Session::new(other, &SessionOptions::default()).unwrap(),
        &[1, 2, 3],
        Windows { context: 10, stride: 5 },
        &mut |_, _, _| {},
    );
    assert!(matches!(error, Err(PerplexityError::VocabSize { model: 263, base: 101 })));
}
