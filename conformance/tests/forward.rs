//! The forward interface on the reference backend: every call of `suite/forward`, in every way to the backend and from
//! core operations alone; how batches are divided changes nothing; a past that is cut, copied, put in another order, or
//! saved and loaded goes on as if it had been computed; and what does not fit is refused by name.

#![allow(clippy::print_stdout, reason = "the measured figures are shown with --no-capture")]

mod common;

use std::path::Path;
use std::sync::Arc;

use camelid_conformance::case::{Context, Problem};
use camelid_conformance::fixtures::{Fixture, suite_dir};
use camelid_conformance::levels::forward;
use camelid_conformance::subject::Subject;
use camelid_conformance::suite::Suite;
use camelid_core::DType;
use camelid_core::backend::Options;
use camelid_engine::forward::{
    Array, AttentionMask, ForwardError, ForwardInputs, ForwardOptions, ForwardOutputs, Labels, LogitsToKeep, Past,
};
use camelid_engine::{CacheKind, EngineError, Model, Session, SessionOptions};
use common::{Way, core_only_registry, load, reference, registry};

/// Runs every case of the level on this backend and prints the largest measures.
fn all_cases_pass(subject: &Subject) {
    let suite = Suite::open_unchecked(&suite_dir()).unwrap();
    let cases = forward::cases(&suite).unwrap();
    assert!(cases.len() >= 21, "there are only {} cases", cases.len());
    let context = Context { subject, suite: &suite, dump: None };
    let mut largest = 0.0f64;
    for case in &cases {
        match case.run(&context) {
            Ok(evidence) => {
                assert!(!evidence.measures.is_empty(), "{}: nothing was compared", case.id);
                largest = evidence.measures.iter().map(|m| m.value).fold(largest, f64::max);
            }
            Err(Problem::Fail(f)) => panic!("{}: {} {:?}", case.id, f.message, f.worst),
            Err(other) => panic!("{}: {other:?}", case.id),
        }
    }
    println!("{} cases, largest max/rms {largest:.1e}", cases.len());
}

#[test]
fn every_call_gives_what_transformers_gives_linked() {
    all_cases_pass(&Subject::new(registry(Way::Linked), "reference", 0, Options::default()));
}

#[test]
fn every_call_gives_what_transformers_gives_through_the_loopback() {
    all_cases_pass(&Subject::new(registry(Way::Loopback), "reference", 0, Options::default()));
}

#[test]
fn every_call_gives_what_transformers_gives_from_core_operations() {
    all_cases_pass(&Subject::new(core_only_registry(), "core-only", 0, Options::default()));
}

fn model(name: &str) -> Arc<Model> {
    load(&suite_dir().join("forward").join(name), reference(1))
}

fn session(model: &Arc<Model>, options: SessionOptions) -> Session {
    Session::for_forward(model.clone(), &options).unwrap()
}

fn rows(n: usize) -> SessionOptions {
    SessionOptions { max_sequences: n, ..SessionOptions::default() }
}

fn call(name: &str) -> ForwardInputs {
    let fixture = Fixture::open(suite_dir().join("forward/causal/expect.safetensors")).unwrap();
    forward::inputs(&fixture, name).unwrap()
}

fn everything() -> ForwardOptions {
    ForwardOptions { hidden_states: true, attentions: true, ..ForwardOptions::default() }
}

fn run(session: &mut Session, inputs: &ForwardInputs, past: Option<&mut Past>) -> ForwardOutputs {
    camelid_engine::forward::forward(session, inputs, past, &everything()).unwrap()
}

fn ids(shape: [usize; 2], data: &[i64]) -> ForwardInputs {
    let input_ids = Some(Array::new("input_ids", shape.to_vec(), data.to_vec()).unwrap());
    ForwardInputs { input_ids, ..ForwardInputs::default() }
}

#[test]
fn how_a_batch_is_divided_changes_no_bit() {
    let model = model("causal");
    for name in ["left_padding", "embeddings", "mask_4d_numbers", "all_outputs"] {
        let inputs = call(name);
        let whole = run(&mut session(&model, rows(3)), &inputs, None);
        for (max_sequences, batch_size, cache) in [
            (1, 512, CacheKind::Contiguous),
            (2, 3, CacheKind::Paged { block_size: 4 }),
            (3, 1, CacheKind::Paged { block_size: 1 }),
        ] {
            let options = SessionOptions { max_sequences, batch_size, cache, ..SessionOptions::default() };
            let mut session = session(&model, options);
            assert_eq!(run(&mut session, &inputs, None), whole, "{name}, {max_sequences} rows, {batch_size} tokens");
            // Nothing is left behind.
            assert!(session.create().is_ok());
        }
    }
}

#[test]
fn token_by_token_with_a_past_gives_the_bits_of_the_whole() {
    let model = model("causal");
    let inputs = call("all_outputs");
    let ids_of = inputs.input_ids.as_ref().unwrap();
    let (batch, length) = (ids_of.shape()[0], ids_of.shape()[1]);
    let mut session = session(&model, SessionOptions { cache: CacheKind::Paged { block_size: 3 }, ..rows(batch) });
    let whole = run(&mut session, &inputs, None).logits.unwrap();
    let mut past = Past::new(&mut session, batch).unwrap();
    for t in 0..length {
        let column: Vec<i64> = (0..batch).map(|b| ids_of.row(b)[t]).collect();
        let step = run(&mut session, &ids([batch, 1], &column), Some(&mut past)).logits.unwrap();
        for b in 0..batch {
            let width = step.shape()[2];
            assert_eq!(step.row(b), &whole.row(b)[t * width..(t + 1) * width], "token {t} of row {b}");
        }
    }
    assert_eq!(past.len(), length);
}

/// Logits of two more tokens after a past, which leaves it as it was.
fn next(session: &mut Session, past: &mut Past) -> Array<f32> {
    let before = past.len();
    let tokens: Vec<i64> = (0..past.batch() as i64).flat_map(|b| [3 + b, 11]).collect();
    let logits = run(session, &ids([past.batch(), 2], &tokens), Some(past)).logits.unwrap();
    past.crop(session, before as isize).unwrap();
    logits
}

#[test]
fn a_past_can_be_cropped_forked_and_put_in_another_order() {
    let model = model("causal");
    for cache in [CacheKind::Contiguous, CacheKind::Paged { block_size: 4 }] {
        let mut session = session(&model, SessionOptions { cache, ..rows(7) });
        let mut past = Past::new(&mut session, 3).unwrap();
        run(&mut session, &call("past_first"), Some(&mut past));
        let expected = next(&mut session, &mut past);

        // A fork goes its own way.
        let mut fork = past.fork(&mut session).unwrap();
        run(&mut session, &ids([3, 1], &[1, 2, 3]), Some(&mut fork));
        assert_eq!(fork.len(), 8);
        assert_eq!(next(&mut session, &mut past), expected);
        fork.crop(&mut session, -1).unwrap();
        assert_eq!(next(&mut session, &mut fork), expected, "{cache:?}: a column taken back");
        fork.release(&mut session).unwrap();

        // Rows in another order, one twice and one gone; then more rows than there were.
        past.reorder(&mut session, &[2, 0, 2]).unwrap();
        let tokens = [[3 + 2, 11], [3, 11], [3 + 2, 11]].concat();
        let logits = run(&mut session, &ids([3, 2], &tokens), Some(&mut past)).logits.unwrap();
        let same = |row: usize, of: usize| logits.row(row) == expected.row(of);
        assert!(same(0, 2) && same(1, 0) && same(2, 2), "{cache:?}");
        past.crop(&mut session, 7).unwrap();
        past.reorder(&mut session, &[1, 1, 1, 0, 2]).unwrap();
        let tokens = [[3, 11]; 5].concat();
        let logits = run(&mut session, &ids([5, 2], &tokens), Some(&mut past)).logits.unwrap();
        assert!((0..3).all(|row| logits.row(row) == expected.row(0)), "{cache:?}");

        // What cannot be done changes nothing.
        past.crop(&mut session, 7).unwrap();
        assert!(matches!(past.reorder(&mut session, &[5]), Err(EngineError::Option { .. })));
        assert!(matches!(past.reorder(&mut session, &[0; 9]), Err(EngineError::Cache(_))));
        let logits = run(&mut session, &ids([5, 2], &tokens), Some(&mut past)).logits.unwrap();
        assert!((0..3).all(|row| logits.row(row) == expected.row(0)), "{cache:?}");
        past.release(&mut session).unwrap();
        let all: Vec<_> = (0..7).map(|_| session.create()).collect();
        assert!(all.iter().all(Result::is_ok), "every sequence was given back");
    }
}

#[test]
fn a_saved_past_goes_on_in_another_session_with_another_cache() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("past.safetensors");
    let model = model("causal");
    let mut first = session(&model, rows(3));
    let mut past = Past::new(&mut first, 3).unwrap();
    run(&mut first, &call("past_first"), Some(&mut past));
    past.save(&first, &file).unwrap();
    assert_eq!(Past::shape_of_file(&file).unwrap(), [3, 7]);
    let expected = run(&mut first, &call("past_next"), Some(&mut past));
    for cache in [CacheKind::Contiguous, CacheKind::Paged { block_size: 2 }] {
        let mut second = session(&model, SessionOptions { cache, batch_size: 2, ..rows(3) });
        let mut loaded = Past::load(&mut second, &file).unwrap();
        assert_eq!(loaded.len(), 7);
        assert_eq!(run(&mut second, &call("past_next"), Some(&mut loaded)), expected, "{cache:?}");
    }
    // An f16 cache saves f16, which an f32 cache takes as it is.
    let mut half = session(&model, SessionOptions { kv_dtype: DType::F16, ..rows(3) });
    let mut past = Past::new(&mut half, 3).unwrap();
    run(&mut half, &call("past_first"), Some(&mut past));
    past.save(&half, &file).unwrap();
    let expected = next(&mut half, &mut past);
    let mut again = session(&model, SessionOptions { kv_dtype: DType::F16, ..rows(3) });
    let mut loaded = Past::load(&mut again, &file).unwrap();
    assert_eq!(next(&mut again, &mut loaded), expected);
    let mut wide = session(&model, rows(3));
    let mut loaded = Past::load(&mut wide, &file).unwrap();
    let close = next(&mut wide, &mut loaded);
    let far = close.data().iter().zip(expected.data()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(far > 0.0 && far < 1e-2, "{far}");
}

#[test]
fn a_file_that_is_no_past_of_this_model_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("past.safetensors");
    let model = model("causal");
    let mut of_causal = session(&model, rows(3));
    let mut past = Past::new(&mut of_causal, 3).unwrap();
    run(&mut of_causal, &call("past_first"), Some(&mut past));
    past.save(&of_causal, &file).unwrap();
    let bytes = std::fs::read(&file).unwrap();

    let message = |session: &mut Session, path: &Path| {
        let error = Past::load(session, path).unwrap_err();
        assert!(error.to_string().contains(path.file_name().unwrap().to_str().unwrap()), "{error}");
        // Nothing of it is left in the session.
        let all: Vec<_> = (0..3).map(|_| session.create()).collect();
        assert!(all.iter().all(Result::is_ok));
        session.reset();
        error.to_string()
    };
    let mut other = session(&crate::model("classifier"), rows(3));
    assert!(message(&mut other, &file).contains("the past is of another model"));
    let mut session = session(&model, rows(3));
    for cut in [0, 4, 8, 100, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&file, &bytes[..cut]).unwrap();
        assert!(message(&mut session, &file).contains("not a whole safetensors file"), "{cut}");
    }
    let header_len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = String::from_utf8(bytes[8..8 + header_len].to_vec()).unwrap();
    let mut with_header = |from: &str, to: &str| {
        assert!(header.contains(from), "{header}");
        let changed = header.replacen(from, to, 1);
        let mut damaged = (changed.len() as u64).to_le_bytes().to_vec();
        damaged.extend_from_slice(changed.as_bytes());
        damaged.extend_from_slice(&bytes[8 + header_len..]);
        std::fs::write(&file, damaged).unwrap();
        message(&mut session, &file)
    };
    assert!(with_header("\"camelid-past\"", "\"camel\"").contains("is no past of this version"));
    assert!(with_header("layers.1.k", "layers.9.k").contains("there is no tensor `layers.1.k`"));
    assert!(with_header("\"mask\"", "\"task\"").contains("there is no tensor `mask`"));
    assert!(
        with_header("\"shape\":[13,12]", "\"shape\":[12,13]").contains("has shape [12, 13], but it must be [13, 12]")
    );
    // A mask that is no mask, and keys that are no numbers.
    let mut damaged = bytes.clone();
    *damaged.last_mut().unwrap() = 2;
    std::fs::write(&file, &damaged).unwrap();
    assert!(message(&mut session, &file).contains("must be 0 or 1"));
    let mut damaged = bytes.clone();
    damaged[8 + header_len..8 + header_len + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&file, &damaged).unwrap();
    assert!(message(&mut session, &file).contains("no finite number"));
    std::fs::write(&file, &bytes).unwrap();
    let mut small = crate::session(&model, SessionOptions { context_size: Some(4), ..rows(3) });
    assert!(Past::load(&mut small, &file).unwrap_err().to_string().contains("raise `context_size`"));
    let mut few = crate::session(&model, rows(2));
    assert!(Past::load(&mut few, &file).unwrap_err().to_string().contains("max_sequences"));
    assert!(Past::load(&mut few, Path::new("nowhere")).unwrap_err().to_string().contains("nowhere: cannot be read"));
}

#[test]
fn what_does_not_fit_together_is_refused_by_name() {
    let model = model("causal");
    let mut session = session(&model, rows(2));
    let mut message = |inputs: &ForwardInputs, options: &ForwardOptions| {
        camelid_engine::forward::forward(&mut session, inputs, None, options).unwrap_err().to_string()
    };
    let plain = ForwardOptions::default();
    assert!(message(&ForwardInputs::default(), &plain).contains("is neither; give one"));
    let embeds = Array::new("inputs_embeds", vec![1, 1, 26], vec![0.0f32; 26]).unwrap();
    let both = ForwardInputs { inputs_embeds: Some(embeds), ..ids([1, 1], &[0]) };
    assert!(message(&both, &plain).contains("are both; leave one out"));
    assert!(message(&ids([1, 2], &[0, 41]), &plain).contains("`input_ids`[0, 1] is 41"));
    assert!(message(&ids([1, 2], &[0, -1]), &plain).contains("`input_ids`[0, 1] is -1"));
    assert!(message(&ids([0, 2], &[]), &plain).contains("there are no tokens"));
    let wide = Array::new("inputs_embeds", vec![1, 1, 25], vec![0.0f32; 25]).unwrap();
    let wide = ForwardInputs { inputs_embeds: Some(wide), ..ForwardInputs::default() };
    assert!(message(&wide, &plain).contains("be [B, T, 26] (hidden_size)"));
    let with_mask = |mask: AttentionMask| ForwardInputs { attention_mask: Some(mask), ..ids([1, 2], &[0, 1]) };
    let shown = |shape: &[usize]| {
        AttentionMask::Visible(
            Array::new("attention_mask", shape.to_vec(), vec![true; shape.iter().product()]).unwrap(),
        )
    };
    assert!(message(&with_mask(shown(&[1, 4, 2, 2])), &plain).contains("masks of single heads are not supported"));
    assert!(message(&with_mask(shown(&[1, 1, 2, 3])), &plain).contains("be [1, 1, 2, 2]"));
    let padding = AttentionMask::Padding(Array::new("attention_mask", vec![1, 3], vec![true; 3]).unwrap());
    assert!(message(&with_mask(padding), &plain).contains("be [1, 2], a column for each token"));
    let infinite = Array::new("attention_mask", vec![1, 1, 2, 2], vec![0.0, 0.0, f64::INFINITY, 0.0]).unwrap();
    assert!(
        message(&with_mask(AttentionMask::Additive(infinite)), &plain).contains("`attention_mask`[0, 0, 1, 0] is inf")
    );
    let positions = |data: Vec<i64>| {
        let position_ids = Some(Array::new("position_ids", vec![1, data.len()], data).unwrap());
        ForwardInputs { position_ids, ..ids([1, 2], &[0, 1]) }
    };
    assert!(message(&positions(vec![0, -1]), &plain).contains("`position_ids`[0, 1] is -1"));
    assert!(message(&positions(vec![0, 48]), &plain).contains("raise `context_size`"));
    assert!(message(&positions(vec![0]), &plain).contains("be [1, 2]"));
    let labels = |labels: Labels| ForwardInputs { labels: Some(labels), ..ids([1, 2], &[0, 1]) };
    let ints =
        |shape: &[usize], data: &[i64]| Labels::Ints(Array::new("labels", shape.to_vec(), data.to_vec()).unwrap());
    assert!(message(&labels(ints(&[1, 2], &[0, 41])), &plain).contains("`labels`[0, 1] is 41"));
    assert!(message(&labels(ints(&[2], &[0, 1])), &plain).contains("a label for each position that gives logits"));
    let floats = Labels::Floats(Array::new("labels", vec![1, 2], vec![0.0, 1.0]).unwrap());
    assert!(message(&labels(floats), &plain).contains("give I64 or I32"));
    let base = ForwardOptions { base: true, ..ForwardOptions::default() };
    assert!(message(&labels(ints(&[1, 2], &[0, 1])), &base).contains("no loss"));
    let keep = ForwardOptions { logits_to_keep: LogitsToKeep::Indices(vec![2]), ..ForwardOptions::default() };
    assert!(message(&ids([1, 2], &[0, 1]), &keep).contains("`logits_to_keep`[0] is 2"));
    let long = vec![0; 49];
    assert!(message(&ids([1, 49], &long), &plain).contains("has room for 48 more"));
}

#[test]
fn a_classifier_and_a_base_model_generate_nothing() {
    let classifier = model("classifier");
    let error = Session::new(classifier.clone(), &SessionOptions::default()).unwrap_err();
    assert!(error.to_string().contains("a classifier of 3 labels; use `camelid classify`"), "{error}");
    let error = classifier.num_labels().map(|_| ()).and(model("causal").num_labels().map(|_| ())).unwrap_err();
    assert!(error.to_string().contains("is no classifier"), "{error}");
    let mut session = session(&classifier, rows(2));
    let keep = ForwardOptions { logits_to_keep: LogitsToKeep::Last(1), ..ForwardOptions::default() };
    let error = camelid_engine::forward::forward(&mut session, &ids([1, 1], &[0]), None, &keep).unwrap_err();
    assert!(error.to_string().contains("`logits_to_keep` cannot be used here"), "{error}");
    // Without a padding token only one row can be classified.
    let mut alone = crate::session(&model("regressor"), rows(2));
    let error = camelid_engine::forward::forward(&mut alone, &ids([2, 1], &[0, 1]), None, &ForwardOptions::default());
    assert!(matches!(error.unwrap_err(), EngineError::Forward(ForwardError::NoPadToken { rows: 2 })));
}

#[test]
fn a_mask_that_looks_far_ahead_needs_one_run_and_says_so() {
    let model = model("causal");
    // Whoever looks at all needs all 40 tokens together, however small a batch is.
    let all = vec![true; 40 * 40];
    let mask = AttentionMask::Visible(Array::new("attention_mask", vec![1, 1, 40, 40], all).unwrap());
    let tokens: Vec<i64> = (0..40).collect();
    let inputs = ForwardInputs { attention_mask: Some(mask), ..ids([1, 40], &tokens) };
    let whole = run(&mut session(&model, rows(1)), &inputs, None);
    let small = run(&mut session(&model, SessionOptions { batch_size: 3, ..rows(1) }), &inputs, None);
    assert_eq!(whole, small);
}

#[test]
fn all_labels_ignored_is_not_a_number_and_a_row_of_padding_is_zeros() {
    let model = model("causal");
    let mut session = session(&model, rows(2));
    let labels = Some(Labels::Ints(Array::new("labels", vec![1, 2], vec![5, -100]).unwrap()));
    let outputs = run(&mut session, &ForwardInputs { labels, ..ids([1, 2], &[0, 1]) }, None);
    assert!(outputs.loss.unwrap().is_nan());
    let nothing = AttentionMask::Padding(Array::new("attention_mask", vec![2, 3], vec![false; 6]).unwrap());
    let inputs = ForwardInputs { attention_mask: Some(nothing), ..ids([2, 3], &[0; 6]) };
    let outputs = run(&mut session, &inputs, None);
    for array in [outputs.logits, outputs.hidden_states, outputs.attentions] {
        assert!(array.unwrap().data().iter().all(|x| *x == 0.0));
    }
}
