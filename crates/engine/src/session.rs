//! [`Session`]: sequences that grow, on one device.
//!
//! A session owns the cache and its memory, the compiled plans and the step's buffers. [`Session::step`] takes any
//! number of new tokens for any of its sequences and returns the logits asked for; how that becomes runs of the
//! device is decided here, and gives the same logits whatever the split.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use camelid_core::Cache;
use camelid_core::cache::{CacheError, SequenceId, SlotCopy};
use camelid_core::graph::Symbol;
use camelid_core::llama::Head;
use camelid_core::ops::softmax::MASKED;
use camelid_core::tokenizer::TokenId;
use camelid_host::LoweredOp;

use crate::error::EngineError;
use crate::model::Model;
use crate::options::SessionOptions;
use crate::plans::{CompiledPlan, Plane, Plans, Shared, Taps, make_cache};
use crate::step::{Content, MaskRows, Part, Run};

/// A flag that another thread may raise to stop a step between two runs of the device.
#[derive(Clone, Debug, Default)]
pub struct CancelToken(Arc<AtomicBool>);

impl CancelToken {
    /// Asks to stop.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Takes the request back.
    pub fn clear(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Whether somebody asked to stop.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// New tokens for a sequence.
#[derive(Clone, Copy, Debug)]
pub struct SequenceInput<'a> {
    /// The sequence.
    pub sequence: SequenceId,
    /// Its new tokens, at least one.
    pub tokens: &'a [TokenId],
    /// Position of each token for the rotary embedding; its index in the sequence if `None`. Where the rotary embedding
    /// depends on the length of the sequence, that is one more than the largest position of the step: see
    /// [`camelid_core::llama::rope`].
    pub positions: Option<&'a [u32]>,
    /// Which logits are wanted.
    pub outputs: Outputs<'a>,
}

/// Which of a sequence's new tokens should give logits.
#[derive(Clone, Copy, Debug)]
pub enum Outputs<'a> {
    /// None of them.
    None,
    /// The last.
    Last,
    /// All.
    All,
    /// These, as indices into the new tokens, in rising order.
    Rows(&'a [usize]),
}

impl Outputs<'_> {
    fn includes(&self, index: usize, len: usize) -> bool {
        match self {
            Outputs::None => false,
            Outputs::Last => index + 1 == len,
            Outputs::All => true,
            Outputs::Rows(rows) => rows.binary_search(&index).is_ok(),
        }
    }
}

/// Logits of a step: for each input, in order, a row for each token asked for.
#[derive(Clone, Debug, Default)]
pub struct Logits {
    vocab_size: usize,
    per_input: Vec<Vec<f32>>,
}

impl Logits {
    /// The rows of input `i`, row-major `[rows, vocab_size]`.
    pub fn of_input(&self, i: usize) -> &[f32] {
        &self.per_input[i]
    }

    /// The last row of input `i`, `[vocab_size]`.
    ///
    /// # Panics
    /// If no logits were asked for.
    pub fn last_of_input(&self, i: usize) -> &[f32] {
        let rows = self.of_input(i);
        &rows[rows.len() - self.vocab_size..]
    }
}

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

/// Sequences on a device. See the module's documentation.
pub struct Session {
    /// What has been compiled so far, the plans of [`Session::step`] first.
    plans: Vec<(Taps, Plans)>,
    shared: Shared,
    cache: Box<dyn Cache>,
    model: Arc<Model>,
    options: SessionOptions,
    context_size: usize,
    cancel: CancelToken,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("backend", &self.model.device().backend())
            .field("context_size", &self.context_size)
            .field("layout", &self.cache.layout())
            .finish_non_exhaustive()
    }
}

impl Session {
    /// A session on `model` with no sequences yet.
    ///
    /// # Errors
    /// [`EngineError::Option`] for options out of range, [`EngineError::NoLanguageHead`] for a model that has no logits
    /// of tokens, and what the device says when it cannot compute the graph or has not the memory.
    pub fn new(model: Arc<Model>, options: &SessionOptions) -> Result<Session, EngineError> {
        options.check()?;
        let cache = make_cache(options, &model)?;
        Session::with_cache(model, options, cache)
    }

    /// A session over a cache of the caller's own, which has the room that `options` ask for: as [`make_cache`] makes
    /// one, possibly behind something that watches it.
    ///
    /// [`make_cache`]: crate::make_cache
    ///
    /// # Errors
    /// As [`Session::new`].
    pub fn with_cache(
        model: Arc<Model>,
        options: &SessionOptions,
        cache: Box<dyn Cache>,
    ) -> Result<Session, EngineError> {
        model.require_language_head()?;
        Session::with_taps(model, options, cache, Taps::default())
    }

    /// A session for [`crate::forward`], which also runs classifiers and models without a head.
    ///
    /// # Errors
    /// As [`Session::new`].
    pub fn for_forward(model: Arc<Model>, options: &SessionOptions) -> Result<Session, EngineError> {
        options.check()?;
        let cache = make_cache(options, &model)?;
        Session::for_forward_with_cache(model, options, cache)
    }

    /// [`Session::for_forward`] over a cache of the caller's own.
    ///
    /// # Errors
    /// As [`Session::new`].
    pub fn for_forward_with_cache(
        model: Arc<Model>,
        options: &SessionOptions,
        cache: Box<dyn Cache>,
    ) -> Result<Session, EngineError> {
        // A model without a head has nothing that an ordinary step could give.
        let headless = model.head() == Head::None;
        Session::with_taps(model, options, cache, Taps { headless, last_hidden_state: headless, ..Taps::default() })
    }

    fn with_taps(
        model: Arc<Model>,
        options: &SessionOptions,
        cache: Box<dyn Cache>,
        taps: Taps,
    ) -> Result<Session, EngineError> {
        options.check()?;
        let config = model.config();
        let context_size = options.context_size.unwrap_or(config.max_position_embeddings);
        if config.position_limit().is_some_and(|limit| context_size > limit) {
            tracing::warn!(
                "context_size {context_size} is more than the {} positions the model was made for",
                config.max_position_embeddings
            );
        }
        let mut shared = Shared::default();
        let plans = vec![(taps, Plans::new(&model, options, &*cache, context_size, taps, &mut shared)?)];
        let cancel = CancelToken::default();
        Ok(Session { plans, shared, cache, model, options: *options, context_size, cancel })
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// The longest a sequence can get, in tokens.
    pub fn context_size(&self) -> usize {
        self.context_size
    }

    /// The operations that are computed from core operations because the backend does not have them.
    pub fn lowered(&self) -> &[LoweredOp] {
        &self.plans[0].1.lowered
    }

    /// Most sequences at a time.
    pub fn max_sequences(&self) -> usize {
        self.cache.layout().max_sequences
    }

    /// The flag that stops a step between two runs of the device.
    pub fn cancel_token(&self) -> CancelToken {
        self.cancel.clone()
    }

    /// A new, empty sequence.
    pub fn create(&mut self) -> Result<SequenceId, EngineError> {
        Ok(self.cache.create()?)
    }

    /// Tokens in a sequence.
    pub fn len(&self, sequence: SequenceId) -> Result<usize, EngineError> {
        Ok(self.cache.len(sequence)?)
    }

    /// How many more tokens a sequence could take now.
    pub fn room(&self, sequence: SequenceId) -> Result<usize, EngineError> {
        Ok(self.cache.room(sequence)?)
    }

    /// Forgets a sequence's tokens from index `len` on.
    pub fn truncate(&mut self, sequence: SequenceId, len: usize) -> Result<(), EngineError> {
        Ok(self.cache.truncate(sequence, len)?)
    }

    /// A second sequence with the same tokens.
    pub fn fork(&mut self, sequence: SequenceId) -> Result<SequenceId, EngineError> {
        let (fork, copies) = self.cache.fork(sequence)?;
        if let Err(error) = self.copy_rows(&copies) {
            self.cache.release(fork)?;
            return Err(error);
        }
        Ok(fork)
    }

    /// Forgets a sequence.
    pub fn release(&mut self, sequence: SequenceId) -> Result<(), EngineError> {
        Ok(self.cache.release(sequence)?)
    }

    /// Forgets all sequences.
    pub fn reset(&mut self) {
        self.cache.reset();
    }

    /// Appends tokens to sequences and returns the logits asked for.
    ///
    /// Either everything is done or nothing: after an error every sequence is as long as before. Only where the device
    /// fails to copy the rows that a fork shared is the sequence released: it would hold rows that were never written.
    ///
    /// # Errors
    /// [`EngineError::EmptyInput`], [`EngineError::TokenOutOfRange`], [`EngineError::PositionOutOfRange`],
    /// [`EngineError::DuplicateSequence`], [`EngineError::Cache`] for a full cache, [`EngineError::Cancelled`], and
    /// what the device says.
    pub fn step(&mut self, inputs: &[SequenceInput<'_>]) -> Result<Logits, EngineError> {
        self.model.require_language_head()?;
        let feeds: Vec<Feed<'_>> = inputs
            .iter()
            .map(|i| Feed {
                sequence: i.sequence,
                content: Content::Tokens(i.tokens),
                positions: i.positions,
                outputs: i.outputs,
                mask: None,
            })
            .collect();
        let vocab_size = self.model.config().vocab_size;
        let mut logits = Logits { vocab_size, per_input: vec![Vec::new(); inputs.len()] };
        self.feed(&feeds, Taps::default(), &mut |part| logits.per_input[part.owner].extend_from_slice(part.logits))?;
        Ok(logits)
    }

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
        self.check(feeds)?;
        let plans = self.compile(taps)?;
        let before: Vec<usize> = feeds.iter().map(|f| self.len(f.sequence)).collect::<Result<_, _>>()?;
        let result = self.append_and_run(feeds, &before, plans, each);
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

    fn append_and_run(
        &mut self,
        feeds: &[Feed<'_>],
        before: &[usize],
        plans: usize,
        each: &mut dyn FnMut(&PartOutputs<'_>),
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
            let outputs = self.run(&run, &self.plans[plans].1)?;
            let (width, tokens) = (self.model.logits_width(), run.symbols().get(Symbol::T));
            let (mut row, mut token) = (0, 0);
            for (part, owner) in run.parts.iter().zip(owners) {
                let of_part = |all: &'_ [f32]| {
                    let width = all.len() / tokens;
                    token * width..(token + part.len()) * width
                };
                let mut result = PartOutputs {
                    owner,
                    first: part.start - before[owner],
                    count: part.len(),
                    logits: &[],
                    taps: Vec::with_capacity(outputs.len()),
                    context: run.symbols().get(Symbol::L),
                };
                for (name, values) in &outputs {
                    if name == LOGITS {
                        result.logits = &values[row * width..(row + part.outputs.len()) * width];
                    } else {
                        result.taps.push((name, &values[of_part(values)]));
                    }
                }
                each(&result);
                row += part.outputs.len();
                token += part.len();
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

    /// One run of the device: its outputs by name, the logits `[O, width]` among them.
    fn run(&self, run: &Run<'_>, plans: &Plans) -> Result<Vec<(String, Vec<f32>)>, EngineError> {
        let symbols = run.symbols();
        let fits = |p: &&CompiledPlan| p.range.violation(&symbols).is_none();
        let plan = plans.compiled.iter().find(fits).expect("runs are split to fit the largest plan");
        for input in &plan.inputs {
            let contents = run.contents(*input, &*self.cache)?;
            if !contents.is_empty() {
                plans.inputs[input].write(0, &contents)?;
            }
        }
        if let Some(rotation) = &plans.rotation {
            rotation.write(run)?;
        }
        plan.plan.run(&symbols)?;
        let mut results = Vec::with_capacity(plan.outputs.len());
        for (name, ty) in &plan.outputs {
            let size = ty.bytes(&symbols).expect("it is no more than the buffer, which has the largest size");
            let mut bytes = vec![0u8; size];
            if !bytes.is_empty() {
                plans.outputs[name].read(0, &mut bytes)?;
                results.push((name.clone(), floats(&bytes)));
            }
        }
        if results.is_empty() {
            self.model.device().sync()?;
        }
        Ok(results)
    }

    fn copy_rows(&self, copies: &[SlotCopy]) -> Result<(), EngineError> {
        for plane in self.planes() {
            for copy in copies {
                let at = |row: usize| (&plane.buffer, row * plane.row_bytes);
                self.model.device().copy(at(copy.to), at(copy.from), copy.rows * plane.row_bytes)?;
            }
        }
        Ok(())
    }

    /// The cache's planes, the same for all plans.
    pub(crate) fn planes(&self) -> &[Plane] {
        &self.plans[0].1.planes
    }

    /// The bytes of the sequence's rows in a plane, in the order of its tokens.
    pub(crate) fn read_rows(&self, sequence: SequenceId, plane: &Plane) -> Result<Vec<u8>, EngineError> {
        let mut bytes = vec![0; self.len(sequence)? * plane.row_bytes];
        for (first, slots) in self.slot_runs(sequence)? {
            let at = first * plane.row_bytes;
            plane.buffer.read(slots.start * plane.row_bytes, &mut bytes[at..at + slots.len() * plane.row_bytes])?;
        }
        Ok(bytes)
    }

    /// A new sequence whose rows are given: for each plane, in order, the bytes of `len` rows.
    pub(crate) fn create_from_rows(&mut self, len: usize, rows: &[Vec<u8>]) -> Result<SequenceId, EngineError> {
        let sequence = self.create()?;
        let written = self.cache.append(sequence, len).map_err(EngineError::from).and_then(|_| {
            let runs = self.slot_runs(sequence)?;
            for (plane, bytes) in self.planes().iter().zip(rows) {
                for (first, slots) in &runs {
                    let at = first * plane.row_bytes;
                    let piece = &bytes[at..at + slots.len() * plane.row_bytes];
                    plane.buffer.write(slots.start * plane.row_bytes, piece)?;
                }
            }
            Ok(())
        });
        if let Err(error) = written {
            self.release(sequence)?;
            return Err(error);
        }
        Ok(sequence)
    }

    /// The sequence's cache rows as runs of neighbours, each with the index of its first token.
    fn slot_runs(&self, sequence: SequenceId) -> Result<Vec<(usize, Range<usize>)>, EngineError> {
        let mut runs: Vec<(usize, Range<usize>)> = Vec::new();
        for index in 0..self.len(sequence)? {
            let slot = self.cache.slot(sequence, index)?;
            match runs.last_mut() {
                Some((_, slots)) if slots.end == slot => slots.end += 1,
                _ => runs.push((index, slot..slot + 1)),
            }
        }
        Ok(runs)
    }
}

/// The graph's output of logits.
const LOGITS: &str = "logits";

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|b| f32::from_ne_bytes(*b)).collect()
}
