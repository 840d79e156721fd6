//! Dynamic plugins: what is looked at before a library's code runs, and the loading itself.
//!
//! A plugin is native code with all the rights of the program; the checks here decide *which* library runs, not what
//! it does. In order: the library's file and every folder above it may be changed by nobody else, the manifest beside
//! it (`sidecar`) fits this host, the file is a library for this machine, its hash is the pinned one, and after
//! `dlopen` its own manifest agrees. Only then is a function of it called. `specs/config.md` says how plugins are named
//! and trusted, `specs/plugin-abi.md` what they must do.

mod error;
mod file;
mod sidecar;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use camelid_sdk::import::PluginBackend;

pub use self::error::PluginError;
pub(crate) use self::file::Checked;
pub use self::file::check_access;
pub use self::sidecar::Sidecar;
use crate::ffi;

/// A plugin that may be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginSpec {
    /// The name it must have, if something names it.
    pub name: Option<String>,
    /// The library, by an absolute path.
    pub path: PathBuf,
    /// The hash its file must have, if it is pinned.
    pub sha256: Option<Sha256>,
}

/// A SHA-256, written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Sha256(pub [u8; 32]);

impl FromStr for Sha256 {
    type Err = ();

    fn from_str(text: &str) -> Result<Sha256, ()> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(());
        }
        for (byte, i) in bytes.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&text[i..i + 2], 16).map_err(|_| ())?;
        }
        Ok(Sha256(bytes))
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sha256({self})")
    }
}

impl PluginSpec {
    /// The plugins whose manifests lie in `folder`, in order of their file names.
    ///
    /// # Errors
    /// [`PluginError`] if the folder is not absolute or cannot be read.
    pub fn in_folder(folder: &Path) -> Result<Vec<PluginSpec>, PluginError> {
        absolute(folder)?;
        let failed = |error: std::io::Error| PluginError::Folder { problem: error.to_string() };
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let stem = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_suffix(sidecar::SUFFIX));
            if let Some(stem) = stem {
                let path = folder.join(format!("{stem}{}", std::env::consts::DLL_SUFFIX));
                found.push(PluginSpec { name: None, path, sha256: None });
            }
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    /// What the manifest beside the library says. Runs none of its code.
    ///
    /// # Errors
    /// [`PluginError`] if the manifest is not there, is no manifest, or is one for another host.
    pub fn sidecar(&self) -> Result<Sidecar, PluginError> {
        absolute(&self.path)?;
        if !self.path.exists() {
            return Err(PluginError::Missing);
        }
        let sidecar = Sidecar::read(&self.path)?;
        match &self.name {
            Some(name) if *name != sidecar.name => {
                Err(PluginError::OtherName { found: sidecar.name, expected: name.clone() })
            }
            _ => Ok(sidecar),
        }
    }

    /// That no hash is pinned, with the hash to pin.
    pub(crate) fn not_pinned(&self) -> PluginError {
        match file::hash(&self.path) {
            Ok(found) => PluginError::NotPinned { found },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => PluginError::Missing,
            Err(error) => PluginError::Unreadable { problem: error.to_string() },
        }
    }

    /// Loads the library, which stays loaded until the process ends.
    ///
    /// # Errors
    /// [`PluginError`] for the first check that fails.
    pub fn load(&self) -> Result<PluginBackend, PluginError> {
        let sidecar = self.sidecar()?;
        let library = file::Checked::open(&self.path, self.sha256)?;
        tracing::debug!(path = %self.path.display(), name = sidecar.name, "loading a plugin");
        ffi::load(library, &sidecar)
    }
}

fn absolute(path: &Path) -> Result<(), PluginError> {
    if path.is_absolute() {
        return Ok(());
    }
    let here = std::env::current_dir().unwrap_or_default().join(path);
    Err(PluginError::Relative { absolute: here })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_read_and_written() {
        let text = "00ff".repeat(16);
        let hash: Sha256 = text.parse().unwrap();
        assert_eq!(hash.to_string(), text);
        for bad in ["", "00", &"0".repeat(63), &"g".repeat(64), &"é".repeat(32)] {
            assert!(bad.parse::<Sha256>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_relative_path_is_refused_with_the_absolute_one() {
        let spec = PluginSpec { name: None, path: "libnpu.so".into(), sha256: None };
        let error = spec.sidecar().unwrap_err().to_string();
        let here = std::env::current_dir().unwrap().join("libnpu.so");
        assert!(error.contains(&format!("{}", here.display())), "{error}");
    }
}
