//! What changed between two reports, and whether one can be believed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use jiff::Timestamp;
use jiff::civil::Date;

use super::{CaseResult, Report, State, Verdict};
use crate::suite::{Suite, SuiteError};

/// What changed between two reports.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Diff {
    /// Cases that fail now and did not.
    pub broken: Vec<String>,
    /// Cases that pass now and did not.
    pub mended: Vec<String>,
    /// Other changes of state.
    pub changed: Vec<String>,
    /// Cases that only the newer report has.
    pub added: Vec<String>,
    /// Cases that only the older report has.
    pub removed: Vec<String>,
    /// Passed cases whose margin is less than half of what it was, with both.
    pub closer: Vec<(String, f64, f64)>,
}

impl Diff {
    /// Whether the newer report has failures that the older has not.
    pub fn is_worse(&self) -> bool {
        !self.broken.is_empty()
    }
}

impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut any = false;
        for (what, ids) in [
            ("broken", &self.broken),
            ("mended", &self.mended),
            ("changed", &self.changed),
            ("added", &self.added),
            ("removed", &self.removed),
        ] {
            for id in ids {
                any = true;
                writeln!(f, "{what} {id}")?;
            }
        }
        for (id, before, now) in &self.closer {
            any = true;
            writeln!(f, "closer {id}: margin {before:.1} -> {now:.1}")?;
        }
        if any { Ok(()) } else { f.write_str("nothing changed") }
    }
}

/// Compares two reports.
pub fn diff(older: &Report, newer: &Report) -> Diff {
    let by_id = |report: &Report| -> BTreeMap<String, CaseResult> {
        report.cases.iter().map(|c| (c.id.clone(), c.clone())).collect()
    };
    let (older, newer) = (by_id(older), by_id(newer));
    let mut diff =
        Diff { removed: older.keys().filter(|id| !newer.contains_key(*id)).cloned().collect(), ..Diff::default() };
    for (id, now) in newer {
        let Some(before) = older.get(&id) else {
            let failing = if now.state.is_failure() { &mut diff.broken } else { &mut diff.added };
            failing.push(id);
            continue;
        };
        match (before.state, now.state) {
            (State::Pass, State::Pass) => {
                if let (Some(b), Some(n)) = (before.margin(), now.margin())
                    && n < b / 2.0
                    && n.is_finite()
                {
                    diff.closer.push((id, b, n));
                }
            }
            (b, n) if b == n => {}
            (b, n) if n.is_failure() && !b.is_failure() => diff.broken.push(id),
            (_, State::Pass) => diff.mended.push(id),
            (b, n) => diff.changed.push(format!("{id}: {b} -> {n}")),
        }
    }
    diff
}

/// What speaks against believing a report: nothing, if it is a full run of this suite on that library with the verdict
/// that follows.
///
/// # Errors
/// If the suite cannot be read.
pub fn verify(report: &Report, suite: &Suite, library: Option<&Path>) -> Result<Vec<String>, SuiteError> {
    let mut problems = Vec::new();
    let plan = &report.plan;
    if plan.digest != suite.digest() {
        problems.push(format!(
            "it is about suite {} with digest {}, this is {} with {}",
            plan.suite,
            plan.digest,
            suite.version(),
            suite.digest()
        ));
    }
    if let Some(filter) = &plan.filter {
        problems.push(format!("cases were left out by {filter}"));
    }
    let mut seen = BTreeSet::new();
    if let Some(twice) = report.cases.iter().find(|c| !seen.insert(c.id.as_str())) {
        problems.push(format!("case `{}` is there twice", twice.id));
    }
    let cases = suite.cases()?;
    let expected: BTreeSet<&str> =
        cases.iter().filter(|c| plan.profiles.contains(&c.profile)).map(|c| c.id.as_str()).collect();
    let missing: Vec<&str> = expected.difference(&seen).copied().collect();
    if let [first, ..] = missing.as_slice() {
        problems.push(format!("{} cases of its profiles are missing, `{first}` first", missing.len()));
    }
    if let Some(strange) = seen.difference(&expected).next() {
        problems.push(format!("case `{strange}` is not of its profiles"));
    }
    let overrun = |c: &CaseResult| c.state == State::Pass && c.measures.iter().any(|m| !m.passes());
    if let Some(case) = report.cases.iter().find(|c| overrun(c)) {
        problems.push(format!("case `{}` passes with a value over its limit", case.id));
    }
    let mut again = report.clone();
    again.judge();
    if again.totals != report.totals {
        problems.push("its totals are not those of its cases".into());
    }
    if again.verdict != report.verdict {
        problems.push(format!("its verdict is `{}`, its cases give `{}`", report.verdict.told(), again.verdict.told()));
    }
    if report.verdict != Verdict::Conformant {
        problems.push(format!("the verdict is `{}`", report.verdict.told()));
    }
    let today = Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    for waiver in &report.claims.waivers {
        match waiver.expires.parse::<Date>() {
            Ok(date) if date >= today => {}
            _ => problems.push(format!("the waiver of `{}` expired on {}", waiver.case, waiver.expires)),
        }
    }
    if let Some(path) = library {
        match camelid_fetch::sha256::of_file(path) {
            Ok(found) if report.subject.sha256.as_deref() == Some(&found) => {}
            Ok(found) => {
                let said = report.subject.sha256.as_deref().unwrap_or("no library");
                problems.push(format!("it is about {said}, {} is {found}", path.display()));
            }
            Err(error) => problems.push(format!("{}: {error}", path.display())),
        }
    }
    Ok(problems)
}
