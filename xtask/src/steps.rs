//! Runs steps one after another, says which one failed and how to repeat it, and how long each took.

use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

/// A named piece of work.
pub struct Step {
    name: &'static str,
    action: Action,
    note: Option<&'static str>,
}

enum Action {
    Cargo {
        arguments: Vec<String>,
        env: Vec<(&'static str, &'static str)>,
    },
    /// Repeated by `cargo xtask NAME`.
    Own(fn(&Path) -> Result<(), String>),
}

impl Step {
    /// A cargo command, run in the workspace's folder.
    pub fn cargo(name: &'static str, arguments: &[&str]) -> Step {
        let arguments = arguments.iter().map(ToString::to_string).collect();
        Step { name, action: Action::Cargo { arguments, env: vec![] }, note: None }
    }

    /// A task of this program of the same name; it is given the workspace's folder.
    pub fn own(name: &'static str, task: fn(&Path) -> Result<(), String>) -> Step {
        Step { name, action: Action::Own(task), note: None }
    }

    /// Sets a variable for a cargo command.
    pub fn env(mut self, key: &'static str, value: &'static str) -> Step {
        if let Action::Cargo { env, .. } = &mut self.action {
            env.push((key, value));
        }
        self
    }

    /// Something to know, printed when the step starts and when all are done.
    pub fn note(mut self, note: &'static str) -> Step {
        self.note = Some(note);
        self
    }

    /// What a person types to run this step alone.
    fn command(&self) -> String {
        match &self.action {
            Action::Own(_) => format!("cargo xtask {}", self.name),
            Action::Cargo { arguments, env } => {
                let env = env.iter().map(|(key, value)| format!("{key}={} ", quoted(value)));
                let arguments = arguments.iter().map(|argument| format!(" {}", quoted(argument)));
                env.chain(["cargo".to_string()]).chain(arguments).collect()
            }
        }
    }

    fn run(&self, root: &Path) -> Result<(), String> {
        let (arguments, env) = match &self.action {
            Action::Own(task) => return task(root),
            Action::Cargo { arguments, env } => (arguments, env),
        };
        let mut command = Command::new(cargo());
        command.args(arguments).envs(env.iter().copied()).current_dir(root);
        match command.status() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("cargo ended with {status}")),
            Err(error) => Err(format!("cargo cannot be started: {error}")),
        }
    }
}

/// The cargo that runs this program, so that all steps use the same toolchain.
pub fn cargo() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Runs the steps up to the first that fails, then prints a table of what ran.
pub fn run(root: &Path, steps: &[Step]) -> ExitCode {
    let mut rows = Vec::new();
    let mut failed = None;
    for (index, step) in steps.iter().enumerate() {
        eprintln!("\n==> {}/{} {}: {}", index + 1, steps.len(), step.name, step.command());
        if let Some(note) = step.note {
            eprintln!("note: {note}");
        }
        let start = Instant::now();
        let result = step.run(root);
        rows.push((step.name, Some(start.elapsed()), if result.is_ok() { "ok" } else { "FAILED" }));
        if let Err(problem) = result {
            eprintln!("error: {}: {problem}", step.name);
            failed = Some(step);
            break;
        }
    }
    rows.extend(steps[rows.len()..].iter().map(|step| (step.name, None, "not run")));
    println!("\n{}", table(&rows));
    for note in steps.iter().filter_map(|step| step.note) {
        println!("note: {note}");
    }
    let Some(step) = failed else { return ExitCode::SUCCESS };
    eprintln!("{} failed. To repeat it alone: {}", step.name, step.command());
    ExitCode::FAILURE
}

fn table(rows: &[(&str, Option<Duration>, &str)]) -> String {
    let width = rows.iter().map(|(name, ..)| name.len()).max().unwrap_or(0);
    let seconds = |time: &Option<Duration>| time.map_or("-".into(), |time| format!("{:.1} s", time.as_secs_f64()));
    let mut lines: Vec<String> =
        rows.iter().map(|(name, time, result)| format!("{name:width$}  {:>9}  {result}", seconds(time))).collect();
    let total: Duration = rows.iter().filter_map(|(_, time, _)| *time).sum();
    lines.push(format!("{:width$}  {:>9}", "total", seconds(&Some(total))));
    lines.join("\n")
}

/// In single quotes where a shell would split or expand it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.into() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_can_be_pasted_into_a_shell() {
        let step = Step::cargo("docs", &["doc", "--no-deps", "it's"]).env("RUSTDOCFLAGS", "-D warnings");
        assert_eq!(step.command(), r"RUSTDOCFLAGS='-D warnings' cargo doc --no-deps 'it'\''s'");
        assert_eq!(Step::own("rules", |_| Ok(())).command(), "cargo xtask rules");
    }

    #[test]
    fn a_failed_step_is_an_error_that_gives_cargos_status() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        assert_eq!(Step::cargo("version", &["--version"]).run(root), Ok(()));
        let problem = Step::cargo("nothing", &["no-such-subcommand"]).run(root).unwrap_err();
        assert!(problem.contains("exit status: 101"), "{problem}");
    }

    #[test]
    fn the_first_failure_ends_the_run() {
        let steps = [
            Step::own("fails", |_| Err("as it should".into())),
            Step::own("never", |_| panic!("a step after the failed one was run")),
        ];
        assert_eq!(run(Path::new("."), &steps), ExitCode::FAILURE);
        assert_eq!(run(Path::new("."), &[Step::own("passes", |_| Ok(()))]), ExitCode::SUCCESS);
    }

    #[test]
    fn the_table_lists_every_step() {
        let text = table(&[("format", Some(Duration::from_millis(1250)), "ok"), ("docs", None, "not run")]);
        assert_eq!(text, "format      1.2 s  ok\ndocs            -  not run\ntotal       1.2 s");
    }
}
