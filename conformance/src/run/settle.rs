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
        errors.extend(one(result, claims));
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

/// Settles one answer; what is wrong with the claims about it.
pub fn one(result: &mut CaseResult, claims: &Claims) -> Vec<String> {
    let mut errors = Vec::new();
    if result.state == State::Unsupported && claims.requires(result.profile) {
        result.state = State::Fail;
        result.message = format!("the profile {} leaves nothing out, but: {}", result.profile, result.message);
    }
    let listed = claims.unsupported.as_ref().map(|list| list.iter().any(|p| p.matches(&result.id)));
    match (result.state, listed) {
        (State::Unsupported, Some(false)) => {
            result.state = State::Fail;
            result.message = format!("is unsupported and not in the claims' list `unsupported`: {}", result.message);
        }
        (State::Pass, Some(true)) => {
            errors.push(format!("`{}` passes, but the claims' list `unsupported` names it: take it out", result.id));
        }
        _ => {}
    }
    let Some(waiver) = claims.waiver(&result.id) else { return errors };
    if result.state.is_failure() {
        result.state = State::Waived;
        result.message = format!("{} ({}); {}", waiver.reason, waiver.issue, result.message);
    } else if result.state == State::Pass {
        errors.push(format!("`{}` passes, but is waived ({}): take the waiver out", result.id, waiver.issue));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::{Level, Profile};
    use crate::claims::Pattern;

    fn result(id: &str, profile: Profile, state: State) -> CaseResult {
        CaseResult {
            id: id.into(),
            level: Level::Op,
            profile,
            state,
            message: "why".into(),
            measures: Vec::new(),
            worst: Vec::new(),
            notes: Vec::new(),
            ms: 0.0,
        }
    }

    fn settled(claims: &Claims, mut result: CaseResult) -> (State, Vec<String>) {
        let errors = one(&mut result, claims);
        (result.state, errors)
    }

    fn claims(text: &str) -> Claims {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("conformance.toml");
        std::fs::write(&path, text).unwrap();
        Claims::read(&path).unwrap()
    }

    #[test]
    fn what_a_claimed_profile_holds_may_not_be_unsupported() {
        let none = Claims::default();
        assert_eq!(settled(&none, result("op/a/b", Profile::Core, State::Unsupported)).0, State::Fail);
        assert_eq!(settled(&none, result("op/a/b", Profile::Half, State::Unsupported)).0, State::Unsupported);
        let half = claims("profiles = [\"half\"]");
        assert_eq!(settled(&half, result("op/a/b", Profile::Half, State::Unsupported)).0, State::Fail);
    }

    #[test]
    fn a_list_of_what_is_unsupported_must_be_exact() {
        let listed = claims("unsupported = [\"op/a/*\"]");
        let unsupported = |id| result(id, Profile::Half, State::Unsupported);
        assert_eq!(settled(&listed, unsupported("op/a/x")), (State::Unsupported, vec![]));
        assert_eq!(settled(&listed, unsupported("op/b/x")).0, State::Fail);
        let (state, errors) = settled(&listed, result("op/a/x", Profile::Half, State::Pass));
        assert!(state == State::Pass && errors[0].contains("take it out"), "{errors:?}");
    }

    #[test]
    fn a_waived_case_must_still_fail() {
        let waived = claims(
            "[[waiver]]\ncase = \"op/rope/*\"\nreason = \"whole heads\"\nissue = \"#1\"\nexpires = \"2026-12-01\"",
        );
        for state in [State::Fail, State::Crash, State::Timeout] {
            assert_eq!(settled(&waived, result("op/rope/x", Profile::Core, state)), (State::Waived, vec![]));
        }
        let (state, errors) = settled(&waived, result("op/rope/x", Profile::Core, State::Pass));
        assert!(state == State::Pass && errors[0].contains("take the waiver out"), "{errors:?}");
    }

    #[test]
    fn claims_about_nothing_and_about_another_backend_are_errors() {
        let stale = claims("backend = \"npu\"\nunsupported = [\"op/none/*\"]");
        let subject = SubjectInfo { backend: "gpu".into(), ..SubjectInfo::default() };
        let mut results = [result("op/a/b", Profile::Core, State::Pass)];
        let errors = settle(&mut results, &stale, &Selection::default(), &subject);
        assert!(
            errors[0].contains("about the backend `npu`") && errors[1].contains("no case of this run"),
            "{errors:?}"
        );
        let part = Selection { patterns: vec![Pattern::new("op/a/*").unwrap()], ..Selection::default() };
        assert_eq!(settle(&mut results, &stale, &part, &subject).len(), 1, "a part of the suite shows nothing unused");
    }
}
