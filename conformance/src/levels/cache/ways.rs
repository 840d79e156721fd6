//! The tokens of a model's expectations, computed in every way a session allows.
//!
//! Four sequences have expected logits: the three of the fixture's batch (23 tokens each) and its prompt of 37. A
//! [`Way`] feeds them as it likes; every row of logits that comes out is held against the fixture.

use camelid_core::DType;
use camelid_core::cache::{CacheError, SequenceId};
use camelid_core::tokenizer::TokenId;
use camelid_engine::{CacheKind, EngineError, Outputs, SequenceInput, Session, SessionOptions};

use crate::case::{Case, Context, Evidence, Problem, Profile};
use crate::check;
use crate::graph_case::contents::SplitMix64;
use crate::levels::model::{Loaded, TinyModel};
use crate::suite::{Suite, SuiteError};
use crate::tolerance::MathClass;

/// The models, and whether all divisions are tried on it or two.
const MODELS: &[(&str, bool)] = &[("gqa", true), ("mqa", false), ("llama3_rope", false)];

const DIVISIONS: &[(&str, CacheKind)] = &[
    ("contiguous", CacheKind::Contiguous),
    ("blocks_of_3", CacheKind::Paged { block_size: 3 }),
    ("blocks_of_1", CacheKind::Paged { block_size: 1 }),
    ("blocks_of_16", CacheKind::Paged { block_size: 16 }),
];

/// The index of the longest sequence.
const LONG: usize = 3;
/// Its tokens.
const LEN: usize = 37;

type Way = fn(&mut Feed) -> Result<(), Problem>;

/// Name, what a failure would mean, options, how.
type Named = (&'static str, &'static str, fn(&mut SessionOptions), Way);

const WAYS: &[Named] = &[
    ("one_at_a_time", "decoding from the first token on", |_| {}, |f| f.chunks(&[1; LEN])),
    ("two_at_a_time", "chunks of two, the last of one", |_| {}, |f| f.chunks(&[2; 19])),
    ("uneven_chunks", "chunks across block boundaries", |_| {}, |f| f.chunks(&[1, 16, 2, 15, 3])),
    ("long_then_short", "a long chunk, then decoding", |_| {}, |f| f.chunks(&[31, 1, 1, 1, 1, 1, 1])),
    ("runs_of_1", "one token a run of the device", |o| o.batch_size = 1, |f| f.chunks(&[LEN])),
    ("runs_of_7", "seven tokens a run of the device, across inputs", |o| o.batch_size = 7, Feed::together),
    ("together", "four sequences in one run", |_| {}, Feed::together),
    (
        "backwards",
        "the sequences of a run in another order",
        |_| {},
        |f| {
            let all: Vec<_> = (0..=LONG).rev().map(|which| (which, f.rest(which))).collect();
            f.step(&all)
        },
    ),
    (
        "in_turns",
        "one token each, all sequences in a run",
        |_| {},
        |f| {
            while !f.done() {
                let open: Vec<_> = (0..=LONG).filter(|w| f.rest(*w) > 0).map(|w| (w, 1)).collect();
                f.step(&open)?;
            }
            Ok(())
        },
    ),
    (
        "prefill_beside_decode",
        "a prompt in the run in which others decode",
        |_| {},
        |f| {
            f.step(&[(0, 20), (1, 9)])?;
            f.step(&[(0, 1), (LONG, 30), (1, 1), (2, 22)])?;
            f.step(&[(2, 1), (0, 2), (1, 13), (LONG, 7)])
        },
    ),
    ("random_0", "a random schedule", |_| {}, |f| f.random(0)),
    ("random_1", "a random schedule, nine tokens a run", |o| o.batch_size = 9, |f| f.random(1)),
    ("random_2", "a random schedule", |_| {}, |f| f.random(2)),
    (
        "fork_goes_on",
        "a fork goes on as its origin would have",
        |_| {},
        |f| {
            f.step(&[(LONG, 14)])?;
            let origin = f.sequence(LONG)?;
            let fork = f.session.fork(origin)?;
            // What the origin writes from here on must not be seen by the fork, and the other way round.
            f.other_tokens(origin, 9)?;
            f.sequences[LONG] = Some(fork);
            f.step(&[(LONG, LEN - 14)])
        },
    ),
    (
        "origin_of_a_fork_goes_on",
        "what a fork writes is not seen by its origin",
        |_| {},
        |f| {
            f.step(&[(LONG, 15)])?;
            let origin = f.sequence(LONG)?;
            for _ in 0..2 {
                let fork = f.session.fork(origin)?;
                f.other_tokens(fork, 11)?;
                f.session.release(fork)?;
                f.step(&[(LONG, 3)])?;
            }
            f.step(&[(LONG, LEN - 21)])
        },
    ),
    (
        "fork_of_a_fork",
        "three sequences share their beginning",
        |_| {},
        |f| {
            f.step(&[(LONG, 12)])?;
            let first = f.sequence(LONG)?;
            let second = f.session.fork(first)?;
            f.other_tokens(first, 1)?;
            let third = f.session.fork(second)?;
            f.other_tokens(second, 2)?;
            f.session.release(second)?;
            f.sequences[LONG] = Some(third);
            f.step(&[(LONG, 1)])?;
            f.session.truncate(first, 12)?;
            f.sequences[LONG] = Some(first);
            f.fed[LONG] = 12;
            f.step(&[(LONG, LEN - 12)])
        },
    ),
    (
        "truncate_and_go_on",
        "what was cut off leaves no trace",
        |_| {},
        |f| {
            for at in [9, 16, 1, 30] {
                f.cut_to(LONG, at)?;
                let sequence = f.sequence(LONG)?;
                f.other_tokens(sequence, 5)?;
                f.session.truncate(sequence, at)?;
            }
            f.step(&[(LONG, LEN - 30)])
        },
    ),
    (
        "truncate_to_nothing",
        "an emptied sequence begins at position 0",
        |_| {},
        |f| {
            let sequence = f.sequence(LONG)?;
            f.other_tokens(sequence, 20)?;
            f.session.truncate(sequence, 0)?;
            f.chunks(&[LEN])
        },
    ),
    (
        "release_and_reuse",
        "memory that others used before",
        |o| o.context_size = Some(40),
        |f| {
            for _ in 0..3 {
                let others = (0..5).map(|_| f.session.create()).collect::<Result<Vec<_>, _>>()?;
                others.iter().try_for_each(|other| f.other_tokens(*other, 40))?;
                // Not in the order in which they were made.
                for at in [3, 0, 4, 1, 2] {
                    f.session.release(others[at])?;
                }
            }
            f.together()
        },
    ),
    (
        "after_reset",
        "memory that others used before a reset",
        |o| o.context_size = Some(40),
        |f| {
            for _ in 0..5 {
                let other = f.session.create()?;
                f.other_tokens(other, 40)?;
            }
            f.session.reset();
            f.together()
        },
    ),
    (
        "full_to_the_last_row",
        "the last row that there is; one more is refused",
        |o| o.context_size = Some(LEN),
        |f| {
            f.chunks(&[LEN - 1, 1])?;
            let sequence = f.sequence(LONG)?;
            check!(f.session.room(sequence)? == 0, "a full sequence has room for {}", f.session.room(sequence)?);
            let input = SequenceInput { sequence, tokens: &[1], positions: None, outputs: Outputs::Last };
            let refused = matches!(f.session.step(&[input]), Err(EngineError::Cache(CacheError::Full { .. })));
            check!(refused, "a token was taken that has no room");
            check!(f.session.len(sequence)? == LEN, "a refused step left {} tokens", f.session.len(sequence)?);
            f.cut_to(LONG, LEN - 3)?;
            f.step(&[(LONG, 3)])
        },
    ),
    (
        "refused_steps",
        "a step that is refused changes nothing for anyone in it",
        |o| o.context_size = Some(LEN),
        |f| {
            f.step(&[(LONG, 20), (0, 10)])?;
            let [long, first] = [f.sequence(LONG)?, f.sequence(0)?];
            let good = SequenceInput { sequence: first, tokens: &[2, 3], positions: None, outputs: Outputs::All };
            let too_many = [1; LEN];
            for tokens in [&too_many[..], &[u32::MAX], &[]] {
                let bad = SequenceInput { sequence: long, tokens, positions: None, outputs: Outputs::All };
                check!(f.session.step(&[good, bad]).is_err(), "a step with {} bad tokens succeeded", tokens.len());
                check!(f.session.step(&[bad, good]).is_err(), "a step with {} bad tokens succeeded", tokens.len());
                let lens = (f.session.len(long)?, f.session.len(first)?);
                check!(lens == (20, 10), "a refused step left {lens:?} tokens, before (20, 10)");
            }
            check!(f.session.step(&[good, good]).is_err(), "a step with one sequence twice succeeded");
            f.step(&[(0, 13), (LONG, LEN - 20)])
        },
    ),
    (
        "cancelled_step",
        "a cancelled step changes nothing",
        |o| o.batch_size = 5,
        |f| {
            f.step(&[(LONG, 8)])?;
            let cancel = f.session.cancel_token();
            cancel.cancel();
            let sequence = f.sequence(LONG)?;
            let input = SequenceInput { sequence, tokens: &[1; 12], positions: None, outputs: Outputs::All };
            check!(
                matches!(f.session.step(&[input]), Err(EngineError::Cancelled)),
                "a step went on though it was cancelled"
            );
            cancel.clear();
            check!(
                f.session.len(sequence)? == 8,
                "a cancelled step left {} tokens, before 8",
                f.session.len(sequence)?
            );
            f.step(&[(LONG, LEN - 8)])
        },
    ),
    ("positions_given", "positions that say what would be derived", |_| {}, Feed::with_positions),
];

/// Its cases.
pub(super) fn cases(suite: &Suite) -> Result<Vec<Case>, SuiteError> {
    let mut cases = Vec::new();
    for (name, all) in MODELS {
        let (model, _) = TinyModel::find(suite, name)?;
        for (division, kind) in &DIVISIONS[..if *all { 4 } else { 2 }] {
            for (way, about, adjust, feed) in WAYS {
                let (model, id) = (model.clone(), format!("cache/{name}/{division}/{way}"));
                let own = id.clone();
                cases.push(Case::new(id, Profile::Core, *about, move |cx: &Context<'_>| {
                    let mut options = SessionOptions { max_sequences: 5, cache: *kind, ..SessionOptions::default() };
                    adjust(&mut options);
                    run(cx, &own, &model, &options, *feed)
                }));
            }
        }
        for kv_dtype in [DType::F16, DType::BF16] {
            for (way, about, adjust, feed) in WAYS.iter().filter(|w| ["random_0", "fork_goes_on"].contains(&w.0)) {
                let (model, id) = (model.clone(), format!("cache/{name}/{kv_dtype}_blocks_of_3/{way}"));
                let own = id.clone();
                cases.push(Case::new(id, Profile::Half, *about, move |cx: &Context<'_>| {
                    let cache = CacheKind::Paged { block_size: 3 };
                    let mut options = SessionOptions { max_sequences: 5, cache, kv_dtype, ..SessionOptions::default() };
                    adjust(&mut options);
                    run(cx, &own, &model, &options, *feed)
                }));
            }
        }
    }
    Ok(cases)
}

fn run(cx: &Context<'_>, id: &str, model: &TinyModel, options: &SessionOptions, way: Way) -> Result<Evidence, Problem> {
    let natural = match options.kv_dtype {
        DType::F16 => MathClass::F16,
        DType::BF16 => MathClass::Bf16,
        _ => MathClass::F32,
    };
    let loaded = model.load(id, cx, natural)?;
    let session = cx.subject.session(loaded.model.clone(), options)?;
    let mut feed = Feed::new(loaded, session)?;
    way(&mut feed)?;
    feed.compare()
}

/// Sequences with known logits on their way through a session.
struct Feed {
    loaded: Loaded,
    session: Session,
    /// The tokens of each sequence.
    tokens: Vec<Vec<TokenId>>,
    /// The expected logits of each, row after row.
    expected: Vec<Vec<f64>>,
    vocab_size: usize,
    sequences: [Option<SequenceId>; LONG + 1],
    /// How many tokens of each are in the cache.
    fed: [usize; LONG + 1],
    /// Rows that came out, and what they must be.
    actual: Vec<f32>,
    wanted: Vec<f64>,
}

impl Feed {
    fn new(loaded: Loaded, session: Session) -> Result<Feed, Problem> {
        let (mut tokens, mut expected) = (Vec::new(), Vec::new());
        let vocab_size = loaded.model.config().vocab_size;
        for fixture in ["batch", "p2"] {
            let ids = loaded.ids(&format!("{fixture}.input_ids"))?;
            let (_, logits) = loaded.expected(&format!("{fixture}.logits"))?;
            let len = ids.first().map_or(1, Vec::len) * vocab_size;
            expected.extend(logits.chunks(len).map(<[f64]>::to_vec));
            tokens.extend(ids);
        }
        if tokens.len() != LONG + 1 || tokens[LONG].len() != LEN || expected.len() != tokens.len() {
            return Err(Problem::Blocked("the fixture does not hold three sequences and a prompt of 37".into()));
        }
        let (sequences, fed) = ([None; LONG + 1], [0; LONG + 1]);
        let (actual, wanted) = (Vec::new(), Vec::new());
        Ok(Feed { loaded, session, tokens, expected, vocab_size, sequences, fed, actual, wanted })
    }

    /// The sequence, made when it is first asked for.
    fn sequence(&mut self, which: usize) -> Result<SequenceId, Problem> {
        if let Some(sequence) = self.sequences[which] {
            return Ok(sequence);
        }
        let sequence = self.session.create()?;
        self.sequences[which] = Some(sequence);
        Ok(sequence)
    }

    fn rest(&self, which: usize) -> usize {
        self.tokens[which].len() - self.fed[which]
    }

    fn done(&self) -> bool {
        (0..=LONG).all(|which| self.rest(which) == 0)
    }

    /// One step: the next so many tokens of each of these sequences.
    fn step(&mut self, parts: &[(usize, usize)]) -> Result<(), Problem> {
        self.step_at(parts, None)
    }

    fn step_at(&mut self, parts: &[(usize, usize)], positions: Option<&[u32]>) -> Result<(), Problem> {
        let parts: Vec<(usize, usize)> = parts.iter().map(|(w, n)| (*w, (*n).min(self.rest(*w)))).collect();
        let mut inputs = Vec::new();
        for (which, count) in &parts {
            let sequence = self.sequence(*which)?;
            inputs.push((sequence, *which, self.fed[*which]..self.fed[*which] + count));
        }
        let inputs: Vec<SequenceInput<'_>> = inputs
            .iter()
            .map(|(sequence, which, range)| SequenceInput {
                sequence: *sequence,
                tokens: &self.tokens[*which][range.clone()],
                positions,
                outputs: Outputs::All,
            })
            .collect();
        let logits = self.session.step(&inputs)?;
        for (i, (which, count)) in parts.into_iter().enumerate() {
            let (rows, vocab_size) = (logits.of_input(i), self.vocab_size);
            let (found, wanted) = (rows.len(), count * vocab_size);
            check!(found == wanted, "{found} logits for {count} tokens of a vocabulary of {vocab_size}");
            self.actual.extend_from_slice(rows);
            let from = self.fed[which] * vocab_size;
            self.wanted.extend_from_slice(&self.expected[which][from..from + wanted]);
            self.fed[which] += count;
        }
        Ok(())
    }

    /// The long sequence in chunks.
    fn chunks(&mut self, chunks: &[usize]) -> Result<(), Problem> {
        chunks.iter().try_for_each(|chunk| self.step(&[(LONG, *chunk)]))
    }

    fn together(&mut self) -> Result<(), Problem> {
        let all: Vec<_> = (0..=LONG).map(|which| (which, self.rest(which))).collect();
        self.step(&all)
    }

    /// Random sequences in random order with random counts, with releases and cuts on the way.
    fn random(&mut self, seed: u64) -> Result<(), Problem> {
        let mut random = SplitMix64(seed);
        while !self.done() {
            let mut below = |n: u64| (random.next_u64() % n) as usize;
            let mut order = [0, 1, 2, LONG];
            for last in (1..order.len()).rev() {
                order.swap(last, below(last as u64 + 1));
            }
            let count = 1 + below(4);
            let mut parts: Vec<_> = order[..count].iter().map(|which| (*which, 1 + below(9))).collect();
            parts.retain(|(which, _)| self.rest(*which) > 0);
            let (cut, by) = (below(LONG as u64 + 1), below(4));
            if !parts.is_empty() {
                self.step(&parts)?;
            }
            if below(3) == 0 && self.rest(cut) > 0 {
                self.cut_to(cut, self.fed[cut].saturating_sub(by))?;
            }
        }
        Ok(())
    }

    /// Brings a sequence to `len` tokens, forwards or backwards.
    fn cut_to(&mut self, which: usize, len: usize) -> Result<(), Problem> {
        if self.fed[which] < len {
            return self.step(&[(which, len - self.fed[which])]);
        }
        let sequence = self.sequence(which)?;
        self.session.truncate(sequence, len)?;
        let found = self.session.len(sequence)?;
        check!(found == len, "a sequence cut to {len} tokens holds {found}");
        self.fed[which] = len;
        Ok(())
    }

    /// Tokens whose logits nobody knows, into any sequence.
    fn other_tokens(&mut self, sequence: SequenceId, count: usize) -> Result<(), Problem> {
        let tokens: Vec<TokenId> = (0..count).map(|i| (i * 7 + 5) as TokenId % self.vocab_size as TokenId).collect();
        let input = SequenceInput { sequence, tokens: &tokens, positions: None, outputs: Outputs::Last };
        self.session.step(&[input])?;
        Ok(())
    }

    fn with_positions(&mut self) -> Result<(), Problem> {
        for range in [0..17, 17..18, 18..LEN as u32] {
            let positions: Vec<u32> = range.clone().collect();
            self.step_at(&[(LONG, range.len())], Some(&positions))?;
        }
        Ok(())
    }

    fn compare(&self) -> Result<Evidence, Problem> {
        let shape = [self.wanted.len() / self.vocab_size, self.vocab_size];
        self.loaded.compare_with("logits", &shape, &self.actual, &self.wanted)
    }
}
