//! `camelid conformance run`, and the worker process it starts.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use camelid_conformance::run::pool::{PoolOptions, StartError, WorkerCommand};
use camelid_conformance::run::worker;
use camelid_conformance::{Report, State, Subject, Suite, Verdict, run, selftest};
use clap::Args;

use super::progress::Progress;
use super::target::TargetFlags;
use super::{BLOCKED, Failed, SelectionFlags, SuiteFlags, USAGE};

/// Run the suite on a backend and judge it
///
/// Exit codes: 0 all passes, is unsupported as declared, or waived; 1 failures; 2 wrong usage or unknown backend; 3 the
/// suite is damaged or the results do not match the plan; 4 nothing was executed; 5 the device or a file was not there;
/// 6 all passes, but a filter left cases out.
#[derive(Args, Debug)]
pub struct Run {
    #[command(flatten)]
    target: TargetFlags,
    #[command(flatten)]
    selection: SelectionFlags,
    #[command(flatten)]
    suite: SuiteFlags,
    /// Write report.json, junit.xml, report.tap, summary.md, matrix.csv, badge.json and index.html into this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Worker processes at a time
    #[arg(short, long, value_name = "N", default_value = "1")]
    jobs: NonZero<usize>,
    /// The longest a case may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
    /// Show only failures and the verdict
    #[arg(short, long)]
    quiet: bool,
}

/// Answer cases for a run
#[derive(Args, Debug)]
pub struct Worker {
    #[command(flatten)]
    target: TargetFlags,
    #[command(flatten)]
    suite: SuiteFlags,
}

/// Answer cases as a backend that is wrong on purpose
#[derive(Args, Debug)]
pub struct Mutant {
    /// A mutant or variant of the suite's own test
    id: String,
    #[command(flatten)]
    suite: SuiteFlags,
}

impl Worker {
    pub fn run(self) -> Result<ExitCode, Failed> {
        serve(&self.target.subject()?, &self.suite)
    }
}

impl Mutant {
    pub fn run(self) -> Result<ExitCode, Failed> {
        serve(&selftest::subject(&self.id).map_err(Failed::usage)?, &self.suite)
    }
}

fn serve(subject: &Subject, suite: &SuiteFlags) -> Result<ExitCode, Failed> {
    // The parent has checked the files.
    let suite = match &suite.suite {
        Some(folder) => Suite::open_unchecked(folder)?,
        None => Suite::embedded()?,
    };
    worker::serve(subject, &suite)?;
    Ok(ExitCode::SUCCESS)
}

/// How a run starts its workers: this program again.
pub fn worker_command(target: &TargetFlags, suite: &SuiteFlags) -> Result<WorkerCommand, Failed> {
    let mut arguments = vec!["conformance".into(), "worker".into()];
    arguments.extend(target.arguments());
    if let Some(folder) = &suite.suite {
        arguments.extend(["--suite".into(), folder.into()]);
    }
    Ok(WorkerCommand { program: std::env::current_exe()?, arguments, environment: Vec::new() })
}

impl From<StartError> for Failed {
    fn from(error: StartError) -> Failed {
        let code = if matches!(error, StartError::NoDevice(_)) { BLOCKED } else { USAGE };
        Failed { code, error: error.into() }
    }
}

impl Run {
    pub fn run(self) -> Result<ExitCode, Failed> {
        let suite = self.suite.open()?;
        let cases = suite.cases()?;
        let selection = self.selection.selection();
        if !cases.iter().any(|case| selection.includes(case)) {
            let filter = selection.filter().unwrap_or_default();
            let message = format!("no case of the suite fits {filter}; `camelid conformance list` shows them all");
            return Err(Failed { code: Verdict::Nothing.exit_code(), error: message.into() });
        }
        // What is wrong with the flags is said here, once, and not by each worker.
        drop(self.target.subject()?);
        let claims = self.target.claims()?;
        let command = worker_command(&self.target, &self.suite)?;
        let options =
            PoolOptions { jobs: self.jobs.get(), timeout: Duration::from_secs(self.timeout), keep_failed: false };
        let mut progress = Progress::new(self.quiet);
        let hear = &mut |event: run::Event<'_>| progress.hear(&event);
        let report = run::run(&suite, &cases, &selection, &claims, &command, &options, hear)?;
        progress.finish();
        if let Some(folder) = &self.out {
            write(&report, folder)?;
        }
        conclude(&report)?;
        Ok(ExitCode::from(report.verdict.exit_code()))
    }
}

fn write(report: &Report, folder: &Path) -> Result<(), Failed> {
    report.write_all(folder).map_err(Failed::usage)?;
    Ok(())
}

/// The last lines: what stdout is for.
fn conclude(report: &Report) -> Result<(), Failed> {
    for error in &report.errors {
        eprintln!("error: {error}");
    }
    let count = |state| report.totals.get(&state).copied().unwrap_or(0);
    let counts: Vec<String> =
        State::ALL.into_iter().filter(|s| count(*s) > 0).map(|s| format!("{} {s}", count(s))).collect();
    let verdict = match report.verdict {
        Verdict::Conformant => "conformant",
        Verdict::PartialPass => "passes what was asked; a filter left cases out, so this is no verdict on the backend",
        Verdict::NonConformant => "NOT conformant",
        Verdict::Nothing => "nothing was executed",
        Verdict::Blocked => "blocked: a device or a file was not there",
        Verdict::Corrupt => "the results do not match the plan",
    };
    outln!(
        "{} {}: {verdict}: {} of {} cases in {:.1} s: {}",
        report.subject.backend,
        report.subject.version,
        report.plan.planned,
        report.plan.total,
        report.seconds,
        counts.join(", ")
    );
    Ok(())
}
