//! `camelid convert`: a checkpoint in another format.

use std::path::{Path, PathBuf};

use camelid_weights::Checkpoint;
use camelid_weights::meta::{self, LlamaVersion, MetaOptions};
use camelid_weights::write::{self, FolderOptions, GgufOptions, GgufType, OnProgress, Progress, Report};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::{Error, bundled};

/// Convert a checkpoint: Meta's to Hugging Face's, and that to GGUF and back
///
/// camelid convert --from meta Llama-2-7b --out llama-2-7b-hf
/// camelid convert --to gguf --model llama-2-7b-hf --out llama-2-7b.gguf --dtype q8_0
/// camelid convert --to hf --model llama-2-7b.gguf --out llama-2-7b-again --dtype bf16
///
/// Tensors are converted one by one, in little memory. The output appears under its name when it is whole.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub struct Convert {
    /// What the checkpoint is: Meta's folder of consolidated.NN.pth and params.json, or what is found there
    #[arg(long, value_enum, default_value_t = From::Auto)]
    from: From,
    /// What it becomes: a Hugging Face folder, or a GGUF file
    #[arg(long, value_enum)]
    to: Option<To>,
    /// The checkpoint [default: the bundled model]
    #[arg(value_name = "CHECKPOINT", conflicts_with = "model")]
    checkpoint: Option<PathBuf>,
    /// The checkpoint, as other commands take it
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
    /// Folder or file to write
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
    /// Type of the weights: auto (as they are), f32, f16, bf16; for GGUF also q8_0, q4_0, q4_1, q5_0, q5_1, q4_k, q4_k_m, q5_k,
    /// q5_k_m, q6_k
    #[arg(long, value_name = "TYPE", default_value = "auto")]
    dtype: String,
    /// With --from meta: 1, 2, 3, 3.1 or 3.2 [default: what params.json and the weights speak of]
    #[arg(long, value_name = "V", value_parser = llama_version)]
    llama_version: Option<LlamaVersion>,
    /// With --from meta: the model is instruction-tuned, so its turns end with Llama 3's <|eot_id|>
    #[arg(long)]
    instruct: bool,
    /// Most bytes of weights in one file of a folder: 5GB, 500MB, 2GiB
    #[arg(long, value_name = "SIZE", default_value = "5GB", value_parser = size)]
    max_shard_size: u64,
    /// Write over what is there
    #[arg(long)]
    force: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum From {
    Auto,
    Meta,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum To {
    Hf,
    Gguf,
}

impl Convert {
    pub fn run(self) -> Result<(), Error> {
        let checkpoint = self.checkpoint.as_deref().or(self.model.as_deref());
        let to = match (self.to, self.from) {
            (Some(to), _) => to,
            (None, From::Meta) => To::Hf,
            (None, From::Auto) => return Err("say what the checkpoint becomes: --to hf or --to gguf".into()),
        };
        let plain = || match self.dtype.as_str() {
            "auto" => Ok(None),
            name => write::plain_dtype(name).map(Some).ok_or_else(|| -> Error {
                format!("--dtype {name}: a Hugging Face folder holds f32, f16 or bf16 (or auto)").into()
            }),
        };
        if self.from == From::Meta {
            let folder = checkpoint.ok_or("--from meta: give the folder of the checkpoint")?;
            if to == To::Gguf {
                return Err("--from meta makes a Hugging Face folder; convert that to GGUF then".into());
            }
            let mut options = MetaOptions::default();
            options.version = self.llama_version;
            options.instruct = self.instruct;
            options.dtype = plain()?;
            options.max_shard_bytes = self.max_shard_size;
            options.force = self.force;
            let report = with_bar(|progress| Ok(meta::to_hugging_face(folder, &self.out, &options, progress)?))?;
            return show(&report, self.json);
        }
        if self.llama_version.is_some() || self.instruct {
            return Err("--llama-version and --instruct describe a checkpoint of Meta's: add --from meta".into());
        }
        let report = match to {
            To::Gguf => gguf(checkpoint, &self.out, &self.dtype, "--dtype", self.force, false)?,
            To::Hf => {
                let checkpoint = checkpoint.ok_or("give the checkpoint that is to be converted: --model PATH")?;
                let checkpoint = Checkpoint::open(checkpoint)?;
                let mut options = FolderOptions::default();
                options.dtype = plain()?;
                options.max_shard_bytes = self.max_shard_size;
                options.force = self.force;
                with_bar(|progress| Ok(write::to_hugging_face(&checkpoint, &self.out, &options, progress)?))?
            }
        };
        show(&report, self.json)
    }
}

/// Writes the checkpoint at `path`, or the bundled one, as a GGUF file; `flag` gave the name of the type. With `measure` the
/// report says how far the weights are from what they were.
pub fn gguf(
    path: Option<&Path>,
    out: &Path,
    dtype: &str,
    flag: &str,
    force: bool,
    measure: bool,
) -> Result<Report, Error> {
    let kind = GgufType::from_name(dtype).ok_or_else(|| {
        let known: Vec<_> = GgufType::names().collect();
        format!("{flag} {dtype}: the types of a GGUF file are {}", known.join(", "))
    })?;
    let mut options = GgufOptions::default();
    options.kind = kind;
    options.force = force;
    options.measure = measure;
    let checkpoint = match path {
        Some(path) => Checkpoint::open(path)?,
        None => {
            options.tokenizer = Some(bundled::tokenizer_files());
            options.name = Some("Camelid bundled".into());
            bundled::checkpoint()?
        }
    };
    with_bar(|progress| Ok(write::to_gguf(&checkpoint, out, &options, progress)?))
}

/// Runs a conversion under a progress bar on stderr.
fn with_bar(convert: impl FnOnce(OnProgress<'_>) -> Result<Report, Error>) -> Result<Report, Error> {
    let bar = ProgressBar::new(0);
    let template = "{bytes:>10} of {total_bytes} {wide_bar} {binary_bytes_per_sec} {eta}  {msg}";
    bar.set_style(ProgressStyle::with_template(template)?);
    let report = convert(&mut |progress: Progress<'_>| {
        bar.set_length(progress.total);
        bar.set_position(progress.done);
        bar.set_message(progress.tensor.to_owned());
    });
    bar.finish_and_clear();
    report
}

/// What was made.
pub fn report_json(report: &Report) -> Value {
    json!({
        "path": report.path.display().to_string(), "tensors": report.tensors, "bytes": report.bytes,
        "files": report.files, "notes": report.notes,
    })
}

/// Prints what was made.
pub fn show(report: &Report, as_json: bool) -> Result<(), Error> {
    if as_json {
        outln!("{}", serde_json::to_string_pretty(&report_json(report))?);
        return Ok(());
    }
    for note in &report.notes {
        eprintln!("note: {note}");
    }
    let mebibytes = report.bytes as f64 / f64::from(1 << 20);
    let files = if report.files == 1 { "1 file".to_owned() } else { format!("{} files", report.files) };
    outln!("{}: {} tensors, {mebibytes:.1} MiB in {files}", report.path.display(), report.tensors);
    Ok(())
}

fn llama_version(name: &str) -> Result<LlamaVersion, String> {
    let known = LlamaVersion::ALL.map(LlamaVersion::name).join(", ");
    LlamaVersion::from_name(name).ok_or_else(|| format!("the versions are {known}"))
}

/// A number of bytes, with a unit: decimal (MB) or binary (MiB).
fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no size; write 5GB, 500MB, 2GiB or a number of bytes");
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return Err(wrong()),
    };
    let bytes = number.parse::<u64>().ok().and_then(|n| n.checked_mul(unit)).filter(|n| *n > 0);
    bytes.ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("5GB"), Ok(5_000_000_000));
        assert_eq!(size("2GiB"), Ok(2 << 30));
        assert_eq!(size("300"), Ok(300));
        for wrong in ["", "GB", "0", "5 parsecs", "-1", "99999999999TB"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
