//! [`forward`]: the batch becomes sequences, and what they leave becomes tensors again.

use camelid_core::cache::SequenceId;
use camelid_core::llama::Head;
use camelid_core::tokenizer::TokenId;

use super::inputs::Dims;
use super::mask::{self, RowPlan};
use super::past::PastRow;
use super::{Array, AttentionMask, ForwardError, ForwardInputs, ForwardOptions, Labels, LogitsToKeep, Past};
use super::{classify, loss};
use crate::error::EngineError;
use crate::feed::{Feed, PartOutputs};
use crate::model::Model;
use crate::plans::Taps;
use crate::session::{Outputs, Session};
use crate::step::{Content, MaskRows};

/// What a forward pass gives. `K` positions are kept, `V` is `vocab_size`, `H` `hidden_size`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ForwardOutputs {
    /// `[B, K, V]` of a language model, `[B, num_labels]` of a classifier.
    pub logits: Option<Array<f32>>,
    /// If there are labels; NaN if all are ignored.
    pub loss: Option<f64>,
    /// `[num_hidden_layers + 1, B, T, H]`: after the embedding and after every layer, the last after the final norm.
    pub hidden_states: Option<Array<f32>>,
    /// `[num_hidden_layers, B, num_attention_heads, T, P + T]`.
    pub attentions: Option<Array<f32>>,
    /// `[B, T, H]` of a base model.
    pub last_hidden_state: Option<Array<f32>>,
}

/// Computes a forward pass. With a `past` the inputs come after it and it grows by them; without one nothing is left in
/// the session. Rows are computed together as far as the session has sequences for them.
///
/// What is given out for a masked token is zero. The session comes from [`Session::for_forward`].
///
/// # Errors
/// [`EngineError::Forward`] for inputs that do not fit together, and as [`Session::step`]; the past is then as before.
pub fn forward(
    session: &mut Session,
    inputs: &ForwardInputs,
    past: Option<&mut Past>,
    options: &ForwardOptions,
) -> Result<ForwardOutputs, EngineError> {
    let model = session.model().clone();
    let dims = inputs.check(&model, past.as_deref())?;
    let pass = Pass::new(&model, inputs, dims, options, past.is_some())?;
    let mut results = Results::new(&pass);
    match past {
        Some(past) => {
            let rows: Vec<usize> = (0..dims.batch).collect();
            let plans = pass.run(session, &rows, &past.rows, &mut results)?;
            for (row, plan) in past.rows.iter_mut().zip(plans) {
                row.columns.extend(plan.kept.iter().map(|t| dims.past + t));
            }
            past.len += dims.length;
        }
        None => {
            let together = session.max_sequences();
            for first in (0..dims.batch).step_by(together) {
                let rows: Vec<usize> = (first..dims.batch.min(first + together)).collect();
                let fresh = Past::new(session, rows.len())?;
                let result = pass.run(session, &rows, &fresh.rows, &mut results);
                fresh.release(session)?;
                result?;
            }
        }
    }
    results.finish()
}

/// Which logits are wanted.
#[derive(Debug)]
enum Wanted<'a> {
    /// None: the last hidden state.
    Base,
    /// These positions of every row.
    Kept { positions: Vec<usize>, labels: Option<&'a Array<i64>> },
    /// This position of each row.
    Pooled(Vec<usize>),
}

/// A forward pass that has been checked.
struct Pass<'a> {
    model: &'a Model,
    inputs: &'a ForwardInputs,
    options: &'a ForwardOptions,
    dims: Dims,
    wanted: Wanted<'a>,
    /// The ids of each row; none if the inputs are embeddings.
    ids: Option<Vec<Vec<TokenId>>>,
    /// Rows whose masked tokens are computed, because something follows from them.
    exact: Vec<bool>,
    packed: bool,
}

impl<'a> Pass<'a> {
    fn new(
        model: &'a Model,
        inputs: &'a ForwardInputs,
        dims: Dims,
        options: &'a ForwardOptions,
        has_past: bool,
    ) -> Result<Pass<'a>, EngineError> {
        let ids: Option<Vec<Vec<TokenId>>> = (0..dims.batch).map(|row| inputs.ids(row)).collect();
        let wanted = wanted(model, inputs, ids.as_deref(), dims, options)?;
        let use_cache = options.use_cache.unwrap_or(model.config().use_cache);
        let packed = !use_cache && !has_past && inputs.attention_mask.is_none() && inputs.position_ids.is_some();
        let mut pass = Pass { model, inputs, options, dims, wanted, ids, exact: Vec::new(), packed };
        pass.exact = (0..dims.batch).map(|row| pass.needs_masked(row, has_past)).collect::<Result<_, _>>()?;
        Ok(pass)
    }

    /// Whether something is wanted of a masked token of the row: transformers takes the loss of a language model and the
    /// pooled token of a classifier without looking at the mask.
    fn needs_masked(&self, row: usize, has_past: bool) -> Result<bool, ForwardError> {
        let masked = mask::masked(self.inputs, self.dims, row);
        let (needed, why, remedy) = match &self.wanted {
            Wanted::Base => (None, "", ""),
            Wanted::Kept { labels: None, .. } => (None, "", ""),
            Wanted::Kept { positions, labels: Some(labels) } => {
                let mut pairs = positions.iter().copied().zip(loss::shifted(labels, row));
                let needed = pairs.find(|(t, label)| label.is_some() && masked[*t]).map(|(t, _)| t);
                (needed, "the label after it is not -100", "set that label to -100")
            }
            Wanted::Pooled(positions) => {
                let needed = Some(positions[row]).filter(|t| masked[*t]);
                (needed, "it is the rightmost that is not the padding token", "unmask it")
            }
        };
        match needed {
            // A row of nothing but padding has no logits: they are zeros.
            Some(_) if masked.iter().all(|m| *m) => Ok(false),
            Some(column) if has_past => Err(ForwardError::MaskedTokenNeeded { row, column, why, remedy }),
            needed => Ok(needed.is_some()),
        }
    }

    /// Feeds these rows of the batch to these sequences; what each row computed.
    fn run(
        &self,
        session: &mut Session,
        rows: &[usize],
        of_past: &[PastRow],
        results: &mut Results<'_>,
    ) -> Result<Vec<RowPlan>, EngineError> {
        let plans = rows
            .iter()
            .zip(of_past)
            .map(|(row, past)| mask::plan(self.inputs, self.dims, *row, &past.columns, self.exact[*row], self.packed))
            .collect::<Result<Vec<_>, _>>()?;
        let rows: Vec<RowFeed<'_>> = rows
            .iter()
            .zip(&plans)
            .zip(of_past)
            .filter(|((_, plan), _)| !plan.kept.is_empty())
            .map(|((row, plan), past)| RowFeed::new(self, *row, plan, past))
            .collect();
        if rows.is_empty() {
            return Ok(plans);
        }
        let taps = Taps {
            embeds: self.ids.is_none(),
            hidden_states: self.options.hidden_states,
            last_hidden_state: matches!(self.wanted, Wanted::Base) && !self.options.hidden_states,
            attentions: self.options.attentions,
            masked: rows.iter().any(|r| r.plan.scores.is_some()),
            headless: matches!(self.wanted, Wanted::Base),
        };
        let feeds: Vec<Feed<'_>> = rows.iter().map(RowFeed::feed).collect();
        session.feed(&feeds, taps, &mut |part| results.take(&rows[part.owner], part))?;
        Ok(plans)
    }
}

/// What is wanted of the model, once the labels fit it.
fn wanted<'a>(
    model: &Model,
    inputs: &'a ForwardInputs,
    ids: Option<&[Vec<TokenId>]>,
    dims: Dims,
    options: &ForwardOptions,
) -> Result<Wanted<'a>, ForwardError> {
    let refused = |what, why: &str| Err(ForwardError::NotForThisModel { what, why: why.into() });
    let keeps = options.logits_to_keep != LogitsToKeep::default();
    if options.base || model.is_base_model() || model.head() == Head::None {
        if inputs.labels.is_some() {
            return refused("labels", "a base model gives no logits and so no loss");
        }
        if keeps {
            return refused("logits_to_keep", "a base model gives no logits");
        }
        return Ok(Wanted::Base);
    }
    if let Head::Classes { .. } = model.head() {
        if keeps {
            return refused("logits_to_keep", "a classifier gives one row of logits for each row of the batch");
        }
        return Ok(Wanted::Pooled(classify::pooled(ids, dims.batch, dims.length, model.pad_token_id())?));
    }
    let positions = options.logits_to_keep.positions(dims.length)?;
    let check = |labels| loss::check_tokens(labels, [dims.batch, positions.len()], model.config().vocab_size);
    let labels = inputs.labels.as_ref().map(check).transpose()?;
    Ok(Wanted::Kept { positions, labels })
}

/// A row of the batch on its way to its sequence.
struct RowFeed<'a> {
    row: usize,
    plan: &'a RowPlan,
    sequence: SequenceId,
    ids: Vec<TokenId>,
    embeds: Vec<f32>,
    width: usize,
    positions: Vec<u32>,
    /// The computed tokens that give logits, as indices into `plan.kept`, rising.
    outputs: Vec<usize>,
    /// The column of each token of the sequence, the new ones included.
    columns: Vec<usize>,
}

impl<'a> RowFeed<'a> {
    fn new(pass: &Pass<'_>, row: usize, plan: &'a RowPlan, past: &PastRow) -> RowFeed<'a> {
        let kept = &plan.kept;
        let width = pass.model.config().hidden_size;
        let embeds = pass.inputs.inputs_embeds.as_ref().map_or_else(Vec::new, |embeds| {
            kept.iter().flat_map(|t| &embeds.row(row)[t * width..(t + 1) * width]).copied().collect()
        });
        let positions = pass.inputs.positions(row, pass.dims);
        let wanted: &[usize] = match &pass.wanted {
            Wanted::Base => &[],
            Wanted::Kept { positions, .. } => positions,
            Wanted::Pooled(positions) => &positions[row..=row],
        };
        let mut outputs: Vec<usize> = wanted.iter().filter_map(|t| kept.binary_search(t).ok()).collect();
        outputs.sort_unstable();
        outputs.dedup();
        RowFeed {
            row,
            plan,
            sequence: past.sequence,
            ids: pass.ids.as_ref().map_or_else(Vec::new, |ids| kept.iter().map(|t| ids[row][*t]).collect()),
            embeds,
            width,
            positions: kept.iter().map(|t| positions[*t]).collect(),
            outputs,
            columns: past.columns.iter().copied().chain(kept.iter().map(|t| pass.dims.past + t)).collect(),
        }
    }

    fn feed(&self) -> Feed<'_> {
        let content = match self.ids.is_empty() {
            true => Content::Embeds { values: &self.embeds, width: self.width },
            false => Content::Tokens(&self.ids),
        };
        let mask = self.plan.scores.as_ref().map(|values| MaskRows { values, width: self.columns.len() });
        let (sequence, positions) = (self.sequence, Some(self.positions.as_slice()));
        Feed { sequence, content, positions, outputs: Outputs::Rows(&self.outputs), mask }
    }
}

/// What comes out, growing.
struct Results<'a> {
    pass: &'a Pass<'a>,
    /// For each row of the batch, the computed tokens that gave logits and those logits.
    logits: Vec<(Vec<usize>, Vec<f32>)>,
    hidden_states: Option<Array<f32>>,
    attentions: Option<Array<f32>>,
    last_hidden_state: Option<Array<f32>>,
}

impl<'a> Results<'a> {
    fn new(pass: &'a Pass<'a>) -> Results<'a> {
        let Dims { batch, length, past } = pass.dims;
        let c = pass.model.config();
        let zeros = |wanted: bool, shape: &[usize]| wanted.then(|| Array::zeros(shape.to_vec()));
        let heads = c.num_attention_heads;
        let base = matches!(pass.wanted, Wanted::Base);
        Results {
            pass,
            logits: vec![(Vec::new(), Vec::new()); batch],
            hidden_states: zeros(pass.options.hidden_states, &[c.num_hidden_layers + 1, batch, length, c.hidden_size]),
            attentions: zeros(pass.options.attentions, &[c.num_hidden_layers, batch, heads, length, past + length]),
            last_hidden_state: zeros(base, &[batch, length, c.hidden_size]),
        }
    }

    /// Takes what a part of a run left of row `feed.row`.
    fn take(&mut self, feed: &RowFeed<'_>, part: &PartOutputs<'_>) {
        let (outputs, values) = &mut self.logits[feed.row];
        if outputs.is_empty() {
            outputs.extend(feed.outputs.iter().map(|i| feed.plan.kept[*i]));
        }
        values.extend_from_slice(part.logits);
        let tokens = &feed.plan.kept[part.first..part.first + part.count];
        // Each computed token that is not masked, with its place in the part.
        let shown: Vec<(usize, usize)> =
            tokens.iter().copied().enumerate().filter(|(_, t)| !feed.plan.masked[*t]).collect();
        let (Dims { batch, length, past }, last) = (self.pass.dims, self.pass.model.config().num_hidden_layers);
        if let (Some(hidden), Some(embeds)) = (&mut self.hidden_states, &self.pass.inputs.inputs_embeds) {
            for (_, t) in &shown {
                let at = (feed.row * length + t) * feed.width;
                hidden.data_mut()[at..at + feed.width].copy_from_slice(&embeds.data()[at..at + feed.width]);
            }
        }
        for (name, values) in &part.taps {
            let layer = name.rsplit('.').next().and_then(|n| n.parse().ok()).unwrap_or(last);
            let width = values.len() / part.count;
            if let (true, Some(attentions)) = (name.starts_with("attentions."), &mut self.attentions) {
                let heads = width / part.context;
                let of_row = (layer * batch + feed.row) * heads;
                for (i, t) in &shown {
                    for head in 0..heads {
                        let from = &values[i * width + head * part.context..][..part.context];
                        let to = ((of_row + head) * length + t) * (past + length);
                        for (column, weight) in feed.columns.iter().zip(from) {
                            attentions.data_mut()[to + column] = *weight;
                        }
                    }
                }
                continue;
            }
            let into = match name.starts_with("hidden_states.") {
                true => self.hidden_states.as_mut().map(|h| (h, layer * batch)),
                false => self.last_hidden_state.as_mut().map(|h| (h, 0)),
            };
            let Some((into, first)) = into else { continue };
            for (i, t) in &shown {
                let to = ((first + feed.row) * length + t) * width;
                into.data_mut()[to..to + width].copy_from_slice(&values[i * width..(i + 1) * width]);
            }
        }
    }

    fn finish(self) -> Result<ForwardOutputs, EngineError> {
        let Dims { batch, length, .. } = self.pass.dims;
        let hidden_size = self.pass.model.config().hidden_size;
        let mut outputs = ForwardOutputs {
            hidden_states: self.hidden_states,
            attentions: self.attentions,
            last_hidden_state: self.last_hidden_state,
            ..ForwardOutputs::default()
        };
        let wanted: Vec<&[usize]> = match &self.pass.wanted {
            Wanted::Base => {
                if let (Some(all), Some(last)) = (&outputs.hidden_states, &mut outputs.last_hidden_state) {
                    let size = batch * length * hidden_size;
                    last.data_mut().copy_from_slice(&all.data()[all.data().len() - size..]);
                }
                return Ok(outputs);
            }
            Wanted::Kept { positions, .. } => vec![positions; batch],
            Wanted::Pooled(positions) => positions.chunks(1).collect(),
        };
        let (width, kept) = (self.pass.model.logits_width(), wanted[0].len());
        let mut logits = Array::zeros(vec![batch, kept, width]);
        let places = wanted.iter().enumerate().flat_map(|(row, list)| list.iter().map(move |t| (row, t)));
        for ((row, t), into) in places.clone().zip(logits.data_mut().chunks_exact_mut(width)) {
            let (computed, values) = &self.logits[row];
            if let Ok(at) = computed.binary_search(t) {
                into.copy_from_slice(&values[at * width..(at + 1) * width]);
            }
        }
        let labels = self.pass.inputs.labels.as_ref();
        if let Wanted::Pooled(_) = self.pass.wanted {
            let logits = Array::new("logits", vec![batch, width], logits.data().to_vec())?;
            let problem = self.pass.model.config().problem_type;
            outputs.loss = labels.map(|labels| loss::of_classes(&logits, labels, problem)).transpose()?;
            outputs.logits = Some(logits);
            return Ok(outputs);
        }
        if let Some(Labels::Ints(labels)) = labels {
            outputs.loss = Some(loss::of_tokens(&logits, labels));
        }
        // The loss may have needed a masked token's logits; they are not given out.
        if let Some(AttentionMask::Padding(_)) = &self.pass.inputs.attention_mask {
            let masked: Vec<Vec<bool>> =
                (0..batch).map(|row| mask::masked(self.pass.inputs, self.pass.dims, row)).collect();
            for ((row, t), values) in places.zip(logits.data_mut().chunks_exact_mut(width)) {
                if masked[row][*t] {
                    values.fill(0.0);
                }
            }
        }
        outputs.logits = Some(logits);
        Ok(outputs)
    }
}
