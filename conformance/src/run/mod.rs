//! A run: choose the cases, ask them in worker processes, settle what counts, judge.
//!
//! [`Selection`] makes the plan; [`pool`] has a case answered by a [`worker`], a process that may crash or hang without
//! taking the run along; [`settle`] holds the answers against what the backend's authors claim.

pub mod pool;
pub mod settle;
pub mod worker;

use std::collections::BTreeMap;
use std::num::NonZero;
use std::thread::available_parallelism;
use std::time::Instant;

use jiff::Timestamp;

use crate::case::{Case, Level, Profile};
use crate::claims::{Claims, Pattern};
use crate::report::{CaseResult, MachineInfo, PlanInfo, Report, SCHEMA, SubjectInfo, Verdict};
use crate::suite::Suite;
use pool::{Pool, PoolOptions, WorkerCommand};

/// Which cases to run.
#[derive(Clone, Debug)]
pub struct Selection {
    /// Cases of these profiles.
    pub profiles: Vec<Profile>,
    /// Cases of these levels; all if empty.
    pub levels: Vec<Level>,
    /// Cases whose id fits one of these; all if empty.
    pub patterns: Vec<Pattern>,
}

impl Default for Selection {
    /// Everything that needs no file from elsewhere.
    fn default() -> Selection {
        let profiles = Profile::ALL.into_iter().filter(|p| *p != Profile::Real).collect();
        Selection { profiles, levels: Vec::new(), patterns: Vec::new() }
    }
}

impl Selection {
    /// Whether a case is chosen.
    pub fn includes(&self, case: &Case) -> bool {
        self.profiles.contains(&case.profile)
            && (self.levels.is_empty() || self.levels.contains(&case.level))
            && (self.patterns.is_empty() || self.patterns.iter().any(|p| p.matches(&case.id)))
    }

    /// What leaves cases of the profiles out, if anything does: such a run is partial.
    pub fn filter(&self) -> Option<String> {
        let levels = self.levels.iter().map(|l| format!("--level {l}"));
        let filters: Vec<String> = levels.chain(self.patterns.iter().map(|p| format!("-k {}", p.text()))).collect();
        // Without the core profile there is no verdict on a backend.
        let filters = if self.profiles.contains(&Profile::Core) {
            filters
        } else {
            let profiles = self.profiles.iter().map(|p| format!("--profile {p}"));
            profiles.chain(filters).collect()
        };
        (!filters.is_empty()).then(|| filters.join(" "))
    }
}

/// How far a run is.
#[derive(Debug)]
pub enum Event<'a> {
    /// The first worker has opened the device.
    Ready(&'a SubjectInfo),
    /// A case was answered.
    Done {
        /// How it ended.
        result: &'a CaseResult,
        /// Cases answered so far.
        done: usize,
        /// Cases planned.
        planned: usize,
    },
}

/// Runs the chosen cases and judges.
///
/// # Errors
/// [`pool::StartError`] if there is no such backend or its device does not open: nothing was asked then.
pub fn run(
    suite: &Suite,
    cases: &[Case],
    selection: &Selection,
    claims: &Claims,
    command: &WorkerCommand,
    options: &PoolOptions,
    hear: &mut dyn FnMut(Event<'_>),
) -> Result<Report, pool::StartError> {
    let (started, clock) = (Timestamp::now(), Instant::now());
    let planned: Vec<&Case> = cases.iter().filter(|c| selection.includes(c)).collect();
    let pool = Pool::start(command, *options)?;
    if let Some(subject) = pool.subject() {
        hear(Event::Ready(subject));
    }
    let mut errors: Vec<String> = pool.startup_crash().into_iter().collect();
    let subject = pool.subject().cloned().unwrap_or_default();
    let mut results = pool.run(&planned, hear);
    errors.extend(settle::settle(&mut results, claims, selection, &subject));
    let today = Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    errors.extend(claims.overdue(today));
    let mut report = Report {
        schema: SCHEMA.into(),
        camelid: env!("CARGO_PKG_VERSION").into(),
        started: started.to_string(),
        seconds: clock.elapsed().as_secs_f64(),
        subject,
        machine: MachineInfo {
            os: std::env::consts::OS.into(),
            arch: std::env::consts::ARCH.into(),
            cpus: available_parallelism().map_or(1, NonZero::get),
        },
        plan: PlanInfo {
            suite: suite.version().into(),
            digest: suite.digest().into(),
            total: cases.len(),
            planned: planned.len(),
            profiles: selection.profiles.clone(),
            filter: selection.filter(),
        },
        claims: claims.info(),
        totals: BTreeMap::new(),
        errors,
        verdict: Verdict::Nothing,
        cases: results,
    };
    report.judge();
    Ok(report)
}
