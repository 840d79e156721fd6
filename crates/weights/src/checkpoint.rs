//! [`Checkpoint`]: a model on disk, whatever format it is in.

use std::fmt;
use std::path::{Path, PathBuf};

use camelid_core::Bytes;
use serde_json::Value;
use tracing::debug;

use crate::error::shown;
use crate::locate::{Found, locate};
use crate::{GgufFile, GgufVocab, Summary, TensorInfo, WeightsError, gguf, safetensors};

/// A model on disk: its config, its tensors, and where its tokenizer is.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    format: Format,
    config: Value,
    generation_config: Option<Value>,
    tensors: Vec<TensorInfo>,
    /// Indices into `tensors`, in order of their names.
    by_name: Vec<u32>,
    tokenizer: TokenizerSource,
    gguf: Option<GgufFile>,
    rope_freqs: Option<Vec<f32>>,
}

/// The format of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// Hugging Face's safetensors.
    Safetensors {
        /// Number of files that hold tensors.
        shards: usize,
    },
    /// ggml's GGUF.
    Gguf {
        /// Its version, 2 or 3.
        version: u32,
    },
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Format::Safetensors { shards: 1 } => f.write_str("safetensors"),
            Format::Safetensors { shards } => write!(f, "safetensors ({shards} shards)"),
            Format::Gguf { version } => write!(f, "GGUF v{version}"),
        }
    }
}

/// Where the tokenizer of a checkpoint is to be found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenizerSource {
    /// A `tokenizer.json`; `tokenizer_config.json` and its like lie in the same folder if there are any.
    TokenizerJson(PathBuf),
    /// A `tokenizer.model`, SentencePiece's or tiktoken's; the same files may lie beside it.
    TokenizerModel(PathBuf),
    /// The metadata of the GGUF file: see [`Checkpoint::gguf_vocab`].
    Gguf,
    /// Nowhere: this folder has neither file.
    Missing(PathBuf),
}

/// What a reader makes of the files of one checkpoint.
pub(crate) struct Parts {
    pub(crate) format: Format,
    pub(crate) config: Value,
    pub(crate) generation_config: Option<Value>,
    pub(crate) tensors: Vec<TensorInfo>,
    pub(crate) tokenizer: TokenizerSource,
    pub(crate) gguf: Option<GgufFile>,
    pub(crate) rope_freqs: Option<Vec<f32>>,
}

impl Checkpoint {
    /// Opens the checkpoint at `path`: a Hugging Face folder (`config.json` with `model.safetensors`, or with
    /// `model.safetensors.index.json` and its shards), a `.gguf` file, a folder that holds one `.gguf` file and no
    /// safetensors, or a `.safetensors` file beside its `config.json`.
    ///
    /// Files are mapped, not read: opening costs the header of each.
    ///
    /// # Errors
    /// A [`WeightsError`] that names the file and the field or tensor at fault.
    pub fn open(path: impl AsRef<Path>) -> Result<Checkpoint, WeightsError> {
        let path = path.as_ref();
        let parts = match locate(path)? {
            Found::Gguf(file) => gguf::load(&file)?,
            Found::Safetensors { files, folder } => safetensors::load(&files, &folder)?,
        };
        Checkpoint::assemble(path, parts)
    }

    /// A checkpoint that a program carries: the contents of its `config.json`, its `generation_config.json` and its one
    /// safetensors file. It is called `name` and has no tokenizer.
    ///
    /// # Errors
    /// As for a file.
    pub fn from_bytes(
        name: impl AsRef<Path>,
        config: &[u8],
        generation_config: &[u8],
        weights: Bytes,
    ) -> Result<Checkpoint, WeightsError> {
        let name = name.as_ref();
        Checkpoint::assemble(name, safetensors::load_bytes(name, config, generation_config, weights)?)
    }

    fn assemble(path: &Path, parts: Parts) -> Result<Checkpoint, WeightsError> {
        let by_name = index_by_name(path, &parts.tensors)?;
        debug!(path = %path.display(), format = %parts.format, tensors = parts.tensors.len(), "opened checkpoint");
        Ok(Checkpoint {
            path: path.to_owned(),
            format: parts.format,
            config: parts.config,
            generation_config: parts.generation_config,
            tensors: parts.tensors,
            by_name,
            tokenizer: parts.tokenizer,
            gguf: parts.gguf,
            rope_freqs: parts.rope_freqs,
        })
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The model's config in Hugging Face form: the contents of `config.json`, or what they would be, made from the
    /// metadata of a GGUF file.
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// The contents of `generation_config.json`, or what the metadata of a GGUF file say of it (its special ids and
    /// recommended sampling).
    pub fn generation_config(&self) -> Option<&Value> {
        self.generation_config.as_ref()
    }

    /// All tensors, in the order in which they lie in the files.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor with this name in Hugging Face's naming.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        let at = self.by_name.binary_search_by(|i| self.tensors[*i as usize].name.as_str().cmp(name)).ok()?;
        Some(&self.tensors[self.by_name[at] as usize])
    }

    /// What each rotary frequency is divided by, `[head_dim / 2]`, if the file says so.
    ///
    /// GGUF files of Llama 3.1 and later carry the result of the `llama3` rope scaling in this form (the tensor
    /// `rope_freqs.weight`) instead of its parameters, so that the config has none: frequency `i` of the model is
    /// `rope_theta^(-2i / head_dim) / rope_freqs[i]`.
    pub fn rope_freqs(&self) -> Option<&[f32]> {
        self.rope_freqs.as_deref()
    }

    /// Where the tokenizer is.
    pub fn tokenizer(&self) -> &TokenizerSource {
        &self.tokenizer
    }

    /// The vocabulary in the metadata of a GGUF file; `None` for other formats and files without one.
    ///
    /// # Errors
    /// If the metadata are of the wrong type, their lengths disagree, or a token is not UTF-8.
    pub fn gguf_vocab(&self) -> Result<Option<GgufVocab>, WeightsError> {
        self.gguf.as_ref().map_or(Ok(None), GgufFile::vocab)
    }

    /// The GGUF file with all its metadata, if it is one.
    pub fn gguf(&self) -> Option<&GgufFile> {
        self.gguf.as_ref()
    }

    /// Parameters and bytes, in all and by type.
    pub fn summary(&self) -> Summary {
        Summary::of(&self.tensors)
    }
}

/// The order of the names, which must all be different.
fn index_by_name(path: &Path, tensors: &[TensorInfo]) -> Result<Vec<u32>, WeightsError> {
    let len = u32::try_from(tensors.len()).map_err(|_| {
        WeightsError::malformed(path, "number of tensors", tensors.len().to_string(), crate::error::MAKE_AGAIN)
    })?;
    let mut by_name: Vec<u32> = (0..len).collect();
    by_name.sort_unstable_by(|a, b| tensors[*a as usize].name.cmp(&tensors[*b as usize].name));
    for pair in by_name.windows(2) {
        let (a, b) = (&tensors[pair[0] as usize], &tensors[pair[1] as usize]);
        if a.name == b.name {
            let place = |t: &TensorInfo| format!("{} in {}", shown(&t.source_name), t.file.display());
            return Err(WeightsError::Duplicate {
                path: path.to_owned(),
                what: format!("tensor {}", shown(&a.name)),
                first: place(a),
                second: place(b),
            });
        }
    }
    Ok(by_name)
}
