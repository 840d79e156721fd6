//! Keys and values in q8_0, on the bundled model, whose heads are one block wide: however a cache divides its memory and a
//! prompt its steps, forks, cuts and files keep the same blocks; they cost little; and what does not go is refused by name.

#![allow(clippy::print_stdout, reason = "the measured figures are shown with --no-capture")]

mod common;

use std::path::Path;
use std::sync::Arc;

use camelid_conformance::fixtures::{max_over_rms, suite_dir};
use camelid_core::DType;
use camelid_core::backend::Options;
use camelid_core::cache::SequenceId;
use camelid_engine::forward::{Array, ForwardInputs, ForwardOptions, ForwardOutputs, Past};
use camelid_engine::{CacheKind, EngineError, Model, Outputs, SequenceInput, Session, SessionOptions};
use camelid_host::{DeviceHandle, OnUnsupported, PluginSpec, Registry};
use common::{load, reference, reference_without_macros};

fn model(device: DeviceHandle) -> Arc<Model> {
    load(&suite_dir().join("../../crates/cli/bundled/model"), device)
}

/// Room for a few short sequences.
fn q8_0() -> SessionOptions {
    SessionOptions { context_size: Some(64), max_sequences: 4, kv_dtype: DType::Q8_0, ..SessionOptions::default() }
}

fn prompt(len: u32) -> Vec<u32> {
    (0..len).map(|i| (i * 37 + 5) % 2000).collect()
}

/// The logits of the last token.
fn step(session: &mut Session, sequence: SequenceId, tokens: &[u32]) -> Vec<f32> {
    let input = SequenceInput { sequence, tokens, positions: None, outputs: Outputs::Last };
    session.step(&[input]).unwrap().last_of_input(0).to_vec()
}

#[test]
fn however_a_prompt_and_the_memory_are_divided_the_bits_are_the_same() {
    let model = model(reference(2));
    let prompt = prompt(40);
    let mut expected: Option<Vec<f32>> = None;
    for cache in [CacheKind::Contiguous, CacheKind::Paged { block_size: 3 }, CacheKind::Paged { block_size: 16 }] {
        for (batch_size, piece) in [(512, 40), (7, 40), (512, 9), (512, 1)] {
            let mut session = Session::new(model.clone(), &SessionOptions { cache, batch_size, ..q8_0() }).unwrap();
            let sequence = session.create().unwrap();
            let pieces = prompt.chunks(piece).map(|tokens| step(&mut session, sequence, tokens));
            let found = pieces.last().unwrap();
            assert!(*expected.get_or_insert_with(|| found.clone()) == found, "{cache:?}, {batch_size}, {piece}");
        }
    }
}

#[test]
fn forks_and_cuts_copy_whole_rows() {
    let model = model(reference(2));
    let prompt = prompt(20);
    for cache in [CacheKind::Contiguous, CacheKind::Paged { block_size: 3 }] {
        let mut session = Session::new(model.clone(), &SessionOptions { cache, ..q8_0() }).unwrap();
        let first = session.create().unwrap();
        step(&mut session, first, &prompt[..14]);
        // In the middle of a block: its rows are copied.
        let second = session.fork(first).unwrap();
        step(&mut session, second, &[1, 2, 3]);
        let whole = step(&mut session, first, &prompt[14..]);
        session.truncate(second, 14).unwrap();
        assert!(step(&mut session, second, &prompt[14..]) == whole, "{cache:?}: a fork that was cut");
        let third = session.create().unwrap();
        assert!(step(&mut session, third, &prompt) == whole, "{cache:?}: nobody's copy");
    }
}

#[test]
fn they_are_close_to_f32_natively_and_from_core_operations() {
    let prompt = prompt(40);
    let logits = |device: DeviceHandle, kv_dtype| {
        let mut session = Session::new(model(device), &SessionOptions { kv_dtype, ..q8_0() }).unwrap();
        let sequence = session.create().unwrap();
        step(&mut session, sequence, &prompt)
    };
    let exact: Vec<f64> = logits(reference(2), DType::F32).into_iter().map(f64::from).collect();
    for (way, device) in [("native", reference(2)), ("lowered", reference_without_macros())] {
        let error = max_over_rms(&logits(device, DType::Q8_0), &exact).unwrap();
        println!("{way}: max/rms {error:.1e}");
        // Codes of 8 bits: errors of about 2^-9 of a block's largest number, a few layers one after the other.
        assert!(error > 0.0 && error < 5e-2, "{way}: {error:e}");
    }
}

fn ids(tokens: &[i64]) -> ForwardInputs {
    let input_ids = Some(Array::new("input_ids", vec![1, tokens.len()], tokens.to_vec()).unwrap());
    ForwardInputs { input_ids, ..ForwardInputs::default() }
}

fn forward(session: &mut Session, tokens: &[i64], attentions: bool, past: &mut Past) -> ForwardOutputs {
    let options = ForwardOptions { attentions, ..ForwardOptions::default() };
    camelid_engine::forward::forward(session, &ids(tokens), Some(past), &options).unwrap()
}

#[test]
fn a_saved_past_is_read_into_the_same_blocks() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("past.safetensors");
    let model = model(reference(2));
    let session = |options| Session::for_forward(model.clone(), &options).unwrap();
    let mut first = session(q8_0());
    let mut past = Past::new(&mut first, 1).unwrap();
    let tokens: Vec<i64> = prompt(17).into_iter().map(i64::from).collect();
    forward(&mut first, &tokens, false, &mut past);
    past.save(&first, &file).unwrap();
    let expected = forward(&mut first, &[7, 8], false, &mut past).logits.unwrap();
    let mut second = session(SessionOptions { cache: CacheKind::Paged { block_size: 5 }, ..q8_0() });
    let mut loaded = Past::load(&mut second, &file).unwrap();
    assert!(forward(&mut second, &[7, 8], false, &mut loaded).logits.unwrap() == expected);
    // The file has f32, which any cache takes.
    let mut wide = session(SessionOptions { kv_dtype: DType::F32, ..q8_0() });
    let mut loaded = Past::load(&mut wide, &file).unwrap();
    let close = forward(&mut wide, &[7, 8], false, &mut loaded).logits.unwrap();
    let far = close.data().iter().zip(expected.data()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(far > 0.0 && far < 0.5, "{far}");
}

#[test]
fn attentions_are_those_of_the_cached_keys() {
    let model = model(reference(2));
    let attended = |kv_dtype| {
        let options = SessionOptions { kv_dtype, ..q8_0() };
        let mut session = Session::for_forward(model.clone(), &options).unwrap();
        let mut past = Past::new(&mut session, 1).unwrap();
        let out = forward(&mut session, &[3, 14, 15, 92, 65], true, &mut past);
        out.attentions.unwrap().data().to_vec()
    };
    let (exact, found) = (attended(DType::F32), attended(DType::Q8_0));
    let far = exact.iter().zip(&found).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(far > 0.0 && far < 0.05, "{far}");
    assert!(found.chunks(5).all(|row| (row.iter().sum::<f32>() - 1.0).abs() < 1e-5), "weights sum to one");
}

#[test]
fn heads_that_are_no_whole_blocks_are_refused_with_the_remedy() {
    let model = load(&suite_dir().join("model/gqa"), reference(1));
    let error = Session::new(model, &q8_0()).unwrap_err();
    assert!(matches!(error, EngineError::Option { option: "kv_dtype", .. }));
    let expected =
        "`kv_dtype` is q8_0, but it must be f16, bf16 or f32, because heads of 24 elements are no whole blocks of 32";
    assert_eq!(error.to_string(), expected);
}

/// The example plugin, which has caches in f32 only.
fn example(path: &Path) -> DeviceHandle {
    let mut registry = Registry::new();
    registry.add_plugin(PluginSpec { name: None, path: path.to_owned(), sha256: None }).unwrap();
    registry.open("example", 0, &Options::default()).unwrap()
}

#[test]
fn a_backend_without_such_caches_is_named_with_a_type_that_it_has() {
    let model = model(example(&camelid_test_plugins::example_rust()));
    for (kv_dtype, on_unsupported) in
        [(DType::Q8_0, OnUnsupported::Lower), (DType::F16, OnUnsupported::Lower), (DType::Q8_0, OnUnsupported::Error)]
    {
        let options = SessionOptions { kv_dtype, on_unsupported, ..q8_0() };
        let error = Session::new(model.clone(), &options).unwrap_err();
        if on_unsupported == OnUnsupported::Error {
            // It lacks more than that: no type of the cache would do.
            assert!(matches!(error, EngineError::Host(_)), "{error}");
            continue;
        }
        let expected =
            format!("`kv_dtype` is {kv_dtype}, which the backend does not have for this model; use kv_dtype = \"f32\"");
        assert_eq!(error.to_string(), expected);
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.starts_with("example: ") && source.contains(&format!("{kv_dtype}")), "{source}");
    }
}
