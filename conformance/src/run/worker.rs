//! The worker's side: a process that loads the backend, answers cases one after the other, and may die of it.
//!
//! Commands come as lines on stdin, a case's id each. Answers go to stdout as lines that begin with a mark that the
//! parent chose, because a plugin may print there too.

use std::io::{self, BufRead, Write};
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::case::{Case, Context, Evidence, Problem};
use crate::levels::Finder;
use crate::report::{CaseResult, State, SubjectInfo};
use crate::subject::Subject;
use crate::suite::Suite;

/// The variable that holds the mark; it also tells a program that it is to be a worker.
pub const MARK: &str = "_CAMELID_CONFORMANCE_WORKER";

/// The variable that names a folder for the values of the cases, if they are to be kept.
pub const DUMP: &str = "_CAMELID_CONFORMANCE_DUMP";

/// What a worker says.
#[derive(Debug, Serialize, Deserialize)]
pub enum Message {
    /// The backend is loaded and its device opens.
    Ready(Box<SubjectInfo>),
    /// There is no such backend, or it cannot be loaded.
    NoBackend(String),
    /// Its device does not open.
    NoDevice(String),
    /// A case is begun.
    Begun,
    /// A case was answered.
    Done {
        /// How.
        result: Box<CaseResult>,
        /// How often a fault of the suite's own changed something meanwhile.
        fired: u64,
    },
}

/// Whether this process was started as a worker.
pub fn is_worker() -> bool {
    std::env::var_os(MARK).is_some()
}

/// Answers cases until stdin ends. Of the suite it reads what they need: most workers are asked few of its cases.
///
/// # Errors
/// If stdin or stdout is closed, or a file of the suite cannot be used.
pub fn serve(subject: &Subject, suite: &Suite) -> io::Result<()> {
    let mark = std::env::var(MARK).unwrap_or_default();
    let dump = std::env::var_os(DUMP).map(PathBuf::from);
    let say = |message: &Message| {
        let json = serde_json::to_string(message).expect("messages are plain data");
        let mut out = io::stdout().lock();
        // A plugin may have left a line unfinished.
        write!(out, "\n{mark} {json}\n")?;
        out.flush()
    };
    if let Err(error) = subject.backend() {
        return say(&Message::NoBackend(error.to_string()));
    }
    match subject.info() {
        Ok(info) => say(&Message::Ready(Box::new(info)))?,
        Err(Problem::Fail(failure)) => return say(&Message::NoDevice(failure.message)),
        Err(Problem::Unsupported(reason) | Problem::Blocked(reason)) => return say(&Message::NoDevice(reason)),
    }
    // The default hook prints a trace for each panic, which here is only a wrong answer.
    panic::set_hook(Box::new(|_| {}));
    let mut cases = Finder::new(suite);
    for line in io::stdin().lock().lines() {
        let Some(case) = cases.find(line?.trim()).map_err(io::Error::other)? else { continue };
        say(&Message::Begun)?;
        let fired = || subject.parts.fired.map_or(0, |fired| fired());
        let before = fired();
        let result = Box::new(answer(case, subject, suite, dump.as_deref()));
        say(&Message::Done { result, fired: fired() - before })?;
    }
    Ok(())
}

/// Asks one case in this process.
pub fn answer(case: &Case, subject: &Subject, suite: &Suite, dump: Option<&std::path::Path>) -> CaseResult {
    let clock = Instant::now();
    let context = Context { subject, suite, dump };
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| case.run(&context)))
        .unwrap_or_else(|payload| Err(Problem::fail(format!("panicked: {}", panic_text(&*payload)))));
    let mut result = CaseResult {
        id: case.id.clone(),
        level: case.level,
        profile: case.profile,
        state: State::Pass,
        message: String::new(),
        measures: Vec::new(),
        worst: Vec::new(),
        notes: Vec::new(),
        ms: clock.elapsed().as_secs_f64() * 1e3,
    };
    match outcome {
        Ok(Evidence { measures, notes }) => (result.measures, result.notes) = (measures, notes),
        Err(Problem::Fail(failure)) => {
            result.state = State::Fail;
            (result.message, result.measures, result.worst) = (failure.message, failure.measures, failure.worst);
        }
        Err(Problem::Unsupported(reason)) => (result.state, result.message) = (State::Unsupported, reason),
        Err(Problem::Blocked(reason)) => (result.state, result.message) = (State::Blocked, reason),
    }
    result
}

fn panic_text(payload: &(dyn std::any::Any + Send)) -> &str {
    payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("without a message")
}
