//! `camelid conformance new-case`: where a found bug becomes a case.

use std::process::ExitCode;

use camelid_conformance::Level;
use clap::Args;

use super::Failed;

/// Write the beginning of a new case
///
/// Prints a case of level op or module, ready to be put into a file of the suite; its expectation then comes from
/// conformance/reference, never from a backend.
#[derive(Args, Debug)]
pub struct NewCase {
    /// Its id: op/OPERATION/TYPE/WHAT or module/MODULE/WHAT
    id: String,
    /// What a failure would mean, in a line
    #[arg(long, default_value = "")]
    about: String,
}

impl NewCase {
    pub fn run(self) -> Result<ExitCode, Failed> {
        let mut parts = self.id.split('/');
        let level = parts.next().and_then(Level::from_name);
        let group = parts.next().unwrap_or_default();
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_./-".contains(c);
        if !matches!(level, Some(Level::Op | Level::Module)) || group.is_empty() || parts.next().is_none() {
            return Err(Failed::usage(format!(
                "`{}`: an id is op/OPERATION/TYPE/WHAT or module/MODULE/WHAT; other levels are Rust, in \
                 conformance/src/levels",
                self.id
            )));
        }
        if !self.id.chars().all(plain) {
            return Err(Failed::usage(format!("`{}`: an id has lower-case letters, digits, _ . - and /", self.id)));
        }
        let op = if level == Some(Level::Op) { group } else { "rms_norm" };
        let about = self.about.replace(['"', '\\'], "'");
        outln!(
            "[[case]]\nid = \"{}\"\nabout = \"{about}\"\nprofiles = [\"core\"]\nclass = \"f32\"\nvalues = [\n  \
             {{ name = \"x\", kind = \"input\", dtype = \"f32\", shape = [\"T\", 88], gen = \"normal\", scale = 1.0, seed = 17 \
             }},\n]\nnodes = [ {{ op = \"{op}\", inputs = [\"x\"], outputs = [\"y\"], attrs = {{ }} }} ]\n[[case.step]]\n\
             symbols = {{ T = 5 }}\nexpect = [ {{ output = \"y\" }} ]",
            self.id
        );
        eprintln!(
            "Add it in conformance/reference (op_cases.py or module_cases.py), which computes what it expects, then run\n  \
             python conformance/reference/make.py --out conformance/suite --only {}/{group}\n  \
             cargo run -p camelid-conformance --example bless",
            level.map_or("op", Level::name)
        );
        Ok(ExitCode::SUCCESS)
    }
}
