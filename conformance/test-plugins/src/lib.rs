//! Dynamic libraries for tests: built when one needs them, each with its manifest beside it.
//!
//! The tests of the suite and `cargo xtask conformance` load the same libraries from here. Everything panics with the
//! reason: what uses this is a test.

#![deny(missing_docs)]
#![forbid(unsafe_code)]

use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The root of the workspace.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap()
}

/// The folder that the running program was built in: target/debug/deps/test-0123, target/debug/xtask.
pub fn target() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let target = exe.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    target.unwrap_or_else(|| panic!("{} lies in no folder that cargo builds in", exe.display())).to_owned()
}

/// The reference backend as a plugin.
pub fn reference() -> PathBuf {
    rust_plugin("camelid-reference-plugin", Path::new("plugins/reference/dylib"))
}

/// The fast backend for processors as a plugin.
pub fn cpu() -> PathBuf {
    rust_plugin("camelid-cpu-plugin", Path::new("plugins/cpu/dylib"))
}

/// Builds targets of the workspace, in one go with a test: whatever was compiled for the tests of the workspace is taken, and not
/// compiled anew. Of a package alone, cargo makes another choice of its dependencies' features, and so other builds of all.
pub fn build(targets: &[&str]) {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--workspace", "--test", "conformance"]).args(targets);
    let status = cargo.arg("--target-dir").arg(target()).current_dir(root()).status();
    assert!(status.is_ok_and(|status| status.success()), "{} of the workspace do not build", targets.join(" "));
}

/// The library of `package`, a `cdylib` of the workspace in `folder`, built as the tests are, in a folder of its own
/// with its manifest.
pub fn rust_plugin(package: &str, folder: &Path) -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| build(&["--lib"]));
    let stem = format!("{DLL_PREFIX}{}", package.replace('-', "_"));
    let built = target().join("debug").join(format!("{stem}{DLL_SUFFIX}"));
    with_manifest(&built, &root().join(folder), package)
}

/// The example in Rust, built for release as its README says.
pub fn example_rust() -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    let folder = root().join("plugins/example-rust");
    let to = target().join("example-rust");
    BUILT.get_or_init(|| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--release", "--target-dir"]).arg(&to).current_dir(&folder);
        assert!(cargo.status().unwrap().success(), "plugins/example-rust does not build");
    });
    with_manifest(&to.join("release/libcamelid_example.so"), &folder, "example-rust")
}

/// The example in C, built as its README says.
pub fn example_c() -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    let folder = root().join("plugins/example-c");
    let to = target().join("example-c");
    BUILT.get_or_init(|| {
        let out = format!("OUT={}", to.display());
        let status = Command::new("make").args(["--silent", &out]).current_dir(&folder).status();
        let status = status.unwrap_or_else(|e| panic!("make cannot be run ({e}): install make and a C compiler"));
        assert!(status.success(), "plugins/example-c does not build");
    });
    with_manifest(&to.join("libcamelid_example_c.so"), &folder, "example-c")
}

/// A copy of a library and the manifest beside it that nobody else may change.
pub fn private_copy(library: &Path) -> PathBuf {
    let folder = library.parent().unwrap();
    with_manifest(library, folder, &format!("frozen-{}", folder.file_name().unwrap().display()))
}

fn with_manifest(library: &Path, manifests: &Path, name: &str) -> PathBuf {
    use std::hash::{DefaultHasher, Hash, Hasher};
    use std::os::unix::fs::PermissionsExt;

    // Nobody else may change a plugin, and who owns the checkout is not for a test to say.
    let mut hash = DefaultHasher::new();
    (root(), std::env::var_os("USER")).hash(&mut hash);
    let all = std::env::temp_dir().join(format!("camelid-plugins-{:x}", hash.finish()));
    let home = all.join(name);
    std::fs::create_dir_all(&home).unwrap();
    for folder in [&all, &home] {
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)).unwrap();
    }
    let copied = home.join(library.file_name().unwrap());
    copy(library, &copied);
    let manifest = format!("{}.plugin.toml", library.file_stem().unwrap().display());
    copy(&manifests.join(&manifest), &home.join(&manifest));
    copied
}

/// Copies a file so that only its owner may write it, whatever the umask. A library that another test has loaded stays
/// what it is: the copy takes its place in one step.
fn copy(from: &Path, to: &Path) {
    use std::os::unix::fs::PermissionsExt;

    static COPIES: AtomicUsize = AtomicUsize::new(0);
    let number = COPIES.fetch_add(1, Ordering::Relaxed);
    let new = to.with_extension(format!("{}.{number}", std::process::id()));
    std::fs::copy(from, &new).unwrap_or_else(|e| panic!("{} cannot be copied: {e}", from.display()));
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::rename(&new, to).unwrap();
}
