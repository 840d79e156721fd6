//! Reports in all their forms, of every state, with messages as a hostile plugin writes them.

use std::collections::BTreeMap;
use std::time::Instant;

use camelid_conformance::case::{Level, Measure, Profile};
use camelid_conformance::compare::Worst;
use camelid_conformance::report::{
    CaseResult, ClaimsInfo, MachineInfo, PlanInfo, Report, SCHEMA, State, SubjectInfo, Verdict, WaiverInfo, diff,
};
use camelid_conformance::tolerance::MathClass;

const HOSTILE: &str =
    "<script>alert(1)</script> ]]> | ` \"' \u{0} \u{1b}[31m \u{202e}\n# not ok\n...\n--- \u{ffff}&amp;\\";

fn case(id: &str, state: State) -> CaseResult {
    CaseResult {
        id: id.into(),
        level: id.split('/').next().and_then(Level::from_name).unwrap(),
        profile: Profile::Core,
        state,
        message: if state == State::Pass { String::new() } else { format!("{id}: {HOSTILE}") },
        measures: vec![Measure { metric: "nmse".into(), what: HOSTILE.into(), value: 1e-12, limit: 2e-11 }],
        worst: vec![Worst { output: HOSTILE.into(), index: vec![3, 0], actual: "NaN".into(), expected: "1.5".into() }],
        notes: vec![HOSTILE.into()],
        ms: 1.25,
    }
}

fn report(cases: Vec<CaseResult>) -> Report {
    let mut report = Report {
        schema: SCHEMA.into(),
        camelid: "0.1.0".into(),
        started: "2026-11-24T10:00:00Z".into(),
        seconds: 1.5,
        subject: SubjectInfo {
            backend: "npu".into(),
            version: HOSTILE.into(),
            way: "plugin".into(),
            library: Some("libnpu.so".into()),
            sha256: Some("ab".repeat(32)),
            device: HOSTILE.into(),
            device_kind: "accelerator".into(),
            options: BTreeMap::from([("threads".into(), HOSTILE.into())]),
        },
        machine: MachineInfo { os: "linux".into(), arch: "x86_64".into(), cpus: 2 },
        plan: PlanInfo {
            suite: "1.0.0".into(),
            digest: "cd".repeat(32),
            total: cases.len(),
            planned: cases.len(),
            profiles: vec![Profile::Core, Profile::Half],
            filter: None,
        },
        claims: ClaimsInfo {
            profiles: vec![Profile::Core],
            classes: BTreeMap::from([("op/linear/*".into(), MathClass::F16Acc16)]),
            waivers: vec![WaiverInfo {
                case: "op/rope/*".into(),
                reason: HOSTILE.into(),
                issue: "#1".into(),
                expires: "2027-01-01".into(),
            }],
        },
        totals: BTreeMap::new(),
        errors: vec![HOSTILE.into()],
        verdict: Verdict::Corrupt,
        cases,
    };
    report.judge();
    report
}

/// A case of every state.
fn all_states() -> Report {
    let ids = [
        "abi/plan/a",
        "op/linear/f32/b",
        "op/rope/f16/c",
        "model/gqa/d",
        "cache/e/f",
        "stress/g/h",
        "tokenizer/i/j",
        "real/k",
    ];
    report(State::ALL.iter().zip(ids).map(|(state, id)| case(id, *state)).collect())
}

#[test]
fn a_report_is_what_its_schema_says() {
    let schema =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../specs/conformance-report.schema.json"));
    let schema: serde_json::Value = serde_json::from_str(&schema.unwrap()).unwrap();
    let schema = jsonschema::validator_for(&schema).unwrap();
    for report in [all_states(), report(Vec::new())] {
        let json = serde_json::to_value(&report).unwrap();
        let wrong: Vec<String> = schema.iter_errors(&json).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert_eq!(wrong, Vec::<String>::new());
        // The schema sees what is wrong, and knows every key that is written.
        for key in json.as_object().unwrap().keys() {
            let mut without = json.clone();
            without.as_object_mut().unwrap().remove(key);
            assert!(!schema.is_valid(&without), "`{key}` may be missing");
        }
        let mut other = json.clone();
        other["verdict"] = "perfect".into();
        assert!(!schema.is_valid(&other));
    }
}

#[test]
fn a_report_is_read_as_it_was_written_and_what_is_none_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let report = all_states();
    report.write_all(folder.path()).unwrap();
    let path = folder.path().join("report.json");
    assert_eq!(Report::read(&path).unwrap(), report);
    let text = std::fs::read_to_string(&path).unwrap();
    for (broken, told) in [
        (text[..text.len() / 2].to_owned(), "EOF"),
        (text.replace("camelid-conformance-report/1", "camelid-conformance-report/9"), "report/9"),
        (text.replace("\"verdict\"", "\"verdikt\""), "verdict"),
        (String::new(), "EOF"),
    ] {
        std::fs::write(&path, broken).unwrap();
        let error = Report::read(&path).unwrap_err().to_string();
        assert!(error.contains("report.json") && error.contains(told), "{error}");
    }
}

#[test]
fn every_form_survives_what_a_hostile_plugin_says() {
    let folder = tempfile::tempdir().unwrap();
    let report = all_states();
    report.write_all(folder.path()).unwrap();
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();

    let junit = read("junit.xml");
    let parsed = quick_junit::Report::deserialize_from_str(&junit).expect("JUnit is XML of its kind");
    let tests: usize = parsed.test_suites.iter().map(|s| s.test_cases.len()).sum();
    assert_eq!(tests, State::ALL.len());
    assert!(!junit.contains('\u{0}') && !junit.contains('\u{1b}'), "XML 1.0 has no such characters");

    let tap = read("report.tap");
    let (ok, not_ok) = (tap.lines().filter(|l| l.starts_with("ok ")), tap.lines().filter(|l| l.starts_with("not ok ")));
    assert_eq!(ok.count() + not_ok.count(), State::ALL.len(), "{tap}");
    assert!(tap.starts_with("TAP version 14\n1..8\n"), "{tap}");

    let page = read("index.html");
    assert!(!page.contains("<script>alert"), "a message became a script");
    assert!(!page.contains("http://") && !page.contains("src="), "the page needs nothing else");
    assert!(page.contains("&lt;script&gt;alert(1)"));

    let summary = read("summary.md");
    assert!(!summary.contains("<script>"), "{summary}");
    let rows = summary.lines().filter(|l| l.starts_with('|') && l.contains("op/linear/f32/b"));
    for row in rows {
        // A pipe in a message must not make a column.
        assert!(!row.replace("\\|", "").contains("]]> |"), "{row}");
    }

    let badge: serde_json::Value = serde_json::from_str(&read("badge.json")).unwrap();
    assert_eq!((badge["schemaVersion"].as_i64(), badge["color"].as_str()), (Some(1), Some("red")));
    assert!(read("matrix.csv").lines().count() > 1);
}

#[test]
fn verdicts_follow_from_states() {
    let one = |state| {
        let mut report = report(vec![case("op/add/f32/a", State::Pass), case("op/add/f32/b", state)]);
        report.errors.clear();
        report.judge();
        report.verdict
    };
    assert_eq!(one(State::Pass), Verdict::Conformant);
    for state in [State::Fail, State::Crash, State::Timeout, State::Unsupported] {
        assert_eq!(one(state), Verdict::NonConformant, "{state}: the core profile has no exceptions");
    }
    assert_eq!(one(State::Waived), Verdict::Conformant);
    assert_eq!(one(State::Blocked), Verdict::Blocked);
    assert_eq!(one(State::NotRun), Verdict::Corrupt);
    assert_eq!(all_states().verdict, Verdict::NonConformant);
    let mut nothing = report(Vec::new());
    nothing.errors.clear();
    nothing.judge();
    assert_eq!(nothing.verdict, Verdict::Nothing);
    let mut lost = report(vec![case("op/add/f32/a", State::Pass)]);
    lost.errors.clear();
    lost.plan.planned = 2;
    lost.judge();
    assert_eq!(lost.verdict, Verdict::Corrupt);
    let mut part = report(vec![case("op/add/f32/a", State::Pass)]);
    part.errors.clear();
    part.plan.filter = Some("-k op/*".into());
    part.judge();
    assert_eq!(part.verdict, Verdict::PartialPass);
    assert!(
        [Verdict::NonConformant, Verdict::Corrupt, Verdict::Nothing, Verdict::Blocked, Verdict::PartialPass]
            .iter()
            .all(|v| v.exit_code() != 0)
    );
}

#[test]
fn what_became_worse_is_told() {
    let old = report(vec![
        case("op/add/f32/a", State::Pass),
        case("op/add/f32/b", State::Fail),
        case("op/add/f32/c", State::Pass),
    ]);
    let new = report(vec![
        case("op/add/f32/a", State::Crash),
        case("op/add/f32/b", State::Pass),
        case("op/add/f32/d", State::Pass),
    ]);
    let told = diff(&old, &new);
    assert!(told.is_worse());
    let text = told.to_string();
    for id in ["op/add/f32/a", "op/add/f32/b", "op/add/f32/c", "op/add/f32/d"] {
        assert!(text.contains(id), "{id}: {text}");
    }
    assert!(!diff(&old, &old).is_worse());
}

#[test]
fn thousands_of_cases_are_written_at_once() {
    let cases = (0..4_000).map(|n| case(&format!("op/linear/f32/n{n}"), State::ALL[n % 4])).collect();
    let report = report(cases);
    let folder = tempfile::tempdir().unwrap();
    let clock = Instant::now();
    report.write_all(folder.path()).unwrap();
    // Not a measurement: what takes time in the square of the cases would take minutes.
    assert!(clock.elapsed().as_secs() < 30, "{:?}", clock.elapsed());
    assert!(std::fs::metadata(folder.path().join("index.html")).unwrap().len() < 32 << 20);
}
