//! `camelid init`: a new model with random weights.

use std::path::PathBuf;

use camelid_core::llama::LlamaConfig;
use camelid_weights::init::{InitDType, InitOptions, write_model};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use crate::Error;

/// Make a model with random weights, as a Hugging Face folder
#[derive(Args, Debug)]
pub struct Init {
    /// The config.json of the model, old or new; `architectures` decides about its head
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Decides all weights: the same seed gives the same bytes everywhere
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// The folder to write to
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How weights are stored [default: the config's dtype if it is one of these, or f32]
    #[arg(long, value_enum, value_name = "TYPE")]
    dtype: Option<DType>,
    /// Most bytes of weights in one file [default: no limit]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    shard_size: Option<u64>,
    /// Replace a model that is there
    #[arg(long)]
    force: bool,
}

/// A type of stored weights.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum DType {
    F32,
    Bf16,
    F16,
}

impl Init {
    pub fn run(self) -> Result<(), Error> {
        let wrong = |what: String| -> Error { format!("{}: {what}", self.config.display()).into() };
        let text = std::fs::read_to_string(&self.config).map_err(|e| wrong(format!("cannot be read: {e}")))?;
        let config = LlamaConfig::from_json(&text).map_err(|e| wrong(e.to_string()))?;
        let dtype = match self.dtype {
            Some(DType::F32) => InitDType::F32,
            Some(DType::Bf16) => InitDType::BF16,
            Some(DType::F16) => InitDType::F16,
            None => InitDType::of(&config).unwrap_or(InitDType::F32),
        };
        let options = InitOptions { seed: self.seed, dtype, shard_size: self.shard_size, force: self.force };
        let bar = bar();
        let report = write_model(&config, &options, &self.out, &mut |done, total| {
            bar.set_length(total);
            bar.set_position(done);
        })?;
        bar.finish_and_clear();
        for file in &report.files {
            outln!("{}", file.display());
        }
        outln!("{} parameters in {} bytes", report.parameters, report.bytes);
        Ok(())
    }
}

/// A bar on stderr, if somebody is looking.
fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("writing {bar:40} {bytes}/{total_bytes} {eta}");
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
