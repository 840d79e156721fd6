//! [`Report`]: what a run found, as data; the forms in which people and machines read it are one file each.

mod check;
mod formats;
mod html;
mod judge;
pub mod matrix;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use check::{Diff, diff, verify};
pub use formats::{ReportError, Score};

use crate::case::{Level, Measure, Profile};
use crate::compare::Worst;
use crate::tolerance::MathClass;

/// The `schema` of reports made by this version.
pub const SCHEMA: &str = "camelid-conformance-report/1";

/// How a case ended. Every planned case ends in exactly one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// The answer is right.
    Pass,
    /// The answer is wrong.
    Fail,
    /// The process ended.
    Crash,
    /// No answer came in time.
    Timeout,
    /// The backend declared that it does not compute this, and refused when asked.
    Unsupported,
    /// The answer is wrong, and the backend's authors said so before, with a reason and a date.
    Waived,
    /// The question could not be asked.
    Blocked,
    /// The run ended before.
    NotRun,
}

impl State {
    /// Every state.
    pub const ALL: [State; 8] = [
        State::Pass,
        State::Fail,
        State::Crash,
        State::Timeout,
        State::Unsupported,
        State::Waived,
        State::Blocked,
        State::NotRun,
    ];

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            State::Pass => "pass",
            State::Fail => "fail",
            State::Crash => "crash",
            State::Timeout => "timeout",
            State::Unsupported => "unsupported",
            State::Waived => "waived",
            State::Blocked => "blocked",
            State::NotRun => "not-run",
        }
    }

    /// Whether the case counts against the backend.
    pub fn is_failure(self) -> bool {
        matches!(self, State::Fail | State::Crash | State::Timeout)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How one case ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CaseResult {
    /// The case.
    pub id: String,
    /// Its level.
    pub level: Level,
    /// Its profile.
    pub profile: Profile,
    /// How it ended.
    pub state: State,
    /// Why, for every state but a pass.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The numbers held against limits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub measures: Vec<Measure>,
    /// The elements farthest off, of a failure.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub worst: Vec<Worst>,
    /// What is worth telling.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// How long it took, in milliseconds.
    pub ms: f64,
}

impl CaseResult {
    /// The smallest margin of its measures.
    pub fn margin(&self) -> Option<f64> {
        self.measures.iter().map(Measure::margin).min_by(f64::total_cmp)
    }
}

/// What was tested.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SubjectInfo {
    /// The backend's name.
    pub backend: String,
    /// Its version.
    pub version: String,
    /// How it was reached: `linked`, `loopback`, `plugin`.
    pub way: String,
    /// The plugin's library: its file name.
    pub library: Option<String>,
    /// The library's SHA-256.
    pub sha256: Option<String>,
    /// The device, as the backend describes it.
    pub device: String,
    /// `cpu`, `gpu` or `accelerator`.
    pub device_kind: String,
    /// What the device was opened with.
    pub options: BTreeMap<String, String>,
}

/// Which cases were to be run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PlanInfo {
    /// The suite's version.
    pub suite: String,
    /// SHA-256 over the suite's lists and files.
    pub digest: String,
    /// Cases in the suite.
    pub total: usize,
    /// Cases planned for this run.
    pub planned: usize,
    /// The profiles planned.
    pub profiles: Vec<Profile>,
    /// `--level` and `-k`, if any were given: such a run is partial.
    pub filter: Option<String>,
}

/// What the backend claims.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClaimsInfo {
    /// Profiles claimed: nothing in them may be unsupported.
    pub profiles: Vec<Profile>,
    /// Math classes declared, by glob over case ids.
    pub classes: BTreeMap<String, MathClass>,
    /// Waivers: glob, reason, issue, expiry.
    pub waivers: Vec<WaiverInfo>,
}

/// A waiver as the report shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WaiverInfo {
    /// Glob over case ids.
    pub case: String,
    /// Why.
    pub reason: String,
    /// Where it is tracked.
    pub issue: String,
    /// The last day on which it holds, `YYYY-MM-DD`.
    pub expires: String,
}

/// Where it ran.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MachineInfo {
    /// `linux`, `macos`, `windows`.
    pub os: String,
    /// `x86_64`, `aarch64`.
    pub arch: String,
    /// Processors the run could use.
    pub cpus: usize,
}

/// The verdict on the run as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Everything planned passed, is unsupported as declared, or waived.
    Conformant,
    /// The same for the part that was asked for.
    PartialPass,
    /// Something is wrong.
    NonConformant,
    /// Nothing was executed.
    Nothing,
    /// The device or a fixture was not there.
    Blocked,
    /// The plan and the results do not agree, or the suite is damaged.
    Corrupt,
}

impl Verdict {
    /// The exit code of `camelid conformance run`.
    pub fn exit_code(self) -> u8 {
        match self {
            Verdict::Conformant => 0,
            Verdict::NonConformant => 1,
            Verdict::Corrupt => 3,
            Verdict::Nothing => 4,
            Verdict::Blocked => 5,
            Verdict::PartialPass => 6,
        }
    }
}

/// What a run found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: String,
    /// Camelid's version.
    pub camelid: String,
    /// When the run began, RFC 3339.
    pub started: String,
    /// How long it took.
    pub seconds: f64,
    /// What was tested.
    pub subject: SubjectInfo,
    /// Where.
    pub machine: MachineInfo,
    /// What was to be run.
    pub plan: PlanInfo,
    /// What the backend claims.
    pub claims: ClaimsInfo,
    /// Cases by state; states without cases have 0.
    pub totals: BTreeMap<State, usize>,
    /// What is wrong with the run itself: a stale claim, a waived case that passes, an expired waiver.
    pub errors: Vec<String>,
    /// The verdict.
    pub verdict: Verdict,
    /// Every planned case, in the order of the plan.
    pub cases: Vec<CaseResult>,
}
