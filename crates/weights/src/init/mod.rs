//! A new model with random weights: a Hugging Face folder that transformers and Camelid load.
//!
//! Which values a weight gets is what `_init_weights` of transformers 5.8 says: linear weights and embeddings are normal
//! with mean 0 and standard deviation `initializer_range` (0.02 where that is 0), not truncated; the embedding of
//! `pad_token_id` and biases are 0; norms are 1. Where the numbers come from is documented in [`random`]: the same seed
//! gives the same bytes on every platform, and each tensor has a generator of its own, so that adding a layer changes no
//! other. Tensors are written one by one in pieces; memory does not grow with the model.

mod files;
mod plan;
pub mod random;

use std::path::{Path, PathBuf};

use camelid_core::llama::{ConfigError, ConfigForm, LlamaConfig};
use serde_json::{Map, Value, json};
use thiserror::Error;

use self::files::Folder;
use self::plan::Shard;
pub use self::plan::{Class, NewTensor};
use self::random::TensorRng;

/// How weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitDType {
    /// `float32`.
    F32,
    /// `bfloat16`.
    BF16,
    /// `float16`.
    F16,
}

impl InitDType {
    /// The type that a config names in `dtype`, if it is one of these.
    pub fn of(config: &LlamaConfig) -> Option<InitDType> {
        match config.dtype.as_deref()? {
            "float32" => Some(InitDType::F32),
            "bfloat16" => Some(InitDType::BF16),
            "float16" => Some(InitDType::F16),
            _ => None,
        }
    }

    /// The name in a config.
    fn config_name(self) -> &'static str {
        match self {
            InitDType::F32 => "float32",
            InitDType::BF16 => "bfloat16",
            InitDType::F16 => "float16",
        }
    }

    /// The name in a safetensors header.
    fn stored_name(self) -> &'static str {
        match self {
            InitDType::F32 => "F32",
            InitDType::BF16 => "BF16",
            InitDType::F16 => "F16",
        }
    }

    fn bytes(self) -> u64 {
        if self == InitDType::F32 { 4 } else { 2 }
    }

    /// Appends `x`, rounded to nearest even once.
    fn push(self, x: f64, to: &mut Vec<u8>) {
        match self {
            InitDType::F32 => to.extend((x as f32).to_le_bytes()),
            InitDType::BF16 => to.extend(half::bf16::from_f64(x).to_le_bytes()),
            InitDType::F16 => to.extend(half::f16::from_f64(x).to_le_bytes()),
        }
    }
}

/// What to write besides what the config says.
#[derive(Clone, Copy, Debug)]
pub struct InitOptions {
    /// Decides all weights.
    pub seed: u64,
    /// How they are stored.
    pub dtype: InitDType,
    /// Most bytes of tensors in one file; one file for all if `None`. A tensor is never cut.
    pub shard_size: Option<u64>,
    /// Whether a model that is there already is replaced.
    pub force: bool,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitReport {
    /// Elements of all tensors.
    pub parameters: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The files, in the order in which they were written.
    pub files: Vec<PathBuf>,
}

/// Why no model was made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum InitError {
    /// The configuration is none.
    #[error("the configuration is wrong")]
    Config(#[from] ConfigError),
    /// A class of transformers that has other tensors.
    #[error("`architectures` names `{found}`; a new model can be {supported}")]
    Architecture {
        /// What the config names.
        found: String,
        /// What it could be.
        supported: String,
    },
    /// The folder holds a model.
    #[error("{} exists; choose another folder, or --force to replace the model in it", path.display())]
    Exists {
        /// The file that would be replaced.
        path: PathBuf,
    },
    /// The model is larger than a file can be.
    #[error("the model has more bytes than fit in 64 bits; check `vocab_size`, `hidden_size` and `intermediate_size`")]
    TooLarge,
    /// The operating system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was being done.
        action: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
}

/// Writes a model of `config` with random weights into `folder`, which is made if it is not there: config.json, the
/// weights, and for a model that generates generation_config.json. `progress` hears the bytes done and the bytes in all.
///
/// Every file is written under another name first and renamed when it is whole; config.json comes last.
///
/// # Errors
/// [`InitError`], which names the file or the field. What was begun is left under its first name, `NAME.partial`.
pub fn write_model(
    config: &LlamaConfig,
    options: &InitOptions,
    folder: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<InitReport, InitError> {
    config.check()?;
    let class = Class::of(config)?;
    let tensors = plan::tensors(config, class);
    let shards = plan::shards(&tensors, options.dtype.bytes(), options.shard_size).ok_or(InitError::TooLarge)?;
    let total: u64 = shards.iter().map(|s| s.bytes).sum();
    let mut files = Folder::open(folder, options.force)?;
    let mut done = 0;
    for shard in &shards {
        let mut out = files.create(&shard.file)?;
        out.write(&plan::header(shard.tensors, options.dtype))?;
        for tensor in shard.tensors {
            write_tensor(tensor, config, options, &mut |piece| {
                done += piece.len() as u64;
                progress(done, total);
                out.write(piece)
            })?;
        }
        out.finish()?;
    }
    if shards.len() > 1 {
        files.write_json("model.safetensors.index.json", &index(&shards, total))?;
    }
    if class == Class::CausalLm {
        files.write_json("generation_config.json", &generation_config(config))?;
    }
    let mut config = config.clone();
    config.architectures = vec![class.name().to_owned()];
    config.dtype = Some(options.dtype.config_name().to_owned());
    files.write_json("config.json", &config.to_json(ConfigForm::V5))?;
    let parameters = total / options.dtype.bytes();
    Ok(InitReport { parameters, bytes: total, files: files.written })
}

/// Elements that are made before they are written: 128 Ki of them, at most 512 KiB.
const PIECE: u64 = 1 << 17;

/// Writes the elements of a tensor, row after row.
fn write_tensor(
    tensor: &NewTensor,
    config: &LlamaConfig,
    options: &InitOptions,
    write: &mut dyn FnMut(&[u8]) -> Result<(), InitError>,
) -> Result<(), InitError> {
    let deviation = if config.initializer_range == 0.0 { 0.02 } else { config.initializer_range };
    let mut rng = TensorRng::new(options.seed, &tensor.name);
    let zeros = tensor.zero_row.map_or(0..0, |row| row * tensor.row_len()..(row + 1) * tensor.row_len());
    let mut piece = Vec::new();
    let (mut at, len) = (0, tensor.len());
    while at < len {
        piece.clear();
        let end = len.min(at + PIECE);
        for i in at..end {
            let x = match tensor.fill {
                plan::Fill::Ones => 1.0,
                plan::Fill::Zeros => 0.0,
                // Drawn where it is not used too, so that a padding row moves no other number.
                plan::Fill::Normal => {
                    let drawn = rng.normal() * deviation;
                    if zeros.contains(&i) { 0.0 } else { drawn }
                }
            };
            options.dtype.push(x, &mut piece);
        }
        write(&piece)?;
        at = end;
    }
    Ok(())
}

/// `model.safetensors.index.json`.
fn index(shards: &[Shard<'_>], total: u64) -> Value {
    let mut map: Vec<(&str, &str)> =
        shards.iter().flat_map(|s| s.tensors.iter().map(|t| (t.name.as_str(), s.file.as_str()))).collect();
    map.sort_unstable();
    let map: Map<String, Value> = map.into_iter().map(|(name, file)| (name.to_owned(), json!(file))).collect();
    json!({"metadata": {"total_size": total}, "weight_map": map})
}

/// `generation_config.json`: the special tokens, as transformers derives them from the config.
fn generation_config(config: &LlamaConfig) -> Value {
    let config = config.to_json(ConfigForm::V5);
    let mut map = Map::new();
    map.insert("_from_model_config".into(), json!(true));
    for key in ["bos_token_id", "eos_token_id", "pad_token_id"] {
        if !config[key].is_null() {
            map.insert(key.into(), config[key].clone());
        }
    }
    Value::Object(map)
}
