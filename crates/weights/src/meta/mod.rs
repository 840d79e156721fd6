//! Meta's own format: `consolidated.NN.pth`, `params.json` and `tokenizer.model`, converted to a Hugging Face folder.
//!
//! [`to_hugging_face`] does what transformers' `convert_llama_weights_to_hf.py` does, for any number of shards, but tensor
//! by tensor: a model of any size is converted in the memory of a few pieces. The weights keep the type they have
//! unless another is asked for (that script always rounds to bfloat16). `layout` is the table of names and cuts,
//! `params` the dimensions, `shards` the files.

mod config;
mod layout;
mod params;
mod shards;

use std::path::{Path, PathBuf};

use camelid_core::DType;
use tracing::debug;

use crate::WeightsError;
use crate::error::Listed;
use crate::write::{Folder, MAX_SHARD_BYTES, OnProgress, Planned, Report, Rows};
use layout::{Cut, EMBEDDINGS, OUTPUT, Part};
pub use params::LlamaVersion;
use params::Params;
use shards::Shards;

/// How to convert.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MetaOptions {
    /// Which Llama it is; found out if not given.
    pub version: Option<LlamaVersion>,
    /// An instruction-tuned Llama 3: its turns end with `<|eot_id|>`.
    pub instruct: bool,
    /// F32, F16 or BF16; the type the weights have if not given.
    pub dtype: Option<DType>,
    /// Most bytes of tensors in one file.
    pub max_shard_bytes: u64,
    /// Write into a folder that is not empty.
    pub force: bool,
}

impl Default for MetaOptions {
    fn default() -> MetaOptions {
        MetaOptions { version: None, instruct: false, dtype: None, max_shard_bytes: MAX_SHARD_BYTES, force: false }
    }
}

/// Converts the model in `folder` to a Hugging Face folder `out`.
///
/// # Errors
/// If a file is missing, damaged or of another model, the shards do not fit together or `params.json`, `out` holds
/// something already, or cannot be written.
pub fn to_hugging_face(
    folder: &Path,
    out: &Path,
    options: &MetaOptions,
    progress: OnProgress<'_>,
) -> Result<Report, WeightsError> {
    let params = Params::read(folder)?;
    let shards = Shards::open(folder)?;
    // Before anything is made for each layer: a damaged number may be any.
    if params.n_layers > shards.tensors() {
        return Err(shards.missing(&format!("layers.{}.attention_norm.weight", params.n_layers - 1)));
    }
    let mut notes = Vec::new();
    let version = match options.version {
        Some(version) => {
            check_version(&params, version)?;
            version
        }
        None => {
            let (version, why) = guess(&params, &shards)?;
            notes.push(format!("taken for Llama {version}, because {why}; --llama-version says otherwise"));
            version
        }
    };
    let cut = if version.is_3() { Cut::Rows } else { Cut::Columns };
    let vocab = shards.vocab(cut)?;
    if let Some(expected) = params.vocab_size.filter(|v| *v != vocab) {
        let found = format!(
            "it is {expected}, but the embeddings of {} shards have {vocab} rows if cut as those of Llama {version}",
            shards.len()
        );
        let remedy = "the shards are of another model, or of another version (--llama-version)";
        return Err(WeightsError::malformed(&params.path, "vocab_size", found, remedy));
    }

    let has_head = shards.has(OUTPUT);
    if !has_head && version != LlamaVersion::V3_2 {
        return Err(shards.missing(OUTPUT));
    }
    let mut parts = layout::parts(&params, version, vocab, has_head);
    let unknown = shards.unknown(&parts);
    if !unknown.is_empty() {
        let remedy = "params.json is of another model (see its n_layers), or the model is none of Meta's Llamas";
        return Err(WeightsError::malformed(
            folder,
            "the shards",
            format!("unknown tensors: {}", Listed(&unknown)),
            remedy,
        ));
    }
    let mut tied = !has_head;
    if has_head && version == LlamaVersion::V3_2 {
        tied = same(&shards, &parts, &params)?;
        if tied {
            parts.retain(|p| p.meta != OUTPUT);
        } else {
            notes.push("output.weight differs from tok_embeddings.weight, so both are kept".into());
        }
    }

    let mut planned = Vec::with_capacity(parts.len());
    for part in &parts {
        let rows = shards.assemble(part, params.head_dim())?;
        let dtype = options.dtype.unwrap_or(rows.dtype());
        planned.push(Planned { name: part.name.clone(), dtype, rows: Box::new(rows) });
    }
    let dtype = match planned[0].dtype {
        DType::F32 => "float32",
        DType::F16 => "float16",
        _ => "bfloat16",
    };
    debug!(version = %version, shards = shards.len(), vocab, tied, "converting");

    let mut folder_out = Folder::create(out, options.force)?;
    folder_out.write_tensors(&planned, options.max_shard_bytes, progress)?;
    let config = config::model(&params, version, options.instruct, vocab, tied, dtype);
    folder_out.write_json("config.json", &config)?;
    folder_out.write_json("generation_config.json", &config::generation(version, options.instruct))?;
    match tokenizer_model(folder) {
        Some(path) => {
            let bytes = std::fs::read(&path).map_err(WeightsError::io(&path, "read"))?;
            folder_out.write("tokenizer.model", &bytes)?;
            folder_out.write_json("tokenizer_config.json", &config::tokenizer(&params, version, options.instruct))?;
        }
        None => notes.push("there is no tokenizer.model, neither beside the weights nor in the folder above".into()),
    }
    let (path, files, bytes) = folder_out.commit()?;
    Ok(Report { path, tensors: planned.len(), bytes, files, notes, classes: Vec::new() })
}

/// `tokenizer.model` beside the weights, or above, where the first LLaMA has it.
fn tokenizer_model(folder: &Path) -> Option<PathBuf> {
    let above = std::path::absolute(folder).ok()?.parent().map(|p| p.join("tokenizer.model"));
    [Some(folder.join("tokenizer.model")), above].into_iter().flatten().find(|p| p.is_file())
}

/// Scaled rotary embeddings belong to 3.1 and later, and only to them.
fn check_version(params: &Params, version: LlamaVersion) -> Result<(), WeightsError> {
    let scaled = version.rope_factor().is_some();
    match params.use_scaled_rope {
        Some(other) if other != scaled => {
            let found = format!("it is {other}, but Llama {version} was asked for");
            let remedy = if other { "use --llama-version 3.1 or 3.2" } else { "use --llama-version 1, 2 or 3" };
            Err(WeightsError::malformed(&params.path, "use_scaled_rope", found, remedy))
        }
        _ => Ok(()),
    }
}

/// The version that the parameters and shards speak of, and why.
fn guess(params: &Params, shards: &Shards) -> Result<(LlamaVersion, &'static str), WeightsError> {
    const LARGEST_OF_2: usize = 100_000;
    if params.use_scaled_rope == Some(true) {
        if !shards.has(OUTPUT) {
            return Ok((LlamaVersion::V3_2, "params.json has use_scaled_rope and there is no output.weight"));
        }
        let vocab = shards.vocab(Cut::Rows)?;
        let parts = layout::parts(params, LlamaVersion::V3_2, vocab, true);
        let tied = same(shards, &parts, params)?;
        return Ok(if tied {
            (LlamaVersion::V3_2, "params.json has use_scaled_rope and output.weight is tok_embeddings.weight")
        } else {
            (LlamaVersion::V3_1, "params.json has use_scaled_rope")
        });
    }
    if params.use_scaled_rope.is_some() {
        return Ok((LlamaVersion::V3, "params.json has use_scaled_rope, which is false"));
    }
    if shards.vocab(Cut::Columns)?.max(params.vocab_size.unwrap_or(0)) >= LARGEST_OF_2 || params.rope_theta == 500_000.0
    {
        return Ok((LlamaVersion::V3, "its vocabulary or rope_theta is that of Llama 3"));
    }
    if params.grouped || params.rope_theta > 10_000.0 {
        return Ok((LlamaVersion::V2, "params.json has n_kv_heads or rope_theta"));
    }
    Ok((LlamaVersion::V1, "params.json has nothing that is newer"))
}

/// True if the head holds what the embeddings hold.
fn same(shards: &Shards, parts: &[Part], params: &Params) -> Result<bool, WeightsError> {
    let find = |name: &str| parts.iter().find(|p| p.meta == name).ok_or_else(|| shards.missing(name));
    let (embeddings, output) = (find(EMBEDDINGS)?, find(OUTPUT)?);
    let (a, b) = (shards.assemble(embeddings, params.head_dim())?, shards.assemble(output, params.head_dim())?);
    if a.dtype() != b.dtype() || a.shape() != b.shape() {
        return Ok(false);
    }
    const TOGETHER: usize = 64;
    let (mut left, mut right) = (Vec::new(), Vec::new());
    for from in (0..a.rows()).step_by(TOGETHER) {
        left.clear();
        right.clear();
        let rows = TOGETHER.min(a.rows() - from);
        a.read(from, rows, &mut left)?;
        b.read(from, rows, &mut right)?;
        if left != right {
            return Ok(false);
        }
    }
    Ok(true)
}
