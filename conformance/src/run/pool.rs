//! The parent's side: workers that are watched, killed when they hang, and replaced when they die.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::Event;
use super::worker::{self, Message};
use crate::case::Case;
use crate::report::{CaseResult, State, SubjectInfo};

/// How workers are started: the same program again, told to be one.
#[derive(Clone, Debug)]
pub struct WorkerCommand {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Variables beside those it inherits.
    pub environment: Vec<(OsString, OsString)>,
}

/// How many, and how long they may take.
#[derive(Clone, Copy, Debug)]
pub struct PoolOptions {
    /// Workers at a time.
    pub jobs: usize,
    /// The longest a case may take.
    pub timeout: Duration,
    /// Whether a worker goes on after a wrong answer: for backends that are wrong everywhere, and known not to be damaged by it.
    pub keep_failed: bool,
}

/// Why nothing could be asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// There is no such backend, or it cannot be loaded.
    #[error("{0}")]
    NoBackend(String),
    /// Its device does not open.
    #[error("the device cannot be opened: {0}")]
    NoDevice(String),
    /// The worker process cannot be started.
    #[error("{} cannot be started: {source}", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
}

/// Most bytes of a worker's stderr that a message shows.
const TAIL: usize = 2000;

/// How long a worker may take to load the backend and open its device, whatever the time for a case is.
const START: Duration = Duration::from_secs(60);

/// How often a worker may die before it is ready until the rest is given up.
const START_FAILURES: usize = 3;

struct Worker {
    child: Child,
    stdin: Option<ChildStdin>,
    messages: Receiver<Message>,
    stderr: Arc<Mutex<Vec<u8>>>,
    subject: SubjectInfo,
    /// Cases it answered.
    answered: usize,
    /// How often a fault of the suite's own changed something meanwhile.
    fired: u64,
}

/// Why a worker gave no answer.
enum Silence {
    Ended(String),
    Hung,
}

enum Started {
    Ready(Box<Worker>),
    Died(String),
}

/// Workers for one run.
pub struct Pool {
    command: WorkerCommand,
    options: PoolOptions,
    subject: SubjectInfo,
    idle: Mutex<Vec<Worker>>,
    crash: Option<String>,
    /// Workers that died before they were ready, one after the other.
    failures: AtomicUsize,
    fired: AtomicU64,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("command", &self.command).finish_non_exhaustive()
    }
}

impl Pool {
    /// Starts the first worker.
    ///
    /// # Errors
    /// If there is no backend or device to ask. A backend that ends its process or hangs at once is no error here: the
    /// report says so.
    pub fn start(command: &WorkerCommand, options: PoolOptions) -> Result<Pool, StartError> {
        let (mut idle, mut subject, mut crash) = (Vec::new(), SubjectInfo::default(), None);
        match Worker::start(command)? {
            Started::Ready(worker) => {
                subject = worker.subject.clone();
                idle.push(*worker);
            }
            Started::Died(why) => crash = Some(why),
        }
        Ok(Pool {
            command: command.clone(),
            options,
            subject,
            idle: Mutex::new(idle),
            crash,
            failures: AtomicUsize::new(0),
            fired: AtomicU64::new(0),
        })
    }

    /// What is tested, if it could be loaded.
    pub fn subject(&self) -> Option<&SubjectInfo> {
        self.crash.is_none().then_some(&self.subject)
    }

    /// What the backend did when it was loaded, if that ended its process.
    pub fn startup_crash(&self) -> Option<String> {
        self.crash.clone()
    }

    /// Has every case answered; the results are in the order of the cases.
    pub fn run(&self, cases: &[&Case], hear: &mut dyn FnMut(Event<'_>)) -> Vec<CaseResult> {
        let mut results: Vec<Option<CaseResult>> = cases.iter().map(|_| None).collect();
        let next = AtomicUsize::new(0);
        let (send, receive) = mpsc::channel();
        thread::scope(|scope| {
            for _ in 0..self.options.jobs.clamp(1, cases.len().max(1)) {
                let (send, next) = (send.clone(), &next);
                scope.spawn(move || {
                    while !self.is_given_up() {
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        let Some(case) = cases.get(at) else { return };
                        if send.send((at, self.ask(case))).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(send);
            for (done, (at, result)) in receive.into_iter().enumerate() {
                hear(Event::Done { result: &result, done: done + 1, planned: cases.len() });
                results[at] = Some(result);
            }
        });
        let not_run = |case: &Case| silent(case, State::NotRun, "the run ended before".into(), Duration::ZERO);
        results.into_iter().zip(cases).map(|(result, case)| result.unwrap_or_else(|| not_run(case))).collect()
    }

    /// How often a fault of the suite's own changed something in the cases answered so far.
    pub fn fired(&self) -> u64 {
        self.fired.load(Ordering::Relaxed)
    }

    fn is_given_up(&self) -> bool {
        self.crash.is_some() || self.failures.load(Ordering::Relaxed) >= START_FAILURES
    }

    /// Has one case answered, by an idle worker or a new one.
    pub fn ask(&self, case: &Case) -> CaseResult {
        let clock = Instant::now();
        let idle = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            let fits = idle.iter().rposition(|worker| !case.alone || worker.answered == 0);
            fits.map(|at| idle.swap_remove(at))
        };
        let started = idle.map_or_else(|| Worker::start(&self.command), |worker| Ok(Started::Ready(Box::new(worker))));
        let mut worker = match started {
            Ok(Started::Ready(worker)) => worker,
            Ok(Started::Died(why)) => return self.not_started(case, why, clock),
            Err(error) => return self.not_started(case, error.to_string(), clock),
        };
        self.failures.store(0, Ordering::Relaxed);
        let result = match worker.ask(case, self.options.timeout) {
            Ok(result) => result,
            Err(Silence::Hung) => {
                let message = format!("no answer within {:.0?}; its process was ended", self.options.timeout);
                silent(case, State::Timeout, message, clock.elapsed())
            }
            Err(Silence::Ended(why)) => silent(case, State::Crash, why, clock.elapsed()),
        };
        self.fired.fetch_add(std::mem::take(&mut worker.fired), Ordering::Relaxed);
        // What went wrong may have damaged the process.
        let sound = matches!(result.state, State::Pass | State::Unsupported | State::Blocked)
            || (self.options.keep_failed && result.state == State::Fail);
        if sound && !case.alone {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(*worker);
        }
        result
    }

    fn not_started(&self, case: &Case, why: String, clock: Instant) -> CaseResult {
        self.failures.fetch_add(1, Ordering::Relaxed);
        silent(case, State::Crash, why, clock.elapsed())
    }
}

fn silent(case: &Case, state: State, message: String, after: Duration) -> CaseResult {
    CaseResult {
        id: case.id.clone(),
        level: case.level,
        profile: case.profile,
        state,
        message,
        measures: Vec::new(),
        worst: Vec::new(),
        notes: Vec::new(),
        ms: after.as_secs_f64() * 1e3,
    }
}

impl Worker {
    fn start(command: &WorkerCommand) -> Result<Started, StartError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let mark = format!("@camelid-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut child = Command::new(&command.program)
            .args(&command.arguments)
            .envs(command.environment.iter().cloned())
            .env(worker::MARK, &mark)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| StartError::Spawn { program: command.program.clone(), source })?;
        let (out, err) = (child.stdout.take().expect("it was piped"), child.stderr.take().expect("it was piped"));
        let (send, messages) = mpsc::channel();
        thread::spawn(move || hear(out, &mark, &send));
        let stderr = Arc::new(Mutex::new(Vec::new()));
        let kept = stderr.clone();
        thread::spawn(move || keep_tail(err, &kept));
        let stdin = child.stdin.take();
        let mut worker =
            Worker { child, stdin, messages, stderr, subject: SubjectInfo::default(), answered: 0, fired: 0 };
        match worker.next(START) {
            Ok(Message::Ready(subject)) => {
                worker.subject = *subject;
                Ok(Started::Ready(Box::new(worker)))
            }
            Ok(Message::NoBackend(why)) => Err(StartError::NoBackend(why)),
            Ok(Message::NoDevice(why)) => Err(StartError::NoDevice(why)),
            Ok(_) => Ok(Started::Died("the worker answered before it was asked".into())),
            Err(Silence::Ended(why)) => Ok(Started::Died(format!("while the backend was loaded: {why}"))),
            Err(Silence::Hung) => Ok(Started::Died(format!("the backend was not loaded within {START:.0?}"))),
        }
    }

    fn ask(&mut self, case: &Case, timeout: Duration) -> Result<CaseResult, Silence> {
        if self.stdin.as_mut().is_none_or(|stdin| writeln!(stdin, "{}", case.id).is_err()) {
            return Err(Silence::Ended(self.obituary()));
        }
        let deadline = Instant::now() + timeout;
        loop {
            if let Message::Done { result, fired } = self.next(deadline.saturating_duration_since(Instant::now()))?
                && result.id == case.id
            {
                self.answered += 1;
                self.fired += fired;
                return Ok(*result);
            }
        }
    }

    fn next(&mut self, timeout: Duration) -> Result<Message, Silence> {
        match self.messages.recv_timeout(timeout) {
            Ok(message) => Ok(message),
            Err(RecvTimeoutError::Timeout) => Err(Silence::Hung),
            Err(RecvTimeoutError::Disconnected) => Err(Silence::Ended(self.obituary())),
        }
    }

    /// How the process ended, and the last it said.
    fn obituary(&mut self) -> String {
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut status = None;
        while status.is_none() && Instant::now() < deadline {
            status = self.child.try_wait().ok().flatten();
            thread::sleep(Duration::from_millis(2));
        }
        let how = status.map_or_else(|| "closed its output and went on".to_owned(), describe);
        let before = match self.answered {
            0 => "in its first case".to_owned(),
            n => format!("after {n} cases"),
        };
        // The thread that reads stderr may be a moment behind.
        thread::sleep(Duration::from_millis(20));
        let tail = self.stderr.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let tail = String::from_utf8_lossy(&tail).trim().to_owned();
        let said = if tail.is_empty() { String::new() } else { format!("; it said: {tail}") };
        format!("the process {how}, {before}{said}")
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // A worker that is idle ends with its input; another one is not waited for.
        drop(self.stdin.take());
        let deadline = Instant::now() + Duration::from_millis(500);
        while Instant::now() < deadline {
            if let Ok(Some(_)) = self.child.try_wait() {
                return;
            }
            thread::sleep(Duration::from_millis(2));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn describe(status: ExitStatus) -> String {
    #[cfg(unix)]
    {
        use std::os::unix::process::ExitStatusExt;
        if let Some(signal) = status.signal() {
            let name = match signal {
                4 => " (SIGILL)",
                6 => " (SIGABRT)",
                7 => " (SIGBUS)",
                8 => " (SIGFPE)",
                9 => " (SIGKILL)",
                11 => " (SIGSEGV)",
                _ => "",
            };
            return format!("was ended by signal {signal}{name}");
        }
    }
    status.code().map_or_else(|| "ended".to_owned(), |code| format!("exited with status {code}"))
}

/// Passes on the lines that begin with the mark.
fn hear(out: impl Read, mark: &str, send: &mpsc::Sender<Message>) {
    let mut lines = BufReader::new(out);
    let mut line = Vec::new();
    loop {
        line.clear();
        match lines.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&line);
        let Some(json) = text.strip_prefix(mark) else { continue };
        match serde_json::from_str(json.trim()) {
            Ok(message) => {
                if send.send(message).is_err() {
                    return;
                }
            }
            Err(error) => tracing::warn!("a worker's line cannot be read: {error}"),
        }
    }
}

fn keep_tail(mut err: impl Read, kept: &Mutex<Vec<u8>>) {
    let mut piece = [0; 4096];
    while let Ok(count) = err.read(&mut piece) {
        if count == 0 {
            return;
        }
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend_from_slice(&piece[..count]);
        let over = kept.len().saturating_sub(TAIL);
        kept.drain(..over);
    }
}
