//! The container of `torch.save` before PyTorch 1.6, and of `_use_new_zipfile_serialization=False`.
//!
//! ```text
//! pickle 0x1950a86a20f9469cfc6c    pickle 1001    pickle {little_endian: true, ...}
//! pickle of the object             pickle [key of each storage]
//! of each storage, in that order:  elements u64, bytes
//! ```

use std::collections::HashMap;
use std::path::Path;

use super::machine::{self, Loaded};
use super::state_dict;
use super::storage::Storages;
use super::value::{Node, View};
use super::{Element, NO_TORCH_FILE};
use crate::WeightsError;
use crate::error::{MAKE_AGAIN, shown};

/// The magic number, little-endian.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const PROTOCOL: i64 = 1001;

/// The tensors of a file, and where its storages are.
pub(super) fn read(path: &Path, bytes: &[u8]) -> Result<(Vec<(String, View)>, Storages), WeightsError> {
    let mut at = 0;
    let mut next = |path: &Path| -> Result<Loaded<'_>, WeightsError> {
        let loaded = machine::run(path, &bytes[at..])?;
        at += loaded.length;
        Ok(loaded)
    };
    // A first byte that begins no pickle says more about the file than what a machine makes of it.
    let magic = if bytes.first() == Some(&0x80) { Some(next(path)?) } else { None };
    if !magic.is_some_and(|magic| *magic.heap.get(magic.root) == Node::BigInt(&MAGIC)) {
        let found = "it begins with neither a zip archive nor PyTorch's magic number";
        return Err(WeightsError::malformed(path, "the file", found, NO_TORCH_FILE));
    }
    let protocol = next(path)?;
    if *protocol.heap.get(protocol.root) != Node::Int(PROTOCOL) {
        let found = "another protocol than 1001";
        return Err(WeightsError::unsupported(path, "the legacy format", found, "save the file again with PyTorch"));
    }
    let system = next(path)?;
    if let Node::Dict(entries) = system.heap.get(system.root) {
        let big = entries.iter().any(|(key, value)| {
            system.heap.text(*key) == Some("little_endian") && *system.heap.get(*value) == Node::Bool(false)
        });
        if big {
            let remedy = "save the file again on a little-endian machine";
            return Err(WeightsError::unsupported(path, "little_endian", "a big-endian file", remedy));
        }
    }
    let object = next(path)?;
    let tensors = state_dict::tensors(path, &object)?;
    let keys = next(path)?;
    let order: Option<Vec<&str>> =
        keys.heap.items(keys.root).and_then(|items| items.iter().map(|i| keys.heap.text(*i)).collect());
    let Some(order) = order else {
        return Err(WeightsError::malformed(path, "the list of storages", "it is no list of keys", MAKE_AGAIN));
    };

    // Only the tensors know the size of a storage's elements.
    let elements: HashMap<&str, Option<Element>> = object.heap.storages().map(|s| (s.key, s.element)).collect();
    let mut storages = Storages::default();
    let mut at = at as u64;
    for key in order {
        let truncated = |needed: u64| WeightsError::Truncated {
            path: path.to_owned(),
            what: format!("storage {}", shown(key)),
            at,
            needed,
            file_len: bytes.len() as u64,
        };
        let count = bytes.get(at as usize..).and_then(<[u8]>::first_chunk).ok_or_else(|| truncated(8))?;
        let count = u64::from_le_bytes(*count);
        let Some(element) = elements.get(key) else {
            return Err(WeightsError::malformed(
                path,
                format!("storage {}", shown(key)),
                "no tensor uses it",
                MAKE_AGAIN,
            ));
        };
        let len = count.checked_mul(element.map_or(1, Element::bytes) as u64);
        let end = len.and_then(|len| (at + 8).checked_add(len)).filter(|end| *end <= bytes.len() as u64);
        let (Some(len), Some(end)) = (len, end) else { return Err(truncated(len.unwrap_or(u64::MAX))) };
        storages.add(key, at + 8, len);
        at = end;
    }
    Ok((tensors, storages))
}
