//! `camelid conformance explain`: what a case asks.

use std::process::ExitCode;

use clap::Args;

use super::replay::find;
use super::{Failed, SuiteFlags};

/// Say what a case asks and compares
#[derive(Args, Debug)]
pub struct Explain {
    /// The case's id
    case: String,
    #[command(flatten)]
    suite: SuiteFlags,
}

impl Explain {
    pub fn run(self) -> Result<ExitCode, Failed> {
        let suite = self.suite.open()?;
        let cases = suite.cases()?;
        let case = find(&cases, &self.case)?;
        outln!("{}", case.id);
        outln!("level {}, profile {}", case.level, case.profile);
        outln!("{}", case.about);
        if let Some(text) = camelid_conformance::graph_case::describe(&suite, &case.id)? {
            outln!("\n{text}");
        }
        Ok(ExitCode::SUCCESS)
    }
}
