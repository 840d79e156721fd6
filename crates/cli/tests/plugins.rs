//! Plugins as a user meets them: made, named in the configuration, run, and told apart when they are bad.

#![cfg(unix)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use common::{camelid_in as camelid, failure, stdout};
use serde_json::Value;
use tempfile::TempDir;

const TELL: [&str; 5] = ["generate", "Once upon a time", "--max-new-tokens", "12", "--json"];

fn tokens(output: Output) -> Value {
    let json: Value = serde_json::from_str(&stdout(output)).unwrap();
    assert!(json["tokens"].as_array().unwrap().len() >= 10);
    json["tokens"].clone()
}

#[track_caller]
fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The C example with its manifest, in a folder of its own that goes with the result.
fn c_plugin() -> (TempDir, PathBuf) {
    static BUILT: OnceLock<()> = OnceLock::new();
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("example-c-{}", std::process::id()));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins/example-c");
    BUILT.get_or_init(|| run(Command::new("make").arg(format!("OUT={}", out.display())).current_dir(source)));
    let folder = tempfile::tempdir().unwrap();
    for file in ["libcamelid_example_c.so", "libcamelid_example_c.plugin.toml"] {
        fs::copy(out.join(file), folder.path().join(file)).unwrap();
        fs::set_permissions(folder.path().join(file), fs::Permissions::from_mode(0o644)).unwrap();
    }
    let library = folder.path().join("libcamelid_example_c.so");
    (folder, library)
}

fn configure(folder: &Path, text: &str) {
    let file = folder.join("camelid.toml");
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
}

fn entry(library: &Path, sha256: &str) -> String {
    let path = library.display();
    format!("backend = \"example-c\"\n[[plugin]]\nname = \"example-c\"\npath = \"{path}\"\nsha256 = \"{sha256}\"\n")
}

fn sha256(library: &Path) -> String {
    let output = Command::new("sha256sum").arg(library).output().unwrap();
    String::from_utf8(output.stdout).unwrap()[..64].to_owned()
}

#[test]
fn a_pinned_plugin_of_the_configuration_runs_and_gives_the_references_tokens() {
    let (folder, library) = c_plugin();
    let expected = tokens(camelid(folder.path(), &TELL));
    configure(folder.path(), &entry(&library, &sha256(&library)));
    let output = camelid(folder.path(), &TELL);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["backend"], "example-c");
    assert_eq!(tokens(output), expected);

    let list: Value = serde_json::from_str(&stdout(camelid(folder.path(), &["backends", "--json"]))).unwrap();
    let shown = list.as_array().unwrap().iter().find(|b| b["name"] == "example-c").unwrap();
    assert_eq!((&shown["origin"], &shown["abi"]), (&Value::from("plugin"), &Value::from("1.0")));
    assert_eq!(shown["path"], library.to_str().unwrap());
    assert_eq!(shown["devices"].as_array().unwrap().len(), 1);
    let doctor = stdout(camelid(folder.path(), &["doctor"]));
    assert!(doctor.contains("example-c") && doctor.contains("works, on") && !doctor.contains("NOT"), "{doctor}");
}

#[test]
fn no_other_backend_is_used_when_the_plugin_cannot_be() {
    let (folder, library) = c_plugin();
    let refused = |config: &str, parts: &[&str]| {
        configure(folder.path(), config);
        let message = failure(camelid(folder.path(), &TELL));
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
        message
    };
    let hash = sha256(&library);
    let other = hash.replace(|c: char| c.is_ascii_digit(), "0");
    refused(&entry(&library, &other), &["libcamelid_example_c.so", "SHA-256 is", &hash, "is pinned"]);
    let unpinned = entry(&library, &hash).replace("sha256", "#");
    refused(&unpinned, &["has no sha256", &format!("sha256 = \"{hash}\"")]);
    refused(&entry(&folder.path().join("libnot.so"), &hash), &["libnot.so", "no such file"]);
    refused(
        &entry(&library, &hash)
            .replace("name = \"example-c\"", "name = \"npu\"")
            .replace("backend = \"example-c\"", "backend = \"npu\""),
        &["is called `example-c`", "name = \"example-c\""],
    );
    let option = format!("{}[backends.example-c]\nspeed = 11\n", entry(&library, &hash));
    refused(&option, &["example-c", "speed"]);
    // Trusted by its path, the same library runs.
    configure(folder.path(), &format!("{unpinned}[plugins]\ntrust = \"path\"\n"));
    tokens(camelid(folder.path(), &TELL));

    fs::set_permissions(&library, fs::Permissions::from_mode(0o666)).unwrap();
    refused(&entry(&library, &hash), &["can be written by everybody", "chmod go-w"]);
}

#[test]
fn folders_need_trust_and_the_working_directory_is_never_searched() {
    let (folder, library) = c_plugin();
    let here = folder.path().display();
    configure(folder.path(), &format!("backend = \"example-c\"\n[plugins]\nfolders = [\"{here}\"]\n"));
    let message = failure(camelid(folder.path(), &TELL));
    assert!(
        message.contains("no backend `example-c`") && message.contains("takes no plugins from folders"),
        "{message}"
    );
    configure(
        folder.path(),
        &format!("backend = \"example-c\"\n[plugins]\nfolders = [\"{here}\"]\ntrust = \"path\"\n"),
    );
    tokens(camelid(folder.path(), &TELL));

    fs::remove_file(folder.path().join("camelid.toml")).unwrap();
    let message = failure(camelid(folder.path(), &[&TELL[..], &["--backend", "example-c"]].concat()));
    assert!(message.contains("there is no backend `example-c`"), "{message}");
    let unchosen = camelid(folder.path(), &[&TELL[..], &["--plugin", "./libcamelid_example_c.so"]].concat());
    assert!(String::from_utf8_lossy(&unchosen.stderr).contains("no --backend chooses it"));
    assert!(stdout(unchosen).contains("\"backend\": \"cpu\""));
    let bare = [&TELL[..], &["--backend", "example-c", "--plugin", "libcamelid_example_c.so"]].concat();
    let message = failure(camelid(folder.path(), &bare));
    assert!(
        message.contains("a plugin is named by its path") && message.contains(&*library.to_string_lossy()),
        "{message}"
    );
    let by_path = [&TELL[..], &["--backend", "example-c", "--plugin", "./libcamelid_example_c.so"]].concat();
    tokens(camelid(folder.path(), &by_path));
}

#[test]
fn two_plugins_of_one_name_are_an_error_that_lists_both() {
    let (first, one) = c_plugin();
    let (_second, two) = c_plugin();
    let (one, two) = (one.to_str().unwrap(), two.to_str().unwrap());
    let args = [&TELL[..], &["--backend", "example-c", "--plugin", one, "--plugin", two]].concat();
    let message = failure(camelid(first.path(), &args));
    assert!(message.contains("two backends are named `example-c`"), "{message}");
    assert!(message.contains(one) && message.contains(two), "{message}");
}

/// Follows what `camelid plugin new` prints, in a folder that has nothing to do with the repository.
fn new_plugin(lang: &str, build: &[&str], built: &str) {
    let folder = tempfile::tempdir().unwrap();
    let said = stdout(camelid(folder.path(), &["plugin", "new", "my-npu", "--lang", lang]));
    assert!(said.contains("--backend my-npu"), "{said}");
    let home = folder.path().join("my-npu");
    // What is built from the registry is shared between runs.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("my-npu");
    run(Command::new(build[0]).args(&build[1..]).env("CARGO_TARGET_DIR", &target).current_dir(&home));
    let library = if lang == "rust" { target.join(built) } else { home.join(built) };
    let install = folder.path().join(library.file_name().unwrap());
    fs::copy(&library, &install).unwrap();
    fs::copy(home.join("libcamelid_my_npu.plugin.toml"), folder.path().join("libcamelid_my_npu.plugin.toml")).unwrap();
    fs::set_permissions(&install, fs::Permissions::from_mode(0o644)).unwrap();
    let expected = tokens(camelid(folder.path(), &TELL));
    let path = install.to_str().unwrap();
    assert_eq!(
        tokens(camelid(folder.path(), &[&TELL[..], &["--backend", "my-npu", "--plugin", path]].concat())),
        expected
    );

    let again = failure(camelid(folder.path(), &["plugin", "new", "my-npu", "--lang", lang]));
    assert!(again.contains("is there already"), "{again}");
    let bad = failure(camelid(folder.path(), &["plugin", "new", "My NPU", "--lang", lang]));
    assert!(bad.contains("no name for a backend"), "{bad}");
}

#[test]
fn a_new_plugin_in_rust_builds_and_generates() {
    new_plugin("rust", &[env!("CARGO"), "build", "--release"], "release/libcamelid_my_npu.so");
}

#[test]
fn a_new_plugin_in_c_builds_and_generates() {
    new_plugin("c", &["make"], "build/libcamelid_my_npu.so");
}

#[test]
fn a_path_that_is_no_text_is_listed_all_the_same() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let folder = tempfile::tempdir().unwrap();
    for json in [&["--json"][..], &[]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_camelid"));
        command.arg("backends").args(json).arg("--plugin").arg(OsStr::from_bytes(b"./lib\xff.so"));
        let text = stdout(command.current_dir(folder.path()).output().unwrap());
        assert!(text.contains("lib\u{fffd}.so") && text.contains("no such file"), "{text}");
    }
}
