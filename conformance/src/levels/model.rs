//! Level `model`: whole tiny Llamas, through the engine, against float64 logits that PyTorch and NumPy agree on.
//!
//! The models are those of `suite/model`; `reference/README.md` says what their expectations hold.

use std::sync::Arc;

use camelid_core::DType;
use camelid_engine::{CacheKind, Model, Outputs, SequenceInput, Session, SessionOptions};
use serde::Deserialize;

use crate::case::{Case, Context, Evidence, Failure, Measure, Problem, Profile};
use crate::compare::{kl, max_over_rms, nmse, worst};
use crate::fixtures::Fixture;
use crate::graph_case::expect::WORST;
use crate::suite::{Suite, SuiteError};
use crate::tolerance::{Limits, MathClass};

#[derive(Deserialize)]
struct CaseFile {
    description: String,
    tolerances: Tolerances,
}

/// The part of a config.json that decides the profile.
#[derive(Deserialize)]
struct Config {
    hidden_act: Option<String>,
}

impl Config {
    fn parse(text: &str) -> Option<Config> {
        serde_json::from_str(text).ok()
    }
}

#[derive(Clone, Copy, Deserialize)]
struct Tolerances {
    max_over_rms: f64,
}

/// One of the models, and how far an f32 backend may be.
#[derive(Clone, Debug)]
pub struct TinyModel {
    /// The folder's name.
    pub name: String,
    /// Largest difference of a logit over the rms.
    max_over_rms: f64,
}

/// A model on a device, with what it must give.
#[derive(Debug)]
pub struct Loaded {
    /// The model.
    pub model: Arc<Model>,
    expect: Arc<Fixture>,
    limits: Limits,
    class: MathClass,
}

/// Its cases.
///
/// # Errors
/// For files of the suite that cannot be used.
pub fn cases(suite: &Suite) -> Result<Vec<Case>, SuiteError> {
    let mut cases = Vec::new();
    for name in suite.files("model")?.iter().filter_map(|f| f.strip_prefix("model/")?.strip_suffix("/case.toml")) {
        let (model, description) = TinyModel::find(suite, name)?;
        let config = suite.text(&format!("model/{name}/config.json"))?;
        let silu = Config::parse(&config).is_none_or(|c| c.hidden_act.is_none_or(|act| act == "silu"));
        for (kind, profile, run) in KINDS {
            // Other activations are claimed one by one, so a model that needs one is not for everybody.
            let profile = if silu { *profile } else { Profile::Extra };
            let model = model.clone();
            let id = format!("model/{name}/{kind}");
            let about = description.clone();
            let own = id.clone();
            cases.push(Case::new(id, profile, about, move |cx: &Context<'_>| run(&model, &own, cx)));
        }
    }
    Ok(cases)
}

/// Room for the longest prompt and its continuation, whatever a model says it was made for.
const CONTEXT_SIZE: usize = 160;

fn options() -> SessionOptions {
    SessionOptions { context_size: Some(CONTEXT_SIZE), ..SessionOptions::default() }
}

type Run = fn(&TinyModel, &str, &Context<'_>) -> Result<Evidence, Problem>;

/// What is asked of every model.
const KINDS: &[(&str, Profile, Run)] = &[
    ("prompt_of_1", Profile::Core, |m, id, cx| m.prompt(id, cx, 0, options())),
    ("prompt_of_5", Profile::Core, |m, id, cx| m.prompt(id, cx, 1, options())),
    ("prompt_of_37", Profile::Core, |m, id, cx| m.prompt(id, cx, 2, options())),
    ("prompt_of_120", Profile::Core, |m, id, cx| m.prompt(id, cx, 3, options())),
    ("prompt_in_runs_of_11", Profile::Core, |m, id, cx| {
        m.prompt(id, cx, 3, SessionOptions { batch_size: 11, ..options() })
    }),
    ("prompt_in_blocks_of_5", Profile::Core, |m, id, cx| {
        m.prompt(id, cx, 3, SessionOptions { cache: CacheKind::Paged { block_size: 5 }, ..options() })
    }),
    ("token_by_token", Profile::Core, |m, id, cx| m.token_by_token(id, cx)),
    ("some_rows", Profile::Core, |m, id, cx| m.some_rows(id, cx)),
    ("batch", Profile::Core, |m, id, cx| m.batch(id, cx)),
    ("ragged_batch", Profile::Core, |m, id, cx| m.ragged_batch(id, cx)),
    ("greedy_0", Profile::Core, |m, id, cx| m.greedy(id, cx, 0)),
    ("greedy_1", Profile::Core, |m, id, cx| m.greedy(id, cx, 1)),
    ("greedy_2", Profile::Core, |m, id, cx| m.greedy(id, cx, 2)),
    ("greedy_3", Profile::Core, |m, id, cx| m.greedy(id, cx, 3)),
    ("cache_f16", Profile::Half, |m, id, cx| m.half_cache(id, cx, DType::F16, MathClass::F16)),
    ("cache_bf16", Profile::Half, |m, id, cx| m.half_cache(id, cx, DType::BF16, MathClass::Bf16)),
];

impl TinyModel {
    /// The model called `name`, and what it is for.
    ///
    /// # Errors
    /// If it is not there or its file cannot be read.
    pub fn find(suite: &Suite, name: &str) -> Result<(TinyModel, String), SuiteError> {
        let text = suite.text(&format!("model/{name}/case.toml"))?;
        let damaged =
            |e: toml::de::Error| SuiteError::Damaged { path: format!("model/{name}").into(), problem: e.to_string() };
        let file: CaseFile = toml::from_str(&text).map_err(damaged)?;
        Ok((TinyModel { name: name.to_owned(), max_over_rms: file.tolerances.max_over_rms }, file.description))
    }

    /// Loads it for case `id`, whose values an f32 backend computes in the class `natural`.
    ///
    /// # Errors
    /// What the engine says, and fixtures that are not there.
    pub fn load(&self, id: &str, cx: &Context<'_>, natural: MathClass) -> Result<Loaded, Problem> {
        let class = cx.subject.claims.class(id, natural);
        let mut limits = class.model_limits();
        if class == MathClass::F32 {
            limits.max = limits.max.min(self.max_over_rms);
        }
        let folder = format!("model/{}", self.name);
        let model = cx.subject.load(&cx.suite.path(&folder))?;
        Ok(Loaded { model, expect: cx.suite.fixture(&format!("{folder}/expect.safetensors"))?, limits, class })
    }

    /// The whole prompt `p`, every row that is stored.
    fn prompt(&self, id: &str, cx: &Context<'_>, p: usize, options: SessionOptions) -> Result<Evidence, Problem> {
        let loaded = self.load(id, cx, MathClass::F32)?;
        let mut session = cx.subject.session(loaded.model.clone(), &options)?;
        loaded.prompt(&mut session, p)
    }

    fn half_cache(&self, id: &str, cx: &Context<'_>, kv: DType, class: MathClass) -> Result<Evidence, Problem> {
        let loaded = self.load(id, cx, class)?;
        let options = SessionOptions { kv_dtype: kv, ..options() };
        let mut session = cx.subject.session(loaded.model.clone(), &options)?;
        loaded.prompt(&mut session, 3)
    }

    fn token_by_token(&self, id: &str, cx: &Context<'_>) -> Result<Evidence, Problem> {
        let loaded = self.load(id, cx, MathClass::F32)?;
        let mut session = cx.subject.session(loaded.model.clone(), &options())?;
        let sequence = session.create()?;
        let mut actual = Vec::new();
        for token in &loaded.ids("p2.input_ids")?[0] {
            let input = SequenceInput { sequence, tokens: &[*token], positions: None, outputs: Outputs::All };
            actual.extend_from_slice(session.step(&[input])?.of_input(0));
        }
        // Where frequencies depend on the length, every token has those of the length it made.
        let own = loaded.expect.f64s("s2.logits").is_ok();
        loaded.compare(if own { "s2.logits" } else { "p2.logits" }, &actual)
    }

    /// Prompts of 1, 5 and 37 tokens in one step: each as if it were alone, also where frequencies depend on the length.
    fn ragged_batch(&self, id: &str, cx: &Context<'_>) -> Result<Evidence, Problem> {
        let loaded = self.load(id, cx, MathClass::F32)?;
        let prompts = (0..3).map(|p| Ok(loaded.ids(&format!("p{p}.input_ids"))?.remove(0)));
        let prompts = prompts.collect::<Result<Vec<Vec<u32>>, Problem>>()?;
        let options = SessionOptions { max_sequences: prompts.len(), ..options() };
        let mut session = cx.subject.session(loaded.model.clone(), &options)?;
        let ids = prompts.iter().map(|_| session.create()).collect::<Result<Vec<_>, _>>()?;
        let inputs: Vec<_> = prompts
            .iter()
            .zip(ids)
            .map(|(tokens, sequence)| SequenceInput { sequence, tokens, positions: None, outputs: Outputs::All })
            .collect();
        let logits = session.step(&inputs)?;
        let mut evidence = Evidence::default();
        for p in 0..inputs.len() {
            evidence.measures.extend(loaded.compare(&format!("p{p}.logits"), logits.of_input(p))?.measures);
        }
        Ok(evidence)
    }

    /// Only the logits that are asked for, and those rows in their order.
    fn some_rows(&self, id: &str, cx: &Context<'_>) -> Result<Evidence, Problem> {
        let loaded = self.load(id, cx, MathClass::F32)?;
        let mut session = cx.subject.session(loaded.model.clone(), &options())?;
        let (_, rows) = loaded.expect.i64s("p3.rows")?;
        let mut rows: Vec<usize> = rows.iter().map(|r| *r as usize).collect();
        rows.sort_unstable();
        let sequence = session.create()?;
        let ids = loaded.ids("p3.input_ids")?;
        let input = SequenceInput { sequence, tokens: &ids[0], positions: None, outputs: Outputs::Rows(&rows) };
        let logits = session.step(&[input])?;
        let (_, stored) = loaded.expect.i64s("p3.rows")?;
        let vocab_size = loaded.model.config().vocab_size;
        let mut actual = Vec::new();
        for row in &stored {
            let at = rows.iter().position(|r| *r as i64 == *row).expect("they are the same rows");
            actual.extend_from_slice(&logits.of_input(0)[at * vocab_size..(at + 1) * vocab_size]);
        }
        loaded.compare("p3.logits", &actual)
    }

    fn batch(&self, id: &str, cx: &Context<'_>) -> Result<Evidence, Problem> {
        let loaded = self.load(id, cx, MathClass::F32)?;
        let sequences = loaded.ids("batch.input_ids")?;
        let options = SessionOptions { max_sequences: sequences.len(), ..options() };
        let mut session = cx.subject.session(loaded.model.clone(), &options)?;
        let ids = sequences.iter().map(|_| session.create()).collect::<Result<Vec<_>, _>>()?;
        let inputs: Vec<_> = sequences
            .iter()
            .zip(ids)
            .map(|(tokens, sequence)| SequenceInput { sequence, tokens, positions: None, outputs: Outputs::All })
            .collect();
        let logits = session.step(&inputs)?;
        let actual: Vec<f32> = (0..inputs.len()).flat_map(|i| logits.of_input(i).to_vec()).collect();
        loaded.compare("batch.logits", &actual)
    }

    /// Sixteen greedy tokens, each step fed with the reference's token, so that one legal flip ends nothing.
    ///
    /// If every logit is within d of the reference, the largest may be another only where the reference's two largest
    /// are within 2 d of each other: a flip across a wider gap is proof of an error.
    fn greedy(&self, id: &str, cx: &Context<'_>, g: usize) -> Result<Evidence, Problem> {
        let loaded = self.load(id, cx, MathClass::F32)?;
        let (tokens, (_, gaps)) = (loaded.ids(&format!("g{g}.tokens"))?, loaded.expect.f64s(&format!("g{g}.gap"))?);
        let mut session = cx.subject.session(loaded.model.clone(), &options())?;
        let sequence = session.create()?;
        let mut new = loaded.ids(&format!("g{g}.input_ids"))?.remove(0);
        let mut evidence = Evidence::default();
        for (step, (token, gap)) in tokens[0].iter().zip(gaps).enumerate() {
            let input = SequenceInput { sequence, tokens: &new, positions: None, outputs: Outputs::Last };
            let logits = session.step(&[input])?;
            let row = logits.last_of_input(0);
            let chosen = first_largest(row)? as u32;
            if chosen != *token {
                let rms = (row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / row.len() as f64).sqrt();
                let allowed = 2.0 * loaded.limits.max * rms;
                let flip =
                    format!("step {step}: token {chosen} where the reference has {token}, whose lead is {gap:.2e}");
                if gap > allowed {
                    let message = format!("{flip}; class {} may flip leads up to {allowed:.2e}", loaded.class);
                    return Err(Problem::fail(message));
                }
                evidence.notes.push(format!("{flip}: within the class's error"));
            }
            new = vec![*token];
        }
        let (flips, limit) = (evidence.notes.len() as f64, tokens[0].len() as f64);
        evidence.measures.push(Measure { metric: "flips".into(), what: "tokens".into(), value: flips, limit });
        Ok(evidence)
    }
}

impl Loaded {
    /// Token ids of the expectations, a row for each sequence.
    ///
    /// # Errors
    /// If there are none of this name.
    pub fn ids(&self, name: &str) -> Result<Vec<Vec<u32>>, Problem> {
        let (shape, values) = self.expect.i64s(name)?;
        let ids = values.iter().map(|v| u32::try_from(*v)).collect::<Result<Vec<u32>, _>>();
        let ids = ids.map_err(|_| Problem::Blocked(format!("`{name}` holds a negative token id")))?;
        Ok(ids.chunks(shape.last().copied().unwrap_or(1).max(1)).map(<[u32]>::to_vec).collect())
    }

    fn prompt(&self, session: &mut Session, p: usize) -> Result<Evidence, Problem> {
        let sequence = session.create()?;
        let ids = self.ids(&format!("p{p}.input_ids"))?;
        let input = SequenceInput { sequence, tokens: &ids[0], positions: None, outputs: Outputs::All };
        let logits = session.step(&[input])?;
        let mut actual = logits.of_input(0).to_vec();
        if p == 3 {
            // Of the longest prompt only some rows are stored.
            let vocab_size = self.model.config().vocab_size;
            let (_, rows) = self.expect.i64s("p3.rows")?;
            actual = rows.iter().flat_map(|r| actual[*r as usize * vocab_size..][..vocab_size].to_vec()).collect();
        }
        self.compare(&format!("p{p}.logits"), &actual)
    }

    /// The stored logits called `name`, with their shape.
    ///
    /// # Errors
    /// If there are none of this name.
    pub fn expected(&self, name: &str) -> Result<(Vec<usize>, Vec<f64>), Problem> {
        Ok(self.expect.f64s(name)?)
    }

    /// Logits against the stored ones.
    fn compare(&self, name: &str, actual: &[f32]) -> Result<Evidence, Problem> {
        let (shape, expected) = self.expected(name)?;
        self.compare_with(name, &shape, actual, &expected)
    }

    /// Rows of logits against what they must be: element by element, on the whole, and as distributions.
    ///
    /// # Errors
    /// A failure with the elements that are farthest off.
    pub fn compare_with(
        &self,
        name: &str,
        shape: &[usize],
        actual: &[f32],
        expected: &[f64],
    ) -> Result<Evidence, Problem> {
        let failed = |message: String, measures| {
            let worst = worst(name, shape, actual, expected, WORST);
            Problem::Fail(Box::new(Failure { message, measures, worst }))
        };
        let columns = shape.last().copied().unwrap_or(1);
        let metrics = nmse(actual, expected)
            .and_then(|n| Ok((n, max_over_rms(actual, expected)?, kl(actual, expected, columns)?)));
        let (nmse, max, kl) = metrics.map_err(|e| failed(format!("{name}: {e}"), Vec::new()))?;
        let mean = kl.iter().sum::<f64>() / kl.len() as f64;
        let measure = |metric: &str, value, limit| Measure { metric: metric.into(), what: name.into(), value, limit };
        let measures = vec![
            measure("nmse", nmse, self.limits.nmse),
            measure("max/rms", max, self.limits.max),
            measure("kl mean", mean, self.limits.kl),
        ];
        if let Some(m) = measures.iter().find(|m| !m.passes()) {
            let message = format!(
                "{name}: {} is {:.2e}, the limit of class {} is {:.2e}",
                m.metric, m.value, self.class, m.limit
            );
            return Err(failed(message, measures));
        }
        Ok(Evidence { measures, notes: Vec::new() })
    }
}

/// The first of the largest: what greedy decoding takes.
fn first_largest(row: &[f32]) -> Result<usize, Problem> {
    if let Some(at) = row.iter().position(|x| x.is_nan()) {
        return Err(Problem::fail(format!("logit {at} is NaN")));
    }
    Ok((0..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best }))
}
