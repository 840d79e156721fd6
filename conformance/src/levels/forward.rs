//! Level `model`: the forward interface of transformers, padded batches and classifiers, against float64.
//!
//! The models are those of `suite/forward`, the calls those of their `case.toml`; `reference/forward_cases.py` says what
//! every tensor holds. The ids are `model/NAME/forward_CALL`.

use camelid_engine::forward::{
    Array, AttentionMask, ForwardInputs, ForwardOptions, ForwardOutputs, Labels, LogitsToKeep, Past, forward,
};
use camelid_engine::{Session, SessionOptions, make_cache};
use safetensors::Dtype;
use serde::Deserialize;

use crate::case::{Case, Context, Evidence, Failure, Measure, Problem, Profile};
use crate::compare::{max_over_rms, worst};
use crate::fixtures::Fixture;
use crate::graph_case::expect::WORST;
use crate::suite::{Suite, SuiteError};
use crate::tolerance::MathClass;

/// `case.toml`.
#[derive(Clone, Debug, Deserialize)]
struct CaseFile {
    tolerances: Tolerances,
    call: Vec<Call>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Tolerances {
    max_over_rms: f64,
}

/// One forward pass.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Call {
    name: String,
    about: String,
    hidden_states: bool,
    attentions: bool,
    base: bool,
    use_cache: Option<bool>,
    keep: Option<Vec<i64>>,
    keep_last: Option<usize>,
    after: Option<String>,
}

/// Its cases.
///
/// # Errors
/// For files of the suite that cannot be used.
pub fn cases(suite: &Suite) -> Result<Vec<Case>, SuiteError> {
    let mut cases = Vec::new();
    for name in suite.files("forward")?.iter().filter_map(|f| f.strip_prefix("forward/")?.strip_suffix("/case.toml")) {
        let path = format!("forward/{name}/case.toml");
        let damaged = |e: toml::de::Error| SuiteError::Damaged { path: path.clone().into(), problem: e.to_string() };
        let file: CaseFile = toml::from_str(&suite.text(&path)?).map_err(damaged)?;
        for call in &file.call {
            let (name, file, at) = (name.to_owned(), file.clone(), call.name.clone());
            let id = format!("model/{name}/forward_{}", call.name);
            let own = id.clone();
            cases.push(Case::new(id, Profile::Core, call.about.clone(), move |cx: &Context<'_>| {
                let asked = Asked { id: &own, folder: format!("forward/{name}"), file: &file, cx };
                asked.run(&at, SessionOptions::default())
            }));
        }
    }
    Ok(cases)
}

/// A call and all it needs.
struct Asked<'a> {
    id: &'a str,
    folder: String,
    file: &'a CaseFile,
    cx: &'a Context<'a>,
}

impl Asked<'_> {
    fn run(&self, name: &str, options: SessionOptions) -> Result<Evidence, Problem> {
        let fixture = self.cx.suite.fixture(&format!("{}/expect.safetensors", self.folder))?;
        let model = self.cx.subject.load(&self.cx.suite.path(&self.folder))?;
        // Every model's batches have five rows at most.
        let options = SessionOptions { max_sequences: 5, ..options };
        let cache = self.cx.subject.cache(make_cache(&options, &model)?);
        let mut session = Session::for_forward_with_cache(model, &options, cache)?;
        let call = self.call(name)?;
        let outputs = match &call.after {
            None => self.forward(&mut session, call, &fixture, None)?,
            Some(before) => {
                let before = self.call(before)?;
                let rows = inputs(&fixture, &before.name)?.input_ids.map_or(0, |ids| ids.shape()[0]);
                let mut past = Past::new(&mut session, rows)?;
                self.forward(&mut session, before, &fixture, Some(&mut past))?;
                self.forward(&mut session, call, &fixture, Some(&mut past))?
            }
        };
        self.compare(&fixture, call, &outputs)
    }

    fn call(&self, name: &str) -> Result<&Call, Problem> {
        let found = self.file.call.iter().find(|c| c.name == name);
        found.ok_or_else(|| Problem::Blocked(format!("{}: there is no call `{name}`", self.folder)))
    }

    fn forward(
        &self,
        session: &mut Session,
        call: &Call,
        fixture: &Fixture,
        past: Option<&mut Past>,
    ) -> Result<ForwardOutputs, Problem> {
        let options = ForwardOptions {
            hidden_states: call.hidden_states,
            attentions: call.attentions,
            logits_to_keep: match &call.keep {
                Some(list) => LogitsToKeep::Indices(list.clone()),
                None => LogitsToKeep::Last(call.keep_last.unwrap_or(0)),
            },
            base: call.base,
            use_cache: call.use_cache,
        };
        Ok(forward(session, &inputs(fixture, &call.name)?, past, &options)?)
    }

    fn compare(&self, fixture: &Fixture, call: &Call, outputs: &ForwardOutputs) -> Result<Evidence, Problem> {
        let class = self.cx.subject.claims.class(self.id, MathClass::F32);
        let mut limit = class.model_limits().max;
        if class == MathClass::F32 {
            limit = limit.min(self.file.tolerances.max_over_rms);
        }
        let loss = outputs.loss.map(|loss| Array::new("loss", vec![1], vec![loss as f32]).expect("one number"));
        let computed = [
            ("logits", &outputs.logits),
            ("loss", &loss),
            ("hidden_states", &outputs.hidden_states),
            ("attentions", &outputs.attentions),
            ("last_hidden_state", &outputs.last_hidden_state),
        ];
        let mut evidence = Evidence::default();
        for (name, computed) in computed {
            let stored = format!("{}.out.{name}", call.name);
            let there = fixture.names().contains(&stored);
            let Some(computed) = computed else {
                crate::check!(!there, "`{name}` is not given out");
                continue;
            };
            crate::check!(there, "`{name}` is given out and was not asked for");
            let (shape, expected) = fixture.f64s(&stored)?;
            crate::check!(
                shape == computed.shape(),
                "`{name}` has shape {:?}, but it must be {shape:?}",
                computed.shape()
            );
            let failed = |message: String, measures| {
                let worst = worst(name, &shape, computed.data(), &expected, WORST);
                Problem::Fail(Box::new(Failure { message, measures, worst }))
            };
            let value = max_over_rms(computed.data(), &expected)
                .map_err(|e| failed(format!("{name}: {e}"), evidence.measures.clone()))?;
            let measure = Measure { metric: "max/rms".into(), what: name.into(), value, limit };
            let passes = measure.passes();
            evidence.measures.push(measure);
            if !passes {
                let message = format!("{name}: max/rms is {value:.2e}, the limit of class {class} is {limit:.2e}");
                return Err(failed(message, evidence.measures));
            }
        }
        Ok(evidence)
    }
}

/// The tensors that go into the call `name`.
///
/// # Errors
/// For a fixture that cannot be read.
pub fn inputs(fixture: &Fixture, name: &str) -> Result<ForwardInputs, Problem> {
    let of = |tensor: &str| Some(format!("{name}.in.{tensor}")).filter(|n| fixture.names().contains(n));
    let unfit = |e: camelid_engine::forward::ForwardError| Problem::Blocked(e.to_string());
    let ints = |tensor: &'static str| -> Result<Option<Array<i64>>, Problem> {
        let Some(stored) = of(tensor) else { return Ok(None) };
        let (shape, values) = fixture.i64s(&stored)?;
        Array::new(tensor, shape, values).map(Some).map_err(unfit)
    };
    let floats = |tensor: &'static str| -> Result<Option<Array<f64>>, Problem> {
        let Some(stored) = of(tensor) else { return Ok(None) };
        let (shape, values) = fixture.f64s(&stored)?;
        Array::new(tensor, shape, values).map(Some).map_err(unfit)
    };
    let is_float = |tensor: &str| -> Result<bool, Problem> {
        Ok(of(tensor).map(|n| fixture.dtype(&n)).transpose()?.is_some_and(|d| d == Dtype::F32))
    };
    let inputs_embeds = match floats("inputs_embeds")? {
        None => None,
        Some(e) => {
            let values = e.data().iter().map(|x| *x as f32).collect();
            Some(Array::new("inputs_embeds", e.shape().to_vec(), values).map_err(unfit)?)
        }
    };
    let attention_mask = if is_float("attention_mask")? {
        floats("attention_mask")?.map(AttentionMask::Additive)
    } else {
        match ints("attention_mask")? {
            None => None,
            Some(mask) => {
                let shown = mask.data().iter().map(|m| *m != 0).collect();
                let shown = Array::new("attention_mask", mask.shape().to_vec(), shown).map_err(unfit)?;
                let padding = shown.shape().len() == 2;
                Some(if padding { AttentionMask::Padding(shown) } else { AttentionMask::Visible(shown) })
            }
        }
    };
    let labels =
        if is_float("labels")? { floats("labels")?.map(Labels::Floats) } else { ints("labels")?.map(Labels::Ints) };
    Ok(ForwardInputs {
        input_ids: ints("input_ids")?,
        inputs_embeds,
        attention_mask,
        position_ids: ints("position_ids")?,
        labels,
    })
}
