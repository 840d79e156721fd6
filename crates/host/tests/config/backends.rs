//! The backends and plugins that a configuration names, and their options.

use std::fs;

use camelid_host::Config;
use camelid_host::config::{BackendConfig, Origin};

use super::{folder, line, load, sources};

#[test]
fn options_from_the_command_line_join_those_of_the_file() {
    let folder = folder("[backends.cpu]\nthreads = 4\nnuma = true\n");
    let mut sources = sources(folder.path());
    let options = [("threads".to_owned(), "2".to_owned())].into();
    sources.overrides.backends.insert("cpu".into(), BackendConfig { device: Some(1), options });
    let loaded = Config::load(&sources).unwrap();
    let (device, options) = loaded.config.device("cpu");
    assert_eq!((device, options.iter().collect::<Vec<_>>()), (1, vec![("numa", "true"), ("threads", "2")]));
    assert_eq!(loaded.config.device("other"), (0, Default::default()));
    assert_eq!(loaded.origin("backends.cpu.threads"), Some(&Origin::CommandLine));
    assert_eq!(loaded.origin("backends.cpu.numa").cloned(), line(3));
}

#[test]
fn a_backend_that_is_named_but_not_there_is_found_with_its_place() {
    let loaded = load("backend = \"cpu\"\n[backends.refrence]\nthreads = 1\n").unwrap();
    loaded.check_backends(&["cpu", "refrence"]).unwrap();
    let message = loaded.check_backends(&["cpu", "reference"]).unwrap_err().to_string();
    let expected = "./camelid.toml:3: `backends.refrence.threads` names the backend `refrence`, which is not there; \
                    did you mean `reference`? (the backends are: cpu, reference)";
    assert_eq!(message, expected);
    let message = loaded.check_backends(&["reference"]).unwrap_err().to_string();
    assert!(
        message.starts_with("./camelid.toml:1: `backend` names the backend `cpu`, which is not there ("),
        "{message}"
    );
}

#[test]
fn a_plugin_entry_that_is_wrong_is_an_error_that_says_what_to_write() {
    let folder = folder("");
    let refused = |text: &str, parts: &[&str]| {
        fs::write(folder.path().join("camelid.toml"), text).unwrap();
        let error = Config::load(&sources(folder.path())).unwrap_err().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    };
    let good = "[[plugin]]\nname = \"npu\"\npath = \"/opt/libnpu.so\"\n";
    let meant = folder.path().join("libnpu.so").display().to_string();
    refused(&good.replace("/opt/", ""), &["camelid.toml:3", "`plugin.path`", "be an absolute path", &meant]);
    refused(&good.replace("npu\"\n", "N P U\"\n"), &["camelid.toml:2", "`plugin.name`", "lower-case letters"]);
    refused(&format!("{good}sha256 = \"12\"\n"), &["camelid.toml:4", "64 hexadecimal digits"]);
    refused(&format!("{good}sha265 = \"12\"\n"), &["no key `plugin.sha265`; did you mean `plugin.sha256`?"]);
    refused("[[plugin]]\nname = \"npu\"\n", &["camelid.toml:1", "a table without `path`"]);
    refused("[plugin]\nname = \"npu\"\n", &["be an array of tables: [[plugin]]"]);
    refused("[plugins]\ntrust = \"all\"\n", &["`plugins.trust`", "be \"hash\" or \"path\""]);
}

#[cfg(unix)]
#[test]
fn a_file_that_others_may_change_may_not_name_plugins() {
    use std::os::unix::fs::PermissionsExt;

    let folder = folder("[[plugin]]\nname = \"npu\"\npath = \"/opt/libnpu.so\"\n");
    let file = folder.path().join("camelid.toml");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    let error = Config::load(&sources(folder.path())).unwrap_err().to_string();
    assert!(error.contains("names plugins") && error.contains("chmod go-w"), "{error}");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    Config::load(&sources(folder.path())).unwrap();
}
