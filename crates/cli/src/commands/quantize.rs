//! `camelid quantize`: a checkpoint as a GGUF file of a smaller type, and what that costs.

use std::path::PathBuf;

use camelid_weights::write::{Deviation, Report, TensorClass};
use clap::Args;
use serde_json::{Map, Value, json};

use super::convert;
use super::perplexity::{Base, PerplexityCommand};
use crate::options::RunFlags;
use crate::{Error, source};

/// Write a checkpoint as a GGUF file of another type, and tell what it loses
///
/// Says how far the weights are from the source's: the root of the mean square of the differences, of each class of tensors
/// and of all. With --kl, also how far its predictions of a text are, as `camelid perplexity --against` does.
#[derive(Args, Debug)]
pub struct Quantize {
    #[command(flatten)]
    run: RunFlags,
    /// q8_0, q4_0, q4_1, q5_0, q5_1, q4_k, q4_k_m, q5_k, q5_k_m, q6_k, f32, f16 or bf16
    #[arg(long, value_name = "TYPE")]
    to: String,
    /// File to write
    out: PathBuf,
    /// Text to predict with both models: KL divergence from the source, perplexity of each
    #[arg(long, value_name = "TEXT")]
    kl: Option<PathBuf>,
    /// Write over a file that is there
    #[arg(long)]
    force: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Quantize {
    pub fn run(self) -> Result<(), Error> {
        let model = self.run.model.as_deref().map(source::locate).transpose()?;
        let report = convert::gguf(model.as_deref(), &self.out, &self.to, "--to", self.force, true)?;
        if !self.json {
            convert::show(&report, false)?;
            print_classes(&report)?;
        }
        let mut result = convert::report_json(&report);
        result["rmse"] = classes_json(&report.classes);
        if let Some(file) = &self.kl {
            let comparison = PerplexityCommand {
                run: RunFlags { model: Some(report.path.clone()), ..self.run.clone() },
                file: file.clone(),
                context: None,
                stride: None,
                against: None,
                against_backend: None,
                json: self.json,
            };
            let base = model.as_deref().map_or(Base::Bundled, Base::At);
            result["against"] = comparison.comparison(base)?.unwrap_or_default();
        }
        if self.json {
            outln!("{}", serde_json::to_string_pretty(&result)?);
        }
        Ok(())
    }
}

fn all(classes: &[TensorClass]) -> Deviation {
    let mut all = Deviation::default();
    classes.iter().for_each(|c| all.add(c.deviation));
    all
}

fn print_classes(report: &Report) -> Result<(), Error> {
    let width = report.classes.iter().map(|c| c.name.len()).max().unwrap_or(0);
    let line = |d: &Deviation| format!("{:>12}  {:.6e}  {:>9.5} %", d.elements, d.rmse(), d.relative() * 100.0);
    outln!("{:width$}  {:>12}  {:<12}  of their RMS", "RMSE of the weights", "elements", "RMSE", width = width.max(19));
    for class in &report.classes {
        let types: Vec<String> = class.dtypes.iter().map(ToString::to_string).collect();
        outln!("{:width$}  {}  {}", class.name, line(&class.deviation), types.join(", "), width = width.max(19));
    }
    outln!("{:width$}  {}", "all", line(&all(&report.classes)), width = width.max(19));
    Ok(())
}

fn classes_json(classes: &[TensorClass]) -> Value {
    let figures = |d: &Deviation| json!({"elements": d.elements, "rmse": d.rmse(), "source_rms": d.source_rms(), "relative": d.relative()});
    let of_class = |class: &TensorClass| {
        let mut value = figures(&class.deviation);
        value["tensors"] = class.tensors.into();
        value["types"] = class.dtypes.iter().map(ToString::to_string).collect();
        (class.name.clone(), value)
    };
    json!({"all": figures(&all(classes)), "classes": classes.iter().map(of_class).collect::<Map<_, _>>()})
}
