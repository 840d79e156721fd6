//! `camelid conformance replay`: one case again, in a process of its own, with all its numbers.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use camelid_conformance::State;
use camelid_conformance::report::CaseResult;
use camelid_conformance::run::pool::{Pool, PoolOptions};
use camelid_conformance::run::worker;
use clap::Args;

use super::run::worker_command;
use super::target::TargetFlags;
use super::{Failed, SuiteFlags};

/// Run one case again and keep what it computed
#[derive(Args, Debug)]
pub struct Replay {
    /// The case's id
    case: String,
    #[command(flatten)]
    target: TargetFlags,
    #[command(flatten)]
    suite: SuiteFlags,
    /// Leave computed values here as safetensors
    #[arg(long, value_name = "DIR")]
    dump: Option<PathBuf>,
    /// The longest the case may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,
}

impl Replay {
    pub fn run(self) -> Result<ExitCode, Failed> {
        let suite = self.suite.open()?;
        let cases = suite.cases()?;
        let case = find(&cases, &self.case)?;
        drop(self.target.subject()?);
        let mut command = worker_command(&self.target, &self.suite)?;
        if let Some(folder) = &self.dump {
            std::fs::create_dir_all(folder)?;
            command.environment.push((worker::DUMP.into(), std::path::absolute(folder)?.into()));
        }
        let options = PoolOptions { jobs: 1, timeout: Duration::from_secs(self.timeout.max(1)), keep_failed: false };
        let pool = Pool::start(&command, options)?;
        if let Some(why) = pool.startup_crash() {
            return Err(Failed { code: 1, error: why.into() });
        }
        let result = pool.ask(case);
        show(&result)?;
        Ok(ExitCode::from(match result.state {
            State::Pass => 0,
            State::Blocked => super::BLOCKED,
            _ => 1,
        }))
    }
}

/// The case of this id; what is near it if there is none.
pub fn find<'a>(cases: &'a [camelid_conformance::Case], id: &str) -> Result<&'a camelid_conformance::Case, Failed> {
    cases.iter().find(|c| c.id == id).ok_or_else(|| {
        let near: Vec<&str> = cases.iter().map(|c| c.id.as_str()).filter(|c| c.contains(id)).take(5).collect();
        let near = if near.is_empty() { String::new() } else { format!("; near it: {}", near.join(", ")) };
        Failed::usage(format!("there is no case `{id}`{near}; `camelid conformance list` shows them all"))
    })
}

fn show(result: &CaseResult) -> Result<(), Failed> {
    outln!("{}", super::progress::line(result));
    for measure in &result.measures {
        let (metric, what) = (&measure.metric, &measure.what);
        outln!("  {what}: {metric} {:.3e}, limit {:.3e}, margin {:.3}", measure.value, measure.limit, measure.margin());
    }
    for worst in &result.worst {
        outln!("  {}{:?}: {} should be {}", worst.output, worst.index, worst.actual, worst.expected);
    }
    for note in &result.notes {
        outln!("  {note}");
    }
    Ok(())
}
