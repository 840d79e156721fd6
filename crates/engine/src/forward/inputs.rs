//! What a forward pass takes, and whether it fits together.

use camelid_core::tokenizer::TokenId;

use super::{Array, ForwardError, LogitsToKeep, Past};
use crate::model::Model;

/// The tensors of a forward pass: `B` rows of `T` new tokens, after `P` tokens of the past.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ForwardInputs {
    /// `[B, T]`, token ids.
    pub input_ids: Option<Array<i64>>,
    /// `[B, T, hidden_size]`, in place of `input_ids`.
    pub inputs_embeds: Option<Array<f32>>,
    /// What may be looked at; everything before a token if `None`.
    pub attention_mask: Option<AttentionMask>,
    /// `[B, T]` or `[1, T]`, positions for the rotary embedding; `P .. P + T` if `None`, whatever the mask.
    pub position_ids: Option<Array<i64>>,
    /// `[B, K]`, for `K` kept logits of a language model: token ids, -100 for none. Of a classifier: `[B]` classes,
    /// or `[B]` or `[B, num_labels]` numbers.
    pub labels: Option<Labels>,
}

/// What may be looked at.
#[derive(Clone, Debug, PartialEq)]
pub enum AttentionMask {
    /// `[B, P + T]`, or `[B, T]` for the new tokens alone: whether a token is there; false for padding.
    Padding(Array<bool>),
    /// `[B, 1, T, P + T]` or `[1, 1, T, P + T]`: whether each new token looks at each column. Nothing else limits it.
    Visible(Array<bool>),
    /// The same with what is added to each score: 0 to look, minus infinity or a dtype's least number not to.
    Additive(Array<f64>),
}

/// What should have come out.
#[derive(Clone, Debug, PartialEq)]
pub enum Labels {
    /// Integers: token ids or classes.
    Ints(Array<i64>),
    /// Other numbers.
    Floats(Array<f64>),
}

impl Labels {
    /// The dimensions.
    pub fn shape(&self) -> &[usize] {
        match self {
            Labels::Ints(a) => a.shape(),
            Labels::Floats(a) => a.shape(),
        }
    }
}

/// What a forward pass gives besides logits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForwardOptions {
    /// `hidden_states`.
    pub hidden_states: bool,
    /// `attentions`.
    pub attentions: bool,
    /// Which positions of a language model give logits.
    pub logits_to_keep: LogitsToKeep,
    /// Give `last_hidden_state` and no logits, as `LlamaModel` does.
    pub base: bool,
    /// As in transformers; the configuration's `use_cache` if `None`. Here a cache is always used, but without one
    /// transformers takes positions that do not go up by one for the beginnings of packed sequences, and so it is here.
    pub use_cache: Option<bool>,
}

/// Rows and new tokens of a batch whose shapes fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dims {
    pub batch: usize,
    pub length: usize,
    /// Columns of the past.
    pub past: usize,
}

impl ForwardInputs {
    /// The dimensions, once every tensor fits them and the model.
    ///
    /// # Errors
    /// [`ForwardError`].
    pub(super) fn check(&self, model: &Model, past: Option<&Past>) -> Result<Dims, ForwardError> {
        let hidden_size = model.config().hidden_size;
        let dims = match (&self.input_ids, &self.inputs_embeds) {
            (Some(ids), None) => match *ids.shape() {
                [batch, length] => (batch, length),
                _ => return Err(shape("input_ids", ids.shape(), "be [B, T]".into())),
            },
            (None, Some(embeds)) => match *embeds.shape() {
                [batch, length, width] if width == hidden_size => (batch, length),
                _ => {
                    let rule = format!("be [B, T, {hidden_size}] (hidden_size)");
                    return Err(shape("inputs_embeds", embeds.shape(), rule));
                }
            },
            (Some(_), Some(_)) => {
                return Err(ForwardError::Inputs { found: "are both", remedy: "leave one out" });
            }
            (None, None) => return Err(ForwardError::Inputs { found: "is neither", remedy: "give one" }),
        };
        let (batch, length) = dims;
        if batch == 0 || length == 0 {
            let (name, found) = match &self.input_ids {
                Some(ids) => ("input_ids", ids.shape()),
                None => ("inputs_embeds", self.inputs_embeds.as_ref().map_or(&[][..], Array::shape)),
            };
            return Err(shape(name, found, "hold at least one token: there are no tokens in it".into()));
        }
        if let Some(past) = past
            && past.batch() != batch
        {
            return Err(ForwardError::PastRows { past: past.batch(), inputs: batch });
        }
        let dims = Dims { batch, length, past: past.map_or(0, Past::len) };
        self.check_ids(model)?;
        self.check_embeds()?;
        self.check_positions(dims)?;
        self.check_mask(dims)?;
        Ok(dims)
    }

    fn check_ids(&self, model: &Model) -> Result<(), ForwardError> {
        let Some(ids) = &self.input_ids else { return Ok(()) };
        let vocab_size = model.config().vocab_size;
        let wrong = ids.data().iter().position(|id| !usize::try_from(*id).is_ok_and(|id| id < vocab_size));
        match wrong {
            None => Ok(()),
            Some(at) => {
                let rule = format!("be a token id: from 0 to {} (vocab_size - 1)", vocab_size - 1);
                Err(value("input_ids", ids, at, rule))
            }
        }
    }

    fn check_embeds(&self) -> Result<(), ForwardError> {
        let Some(embeds) = &self.inputs_embeds else { return Ok(()) };
        match embeds.data().iter().position(|x| !x.is_finite()) {
            None => Ok(()),
            Some(at) => Err(value("inputs_embeds", embeds, at, "be a finite number".into())),
        }
    }

    fn check_positions(&self, dims: Dims) -> Result<(), ForwardError> {
        let Some(positions) = &self.position_ids else { return Ok(()) };
        let Dims { batch, length, .. } = dims;
        if !(positions.shape() == [batch, length] || positions.shape() == [1, length]) {
            let rule = format!("be [{batch}, {length}] as the inputs are, or [1, {length}]");
            return Err(shape("position_ids", positions.shape(), rule));
        }
        match positions.data().iter().position(|p| u32::try_from(*p).is_err()) {
            None => Ok(()),
            Some(at) => Err(value("position_ids", positions, at, "be a position: a number from 0 on".into())),
        }
    }

    fn check_mask(&self, dims: Dims) -> Result<(), ForwardError> {
        let Dims { batch, length, past } = dims;
        let all = past + length;
        let found = match &self.attention_mask {
            None => return Ok(()),
            Some(AttentionMask::Padding(mask)) => {
                if mask.shape() == [batch, all] || mask.shape() == [batch, length] {
                    return Ok(());
                }
                let rule = format!("be [{batch}, {all}], a column for each token{}", with_past(past));
                return Err(shape("attention_mask", mask.shape(), rule));
            }
            Some(AttentionMask::Visible(mask)) => mask.shape(),
            Some(AttentionMask::Additive(mask)) => mask.shape(),
        };
        if let [_, heads, _, _] = found
            && *heads != 1
        {
            let rule = "have one entry for all heads, [B, 1, T, K]: masks of single heads are not supported".into();
            return Err(shape("attention_mask", found, rule));
        }
        if found == [batch, 1, length, all] || found == [1, 1, length, all] {
            return Ok(());
        }
        let rule = format!("be [{batch}, 1, {length}, {all}] or [1, 1, {length}, {all}]{}", with_past(past));
        Err(shape("attention_mask", found, rule))
    }

    /// The ids of a row; `None` if the inputs are embeddings.
    pub(super) fn ids(&self, row: usize) -> Option<Vec<TokenId>> {
        // They are below vocab_size.
        self.input_ids.as_ref().map(|ids| ids.row(row).iter().map(|id| *id as TokenId).collect())
    }

    /// The positions of a row's new tokens.
    pub(super) fn positions(&self, row: usize, dims: Dims) -> Vec<u32> {
        match &self.position_ids {
            // They fit in u32.
            Some(p) => p.row(if p.shape()[0] == 1 { 0 } else { row }).iter().map(|p| *p as u32).collect(),
            None => (dims.past..dims.past + dims.length).map(|p| u32::try_from(p).unwrap_or(u32::MAX)).collect(),
        }
    }
}

fn with_past(past: usize) -> String {
    if past == 0 { String::new() } else { format!(" ({past} of them are in the past)") }
}

fn shape(tensor: &'static str, found: &[usize], rule: String) -> ForwardError {
    ForwardError::Shape { tensor, found: found.to_vec(), rule }
}

fn value<T: ToString>(tensor: &'static str, array: &Array<T>, at: usize, rule: String) -> ForwardError {
    ForwardError::Value { tensor, index: array.index_of(at), found: array.data()[at].to_string(), rule }
}
