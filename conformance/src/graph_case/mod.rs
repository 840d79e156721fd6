//! Cases that are a graph: values, nodes, and one or more steps with what they must give.
//!
//! The files `suite/op/*.toml` and `suite/module/*.toml` hold them, made by `reference/`; [`file`](mod@file) is their
//! format, [`contents`] makes the large inputs that are not stored, [`build`] makes the graph, [`execute`] runs it in two
//! layouts, and [`expect`] compares. What is computed is never looked up in a backend.

pub mod build;
pub mod contents;
pub mod execute;
pub mod expect;
pub mod file;

use std::sync::Arc;

use crate::case::{Case, Context, Evidence, Problem, Profile};
use crate::suite::{Suite, SuiteError};

use file::{CaseFile, GraphCase};

/// The cases of every file in a folder of the suite.
///
/// # Errors
/// [`SuiteError::Damaged`] for a file that is not what it should be.
pub fn cases(suite: &Suite, folder: &str) -> Result<Vec<Case>, SuiteError> {
    let mut cases = Vec::new();
    for name in suite.files(folder)?.iter().filter(|name| name.ends_with(".toml")) {
        cases.extend(cases_of(suite, name)?);
    }
    Ok(cases)
}

/// The cases of one file, by its path with `/`.
///
/// # Errors
/// As [`cases`].
pub fn cases_of(suite: &Suite, name: &str) -> Result<Vec<Case>, SuiteError> {
    let data = Arc::new(data_of(name));
    let cases = read(suite, name)?.into_iter().map(|case| {
        let data = data.clone();
        let (id, profile, about) = (case.id.clone(), case.profiles[0], case.about.clone());
        Case::new(id, profile, about, move |cx: &Context<'_>| run(&case, &data, cx))
    });
    Ok(cases.collect())
}

/// The safetensors file beside `NAME.toml`.
fn data_of(name: &str) -> String {
    format!("{}.safetensors", name.strip_suffix(".toml").unwrap_or(name))
}

/// The case `id` for people: its graph with types, its steps, what is compared; `None` if it is no graph.
///
/// # Errors
/// For files of the suite that cannot be used.
pub fn describe(suite: &Suite, id: &str) -> Result<Option<String>, SuiteError> {
    let Some(folder) = id.split('/').next().filter(|folder| ["op", "module"].contains(folder)) else { return Ok(None) };
    for name in suite.files(folder)?.iter().filter(|name| name.ends_with(".toml")) {
        let Some(case) = read(suite, name)?.into_iter().find(|c| c.id == id) else { continue };
        let range = execute::Layout::Exact.range(&case.step);
        let damaged = |problem: String| SuiteError::Damaged { path: name.into(), problem };
        let mut text = format!("file {name}, math class {}\n\n", case.class);
        text += &build::graph(&case, range).map_err(damaged)?.to_string();
        for (number, step) in case.step.iter().enumerate() {
            let file::Symbols { t, s, o, l } = step.symbols;
            text += &format!("step {number}: T = {t}, S = {s}, O = {o}, L = {l}");
            if let Some(error) = &step.error {
                text += &format!("; must fail ({error})");
            }
            for expect in &step.expect {
                let limits = expect.limits(case.class);
                text += &format!("; {}: nmse <= {:.1e}, max/rms <= {:.1e}", expect.output, limits.nmse, limits.max);
            }
            text += "\n";
        }
        return Ok(Some(text));
    }
    Ok(None)
}

/// For each file of a folder all of its core cases on one device, one after the other: forwards with everything that was
/// compiled left alive, then backwards. What an earlier case left behind must not show in a later one.
///
/// # Errors
/// As [`cases`].
pub fn on_one_device(suite: &Suite, folder: &str) -> Result<Vec<Case>, SuiteError> {
    let mut cases = Vec::new();
    for name in suite.files(folder)? {
        let Some(stem) = name.strip_suffix(".toml") else { continue };
        let id = format!("stress/one_device/{stem}");
        let about = "the core cases of an operation after each other on one device";
        cases.push(Case::new(id, Profile::Core, about, move |cx: &Context<'_>| {
            // Read when it is asked: the names of the files are enough to list it.
            let mut all = read(cx.suite, &name).map_err(|e| Problem::Blocked(e.to_string()))?;
            all.retain(|c| c.profiles == [Profile::Core] && !c.step.iter().flat_map(|s| &s.expect).any(|e| e.sampled));
            one_device(&all, &data_of(&name), cx)
        }));
    }
    Ok(cases)
}

fn one_device(cases: &[GraphCase], data: &str, cx: &Context<'_>) -> Result<Evidence, Problem> {
    let fixture = cx.suite.fixture(data)?;
    let mut device = cx.subject.open()?;
    let mut evidence = Evidence::default();
    let forwards = cases.iter().map(|case| (case, execute::Layout::Exact, true));
    let backwards = cases.iter().rev().map(|case| (case, execute::Layout::Wide, false));
    for (case, layout, stays) in forwards.chain(backwards) {
        let class = cx.subject.claims.class(&case.id, case.class);
        let run = execute::Execution { case, fixture: &fixture, class, layout, dump: None, stays };
        run.on(&mut *device, &mut evidence).map_err(|problem| match problem {
            Problem::Fail(mut failure) => {
                failure.message = format!("{} after others: {}", case.id, failure.message);
                Problem::Fail(failure)
            }
            other => other,
        })?;
        // Of all of them the tightest goes into the report.
        evidence.measures.sort_by(|a, b| {
            let used = |m: &crate::case::Measure| if m.limit > 0.0 { m.value / m.limit } else { m.value };
            a.metric.cmp(&b.metric).then(used(b).total_cmp(&used(a)))
        });
        evidence.measures.dedup_by(|a, b| a.metric == b.metric);
    }
    evidence.notes.clear();
    Ok(evidence)
}

fn read(suite: &Suite, name: &str) -> Result<Vec<GraphCase>, SuiteError> {
    let damaged = |problem: String| SuiteError::Damaged { path: name.into(), problem };
    let file: CaseFile = toml::from_str(&suite.text(name)?).map_err(|e| damaged(e.to_string()))?;
    if let Some(case) = file.cases.iter().find(|c| c.profiles.len() != 1 || c.step.is_empty()) {
        return Err(damaged(format!("case `{}` must be in one profile and have a step", case.id)));
    }
    Ok(file.cases)
}

fn run(case: &GraphCase, data: &str, cx: &Context<'_>) -> Result<Evidence, Problem> {
    let fixture = cx.suite.fixture(data)?;
    let class = cx.subject.claims.class(&case.id, case.class);
    let mut evidence = Evidence::default();
    let mut device = cx.subject.open()?;
    for layout in execute::Layout::ALL {
        let run = execute::Execution { case, fixture: &fixture, class, layout, dump: cx.dump, stays: false };
        run.on(&mut *device, &mut evidence)?;
    }
    // The tightest of both layouts is what the report shows.
    evidence.measures.sort_by(|a, b| (&a.what, &a.metric).cmp(&(&b.what, &b.metric)).then(b.value.total_cmp(&a.value)));
    evidence.measures.dedup_by(|a, b| a.what == b.what && a.metric == b.metric);
    Ok(evidence)
}
