//! The steps of continuous integration, cheap and telling ones first.

use std::path::Path;
use std::process::{Command, Stdio};

use camelid_test_plugins as plugins;

use crate::steps::{Step, cargo};
use crate::{fetch, header, rules};

/// Everything; the same whether or not `CI` is set.
pub fn all() -> Vec<Step> {
    let mut steps = vec![
        Step::cargo("format", &["fmt", "--all", "--check"]),
        Step::own("rules", rules::run),
        Step::own("header --check", header::check),
        Step::cargo("clippy", &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
        Step::cargo("docs", &["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"),
    ];
    steps.extend(tests(&[]));
    steps.extend(examples());
    steps.push(Step::own("conformance", conformance));
    steps
}

/// The examples outside the workspace, as somebody who copies them finds them.
fn examples() -> Vec<Step> {
    const RUST: &str = "plugins/example-rust/Cargo.toml";
    // In the workspace's folder and with its debug information, most dependencies are those that are built already.
    let target = plugins::target().display().to_string();
    let lints = ["clippy", "--manifest-path", RUST, "--all-targets", "--target-dir", &target, "--", "-D", "warnings"];
    let tests = ["test", "--manifest-path", RUST, "--target-dir", &target];
    let shared = |step: Step| step.env("CARGO_PROFILE_DEV_DEBUG", "line-tables-only");
    vec![
        Step::cargo("example in Rust: format", &["fmt", "--manifest-path", RUST, "--check"]),
        shared(Step::cargo("example in Rust: clippy", &lints)),
        shared(Step::cargo("example in Rust: tests", &tests)),
        Step::own("example-c", example_c),
    ]
}

/// The suite on every backend of this repository, in every way it is reached, and the suite's own test. The reports
/// are left in `target/conformance`.
pub fn conformance(root: &Path) -> Result<(), String> {
    let camelid = |arguments: &[&str]| {
        let program = plugins::target().join("debug/camelid");
        let status = Command::new(&program).arg("conformance").args(arguments).current_dir(root).status();
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("camelid conformance {}: {status}", arguments.join(" "))),
            Err(error) => Err(format!("{} cannot be run ({error})", program.display())),
        }
    };
    plugins::build(&["--bin", "camelid"]);
    let plugins = [plugins::reference(), plugins::cpu(), plugins::example_rust(), plugins::example_c()];
    let [reference, cpu, rust, c] = plugins.map(|path| path.display().to_string());
    let everything = "core,half,quant,extra,real";
    // Small graphs leave cores idle: two workers take two thirds of the time of one.
    const JOBS: &str = "2";
    const CPU: &str = "plugins/cpu/conformance.toml";
    for (out, arguments) in [
        ("reference", &["--backend", "reference", "--profile", everything][..]),
        ("reference-loopback", &["--backend", "reference", "--loopback"]),
        ("reference-plugin", &["--plugin", &reference]),
        ("cpu", &["--backend", "cpu", "--claims", CPU]),
        ("cpu-loopback", &["--backend", "cpu", "--loopback", "--claims", CPU]),
        ("cpu-plugin", &["--plugin", &cpu, "--claims", CPU]),
        ("cpu-portable", &["--backend", "cpu", "--set", "isa=portable", "--claims", CPU]),
        ("cpu-never-repacked", &["--backend", "cpu", "--set", "repack=never", "--set", "threads=3", "--claims", CPU]),
        ("example-rust", &["--plugin", &rust, "--claims", "plugins/example-rust/conformance.toml"]),
        ("example-c", &["--plugin", &c, "--claims", "plugins/example-c/conformance.toml"]),
    ] {
        let folder = format!("target/conformance/{out}");
        // A real model uses all cores by itself; two of them would share the time that a case has.
        let jobs = if arguments.contains(&everything) { "1" } else { JOBS };
        camelid(&[&["run", "--jobs", jobs, "--out", &folder], arguments].concat())?;
    }
    camelid(&["selftest", "--jobs", JOBS])
}

/// The C example's own test, plain and under the sanitizers.
pub fn example_c(root: &Path) -> Result<(), String> {
    for task in ["test", "sanitize"] {
        let out = format!("OUT={}", root.join("target/example-c-ci").display());
        let status =
            Command::new("make").args(["--silent", task, &out]).current_dir(root.join("plugins/example-c")).status();
        match status {
            Ok(status) if status.success() => {}
            Ok(status) => return Err(format!("make {task} failed in plugins/example-c: {status}")),
            Err(error) => return Err(format!("make cannot be run ({error}); install make and a C compiler")),
        }
    }
    Ok(())
}

/// The tests: all of them if no `arguments` choose some.
pub fn tests(arguments: &[&str]) -> Vec<Step> {
    // Before the tests, so that none of them waits for a download, and one failed download is one failure.
    let mut steps = vec![Step::own("fetch", |_| fetch::run())];
    if arguments.is_empty() {
        steps.push(Step::cargo("doc tests", &["test", "--workspace", "--doc"]));
    }
    let nextest = has_nextest();
    let runner: &[&str] = if nextest { &["nextest", "run"] } else { &["test"] };
    let chosen: &[&str] = match (arguments, nextest) {
        // One failure does not hide the others.
        ([], true) => &["--workspace", "--no-fail-fast"],
        // The same targets as nextest runs; doc tests are a step of their own.
        ([], false) => &["--workspace", "--no-fail-fast", "--lib", "--bins", "--tests", "--examples"],
        (arguments, _) => arguments,
    };
    let step = Step::cargo("tests", &[runner, chosen].concat());
    steps.push(if nextest {
        step
    } else {
        step.note(
            "cargo-nextest is not installed: running `cargo test`, which neither times tests out nor isolates them",
        )
    });
    steps
}

fn has_nextest() -> bool {
    let version =
        Command::new(cargo()).args(["nextest", "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    version.is_ok_and(|status| status.success())
}
