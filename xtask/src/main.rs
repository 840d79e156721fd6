//! Camelid's development tasks, run as `cargo xtask TASK`.
//!
//! `ci` is exactly what continuous integration runs, so that a green run here is a green run there; its steps are listed
//! in `ci.rs`, and the rules that no other tool checks in `rules.rs`. Nothing here is part of what users install.
// A program for people at a terminal: what it prints is what it is for.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod ci;
mod fetch;
mod freeze;
mod header;
mod matrix;
mod rules;
mod steps;

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "\
Usage: cargo xtask TASK

  ci                 everything that continuous integration runs, stopping at the first failure
  test [ARGUMENTS]   the tests: all of them, or `cargo nextest run ARGUMENTS` (`cargo test` where there is no nextest)
  conformance        the conformance suite on every backend of the repository, and the suite's own test
  example-c          the tests of the example backend in C
  fetch              the files that tests need from outside the repository, into the cache (see CAMELID_CACHE)
  freeze             the example plugins as built today, into conformance/frozen
  header [--check]   the C header of the plugin interface: write it, or check that it is up to date
  matrix             the table of README.md, from the reports that `conformance` left
  rules              the rules on licences, lints, dependencies and `unsafe`, checked over the whole tree
";

fn main() -> ExitCode {
    let arguments: Vec<String> = match env::args_os().skip(1).map(|argument| argument.into_string()).collect() {
        Ok(arguments) => arguments,
        Err(argument) => return usage(&format!("argument {} is not UTF-8", argument.display())),
    };
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let root = root();
    match words.as_slice() {
        ["ci"] => steps::run(&root, &ci::all()),
        ["test", rest @ ..] => steps::run(&root, &ci::tests(rest)),
        ["fetch"] => report(fetch::run()),
        ["freeze"] => report(freeze::run(&root)),
        ["conformance"] => report(ci::conformance(&root)),
        ["example-c"] => report(ci::example_c(&root)),
        ["matrix"] => report(matrix::run(&root)),
        ["header"] => report(header::write(&root)),
        ["header", "--check"] => report(header::check(&root)),
        ["rules"] => report(rules::run(&root)),
        ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            ExitCode::SUCCESS
        }
        [] => usage("no task is given"),
        [task @ ("ci" | "conformance" | "example-c" | "fetch" | "freeze" | "matrix" | "rules"), ..] => {
            usage(&format!("`{task}` takes no arguments"))
        }
        [task, ..] => usage(&format!("there is no task `{task}`")),
    }
}

fn report(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("error: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn usage(problem: &str) -> ExitCode {
    eprint!("error: {problem}\n\n{USAGE}");
    ExitCode::from(2)
}

/// The workspace's folder. Cargo says at run time where this package lies; a target folder shared by two clones would
/// make the answer of compile time that of the other clone.
fn root() -> PathBuf {
    let manifest_dir = env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&manifest_dir).parent().expect("xtask lies in the workspace").to_path_buf()
}
