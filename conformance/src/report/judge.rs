//! The verdict on a run.

use super::{CaseResult, Report, State, Verdict};
use crate::case::Profile;

impl Report {
    /// Counts the states and judges.
    pub fn judge(&mut self) {
        self.totals = State::ALL.into_iter().map(|s| (s, self.cases.iter().filter(|c| c.state == s).count())).collect();
        let count = |state| self.totals[&state];
        // A run makes failures of these; a report that was written by hand may not.
        let claimed = |c: &CaseResult| c.profile == Profile::Core || self.claims.profiles.contains(&c.profile);
        let refused = |c: &CaseResult| c.state == State::Unsupported && claimed(c);
        let failed = self.cases.iter().any(|c| c.state.is_failure() || refused(c));
        let executed = self.cases.len() - count(State::Unsupported) - count(State::Blocked) - count(State::NotRun);
        self.verdict = if failed || !self.errors.is_empty() {
            Verdict::NonConformant
        } else if self.plan.planned != self.cases.len() || count(State::NotRun) > 0 {
            Verdict::Corrupt
        } else if count(State::Blocked) > 0 {
            Verdict::Blocked
        } else if executed == 0 {
            Verdict::Nothing
        } else if self.plan.filter.is_some() {
            Verdict::PartialPass
        } else {
            Verdict::Conformant
        };
    }
}
