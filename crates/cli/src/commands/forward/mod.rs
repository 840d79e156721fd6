//! `camelid forward`: a forward pass from file to file.

mod inputs;
mod outputs;

use std::path::PathBuf;

use camelid_engine::forward::{ForwardInputs, ForwardOptions, LogitsToKeep, Past, forward};
use camelid_engine::{EngineError, Session};
use clap::Args;

use crate::Error;
use crate::options::RunFlags;
use crate::setup::Setup;

/// Compute logits, losses, hidden states and attentions from a safetensors file
#[derive(Args, Debug)]
pub struct Forward {
    #[command(flatten)]
    run: RunFlags,
    /// Holds `input_ids` [B, T] or `inputs_embeds` [B, T, hidden_size], and if wanted `attention_mask` [B, T] or [B, 1,
    /// T, T], `position_ids` [B, T], `labels`
    #[arg(long, value_name = "FILE")]
    inputs: PathBuf,
    /// Gets `logits` and what else is asked for, all f32
    #[arg(long, value_name = "FILE")]
    outputs: PathBuf,
    /// Compute the logits of the last N tokens only (0 for all), or of these indices (`0,-1`; of one: `5,`)
    #[arg(long, value_name = "N|I,J,K", default_value = "0", allow_hyphen_values = true, value_parser = logits_to_keep)]
    logits_to_keep: LogitsToKeep,
    /// Write `hidden_states` [layers + 1, B, T, hidden_size]
    #[arg(long)]
    hidden_states: bool,
    /// Write `attentions` [layers, B, heads, T, T]
    #[arg(long)]
    attentions: bool,
    /// Leave out the head and write `last_hidden_state` [B, T, hidden_size]
    #[arg(long)]
    base: bool,
    /// As in transformers: with `false`, position_ids that start again begin packed sequences [default: the model's]
    #[arg(long, value_name = "BOOL")]
    use_cache: Option<bool>,
    /// Continue from the past in this file
    #[arg(long, value_name = "FILE")]
    past: Option<PathBuf>,
    /// Write the past, with these inputs, to this file
    #[arg(long, value_name = "FILE")]
    save_past: Option<PathBuf>,
}

/// Most rows computed together when no past is kept.
const ROWS_TOGETHER: usize = 16;

impl Forward {
    pub fn run(self) -> Result<(), Error> {
        let setup = Setup::new(&self.run, self.run.overrides())?;
        let inputs = inputs::read(&self.inputs)?;
        let of_past = self.past.as_deref().map(Past::shape_of_file).transpose()?;
        let model = setup.model()?;

        let (batch, length) = rows_and_tokens(&inputs);
        let [past_rows, past_len] = of_past.unwrap_or([0, 0]);
        let needed = past_len.saturating_add(length).max(1);
        let mut options = setup.session_options(&model, Some(needed));
        if setup.config.engine.context_size.is_none() && options.context_size == Some(needed) {
            // Positions of the caller's own may lie beyond the last token.
            options.context_size = Some(needed.max(last_position(&inputs)));
        }
        let keeps_past = self.past.is_some() || self.save_past.is_some();
        let rows = if keeps_past { batch.max(past_rows) } else { batch.min(ROWS_TOGETHER) };
        options.max_sequences = rows.max(1);
        let mut session = Session::for_forward(model, &options)?;

        let mut past = match &self.past {
            Some(path) => Some(Past::load(&mut session, path)?),
            None if keeps_past => Some(Past::new(&mut session, batch)?),
            None => None,
        };
        let options = ForwardOptions {
            hidden_states: self.hidden_states,
            attentions: self.attentions,
            logits_to_keep: self.logits_to_keep,
            base: self.base,
            use_cache: self.use_cache,
        };
        let result = forward(&mut session, &inputs, past.as_mut(), &options);
        let result = result.map_err(|error| -> Error {
            match error {
                EngineError::Forward(wrong) => format!("{}: {wrong}", self.inputs.display()).into(),
                error => error.into(),
            }
        })?;
        if result.loss.is_some_and(f64::is_nan) {
            tracing::warn!("the loss is not a number: all labels are -100, or the logits are not finite");
        }
        if let (Some(path), Some(past)) = (&self.save_past, &past) {
            past.save(&session, path)?;
        }
        outputs::write(&self.outputs, &result)
    }
}

/// Rows of the batch and tokens of a row, as far as the inputs say.
fn rows_and_tokens(inputs: &ForwardInputs) -> (usize, usize) {
    let ids = inputs.input_ids.as_ref().map(|a| a.shape());
    match ids.or(inputs.inputs_embeds.as_ref().map(|a| a.shape())) {
        Some([batch, length, ..]) => (*batch, *length),
        _ => (0, 0),
    }
}

/// One more than the largest of the given positions.
fn last_position(inputs: &ForwardInputs) -> usize {
    let given = inputs.position_ids.as_ref().and_then(|p| p.data().iter().max().copied());
    given.and_then(|p| usize::try_from(p).ok()).map_or(0, |p| p.saturating_add(1))
}

fn logits_to_keep(text: &str) -> Result<LogitsToKeep, String> {
    let Some(list) = text.strip_suffix(',').or(text.contains(',').then_some(text)) else {
        let number = text.parse().map_err(|_| "give a number from 0 on, or indices with commas between".to_owned())?;
        return Ok(LogitsToKeep::Last(number));
    };
    let index = |i: &str| i.trim().parse().map_err(|_| format!("`{i}` is no index"));
    Ok(LogitsToKeep::Indices(list.split(',').map(index).collect::<Result<_, _>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_or_a_list_says_what_to_keep() {
        assert_eq!(logits_to_keep("3"), Ok(LogitsToKeep::Last(3)));
        assert_eq!(logits_to_keep("3,"), Ok(LogitsToKeep::Indices(vec![3])));
        assert_eq!(logits_to_keep("-1,0, 2"), Ok(LogitsToKeep::Indices(vec![-1, 0, 2])));
        for wrong in ["", ",", "-1", "x", "1,,2", "1,x"] {
            assert!(logits_to_keep(wrong).is_err(), "{wrong}");
        }
    }
}
