//! `camelid doctor` over plugins that crash, hang, exit, lie and talk, each at another moment. The plugins are one C file
//! (`doctor/plugin.c`), compiled with the fault a test wants.

#![cfg(target_os = "linux")]

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// A folder that nobody else may write, with plugins in it.
struct Folder(TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file that only its owner may change, whatever the umask.
    fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, contents).unwrap();
        private(&path);
        path
    }

    /// A plugin called `name` with a fault of `plugin.c`, and its manifest.
    fn plugin(&self, name: &str, fault: &str) -> PathBuf {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/doctor/plugin.c");
        let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("../abi/include");
        let library = self.path().join(format!("lib{name}.so"));
        let target = format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS);
        let mut cc = Command::new("cc");
        cc.args(["-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-fvisibility=hidden"]);
        cc.args([format!("-DNAME=\"{name}\""), format!("-DTARGET=\"{target}\""), format!("-DFAULT=\"{fault}\"")]);
        cc.arg("-I").arg(include).arg("-o").arg(&library).arg(source);
        let status =
            cc.status().unwrap_or_else(|e| panic!("cc cannot be run ({e}): install a C compiler (Debian: gcc)"));
        assert!(status.success(), "plugin.c does not compile");
        private(&library);
        let manifest =
            format!("name = \"{name}\"\nversion = \"1.2.3\"\nabi_major = 1\nabi_minor = 0\ntarget = \"{target}\"\n");
        self.write(&format!("lib{name}.plugin.toml"), manifest);
        library
    }

    /// `camelid doctor` in this folder, with none of the caller's settings.
    fn doctor(&self, args: &[&str]) -> Output {
        self.command().args(args).output().unwrap()
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_camelid"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CAMELID_")) {
            command.env_remove(name);
        }
        command.arg("doctor").current_dir(self.path()).stdin(Stdio::null());
        command
    }
}

fn private(path: &Path) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What `doctor --json` found out about the backend `name`, and the rest of its output.
#[track_caller]
fn found(output: &Output, name: &str) -> Value {
    assert!(matches!(output.status.code(), Some(0 | 1)), "{output:?}");
    let list: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    let works = list.iter().filter(|f| f["ok"] == true).count();
    assert_eq!(output.status.success(), works == list.len(), "{list:?}");
    assert_eq!(list.iter().find(|f| f["name"] == "reference").unwrap()["ok"], true, "the others are not touched");
    list.into_iter().find(|f| f["name"] == name).unwrap()
}

/// What `doctor` finds out about a plugin with this fault.
#[track_caller]
fn diagnosis(fault: &str, args: &[&str]) -> Value {
    let folder = Folder::new();
    let library = folder.plugin("npu", fault);
    let plugin = format!("--plugin={}", library.display());
    found(&folder.doctor(&[&["--json", &plugin], args].concat()), "npu")
}

#[track_caller]
fn assert_fault(fault: &str, step: Option<&str>, parts: &[&str]) {
    let found = diagnosis(fault, &[]);
    let error = found["error"].as_str().unwrap_or_else(|| panic!("{fault}: {found}"));
    assert_eq!(found["ok"], false, "{fault}: {found}");
    assert_eq!(found["step"].as_str(), step, "{fault}: {found}");
    for part in parts {
        assert!(error.contains(part), "{fault}: {error}");
    }
}

#[test]
fn the_backend_that_is_linked_in_works() {
    let folder = Folder::new();
    let output = folder.doctor(&[]);
    let shown = text(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(
        shown.starts_with("cpu ") && shown.contains("\nreference ") && shown.contains(" (linked): works, on "),
        "{shown}"
    );
    assert!(shown.contains("\n  device 0: ") && shown.contains("[cpu"), "{shown}");
    let found = found(&folder.doctor(&["--json"]), "reference");
    assert_eq!((&found["origin"], &found["path"], &found["error"]), (&"linked".into(), &Value::Null, &Value::Null));
    assert_eq!(found["devices"][0]["kind"], "cpu");
}

#[test]
fn a_plugin_that_works_is_shown_with_all_there_is_to_know() {
    let folder = Folder::new();
    let library = folder.plugin("npu", "none");
    // A path of the command line starts at the working directory, in the child too.
    let output = folder.doctor(&["--plugin", "./libnpu.so"]);
    let shown = text(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    let library = library.canonicalize().unwrap();
    let line = format!("npu 1.2.3 (plugin {}, interface 1.0): works, on test device\n", library.display());
    assert!(shown.contains(&line) && shown.contains("  device 0: test device [accelerator, 3.0 GiB]\n"), "{shown}");

    let found = diagnosis("none", &[]);
    for (key, value) in [("version", "1.2.3"), ("origin", "plugin"), ("abi", "1.0")] {
        assert_eq!(found[key], value);
    }
    assert!(found["path"].as_str().unwrap().ends_with("/libnpu.so"));
    assert_eq!(found["devices"][0]["memory_bytes"], 3u64 << 30);
    assert_eq!((&found["device"], &found["step"], &found["error"]), (&0.into(), &Value::Null, &Value::Null));
}

#[test]
fn what_a_plugin_prints_does_not_hide_that_it_works() {
    for habit in ["much to say", "last words"] {
        let found = diagnosis(habit, &[]);
        assert_eq!(found["ok"], true, "{habit}: {found}");
    }
}

#[test]
fn a_process_that_a_plugin_leaves_behind_keeps_nobody_waiting() {
    let start = Instant::now();
    let found = diagnosis("children", &[]);
    assert_eq!(found["ok"], true, "{found}");
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
}

#[test]
fn a_crash_is_told_with_its_signal_and_its_moment() {
    let crashes = [
        ("segfault in constructor", "load", "signal 11 (segmentation fault)"),
        ("abort in device_open", "open", "signal 6 (abort)"),
        ("bus error in graph_supports", "supports", "(bus error)"),
        ("killed in buffer_alloc", "alloc", "signal 9 (killed"),
        ("trap in plan_compile", "compile", "signal 5 (trap)"),
        ("alarm in buffer_write", "write", "signal 14"),
        ("arithmetic error in plan_run", "run", "signal 8 (arithmetic error)"),
        ("segfault in buffer_read", "read", "signal 11 (segmentation fault)"),
        ("illegal instruction in device_close", "close", "signal 4 (illegal instruction)"),
        ("abort in shutdown", "shutdown", "signal 6 (abort)"),
        ("segfault at exit", "end", "signal 11 (segmentation fault)"),
    ];
    for (fault, step, signal) in crashes {
        assert_fault(fault, Some(step), &["it ended the process while", signal]);
    }
    assert_fault("arithmetic error in plan_run", Some("run"), &["(`plan_run`)"]);
}

#[test]
fn a_plugin_that_exits_has_failed_whatever_its_exit_code() {
    assert_fault("exit in entry", Some("load"), &["it ended the process while being loaded", "exit status: 0"]);
    assert_fault("exit in device_count", Some("devices"), &["while listing its devices", "exit status: 0"]);
    assert_fault("exit in weight_load", Some("load_weight"), &["while taking a weight", "exit status: 3"]);
    assert_fault("exit in shutdown", Some("shutdown"), &["while shutting down", "exit status: 0"]);
}

#[test]
fn an_error_that_a_plugin_reports_is_no_crash() {
    assert_fault("error in entry", None, &["libnpu.so", "the licence has run out"]);
    assert_fault("computes nothing", None, &["linear", "it is not wired up"]);
    assert_fault("no memory", None, &["npu: allocate `x`", "all 3 GiB are taken"]);
    assert_fault("no devices", None, &["found none", "the driver is"]);
    let twice = "error in device_open, then segfault in shutdown";
    assert_fault(twice, Some("shutdown"), &["no firmware; then it ended the process", "signal 11"]);
}

#[test]
fn wrong_results_are_found() {
    for fault in ["NaN", "OK without computing", "OK without reading", "the first result again"] {
        assert_fault(fault, None, &["it computes wrongly", "it gave ["]);
    }
}

#[test]
fn a_plugin_that_hangs_is_ended() {
    for (fault, step) in
        [("hang in constructor", "load"), ("hang in device_open", "open"), ("hang in shutdown", "shutdown")]
    {
        let found = diagnosis(fault, &["--timeout", "4"]);
        let error = found["error"].as_str().unwrap();
        assert!(error.contains("it hangs while") && error.contains("in 4 s; it was ended"), "{error}");
        assert_eq!(found["step"], step, "{found}");
        let process = found["said"][0].as_str().unwrap().strip_prefix("process ").unwrap().to_owned();
        assert!(!Path::new("/proc").join(process).exists(), "it is still there: {found}");
    }
    let found = diagnosis("hang at exit", &["--timeout", "4"]);
    assert_eq!((&found["ok"], &found["step"]), (&false.into(), &"end".into()), "{found}");
}

#[test]
fn a_check_whose_parent_is_gone_ends_by_itself() {
    let folder = Folder::new();
    folder.plugin("npu", "hang in device_open");
    let start = Instant::now();
    let output = folder.doctor(&["--plugin=./libnpu.so", "--probe=npu", "--timeout=1"]);
    assert_eq!(output.status.signal(), Some(6), "{output:?}");
    assert!(start.elapsed() > Duration::from_secs(5), "its parent would have had no time to end it");
}

#[test]
fn what_a_plugin_said_last_is_shown_and_steers_no_terminal() {
    let folder = Folder::new();
    folder.plugin("npu", "abort in device_open");
    let shown = text(&folder.doctor(&["--plugin=./libnpu.so"]).stdout);
    assert!(shown.contains("  it said: first line\n  it said: the firmware is \\u{1b}[2Jtoo old\n"), "{shown:?}");
    assert!(!shown.contains('\x1b'), "{shown:?}");
    folder.plugin("npu", "no devices");
    let shown = text(&folder.doctor(&["--plugin=./libnpu.so"]).stdout);
    assert!(shown.contains("the driver is \\u{1b}[31mnot there"), "{shown:?}");
}

#[test]
fn one_bad_plugin_costs_the_others_nothing() {
    let folder = Folder::new();
    let mut config = "[plugins]\ntrust = \"path\"\n".to_owned();
    let mut add = |name: &str, path: &Path, more: &str| {
        config += &format!("[[plugin]]\nname = \"{name}\"\npath = \"{}\"\n{more}\n", path.display());
    };
    add("a-crash", &folder.plugin("a-crash", "segfault in constructor"), "");
    add("b-good", &folder.plugin("b-good", "none"), "");
    add("c-exit", &folder.plugin("c-exit", "exit in entry"), "");
    add("d-gone", &folder.path().join("libd-gone.so"), "");
    add("e-text", &folder.write("libe-text.so", "no library"), "");
    let manifest = std::fs::read_to_string(folder.path().join("libb-good.plugin.toml")).unwrap();
    folder.write("libe-text.plugin.toml", manifest.replace("b-good", "e-text"));
    add("f-hash", &folder.plugin("f-hash", "none"), &format!("sha256 = \"{}\"", "0".repeat(64)));
    add("g-good", &folder.plugin("g-good", "none"), "");
    folder.write("camelid.toml", &config);

    let output = folder.doctor(&[]);
    let (shown, error) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(error, "error: 5 of 9 backends cannot be used\n");
    let lines: Vec<&str> = shown.lines().filter(|line| !line.starts_with(' ')).collect();
    let expected = [
        ("a-crash (plugin ", "DOES NOT WORK: it ended the process while being loaded"),
        ("b-good 1.2.3 (plugin ", "works, on test device"),
        ("c-exit (plugin ", "DOES NOT WORK: it ended the process while being loaded"),
        ("cpu ", "works"),
        ("d-gone (plugin ", "there is no such file"),
        ("e-text (plugin ", "it is not a library"),
        ("f-hash (plugin ", "is pinned; if you trust the new file"),
        ("g-good 1.2.3 (plugin ", "works, on test device"),
        ("reference ", "works"),
    ];
    assert_eq!(lines.len(), expected.len(), "{shown}");
    for (line, (start, part)) in lines.iter().zip(expected) {
        assert!(line.starts_with(start) && line.contains(part), "{line}");
    }
}

#[test]
fn the_settings_of_a_backend_are_those_it_is_checked_with() {
    let folder = Folder::new();
    folder.plugin("npu", "none");
    let check = |settings: &str| {
        let file = folder.write("settings.toml", format!("[backends.npu]\n{settings}\n"));
        let config = format!("--config={}", file.display());
        found(&folder.doctor(&["--json", "--plugin=./libnpu.so", &config]), "npu")
    };
    assert_eq!(check("device = 0")["ok"], true);
    let error = check("device = 7")["error"].to_string();
    assert!(error.contains("device 7") && error.contains("0 = test device"), "{error}");
    let error = check("speed = 9")["error"].to_string();
    assert!(error.contains("open device 0") && error.contains("there are no options"), "{error}");
}

#[test]
fn a_configured_backend_that_is_not_there_is_found() {
    let folder = Folder::new();
    folder.write("camelid.toml", "backend = \"referense\"\n");
    let output = folder.doctor(&[]);
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(shown.contains("referense (asked for): DOES NOT WORK: there is no backend `referense`"), "{shown}");
    assert!(shown.contains("`reference`"), "the nearest name: {shown}");
    assert_eq!(found(&folder.doctor(&["--json"]), "referense")["origin"], Value::Null);
}

#[test]
fn bad_arguments_are_refused() {
    let folder = Folder::new();
    folder.plugin("reference", "none");
    for (args, part) in [
        (&["--timeout", "0"][..], "--timeout"),
        (&["--timeout", "soon"], "--timeout"),
        (&["--plugin", "libnpu.so"], "a plugin is named by its path"),
        (&["--plugin", "./libreference.so", "--plugin", "./libreference.so"], "two backends are named `reference`"),
        (&["--config", "nowhere.toml"], "nowhere.toml"),
    ] {
        let output = folder.doctor(args);
        let error = text(&output.stderr);
        assert!(matches!(output.status.code(), Some(1 | 2)) && output.stdout.is_empty(), "{args:?}: {output:?}");
        assert!(error.contains("error: ") && error.contains(part), "{args:?}: {error}");
    }
}
