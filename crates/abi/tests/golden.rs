//! The interface as it was agreed: layouts and codes, and the header a C compiler makes of them.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use camelid_abi::layout::LAYOUTS;

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A difference breaks every plugin there is. `tests/layout.txt` may only get longer: fields at the end of structs with
/// `struct_size`, new structs.
#[test]
#[cfg(target_pointer_width = "64")]
fn the_layout_is_the_golden_one() {
    let mut found = String::new();
    for layout in LAYOUTS {
        writeln!(found, "{} size {} align {}", layout.name, layout.size, layout.align).unwrap();
        for (field, offset) in layout.fields {
            writeln!(found, "  {offset:>4} {field}").unwrap();
        }
    }
    let golden = std::fs::read_to_string(folder().join("tests/layout.txt")).unwrap();
    assert_eq!(found, golden, "the layout changed; specs/plugin-abi.md says what may");
}

/// Every code with its value, as the source has them. A value that changes breaks every plugin there is.
#[test]
fn the_codes_are_the_golden_ones() {
    let source = std::fs::read_to_string(folder().join("src/codes.rs")).unwrap();
    let codes: String = source
        .lines()
        .filter_map(|line| line.strip_prefix("pub const "))
        .map(|line| {
            let (name, value) = (line.split(':').next().unwrap(), line.split("= ").nth(1).unwrap());
            format!("{name} {}\n", value.trim_end_matches(';'))
        })
        .collect();
    let golden = std::fs::read_to_string(folder().join("tests/codes.txt")).unwrap();
    assert_eq!(codes, golden, "codes are appended, never changed; specs/plugin-abi.md says how");
}

/// The manual has every code with its value.
#[test]
fn the_codes_are_documented() {
    let manual = std::fs::read_to_string(folder().join("../../specs/plugin-abi.md")).unwrap();
    let golden = std::fs::read_to_string(folder().join("tests/codes.txt")).unwrap();
    for line in golden.lines() {
        let (name, value) = line.split_once(' ').unwrap();
        let row = format!("| {value} | `{name}` |");
        let in_the_rules = ["SYMBOL_COUNT", "VENDOR_ID_START", "NO_VALUE"].contains(&name);
        assert!(in_the_rules || manual.contains(&row), "specs/plugin-abi.md lacks the row {row}");
    }
}

#[test]
fn ids_are_given_once() {
    let golden = std::fs::read_to_string(folder().join("tests/codes.txt")).unwrap();
    let mut seen = std::collections::HashMap::new();
    for line in golden.lines() {
        let (name, value) = line.split_once(' ').unwrap();
        let kind = name.split('_').next().unwrap();
        if let Some(other) = seen.insert((kind, value), name) {
            // Flags, limits and kinds that share a first word.
            panic!("{name} and {other} are both {value}");
        }
    }
    assert!(seen.len() > 80, "{} codes", seen.len());
}

/// Compiles a file that includes nothing but the header.
fn compile(compiler: &str, standard: &str, extension: &str) {
    let source = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("header_{standard}.{extension}"));
    let text = "#include \"camelid_backend.h\"\n#include \"camelid_backend.h\"\nint main(void) { return CAMELID_STATUS_OK; }\n";
    std::fs::write(&source, text).unwrap();
    let output = Command::new(compiler)
        .args([&format!("-std={standard}"), "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", "-I"])
        .arg(folder().join("include"))
        .arg(&source)
        .output()
        .unwrap_or_else(|e| {
            panic!("{compiler} cannot be run ({e}): install a C and a C++ compiler (Debian: gcc, g++)")
        });
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_header_compiles_alone_as_c11_with_the_same_layout() {
    compile("cc", "c11", "c");
}

#[test]
fn the_header_compiles_alone_as_cpp17_with_the_same_layout() {
    compile("c++", "c++17", "cpp");
}
