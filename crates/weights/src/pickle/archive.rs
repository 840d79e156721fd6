//! The zip archive that `torch.save` writes since PyTorch 1.6.
//!
//! ```text
//! NAME/data.pkl     the pickle              NAME/data/KEY   the bytes of storage KEY
//! NAME/byteorder    "little" or "big"       NAME/version    and others, not needed
//! ```
//! NAME is "archive" or the name of the file. Entries are stored without compression, so that storages can be mapped.

use std::collections::HashMap;
use std::io::Cursor;
use std::path::Path;

use zip::{CompressionMethod, ZipArchive};

use super::state_dict;
use super::storage::Storages;
use super::value::View;
use super::{NO_TORCH_FILE, machine};
use crate::WeightsError;
use crate::error::{MAKE_AGAIN, shown};

/// The bytes that a zip archive begins with.
pub(super) const MAGIC: &[u8] = b"PK\x03\x04";

/// The tensors of an archive, and where its storages are.
pub(super) fn read(path: &Path, bytes: &[u8]) -> Result<(Vec<(String, View)>, Storages), WeightsError> {
    let entries = entries(path, bytes)?;
    let pickle = entries.keys().filter(|name| name.matches('/').count() <= 1).find_map(|name| {
        let prefix = name.strip_suffix("data.pkl")?;
        (prefix.is_empty() || prefix.ends_with('/')).then(|| prefix.to_owned())
    });
    let Some(prefix) = pickle else {
        let remedy = "it is a zip archive of another kind: check what was downloaded";
        return Err(WeightsError::malformed(path, "the archive", "it holds no data.pkl", remedy));
    };
    let slice = |name: &str| {
        let (start, len) = entries.get(&format!("{prefix}{name}")).copied()?;
        bytes.get(usize::try_from(start).ok()?..)?.get(..usize::try_from(len).ok()?)
    };
    if let Some(order) = slice("byteorder").filter(|order| *order != b"little") {
        let found = format!("the byte order {}", shown(&String::from_utf8_lossy(order)));
        let remedy = "save the file again on a little-endian machine";
        return Err(WeightsError::unsupported(path, "byteorder", found, remedy));
    }
    let pickle = slice("data.pkl")
        .ok_or_else(|| WeightsError::malformed(path, "data.pkl", "it does not lie inside the file", MAKE_AGAIN))?;
    let loaded = machine::run(path, pickle)?;
    let tensors = state_dict::tensors(path, &loaded)?;
    let mut storages = Storages::default();
    let data = format!("{prefix}data/");
    for (name, (start, len)) in &entries {
        if let Some(key) = name.strip_prefix(&data) {
            storages.add(key, *start, *len);
        }
    }
    Ok((tensors, storages))
}

/// Name, start and length of every entry.
fn entries(path: &Path, bytes: &[u8]) -> Result<HashMap<String, (u64, u64)>, WeightsError> {
    let damaged = |e: zip::result::ZipError| {
        let remedy = format!("the archive is truncated or damaged: download or copy it again, or else {NO_TORCH_FILE}");
        WeightsError::malformed(path, "the zip archive", e.to_string(), remedy)
    };
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(damaged)?;
    let mut entries = HashMap::new();
    for i in 0..archive.len() {
        let entry = archive.by_index_raw(i).map_err(damaged)?;
        if entry.is_dir() {
            continue;
        }
        let name = entry.name().map_err(damaged)?.into_owned();
        if entry.compression() != CompressionMethod::Stored || entry.encrypted() {
            let found = format!("the entry {}, compressed or encrypted,", shown(&name));
            let remedy = "torch.save stores entries as they are: save the file again with it";
            return Err(WeightsError::unsupported(path, "the zip archive", found, remedy));
        }
        let start = entry.data_start().ok_or_else(|| {
            WeightsError::malformed(path, format!("the entry {}", shown(&name)), "it has no beginning", MAKE_AGAIN)
        })?;
        let place = (start, entry.compressed_size());
        if entries.insert(name.clone(), place).is_some() {
            let what = format!("the entry {}", shown(&name));
            return Err(WeightsError::malformed(path, what, "it is there twice", MAKE_AGAIN));
        }
    }
    Ok(entries)
}
