//! Any checkpoint to a Hugging Face folder.

use std::path::Path;

use camelid_core::llama::tensors;
use camelid_core::{DType, quant};
use serde_json::{Value, json};

use super::folder::Folder;
use super::rows::{Planned, Stored};
use super::to_gguf::{folder_of, read_config};
use super::{MAX_SHARD_BYTES, OnProgress, Report, gguf_rope, tokenizer_files, tokenizer_json};
use crate::{Checkpoint, Strictness, TensorInfo, TokenizerSource, WeightsError};

/// How to write a Hugging Face folder.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FolderOptions {
    /// F32, F16 or BF16; if not given, the type that tensors have, and F32 for quantized ones.
    pub dtype: Option<DType>,
    /// Most bytes of tensors in one file.
    pub max_shard_bytes: u64,
    /// Write into a folder that is not empty.
    pub force: bool,
}

impl Default for FolderOptions {
    fn default() -> FolderOptions {
        FolderOptions { dtype: None, max_shard_bytes: MAX_SHARD_BYTES, force: false }
    }
}

/// Writes `checkpoint` to the folder `out`: its tensors as safetensors, quantized ones as the floats they stand for, its config
/// and its tokenizer. For a GGUF file the last two are made from its metadata, in the form of transformers 5.
///
/// # Errors
/// If a tensor is missing or has another shape than the config calls for, the folder holds something already, or cannot be
/// written.
pub fn to_hugging_face(
    checkpoint: &Checkpoint,
    out: &Path,
    options: &FolderOptions,
    progress: OnProgress<'_>,
) -> Result<Report, WeightsError> {
    let parsed = read_config(checkpoint)?;
    let has_head = checkpoint.tensor(tensors::LM_HEAD).is_some();
    let untied = has_head && !parsed.tie_word_embeddings;
    checkpoint.check_against(&tensors::expected(&parsed, untied), Strictness::Lenient)?;
    let from_gguf = checkpoint.gguf().is_some();
    let mut planned = Vec::new();
    for tensor in checkpoint.tensors() {
        let kept = match tensor.dtype {
            // The converter widens vectors; in a file of 16-bit matrices those that fit were like them before.
            DType::F32 if from_gguf && tensor.shape.len() < 2 => narrowest(tensor, matrix_type(checkpoint)),
            quantized if quantized.is_block() => DType::F32,
            plain => plain,
        };
        let rows = Box::new(Stored::new(tensor));
        planned.push(Planned { name: tensor.name.clone(), dtype: options.dtype.unwrap_or(kept), rows });
    }

    let mut notes = Vec::new();
    let mut config = checkpoint.config().clone();
    if let Value::Object(map) = &mut config {
        if from_gguf {
            for key in ["rope_theta", "rope_scaling", "_name_or_path"] {
                map.shift_remove(key);
            }
            map.insert("rope_parameters".into(), Value::Object(gguf_rope::recover(checkpoint, parsed.head_dim)?));
            map.insert("tie_word_embeddings".into(), json!(!untied));
            for key in ["bos_token_id", "eos_token_id", "pad_token_id"] {
                // Without a value the default of the class would be taken, which is 1 and 2.
                map.entry(key).or_insert(Value::Null);
            }
        }
        if from_gguf || options.dtype.is_some() {
            let dtype = match options.dtype.unwrap_or(matrix_type(checkpoint)) {
                DType::F16 => "float16",
                DType::BF16 => "bfloat16",
                _ => "float32",
            };
            map.shift_remove("torch_dtype");
            map.insert("dtype".into(), json!(dtype));
        }
    }

    let mut folder = Folder::create(out, options.force)?;
    folder.write_tensors(&planned, options.max_shard_bytes, progress)?;
    folder.write_json("config.json", &config)?;
    if let Some(generation) = checkpoint.generation_config() {
        let mut generation = generation.clone();
        if from_gguf && generation.get("temperature").is_some() {
            generation["do_sample"] = json!(true);
        }
        folder.write_json("generation_config.json", &generation)?;
    }
    match checkpoint.tokenizer() {
        TokenizerSource::Gguf => {
            if let Some(vocab) = checkpoint.gguf_vocab()? {
                let made = tokenizer_json::make(checkpoint.path(), &vocab, parsed.max_position_embeddings as u64)?;
                folder.write("tokenizer.json", &serde_text(&made.tokenizer))?;
                folder.write_json("tokenizer_config.json", &made.config)?;
            }
        }
        _ => {
            let copied = folder_of(checkpoint).map(|from| copy_tokenizer(&folder, from)).transpose()?;
            if copied != Some(true) {
                notes.push("the checkpoint has no tokenizer".into());
            }
        }
    }
    let (path, files, bytes) = folder.commit()?;
    Ok(Report { path, tensors: planned.len(), bytes, files, notes, classes: Vec::new() })
}

/// The type of the embeddings, or F32 if they are quantized.
fn matrix_type(checkpoint: &Checkpoint) -> DType {
    let dtype = checkpoint.tensor(tensors::EMBED_TOKENS).map_or(DType::F32, |t| t.dtype);
    if dtype.is_block() { DType::F32 } else { dtype }
}

/// `dtype`, or F32 if that would change a value of this vector.
fn narrowest(tensor: &TensorInfo, dtype: DType) -> DType {
    let count = tensor.elements() as usize;
    let (mut values, mut again) = (vec![0.0; count], vec![0.0; count]);
    let mut narrow = vec![0; dtype.row_bytes(count).unwrap_or(0)];
    let kept = quant::dequantize(DType::F32, &tensor.bytes(), &mut values)
        .and_then(|()| quant::quantize(dtype, &values, &mut narrow))
        .and_then(|()| quant::dequantize(dtype, &narrow, &mut again));
    let same = values.iter().zip(&again).all(|(a, b)| a.to_bits() == b.to_bits());
    if kept.is_ok() && same { dtype } else { DType::F32 }
}

/// JSON whose keys stay in their order, as the `tokenizers` library writes it.
fn serde_text(value: &Value) -> Vec<u8> {
    format!("{value:#}").into_bytes()
}

/// Copies the files of a tokenizer; false if there are none.
fn copy_tokenizer(folder: &Folder, from: &Path) -> Result<bool, WeightsError> {
    let mut any = false;
    for name in tokenizer_files::NAMES {
        let path = from.join(name);
        if path.is_file() {
            folder.write(name, &std::fs::read(&path).map_err(WeightsError::io(&path, "read"))?)?;
            any = true;
        }
    }
    Ok(any)
}
