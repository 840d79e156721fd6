//! `camelid quantize`: a checkpoint as a GGUF file of a smaller type.

use std::path::PathBuf;

use clap::Args;

use super::convert;
use crate::Error;

/// Write a checkpoint as a GGUF file of another type
#[derive(Args, Debug)]
pub struct Quantize {
    /// Hugging Face folder, .gguf file, or .safetensors file beside its config.json [default: the bundled model]
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
    /// q8_0, q4_0, q4_1, q5_0, q5_1, q4_k, q4_k_m, q5_k, q5_k_m, q6_k, f32, f16 or bf16
    #[arg(long, value_name = "TYPE")]
    to: String,
    /// File to write
    out: PathBuf,
    /// Write over a file that is there
    #[arg(long)]
    force: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Quantize {
    pub fn run(self) -> Result<(), Error> {
        let report = convert::gguf(self.model.as_deref(), &self.out, &self.to, "--to", self.force)?;
        convert::show(&report, self.json)
    }
}
