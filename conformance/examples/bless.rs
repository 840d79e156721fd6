//! Writes the must-pass lists and `SUITE.toml` of `conformance/suite` anew, after cases or their files changed:
//! `cargo run -p camelid-conformance --example bless`. What changed is reviewed as a diff.

#![allow(clippy::print_stderr, reason = "a program tells what it did")]

use std::process::ExitCode;

use camelid_conformance::{fixtures, suite};

fn main() -> ExitCode {
    match suite::bless(&fixtures::suite_dir(), suite::VERSION) {
        Ok(cases) => {
            eprintln!("{cases} cases");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
