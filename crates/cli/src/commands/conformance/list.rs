//! `camelid conformance list` and `plan`: the cases, and how many.

use std::collections::BTreeMap;
use std::process::ExitCode;

use camelid_conformance::{Level, Profile};
use clap::Args;
use serde_json::{Value, json};

use super::{Failed, SelectionFlags, SuiteFlags};

/// List the cases
#[derive(Args, Debug)]
pub struct List {
    #[command(flatten)]
    selection: SelectionFlags,
    #[command(flatten)]
    suite: SuiteFlags,
    /// Print a JSON array with what each case is for
    #[arg(long)]
    json: bool,
}

impl List {
    pub fn run(self) -> Result<ExitCode, Failed> {
        let (suite, selection) = (self.suite.open()?, self.selection.selection());
        let mut cases = suite.cases()?;
        if self.selection.profile.is_empty() {
            // A list leaves nothing out unless asked to.
            cases.retain(|c| c.profile == Profile::Real || selection.includes(c));
        } else {
            cases.retain(|c| selection.includes(c));
        }
        if self.json {
            let list: Vec<Value> = cases
                .iter()
                .map(|c| json!({"id": c.id, "level": c.level, "profile": c.profile, "about": c.about}))
                .collect();
            outln!("{}", serde_json::to_string_pretty(&list).map_err(Failed::usage)?);
        } else {
            for case in &cases {
                outln!("{}", case.id);
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Count the cases that a run would ask
#[derive(Args, Debug)]
pub struct Plan {
    #[command(flatten)]
    selection: SelectionFlags,
    #[command(flatten)]
    suite: SuiteFlags,
}

impl Plan {
    pub fn run(self) -> Result<ExitCode, Failed> {
        let (suite, selection) = (self.suite.open()?, self.selection.selection());
        let cases = suite.cases()?;
        let mut counts: BTreeMap<(Level, Profile), usize> = BTreeMap::new();
        for case in cases.iter().filter(|c| selection.includes(c)) {
            *counts.entry((case.level, case.profile)).or_default() += 1;
        }
        outln!("suite {} ({} cases, digest {})", suite.version(), cases.len(), &suite.digest()[..16]);
        outln!("{:<10} {}", "level", Profile::ALL.map(|p| format!("{:>6}", p.name())).join(" "));
        for level in Level::ALL {
            let row = Profile::ALL.map(|p| counts.get(&(level, p)).copied().unwrap_or(0));
            if row.iter().sum::<usize>() > 0 {
                outln!("{:<10} {}", level.name(), row.map(|n| format!("{n:>6}")).join(" "));
            }
        }
        outln!("planned: {}", counts.values().sum::<usize>());
        Ok(ExitCode::SUCCESS)
    }
}
