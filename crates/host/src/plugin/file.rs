//! A library's file: who may change it, what it is, and what its hash is.

use std::fs::{File, Metadata};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use sha2::Digest;

use super::{PluginError, Sha256};

/// The first bytes of a file, which hold the headers: those of the segments follow right after the file's.
const MAX_HEADERS: u64 = 1 << 14;

/// A library that was found fit to be loaded.
#[derive(Debug)]
pub(crate) struct Checked {
    /// What to hand to the loader.
    pub(crate) path: PathBuf,
    /// Keeps `path` what it is.
    pub(crate) keep: Option<File>,
}

impl Checked {
    /// Checks the library at `path`. If a hash is pinned, what is loaded is a sealed copy of the bytes that were hashed,
    /// so that nothing can change between the two.
    pub(super) fn open(path: &Path, pinned: Option<Sha256>) -> Result<Checked, PluginError> {
        check_access(path)?;
        let unreadable = |error: std::io::Error| PluginError::Unreadable { problem: error.to_string() };
        let mut file = File::open(path).map_err(unreadable)?;
        let size = file.metadata().map_err(unreadable)?.len();
        let mut start = Vec::new();
        (&mut file).take(MAX_HEADERS).read_to_end(&mut start).map_err(unreadable)?;
        check_header(&start, size).map_err(|problem| PluginError::NotALibrary { problem })?;
        let Some(expected) = pinned else { return Ok(Checked { path: path.to_owned(), keep: None }) };
        file.rewind().map_err(unreadable)?;
        let (found, checked) = copy_and_hash(path, file).map_err(unreadable)?;
        if found == expected { Ok(checked) } else { Err(PluginError::Hash { found, expected }) }
    }
}

/// The hash of the file at `path`, for a message.
pub(super) fn hash(path: &Path) -> std::io::Result<Sha256> {
    hash_into(File::open(path)?, std::io::sink())
}

fn hash_into(mut from: impl Read, mut to: impl Write) -> std::io::Result<Sha256> {
    let mut sha = sha2::Sha256::new();
    let mut chunk = vec![0; 1 << 16];
    loop {
        match from.read(&mut chunk)? {
            0 => return Ok(Sha256(sha.finalize().into())),
            n => {
                sha.update(&chunk[..n]);
                to.write_all(&chunk[..n])?;
            }
        }
    }
}

/// Copies the library into memory that nobody can change any more. The file stays open for the process: the loader
/// knows a library by its name, and the name has the file's number in it.
#[cfg(target_os = "linux")]
fn copy_and_hash(path: &Path, from: File) -> std::io::Result<(Sha256, Checked)> {
    use std::os::fd::AsRawFd;

    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

    let name = path.file_name().unwrap_or_default().to_string_lossy().replace('\0', "");
    let memory = memfd_create(&*name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut memory = File::from(memory);
    let found = hash_into(from, &mut memory)?;
    fcntl_add_seals(&memory, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}", memory.as_raw_fd()));
    Ok((found, Checked { path, keep: Some(memory) }))
}

/// Hashes the library where it lies. Whoever may write it could change it before it is loaded; `check_access` saw to it
/// that nobody else may.
#[cfg(not(target_os = "linux"))]
fn copy_and_hash(path: &Path, from: File) -> std::io::Result<(Sha256, Checked)> {
    let found = hash_into(from, std::io::sink())?;
    Ok((found, Checked { path: path.to_owned(), keep: None }))
}

/// Refuses a file that others than its user and root may change: by its mode, its owner, or a folder above it.
///
/// # Errors
/// [`PluginError::Writable`] with the place; [`PluginError::Missing`].
#[cfg(unix)]
pub fn check_access(path: &Path) -> Result<(), PluginError> {
    let unreadable = |error: std::io::Error| PluginError::Unreadable { problem: error.to_string() };
    let real = match path.canonicalize() {
        Ok(real) => real,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(PluginError::Missing),
        Err(error) => return Err(unreadable(error)),
    };
    let metadata = real.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(PluginError::Unreadable { problem: "it is not a regular file".into() });
    }
    // A link is a file in its folder too: whoever may change that folder decides where it points.
    let linked = path.parent().and_then(|p| p.canonicalize().ok());
    let above = linked.iter().flat_map(|p| p.ancestors());
    check_owner_and_mode(&real, &metadata)?;
    for place in real.ancestors().skip(1).chain(above) {
        check_owner_and_mode(place, &place.metadata().map_err(unreadable)?)?;
    }
    Ok(())
}

/// On systems without Unix's modes nothing is checked.
#[cfg(not(unix))]
pub fn check_access(path: &Path) -> Result<(), PluginError> {
    if path.exists() { Ok(()) } else { Err(PluginError::Missing) }
}

#[cfg(unix)]
fn check_owner_and_mode(place: &Path, metadata: &Metadata) -> Result<(), PluginError> {
    use std::os::unix::fs::MetadataExt;

    let user = rustix::process::geteuid().as_raw();
    let refused =
        |problem: String, remedy: String| Err(PluginError::Writable { place: place.to_owned(), problem, remedy });
    let owner = metadata.uid();
    if owner != 0 && owner != user {
        return refused(
            format!("belongs to the user {owner}, who is neither you ({user}) nor root"),
            "Copy the plugin to a folder of your own".into(),
        );
    }
    // In a folder with the sticky bit, such as /tmp, nobody can replace another's files.
    let sticky = metadata.is_dir() && metadata.mode() & 0o1000 != 0;
    if metadata.mode() & 0o022 != 0 && !sticky {
        let who = if metadata.mode() & 0o002 != 0 { "everybody" } else { "its group" };
        return refused(
            format!("can be written by {who}"),
            format!("Take that right away: chmod go-w {}", place.display()),
        );
    }
    Ok(())
}

/// Whether `start`, the first bytes of a file of `size` bytes, begins a library for this machine that is all there. The
/// loader maps what the headers say, and reading a map past the end of its file ends the process.
fn check_header(start: &[u8], size: u64) -> Result<(), String> {
    if !cfg!(target_os = "linux") {
        return Ok(());
    }
    const X86_64: u16 = 62;
    const AARCH64: u16 = 183;
    let name = |machine: u16| match machine {
        3 => "x86 (32 bits)".to_owned(),
        40 => "ARM (32 bits)".to_owned(),
        X86_64 => "x86_64".to_owned(),
        AARCH64 => "aarch64".to_owned(),
        243 => "RISC-V".to_owned(),
        other => format!("machine {other}"),
    };
    let ours = match std::env::consts::ARCH {
        "x86_64" => X86_64,
        "aarch64" => AARCH64,
        // The loader will say.
        _ => return Ok(()),
    };
    if start.len() < 4 || start[..4] != *b"\x7fELF" {
        return Err("it is not a library: it does not begin as an ELF file does; name the file that ends in .so".into());
    }
    if start.len() < 64 {
        return Err(format!("it is cut off after {} bytes; copy or build it again", start.len()));
    }
    let half = |at: usize| u16::from_le_bytes([start[at], start[at + 1]]);
    let (class, order, kind, machine) = (start[4], start[5], half(16), half(18));
    if class != 2 || order != 1 || machine != ours {
        return Err(format!(
            "it was built for {}, and this machine is {}; get a build for this machine",
            name(machine),
            std::env::consts::ARCH
        ));
    }
    if kind != 3 {
        return Err("it is an ELF file but no shared library; link it with -shared, or as a cdylib".into());
    }
    let word = |at: usize| {
        at.checked_add(8).and_then(|end| start.get(at..end)).map(|b| u64::from_le_bytes(b.try_into().expect("8 bytes")))
    };
    let cut = || format!("it is cut off after {size} bytes; copy or build it again");
    let (table, entry, count) = (word(32).unwrap_or(0), usize::from(half(54)), usize::from(half(56)));
    let mut ends = vec![word(40).unwrap_or(0).saturating_add(u64::from(half(58)) * u64::from(half(60)))];
    for i in 0..count {
        let at = usize::try_from(table).unwrap_or(usize::MAX).saturating_add(i * entry);
        // Offset in the file and size in it.
        let (Some(from), Some(len)) = (word(at.saturating_add(8)), word(at.saturating_add(32))) else {
            return Err(cut());
        };
        ends.push(from.saturating_add(len));
    }
    if ends.into_iter().any(|end| end > size) { Err(cut()) } else { Ok(()) }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn refused(path: &Path) -> String {
        check_access(path).unwrap_err().to_string()
    }

    #[test]
    fn what_others_may_write_is_refused_wherever_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).unwrap();
        let library = inner.join("libnpu.so");
        fs::write(&library, "x").unwrap();
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        mode(&inner, 0o755);
        mode(&library, 0o644);
        check_access(&library).unwrap();

        mode(&library, 0o664);
        assert!(refused(&library).contains("libnpu.so can be written by its group"), "{}", refused(&library));
        mode(&library, 0o646);
        assert!(refused(&library).contains("can be written by everybody"));
        assert!(refused(&library).contains("chmod go-w"));
        mode(&library, 0o644);

        mode(&inner, 0o777);
        assert!(refused(&library).contains("inner can be written by everybody"));
        // Nobody replaces another's file in a folder with the sticky bit.
        mode(&inner, 0o1777);
        check_access(&library).unwrap();

        // A link in a folder that others may write is theirs to turn.
        let open = folder.path().join("open");
        fs::create_dir(&open).unwrap();
        mode(&open, 0o777);
        mode(&inner, 0o755);
        symlink(&library, open.join("liblink.so")).unwrap();
        assert!(refused(&open.join("liblink.so")).contains("open can be written by everybody"));
        let link = inner.join("liblink.so");
        symlink(&library, &link).unwrap();
        check_access(&link).unwrap();
        mode(&library, 0o666);
        assert!(refused(&link).contains("libnpu.so can be written"));

        assert_eq!(check_access(&inner.join("libother.so")), Err(PluginError::Missing));
        assert!(refused(&inner).contains("not a regular file"));
    }

    #[test]
    fn what_is_no_library_for_this_machine_is_told_apart() {
        let mut header = vec![0; 64];
        header[..6].copy_from_slice(b"\x7fELF\x02\x01");
        header[16] = 3;
        header[18] = if cfg!(target_arch = "x86_64") { 62 } else { 183 };
        check_header(&header, 64).unwrap();
        assert!(check_header(b"#!/bin/sh", 9).unwrap_err().contains("not a library"));
        assert!(check_header(b"", 0).unwrap_err().contains("not a library"));
        assert!(check_header(&header[..40], 40).unwrap_err().contains("cut off after 40 bytes"));
        let changed = |at: usize, to: u8| {
            let mut other = header.clone();
            other[at] = to;
            check_header(&other, 64).unwrap_err()
        };
        assert!(changed(18, 243).contains("built for RISC-V"));
        assert!(changed(4, 1).contains("built for"));
        assert!(changed(16, 2).contains("no shared library"));
        // A segment, and the table of sections, past the end.
        let exe = fs::read(std::env::current_exe().unwrap()).unwrap();
        let size = exe.len() as u64;
        let start = &exe[..MAX_HEADERS as usize];
        let shared = |size| check_header(start, size);
        shared(size).unwrap();
        for cut in [size - 1, size / 2, MAX_HEADERS] {
            assert!(shared(cut).unwrap_err().contains(&format!("cut off after {cut} bytes")));
        }
    }

    #[test]
    fn a_pinned_library_is_loaded_from_a_copy_that_cannot_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("libnpu.so");
        fs::copy(std::env::current_exe().unwrap(), &path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let pinned = hash(&path).unwrap();
        let checked = Checked::open(&path, Some(pinned)).unwrap();
        // What happens to the file from here on does not matter.
        fs::write(&path, "something else").unwrap();
        assert_eq!(hash(&checked.path).unwrap(), pinned);
        let mut copy = checked.keep.unwrap();
        assert!(copy.write_all(b"x").is_err(), "the copy is sealed");
        assert!(copy.set_len(0).is_err());
        let error = Checked::open(Path::new("/proc/self/exe"), Some(Sha256([0; 32])));
        assert!(matches!(error, Err(PluginError::Hash { .. } | PluginError::Writable { .. })), "{error:?}");
    }
}
