//! Any checkpoint to a GGUF file.

use std::path::Path;

use camelid_core::DType;
use camelid_core::llama::{LlamaConfig, tensors};
use camelid_core::ops::Activation;
use serde_json::Value;

use super::gguf_types::{GgufType, Model, choose};
use super::rows::{Made, Permuted, Planned, Rows, Stored};
use super::tokenizer_files::TokenizerFiles;
use super::{OnProgress, Report, gguf_file, gguf_metadata, gguf_rope, vocab};
use crate::error::{Listed, shown};
use crate::gguf::names::{self, Projection};
use crate::{Checkpoint, Strictness, TokenizerSource, WeightsError};

/// How to write a GGUF file.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GgufOptions {
    /// The type of most matrices.
    pub kind: GgufType,
    /// The tokenizer, if it is another than the checkpoint's or that lies in no folder.
    pub tokenizer: Option<TokenizerFiles>,
    /// `general.name`; the name of the checkpoint's folder or file if not given.
    pub name: Option<String>,
    /// Replace a file that is there.
    pub force: bool,
    /// Report how far the weights are from what they were.
    pub measure: bool,
}

impl Default for GgufOptions {
    fn default() -> GgufOptions {
        GgufOptions { kind: GgufType::Stored, tokenizer: None, name: None, force: false, measure: false }
    }
}

/// Writes `checkpoint` to the GGUF file `out`: metadata and names as llama.cpp's converter has them, the rows of q and k
/// reordered, tensors streamed one by one.
///
/// # Errors
/// If the model or its tokenizer has something that GGUF cannot say, a tensor is missing or has another shape than the config
/// calls for, or the file exists or cannot be written.
pub fn to_gguf(
    checkpoint: &Checkpoint,
    out: &Path,
    options: &GgufOptions,
    progress: OnProgress<'_>,
) -> Result<Report, WeightsError> {
    let path = checkpoint.path();
    let config = read_config(checkpoint)?;
    if config.hidden_act != Activation::Silu {
        let remedy = "GGUF has no key for it, and llama.cpp would compute silu: keep the safetensors";
        return Err(WeightsError::unsupported(path, "hidden_act", config.hidden_act.name(), remedy));
    }
    let has_head = checkpoint.tensor(tensors::LM_HEAD).is_some();
    let tied = config.tie_word_embeddings || !has_head;
    checkpoint.check_against(&tensors::expected(&config, !tied), Strictness::Lenient)?;
    let mut rope = gguf_rope::plan(path, checkpoint.config(), config.head_dim, config.max_position_embeddings)?;
    if let Some(divisors) = checkpoint.rope_freqs() {
        rope.tensors.retain(|(name, _)| *name != "rope_freqs.weight");
        rope.tensors.push(("rope_freqs.weight", divisors.to_vec()));
        if let Some(kept) = checkpoint.gguf().and_then(|f| f.metadata().str(gguf_rope::KEPT).ok().flatten()) {
            rope.metadata.set(gguf_rope::KEPT, gguf_file::Kv::Text(kept.to_owned()));
        }
    }

    let mut notes = Vec::new();
    let model = Model {
        layers: config.num_hidden_layers,
        tied,
        grouped: config.num_attention_heads != config.num_key_value_heads,
    };
    let mut planned = Vec::new();
    let mut fallbacks: Vec<String> = Vec::new();
    for (name, values) in rope.tensors {
        let rows = Box::new(Made::new(path, values));
        planned.push(Planned { name: name.into(), dtype: DType::F32, rows });
    }
    for tensor in checkpoint.tensors() {
        if tied && tensor.name == tensors::LM_HEAD {
            notes.push("lm_head.weight is left out: the config ties it to the embeddings".into());
            continue;
        }
        let Some(name) = names::to_gguf(&tensor.name) else {
            let remedy = "GGUF has no such tensor for a Llama: keep the safetensors";
            return Err(WeightsError::unsupported(&tensor.file, "tensor", shown(&tensor.name), remedy));
        };
        let heads = match names::projection(&tensor.name) {
            Some(Projection::Query) => Some(config.num_attention_heads),
            Some(Projection::Key) => Some(config.num_key_value_heads),
            None => None,
        };
        let (dtype, instead_of) = choose(options.kind, model, &name, &tensor.shape, tensor.dtype);
        if let Some(wanted) = instead_of {
            fallbacks.push(format!("{name} ({dtype} for {wanted})"));
        }
        let stored: Box<dyn Rows + '_> = Box::new(Stored::new(tensor));
        let rows = match heads {
            // The shape was compared with the config: rows are heads * head_dim.
            Some(_) => Box::new(Permuted { inner: stored, head_rows: config.head_dim }),
            None => stored,
        };
        planned.push(Planned { name, dtype, rows });
    }
    if !fallbacks.is_empty() {
        notes.push(format!("rows that are no whole number of blocks got another type: {}", Listed(&fallbacks)));
    }

    let vocab = vocabulary(checkpoint, options, config.vocab_size)?;
    if vocab.is_none() {
        notes.push(
            "there is neither tokenizer.json nor a tokenizer.model of SentencePiece: the file has no vocabulary".into(),
        );
    }
    let parameters = checkpoint.summary().parameters;
    let matrices = checkpoint.tensor(tensors::EMBED_TOKENS).map_or(DType::F32, |t| t.dtype);
    let name = options.name.clone().unwrap_or_else(|| default_name(path));
    let generation = checkpoint.generation_config();
    let mut metadata = gguf_metadata::general(&name, parameters, options.kind.file_type(matrices), generation);
    gguf_metadata::model(&mut metadata, &config);
    metadata.extend(rope.metadata);
    gguf_metadata::tokenizer(&mut metadata, vocab.as_ref(), &config);
    let mut classes = Vec::new();
    let measured = options.measure.then_some(&mut classes);
    let (path, bytes) = gguf_file::write(out, options.force, &metadata, &planned, measured, progress)?;
    Ok(Report { path, tensors: planned.len(), bytes, files: 1, notes, classes })
}

/// The config, its rotary embedding left to [`gguf_rope`].
pub(super) fn read_config(checkpoint: &Checkpoint) -> Result<LlamaConfig, WeightsError> {
    let mut json = checkpoint.config().clone();
    if let Value::Object(map) = &mut json {
        for key in ["rope_parameters", "rope_scaling", "rope_theta", "partial_rotary_factor"] {
            map.shift_remove(key);
        }
    }
    let wrong = |found: String| {
        WeightsError::malformed(checkpoint.path(), "the config", found, "correct it, or use another model")
    };
    let config = LlamaConfig::from_value(&json).map_err(|e| wrong(e.to_string()))?;
    // Before anything is made for each layer: a damaged number may be any.
    let (layers, tensors) = (config.num_hidden_layers, checkpoint.tensors().len());
    if layers > tensors {
        return Err(wrong(format!("num_hidden_layers is {layers}, but there are {tensors} tensors")));
    }
    Ok(config)
}

fn vocabulary(
    checkpoint: &Checkpoint,
    options: &GgufOptions,
    rows: usize,
) -> Result<Option<camelid_core::tokenizer::GgufVocab>, WeightsError> {
    if let Some(files) = &options.tokenizer {
        return vocab::read(checkpoint.path(), files, rows).map(Some);
    }
    match checkpoint.tokenizer() {
        TokenizerSource::Gguf => checkpoint.gguf_vocab(),
        _ => {
            let Some(folder) = folder_of(checkpoint) else { return Ok(None) };
            TokenizerFiles::in_folder(folder)?.map(|files| vocab::read(folder, &files, rows)).transpose()
        }
    }
}

/// The folder that a checkpoint lies in; none if it is part of a program.
pub(super) fn folder_of(checkpoint: &Checkpoint) -> Option<&Path> {
    let path = checkpoint.path();
    if path.is_dir() { Some(path) } else { path.parent().filter(|_| path.exists()) }
}

/// The name of a folder, or of a file without its ending.
fn default_name(path: &Path) -> String {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let name = if path.is_dir() { path.file_name() } else { path.file_stem() };
    name.map_or_else(|| "model".into(), |n| n.to_string_lossy().into_owned())
}
