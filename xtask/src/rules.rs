//! The project's rules that neither the compiler nor clippy checks, over every file and every package.
//!
//! Each check adds to one list, so that one run shows every violation. A file that is too long is a warning: whether it
//! tells one story is for people to judge.

mod packages;
mod rust;
mod spdx;

use std::fs;
use std::path::{Path, PathBuf};

/// The folders whose files are the project's own.
const FOLDERS: [&str; 4] = ["crates", "plugins", "conformance", "xtask"];

/// Longer files than this rarely tell one story.
const MAX_LINES: usize = 500;

/// What stands in a file that a program writes: nobody reads it as a story.
const GENERATED: &str = "do not edit";

/// What is code, by extension.
const CODE: [&str; 7] = ["rs", "py", "c", "h", "cu", "wgsl", "sh"];

/// Where `unsafe` may stand: the C ABI, memory maps and kernels. Paths from the workspace's folder; `*` is one folder.
const UNSAFE: [&str; 18] = [
    "crates/abi/src/",
    "crates/sdk/src/ffi.rs",
    "crates/sdk/src/ffi/",
    "crates/host/src/ffi.rs",
    "crates/host/src/ffi/",
    "crates/weights/src/map.rs",
    // Counts what readers and conversions allocate: a global allocator is an unsafe trait (specs/decisions/0003).
    "crates/weights/tests/counting/mod.rs",
    "plugins/*/src/kernels/",
    // Kernels, and the memory that threads divide among them (specs/decisions/0007).
    "plugins/cpu/src/isa/",
    "plugins/cpu/src/formats/",
    "plugins/cpu/src/ops/",
    "plugins/cpu/src/plan/",
    "plugins/cpu/src/activations.rs",
    "plugins/cpu/src/bench.rs",
    "plugins/cpu/src/kernel.rs",
    "plugins/cpu/src/pool.rs",
    "plugins/cpu/src/block.rs",
    "plugins/cpu/src/memory.rs",
];

/// Checks every rule; an error lists all violations.
pub fn run(root: &Path) -> Result<(), String> {
    let (mut violations, mut warnings) = (Vec::new(), Vec::new());
    let files = code_files(root)?;
    for file in &files {
        let text = fs::read_to_string(root.join(file)).map_err(|error| format!("{file}: cannot be read: {error}"))?;
        check_file(file, &text, &mut violations, &mut warnings);
    }
    for licence in ["LICENSE-MIT", "LICENSE-APACHE"] {
        if !root.join(licence).is_file() {
            violations.push(format!("{licence}: is missing; the packages are under MIT OR Apache-2.0"));
        }
    }
    let packages = packages::check(root, &mut violations)?;
    for warning in &warnings {
        eprintln!("warning: {warning}");
    }
    if violations.is_empty() {
        println!("{} files of code and {packages} packages keep the rules", files.len());
        return Ok(());
    }
    Err(format!("{} violations:\n  {}", violations.len(), violations.join("\n  ")))
}

fn check_file(file: &str, text: &str, violations: &mut Vec<String>, warnings: &mut Vec<String>) {
    let lines = text.lines().count();
    if lines > MAX_LINES && !text.contains(GENERATED) {
        warnings.push(format!("{file}: {lines} lines; a file tells one story in at most {MAX_LINES}: split it"));
    }
    if !file.ends_with(".rs") || UNSAFE.iter().any(|allowed| is_under(file, allowed)) {
        return;
    }
    for line in rust::lines_with_word(text, "unsafe") {
        violations.push(format!(
            "{file}:{line}: `unsafe` stands outside the places for it (the C ABI, memory maps, kernels; xtask/src/rules.rs)"
        ));
    }
}

/// Whether `file` is `place`, or lies in it if it ends in `/`.
fn is_under(file: &str, place: &str) -> bool {
    let (mut names, mut wanted) = (file.split('/'), place.split('/').peekable());
    while let Some(want) = wanted.next() {
        if want.is_empty() && wanted.peek().is_none() {
            return names.next().is_some();
        }
        match names.next() {
            Some(name) if want == "*" || want == name => {}
            _ => return false,
        }
    }
    names.next().is_none()
}

/// All files of code, as paths from `root` with `/`, sorted. Symbolic links, hidden folders and builds are left out.
fn code_files(root: &Path) -> Result<Vec<String>, String> {
    let mut files = Vec::new();
    let mut folders: Vec<PathBuf> =
        FOLDERS.iter().map(|folder| root.join(folder)).filter(|path| path.is_dir()).collect();
    while let Some(folder) = folders.pop() {
        let unreadable = |error: std::io::Error| format!("{}: cannot be listed: {error}", folder.display());
        for entry in fs::read_dir(&folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let (path, kind) = (entry.path(), entry.file_type().map_err(unreadable)?);
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if kind.is_dir() && !name.starts_with('.') && name != "target" && name != "__pycache__" {
                folders.push(path);
            } else if kind.is_file()
                && path.extension().is_some_and(|extension| CODE.iter().any(|code| extension == *code))
            {
                let relative = path.strip_prefix(root).expect("found under the root");
                let names: Vec<_> = relative.iter().map(|name| name.to_string_lossy()).collect();
                files.push(names.join("/"));
            }
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(format!("{}: holds no code; this is no Camelid workspace", root.display()));
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(file: &str, text: &str) -> (Vec<String>, Vec<String>) {
        let (mut violations, mut warnings) = (Vec::new(), Vec::new());
        check_file(file, text, &mut violations, &mut warnings);
        (violations, warnings)
    }

    #[test]
    fn unsafe_is_found_where_it_may_not_stand_and_only_there() {
        let text = "fn f() {\n    unsafe { g() }\n}\n";
        for file in ["crates/core/src/lib.rs", "crates/weights/src/map/x.rs", "plugins/reference/src/kernels.rs"] {
            let (violations, _) = check(file, text);
            assert_eq!(violations.len(), 1, "{file}");
            assert!(violations[0].starts_with(&format!("{file}:2: `unsafe`")), "{violations:?}");
        }
        for file in ["crates/weights/src/map.rs", "crates/abi/src/a/b.rs", "plugins/cpu/src/kernels/avx2.rs", "x/y.py"]
        {
            assert_eq!(check(file, text).0, Vec::<String>::new(), "{file}");
        }
    }

    #[test]
    fn a_long_file_is_a_warning() {
        assert_eq!(check("crates/a.rs", &"\n".repeat(500)), (vec![], vec![]));
        let (violations, warnings) = check("crates/a.wgsl", &"\n".repeat(501));
        assert!(violations.is_empty() && warnings[0].starts_with("crates/a.wgsl: 501 lines"), "{warnings:?}");
    }

    #[test]
    fn places_match_whole_names() {
        assert!(is_under("plugins/cpu/src/kernels/x.rs", "plugins/*/src/kernels/"));
        assert!(is_under("crates/host/src/ffi.rs", "crates/host/src/ffi.rs"));
        assert!(!is_under("crates/host/src/ffi.rs", "crates/host/src/ffi/"));
        assert!(!is_under("crates/host/src/ffi2.rs", "crates/host/src/ffi.rs"));
        assert!(!is_under("crates/host/src/ffi.rs/x", "crates/host/src/ffi.rs"));
        assert!(!is_under("plugins/src/kernels/x.rs", "plugins/*/src/kernels/"));
    }

    #[test]
    fn this_workspace_is_found_and_builds_are_left_out() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let files = code_files(root).unwrap();
        assert!(files.contains(&"xtask/src/rules.rs".to_string()), "{files:?}");
        assert!(files.iter().all(|file| !file.contains("/target/")), "{files:?}");
        let empty = tempfile::tempdir().unwrap();
        assert!(code_files(empty.path()).unwrap_err().contains("holds no code"));
    }
}
