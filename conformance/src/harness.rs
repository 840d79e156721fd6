//! [`conformance_main!`](crate::conformance_main): the suite as the tests of a plugin's own package.
//!
//! ```toml
//! [[test]]
//! name = "conformance"
//! harness = false
//! ```
//!
//! ```ignore
//! // tests/conformance.rs
//! camelid_conformance::conformance_main!(|| Box::new(my_npu::Npu), claims = "conformance.toml");
//! ```
//!
//! `cargo test` and `cargo nextest` then list every case by its id. Each is asked in a worker process, which is the test
//! program itself started again, behind the plugin interface's table of functions.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use camelid_core::backend::{Backend, Options};
use camelid_host::Registry;
use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::case::Case;
use crate::claims::Claims;
use crate::report::{CaseResult, State};
use crate::run::pool::{Pool, PoolOptions, WorkerCommand};
use crate::run::{Selection, settle, worker};
use crate::subject::{Subject, Way};
use crate::suite::{Suite, SuiteError};

/// The longest a case may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Makes `main` of a test program without a harness: the suite on the backend that `$make` makes. `$claims` is the path
/// of a `conformance.toml` from the package's folder.
#[macro_export]
macro_rules! conformance_main {
    ($make:expr) => {
        fn main() -> ::std::process::ExitCode {
            $crate::harness::main($make, None)
        }
    };
    ($make:expr, claims = $claims:expr) => {
        fn main() -> ::std::process::ExitCode {
            let claims = ::std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join($claims);
            $crate::harness::main($make, Some(claims))
        }
    };
}

/// What [`conformance_main!`](crate::conformance_main) calls.
pub fn main(make: fn() -> Box<dyn Backend>, claims: Option<PathBuf>) -> ExitCode {
    match run(make, claims.as_deref()) {
        Ok(code) => code,
        Err(problem) => {
            tell(&problem);
            ExitCode::FAILURE
        }
    }
}

#[allow(clippy::print_stderr, reason = "the main function of a program has nobody else to tell")]
fn tell(problem: &str) {
    eprintln!("error: {problem}");
}

fn run(make: fn() -> Box<dyn Backend>, claims: Option<&Path>) -> Result<ExitCode, String> {
    let suite = Suite::embedded().map_err(|e| e.to_string())?;
    if worker::is_worker() {
        let subject = subject(make, claims)?;
        worker::serve(&subject, &suite).map_err(|e| e.to_string())?;
        return Ok(ExitCode::SUCCESS);
    }
    let arguments = Arguments::from_args();
    let cases = cases(&suite, &arguments).map_err(|e| e.to_string())?;
    let claims = Arc::new(claims.map_or_else(|| Ok(Claims::default()), Claims::read).map_err(|e| e.to_string())?);
    let selection = Selection::default();
    let workers = Arc::new(Workers::default());
    let trials = cases.into_iter().filter(|case| selection.includes(case)).map(|case| {
        let (workers, claims) = (workers.clone(), claims.clone());
        Trial::ignorable_test(case.id.clone(), move || conclude(workers.ask(&case)?, &claims))
    });
    let trials: Vec<Trial> = trials.collect();
    Ok(libtest_mimic::run(&arguments, trials).exit_code())
}

/// The cases that the arguments can choose. nextest starts a process for each case, with its id and `--exact`: only that
/// one is read then. The whole suite was read, and checked against its lists, when the cases were listed.
fn cases(suite: &Suite, arguments: &Arguments) -> Result<Vec<Case>, SuiteError> {
    if let (Some(id), true, false) = (&arguments.filter, arguments.exact, arguments.list)
        && let Some(case) = suite.case(id)?
    {
        return Ok(vec![case]);
    }
    suite.cases()
}

fn subject(make: fn() -> Box<dyn Backend>, claims: Option<&Path>) -> Result<Subject, String> {
    let backend = make();
    let name = backend.name().to_owned();
    let mut registry = Registry::new();
    let backend = camelid_sdk::loopback(backend).map_err(|e| e.to_string())?;
    registry.register(Box::new(backend)).map_err(|e| e.to_string())?;
    let mut subject = Subject::new(registry, name, 0, Options::default());
    subject.way = Way::Loopback;
    subject.claims = claims.map_or_else(|| Ok(Claims::default()), Claims::read).map_err(|e| e.to_string())?;
    Ok(subject)
}

/// The workers, started with the first case: listing the cases starts none.
#[derive(Default)]
struct Workers(OnceLock<Result<Pool, String>>);

impl Workers {
    fn ask(&self, case: &Case) -> Result<CaseResult, Failed> {
        let start = || {
            let program = std::env::current_exe().map_err(|e| e.to_string())?;
            let command = WorkerCommand { program, arguments: Vec::new(), environment: Vec::new() };
            Pool::start(&command, PoolOptions { jobs: 1, timeout: TIMEOUT, keep_failed: false })
                .map_err(|e| e.to_string())
        };
        match self.0.get_or_init(start) {
            Ok(pool) => Ok(pool.ask(case)),
            Err(problem) => Err(problem.into()),
        }
    }
}

fn conclude(mut result: CaseResult, claims: &Claims) -> Result<Completion, Failed> {
    let errors = settle::one(&mut result, claims);
    if !errors.is_empty() {
        return Err(errors.join("; ").into());
    }
    match result.state {
        State::Pass => Ok(Completion::Completed),
        State::Unsupported | State::Waived => {
            Ok(Completion::ignored_with(format!("{}: {}", result.state, result.message)))
        }
        _ => {
            let mut text = format!("{}: {}", result.state, result.message);
            for m in &result.measures {
                text += &format!("\n  {}: {} {:.3e}, limit {:.3e}", m.what, m.metric, m.value, m.limit);
            }
            for w in &result.worst {
                text += &format!("\n  {}{:?}: {} should be {}", w.output, w.index, w.actual, w.expected);
            }
            Err(text.into())
        }
    }
}
