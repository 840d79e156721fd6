//! `camelid conformance verify`: can a report be believed.

use std::path::PathBuf;
use std::process::ExitCode;

use camelid_conformance::Report;
use camelid_conformance::report::verify;
use clap::Args;

use super::{Failed, SuiteFlags};

/// Check that a report can be believed: a full run of this suite, nothing missing, the verdict that follows
#[derive(Args, Debug)]
pub struct Verify {
    /// The report.json
    report: PathBuf,
    /// The library it is about: its SHA-256 must be the report's
    #[arg(long, value_name = "PATH")]
    plugin: Option<PathBuf>,
    #[command(flatten)]
    suite: SuiteFlags,
}

impl Verify {
    pub fn run(self) -> Result<ExitCode, Failed> {
        let report = Report::read(&self.report).map_err(Failed::usage)?;
        let suite = self.suite.open()?;
        let problems = verify(&report, &suite, self.plugin.as_deref())?;
        for problem in &problems {
            eprintln!("error: {}: {problem}", self.report.display());
        }
        if problems.is_empty() {
            let (subject, plan) = (&report.subject, &report.plan);
            outln!(
                "{} {} passes suite {}: a full run of {} cases",
                subject.backend,
                subject.version,
                plan.suite,
                plan.planned
            );
        }
        Ok(ExitCode::from(u8::from(!problems.is_empty())))
    }
}
