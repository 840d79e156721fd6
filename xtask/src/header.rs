//! `cargo xtask header`: the C header of the plugin interface, from its Rust types.

use std::fmt::Write;
use std::path::Path;

use camelid_abi::layout::LAYOUTS;

/// Where the header lies.
const HEADER: &str = "crates/abi/include/camelid_backend.h";
/// Types that are no structs of the interface's own.
const OTHER_TYPES: [&str; 6] = ["Plugin", "Device", "Buffer", "Plan", "Status", "Entry"];
/// What stands between the includes and the first type.
const MACROS: &str = r#"
#if defined(_WIN32)
#define CAMELID_EXPORT __declspec(dllexport)
#else
#define CAMELID_EXPORT __attribute__((visibility("default")))
#endif

/* Whether the struct that `ptr` points to is large enough to have `field`. */
#define CAMELID_HAS(ptr, Type, field) \
  ((ptr)->struct_size >= offsetof(Type, field) + sizeof(((Type *)0)->field))

#ifdef __cplusplus
#define CAMELID_ASSERT(condition) static_assert(condition, #condition)
#else
#define CAMELID_ASSERT(condition) _Static_assert(condition, #condition)
#endif
"#;
/// The two symbols of a plugin.
const SYMBOLS: &str = r#"
#ifdef __cplusplus
extern "C" {
#endif

/* The two symbols that a plugin exports. */
extern CAMELID_EXPORT const CamelidManifest camelid_plugin_manifest;
CAMELID_EXPORT CamelidStatus camelid_plugin_entry_v1(const CamelidHost *host, CamelidPlugin **plugin,
                                                     const CamelidApi **api, CamelidError *error);

#ifdef __cplusplus
}
#endif
"#;

/// Writes the header.
pub fn write(root: &Path) -> Result<(), String> {
    let text = generate(root)?;
    std::fs::write(root.join(HEADER), text).map_err(|e| format!("{HEADER}: cannot be written: {e}"))
}

/// Checks that the header is what would be written.
pub fn check(root: &Path) -> Result<(), String> {
    let expected = generate(root)?;
    let found = std::fs::read_to_string(root.join(HEADER)).map_err(|e| format!("{HEADER}: cannot be read: {e}"))?;
    if found == expected {
        return Ok(());
    }
    let line = found.lines().zip(expected.lines()).take_while(|(a, b)| a == b).count() + 1;
    Err(format!("{HEADER}:{line} is not what crates/abi says; run `cargo xtask header` and commit the result"))
}

fn generate(root: &Path) -> Result<String, String> {
    let folder = root.join("crates/abi");
    let mut config = cbindgen::Config::from_file(folder.join("cbindgen.toml"))?;
    for name in LAYOUTS.iter().map(|l| l.name).chain(OTHER_TYPES) {
        config.export.rename.insert(name.into(), format!("Camelid{name}"));
        config.export.include.push(name.into());
    }
    config.after_includes = Some(MACROS.into());
    config.trailer = Some(format!("{}{}", SYMBOLS.trim_start_matches('\n'), assertions()));
    let bindings = cbindgen::Builder::new().with_src(folder.join("src/lib.rs")).with_config(config).generate();
    let mut text = Vec::new();
    bindings.map_err(|e| format!("cbindgen: {e}"))?.write(&mut text);
    let text = String::from_utf8(text).map_err(|e| format!("cbindgen wrote what is not UTF-8: {e}"))?;
    // Rust's links say nothing to C, and a negative number in a macro wants parentheses.
    let line = |line: &str| match line.split_once(" -") {
        Some((name, number)) if name.starts_with("#define ") => format!("{name} (-{number})\n"),
        _ => format!("{line}\n"),
    };
    Ok(text.replace("[`", "`").replace("`]", "`").lines().map(line).collect())
}

/// That a C compiler lays the structs out as Rust does.
fn assertions() -> String {
    let mut text = String::from("\n#if UINTPTR_MAX == 0xffffffffffffffffu\n");
    for layout in LAYOUTS {
        let name = format!("Camelid{}", layout.name);
        writeln!(text, "CAMELID_ASSERT(sizeof({name}) == {});", layout.size).expect("writing to a string");
        for (field, offset) in layout.fields {
            writeln!(text, "CAMELID_ASSERT(offsetof({name}, {field}) == {offset});").expect("writing to a string");
        }
    }
    text.push_str("#endif\n\n#endif /* CAMELID_BACKEND_H */\n");
    text
}
