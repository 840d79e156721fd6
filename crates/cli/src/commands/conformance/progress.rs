//! The live line of a run, and a line for each case that fails.

use camelid_conformance::State;
use camelid_conformance::report::CaseResult;
use camelid_conformance::run::Event;
use indicatif::{ProgressBar, ProgressStyle};

/// Most characters of a failure's message on the terminal; reports have it whole.
const MESSAGE: usize = 400;

/// Shows how far a run is, on stderr, if somebody is looking.
pub struct Progress {
    bar: ProgressBar,
    failed: usize,
    quiet: bool,
}

impl Progress {
    /// Without the live line if `quiet`.
    pub fn new(quiet: bool) -> Progress {
        let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::new(0) };
        let template = "{bar:30} {pos}/{len} {elapsed} {wide_msg}";
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        Progress { bar, failed: 0, quiet }
    }

    /// Takes note.
    pub fn hear(&mut self, event: &Event<'_>) {
        match event {
            Event::Ready(subject) if !self.quiet => self.bar.suspend(|| {
                eprintln!("{} {} on {} ({})", subject.backend, subject.version, subject.device, subject.way);
            }),
            Event::Ready(_) => {}
            Event::Done { result, done, planned } => {
                self.bar.set_length(*planned as u64);
                self.bar.set_position(*done as u64);
                if result.state.is_failure() || result.state == State::Blocked {
                    self.failed += 1;
                    self.bar.suspend(|| eprintln!("{}", line(result)));
                }
                let failed = if self.failed > 0 { format!("{} failed; ", self.failed) } else { String::new() };
                self.bar.set_message(format!("{failed}{}", result.id));
            }
        }
    }

    /// Clears the live line.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// A result on one line: `fail op/rope/f32/t5: y: max/rms is ...`.
pub fn line(result: &CaseResult) -> String {
    let message: String = result.message.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MESSAGE).collect();
    format!("{} {}: {message}", result.state, result.id)
}
