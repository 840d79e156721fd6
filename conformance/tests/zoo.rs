//! Plugins that do one thing badly each (`conformance/zoo`): every one costs an error that says what it did, and the next
//! good plugin works in the same process.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use camelid_core::DType;
use camelid_core::backend::{BufferDesc, BufferUsage, Options, Weight};
use camelid_core::graph::{Graph, GraphBuilder, Symbol, SymbolRange, SymbolValues, TensorType, ValueId};
use camelid_host::{DeviceHandle, HostError, OnUnsupported, PluginSpec, Registry};
use camelid_test_plugins::{root, rust_plugin};
use tempfile::TempDir;

/// A compiled animal with its manifest.
struct Animal {
    folder: TempDir,
    name: &'static str,
}

impl Animal {
    /// The animal of this name in zoo.c; `defines` are further macros.
    fn new(animal: &str, name: &'static str, defines: &[&str]) -> Animal {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("libanimal.so");
        let mut cc = Command::new("cc");
        cc.args([
            "-std=gnu11",
            "-Wall",
            "-Wextra",
            "-Wno-unused",
            "-Werror",
            "-shared",
            "-fPIC",
            "-fvisibility=hidden",
            "-pthread",
        ]);
        cc.arg(format!("-DANIMAL={animal}")).arg(format!("-DNAME=\"{name}\""));
        cc.arg(format!("-DTARGET=\"{}\"", camelid_sdk::TARGET)).args(defines).arg("-I");
        cc.arg(root().join("crates/abi/include")).arg(root().join("conformance/zoo/zoo.c")).arg("-o").arg(&library);
        let output = cc.output().unwrap_or_else(|e| panic!("cc cannot be run ({e}): install a C compiler"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::set_permissions(&library, fs::Permissions::from_mode(0o644)).unwrap();
        let animal = Animal { folder, name };
        animal.manifest(name, "1.0", camelid_sdk::TARGET, 0);
        animal
    }

    fn manifest(&self, name: &str, version: &str, target: &str, minor: u32) {
        let text = format!(
            "name = \"{name}\"\nversion = \"{version}\"\nabi_major = 1\nabi_minor = {minor}\ntarget = \"{target}\"\n"
        );
        fs::write(self.folder.path().join("libanimal.plugin.toml"), text).unwrap();
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("libanimal.so")
    }

    fn open(&self) -> Result<DeviceHandle, HostError> {
        let mut registry = Registry::new();
        registry.add_plugin(PluginSpec { name: None, path: self.path(), sha256: None })?;
        // Listed with the reason, whatever happened, and not tried again.
        let entry = registry.entries().next().unwrap();
        let opened = registry.open(self.name, 0, &Options::default());
        if let (Err(first), Err(HostError::Plugin { .. })) = (&entry.devices, &opened) {
            assert_eq!(first.to_string(), opened.as_ref().unwrap_err().to_string());
        }
        opened
    }
}

fn animal(animal: &str) -> Animal {
    Animal::new(animal, "animal", &[])
}

/// That a good plugin works in this process, whatever happened before.
fn the_next_one_works() {
    let device = Animal::new("GOOD", "good", &[]).open().unwrap();
    use_everything(&device).unwrap();
}

#[track_caller]
fn refused(animal: &Animal, parts: &[&str]) {
    let error = animal.open().unwrap_err().to_string();
    for part in parts.iter().chain(&["libanimal.so"]) {
        assert!(error.contains(part), "`{part}` is not in: {error}");
    }
    the_next_one_works();
}

fn linear() -> (Graph, [ValueId; 3]) {
    let values = |n| SymbolValues::new(n, 1, 1, 1);
    let mut g = GraphBuilder::new(SymbolRange { min: values(1), max: values(2) });
    let ty = |dims: &[camelid_core::graph::Dim]| TensorType::new(DType::F32, dims).unwrap();
    let x = g.input("x", ty(&[Symbol::T.into(), 4.into()])).unwrap();
    let w = g.weight("w", ty(&[3.into(), 4.into()])).unwrap();
    let y = g.linear(x, w, None).unwrap();
    g.output("y", y).unwrap();
    (g.finish(), [x, w, y])
}

fn use_everything(device: &DeviceHandle) -> Result<(), HostError> {
    let (graph, [x, w, y]) = linear();
    let placed = device.place(&graph, OnUnsupported::Lower)?;
    let ty = graph.value(w).ty;
    let weight = Weight { name: "w".into(), ty, data: vec![0; 48].into(), may_repack: false };
    let (weight, _) = device.load_weight(weight)?;
    let memory = |name: &str, usage| device.alloc(BufferDesc { name: name.into(), size: 32, usage });
    let (input, output) = (memory("x", BufferUsage::Input)?, memory("y", BufferUsage::Output)?);
    let plan = device.compile(&placed.graph, &[(x, input.clone(), 0), (w, weight, 0), (y, output.clone(), 0)])?;
    input.write(0, &[0; 32])?;
    plan.run(&SymbolValues::new(2, 1, 1, 1))?;
    output.read(0, &mut [0; 24])
}

#[track_caller]
fn fails_in_use(name: &str, parts: &[&str]) {
    let animal = animal(name);
    let device = animal.open().unwrap();
    let error = use_everything(&device).unwrap_err().to_string();
    for part in parts.iter().chain(&["animal"]) {
        assert!(error.contains(part), "`{part}` is not in: {error}");
    }
    drop(device);
    the_next_one_works();
}

#[test]
fn manifests_that_do_not_fit() {
    refused(&animal("WRONG_MAGIC"), &["begins with 0x12345678", "no Camelid plugin"]);
    refused(&animal("WRONG_MAJOR"), &["version 2 of the plugin interface", "version 1"]);
    refused(&animal("SHORT_MANIFEST"), &["struct_size is 32", "smallest is 40"]);
    refused(&animal("NULL_NAME"), &["manifest's `name` is missing"]);
    refused(&animal("OTHER_VERSION"), &["`version` is \"9.9\"", "says \"1.0\"", "not of one build"]);
    animal("LONG_MANIFEST").open().unwrap();
    let newer = animal("NEWER_MINOR");
    newer.manifest("animal", "1.0", camelid_sdk::TARGET, 9);
    use_everything(&newer.open().unwrap()).unwrap();
}

#[test]
fn manifests_beside_the_library_that_do_not_fit() {
    let good = animal("GOOD");
    good.manifest("animal", "1.0", "vax-vms", 0);
    refused(&good, &["target = \"vax-vms\""]);
    good.manifest("animal", "1.0", camelid_sdk::TARGET, 3);
    refused(&good, &["`abi_minor` is \"0\"", "says \"3\""]);
    good.manifest("animal", "1.1", camelid_sdk::TARGET, 0);
    refused(&good, &["`version` is \"1.0\"", "says \"1.1\""]);
    fs::remove_file(good.folder.path().join("libanimal.plugin.toml")).unwrap();
    let mut registry = Registry::new();
    registry.add_plugin(PluginSpec { name: None, path: good.path(), sha256: None }).unwrap();
    let error = registry.get("animal").err().unwrap().to_string();
    assert!(error.contains("libanimal.plugin.toml") && error.contains("a plugin comes with one"), "{error}");
    the_next_one_works();
}

#[test]
fn symbols_that_are_missing() {
    refused(&Animal::new("NO_MANIFEST", "animal", &["-DANIMAL_NO_MANIFEST=1"]), &["camelid_plugin_manifest"]);
    refused(&Animal::new("NO_ENTRY", "animal", &["-DANIMAL_NO_ENTRY=1"]), &["camelid_plugin_entry_v1"]);
}

#[test]
fn files_that_are_no_library_for_this_machine() {
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let animal = animal("GOOD");
        let mut bytes = fs::read(animal.path()).unwrap();
        change(&mut bytes);
        fs::write(animal.path(), bytes).unwrap();
        animal
    };
    refused(&with(&|b| *b = b"not a library\n".to_vec()), &["it is not a library"]);
    refused(&with(&|b| b.truncate(40)), &["cut off after 40 bytes"]);
    refused(&with(&|b| b.truncate(3000)), &["cut off after 3000 bytes"]);
    refused(&with(&|b| b.truncate(b.len() - 1)), &["cut off after"]);
    refused(&with(&|b| b[18] = 243), &["it was built for RISC-V"]);
    refused(&with(&|b| b.clear()), &["it is not a library"]);
}

#[test]
fn entries_that_fail() {
    refused(&animal("ENTRY_FAILS"), &["its entry failed", "the firmware is of 1987"]);
    refused(&animal("ENTRY_SILENT"), &["the plugin gave no reason"]);
    refused(&animal("ENTRY_OVERLONG"), &[&"x".repeat(1024)]);
    refused(&animal("ENTRY_NOT_UTF8"), &["gr\u{fffd}\u{fffd} dich"]);
    refused(&animal("ENTRY_UNKNOWN_STATUS"), &["odd (status 4711, which this version does not know)"]);
    refused(&animal("NO_PLUGIN"), &["answered OK but gave no plugin"]);
    refused(&animal("NO_TABLE"), &["answered OK but gave no table of functions"]);
}

#[test]
fn tables_of_other_sizes() {
    refused(&animal("SHORT_TABLE"), &["struct_size 128", "camelid_backend.h"]);
    refused(&animal("MISSING_FUNCTION"), &["lacks `plan_run`"]);
    use_everything(&animal("LONG_TABLE").open().unwrap()).unwrap();
}

#[test]
fn devices_that_are_not_there() {
    let told = |name: &str, part: &str| {
        let error = animal(name).open().unwrap_err().to_string();
        assert!(error.contains("animal") && error.contains(part), "{error}");
        the_next_one_works();
    };
    told("NO_COUNT", "answered OK but counts 4294967295 devices");
    told("MANY_DEVICES", "counts 4000000000 devices");
    told("ZERO_DEVICES", "the backend found none: libanimal.so.1 not found");
    told("NO_INFO", "answered OK but says nothing of device 0");
    told("NO_DEVICE", "`device_open` answered OK but gave no handle");
}

#[test]
fn answers_that_were_not_written() {
    fails_in_use("NO_VERDICT", &["says nothing of node 0", "linear"]);
    fails_in_use("ODD_VERDICT", &["verdict 77", "linear"]);
    fails_in_use("NO_BUFFER", &["`buffer_alloc` answered OK but gave no handle"]);
    fails_in_use("NO_PLACEMENT", &["placement 0", "load weight `w`"]);
    fails_in_use("NO_PLAN", &["`plan_compile` answered OK but gave no handle"]);
    fails_in_use("SAME_BUFFER", &["buffer"]);
}

#[test]
fn a_claim_that_is_not_kept_names_the_plugin() {
    fails_in_use("FALSE_CLAIM", &["compile (1 nodes)", "no kernel for this after all"]);
}

#[test]
fn a_plugin_may_take_its_time_and_leave_threads_behind() {
    animal("SLOW_INIT").open().unwrap();
    for name in ["THREAD_AT_SHUTDOWN", "LOG_AFTER_SHUTDOWN"] {
        let animal = animal(name);
        drop(animal.open().unwrap());
        // The thread outlives the plugin, and its file too.
        drop(animal);
        std::thread::sleep(Duration::from_millis(100));
        the_next_one_works();
    }
    std::thread::sleep(Duration::from_millis(200));
}

#[test]
fn names_that_are_taken_are_an_error_that_lists_both() {
    let (one, two) = (animal("GOOD"), animal("GOOD"));
    let spec = |animal: &Animal| PluginSpec { name: None, path: animal.path(), sha256: None };
    for second in [&two, &one] {
        let mut registry = Registry::new();
        registry.add_plugin(spec(&one)).unwrap();
        let error = registry.add_plugin(spec(second)).unwrap_err().to_string();
        assert!(error.contains("two backends are named `animal`"), "{error}");
        assert!(error.contains(&*one.path().to_string_lossy()), "{error}");
        assert!(error.contains(&*second.path().to_string_lossy()), "{error}");
    }
    let mut registry = Registry::linked().unwrap();
    let linked = Animal::new("GOOD", "reference", &[]);
    let error = registry.add_plugin(spec(&linked)).unwrap_err().to_string();
    assert!(error.contains("`reference`") && error.contains("linked") && error.contains("libanimal.so"), "{error}");
}

#[test]
fn a_pinned_library_that_changes_is_refused_and_one_that_changes_later_does_not_matter() {
    let animal = animal("GOOD");
    let output = Command::new("sha256sum").arg(animal.path()).output().unwrap();
    let hash = String::from_utf8(output.stdout).unwrap()[..64].parse().unwrap();
    let spec = PluginSpec { name: None, path: animal.path(), sha256: Some(hash) };
    let mut registry = Registry::new();
    registry.add_plugin(spec.clone()).unwrap();
    let device = registry.open("animal", 0, &Options::default()).unwrap();
    // What runs is the copy that was hashed.
    fs::write(animal.path(), [0; 4096]).unwrap();
    use_everything(&device).unwrap();

    let mut bytes = fs::read(Animal::new("ENTRY_FAILS", "animal", &[]).path()).unwrap();
    bytes.push(0);
    fs::write(animal.path(), bytes).unwrap();
    let mut registry = Registry::new();
    registry.add_plugin(spec).unwrap();
    let error = registry.open("animal", 0, &Options::default()).unwrap_err().to_string();
    assert!(error.contains("SHA-256") && error.contains(&hash.to_string()), "{error}");
    assert!(!error.contains("1987"), "its code must not run: {error}");
}

#[test]
fn a_file_in_the_way_of_the_search_is_not_found() {
    // Nothing is searched: a bare name is no path.
    let spec = PluginSpec { name: None, path: Path::new("libanimal.so").to_owned(), sha256: None };
    let mut registry = Registry::new();
    registry.add_plugin(spec).unwrap();
    let error = registry.get("animal").err().unwrap().to_string();
    assert!(error.contains("a plugin is named by an absolute path"), "{error}");
}

/// The functions that come before a device is open are tried behind the same table in `camelid-sdk`'s own tests.
#[test]
fn a_panic_of_a_loaded_plugin_is_an_error_and_the_device_is_lost() {
    let path = rust_plugin("camelid-zoo-panics", Path::new("conformance/zoo/panics"));
    let mut registry = Registry::new();
    registry.add_plugin(PluginSpec { name: None, path, sha256: None }).unwrap();
    let open = |function: &str| {
        let mut options = Options::default();
        options.set("in", function);
        registry.open("panics", 0, &options)
    };
    use_everything(&open("nothing").unwrap()).unwrap();
    let error = open("device_open").unwrap_err().to_string();
    assert!(error.contains("panics: open device 0") && error.contains("the plugin panicked"), "{error}");
    let fails =
        ["graph_supports", "buffer_alloc", "weight_load", "buffer_write", "buffer_read", "plan_compile", "plan_run"];
    for function in fails {
        let device = open(function).unwrap();
        let error = use_everything(&device).unwrap_err().to_string();
        assert!(error.contains("device lost: the plugin panicked"), "{function}: {error}");
        let later = use_everything(&device).unwrap_err().to_string();
        assert!(later.contains("the device was lost earlier"), "{function}: {later}");
    }
    // Nobody can be told of these but the log.
    for function in ["buffer_free", "plan_free", "device_close"] {
        use_everything(&open(function).unwrap()).unwrap();
    }
    use_everything(&open("nothing").unwrap()).unwrap();
    the_next_one_works();
}
