//! A Hugging Face folder: its JSON files, and the tensors as safetensors, in one file or in shards.

use std::path::{Path, PathBuf};

use camelid_core::DType;
use serde_json::{Map, Value, json};

use super::deviation::Deviation;
use super::rows::Planned;
use super::staging::{StagedFile, StagedFolder};
use super::{OnProgress, Progress};
use crate::WeightsError;
use crate::error::shown;

const INDEX: &str = "model.safetensors.index.json";

/// A folder that is being written.
pub(crate) struct Folder {
    staged: StagedFolder,
    path: PathBuf,
    /// Names of the files that hold tensors.
    shards: Vec<String>,
    bytes: u64,
}

/// JSON as Hugging Face writes it: indented by two, sorted by key, a line end behind.
pub(crate) fn json_text(value: &Value) -> Vec<u8> {
    fn sorted(value: &Value) -> Value {
        match value {
            Value::Object(map) => {
                let mut entries: Vec<_> = map.iter().collect();
                entries.sort_by_key(|(key, _)| *key);
                Value::Object(entries.into_iter().map(|(k, v)| (k.clone(), sorted(v))).collect())
            }
            other => other.clone(),
        }
    }
    let mut text = format!("{:#}", sorted(value)).into_bytes();
    text.push(b'\n');
    text
}

impl Folder {
    pub(crate) fn create(path: &Path, force: bool) -> Result<Folder, WeightsError> {
        let staged = StagedFolder::create(path, force)?;
        Ok(Folder { staged, path: path.to_owned(), shards: Vec::new(), bytes: 0 })
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), WeightsError> {
        self.staged.write(name, bytes)
    }

    pub(crate) fn write_json(&self, name: &str, value: &Value) -> Result<(), WeightsError> {
        self.write(name, &json_text(value))
    }

    /// Writes all tensors, in files of at most `max_shard` bytes of them unless one alone is larger.
    pub(crate) fn write_tensors(
        &mut self,
        tensors: &[Planned<'_>],
        max_shard: u64,
        progress: OnProgress<'_>,
    ) -> Result<(), WeightsError> {
        let sizes: Vec<u64> = tensors
            .iter()
            .map(|t| {
                t.byte_len().ok_or_else(|| {
                    let what = format!("tensor {}", shown(&t.name));
                    let found = format!("its shape {:?} does not fit the type {}", t.shape(), t.dtype);
                    WeightsError::malformed(&self.path, what, found, "choose another --dtype")
                })
            })
            .collect::<Result<_, _>>()?;
        let total: u64 = sizes.iter().sum();
        let mut cuts = vec![0];
        let mut filled = 0;
        for (i, size) in sizes.iter().enumerate() {
            if filled > 0 && filled + size > max_shard {
                cuts.push(i);
                filled = 0;
            }
            filled += size;
        }
        cuts.push(tensors.len());
        let shards = cuts.len() - 1;
        let mut weight_map = Map::new();
        let mut done = 0;
        for (shard, cut) in cuts.windows(2).enumerate() {
            let name = match shards {
                1 => "model.safetensors".to_owned(),
                _ => format!("model-{:05}-of-{shards:05}.safetensors", shard + 1),
            };
            let (tensors, sizes) = (&tensors[cut[0]..cut[1]], &sizes[cut[0]..cut[1]]);
            let mut file = self.staged.file(&name)?;
            file.write(&header(tensors, sizes))?;
            for (tensor, size) in tensors.iter().zip(sizes) {
                let written = write_tensor(&mut file, tensor, None, &mut done, total, progress)?;
                check_length(&self.path, tensor, written, *size)?;
                weight_map.insert(tensor.name.clone(), json!(name));
            }
            file.commit()?;
            self.shards.push(name);
        }
        if shards > 1 {
            let parameters: u64 = tensors.iter().map(|t| t.shape().iter().map(|d| *d as u64).product::<u64>()).sum();
            let metadata = json!({"total_parameters": parameters, "total_size": total});
            self.write_json(INDEX, &json!({"metadata": metadata, "weight_map": weight_map}))?;
        }
        self.bytes = total;
        Ok(())
    }

    /// Gives the folder its name; its path, the number of its files of tensors, and the bytes of these.
    pub(crate) fn commit(self) -> Result<(PathBuf, usize, u64), WeightsError> {
        let Folder { staged, shards, bytes, .. } = self;
        let kept = |name: &str| shards.iter().any(|s| s == name) || (shards.len() > 1 && name == INDEX);
        // Weights of an earlier conversion would be read instead of these, or beside them.
        let stale = |name: &str| {
            let weights = (name.starts_with("model") && name.ends_with(".safetensors")) || name == INDEX;
            weights && !kept(name)
        };
        Ok((staged.commit(stale)?, shards.len(), bytes))
    }
}

/// Writes one tensor; the bytes it took. What its weights are off is added to `deviation` if that is asked for.
pub(super) fn write_tensor(
    file: &mut StagedFile,
    tensor: &Planned<'_>,
    deviation: Option<&mut Deviation>,
    done: &mut u64,
    total: u64,
    progress: OnProgress<'_>,
) -> Result<u64, WeightsError> {
    let mut written = 0;
    tensor.stream(deviation, &mut |piece| {
        file.write(piece)?;
        written += piece.len() as u64;
        *done += piece.len() as u64;
        progress(Progress { tensor: &tensor.name, done: *done, total });
        Ok(())
    })?;
    Ok(written)
}

/// What was written must be what the header announced.
pub(super) fn check_length(path: &Path, tensor: &Planned<'_>, written: u64, size: u64) -> Result<(), WeightsError> {
    if written == size {
        return Ok(());
    }
    let what = format!("tensor {}", shown(&tensor.name));
    let found = format!("{written} bytes came where its shape {:?} calls for {size}", tensor.shape());
    Err(WeightsError::malformed(path, what, found, "the file it comes from changed meanwhile: convert again"))
}

/// The header of a safetensors file, its length in front, padded so that the tensors begin at a multiple of 8.
fn header(tensors: &[Planned<'_>], sizes: &[u64]) -> Vec<u8> {
    let mut map = Map::new();
    map.insert("__metadata__".into(), json!({"format": "pt"}));
    let mut begin = 0;
    for (tensor, size) in tensors.iter().zip(sizes) {
        let dtype = match tensor.dtype {
            DType::F32 => "F32",
            DType::F16 => "F16",
            _ => "BF16",
        };
        let entry = json!({"dtype": dtype, "shape": tensor.shape(), "data_offsets": [begin, begin + size]});
        map.insert(tensor.name.clone(), entry);
        begin += size;
    }
    let mut json = Value::Object(map).to_string().into_bytes();
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut header = (json.len() as u64).to_le_bytes().to_vec();
    header.extend(json);
    header
}
