//! [`Session`]: sequences that grow, on one device.
//!
//! A session owns the cache and its memory, the compiled plans and the step's buffers. [`Session::step`] takes any
//! number of new tokens for any of its sequences and returns the logits asked for; how that becomes runs of the
//! device is decided here, and gives the same logits whatever the split.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use camelid_core::Cache;
use camelid_core::attention::CausalAttention;
use camelid_core::backend::{BufferDesc, BufferUsage, Weight};
use camelid_core::cache::{SequenceId, SlotCopy};
use camelid_core::graph::{Graph, StepInput, SymbolRange, SymbolValues, TensorType, ValueKind};
use camelid_core::llama::{self, GraphOptions, Input, ROPE_COS, ROPE_SIN};
use camelid_core::tokenizer::TokenId;
use camelid_core::{Bytes, DType};
use camelid_host::{Buffer, LoweredOp, Plan};

use crate::cache::{ContiguousCache, PagedCache};
use crate::error::EngineError;
use crate::model::Model;
use crate::options::{CacheKind, SessionOptions};
use crate::step::{Part, Run};

/// Most bytes the logits of one run may take; more output rows go in several runs.
const LOGITS_BYTES: usize = 64 << 20;
/// Most elements lowered attention may gather for one run, keys and values each.
const GATHERED_ELEMENTS: usize = 16 << 20;

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
    /// Position of each token for the rotary embedding; its index in the sequence if `None`.
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
    // Dropped first: a plan must not outlive the buffers it is bound to.
    plans: Vec<CompiledPlan>,
    inputs: HashMap<StepInput, Buffer>,
    logits: Buffer,
    planes: Vec<Plane>,
    cache: Box<dyn Cache>,
    model: Arc<Model>,
    context_size: usize,
    max_rows: usize,
    lowered: Vec<LoweredOp>,
    cancel: CancelToken,
}

struct CompiledPlan {
    plan: Plan,
    inputs: Vec<StepInput>,
    range: SymbolRange,
}

/// The memory behind one state of the graph.
struct Plane {
    buffer: Buffer,
    row_bytes: usize,
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
        let config = model.config();
        let context_size = options.context_size.unwrap_or(config.max_position_embeddings);
        if context_size > config.max_position_embeddings {
            tracing::warn!(
                "context_size {context_size} is more than the {} positions the model was made for",
                config.max_position_embeddings
            );
        }
        let cache = make_cache(options, context_size)?;
        let builder = PlanBuilder { model: &model, options, cache: &*cache, context_size };
        let (graphs, lowered) = builder.graphs()?;
        let general = graphs.last().expect("there is a plan for every step");

        let mut buffers = Buffers { model: &model, by_name: HashMap::new(), context_size };
        for graph in &graphs {
            buffers.allocate(graph, general.range())?;
        }
        let plans = graphs.iter().map(|graph| buffers.compile(graph)).collect::<Result<Vec<_>, _>>()?;
        let mut inputs = HashMap::new();
        let mut planes = Vec::new();
        for (_, value) in general.bound_values() {
            let buffer = buffers.by_name.get(&value.name).cloned();
            match (value.kind, buffer) {
                (ValueKind::Step(input), Some(buffer)) => drop(inputs.insert(input, buffer)),
                (ValueKind::State, Some(buffer)) => {
                    let width = value.ty.shape.last_fixed().expect("a plane's rows have a fixed length");
                    let row_bytes = value.ty.dtype.row_bytes(width).expect("a plane's type has no blocks");
                    planes.push(Plane { buffer, row_bytes });
                }
                _ => {}
            }
        }
        let logits = buffers.by_name[LOGITS].clone();
        let max_rows = general.range().max.get(camelid_core::graph::Symbol::O);
        let cancel = CancelToken::default();
        Ok(Session { plans, inputs, logits, planes, cache, model, context_size, max_rows, lowered, cancel })
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
        &self.lowered
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
        use camelid_core::graph::Symbol::{S, T};
        let max = self.plans.last().expect("there is a plan for every step").range.max;
        let mut runs: Vec<(Run<'a>, Vec<usize>)> = Vec::new();
        let (mut tokens, mut rows) = (0, 0);
        for (owner, (input, start)) in inputs.iter().zip(before).enumerate() {
            let mut done = 0;
            while done < input.tokens.len() {
                let full = runs.last().is_none_or(|(run, _)| {
                    let next_row = usize::from(input.outputs.includes(done, input.tokens.len()));
                    tokens == max.get(T) || rows + next_row > self.max_rows || run.parts.len() == max.get(S)
                });
                if full {
                    runs.push((Run { parts: Vec::new() }, Vec::new()));
                    (tokens, rows) = (0, 0);
                }
                let mut outputs = Vec::new();
                let mut count = 0;
                while done + count < input.tokens.len() && tokens + count < max.get(T) {
                    if input.outputs.includes(done + count, input.tokens.len()) {
                        if rows + outputs.len() == self.max_rows {
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
        let plan = self.plans.iter().find(fits).expect("runs are split to fit the largest plan");
        for input in &plan.inputs {
            let contents = run.contents(*input, &*self.cache)?;
            if !contents.is_empty() {
                self.inputs[input].write(0, &contents)?;
            }
        }
        plan.plan.run(&symbols)?;
        let rows = symbols.get(camelid_core::graph::Symbol::O);
        let mut bytes = vec![0u8; rows * self.model.config().vocab_size * size_of::<f32>()];
        if bytes.is_empty() {
            self.model.device().sync()?;
        } else {
            self.logits.read(0, &mut bytes)?;
        }
        Ok(bytes.as_chunks().0.iter().map(|b| f32::from_ne_bytes(*b)).collect())
    }

    fn copy_rows(&self, copies: &[SlotCopy]) -> Result<(), EngineError> {
        for plane in &self.planes {
            for copy in copies {
                let at = |row: usize| (&plane.buffer, row * plane.row_bytes);
                self.model.device().copy(at(copy.to), at(copy.from), copy.rows * plane.row_bytes)?;
            }
        }
        Ok(())
    }
}

/// The graph that a session with these options computes any step with, as the device takes it, and what was lowered
/// for that.
pub fn placed_graph(model: &Model, options: &SessionOptions) -> Result<(Graph, Vec<LoweredOp>), EngineError> {
    options.check()?;
    let context_size = options.context_size.unwrap_or(model.config().max_position_embeddings);
    let cache = make_cache(options, context_size)?;
    let (mut graphs, lowered) = PlanBuilder { model, options, cache: &*cache, context_size }.graphs()?;
    Ok((graphs.pop().expect("there is a plan for every step"), lowered))
}

const LOGITS: &str = "logits";

fn make_cache(options: &SessionOptions, context_size: usize) -> Result<Box<dyn Cache>, EngineError> {
    let rows = |per_sequence: usize| per_sequence.checked_mul(options.max_sequences).filter(|n| *n < i32::MAX as usize);
    let too_large = || EngineError::Option {
        option: "context_size * max_sequences",
        found: format!("{context_size} * {}", options.max_sequences),
        rule: "be less than 2147483647".into(),
    };
    match options.cache {
        CacheKind::Contiguous => {
            rows(context_size).ok_or_else(too_large)?;
            Ok(Box::new(ContiguousCache::new(options.max_sequences, context_size)))
        }
        CacheKind::Paged { block_size } => {
            let blocks = context_size.div_ceil(block_size);
            rows(blocks * block_size).ok_or_else(too_large)?;
            let num_blocks = blocks * options.max_sequences;
            Ok(Box::new(PagedCache::new(num_blocks, block_size, options.max_sequences, context_size)))
        }
    }
}

/// Makes the session's graphs: what shapes there will be is settled here.
struct PlanBuilder<'a> {
    model: &'a Model,
    options: &'a SessionOptions,
    cache: &'a dyn Cache,
    context_size: usize,
}

impl PlanBuilder<'_> {
    /// The graphs, the one that fits every run last, as the device computes them, and what was lowered for that.
    fn graphs(&self) -> Result<(Vec<Graph>, Vec<LoweredOp>), EngineError> {
        let config = self.model.config();
        let mut tokens = self.options.batch_size.min(self.cache.layout().num_slots);
        let (mut general, lowered) = self.graph(self.general_range(tokens))?;
        let gathers = |v: &camelid_core::graph::Value| matches!(v.kind, ValueKind::Step(StepInput::ContextRow { .. }));
        if general.values().iter().any(gathers) {
            // Lowered attention takes a context for each token: keep that within bounds.
            let per_token = self.context_size * config.num_key_value_heads * config.head_dim;
            tokens = tokens.min((GATHERED_ELEMENTS / per_token).max(1));
            (general, _) = self.graph(self.general_range(tokens))?;
        }
        let one = SymbolRange { min: symbols(1, 1, 1, 1), max: symbols(1, 1, 1, self.context_size) };
        Ok((vec![self.graph(one)?.0, general], lowered))
    }

    fn general_range(&self, tokens: usize) -> SymbolRange {
        let vocab_size = self.model.config().vocab_size;
        let rows = (LOGITS_BYTES / (vocab_size * size_of::<f32>())).clamp(1, tokens);
        let max = symbols(tokens, self.options.max_sequences.min(tokens), rows, self.context_size);
        SymbolRange { min: symbols(1, 1, 0, 1), max }
    }

    fn graph(&self, range: SymbolRange) -> Result<(Graph, Vec<LoweredOp>), EngineError> {
        let options = GraphOptions {
            attention: &CausalAttention,
            layout: self.cache.layout(),
            kv_dtype: self.options.kv_dtype,
            range,
            positions: self.context_size,
            input: Input::Tokens,
            window: None,
            hidden_states: false,
        };
        let graph = llama::build(self.model.config(), self.model.weight_types(), &options)
            .map_err(|source| EngineError::Graph { path: self.model.path().to_owned(), source })?;
        let placed = self.model.device().place(&graph, self.options.on_unsupported)?;
        Ok((placed.graph, placed.lowered))
    }
}

fn symbols(tokens: usize, sequences: usize, outputs: usize, context: usize) -> SymbolValues {
    SymbolValues::new(tokens, sequences, outputs, context)
}

/// The session's own memory, by the name of the value or output; every graph binds to the same.
struct Buffers<'a> {
    model: &'a Model,
    by_name: HashMap<String, Buffer>,
    context_size: usize,
}

impl Buffers<'_> {
    fn allocate(&mut self, graph: &Graph, range: &SymbolRange) -> Result<(), EngineError> {
        for (id, value) in graph.bound_values() {
            let (name, usage) = match value.kind {
                ValueKind::Weight if value.name == ROPE_COS || value.name == ROPE_SIN => {
                    self.load_rope_tables(&value.ty)?;
                    continue;
                }
                ValueKind::Weight => continue,
                ValueKind::Step(_) | ValueKind::Input => (value.name.clone(), BufferUsage::Input),
                ValueKind::State => (value.name.clone(), BufferUsage::State),
                ValueKind::Computed => (output_name(graph, id), BufferUsage::Output),
            };
            if self.by_name.contains_key(&name) {
                continue;
            }
            let size = value.ty.bytes(&range.max).ok_or_else(|| EngineError::Option {
                option: "context_size",
                found: self.context_size.to_string(),
                rule: format!("leave `{name}` ({}) a size that fits in memory", value.ty),
            })?;
            // A buffer of no bytes is nothing a device needs to understand.
            let desc = BufferDesc { name: name.clone(), size: size.max(4), usage };
            self.by_name.insert(name, self.model.device().alloc(desc)?);
        }
        Ok(())
    }

    fn load_rope_tables(&mut self, ty: &TensorType) -> Result<(), EngineError> {
        if self.by_name.contains_key(ROPE_COS) {
            return Ok(());
        }
        let (cos, sin) = llama::rope::tables(self.model.config(), self.model.rope_divisors(), self.context_size);
        for (name, table) in [(ROPE_COS, cos), (ROPE_SIN, sin)] {
            debug_assert_eq!(ty.dtype, DType::F32);
            let data = Bytes::from(table.into_iter().flat_map(f32::to_ne_bytes).collect::<Vec<u8>>());
            let weight = Weight { name: name.into(), ty: *ty, data, may_repack: false };
            self.by_name.insert(name.into(), self.model.device().load_weight(weight)?.0);
        }
        Ok(())
    }

    fn compile(&self, graph: &Graph) -> Result<CompiledPlan, EngineError> {
        let mut bindings = Vec::new();
        let mut inputs = Vec::new();
        for (id, value) in graph.bound_values() {
            let name = if value.kind == ValueKind::Computed { &output_name(graph, id) } else { &value.name };
            let buffer = self.by_name.get(name).or_else(|| self.model.weight(name));
            let buffer = buffer.ok_or_else(|| EngineError::Graph {
                path: self.model.path().to_owned(),
                source: camelid_core::graph::GraphError::Unbound(name.clone()),
            })?;
            bindings.push((id, buffer.clone(), 0));
            if let ValueKind::Step(input) = value.kind {
                inputs.push(input);
            }
        }
        let plan = self.model.device().compile(graph, &bindings)?;
        Ok(CompiledPlan { plan, inputs, range: *graph.range() })
    }
}

fn output_name(graph: &Graph, id: camelid_core::graph::ValueId) -> String {
    graph.outputs().iter().find(|o| o.value == id).map_or_else(String::new, |o| o.name.clone())
}
