//! `camelid forward`: logits for token ids, from file to file.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use camelid_core::tokenizer::TokenId;
use camelid_engine::{Outputs, SequenceInput, Session};
use clap::Args;
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize_to_file};

use crate::Error;
use crate::options::RunFlags;
use crate::setup::Setup;

/// Compute logits for token ids from a safetensors file
#[derive(Args, Debug)]
pub struct Forward {
    #[command(flatten)]
    run: RunFlags,
    /// Holds `input_ids`, i32 or i64 [B, T]
    #[arg(long, value_name = "FILE")]
    inputs: PathBuf,
    /// Gets `logits`, f32 [B, T, vocab_size]
    #[arg(long, value_name = "FILE")]
    outputs: PathBuf,
    /// Compute the logits of the last N tokens only; 0 for all
    #[arg(long, value_name = "N", default_value_t = 0)]
    logits_to_keep: usize,
}

/// Most rows computed together.
const ROWS_TOGETHER: usize = 16;

impl Forward {
    pub fn run(self) -> Result<(), Error> {
        let setup = Setup::new(&self.run, self.run.overrides())?;
        let (ids, length) = read_input_ids(&self.inputs)?;
        let model = setup.model()?;
        let mut options = setup.session_options(&model, Some(length));
        let rows: Vec<&[TokenId]> = ids.chunks_exact(length).collect();
        options.max_sequences = rows.len().min(ROWS_TOGETHER);
        let mut session = Session::new(model.clone(), &options)?;
        let keep = if self.logits_to_keep == 0 { length } else { self.logits_to_keep.min(length) };
        let wanted: Vec<usize> = (length - keep..length).collect();
        let mut logits: Vec<u8> = Vec::new();
        for group in rows.chunks(ROWS_TOGETHER) {
            session.reset();
            let sequences: Vec<_> = group.iter().map(|_| session.create()).collect::<Result<_, _>>()?;
            let inputs: Vec<_> = group
                .iter()
                .zip(sequences)
                .map(|(tokens, sequence)| {
                    let outputs = if keep == length { Outputs::All } else { Outputs::Rows(&wanted) };
                    SequenceInput { sequence, tokens, positions: None, outputs }
                })
                .collect();
            let result = session.step(&inputs)?;
            for i in 0..group.len() {
                logits.extend(result.of_input(i).iter().flat_map(|x| x.to_le_bytes()));
            }
        }
        let shape = vec![rows.len(), keep, model.config().vocab_size];
        let view = TensorView::new(Dtype::F32, shape, &logits)?;
        serialize_to_file([("logits", view)], None::<HashMap<String, String>>, &self.outputs)
            .map_err(|e| format!("{}: the logits cannot be written: {e}", self.outputs.display()).into())
    }
}

/// All ids, row after row, and the length of a row.
fn read_input_ids(path: &Path) -> Result<(Vec<TokenId>, usize), Error> {
    let wrong = |what: String| -> Error { format!("{}: {what}", path.display()).into() };
    let bytes = std::fs::read(path).map_err(|e| wrong(format!("cannot be read: {e}")))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|e| wrong(format!("is not a safetensors file: {e}")))?;
    if let Some(other) = file.names().into_iter().find(|n| *n != "input_ids") {
        return Err(wrong(format!("tensor `{other}` is not known; the inputs are: input_ids")));
    }
    let ids = file.tensor("input_ids").map_err(|_| wrong("there is no tensor `input_ids`".into()))?;
    let &[_, length] = ids.shape() else {
        return Err(wrong(format!("`input_ids` has shape {:?}, but it must be [B, T]", ids.shape())));
    };
    if ids.shape().contains(&0) {
        return Err(wrong(format!("`input_ids` has shape {:?}: there are no tokens in it", ids.shape())));
    }
    let values: Vec<i64> = match ids.dtype() {
        Dtype::I64 => ids.data().as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect(),
        Dtype::I32 => ids.data().as_chunks().0.iter().map(|b| i32::from_le_bytes(*b).into()).collect(),
        other => return Err(wrong(format!("`input_ids` is {other:?}, but it must be I32 or I64"))),
    };
    let ids = values
        .iter()
        .enumerate()
        .map(|(i, v)| {
            let at = || format!("`input_ids`[{}, {}] is {v}, which is no token id", i / length, i % length);
            TokenId::try_from(*v).map_err(|_| wrong(at()))
        })
        .collect::<Result<_, _>>()?;
    Ok((ids, length))
}
