//! Safetensors, Hugging Face's format: a JSON header and the bytes of the tensors, in one file or in shards.
//!
//! ```text
//! header length u64   header { name: {dtype, shape, data_offsets: [begin, end]}, ..., "__metadata__": {..} }   bytes
//! ```
//! The header is read here rather than by the `safetensors` crate, because that one keeps the last of two tensors of
//! one name and does not say which tensor is at fault; the types and their sizes are the crate's, and a test holds the
//! two readers against each other.

mod header;
pub(crate) mod index;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use camelid_core::{Bytes, DType};
use safetensors::Dtype;
use serde_json::Value;
use tracing::debug;

use crate::checkpoint::{Format, Parts, TokenizerSource};
use crate::error::{MAKE_AGAIN, shown};
use crate::locate::Files;
use crate::map::map_file;
use crate::tensor::{Data, TensorInfo};
use crate::{WeightsError, names};
use header::Entry;

/// JSON files beside the weights are parsed whole, into many times their size at worst; a config with a hundred
/// thousand labels is within this.
const MAX_JSON_BYTES: u64 = 4 << 20;

/// Reads safetensors and the config beside them as a checkpoint.
pub(crate) fn load(files: &Files, folder: &Path) -> Result<Parts, WeightsError> {
    let config_path = folder.join("config.json");
    let Some(config) = read_json(&config_path, "the config")? else {
        return Err(WeightsError::NotACheckpoint {
            path: folder.to_owned(),
            found: "there is no config.json beside the weights".into(),
            remedy: "download the config.json of the model into the same folder".into(),
        });
    };
    if !config.is_object() {
        let remedy = "download the config.json of the model again";
        return Err(WeightsError::malformed(&config_path, "the config", "it is no JSON object", remedy));
    }
    let generation_config = read_json(&folder.join("generation_config.json"), "the generation config")?;
    let quantized = quantization_method(&config);
    let (tensors, shards) = match files {
        Files::Single(file) => (read_file(file, quantized)?, 1),
        Files::Index(index) => index::read_shards(index, quantized)?,
    };
    let tokenizer_json = folder.join("tokenizer.json");
    let tokenizer_model = folder.join("tokenizer.model");
    let tokenizer = if tokenizer_json.is_file() {
        TokenizerSource::TokenizerJson(tokenizer_json)
    } else if tokenizer_model.is_file() {
        TokenizerSource::TokenizerModel(tokenizer_model)
    } else {
        TokenizerSource::Missing(folder.to_owned())
    };
    Ok(Parts {
        format: Format::Safetensors { shards },
        config,
        generation_config,
        tensors,
        tokenizer,
        gguf: None,
        rope_freqs: None,
    })
}

/// Takes one safetensors file and the configs beside it from memory; `name` stands for them in messages.
pub(crate) fn load_bytes(
    name: &Path,
    config: &[u8],
    generation_config: &[u8],
    weights: Bytes,
) -> Result<Parts, WeightsError> {
    let parse = |text, what| {
        serde_json::from_slice(text).map_err(|source| WeightsError::Json { path: name.to_owned(), what, source })
    };
    let config: Value = parse(config, "the config")?;
    let generation_config = parse(generation_config, "the generation config")?;
    let mut tensors = read_tensors(name, &weights, quantization_method(&config))?;
    for tensor in &mut tensors {
        tensor.data = Data::Held(tensor.bytes());
    }
    Ok(Parts {
        format: Format::Safetensors { shards: 1 },
        config,
        generation_config: Some(generation_config),
        tensors,
        tokenizer: TokenizerSource::Missing(name.to_owned()),
        gguf: None,
        rope_freqs: None,
    })
}

/// The JSON in a file, or `None` if there is no such file.
fn read_json(path: &Path, what: &'static str) -> Result<Option<Value>, WeightsError> {
    let Some(text) = read_small(path, MAX_JSON_BYTES)? else { return Ok(None) };
    let json = serde_json::from_slice(&text);
    json.map(Some).map_err(|source| WeightsError::Json { path: path.to_owned(), what, source })
}

/// The contents of a file of at most `limit` bytes, or `None` if there is no such file.
fn read_small(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, WeightsError> {
    let kind = match fs::metadata(path) {
        Ok(kind) => kind,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(WeightsError::Io { path: path.to_owned(), action: "open", source }),
    };
    if !kind.is_file() || kind.len() > limit {
        let found = if kind.is_file() { format!("{} bytes", kind.len()) } else { "it is not a regular file".into() };
        return Err(WeightsError::malformed(
            path,
            "the file",
            found,
            format!("a JSON file of at most {limit} bytes belongs here"),
        ));
    }
    fs::read(path).map(Some).map_err(WeightsError::io(path, "read"))
}

/// `quantization_config.quant_method` of a config: "gptq", "awq", "fp8", ...
fn quantization_method(config: &Value) -> Option<&str> {
    config.get("quantization_config")?.get("quant_method")?.as_str()
}

/// The tensors of one file, in the order of their bytes, derived buffers left out.
fn read_file(path: &Path, quantized: Option<&str>) -> Result<Vec<TensorInfo>, WeightsError> {
    read_tensors(path, &map_file(path)?, quantized)
}

fn read_tensors(path: &Path, bytes: &Bytes, quantized: Option<&str>) -> Result<Vec<TensorInfo>, WeightsError> {
    let header = header::parse(path, bytes)?;
    let file: Arc<Path> = Arc::from(path);
    let mut tensors = Vec::with_capacity(header.entries.len());
    for entry in header.entries {
        if names::is_derived_buffer(&entry.name) {
            debug!(tensor = entry.name, "not read: it follows from the config");
            continue;
        }
        tensors.push(tensor(&file, bytes, header.data, entry, quantized)?);
    }
    Ok(tensors)
}

fn tensor(
    file: &Arc<Path>,
    bytes: &Bytes,
    data: usize,
    entry: Entry,
    quantized: Option<&str>,
) -> Result<TensorInfo, WeightsError> {
    let dtype = match entry.dtype {
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        other => return Err(unsupported_type(file, &entry.name, &other.to_string(), quantized)),
    };
    let range = data + entry.begin..data + entry.end;
    let offset = range.start as u64;
    // The header was checked against the length of the file.
    let stored = bytes.slice(range).ok_or_else(|| {
        WeightsError::malformed(file, format!("tensor {}", shown(&entry.name)), "it lies outside the file", MAKE_AGAIN)
    })?;
    Ok(TensorInfo {
        name: names::canonical(&entry.name).into_owned(),
        source_name: entry.name,
        dtype,
        shape: entry.shape,
        file: file.clone(),
        offset,
        data: Data::Mapped(stored),
    })
}

fn unsupported_type(file: &Path, tensor: &str, found: &str, quantized: Option<&str>) -> WeightsError {
    let remedy = match quantized {
        Some(method) => format!(
            "the config says that the model is quantized with {}: use the model it was made from, or a GGUF of it",
            shown(method)
        ),
        None => "save the model in one of those types (transformers: torch_dtype=torch.bfloat16)".into(),
    };
    WeightsError::UnsupportedTensorType {
        path: file.to_owned(),
        tensor: shown(tensor),
        found: found.to_owned(),
        supported: "F32, F16, BF16".into(),
        remedy,
    }
}
