//! `camelid init` and models beyond their own limit, as a user meets them.

mod common;

use std::path::Path;
use std::process::Output;

use common::{failure, stdout, suite};
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize_to_file};
use serde_json::Value;

/// The program with these arguments, in an empty folder.
fn camelid(args: &[&Path]) -> Output {
    common::command(tempfile::tempdir().unwrap().path()).args(args).output().unwrap()
}

/// The logits that `camelid forward` gives for `input_ids`, and their shape.
fn forward(model: &Path, input_ids: TensorView<'_>, extra: &[&str]) -> (Vec<usize>, Vec<f32>) {
    let folder = tempfile::tempdir().unwrap();
    let (inputs, outputs) = (folder.path().join("in.safetensors"), folder.path().join("out.safetensors"));
    serialize_to_file([("input_ids", input_ids)], None, &inputs).unwrap();
    let mut args = ["forward", "--model", "", "--inputs", "", "--outputs", ""].map(Path::new).to_vec();
    (args[2], args[4], args[6]) = (model, &inputs, &outputs);
    args.extend(extra.iter().map(Path::new));
    stdout(camelid(&args));
    let bytes = std::fs::read(&outputs).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let logits = file.tensor("logits").unwrap();
    let values = logits.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    (logits.shape().to_vec(), values)
}

#[test]
fn a_new_model_is_inspected_and_run() {
    let folder = tempfile::tempdir().unwrap();
    let (config, out) = (suite("model/longrope/config.json"), folder.path().join("new"));
    let init = |extra: &[&str]| {
        let mut args = ["init", "--config", "", "--out", "", "--seed", "11"].map(Path::new).to_vec();
        (args[2], args[4]) = (&config, &out);
        args.extend(extra.iter().map(Path::new));
        camelid(&args)
    };
    let text = stdout(init(&[]));
    assert!(text.contains("model.safetensors\n") && text.contains("config.json\n"), "{text}");
    assert!(text.contains("27900 parameters in 55800 bytes"), "the config says bfloat16: {text}");
    let first = std::fs::read(out.join("model.safetensors")).unwrap();

    let inspected = stdout(camelid(&[Path::new("inspect"), &out, Path::new("--json")]));
    let inspected: Value = serde_json::from_str(&inspected).unwrap();
    assert_eq!(inspected["config"]["rope_parameters"]["rope_type"], "longrope");
    assert_eq!(inspected["parameters"], 27900);

    let ids: Vec<u8> = (0..20i64).flat_map(i64::to_le_bytes).collect();
    let (shape, logits) = forward(&out, TensorView::new(Dtype::I64, vec![1, 20], &ids).unwrap(), &[]);
    assert_eq!(shape, [1, 20, 43]);
    assert!(logits.iter().all(|x| x.is_finite()) && logits.iter().any(|x| *x != 0.0));

    assert!(failure(init(&[])).contains("--force"));
    stdout(init(&["--force", "--dtype", "f32", "--shard-size", "40000"]));
    assert!(out.join("model.safetensors.index.json").exists() && !out.join("model.safetensors").exists());
    stdout(init(&["--force"]));
    assert_eq!(std::fs::read(out.join("model.safetensors")).unwrap(), first);
}

#[test]
fn what_is_wrong_with_a_config_is_said_with_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let (config, out) = (folder.path().join("config.json"), folder.path().join("new"));
    let run = || {
        let mut args = ["init", "--config", "", "--out", ""].map(Path::new).to_vec();
        (args[2], args[4]) = (&config, &out);
        failure(camelid(&args))
    };
    let e = run();
    assert!(e.contains("config.json: cannot be read"), "{e}");
    std::fs::write(&config, r#"{"rope_scaling": {"type": "yarn"}}"#).unwrap();
    let e = run();
    assert!(e.contains("config.json: `rope_scaling.factor` is missing"), "{e}");
    assert!(!out.exists());
}

/// 23 tokens on a model with `dynamic` scaling and 16 positions: that is what the scaling is for, so no flag is asked.
#[test]
fn dynamic_scaling_goes_beyond_the_positions_of_the_model() {
    let model = suite("model/dynamic");
    let expect = std::fs::read(model.join("expect.safetensors")).unwrap();
    let expect = SafeTensors::deserialize(&expect).unwrap();
    let reference = ["--backend", "reference"];
    let (shape, logits) = forward(&model, expect.tensor("batch.input_ids").unwrap(), &reference);
    let expected = expect.tensor("batch.logits").unwrap();
    assert_eq!(shape, expected.shape());
    let expected: Vec<f64> = expected.data().as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect();
    let rms = (expected.iter().map(|e| e * e).sum::<f64>() / expected.len() as f64).sqrt();
    let worst = logits.iter().zip(&expected).map(|(a, e)| (f64::from(*a) - e).abs()).fold(0.0, f64::max);
    assert!(worst / rms <= 2e-5, "{}", worst / rms);
}
