//! [`Session`]: sequences that grow, on one device.
//!
//! A session owns the cache and its memory, the compiled plans and the step's buffers. [`Session::step`] takes any
//! number of new tokens for any of its sequences and returns the logits asked for; how that becomes runs of the
//! device is decided here, and gives the same logits whatever the split.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use camelid_core::Cache;
use camelid_core::cache::{SequenceId, SlotCopy};
use camelid_core::tokenizer::TokenId;
use camelid_host::LoweredOp;

use crate::error::EngineError;
use crate::model::Model;
use crate::options::SessionOptions;
use crate::plans::{CompiledPlan, Plans, make_cache};
use crate::step::{Part, Run};

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

/// Sequences on a device. See the module's documentation.
pub struct Session {
    plans: Plans,
    cache: Box<dyn Cache>,
    model: Arc<Model>,
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
    /// [`EngineError::Option`] for options out of range, and what the device says when it cannot compute the graph or
    /// has not the memory.
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
        options.check()?;
        let config = model.config();
        let context_size = options.context_size.unwrap_or(config.max_position_embeddings);
        if config.position_limit().is_some_and(|limit| context_size > limit) {
            tracing::warn!(
                "context_size {context_size} is more than the {} positions the model was made for",
                config.max_position_embeddings
            );
        }
        let plans = Plans::new(&model, options, &*cache, context_size)?;
        Ok(Session { plans, cache, model, context_size, cancel: CancelToken::default() })
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
        &self.plans.lowered
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
        self.check(inputs)?;
        let before: Vec<usize> = inputs.iter().map(|i| self.len(i.sequence)).collect::<Result<_, _>>()?;
        let result = self.append_and_run(inputs, &before);
        if result.is_err() {
            for (input, len) in inputs.iter().zip(&before) {
                if self.len(input.sequence).is_ok() {
                    self.truncate(input.sequence, *len)?;
                }
            }
        }
        result
    }

    fn append_and_run(&mut self, inputs: &[SequenceInput<'_>], before: &[usize]) -> Result<Logits, EngineError> {
        for input in inputs {
            let copies = self.cache.append(input.sequence, input.tokens.len())?;
            if let Err(error) = self.copy_rows(&copies) {
                // The sequence has left the rows it shared and has no copy of them: it is lost.
                self.cache.release(input.sequence)?;
                return Err(error);
            }
        }
        let vocab_size = self.model.config().vocab_size;
        let mut logits = Logits { vocab_size, per_input: vec![Vec::new(); inputs.len()] };
        for (run, owners) in self.split(inputs, before) {
            if self.cancel.is_cancelled() {
                return Err(EngineError::Cancelled);
            }
            let rows = self.run(&run)?;
            let mut rows = rows.chunks_exact(vocab_size);
            for (part, owner) in run.parts.iter().zip(owners) {
                let wanted = rows.by_ref().take(part.outputs.len());
                logits.per_input[owner].extend(wanted.flatten());
            }
        }
        Ok(logits)
    }

    fn check(&self, inputs: &[SequenceInput<'_>]) -> Result<(), EngineError> {
        let mut seen = HashSet::new();
        let vocab_size = self.model.config().vocab_size;
        for input in inputs {
            if input.tokens.is_empty() {
                return Err(EngineError::EmptyInput);
            }
            if !seen.insert(input.sequence) {
                return Err(EngineError::DuplicateSequence(input.sequence.0));
            }
            if let Some((index, id)) = input.tokens.iter().enumerate().find(|(_, id)| **id as usize >= vocab_size) {
                return Err(EngineError::TokenOutOfRange { id: *id, index, vocab_size });
            }
            if let Outputs::Rows(rows) = input.outputs
                && !(rows.is_sorted_by(|a, b| a < b) && rows.last().is_none_or(|r| *r < input.tokens.len()))
            {
                return Err(EngineError::Option {
                    option: "outputs",
                    found: format!("{rows:?}"),
                    rule: format!("be rising indices below {}", input.tokens.len()),
                });
            }
            if let Some(positions) = input.positions {
                if positions.len() != input.tokens.len() {
                    return Err(EngineError::Option {
                        option: "positions",
                        found: format!("a list of {}", positions.len()),
                        rule: format!("have one entry for each of the {} tokens", input.tokens.len()),
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
        if inputs.is_empty() { Err(EngineError::EmptyInput) } else { Ok(()) }
    }

    /// Packs the inputs into runs that fit the largest plan, with the index of the input each part belongs to.
    fn split<'a>(&self, inputs: &[SequenceInput<'a>], before: &[usize]) -> Vec<(Run<'a>, Vec<usize>)> {
        use camelid_core::graph::Symbol::{O, S, T};
        let max = self.plans.largest().max;
        let mut runs: Vec<(Run<'a>, Vec<usize>)> = Vec::new();
        let (mut tokens, mut rows) = (0, 0);
        for (owner, (input, start)) in inputs.iter().zip(before).enumerate() {
            let end = start + input.tokens.len();
            let rope_length = input.positions.map_or(end, |list| list.iter().max().map_or(end, |p| *p as usize + 1));
            let mut done = 0;
            while done < input.tokens.len() {
                let full = runs.last().is_none_or(|(run, _)| {
                    let next_row = usize::from(input.outputs.includes(done, input.tokens.len()));
                    tokens == max.get(T) || rows + next_row > max.get(O) || run.parts.len() == max.get(S)
                });
                if full {
                    runs.push((Run { parts: Vec::new() }, Vec::new()));
                    (tokens, rows) = (0, 0);
                }
                let mut outputs = Vec::new();
                let mut count = 0;
                while done + count < input.tokens.len() && tokens + count < max.get(T) {
                    if input.outputs.includes(done + count, input.tokens.len()) {
                        if rows + outputs.len() == max.get(O) {
                            break;
                        }
                        outputs.push(count);
                    }
                    count += 1;
                }
                tokens += count;
                rows += outputs.len();
                let chunk = done..done + count;
                let (run, owners) = runs.last_mut().expect("pushed above");
                run.parts.push(Part {
                    sequence: input.sequence,
                    start: start + done,
                    tokens: &input.tokens[chunk.clone()],
                    positions: input.positions.map(|p| &p[chunk]),
                    rope_length,
                    outputs,
                });
                owners.push(owner);
                done += count;
            }
        }
        runs
    }

    /// One run of the device: its logits `[O, vocab_size]`.
    fn run(&self, run: &Run<'_>) -> Result<Vec<f32>, EngineError> {
        let symbols = run.symbols();
        let fits = |p: &&CompiledPlan| p.range.violation(&symbols).is_none();
        let plan = self.plans.compiled.iter().find(fits).expect("runs are split to fit the largest plan");
        for input in &plan.inputs {
            let contents = run.contents(*input, &*self.cache)?;
            if !contents.is_empty() {
                self.plans.inputs[input].write(0, &contents)?;
            }
        }
        if let Some(rotation) = &self.plans.rotation {
            rotation.write(run)?;
        }
        plan.plan.run(&symbols)?;
        let rows = symbols.get(camelid_core::graph::Symbol::O);
        let mut bytes = vec![0u8; rows * self.model.config().vocab_size * size_of::<f32>()];
        if bytes.is_empty() {
            self.model.device().sync()?;
        } else {
            self.plans.logits.read(0, &mut bytes)?;
        }
        Ok(bytes.as_chunks().0.iter().map(|b| f32::from_ne_bytes(*b)).collect())
    }

    fn copy_rows(&self, copies: &[SlotCopy]) -> Result<(), EngineError> {
        for plane in &self.plans.planes {
            for copy in copies {
                let at = |row: usize| (&plane.buffer, row * plane.row_bytes);
                self.model.device().copy(at(copy.to), at(copy.from), copy.rows * plane.row_bytes)?;
            }
        }
        Ok(())
    }
}
