//! [`Sidecar`]: the manifest beside a library, read before any of its code runs.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use camelid_sdk::{TARGET, abi};
use serde::Deserialize;

use super::PluginError;
use crate::registry::{BACKEND_NAME_RULE, is_backend_name};

/// What takes the place of the library's extension in the name of its manifest.
pub(super) const SUFFIX: &str = ".plugin.toml";
/// Most bytes of a manifest.
const MAX_BYTES: u64 = 1 << 16;

/// What the file `LIBRARY.plugin.toml` says.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Sidecar {
    /// Name of the backend.
    pub name: String,
    /// Version of the plugin.
    pub version: String,
    /// Major version of the plugin interface.
    pub abi_major: u32,
    /// Minor version of the plugin interface.
    pub abi_minor: u32,
    /// What the library was built for: `ARCHITECTURE-OS`.
    pub target: String,
}

impl Sidecar {
    /// Where the manifest of `library` lies: `libnpu.so` has `libnpu.plugin.toml`.
    pub fn path_for(library: &Path) -> PathBuf {
        let stem = library.file_stem().unwrap_or_default().to_string_lossy();
        library.with_file_name(format!("{stem}{SUFFIX}"))
    }

    /// Reads and checks the manifest of `library`.
    pub(super) fn read(library: &Path) -> Result<Sidecar, PluginError> {
        let path = Sidecar::path_for(library);
        let wrong = |problem: String| PluginError::Sidecar { sidecar: path.clone(), problem };
        let failed = |error: std::io::Error| {
            wrong(format!(
                "cannot be read ({error}); a plugin comes with one beside the library, see specs/plugin-abi.md"
            ))
        };
        if !path.metadata().map_err(failed)?.is_file() {
            return Err(wrong("is no regular file".into()));
        }
        let mut text = Vec::new();
        File::open(&path).and_then(|f| f.take(MAX_BYTES + 1).read_to_end(&mut text)).map_err(failed)?;
        if text.len() as u64 > MAX_BYTES {
            return Err(wrong(format!("has more than {MAX_BYTES} bytes; is it the right file?")));
        }
        let text = String::from_utf8(text).map_err(|_| wrong("is not UTF-8 text".into()))?;
        let sidecar: Sidecar = toml::from_str(&text).map_err(|e| wrong(format!("is wrong: {}", e.message())))?;
        sidecar.check().map_err(wrong)?;
        Ok(sidecar)
    }

    fn check(&self) -> Result<(), String> {
        if !is_backend_name(&self.name) {
            return Err(format!("names the backend `{}`; a name is {BACKEND_NAME_RULE}", self.name.escape_debug()));
        }
        if self.abi_major != abi::ABI_MAJOR {
            return Err(format!(
                "says abi_major = {}, but this program has version {} of the plugin interface; get a build of the plugin \
                 for that",
                self.abi_major,
                abi::ABI_MAJOR
            ));
        }
        if self.target != TARGET {
            return Err(format!(
                "says target = \"{}\", but this program is {TARGET}; get a build of the plugin for that",
                self.target.escape_debug()
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Result<Sidecar, String> {
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("libnpu.so");
        std::fs::write(folder.path().join("libnpu.plugin.toml"), text).unwrap();
        Sidecar::read(&library).map_err(|e| e.to_string())
    }

    fn good() -> String {
        format!("name = \"npu\"\nversion = \"1.2\"\nabi_major = 1\nabi_minor = 0\ntarget = \"{TARGET}\"\n")
    }

    #[test]
    fn a_good_one_is_read() {
        let sidecar = read(good().as_bytes()).unwrap();
        assert_eq!((&sidecar.name[..], &sidecar.version[..], sidecar.abi_minor), ("npu", "1.2", 0));
        read(good().replace("abi_minor = 0", "abi_minor = 7").as_bytes()).unwrap();
    }

    #[test]
    fn a_bad_one_is_an_error_that_says_what_is_wrong() {
        let refused = |text: &str, part: &str| {
            let error = read(text.as_bytes()).unwrap_err();
            assert!(error.contains("libnpu.plugin.toml") && error.contains(part), "{error}");
        };
        refused(&good().replace("npu", "N P U"), "names the backend `N P U`");
        refused(&good().replace("abi_major = 1", "abi_major = 2"), "abi_major = 2, but this program has version 1");
        refused(&good().replace(TARGET, "vax-vms"), "target = \"vax-vms\", but this program is");
        refused(&good().replace("version = \"1.2\"\n", ""), "missing field `version`");
        refused(&good().replace("version", "vesrion"), "unknown field `vesrion`");
        refused("name = ", "is wrong");
        assert!(read(&[0xff]).unwrap_err().contains("UTF-8"));
        assert!(read(&vec![b'#'; 70_000]).unwrap_err().contains("more than 65536 bytes"));
        let nowhere = Sidecar::read(Path::new("/nowhere/libnpu.so")).unwrap_err().to_string();
        assert!(nowhere.contains("/nowhere/libnpu.plugin.toml") && nowhere.contains("beside the library"), "{nowhere}");
    }
}
