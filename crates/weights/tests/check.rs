//! The tensors of a checkpoint against those that its config calls for.

mod common;

use camelid_core::llama::{LlamaConfig, tensors};
use camelid_weights::{CheckReport, Checkpoint, Strictness, WeightsError};
use common::gguf::tiny;
use common::*;

/// Checks the tiny model, with these tensors, against this config.
fn check(
    stored: &[(String, Vec<usize>)],
    config: &serde_json::Value,
    strictness: Strictness,
) -> Result<CheckReport, WeightsError> {
    let file = safetensors(stored.iter().map(|(name, shape)| (name.as_str(), shape.as_slice())));
    let folder = folder(&[("config.json", config.to_string().as_bytes()), ("model.safetensors", &file)]);
    let checkpoint = Checkpoint::open(folder.path())?;
    let config = LlamaConfig::from_value(checkpoint.config()).expect("a valid config");
    checkpoint.check_against(&tensors::expected(&config, false), strictness)
}

#[test]
fn the_right_tensors_pass() {
    for strictness in [Strictness::Lenient, Strictness::Strict] {
        assert_eq!(check(&tensors(), &config(), strictness).unwrap(), CheckReport::default());
    }
    let (_folder, gguf) = tiny().open();
    let config = LlamaConfig::from_value(gguf.config()).unwrap();
    assert_eq!(
        gguf.check_against(&tensors::expected(&config, false), Strictness::Strict).unwrap(),
        CheckReport::default()
    );
}

#[test]
fn every_missing_tensor_is_in_one_error() {
    let stored: Vec<_> = tensors().into_iter().filter(|(name, _)| !name.contains("layers.1.")).collect();
    let error = check(&stored, &config(), Strictness::Lenient).unwrap_err();
    let WeightsError::Mismatch { mismatch, .. } = &error else { panic!("{error}") };
    assert_eq!((mismatch.missing.len(), mismatch.wrong_shape.len()), (9, 0));
    assert_says(&error.to_string(), &["9 tensors missing", "model.layers.1.input_layernorm.weight", "and 1 more"]);
}

#[test]
fn extra_tensors_are_reported_or_refused() {
    let mut stored = tensors();
    stored.push(("model.layers.3.mlp.up_proj.weight".into(), vec![FFN, HIDDEN]));
    stored.push(("vision.weight".into(), vec![2]));
    let report = check(&stored, &config(), Strictness::Lenient).unwrap();
    assert_eq!(report.unexpected, ["model.layers.3.mlp.up_proj.weight", "vision.weight"]);
    let error = check(&stored, &config(), Strictness::Strict).unwrap_err();
    assert_says(&error.to_string(), &["2 tensors that the config does not call for", "vision.weight"]);
}

#[test]
fn a_wrong_shape_names_the_fields_it_should_come_from() {
    let mut config = config();
    config["vocab_size"] = 12.into();
    let message = check(&tensors(), &config, Strictness::Lenient).unwrap_err().to_string();
    assert_says(
        &message,
        &["1 tensor of another shape", "model.embed_tokens.weight is [11, 64]", "[12 (vocab_size), 64 (hidden_size)]"],
    );
    config["vocab_size"] = 11.into();
    config["num_key_value_heads"] = 3.into();
    let message = check(&tensors(), &config, Strictness::Lenient).unwrap_err().to_string();
    assert_says(&message, &["6 tensors of another shape", "k_proj", "48 (num_key_value_heads * head_dim)"]);
    // A transposed matrix of as many elements is another shape too.
    let mut stored = tensors();
    stored[8].1.reverse();
    let error = check(&stored, &common::config(), Strictness::Lenient).unwrap_err();
    assert_says(&error.to_string(), &["model.layers.0.mlp.up_proj.weight is [64, 96]"]);
}

#[test]
fn everything_that_differs_is_said_at_once() {
    let mut stored = tensors();
    stored.remove(0);
    stored[0].1 = vec![HIDDEN + 1];
    stored.push(("extra.weight".into(), vec![1]));
    let message = check(&stored, &config(), Strictness::Strict).unwrap_err().to_string();
    assert_says(
        &message,
        &[
            "1 tensor missing: model.embed_tokens.weight",
            "input_layernorm.weight is [65]",
            "extra.weight",
            "config.json",
        ],
    );
}
