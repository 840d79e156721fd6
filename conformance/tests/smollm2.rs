//! SmolLM2-135M-Instruct on the reference backend against transformers in float64, on the same dequantized weights.
//!
//! The file comes from a package registry, pinned by version and SHA-256; without a network these tests fail and say so.

#![allow(clippy::print_stdout, reason = "the margin belongs in the log")]

mod common;

use std::sync::Arc;

use camelid_conformance::fixtures::{Fixture, suite_dir};
use camelid_core::tokenizer::{EncodeOptions, Tokenizer};
use camelid_engine::{Model, Outputs, SequenceInput, Session, SessionOptions};
use camelid_fetch as fetch;
use common::{generate_greedy, load, reference};
use serde_json::json;

fn model() -> Arc<Model> {
    let path = fetch::smollm2_gguf().unwrap_or_else(|e| panic!("{e}"));
    load(&path, reference(2))
}

struct Golden {
    fixture: Fixture,
    toml: toml::Table,
}

impl Golden {
    fn open() -> Golden {
        let folder = suite_dir().join("real");
        let toml = std::fs::read_to_string(folder.join("smollm2.toml")).unwrap().parse().unwrap();
        Golden { fixture: Fixture::open(folder.join("smollm2.safetensors")).unwrap(), toml }
    }

    fn prompts(&self) -> &Vec<toml::Value> {
        self.toml["prompt"].as_array().unwrap()
    }

    fn ids(&self, name: &str) -> Vec<u32> {
        self.fixture.i64s(name).unwrap().1.iter().map(|v| u32::try_from(*v).unwrap()).collect()
    }
}

#[test]
fn the_capital_of_france_is_paris() {
    let model = model();
    let prompt = model.encode_chat(&[json!({"role": "user", "content": "What is the capital of France?"})]).unwrap();
    let generation = generate_greedy(&model, &prompt, 32);
    assert_eq!(generation.tokens, [504, 3575, 282, 4649, 314, 7042, 30, 2]);
    assert_eq!(generation.text, "The capital of France is Paris.");
    assert_eq!(generation.finish_reason.name(), "stop");
}

#[test]
fn every_prompt_tokenizes_as_in_transformers() {
    let (model, golden) = (model(), Golden::open());
    assert!(golden.prompts().len() >= 6);
    for (i, prompt) in golden.prompts().iter().enumerate() {
        let chat = prompt["chat"].as_bool().unwrap();
        let text = prompt[if chat { "rendered" } else { "text" }].as_str().unwrap();
        let options = EncodeOptions { add_special_tokens: !chat, parse_special: true };
        let ids = model.tokenizer().unwrap().encode(text, options).unwrap().ids;
        assert_eq!(ids, golden.ids(&format!("p{i}.input_ids")), "prompt {i}");
    }
}

#[test]
fn logits_agree_with_float64_within_a_thousandth() {
    let (model, golden) = (model(), Golden::open());
    let limit = golden.toml["tolerances"]["max_abs"].as_float().unwrap();
    assert!(limit <= 1e-3);
    let columns: Vec<usize> = golden.ids("columns").into_iter().map(|c| c as usize).collect();
    let vocab_size = model.config().vocab_size;
    let mut session =
        Session::new(model, &SessionOptions { context_size: Some(512), ..SessionOptions::default() }).unwrap();
    let mut worst = 0.0f64;
    for i in 0..golden.prompts().len() {
        let ids = golden.ids(&format!("p{i}.input_ids"));
        let mut rows: Vec<usize> = golden.ids(&format!("p{i}.rows")).into_iter().map(|r| r as usize).collect();
        let (_, partial) = golden.fixture.f32s(&format!("p{i}.row_logits")).unwrap();
        let (_, full) = golden.fixture.f32s(&format!("p{i}.logits")).unwrap();
        rows.push(ids.len() - 1);
        session.reset();
        let sequence = session.create().unwrap();
        let input = SequenceInput { sequence, tokens: &ids, positions: None, outputs: Outputs::Rows(&rows) };
        let logits = session.step(&[input]).unwrap();
        let actual: Vec<&[f32]> = logits.of_input(0).chunks(vocab_size).collect();
        let selected = actual[..rows.len() - 1].iter().flat_map(|row| columns.iter().map(|c| row[*c]));
        let pairs =
            selected.zip(&partial).map(|(a, e)| (a, *e)).chain(actual[rows.len() - 1].iter().copied().zip(full));
        for (a, e) in pairs {
            worst = worst.max(f64::from(a - e).abs());
            assert!(a.is_finite() && f64::from(a - e).abs() <= limit, "prompt {i}: {a} should be {e}");
        }
    }
    println!("largest difference {worst:e}, limit {limit:e}");
}

#[test]
fn greedy_tokens_agree_for_32_steps() {
    let (model, golden) = (model(), Golden::open());
    for i in 0..golden.prompts().len() {
        let stop = golden.fixture.i64s(&format!("g{i}.stop")).unwrap().1[0] as usize;
        let expected = &golden.ids(&format!("g{i}.tokens"))[..stop];
        let generation = generate_greedy(&model, &golden.ids(&format!("p{i}.input_ids")), expected.len());
        assert_eq!(generation.tokens, expected, "prompt {i}");
    }
}
