//! The files of `--out`: one function a format.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use quick_junit::{NonSuccessKind, Property, TestCase, TestCaseStatus, TestSuite};
use serde_json::json;
use thiserror::Error;

use super::matrix::Matrix;
use super::{CaseResult, Report, SCHEMA, State, Verdict};
use crate::case::Profile;
use crate::tolerance::MathClass;

/// Most characters of a message that a report for people shows.
const MESSAGE: usize = 2000;
/// Most failures in the summary.
const FAILURES: usize = 50;

/// Why a report cannot be read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReportError {
    /// The file or folder cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file is no report.
    #[error("{}: is no report of the conformance suite: {problem}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        problem: String,
    },
}

impl Report {
    /// Reads a `report.json`.
    ///
    /// # Errors
    /// [`ReportError`], naming the field.
    pub fn read(path: &Path) -> Result<Report, ReportError> {
        let text = fs::read_to_string(path).map_err(|source| ReportError::Io { path: path.to_owned(), source })?;
        let wrong = |problem: String| ReportError::Wrong { path: path.to_owned(), problem };
        let report: Report = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
        if report.schema != SCHEMA {
            return Err(wrong(format!("its schema is `{}`, this program reads `{SCHEMA}`", report.schema)));
        }
        Ok(report)
    }

    /// Writes every format into `folder`, which is made.
    ///
    /// # Errors
    /// [`ReportError::Io`].
    pub fn write_all(&self, folder: &Path) -> Result<(), ReportError> {
        fs::create_dir_all(folder).map_err(|source| ReportError::Io { path: folder.to_owned(), source })?;
        let matrix = Matrix::new(self);
        let files = [
            ("report.json", self.json()),
            ("junit.xml", self.junit()),
            ("report.tap", self.tap()),
            ("summary.md", self.summary()),
            ("matrix.csv", matrix.csv()),
            ("badge.json", self.badge().to_string()),
            ("index.html", super::html::page(self)),
        ];
        for (name, text) in files {
            let path = folder.join(name);
            fs::write(&path, text).map_err(|source| ReportError::Io { path, source })?;
        }
        Ok(())
    }

    fn json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// JUnit: a test suite, a test a case, numbers as properties.
    pub fn junit(&self) -> String {
        let mut report = quick_junit::Report::new("camelid conformance");
        let mut suite = TestSuite::new(format!("camelid.conformance.{}", self.subject.backend));
        for (name, value) in [
            ("backend", format!("{} {}", self.subject.backend, self.subject.version)),
            ("device", self.subject.device.clone()),
            ("suite", self.plan.suite.clone()),
            ("suite digest", self.plan.digest.clone()),
        ] {
            suite.add_property(Property::new(name, plain(&value)));
        }
        for case in &self.cases {
            let mut status = match case.state {
                State::Pass => TestCaseStatus::success(),
                State::Unsupported | State::Waived | State::NotRun => TestCaseStatus::skipped(),
                State::Fail => TestCaseStatus::non_success(NonSuccessKind::Failure),
                State::Crash | State::Timeout | State::Blocked => TestCaseStatus::non_success(NonSuccessKind::Error),
            };
            if case.state != State::Pass {
                status.set_message(format!("{}: {}", told(case.state), plain(&case.message)));
                if case.state.is_failure() {
                    status.set_type(case.state.name()).set_description(plain(&details(case)));
                }
            }
            let mut test = TestCase::new(case.id.clone(), status);
            let group = case.id.split('/').nth(1).unwrap_or_default();
            test.set_classname(format!("camelid.conformance.{}.{group}", case.level));
            test.set_time(std::time::Duration::from_secs_f64((case.ms / 1e3).max(0.0)));
            for m in &case.measures {
                test.add_property(Property::new(format!("{} of {}", m.metric, m.what), format!("{:e}", m.value)));
                test.add_property(Property::new(
                    format!("limit of {} of {}", m.metric, m.what),
                    format!("{:e}", m.limit),
                ));
            }
            suite.add_test_case(test);
        }
        report.add_test_suite(suite);
        report.to_string().unwrap_or_default()
    }

    /// TAP 14, with the plan first.
    pub fn tap(&self) -> String {
        let mut text = format!("TAP version 14\n1..{}\n", self.cases.len());
        for (i, case) in self.cases.iter().enumerate() {
            let ok = matches!(case.state, State::Pass | State::Unsupported | State::Waived);
            let (ok, number) = (if ok { "ok" } else { "not ok" }, i + 1);
            let directive = match case.state {
                State::Unsupported | State::Waived => format!(" # SKIP {}: {}", case.state, line(&case.message)),
                _ => String::new(),
            };
            writeln!(text, "{ok} {number} - {}{directive}", case.id).expect("a string takes everything");
            if ok == "not ok" {
                let details = serde_json::to_string(&details(case)).unwrap_or_default();
                writeln!(text, "  ---\n  state: {}\n  message: {details}\n  ...", case.state).expect("a string");
            }
        }
        text
    }

    /// Markdown for a job's summary page.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        let (subject, plan) = (&self.subject, &self.plan);
        let write = |text: &mut String, line: &str| {
            text.push_str(line);
            text.push('\n');
        };
        write(
            &mut text,
            &format!("# {} {}: {}\n", cell(&subject.backend), cell(&subject.version), self.verdict.told()),
        );
        write(
            &mut text,
            &format!(
                "{} ({}), suite {}: {} of {} cases in {:.1} s\n",
                cell(&subject.device),
                cell(&subject.way),
                plan.suite,
                plan.planned,
                plan.total,
                self.seconds
            ),
        );
        for error in &self.errors {
            write(&mut text, &format!("- **error**: {}", cell(error)));
        }
        write(&mut text, "\n| profile | passed | required | unsupported | coverage |\n|---|---|---|---|---|");
        for score in self.scores() {
            write(
                &mut text,
                &format!(
                    "| {}{} | {} | {} | {} | {:.0} % |",
                    score.profile,
                    if score.claimed { " (claimed)" } else { "" },
                    score.passed,
                    score.required,
                    score.unsupported,
                    100.0 * score.coverage()
                ),
            );
        }
        let failures: Vec<&CaseResult> =
            self.cases.iter().filter(|c| c.state.is_failure() || c.state == State::Blocked).collect();
        if !failures.is_empty() {
            write(&mut text, &format!("\n## {} failures\n\n| case | state | message |\n|---|---|---|", failures.len()));
            for case in failures.iter().take(FAILURES) {
                write(&mut text, &format!("| `{}` | {} | {} |", case.id, case.state, cell(&case.message)));
            }
            if failures.len() > FAILURES {
                write(&mut text, &format!("\nand {} more", failures.len() - FAILURES));
            }
        }
        write(&mut text, "\n## What is supported\n");
        text.push_str(&Matrix::new(self).markdown());
        let mut margins: Vec<(f64, &str)> = self
            .cases
            .iter()
            .filter(|c| c.state == State::Pass)
            .filter_map(|c| Some((c.margin()?, c.id.as_str())))
            .collect();
        margins.sort_by(|a, b| a.0.total_cmp(&b.0));
        write(&mut text, "\n## Smallest margins (limit over value)\n\n| case | margin |\n|---|---|");
        for (margin, id) in margins.iter().take(10) {
            write(&mut text, &format!("| `{id}` | {margin:.2} |"));
        }
        let mut slow: Vec<&CaseResult> = self.cases.iter().collect();
        slow.sort_by(|a, b| b.ms.total_cmp(&a.ms));
        write(&mut text, "\n## Slowest\n\n| case | ms |\n|---|---|");
        for case in slow.iter().take(5) {
            write(&mut text, &format!("| `{}` | {:.0} |", case.id, case.ms));
        }
        for (glob, class) in &self.claims.classes {
            write(&mut text, &format!("\n- math class `{class}` is claimed for `{}`", cell(glob)));
        }
        for w in &self.claims.waivers {
            write(
                &mut text,
                &format!(
                    "\n- waived until {}: `{}`: {} ({})",
                    cell(&w.expires),
                    cell(&w.case),
                    cell(&w.reason),
                    cell(&w.issue)
                ),
            );
        }
        text
    }

    /// The badge, for shields' endpoint.
    pub fn badge(&self) -> serde_json::Value {
        let loose = self.claims.classes.values().any(|c| *c > MathClass::F32);
        let color = match self.verdict {
            Verdict::Conformant if loose || !self.claims.waivers.is_empty() => "yellow",
            Verdict::Conformant => "brightgreen",
            Verdict::NonConformant => "red",
            _ => "lightgrey",
        };
        let scores = self.scores();
        let mut parts: Vec<String> = Vec::new();
        for score in &scores {
            parts.push(match (score.profile, score.required - score.passed) {
                (Profile::Core, _) => format!("core {}/{}", score.passed, score.required),
                (profile, 0) => format!("{profile} \u{2713}"),
                (profile, missing) if score.unsupported == missing => {
                    format!("{profile} {:.0} % ({missing} unsupported)", 100.0 * score.coverage())
                }
                (profile, _) => format!("{profile} {}/{}", score.passed, score.required),
            });
        }
        if self.plan.filter.is_some() {
            parts.push("partial".into());
        }
        let message = format!("{} | {}", self.plan.suite, parts.join(" \u{b7} "));
        json!({"schemaVersion": 1, "label": "camelid conformance", "message": message, "color": color})
    }

    /// What came of each profile of the plan.
    pub fn scores(&self) -> Vec<Score> {
        let mut scores = Vec::new();
        for profile in Profile::ALL {
            let cases: Vec<_> = self.cases.iter().filter(|c| c.profile == profile).collect();
            if cases.is_empty() {
                continue;
            }
            let count = |state| cases.iter().filter(|c| c.state == state).count();
            scores.push(Score {
                profile,
                claimed: self.claims.profiles.contains(&profile),
                passed: count(State::Pass),
                required: cases.len(),
                unsupported: count(State::Unsupported),
            });
        }
        scores
    }
}

/// What came of a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Score {
    /// The profile.
    pub profile: Profile,
    /// Whether it is claimed.
    pub claimed: bool,
    /// Cases passed.
    pub passed: usize,
    /// Cases planned.
    pub required: usize,
    /// Cases unsupported.
    pub unsupported: usize,
}

impl Score {
    /// The part that is supported.
    pub fn coverage(&self) -> f64 {
        (self.required - self.unsupported) as f64 / self.required.max(1) as f64
    }
}

impl Verdict {
    /// The verdict in words.
    pub fn told(self) -> &'static str {
        match self {
            Verdict::Conformant => "conformant",
            Verdict::PartialPass => "passes what was asked (partial)",
            Verdict::NonConformant => "not conformant",
            Verdict::Nothing => "nothing was executed",
            Verdict::Blocked => "blocked",
            Verdict::Corrupt => "the results do not match the plan",
        }
    }
}

fn told(state: State) -> String {
    match state {
        State::Unsupported => "unsupported (declared, probed)".into(),
        other => other.to_string(),
    }
}

/// A failure with its numbers, on several lines.
pub(super) fn details(case: &CaseResult) -> String {
    let mut text = case.message.clone();
    for m in &case.measures {
        write!(text, "\n{}: {} {:.3e}, limit {:.3e}, margin {:.3}", m.what, m.metric, m.value, m.limit, m.margin())
            .expect("a string takes everything");
    }
    for w in &case.worst {
        write!(text, "\n{}{:?}: {} should be {}", w.output, w.index, w.actual, w.expected).expect("a string");
    }
    text
}

/// Text as XML takes it, cut where it is long.
pub(super) fn plain(text: &str) -> String {
    let fits = |c: char| !c.is_control() || c == '\n' || c == '\t';
    text.chars().map(|c| if fits(c) { c } else { '\u{fffd}' }).take(MESSAGE).collect()
}

/// The same on one line.
fn line(text: &str) -> String {
    plain(text).replace(['\n', '\t', '#'], " ")
}

/// The same inside a Markdown table.
fn cell(text: &str) -> String {
    let text = plain(text).replace(['\n', '\t'], " ");
    text.replace('\\', "\\\\").replace('|', "\\|").replace('`', "'").replace('<', "&lt;").replace('>', "&gt;")
}
