//! SmolLM2-135M-Instruct against transformers in float64 on the same dequantized weights (`suite/real/smollm2.toml`).

use std::sync::Arc;

use camelid_engine::{Model, Outputs, SequenceInput, Session, SessionOptions};
use serde::Deserialize;

use crate::case::{Case, Context, Evidence, Failure, Measure, Problem, Profile};
use crate::compare::{kl, worst};
use crate::fixtures::Fixture;
use crate::graph_case::expect::WORST;
use crate::suite::{Suite, SuiteError};
use crate::tolerance::MathClass;

const CASE: &str = "real/smollm2.toml";
const DATA: &str = "real/smollm2.safetensors";

#[derive(Deserialize)]
struct File {
    prompt: Vec<Prompt>,
    tolerances: Tolerances,
}

#[derive(Deserialize)]
struct Prompt {
    name: String,
}

#[derive(Clone, Copy, Deserialize)]
struct Tolerances {
    max_abs: f64,
}

pub(super) fn cases(suite: &Suite) -> Result<Vec<Case>, SuiteError> {
    let damaged = |e: toml::de::Error| SuiteError::Damaged { path: CASE.into(), problem: e.to_string() };
    let file: File = toml::from_str(&suite.text(CASE)?).map_err(damaged)?;
    let mut cases = Vec::new();
    for (n, prompt) in file.prompt.into_iter().enumerate() {
        let (tolerances, id) = (file.tolerances, format!("real/smollm2/{}/logits", prompt.name));
        let (own, about) = (id.clone(), "logits of the last position, and of two more in 512 columns");
        cases.push(Case::new(id, Profile::Real, about, move |cx: &Context<'_>| logits(n, &own, tolerances, cx)));
        let id = format!("real/smollm2/{}/greedy", prompt.name);
        let (own, about) = (id.clone(), "32 greedy tokens, each step fed with the reference's");
        cases.push(Case::new(id, Profile::Real, about, move |cx: &Context<'_>| greedy(n, &own, tolerances, cx)));
    }
    Ok(cases)
}

fn session(id: &str, cx: &Context<'_>) -> Result<(Arc<Model>, Session, Arc<Fixture>, MathClass), Problem> {
    let path = camelid_fetch::smollm2_gguf().map_err(|e| Problem::Blocked(e.to_string()))?;
    let model = cx.subject.load(&path)?;
    let options = SessionOptions { context_size: Some(512), ..SessionOptions::default() };
    let session = cx.subject.session(model.clone(), &options)?;
    Ok((model, session, cx.suite.fixture(DATA)?, cx.subject.claims.class(id, MathClass::F32)))
}

fn ids(fixture: &Fixture, name: &str) -> Result<Vec<u32>, Problem> {
    let (_, values) = fixture.i64s(name)?;
    let ids = values.iter().map(|v| u32::try_from(*v)).collect::<Result<_, _>>();
    ids.map_err(|_| Problem::Blocked(format!("`{name}` holds a negative number")))
}

/// The largest difference of a logit: what f32 was measured to need, or the class's part of the rms.
fn limit(class: MathClass, tolerances: Tolerances, expected: &[f64]) -> f64 {
    if class <= MathClass::F32 {
        return tolerances.max_abs;
    }
    let rms = (expected.iter().map(|x| x * x).sum::<f64>() / expected.len() as f64).sqrt();
    class.model_limits().max * rms
}

/// The largest mean divergence, in nats: that of the class on a real model.
fn kl_limit(class: MathClass) -> f64 {
    match class {
        MathClass::Exact | MathClass::F32 => 1e-7,
        MathClass::F16 | MathClass::F32Tf32 => 1e-3,
        _ => 1e-2,
    }
}

fn logits(n: usize, id: &str, tolerances: Tolerances, cx: &Context<'_>) -> Result<Evidence, Problem> {
    let (model, mut session, fixture, class) = session(id, cx)?;
    let (tokens, columns) = (ids(&fixture, &format!("p{n}.input_ids"))?, ids(&fixture, "columns")?);
    let mut rows: Vec<usize> = ids(&fixture, &format!("p{n}.rows"))?.into_iter().map(|r| r as usize).collect();
    rows.push(tokens.len() - 1);
    let sequence = session.create()?;
    let input = SequenceInput { sequence, tokens: &tokens, positions: None, outputs: Outputs::Rows(&rows) };
    let logits = session.step(&[input])?;
    let vocab_size = model.config().vocab_size;
    let computed: Vec<&[f32]> = logits.of_input(0).chunks(vocab_size).collect();
    let (last, others) = computed.split_last().ok_or_else(|| Problem::fail("no logits came back"))?;
    let some: Vec<f32> = others.iter().flat_map(|row| columns.iter().map(|c| row[*c as usize])).collect();
    let mut evidence = Evidence::default();
    for (name, actual) in [("logits", last.to_vec()), ("row_logits", some)] {
        let (shape, expected) = fixture.f64s(&format!("p{n}.{name}"))?;
        let farthest = actual.iter().zip(&expected).map(|(a, e)| (f64::from(*a) - e).abs());
        // max would pass over a NaN.
        let farthest = farthest.fold(0.0, |far, d| if d > far || d.is_nan() { d } else { far });
        let limit = limit(class, tolerances, &expected);
        evidence.measures.push(Measure { metric: "max abs".into(), what: name.into(), value: farthest, limit });
        if name == "logits" {
            let divergence = kl(&actual, &expected, vocab_size).map_err(|e| Problem::fail(e.to_string()))?[0];
            let limit = kl_limit(class);
            evidence.measures.push(Measure { metric: "kl".into(), what: name.into(), value: divergence, limit });
        }
        if let Some(m) = evidence.measures.iter().find(|m| !m.passes()) {
            let message =
                format!("{name}: {} is {:.2e}, the limit of class {class} is {:.2e}", m.metric, m.value, m.limit);
            let worst = worst(name, &shape, &actual, &expected, WORST);
            let measures = evidence.measures;
            return Err(Problem::Fail(Box::new(Failure { message, measures, worst })));
        }
    }
    Ok(evidence)
}

fn greedy(n: usize, id: &str, tolerances: Tolerances, cx: &Context<'_>) -> Result<Evidence, Problem> {
    let (_, mut session, fixture, class) = session(id, cx)?;
    let mut new = ids(&fixture, &format!("p{n}.input_ids"))?;
    let (tokens, (_, gaps)) = (ids(&fixture, &format!("g{n}.tokens"))?, fixture.f64s(&format!("g{n}.gap"))?);
    let sequence = session.create()?;
    let mut evidence = Evidence::default();
    for (step, (token, gap)) in tokens.iter().zip(gaps).enumerate() {
        let input = SequenceInput { sequence, tokens: &new, positions: None, outputs: Outputs::Last };
        let logits = session.step(&[input])?;
        let row = logits.last_of_input(0);
        let chosen = (0..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best }) as u32;
        if chosen != *token || row[0].is_nan() {
            let values: Vec<f64> = row.iter().map(|x| f64::from(*x)).collect();
            let allowed = 2.0 * limit(class, tolerances, &values);
            let flip = format!("step {step}: token {chosen} where the reference has {token}, whose lead is {gap:.2e}");
            if gap > allowed || allowed.is_nan() {
                return Err(Problem::fail(format!("{flip}; class {class} may flip leads up to {allowed:.2e}")));
            }
            evidence.notes.push(format!("{flip}: within the class's error"));
        }
        new = vec![*token];
    }
    let (flips, limit) = (evidence.notes.len() as f64, tokens.len() as f64);
    evidence.measures.push(Measure { metric: "flips".into(), what: "tokens".into(), value: flips, limit });
    Ok(evidence)
}
