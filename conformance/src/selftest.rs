//! The suite tested with backends that are known to be wrong, and with honest ones that compute in other ways.
//!
//! Every mutant of `camelid-mutants` must fire, that is really change something, and be killed by a case of the level it is
//! meant for. Every honest variant must pass everything. Trivial backends, which answer without computing, must fail
//! with exactly the counts that are written down, so that no case passes for nothing unnoticed.

use std::collections::BTreeMap;

use camelid_core::backend::Options;
use camelid_core::{Cache, Tokenizer};
use camelid_host::Registry;
use camelid_mutants::Mutant;
use serde::Serialize;

use crate::case::{Case, Level};
use crate::claims::{Claims, Pattern};
use crate::report::State;
use crate::run::pool::{Pool, PoolOptions, StartError, WorkerCommand};
use crate::run::{Event, settle};
use crate::subject::{Subject, Wrap};
use crate::tolerance::MathClass;

/// What became of a mutant.
#[derive(Clone, Debug, Serialize)]
pub struct Fate {
    /// The mutant.
    pub id: &'static str,
    /// The level it is meant for.
    pub level: String,
    /// What it does.
    pub about: &'static str,
    /// The first case that it failed, and how.
    pub killed_by: Option<(String, State)>,
    /// Cases asked.
    pub asked: usize,
    /// How often it changed something. A crash or a hang counts as once.
    pub fired: u64,
}

/// What a whole run of a variant came to.
#[derive(Clone, Debug, Serialize)]
pub struct Count {
    /// The variant.
    pub id: &'static str,
    /// Cases by state; states without cases are left out.
    pub states: BTreeMap<State, usize>,
    /// The cases that failed, the first ten.
    pub failed: Vec<String>,
    /// The cases that passed.
    pub passed: Vec<String>,
}

impl Count {
    /// How the cases that a trivial backend passed differ from those that the catalogue lets it pass.
    pub fn unexpected_passes(&self) -> Vec<String> {
        let allowed = camelid_mutants::trivial().iter().find(|v| v.id == self.id).map_or(&[][..], |v| v.passes);
        let mut rest: Vec<&str> = self.passed.iter().map(String::as_str).collect();
        let mut wrong = Vec::new();
        for (glob, count) in allowed {
            let before = rest.len();
            match Pattern::new(glob) {
                Ok(pattern) => rest.retain(|id| !pattern.matches(id)),
                Err(error) => wrong.push(error),
            }
            let found = before - rest.len();
            if found != *count {
                wrong.push(format!("{found} cases of {glob} pass, {count} may"));
            }
        }
        wrong.extend(rest.iter().map(|id| format!("{id} passes, and may not")));
        wrong
    }
}

/// What is tested when a worker is told to be the mutant or variant `id`.
///
/// # Errors
/// If there is none of this name.
pub fn subject(id: &str) -> Result<Subject, String> {
    let backend = camelid_mutants::backend(id).ok_or_else(|| format!("there is no mutant or variant `{id}`"))?;
    let mut registry = Registry::new();
    registry.register(backend).map_err(|e| e.to_string())?;
    let mut subject = Subject::new(registry, camelid_mutants::NAME, 0, Options::default());
    if let Some(variant) = camelid_mutants::honest().iter().find(|v| v.id == id) {
        for (glob, class) in variant.classes {
            let class = MathClass::from_name(class).ok_or_else(|| format!("`{id}`: there is no class `{class}`"))?;
            subject.claims.classes.push((Pattern::new(glob)?, class));
        }
    }
    let id = id.to_owned();
    subject.parts.fired = Some(camelid_mutants::fired);
    subject.parts.sample = camelid_mutants::sampler(&id);
    let fault = id.clone();
    let around = move |part| camelid_mutants::cache(&fault, part);
    subject.parts.cache = camelid_mutants::is_cache(&id).then(|| -> Wrap<dyn Cache> { Box::new(around) });
    subject.parts.tokenizer = camelid_mutants::is_tokenizer(&id)
        .then(|| -> Wrap<dyn Tokenizer> { Box::new(move |part| camelid_mutants::tokenizer(&id, part)) });
    Ok(subject)
}

/// The level a mutant is meant for.
///
/// # Errors
/// If the catalogue names one that the suite has not.
fn level(mutant: &Mutant) -> Result<Level, String> {
    let name = mutant.level.as_str();
    Level::from_name(name).ok_or_else(|| format!("mutant `{}`: there is no level `{name}`", mutant.id))
}

/// Asks the cases of its level, those it is expected to show in first, until one kills it.
///
/// # Errors
/// If the catalogue is wrong or a worker cannot be started.
pub fn try_mutant(
    mutant: &Mutant,
    cases: &[Case],
    command: &WorkerCommand,
    options: PoolOptions,
) -> Result<Fate, String> {
    let level = level(mutant)?;
    let patterns = mutant.cases.iter().map(|text| Pattern::new(text)).collect::<Result<Vec<_>, _>>()?;
    let mut chosen: Vec<&Case> = cases.iter().filter(|c| c.level == level).collect();
    if !patterns.is_empty() {
        chosen.retain(|c| patterns.iter().any(|p| p.matches(&c.id)));
        if chosen.is_empty() {
            return Err(format!("mutant `{}`: no case of level {level} fits {:?}", mutant.id, mutant.cases));
        }
    }
    let mut fate =
        Fate { id: mutant.id, level: level.to_string(), about: mutant.about, killed_by: None, asked: 0, fired: 0 };
    let pool = Pool::start(command, options).map_err(|e| e.to_string())?;
    if let Some(why) = pool.startup_crash() {
        return Err(format!("mutant `{}`: {why}", mutant.id));
    }
    for case in chosen {
        let result = pool.ask(case);
        fate.asked += 1;
        let refused = result.state == State::Unsupported && case.profile == crate::case::Profile::Core;
        if result.state.is_failure() || refused {
            // What ended its process could not tell that it fired.
            let silent = u64::from(matches!(result.state, State::Crash | State::Timeout));
            fate.fired = pool.fired().max(silent);
            fate.killed_by = Some((result.id, if refused { State::Fail } else { result.state }));
            return Ok(fate);
        }
    }
    fate.fired = pool.fired();
    Ok(fate)
}

/// Runs all `cases` on a variant.
///
/// # Errors
/// If no worker can be started.
pub fn try_variant(
    id: &'static str,
    cases: &[&Case],
    command: &WorkerCommand,
    options: PoolOptions,
    hear: &mut dyn FnMut(Event<'_>),
) -> Result<Count, StartError> {
    let pool = Pool::start(command, options)?;
    let (mut states, mut failed, mut passed) = (BTreeMap::new(), Vec::new(), Vec::new());
    for (case, mut result) in cases.iter().zip(pool.run(cases, hear)) {
        // Of the core profile nothing may be left out; variants claim no other.
        settle::one(&mut result, &Claims::default());
        *states.entry(result.state).or_default() += 1;
        if result.state.is_failure() && failed.len() < 10 {
            failed.push(format!("{}: {}", case.id, result.message));
        }
        if result.state == State::Pass {
            passed.push(case.id.clone());
        }
    }
    Ok(Count { id, states, failed, passed })
}
