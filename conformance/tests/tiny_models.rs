//! Tiny random models against float64 logits and greedy tokens that transformers and NumPy agree on.
//!
//! Every model of `suite/model` runs on the reference backend, linked in, behind its own table of functions and as a
//! loaded plugin, and each time in several ways: the whole prompt at once, in chunks, token by token, beside other
//! sequences, over both caches, and from core operations alone. The logits lie within the case's
//! tolerance of the expectation in every one of them, and for this backend, whose rows do not depend on their
//! neighbours, the ways agree bit for bit.

mod common;

use std::path::PathBuf;
use std::sync::Arc;

use camelid_conformance::fixtures::{Fixture, max_over_rms, suite_dir};
use camelid_engine::{CacheKind, Model, Outputs, SequenceInput, Session, SessionOptions};
use common::{Way, greedy, load, reference_by, reference_without_macros};

struct Case {
    folder: PathBuf,
    expect: Fixture,
    tolerance: f64,
}

/// The cases on disk; fewer than there should be is a failure, not a short run.
fn cases() -> Vec<Case> {
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(suite_dir().join("model")).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    let names: Vec<_> = folders.iter().map(|f| f.file_name().unwrap().to_str().unwrap()).collect();
    for required in [
        "bias",
        "dynamic",
        "eos_list",
        "gelu",
        "gelu_new",
        "gqa",
        "head_dim",
        "linear_rope",
        "llama31_config",
        "llama3_rope",
        "longrope",
        "mha",
        "mish",
        "mqa",
        "no_prefix",
        "old_config",
        "one_layer",
        "partial_default",
        "partial_linear",
        "proportional_rope",
        "quick_gelu",
        "relu",
        "relu2",
        "sharded",
        "sigmoid",
        "tanh",
        "tied",
        "yarn",
        "yarn_mscale",
        "yarn_old",
    ] {
        assert!(names.contains(&required), "suite/model/{required} is missing");
    }
    folders
        .into_iter()
        .map(|folder| {
            let case: toml::Table = std::fs::read_to_string(folder.join("case.toml")).unwrap().parse().unwrap();
            let tolerance = case["tolerances"]["max_over_rms"].as_float().unwrap();
            Case { expect: Fixture::open(folder.join("expect.safetensors")).unwrap(), folder, tolerance }
        })
        .collect()
}

impl Case {
    fn ids(&self, name: &str) -> Vec<Vec<u32>> {
        let (shape, values) = self.expect.i64s(name).unwrap();
        let ids: Vec<u32> = values.iter().map(|v| u32::try_from(*v).unwrap()).collect();
        ids.chunks(*shape.last().unwrap()).map(<[u32]>::to_vec).collect()
    }

    fn check(&self, what: &str, actual: &[f32], expected: &[f64]) {
        let error = max_over_rms(actual, expected).unwrap();
        let name = self.folder.file_name().unwrap().display();
        assert!(error <= self.tolerance, "{name}, {what}: {error:e} is over {:e}", self.tolerance);
    }
}

fn options(cache: CacheKind, batch_size: usize, max_sequences: usize) -> SessionOptions {
    // Room for every prompt, whatever a model says it was made for.
    SessionOptions { cache, batch_size, max_sequences, context_size: Some(160), ..SessionOptions::default() }
}

/// Logits of every token of `ids`, `chunk` tokens a step.
fn logits(session: &mut Session, ids: &[u32], chunk: usize) -> Vec<f32> {
    let sequence = session.create().unwrap();
    let mut rows = Vec::new();
    for tokens in ids.chunks(chunk) {
        let input = SequenceInput { sequence, tokens, positions: None, outputs: Outputs::All };
        rows.extend_from_slice(session.step(&[input]).unwrap().of_input(0));
    }
    session.release(sequence).unwrap();
    rows
}

fn logits_lie_within_the_tolerance_for_every_prompt(way: Way) {
    for case in cases() {
        let model = load(&case.folder, reference_by(way, 2));
        let vocab_size = model.config().vocab_size;
        let mut session = Session::new(model, &options(CacheKind::Contiguous, 512, 1)).unwrap();
        for p in 0..4 {
            let ids = &case.ids(&format!("p{p}.input_ids"))[0];
            let mut actual = logits(&mut session, ids, ids.len());
            if p == 3 {
                let (_, rows) = case.expect.i64s("p3.rows").unwrap();
                actual = rows.iter().flat_map(|r| actual[*r as usize * vocab_size..][..vocab_size].to_vec()).collect();
            }
            let (_, expected) = case.expect.f64s(&format!("p{p}.logits")).unwrap();
            case.check(&format!("prompt {p}"), &actual, &expected);
        }
    }
}

fn whole_chunked_and_token_by_token_give_the_same_bits_over_both_caches(way: Way) {
    for case in cases() {
        let model = load(&case.folder, reference_by(way, 2));
        let ids = &case.ids("p3.input_ids")[0];
        let plain = |chunk| {
            let options = options(CacheKind::Contiguous, 512, 1);
            logits(&mut Session::new(model.clone(), &options).unwrap(), ids, chunk)
        };
        let whole = plain(ids.len());
        // Where frequencies depend on the length of the sequence, steps are not all one; runs and caches are.
        let by_step = model.config().rope.scaling.depends_on_length();
        if by_step {
            let (ids, expected) = (&case.ids("p2.input_ids")[0], case.expect.f64s("s2.logits").unwrap().1);
            let mut session = Session::new(model.clone(), &options(CacheKind::Contiguous, 512, 1)).unwrap();
            case.check("token by token", &logits(&mut session, ids, 1), &expected);
        }
        for cache in [CacheKind::Contiguous, CacheKind::Paged { block_size: 7 }, CacheKind::Paged { block_size: 1 }] {
            for (batch_size, chunk) in [(512, 1), (512, 13), (11, ids.len()), (1, 31)] {
                let mut session = Session::new(model.clone(), &options(cache, batch_size, 1)).unwrap();
                let parts = logits(&mut session, ids, chunk);
                assert!(
                    parts == if by_step { plain(chunk) } else { whole.clone() },
                    "{}, {cache:?}, {chunk} tokens a step, {batch_size} a run",
                    case.folder.display()
                );
            }
        }
    }
}

fn a_batch_gives_each_sequence_the_bits_it_has_alone(way: Way) {
    for case in cases() {
        let model = load(&case.folder, reference_by(way, 2));
        // Sequences of one length, as the expectation has them, and of three lengths.
        let same = case.ids("batch.input_ids");
        let ragged = [same[0][..1].to_vec(), same[1].clone(), same[2][..9].to_vec()];
        for cache in [CacheKind::Contiguous, CacheKind::Paged { block_size: 4 }] {
            // A run of 10 tokens cuts sequences anywhere.
            for batch_size in [512, 10] {
                let mut session = Session::new(model.clone(), &options(cache, batch_size, 3)).unwrap();
                for sequences in [same.as_slice(), &ragged] {
                    session.reset();
                    let together = batch(&mut session, sequences);
                    session.reset();
                    for (ids, rows) in sequences.iter().zip(&together) {
                        assert!(*rows == logits(&mut session, ids, ids.len()), "{}", case.folder.display());
                    }
                    if sequences.len() == same.len() && sequences[0].len() == same[0].len() {
                        let (_, expected) = case.expect.f64s("batch.logits").unwrap();
                        case.check("batch", &together.concat(), &expected);
                    }
                }
            }
        }
    }
}

fn batch(session: &mut Session, sequences: &[Vec<u32>]) -> Vec<Vec<f32>> {
    let ids: Vec<_> = sequences.iter().map(|_| session.create().unwrap()).collect();
    let inputs: Vec<_> = sequences
        .iter()
        .zip(ids)
        .map(|(tokens, sequence)| SequenceInput { sequence, tokens, positions: None, outputs: Outputs::All })
        .collect();
    let logits = session.step(&inputs).unwrap();
    (0..sequences.len()).map(|i| logits.of_input(i).to_vec()).collect()
}

fn greedy_tokens_are_those_of_the_float64_reference(way: Way) {
    for case in cases() {
        let model = load(&case.folder, reference_by(way, 2));
        for g in 0..4 {
            let prompt = &case.ids(&format!("g{g}.input_ids"))[0];
            let expected = &case.ids(&format!("g{g}.tokens"))[0];
            let got = greedy(&model, prompt, expected.len(), Vec::new());
            assert_eq!(&got, expected, "{}, prompt {g}", case.folder.display());

            let stop = case.expect.i64s(&format!("g{g}.stop")).unwrap().1[0] as usize;
            let obeying = greedy(&model, prompt, expected.len(), model.config().eos_token_id.clone());
            assert_eq!(obeying, expected[..stop], "{}, prompt {g} with eos", case.folder.display());
        }
    }
}

#[test]
fn core_operations_alone_give_the_same_model() {
    for case in cases() {
        let model: Arc<Model> = load(&case.folder, reference_without_macros());
        let mut session = Session::new(model, &options(CacheKind::Paged { block_size: 5 }, 32, 3)).unwrap();
        assert!(session.lowered().iter().any(|l| l.op == "attention"), "attention was lowered");
        let together = batch(&mut session, &case.ids("batch.input_ids"));
        case.check("lowered batch", &together.concat(), &case.expect.f64s("batch.logits").unwrap().1);
    }
}

fn a_fork_goes_its_own_way_and_a_truncated_sequence_forgets(way: Way) {
    for case in cases() {
        let model = load(&case.folder, reference_by(way, 2));
        let sequences = case.ids("batch.input_ids");
        for cache in [CacheKind::Contiguous, CacheKind::Paged { block_size: 4 }] {
            let mut session = Session::new(model.clone(), &options(cache, 64, 3)).unwrap();
            let (stem, tails) = (&sequences[0][..10], [&sequences[1][..6], &sequences[2][..6]]);
            let alone = |session: &mut Session, tail: &[u32]| logits(session, &[stem, tail].concat(), 16);
            let expected = tails.map(|tail| alone(&mut session, tail));

            let first = session.create().unwrap();
            let step = |session: &mut Session, sequence, tokens: &[u32]| {
                let input = SequenceInput { sequence, tokens, positions: None, outputs: Outputs::All };
                session.step(&[input]).unwrap().of_input(0).to_vec()
            };
            let mut rows = vec![step(&mut session, first, stem)];
            let second = session.fork(first).unwrap();
            rows.push(step(&mut session, first, tails[0]));
            let other = step(&mut session, second, tails[1]);
            assert!(expected[0] == rows.concat(), "{cache:?}: the first sequence");
            assert!(expected[1] == [rows[0].clone(), other].concat(), "{cache:?}: its fork");

            session.truncate(first, stem.len()).unwrap();
            let again = step(&mut session, first, tails[1]);
            assert!(expected[1] == [rows[0].clone(), again].concat(), "{cache:?}: cut back and gone on");
        }
    }
}

#[test]
fn max_position_embeddings_is_the_context_unless_another_is_asked_for() {
    for (name, positions) in [("gqa", 160), ("dynamic", 16)] {
        let model = load(&suite_dir().join("model").join(name), reference_by(Way::Linked, 2));
        let mut session = Session::new(model.clone(), &SessionOptions::default()).unwrap();
        assert_eq!(session.context_size(), positions, "{name}");
        let sequence = session.create().unwrap();
        let mut step = |tokens: &[u32]| {
            session.step(&[SequenceInput { sequence, tokens, positions: None, outputs: Outputs::Last }]).map(|_| ())
        };
        let error = step(&vec![1; positions + 1]).unwrap_err().to_string();
        assert!(error.contains(&format!("room for {positions} more")) && error.contains("context_size"), "{error}");
        step(&vec![1; positions]).unwrap();
        let longer = SessionOptions { context_size: Some(positions + 1), ..SessionOptions::default() };
        assert!(!logits(&mut Session::new(model, &longer).unwrap(), &vec![1; positions + 1], positions + 1).is_empty());
    }
}

/// The suite over one way to the backend.
macro_rules! suite {
    ($($module:ident: $way:expr;)*) => {
        $(mod $module {
            use super::Way;

            #[test]
            fn logits_lie_within_the_tolerance_for_every_prompt() {
                super::logits_lie_within_the_tolerance_for_every_prompt($way);
            }

            #[test]
            fn whole_chunked_and_token_by_token_give_the_same_bits_over_both_caches() {
                super::whole_chunked_and_token_by_token_give_the_same_bits_over_both_caches($way);
            }

            #[test]
            fn a_batch_gives_each_sequence_the_bits_it_has_alone() {
                super::a_batch_gives_each_sequence_the_bits_it_has_alone($way);
            }

            #[test]
            fn greedy_tokens_are_those_of_the_float64_reference() {
                super::greedy_tokens_are_those_of_the_float64_reference($way);
            }

            #[test]
            fn a_fork_goes_its_own_way_and_a_truncated_sequence_forgets() {
                super::a_fork_goes_its_own_way_and_a_truncated_sequence_forgets($way);
            }
        })*
    };
}

suite! {
    linked: Way::Linked;
    loopback: Way::Loopback;
    plugin: Way::Plugin;
}
