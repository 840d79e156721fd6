//! The registry: names, duplicates, and opening.

mod common;

use std::sync::Arc;

use camelid_core::backend::{Devices, ErrorCode, Options};
use camelid_host::{BackendOrigin, HostError, Registry};
use common::{FakeBackend, Script};

fn registry(names: &[&str]) -> (Registry, Arc<Script>) {
    let script = Arc::new(Script::default());
    let mut registry = Registry::new();
    for name in names {
        registry.register(Box::new(FakeBackend::new(name, &script))).unwrap();
    }
    (registry, script)
}

#[test]
fn an_unknown_backend_is_an_error_with_the_nearest_name_and_all_names() {
    let (registry, script) = registry(&["reference", "cpu", "my-npu_2"]);
    assert_eq!(registry.names(), ["cpu", "my-npu_2", "reference"]);
    let error = registry.open("referense", 0, &Options::default()).unwrap_err().to_string();
    let expected =
        "there is no backend `referense`; did you mean `reference`? (the backends are: cpu, my-npu_2, reference)";
    assert_eq!(error, expected);
    let far = registry.get("vulkan").err().unwrap().to_string();
    assert_eq!(far, "there is no backend `vulkan` (the backends are: cpu, my-npu_2, reference)");
    let none = Registry::new().get("cpu").err().unwrap().to_string();
    assert_eq!(none, "there is no backend `cpu` (no backend is linked in)");
    assert!(script.take_calls().is_empty(), "no backend was touched in another's place");
}

#[test]
fn the_second_backend_of_a_name_is_refused_and_the_first_stays() {
    let (mut registry, script) = registry(&["npu"]);
    let error = registry.register(Box::new(FakeBackend::new("npu", &script))).unwrap_err().to_string();
    let both = "version 0.9.1 (registered) and version 0.9.1 (registered)";
    assert_eq!(error, format!("two backends are named `npu`: {both}; leave one of them out"));
    assert_eq!(registry.names(), ["npu"]);
    registry.open("npu", 0, &Options::default()).unwrap();
}

#[test]
fn names_keep_to_the_rule() {
    for name in ["", "NPU", "my npu", "npu.1", "npü", "npu\n"] {
        let (mut registry, script) = registry(&[]);
        let error = registry.register(Box::new(FakeBackend::new(name, &script))).unwrap_err().to_string();
        assert!(error.contains("lower-case letters, digits, `-` and `_`"), "{error}");
        assert!(!error.contains('\n'));
    }
}

#[test]
fn a_device_that_is_not_there_is_an_error_that_lists_those_that_are() {
    let (registry, script) = registry(&["fake"]);
    let error = registry.open("fake", 1, &Options::default()).unwrap_err().to_string();
    assert_eq!(error, "fake: there is no device 1; the devices are: 0 = Fake 100");
    assert_eq!(script.take_calls(), ["devices"], "the backend is not asked to open it");
}

#[test]
fn a_backend_without_devices_says_why() {
    let (mut registry, script) = registry(&[]);
    let note = Some("libfake.so.1 not found".to_owned());
    let backend = FakeBackend { devices: Devices { list: vec![], note }, ..FakeBackend::new("fake", &script) };
    registry.register(Box::new(backend)).unwrap();
    let error = registry.open("fake", 0, &Options::default()).unwrap_err().to_string();
    assert_eq!(error, "fake: there is no device 0; the backend found none: libfake.so.1 not found");
}

#[test]
fn what_the_backend_refuses_is_named() {
    let (registry, script) = registry(&["fake"]);
    let mut options = Options::default();
    options.set("thread", "2");
    let error = registry.open("fake", 0, &options).unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::Invalid));
    assert_eq!(
        error.to_string(),
        "fake: open device 0: invalid request: unknown option `thread`; the options are: threads"
    );
    script.failing.lock().unwrap().insert("devices", ErrorCode::Internal);
    let error = registry.open("fake", 0, &Options::default()).unwrap_err().to_string();
    assert_eq!(error, "fake: look for devices: internal error: devices fails as told");
}

#[test]
fn entries_tell_the_devices_or_why_there_are_none() {
    let (registry, script) = registry(&["b", "a"]);
    let entries: Vec<_> = registry.entries().collect();
    assert_eq!(entries.iter().map(|e| e.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!((entries[0].version.as_deref(), &entries[0].origin), (Some("0.9.1"), &BackendOrigin::Registered));
    assert_eq!(entries[0].devices.as_ref().unwrap().list[0].name, "Fake 100");
    script.failing.lock().unwrap().insert("devices", ErrorCode::Internal);
    let error = registry.entries().next().unwrap().devices.unwrap_err();
    assert!(error.to_string().contains("devices fails as told"), "{error}");
}

/// This test program links no backend, so only the empty case can be seen here; duplicates are tested in the crate.
#[test]
fn nothing_linked_is_an_empty_registry() {
    let registry = Registry::linked().unwrap();
    assert!(registry.names().is_empty());
    assert!(matches!(registry.get("reference").err(), Some(HostError::UnknownBackend { .. })));
}
