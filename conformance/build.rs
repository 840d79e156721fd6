//! Puts the suite's files into the program, so that one binary is all that a test of a backend needs.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    let suite = Path::new(&env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("suite");
    let (mut folders, mut files): (Vec<PathBuf>, Vec<PathBuf>) = (vec![suite.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        println!("cargo::rerun-if-changed={}", folder.display());
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.unwrap_or_else(|e| panic!("{}: {e}", folder.display())).path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    let mut text =
        String::from("/// The files of the suite by their path with `/`.\nstatic FILES: &[(&str, &[u8])] = &[\n");
    for path in files {
        println!("cargo::rerun-if-changed={}", path.display());
        let name = path.strip_prefix(&suite).expect("found below the folder");
        let name: Vec<_> = name.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
        writeln!(text, "    ({:?}, include_bytes!({:?})),", name.join("/"), path).expect("a string takes everything");
    }
    text.push_str("];\n");
    let out = Path::new(&env::var("OUT_DIR").expect("cargo sets it")).join("suite_files.rs");
    fs::write(&out, text).unwrap_or_else(|e| panic!("{}: {e}", out.display()));
}
