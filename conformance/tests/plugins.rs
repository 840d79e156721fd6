//! The two example plugins: they generate what the reference backend generates, they export nothing but their two
//! symbols, and yesterday's builds of them still load.

mod common;

use std::path::PathBuf;
use std::process::Command;

use camelid_core::backend::Options;
use camelid_fetch as fetch;
use camelid_host::{PluginSpec, Registry};
use camelid_test_plugins::{example_c, example_rust, root};
use common::{generate_greedy, load, reference};

fn open(library: PathBuf, name: &str) -> camelid_host::DeviceHandle {
    let mut registry = Registry::new();
    registry.add_plugin(PluginSpec { name: None, path: library, sha256: None }).unwrap();
    registry.open(name, 0, &Options::default()).unwrap()
}

/// "The capital of France is" as SmolLM2 has it.
const PROMPT: [u32; 5] = [504, 3575, 282, 4649, 314];
const TOKENS: usize = 16;

fn smollm2_tokens(device: camelid_host::DeviceHandle) -> Vec<u32> {
    generate_greedy(&load(&fetch::smollm2_gguf().unwrap_or_else(|e| panic!("{e}")), device), &PROMPT, TOKENS).tokens
}

#[test]
fn the_rust_example_generates_with_smollm2_what_the_reference_does() {
    let expected = smollm2_tokens(reference(2));
    assert_eq!(expected.len(), TOKENS);
    assert_eq!(smollm2_tokens(open(example_rust(), "example")), expected);
}

#[test]
fn the_c_example_generates_with_smollm2_what_the_reference_does() {
    assert_eq!(smollm2_tokens(open(example_c(), "example-c")), smollm2_tokens(reference(2)));
}

#[test]
fn a_plugin_exports_its_two_symbols_and_nothing_else() {
    for library in [camelid_test_plugins::reference(), example_rust(), example_c()] {
        let output = Command::new("nm").args(["-D", "--defined-only"]).arg(&library).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let mut symbols: Vec<&str> = text.lines().filter_map(|l| l.split_whitespace().last()).collect();
        symbols.sort_unstable();
        assert_eq!(symbols, ["camelid_plugin_entry_v1", "camelid_plugin_manifest"], "{}", library.display());
    }
}

/// Plugins built when the interface had the version in the folder's name. They are never built anew for the same version.
#[test]
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn frozen_plugins_load_and_compute() {
    let model = load(&camelid_conformance::fixtures::suite_dir().join("model/gqa"), reference(2));
    let expected = common::greedy(&model, &[1, 2, 3], 8, Vec::new());
    let mut tried = 0;
    let frozen = root().join("conformance/frozen");
    for version in std::fs::read_dir(&frozen).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir()) {
        for (file, name) in [("libcamelid_example.so", "example"), ("libcamelid_example_c.so", "example-c")] {
            let library = camelid_test_plugins::private_copy(&version.join(file));
            let model = load(&camelid_conformance::fixtures::suite_dir().join("model/gqa"), open(library, name));
            assert_eq!(common::greedy(&model, &[1, 2, 3], 8, Vec::new()), expected, "{}", version.display());
            tried += 1;
        }
    }
    assert!(tried >= 2, "the recorded plugins are missing from {}", frozen.display());
}
