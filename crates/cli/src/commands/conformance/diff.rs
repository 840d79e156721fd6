//! `camelid conformance diff`: what changed between two reports.

use std::path::PathBuf;
use std::process::ExitCode;

use camelid_conformance::Report;
use camelid_conformance::report::diff;
use clap::Args;

use super::Failed;

/// Compare two reports
///
/// Exit code 1 if the second has failures that the first has not.
#[derive(Args, Debug)]
pub struct Diff {
    /// The older report.json
    older: PathBuf,
    /// The newer one
    newer: PathBuf,
}

impl Diff {
    pub fn run(self) -> Result<ExitCode, Failed> {
        let (older, newer) = (Report::read(&self.older), Report::read(&self.newer));
        let diff = diff(&older.map_err(Failed::usage)?, &newer.map_err(Failed::usage)?);
        outln!("{diff}");
        Ok(ExitCode::from(u8::from(diff.is_worse())))
    }
}
