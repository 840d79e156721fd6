//! The verdict on a run.

use super::{Report, State, Verdict};

impl Report {
    /// Counts the states and judges.
    pub fn judge(&mut self) {
        self.totals = State::ALL.into_iter().map(|s| (s, self.cases.iter().filter(|c| c.state == s).count())).collect();
        let count = |state| self.totals[&state];
        let failed = self.cases.iter().any(|c| c.state.is_failure());
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
