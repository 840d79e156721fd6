//! In the parent: runs the check of a backend, listens to it, and ends it when it takes too long.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::probe::{MARK, Report, Step, Works};

/// Most bytes of a line; more than 4096 devices take.
const MAX_LINE: u64 = 1 << 22;
/// How many of a backend's last lines are shown, and how many characters of each.
const LAST_LINES: usize = 5;
const LINE_CHARS: usize = 300;
/// How long the child's output is waited for once it has ended: a process that the plugin left behind may keep the pipes
/// open. Also how long a child that was killed may take to go.
const AFTER_END: Duration = Duration::from_secs(2);

/// Why a backend cannot be used.
#[derive(Debug, Default)]
pub(super) struct Fault {
    pub(super) error: String,
    /// Where it ended the process or hung, if it did.
    pub(super) step: Option<Step>,
    /// Its last lines, if it ended the process or hung.
    pub(super) said: Vec<String>,
}

impl From<String> for Fault {
    fn from(error: String) -> Fault {
        Fault { error, ..Fault::default() }
    }
}

/// How the child ended.
enum End {
    Itself(ExitStatus),
    Killed,
    /// It was killed, and is still there.
    Stuck(u32),
}

/// What was heard from the child so far.
#[derive(Default)]
struct Heard {
    step: Option<Step>,
    verdict: Option<Result<Works, String>>,
    said: VecDeque<String>,
}

impl Heard {
    fn line(&mut self, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        let line = line.trim();
        match line.strip_prefix(MARK).and_then(|json| serde_json::from_str(json).ok()) {
            Some(Report::Step(step)) => self.step = Some(step),
            Some(Report::Works(works)) => self.verdict = Some(Ok(works)),
            Some(Report::Fails(error)) => self.verdict = Some(Err(error)),
            None if line.is_empty() => {}
            None => {
                if self.said.len() == LAST_LINES {
                    self.said.pop_front();
                }
                self.said.push_back(line.chars().take(LINE_CHARS).collect());
            }
        }
    }

    fn judge(self, end: End, limit: Duration) -> Result<Works, Fault> {
        let doing = self.step.map_or_else(|| "before its check began".into(), |step| format!("while {step}"));
        let limit = limit.as_secs();
        // A verdict counts once the child came to its last step: a plugin may call `exit` on the way there.
        let to_the_end = self.step == Some(Step::End);
        let how = match (end, self.verdict) {
            (End::Itself(status), Some(verdict)) if status.success() && to_the_end => {
                return verdict.map_err(Fault::from);
            }
            (End::Itself(status), verdict) => (format!("it ended the process {doing}: {}", how(status)), verdict),
            (End::Killed, verdict) => {
                (format!("it hangs {doing}: nothing came of it in {limit} s; it was ended"), verdict)
            }
            (End::Stuck(id), verdict) => (
                format!("it hangs {doing}: nothing came of it in {limit} s, and process {id} does not end when killed"),
                verdict,
            ),
        };
        let error = match how {
            (how, Some(Err(error))) => format!("{error}; then {how}"),
            (how, _) => how,
        };
        Err(Fault { error, step: self.step, said: self.said.into() })
    }
}

/// Runs the check of a backend, for at most `limit`.
pub(super) fn examine(mut command: Command, limit: Duration) -> Result<Works, Fault> {
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.map_err(|error| format!("its check cannot be started: {error}"))?;
    let heard = Arc::new(Mutex::new(Heard::default()));
    let pipes = [listen(child.stdout.take(), &heard), listen(child.stderr.take(), &heard)];
    let end = wait(&mut child, limit);
    let ended = Instant::now();
    for pipe in pipes {
        // An error says that the pipe was read to its end.
        let _ = pipe.recv_timeout(AFTER_END.saturating_sub(ended.elapsed()));
    }
    let heard = std::mem::take(&mut *heard.lock().unwrap_or_else(PoisonError::into_inner));
    heard.judge(end, limit)
}

/// Reads a pipe line by line in a thread of its own, so that a child that says much is not kept waiting. The receiver is
/// cut off at the pipe's end.
fn listen(pipe: Option<impl Read + Send + 'static>, heard: &Arc<Mutex<Heard>>) -> Receiver<()> {
    let (at_end, receiver) = channel();
    let heard = heard.clone();
    std::thread::spawn(move || {
        let _at_end = at_end;
        let Some(pipe) = pipe else { return };
        let (mut pipe, mut line) = (BufReader::new(pipe), Vec::new());
        while let Ok(1..) = (&mut pipe).take(MAX_LINE).read_until(b'\n', &mut line) {
            heard.lock().unwrap_or_else(PoisonError::into_inner).line(&line);
            line.clear();
        }
    });
    receiver
}

/// Waits for `child`, and kills it if it takes too long.
fn wait(child: &mut Child, limit: Duration) -> End {
    if let Some(status) = wait_until(child, Instant::now() + limit) {
        return End::Itself(status);
    }
    let _ = child.kill();
    // A process that waits for a driver may not even die.
    match wait_until(child, Instant::now() + AFTER_END) {
        Some(_) => End::Killed,
        None => End::Stuck(child.id()),
    }
}

fn wait_until(child: &mut Child, deadline: Instant) -> Option<ExitStatus> {
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// How a process ended, with the usual name of the signals whose numbers are the same everywhere.
fn how(status: ExitStatus) -> String {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        let name = match signal {
            4 => " (illegal instruction)",
            5 => " (trap)",
            6 => " (abort)",
            8 => " (arithmetic error)",
            9 => " (killed; was there too little memory?)",
            11 => " (segmentation fault)",
            _ if signal == bus_error() => " (bus error)",
            _ => "",
        };
        return format!("signal {signal}{name}");
    }
    status.to_string()
}

#[cfg(unix)]
const fn bus_error() -> i32 {
    if cfg!(target_os = "linux") { 7 } else { 10 }
}
