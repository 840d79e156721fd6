//! `cargo xtask freeze`: the example plugins as today's interface builds them, kept for the hosts to come.

use std::path::Path;
use std::process::Command;

use camelid_abi::{ABI_MAJOR, ABI_MINOR};

/// Builds both examples and records their libraries, without debug symbols, under the interface's version.
pub fn run(root: &Path) -> Result<(), String> {
    let target = root.join("target/freeze");
    let (rust, c) = (root.join("plugins/example-rust"), root.join("plugins/example-c"));
    // What is recorded says nothing of where it was built.
    let registry = std::env::var("CARGO_HOME").or_else(|_| std::env::var("HOME").map(|home| format!("{home}/.cargo")));
    let registry = registry.map_err(|_| "neither CARGO_HOME nor HOME is set")?;
    let flags = format!("--remap-path-prefix={}=camelid --remap-path-prefix={registry}=cargo", root.display());
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--release", "--target-dir"]).arg(&target).env("RUSTFLAGS", flags).current_dir(&rust);
    step(&mut cargo)?;
    step(Command::new("make").arg(format!("OUT={}", target.join("c").display())).current_dir(&c))?;

    let folder = root.join(format!("conformance/frozen/{ABI_MAJOR}.{ABI_MINOR}"));
    std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let plugins = [
        (target.join("release/libcamelid_example.so"), rust.join("libcamelid_example.plugin.toml")),
        (target.join("c/libcamelid_example_c.so"), c.join("libcamelid_example_c.plugin.toml")),
    ];
    for (library, manifest) in plugins {
        let to = folder.join(library.file_name().ok_or("a library has a name")?);
        step(Command::new("strip").arg("--strip-unneeded").arg("-o").arg(&to).arg(&library))?;
        let to = folder.join(manifest.file_name().ok_or("a manifest has a name")?);
        std::fs::copy(&manifest, &to).map_err(|e| format!("{}: {e}", to.display()))?;
    }
    println!("recorded in {}", folder.display());
    Ok(())
}

fn step(command: &mut Command) -> Result<(), String> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{command:?} failed: {status}")),
        Err(error) => Err(format!("{command:?} cannot be run: {error}")),
    }
}
