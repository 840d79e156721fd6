//! Holds answers against claims: waivers, and what may be unsupported.

use crate::claims::Claims;
use crate::report::{CaseResult, State, SubjectInfo};

use super::Selection;

/// Turns waived failures into waived cases and unsupported cases that may not be into failures; what is wrong with the
/// claims themselves.
pub fn settle(
    results: &mut [CaseResult],
    claims: &Claims,
    selection: &Selection,
    subject: &SubjectInfo,
) -> Vec<String> {
    let mut errors = Vec::new();
    if let Some(backend) = claims.backend.as_deref().filter(|b| !subject.backend.is_empty() && *b != subject.backend) {
        errors.push(format!("the claims are about the backend `{backend}`, and this is `{}`", subject.backend));
    }
    for result in results.iter_mut() {
        if result.state == State::Unsupported && claims.requires(result.profile) {
            result.state = State::Fail;
            result.message = format!("the profile {} leaves nothing out, but: {}", result.profile, result.message);
        }
        let listed = claims.unsupported.as_ref().map(|list| list.iter().any(|p| p.matches(&result.id)));
        match (result.state, listed) {
            (State::Unsupported, Some(false)) => {
                result.state = State::Fail;
                result.message =
                    format!("is unsupported and not in the claims' list `unsupported`: {}", result.message);
            }
            (State::Pass, Some(true)) => {
                errors
                    .push(format!("`{}` passes, but the claims' list `unsupported` names it: take it out", result.id));
            }
            _ => {}
        }
        let Some(waiver) = claims.waiver(&result.id) else { continue };
        if result.state.is_failure() {
            result.state = State::Waived;
            result.message = format!("{} ({}); {}", waiver.reason, waiver.issue, result.message);
        } else if result.state == State::Pass {
            errors.push(format!("`{}` passes, but is waived ({}): take the waiver out", result.id, waiver.issue));
        }
    }
    if selection.filter().is_none() {
        let unused = |text: &str, what: &str| format!("no case of this run fits {what} `{text}`: take it out");
        for waiver in claims.waivers.iter().filter(|w| !results.iter().any(|r| w.case.matches(&r.id))) {
            errors.push(unused(waiver.case.text(), "the waiver of"));
        }
        for pattern in claims.unsupported.iter().flatten().filter(|p| !results.iter().any(|r| p.matches(&r.id))) {
            errors.push(unused(pattern.text(), "`unsupported`"));
        }
    }
    errors
}
