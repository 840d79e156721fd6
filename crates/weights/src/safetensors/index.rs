//! `model.safetensors.index.json`: which shard holds which tensor.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use super::{read_file, read_small};
use crate::error::{quoted, shown};
use crate::tensor::TensorInfo;
use crate::{WeightsError, names};

/// A tensor takes some 60 bytes of the index: room for a million of them.
const MAX_INDEX_BYTES: u64 = 100_000_000;
const REMEDY: &str = "download the index of the model again";

#[derive(Deserialize)]
struct Index {
    /// Where each tensor is, in order of their names.
    weight_map: Places,
}

/// Name of a tensor, and of the file that holds it.
struct Places(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Places {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Places, D::Error> {
        struct Map;
        impl<'de> Visitor<'de> for Map {
            type Value = Places;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from tensor names to file names")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Places, A::Error> {
                let mut places = Vec::new();
                while let Some(place) = map.next_entry()? {
                    places.push(place);
                }
                Ok(Places(places))
            }
        }
        deserializer.deserialize_map(Map)
    }
}

impl Index {
    fn read(path: &Path) -> Result<Index, WeightsError> {
        let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
        let text = read_small(path, MAX_INDEX_BYTES)?.ok_or_else(|| WeightsError::io(path, "open")(missing()))?;
        let mut index: Index = serde_json::from_slice(&text).map_err(|source| WeightsError::Json {
            path: path.to_owned(),
            what: "the index",
            source,
        })?;
        let places = &mut index.weight_map.0;
        places.sort_unstable();
        if let Some(pair) = places.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(WeightsError::Duplicate {
                path: path.to_owned(),
                what: format!("tensor {}", shown(&pair[0].0)),
                first: format!("in {}", shown(&pair[0].1)),
                second: format!("in {}", shown(&pair[1].1)),
            });
        }
        if places.is_empty() {
            return Err(WeightsError::malformed(path, "weight_map", "it names no tensor", REMEDY));
        }
        Ok(index)
    }

    /// The file that holds a tensor.
    fn home(&self, tensor: &str) -> Option<&str> {
        let places = &self.weight_map.0;
        let at = places.binary_search_by(|(name, _)| name.as_str().cmp(tensor)).ok()?;
        Some(&places[at].1)
    }
}

/// Where a shard lies that an index beside it names, or `None` if the name leads out of the folder.
fn shard_path(index: &Path, shard: &str) -> Option<PathBuf> {
    let plain = !matches!(shard, "" | "." | "..") && !shard.contains(['/', '\\', ':', '\0']);
    plain.then(|| index.with_file_name(shard))
}

/// True if the index names `file` as a shard.
pub(crate) fn names_shard(index: &Path, file: &Path) -> Result<bool, WeightsError> {
    let name = file.file_name().and_then(|n| n.to_str());
    Ok(Index::read(index)?.weight_map.0.iter().any(|(_, shard)| Some(shard.as_str()) == name))
}

/// The tensors of all shards, shard after shard in the order of their names, and the number of shards.
pub(super) fn read_shards(path: &Path, quantized: Option<&str>) -> Result<(Vec<TensorInfo>, usize), WeightsError> {
    let index = Index::read(path)?;
    let mut by_shard: Vec<(&str, &str)> = index.weight_map.0.iter().map(|(t, s)| (s.as_str(), t.as_str())).collect();
    by_shard.sort_unstable();
    let shards = || by_shard.chunk_by(|a, b| a.0 == b.0).map(|listed| (listed[0].0, listed));
    // All files first: what is missing is the most useful thing to know.
    for (shard, listed) in shards() {
        let Some(file) = shard_path(path, shard) else {
            let what = format!("the shard of tensor {}", shown(listed[0].1));
            let found = format!("{} is no plain file name", quoted(shard.as_bytes()));
            let remedy = "shards lie in the folder of the index; get the model from a source you trust";
            return Err(WeightsError::malformed(path, what, found, remedy));
        };
        if !file.exists() {
            return Err(WeightsError::MissingShard {
                index: path.to_owned(),
                shard: shown(shard),
                tensors: listed.len(),
                first: shown(listed[0].1),
            });
        }
    }
    let mut tensors: Vec<TensorInfo> = Vec::new();
    let mut problems = Vec::new();
    for (shard, listed) in shards() {
        let held = read_file(&path.with_file_name(shard), quantized)?;
        let mut held_names: Vec<&str> = held.iter().map(|t| t.source_name.as_str()).collect();
        held_names.sort_unstable();
        for (_, name) in listed {
            if held_names.binary_search(name).is_err() && !names::is_derived_buffer(name) {
                problems.push(format!("{} is not in {}, where the index has it", shown(name), shown(shard)));
            }
        }
        for name in held_names {
            match index.home(name) {
                Some(home) if home == shard => {}
                Some(home) => {
                    problems.push(format!("{} is in {} and not in {}", shown(name), shown(shard), shown(home)))
                }
                None => problems.push(format!("{} is in {}, but not in the index", shown(name), shown(shard))),
            }
        }
        tensors.extend(held);
    }
    if !problems.is_empty() {
        return Err(WeightsError::IndexContradiction { index: path.to_owned(), problems });
    }
    Ok((tensors, shards().count()))
}
