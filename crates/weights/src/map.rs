//! Memory maps: the one place of this crate with `unsafe`.
#![allow(unsafe_code)]

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use camelid_core::Bytes;
use memmap2::Mmap;

use crate::WeightsError;

/// Maps a whole file, read-only. Closing the file does not end the map; dropping the last [`Bytes`] does.
pub(crate) fn map_file(path: &Path) -> Result<Bytes, WeightsError> {
    // Asked before opening: opening a pipe would wait for its writer.
    let kind = std::fs::metadata(path).map_err(WeightsError::io(path, "open"))?;
    if !kind.is_file() {
        return Err(WeightsError::NotACheckpoint {
            path: path.to_owned(),
            found: if kind.is_dir() { "it is a folder" } else { "it is not a regular file" }.into(),
            remedy: "weights are read from regular files, which can be mapped into memory: copy it into one".into(),
        });
    }
    let file = File::open(path).map_err(WeightsError::io(path, "open"))?;
    let len = file.metadata().map_err(WeightsError::io(path, "read the size of"))?.len();
    if len == 0 {
        return Ok(Bytes::from(Vec::new()));
    }
    // SAFETY: the map is private to `Bytes`, which gives out shared slices only, so Rust code never writes to it.
    // That no other process writes to the file or shortens it is the caller's duty, as the crate's documentation says.
    let map = unsafe { Mmap::map(&file) }.map_err(WeightsError::io(path, "map"))?;
    // A file that is being written or removed right now shows in its length.
    let now = file.metadata().map_err(WeightsError::io(path, "read the size of"))?.len();
    if now != map.len() as u64 {
        return Err(WeightsError::malformed(
            path,
            "size of the file",
            format!("it changed from {} to {now} bytes while it was opened", map.len()),
            "wait until the download or copy has ended",
        ));
    }
    Ok(Bytes::new(Arc::new(map)))
}
