//! A step in its most general form: token ids or embeddings in, logits and whatever is tapped out.
//!
//! [`Session::feed`] divides the new tokens into runs that the session's largest plan fits, runs them, and hands out what
//! each part of a run left. The split changes no result: tokens that look at later ones, which only a mask of the caller's
//! lets them, stay together.

use std::collections::HashSet;

use camelid_core::cache::{CacheError, SequenceId};
use camelid_core::graph::Symbol;
use camelid_core::ops::softmax::MASKED;

use crate::error::EngineError;
use crate::plans::{CompiledPlan, PlanOutput, Plans, Taps};
use crate::session::{Outputs, Session};
use crate::step::{Content, MaskRows, Part, Run};

/// New tokens for a sequence, in the most general form.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Feed<'a> {
    pub sequence: SequenceId,
    /// At least one token.
    pub content: Content<'a>,
    /// Position of each token for the rotary embedding; its index in the sequence if `None`.
    pub positions: Option<&'a [u32]>,
    /// Which tokens give logits.
    pub outputs: Outputs<'a>,
    /// What each token looks at; each everything before it if `None`.
    pub mask: Option<MaskRows<'a>>,
}

impl Feed<'_> {
    /// The fewest tokens from index `from` on that may make a run without those after them: one, unless the mask lets
    /// them look ahead.
    fn unit(&self, from: usize, before: usize) -> usize {
        let Some(mask) = &self.mask else { return 1 };
        let (mut end, mut next) = (from + 1, from);
        while next < end {
            let ahead = mask.row(next)[before + end..].iter().rposition(|m| *m > MASKED);
            end += ahead.map_or(0, |at| at + 1);
            next += 1;
        }
        end - from
    }
}

/// What one part of a run left.
pub(crate) struct PartOutputs<'a> {
    /// Index of the feed it belongs to.
    pub owner: usize,
    /// Index of its first token in the feed.
    pub first: usize,
    /// How many tokens.
    pub count: usize,
    /// `[rows, width]`, a row for each token of the part whose logits were asked for.
    pub logits: &'a [f32],
    /// `hidden_states.N`, `last_hidden_state` and `attentions.N` by name, the rows of the part's tokens.
    pub taps: Vec<(&'a str, &'a [f32])>,
    /// Columns of the attentions; those past the part's own context are zero.
    pub context: usize,
}

impl Session {
    /// [`Session::step`] with all it can start from and give out: `each` gets what every part of every run left, those of
    /// a feed in order. The same either-or holds.
    ///
    /// # Errors
    /// As [`Session::step`], and [`EngineError::MaskTooWide`].
    pub(crate) fn feed(
        &mut self,
        feeds: &[Feed<'_>],
        taps: Taps,
        each: &mut dyn FnMut(&PartOutputs<'_>),
    ) -> Result<(), EngineError> {
        self.all_or_nothing(feeds, taps, &mut Vec::new(), Some(each))
    }

    /// [`Session::feed`] where nothing but logits is wanted: their rows are put behind those in `logits`, of one feed after
    /// the other.
    ///
    /// # Errors
    /// As [`Session::feed`]; `logits` then has some of the rows.
    pub(crate) fn feed_for_logits(&mut self, feeds: &[Feed<'_>], logits: &mut Vec<f32>) -> Result<(), EngineError> {
        self.all_or_nothing(feeds, Taps::default(), logits, None)
    }

    fn all_or_nothing(
        &mut self,
        feeds: &[Feed<'_>],
        taps: Taps,
        logits: &mut Vec<f32>,
        each: Option<Each<'_>>,
    ) -> Result<(), EngineError> {
        self.check(feeds)?;
        let plans = self.compile(taps)?;
        let before: Vec<usize> = feeds.iter().map(|f| self.len(f.sequence)).collect::<Result<_, _>>()?;
        let result = self.append_and_run(feeds, &before, plans, logits, each);
        if result.is_err() {
            for (feed, len) in feeds.iter().zip(&before) {
                if self.len(feed.sequence).is_ok() {
                    self.truncate(feed.sequence, *len)?;
                }
            }
        }
        result
    }

    /// The index of the plans with these taps, made now if this is their first use.
    fn compile(&mut self, taps: Taps) -> Result<usize, EngineError> {
        if let Some(at) = self.plans.iter().position(|(t, _)| *t == taps) {
            return Ok(at);
        }
        let (model, options, shared) = (&self.model, &self.options, &mut self.shared);
        let plans = Plans::new(model, options, &*self.cache, self.context_size, taps, shared)?;
        self.plans.push((taps, plans));
        Ok(self.plans.len() - 1)
    }

    /// With `each`, `logits` holds one run's at a time; without, those of all.
    fn append_and_run(
        &mut self,
        feeds: &[Feed<'_>],
        before: &[usize],
        plans: usize,
        logits: &mut Vec<f32>,
        mut each: Option<Each<'_>>,
    ) -> Result<(), EngineError> {
        let runs = self.split(feeds, before, plans)?;
        for feed in feeds {
            let copies = self.cache.append(feed.sequence, feed.content.len())?;
            if let Err(error) = self.copy_rows(&copies) {
                // The sequence has left the rows it shared and has no copy of them: it is lost.
                self.cache.release(feed.sequence)?;
                return Err(error);
            }
        }
        for (run, owners) in runs {
            if self.cancel.is_cancelled() {
                return Err(EngineError::Cancelled);
            }
            if each.is_some() {
                logits.clear();
            }
            let taps = self.run(&run, plans, logits)?;
            if let Some(each) = &mut each {
                let width = self.model.logits_width();
                hand_out(&run, &owners, before, (logits, width), &taps, each);
            }
        }
        Ok(())
    }

    fn check(&self, feeds: &[Feed<'_>]) -> Result<(), EngineError> {
        let mut seen = HashSet::new();
        let config = self.model.config();
        let vocab_size = config.vocab_size;
        for feed in feeds {
            let count = match feed.content {
                Content::Tokens(ids) => {
                    if let Some((index, id)) = ids.iter().enumerate().find(|(_, id)| **id as usize >= vocab_size) {
                        return Err(EngineError::TokenOutOfRange { id: *id, index, vocab_size });
                    }
                    ids.len()
                }
                Content::Embeds { .. } => feed.content.len(),
            };
            if count == 0 {
                return Err(EngineError::EmptyInput);
            }
            if !seen.insert(feed.sequence) {
                return Err(EngineError::DuplicateSequence(feed.sequence.0));
            }
            let (len, room) = (self.cache.len(feed.sequence)?, self.cache.room(feed.sequence)?);
            if count > room {
                return Err(CacheError::Full { len, room, wanted: count }.into());
            }
            if let Outputs::Rows(rows) = feed.outputs
                && !(rows.is_sorted_by(|a, b| a < b) && rows.last().is_none_or(|r| *r < count))
            {
                return Err(EngineError::Option {
                    option: "outputs",
                    found: format!("{rows:?}"),
                    rule: format!("be rising indices below {count}"),
                });
            }
            if let Some(positions) = feed.positions {
                if positions.len() != count {
                    return Err(EngineError::Option {
                        option: "positions",
                        found: format!("a list of {}", positions.len()),
                        rule: format!("have one entry for each of the {count} tokens"),
                    });
                }
                if let Some(position) = positions.iter().find(|p| **p as usize >= self.context_size) {
                    return Err(EngineError::PositionOutOfRange {
                        position: *position,
                        context_size: self.context_size,
                    });
                }
            }
        }
        Ok(())
    }

    /// Divides the feeds into runs that the largest plan fits, with the index of the feed each part belongs to.
    fn split<'a>(
        &self,
        feeds: &[Feed<'a>],
        before: &[usize],
        plans: usize,
    ) -> Result<Vec<(Run<'a>, Vec<usize>)>, EngineError> {
        use camelid_core::graph::Symbol::{O, S, T};
        let max = self.plans[plans].1.largest().max;
        let mut runs: Vec<(Run<'a>, Vec<usize>)> = Vec::new();
        let (mut tokens, mut rows) = (0, 0);
        for (owner, (feed, start)) in feeds.iter().zip(before).enumerate() {
            let len = feed.content.len();
            let end = start + len;
            let rope_length = feed.positions.map_or(end, |list| list.iter().max().map_or(end, |p| *p as usize + 1));
            // The next tokens that cannot be parted, and those of them whose logits are wanted.
            let next = |done: usize| {
                let unit = feed.unit(done, *start);
                (unit, (done..done + unit).filter(|i| feed.outputs.includes(*i, len)).count())
            };
            let mut done = 0;
            while done < len {
                let (unit, wanted) = next(done);
                if unit > max.get(T) || wanted > max.get(O).max(1) {
                    return Err(EngineError::MaskTooWide { tokens: unit, limit: max.get(T) });
                }
                let full = runs.last().is_none_or(|(run, _)| {
                    tokens + unit > max.get(T) || rows + wanted > max.get(O) || run.parts.len() == max.get(S)
                });
                if full {
                    runs.push((Run { parts: Vec::new() }, Vec::new()));
                    (tokens, rows) = (0, 0);
                }
                let mut outputs = Vec::new();
                let mut count = 0;
                while done + count < len {
                    let (unit, wanted) = next(done + count);
                    if tokens + count + unit > max.get(T) || rows + outputs.len() + wanted > max.get(O) {
                        break;
                    }
                    outputs.extend((count..count + unit).filter(|i| feed.outputs.includes(done + i, len)));
                    count += unit;
                }
                tokens += count;
                rows += outputs.len();
                let chunk = done..done + count;
                let (run, owners) = runs.last_mut().expect("pushed above");
                run.parts.push(Part {
                    sequence: feed.sequence,
                    start: start + done,
                    content: feed.content.slice(chunk.clone()),
                    positions: feed.positions.map(|p| &p[chunk.clone()]),
                    rope_length,
                    outputs,
                    mask: feed.mask.map(|m| MaskRows { values: &m.values[done * m.width..], width: m.width }),
                });
                owners.push(owner);
                done += count;
            }
        }
        Ok(runs)
    }

    /// One run of the device. Its logits, `[O, width]`, are put behind those in `logits`; the other outputs come by name.
    fn run(
        &mut self,
        run: &Run<'_>,
        plans: usize,
        logits: &mut Vec<f32>,
    ) -> Result<Vec<(String, Vec<f32>)>, EngineError> {
        let symbols = run.symbols();
        let plans = &self.plans[plans].1;
        let fits = |p: &&CompiledPlan| p.range.violation(&symbols).is_none();
        let plan = plans.compiled.iter().find(fits).expect("runs are split to fit the largest plan");
        for (input, buffer) in &plan.inputs {
            self.staging.clear();
            run.contents(*input, &*self.cache, &mut self.staging)?;
            buffer.write(0, &self.staging)?;
        }
        if let Some(rotation) = &plans.rotation {
            rotation.write(run)?;
        }
        plan.plan.run(&symbols)?;
        let mut taps = Vec::new();
        let mut waited = false;
        for output in &plan.outputs {
            let size = output.ty.bytes(&symbols).expect("it is no more than the buffer, which has the largest size");
            if size == 0 {
                continue;
            }
            if output.name == LOGITS {
                read(output, size, logits)?;
            } else {
                let mut values = Vec::new();
                read(output, size, &mut values)?;
                taps.push((output.name.clone(), values));
            }
            waited = true;
        }
        if !waited {
            self.model.device().sync()?;
        }
        Ok(taps)
    }
}

/// Who gets what the parts of the runs left.
type Each<'a> = &'a mut dyn FnMut(&PartOutputs<'_>);

/// Gives each part of a run its rows of the logits, `[O, width]`, and of the taps.
fn hand_out(
    run: &Run<'_>,
    owners: &[usize],
    before: &[usize],
    (logits, width): (&[f32], usize),
    taps: &[(String, Vec<f32>)],
    each: &mut dyn FnMut(&PartOutputs<'_>),
) {
    let (tokens, context) = (run.symbols().get(Symbol::T), run.symbols().get(Symbol::L));
    let (mut row, mut token) = (0, 0);
    for (part, owner) in run.parts.iter().zip(owners) {
        let of_part = |values: &'_ [f32]| {
            let width = values.len() / tokens;
            token * width..(token + part.len()) * width
        };
        each(&PartOutputs {
            owner: *owner,
            first: part.start - before[*owner],
            count: part.len(),
            logits: logits.get(row * width..(row + part.outputs.len()) * width).unwrap_or_default(),
            taps: taps.iter().map(|(name, values)| (name.as_str(), &values[of_part(values)])).collect(),
            context,
        });
        row += part.outputs.len();
        token += part.len();
    }
}

/// The graph's output of logits.
const LOGITS: &str = "logits";

/// Puts the first `size` bytes of an output behind `values`.
fn read(output: &PlanOutput, size: usize, values: &mut Vec<f32>) -> Result<(), EngineError> {
    let begin = values.len();
    values.resize(begin + size / size_of::<f32>(), 0.0);
    Ok(output.buffer.read(0, bytemuck::cast_slice_mut(&mut values[begin..]))?)
}
