//! `camelid conformance`: is a backend right, and how is it known.
//!
//! One file a subcommand; [`target`] turns flags into what is tested. The suite itself is `camelid-conformance`.

mod diff;
mod explain;
mod list;
mod new_case;
mod progress;
mod replay;
mod run;
mod selftest;
mod target;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use camelid_conformance::claims::Pattern;
use camelid_conformance::run::Selection;
use camelid_conformance::suite::SuiteError;
use camelid_conformance::{Level, Profile, Suite};
use clap::{Args, Subcommand};

use crate::Error;

/// Wrong usage, unknown backend, wrong claims file.
const USAGE: u8 = 2;
/// The suite is damaged.
const CORRUPT: u8 = 3;
/// The device does not open.
const BLOCKED: u8 = 5;

/// Test a backend against the conformance suite
#[derive(Args, Debug)]
pub struct Conformance {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the suite on a backend and judge it
    Run(run::Run),
    /// List the cases
    List(list::List),
    /// Count the cases that a run would ask, by level and profile
    Plan(list::Plan),
    /// Run one case again and keep what it computed
    Replay(replay::Replay),
    /// Say what a case asks and compares
    Explain(explain::Explain),
    /// Test the suite itself
    Selftest(selftest::Selftest),
    /// Compare two reports
    Diff(diff::Diff),
    /// Check that a report can be believed
    Verify(verify::Verify),
    /// Write the beginning of a new case
    NewCase(new_case::NewCase),
    /// Answer cases for a run, as its worker process
    #[command(hide = true)]
    Worker(run::Worker),
    /// The same for a backend that is wrong on purpose
    #[command(hide = true)]
    Mutant(run::Mutant),
}

impl Conformance {
    pub fn run(self) -> Result<ExitCode, Error> {
        let outcome = match self.command {
            Command::Run(c) => c.run(),
            Command::List(c) => c.run(),
            Command::Plan(c) => c.run(),
            Command::Replay(c) => c.run(),
            Command::Explain(c) => c.run(),
            Command::Selftest(c) => c.run(),
            Command::Diff(c) => c.run(),
            Command::Verify(c) => c.run(),
            Command::NewCase(c) => c.run(),
            Command::Worker(c) => c.run(),
            Command::Mutant(c) => c.run(),
        };
        // The exit code says more than that something failed; the message is printed as for all commands.
        outcome.or_else(|Failed { code, error }| {
            crate::report(&*error);
            Ok(ExitCode::from(code))
        })
    }
}

/// An error with the exit code it ends in.
struct Failed {
    code: u8,
    error: Error,
}

impl Failed {
    fn usage(error: impl Into<Error>) -> Failed {
        Failed { code: USAGE, error: error.into() }
    }
}

impl From<SuiteError> for Failed {
    fn from(error: SuiteError) -> Failed {
        Failed { code: CORRUPT, error: error.into() }
    }
}

impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Failed {
        Failed { code: USAGE, error: error.into() }
    }
}

/// Which suite.
#[derive(Args, Clone, Debug)]
struct SuiteFlags {
    /// Use the suite in this folder in place of the one in this program
    #[arg(long, value_name = "DIR")]
    suite: Option<PathBuf>,
}

impl SuiteFlags {
    fn open(&self) -> Result<Suite, Failed> {
        Ok(match &self.suite {
            Some(folder) => Suite::open(folder)?,
            None => Suite::embedded()?,
        })
    }
}

/// Which cases.
#[derive(Args, Clone, Debug)]
struct SelectionFlags {
    /// Profiles: core, half, quant, extra, real [default: all but real, whose files are fetched]
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = profile)]
    profile: Vec<Profile>,
    /// Levels: abi, op, module, model, tokenizer, generate, cache, stress, real [default: all]
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = level)]
    level: Vec<Level>,
    /// Only cases whose id fits this glob; `*` also stands for `/`; may be given several times
    #[arg(short = 'k', long = "case", value_name = "GLOB", value_parser = Pattern::new)]
    case: Vec<Pattern>,
}

impl SelectionFlags {
    fn selection(&self) -> Selection {
        let mut selection = Selection::default();
        if !self.profile.is_empty() {
            selection.profiles.clone_from(&self.profile);
        }
        selection.levels.clone_from(&self.level);
        selection.patterns.clone_from(&self.case);
        selection
    }
}

fn profile(name: &str) -> Result<Profile, String> {
    let known = Profile::ALL.map(Profile::name).join(", ");
    Profile::from_name(name).ok_or_else(|| format!("the profiles are {known}"))
}

fn level(name: &str) -> Result<Level, String> {
    let known = Level::ALL.map(Level::name).join(", ");
    Level::from_name(name).ok_or_else(|| format!("the levels are {known}"))
}
