//! What the tests of the command line share: the program without the caller's settings, and how a run ended.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The program in `folder`, with nothing to read and none of the caller's settings.
pub fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_camelid"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CAMELID_") || name.starts_with("HF_")) {
        command.env_remove(name);
    }
    command.current_dir(folder).stdin(Stdio::null());
    command
}

/// Runs it in `folder`.
pub fn camelid_in(folder: &Path, args: &[&str]) -> Output {
    command(folder).args(args).output().unwrap()
}

/// Runs it in an empty folder.
pub fn camelid(args: &[&str]) -> Output {
    camelid_in(tempfile::tempdir().unwrap().path(), args)
}

/// What a run that went well printed.
#[track_caller]
pub fn stdout(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The message of a run that failed as it should: an error, no panic, and nothing printed as a result.
#[track_caller]
pub fn failure(output: Output) -> String {
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code().is_some_and(|code| code == 1 || code == 2), "{:?}: {message}", output.status);
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(message.contains("error: ") && !message.contains("panicked"), "{message}");
    message
}

/// A file of the conformance suite.
pub fn suite(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/suite").join(path)
}

/// The bundled model's folder.
pub fn bundled() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("bundled/model")
}
