//! `camelid conformance` as a user meets it: verdicts, exit codes, reports, and backends that crash.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn conformance(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_camelid"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CAMELID_")) {
        command.env_remove(name);
    }
    command.arg("conformance").args(arguments).current_dir(folder).stdin(Stdio::null()).output().unwrap()
}

#[track_caller]
fn ends(arguments: &[&str], code: i32, said: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let output = conformance(folder.path(), arguments);
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
    assert!(text.contains(said) && !text.contains("panicked at"), "{arguments:?}: `{said}` is not in {text}");
    output
}

#[test]
fn the_exit_code_tells_a_verdict_from_a_part_of_one_and_from_wrong_usage() {
    let part = ["run", "--backend", "reference", "-k", "op/rope/*"];
    ends(&part, 6, "passes what was asked");
    ends(&["run", "--backend", "reference", "--profile", "quant"], 6, "passes what was asked");
    ends(&["run", "--backend", "refrence"], 2, "did you mean `reference`");
    ends(&["run", "--backend", "reference", "-k", "op/none/*"], 4, "no case of the suite fits -k op/none/*");
    ends(&["run", "--backend", "reference", "--device", "7"], 5, "no device 7");
    ends(&["run", "--backend", "reference", "--set", "thread=2"], 5, "unknown option `thread`");
    ends(&["run", "--backend", "reference", "--level", "ops"], 2, "the levels are abi, op");
    ends(&["run", "--plugin", "libnone.so"], 2, "libnone.so");
    ends(&["run"], 2, "--backend");
    ends(&["run", "--backend", "reference", "--suite", "."], 3, "SUITE.toml");
    ends(&["replay", "op/rope/f32/t", "--backend", "reference"], 2, "near it: op/rope/f32/t");
}

#[test]
fn claims_that_do_not_hold_are_failures() {
    let folder = tempfile::tempdir().unwrap();
    let claims = folder.path().join("conformance.toml");
    let run = |text: &str| {
        fs::write(&claims, text).unwrap();
        let part = ["run", "--backend", "reference", "--claims", "conformance.toml", "-k", "op/rope/*"];
        let output = conformance(folder.path(), &part);
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = run("backend = \"npu\"\n");
    assert!(code == Some(1) && said.contains("about the backend `npu`"), "{said}");
    let waiver = "[[waiver]]\ncase = \"op/rope/f32/t7\"\nreason = \"r\"\nissue = \"#1\"\nexpires = \"2020-01-01\"\n";
    let (code, said) = run(waiver);
    assert!(
        code == Some(1) && said.contains("expired on 2020-01-01") && said.contains("take the waiver out"),
        "{said}"
    );
    let (code, said) = run("profile = [\"core\"]\n");
    assert!(code == Some(2) && said.contains("unknown field `profile`"), "{said}");
}

#[test]
fn a_run_leaves_every_report_and_verify_refuses_a_part() {
    let folder = tempfile::tempdir().unwrap();
    let output = conformance(
        folder.path(),
        &["run", "--backend", "reference", "--level", "op", "-k", "*softmax*", "--out", "out"],
    );
    assert_eq!(output.status.code(), Some(6));
    for name in ["report.json", "junit.xml", "report.tap", "summary.md", "matrix.csv", "badge.json", "index.html"] {
        assert!(fs::metadata(folder.path().join("out").join(name)).unwrap().len() > 100, "{name}");
    }
    let report: Value = serde_json::from_slice(&fs::read(folder.path().join("out/report.json")).unwrap()).unwrap();
    let cases = report["cases"].as_array().unwrap();
    assert!(cases.len() > 40 && report["plan"]["planned"] == cases.len(), "{}", cases.len());
    let refused = conformance(folder.path(), &["verify", "out/report.json"]);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(
        refused.status.code() == Some(1) && said.contains("cases were left out by --level op -k *softmax*"),
        "{said}"
    );
    let same = conformance(folder.path(), &["diff", "out/report.json", "out/report.json"]);
    assert_eq!(String::from_utf8(same.stdout).unwrap().trim(), "nothing changed");
}

#[test]
fn a_backend_that_panics_aborts_or_hangs_costs_a_case_and_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["selftest", "--json", "--timeout", "2", "-k", "panics", "-k", "aborts", "-k", "hangs"];
    let output = conformance(folder.path(), &arguments);
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let states: Vec<_> = told["mutants"].as_array().unwrap().iter().map(|m| (&m["id"], &m["killed_by"][1])).collect();
    let expected = [("panics", "fail"), ("aborts", "crash"), ("hangs", "timeout")].map(|(a, b)| (a.into(), b.into()));
    assert_eq!(states, expected.iter().map(|(a, b): &(Value, Value)| (a, b)).collect::<Vec<_>>());
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn the_list_the_plan_and_an_explanation_agree() {
    let folder = tempfile::tempdir().unwrap();
    let text = |arguments: &[&str]| String::from_utf8(conformance(folder.path(), arguments).stdout).unwrap();
    let list = text(&["list", "--profile", "core,half,quant,extra"]);
    assert!(text(&["plan"]).contains(&format!("planned: {}\n", list.lines().count())));
    let explained = text(&["explain", "op/rms_norm/f32/eps1e-05_tiny"]);
    assert!(explained.contains("rms_norm(x, w) {eps=1e-5}") && explained.contains("nmse <= "), "{explained}");
    assert!(text(&["new-case", "op/rope/f32/new"]).contains("id = \"op/rope/f32/new\""));
}
