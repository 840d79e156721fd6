//! Rules on packages: licences of all, and for our own the shared lints and the direction of dependencies.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::spdx;
use crate::steps::cargo;

/// Programs of the development tasks, of which nothing is in what users build; MPL-2.0 asks only for changes to
/// their own files.
const TOOLS: [&str; 1] = ["cbindgen"];

/// Adds violations to the list; the number of packages looked at.
pub fn check(root: &Path, violations: &mut Vec<String>) -> Result<usize, String> {
    let metadata = metadata(root)?;
    let packages = metadata["packages"].as_array().ok_or("cargo metadata lists no packages")?;
    for package in packages {
        check_licence(package, violations);
        // A package without a source is one of this workspace.
        if package["source"].is_null() {
            check_own(root, package, violations)?;
        }
    }
    Ok(packages.len())
}

fn metadata(root: &Path) -> Result<Value, String> {
    let mut command = Command::new(cargo());
    let output = command.args(["metadata", "--format-version", "1", "--locked"]).current_dir(root).output();
    let output = output.map_err(|error| format!("cargo metadata cannot be started: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr).trim_end()));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| format!("cargo metadata wrote no JSON: {error}"))
}

fn check_licence(package: &Value, violations: &mut Vec<String>) {
    let (name, version) = (text(package, "name"), text(package, "version"));
    let problem = match package["license"].as_str() {
        None => "names no licence".to_string(),
        Some(licence) => match spdx::is_accepted(licence) {
            Ok(true) => return,
            Ok(false) if TOOLS.contains(&name) => return,
            Ok(false) => format!("is under `{licence}`, which is not accepted"),
            Err(error) => format!("is under `{licence}`, which cannot be read: {error}"),
        },
    };
    violations.push(format!("{name} {version}: {problem} (xtask/src/rules/spdx.rs lists what is)"));
}

fn check_own(root: &Path, package: &Value, violations: &mut Vec<String>) -> Result<(), String> {
    let manifest = Path::new(text(package, "manifest_path"));
    let shown = manifest.strip_prefix(root).unwrap_or(manifest).display().to_string();
    let source = std::fs::read_to_string(manifest).map_err(|error| format!("{shown}: cannot be read: {error}"))?;
    let table: toml::Table = source.parse().map_err(|error| format!("{shown}: {error}"))?;
    // Without it, none of the shared lints are on and clippy passes whatever the package holds.
    let inherits_lints = table.get("lints").and_then(|lints| lints.get("workspace")).and_then(toml::Value::as_bool);
    if inherits_lints != Some(true) {
        violations.push(format!("{shown}: has no `[lints] workspace = true`"));
    }
    if package["license"] != "MIT OR Apache-2.0" {
        violations.push(format!("{shown}: is not under MIT OR Apache-2.0; write `license.workspace = true`"));
    }
    check_layers(root, package, &shown, violations);
    Ok(())
}

/// The engine never knows which hardware it drives: of the libraries in crates/, none depends on a plugin; nor does core
/// on any other package of the workspace. Tests may, and the command line brings the backends that are linked in.
fn check_layers(root: &Path, package: &Value, shown: &str, violations: &mut Vec<String>) {
    let name = text(package, "name");
    if !shown.replace('\\', "/").starts_with("crates/") || name == "camelid" {
        return;
    }
    for dependency in package["dependencies"].as_array().into_iter().flatten() {
        let Some(path) = dependency["path"].as_str() else { continue };
        if dependency["kind"] == "dev" {
            continue;
        }
        let is_plugin = Path::new(path).starts_with(root.join("plugins"));
        if is_plugin || name == "camelid-core" {
            let found = text(dependency, "name");
            let rule = if is_plugin {
                "nothing below the command line depends on a plugin"
            } else {
                "core depends on no other crate here"
            };
            violations.push(format!("{shown}: depends on {found}; {rule}"));
        }
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_licence_that_is_missing_or_not_accepted_is_a_violation() {
        let mut violations = Vec::new();
        check_licence(&json!({"name": "a", "version": "1.0.0", "license": "MIT"}), &mut violations);
        assert_eq!(violations, Vec::<String>::new());
        check_licence(&json!({"name": "b", "version": "1.0.0", "license": "GPL-3.0-only"}), &mut violations);
        check_licence(&json!({"name": "c", "version": "1.0.0", "license": null}), &mut violations);
        check_licence(&json!({"name": "d", "version": "1.0.0", "license": "MIT OR"}), &mut violations);
        assert!(violations[0].starts_with("b 1.0.0: is under `GPL-3.0-only`, which is not accepted"), "{violations:?}");
        assert!(violations[1].starts_with("c 1.0.0: names no licence"), "{violations:?}");
        assert!(violations[2].contains("cannot be read"), "{violations:?}");
    }

    #[test]
    fn lints_and_the_licence_must_be_those_of_the_workspace() {
        let folder = tempfile::tempdir().unwrap();
        let manifest = folder.path().join("Cargo.toml");
        let check = |source: &str, licence: &str| {
            std::fs::write(&manifest, source).unwrap();
            let package = json!({"name": "x", "manifest_path": manifest, "license": licence, "dependencies": []});
            let mut violations = Vec::new();
            check_own(folder.path(), &package, &mut violations).map(|()| violations)
        };
        assert_eq!(check("[lints]\nworkspace = true", "MIT OR Apache-2.0"), Ok(vec![]));
        assert_eq!(check("", "MIT OR Apache-2.0").unwrap(), ["Cargo.toml: has no `[lints] workspace = true`"]);
        assert_eq!(check("[lints]\nworkspace = false", "MIT").unwrap().len(), 2);
        assert!(check("[lints", "MIT").unwrap_err().starts_with("Cargo.toml: "));
    }

    #[test]
    fn only_the_command_line_and_tests_depend_on_plugins() {
        let root = Path::new("/ws");
        let dependency = |path: &str, kind: Value| json!({"name": "dep", "path": path, "kind": kind});
        let violations = |name: &str, shown: &str, dependency: Value| {
            let mut violations = Vec::new();
            check_layers(root, &json!({"name": name, "dependencies": [dependency]}), shown, &mut violations);
            violations.len()
        };
        let (plugin, abi) = ("/ws/plugins/cpu", "/ws/crates/abi");
        assert_eq!(violations("camelid-engine", "crates/engine/Cargo.toml", dependency(plugin, Value::Null)), 1);
        assert_eq!(violations("camelid-engine", "crates/engine/Cargo.toml", dependency(plugin, json!("dev"))), 0);
        assert_eq!(violations("camelid", "crates/cli/Cargo.toml", dependency(plugin, Value::Null)), 0);
        assert_eq!(violations("camelid-core", "crates/core/Cargo.toml", dependency(abi, Value::Null)), 1);
        assert_eq!(violations("camelid-sdk", "crates/sdk/Cargo.toml", dependency(abi, Value::Null)), 0);
    }
}
