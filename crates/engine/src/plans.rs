//! The plans of a session: its graphs, its memory, and what is bound to what. All of it is settled before the first step.

use std::collections::HashMap;

use camelid_core::Cache;
use camelid_core::attention::{Attention, CausalAttention, EagerAttention, MaskedAttention};
use camelid_core::backend::{BufferDesc, BufferUsage, Weight};
use camelid_core::graph::{Graph, StepInput, SymbolRange, SymbolValues, TensorType, ValueId, ValueKind};
use camelid_core::llama::rope::Rotary;
use camelid_core::llama::{self, GraphOptions, Head, Input, ROPE_COS, ROPE_SIN};
use camelid_core::ops::check_cache_type;
use camelid_core::{Bytes, DType};
use camelid_host::{Buffer, HostError, LoweredOp, Plan};

use crate::cache::{ContiguousCache, PagedCache};
use crate::error::EngineError;
use crate::model::Model;
use crate::options::{CacheKind, SessionOptions};
use crate::rotation::Rotation;

/// Most bytes the logits of one run may take; more output rows go in several runs.
const LOGITS_BYTES: usize = 64 << 20;
/// Most elements lowered attention may gather for one run, keys and values each.
const GATHERED_ELEMENTS: usize = 16 << 20;
/// Most bytes that the hidden states and attentions of one run may take; more tokens go in several runs.
const TAP_BYTES: usize = 256 << 20;

/// What a session's graphs start from and give out besides the logits. Each combination has plans of its own over the
/// same cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Taps {
    /// Embeddings come in, no token ids.
    pub embeds: bool,
    /// `hidden_states.0` and so on.
    pub hidden_states: bool,
    /// `last_hidden_state`; not together with `hidden_states`, which have it.
    pub last_hidden_state: bool,
    /// `attentions.0` and so on.
    pub attentions: bool,
    /// The caller says what each token looks at.
    pub masked: bool,
    /// No logits.
    pub headless: bool,
}

/// What a session runs, and the memory it runs on.
pub(crate) struct Plans {
    // Dropped first: a plan must not outlive the buffers it is bound to.
    /// The plan that fits every run comes last.
    pub compiled: Vec<CompiledPlan>,
    /// Rows for a rotary embedding that has no tables.
    pub rotation: Option<Rotation>,
    /// The cache's planes, of all layers.
    pub planes: Vec<Plane>,
    /// What the device computes from core operations.
    pub lowered: Vec<LoweredOp>,
}

/// A compiled graph and what to write before it runs.
pub(crate) struct CompiledPlan {
    pub plan: Plan,
    /// What is written before a run, and where.
    pub inputs: Vec<(StepInput, Buffer)>,
    /// What is read after it.
    pub outputs: Vec<PlanOutput>,
    pub range: SymbolRange,
}

/// An output of a compiled graph; all are f32.
pub(crate) struct PlanOutput {
    pub name: String,
    pub ty: TensorType,
    /// Where it is read.
    pub buffer: Buffer,
}

/// The memory behind one state of the graph.
pub(crate) struct Plane {
    /// The state's name, `cache.LAYER.k` or `cache.LAYER.v`.
    pub name: String,
    pub dtype: DType,
    /// Elements of a row.
    pub width: usize,
    pub buffer: Buffer,
    pub row_bytes: usize,
}

/// Memory that all plans of a session have in common, by name: the cache's planes and the RoPE tables.
#[derive(Default)]
pub(crate) struct Shared {
    by_name: HashMap<String, Buffer>,
}

impl Plans {
    /// Plans and memory for sequences of up to `context_size` tokens in `cache`.
    pub fn new(
        model: &Model,
        options: &SessionOptions,
        cache: &dyn Cache,
        context_size: usize,
        taps: Taps,
        shared: &mut Shared,
    ) -> Result<Plans, EngineError> {
        let (graphs, lowered) = PlanBuilder { model, options, cache, context_size, taps }.graphs()?;
        let general = graphs.last().expect("there is a plan for every step");
        let mut buffers = Buffers { model, by_name: HashMap::new(), shared, context_size };
        for graph in &graphs {
            buffers.allocate(graph, general.range())?;
        }
        let compiled = graphs.iter().map(|graph| buffers.compile(graph)).collect::<Result<_, _>>()?;
        let mut planes = Vec::new();
        for (_, value) in general.bound_values() {
            if let (ValueKind::State, Some(buffer)) = (value.kind, buffers.get(&value.name)) {
                let width = value.ty.shape.last_fixed().expect("a plane's rows have a fixed length");
                let dtype = value.ty.dtype;
                let row_bytes = dtype.row_bytes(width).expect("a plane's rows are whole blocks");
                let (name, buffer) = (value.name.clone(), buffer.clone());
                planes.push(Plane { name, dtype, width, buffer, row_bytes });
            }
        }
        let rotation = Rotation::new(Rotary::new(model.config(), model.rope_divisors()), &buffers.by_name);
        Ok(Plans { compiled, rotation, planes, lowered })
    }

    /// The range of the plan that fits every run.
    pub fn largest(&self) -> &SymbolRange {
        &self.compiled.last().expect("there is a plan for every step").range
    }
}

/// The graph that a session with these options computes any step with, as the device takes it, and what was lowered
/// for that.
pub fn placed_graph(model: &Model, options: &SessionOptions) -> Result<(Graph, Vec<LoweredOp>), EngineError> {
    options.check()?;
    let context_size = options.context_size.unwrap_or(model.config().max_position_embeddings);
    let cache = make_cache(options, model)?;
    let taps = Taps::default();
    let (mut graphs, lowered) = PlanBuilder { model, options, cache: &*cache, context_size, taps }.graphs()?;
    Ok((graphs.pop().expect("there is a plan for every step"), lowered))
}

/// The cache that the options ask for, for sequences of `model`.
///
/// # Errors
/// [`EngineError::Option`] for more rows than an index can name.
pub fn make_cache(options: &SessionOptions, model: &Model) -> Result<Box<dyn Cache>, EngineError> {
    let context_size = options.context_size.unwrap_or(model.config().max_position_embeddings);
    let kv_heads = model.config().num_key_value_heads;
    // Lowered attention numbers the rows of every key/value head, in i32 as all indices.
    let rows = |per_sequence: usize| {
        let rows = per_sequence.checked_mul(options.max_sequences)?.checked_mul(kv_heads)?;
        (rows < i32::MAX as usize).then_some(rows)
    };
    let too_large = || EngineError::Option {
        option: "context_size * max_sequences * num_key_value_heads",
        found: format!("{context_size} * {} * {kv_heads}", options.max_sequences),
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
    taps: Taps,
}

impl PlanBuilder<'_> {
    /// The graphs, the one that fits every run last, as the device computes them, and what was lowered for that.
    fn graphs(&self) -> Result<(Vec<Graph>, Vec<LoweredOp>), EngineError> {
        let config = self.model.config();
        let slots = self.cache.layout().num_slots;
        let mut tokens = self.options.batch_size.min(slots).min((TAP_BYTES / self.tapped_bytes().max(1)).max(1));
        if self.taps.masked {
            // Tokens that look at later ones cannot wait for another run.
            tokens = tokens.max(self.context_size.min(slots));
        }
        let (mut general, lowered) = self.graph(self.general_range(tokens))?;
        let gathers = |v: &camelid_core::graph::Value| matches!(v.kind, ValueKind::Step(StepInput::ContextRow { .. }));
        if general.values().iter().any(gathers) {
            // Lowered attention takes a context for each token: keep that within bounds.
            let per_token = self.context_size * config.num_key_value_heads * config.head_dim;
            tokens = tokens.min((GATHERED_ELEMENTS / per_token).max(1));
            (general, _) = self.graph(self.general_range(tokens))?;
        }
        let rows = usize::from(!self.taps.headless);
        let one = SymbolRange { min: symbols(1, 1, rows, 1), max: symbols(1, 1, rows, self.context_size) };
        Ok((vec![self.graph(one)?.0, general], lowered))
    }

    /// Bytes of hidden states and attentions that a token of a run may leave.
    fn tapped_bytes(&self) -> usize {
        let c = self.model.config();
        let hidden = if self.taps.hidden_states { (c.num_hidden_layers + 1) * c.hidden_size } else { 0 };
        let attentions = if self.taps.attentions { c.num_hidden_layers * c.num_attention_heads } else { 0 };
        (hidden + attentions.saturating_mul(self.context_size)).saturating_mul(size_of::<f32>())
    }

    fn general_range(&self, tokens: usize) -> SymbolRange {
        let width = self.model.logits_width();
        let fitting = if self.taps.masked { tokens } else { LOGITS_BYTES / (width * size_of::<f32>()) };
        let rows = if self.taps.headless { 0 } else { fitting.clamp(1, tokens) };
        let max = symbols(tokens, self.options.max_sequences.min(tokens), rows, self.context_size);
        SymbolRange { min: symbols(1, 1, 0, 1), max }
    }

    fn graph(&self, range: SymbolRange) -> Result<(Graph, Vec<LoweredOp>), EngineError> {
        let attention: &dyn Attention = match (self.taps.attentions, self.taps.masked) {
            (true, _) => &EagerAttention,
            (false, true) => &MaskedAttention,
            (false, false) => &CausalAttention,
        };
        let options = GraphOptions {
            attention,
            layout: self.cache.layout(),
            kv_dtype: self.options.kv_dtype,
            range,
            positions: self.context_size,
            input: if self.taps.embeds { Input::Embeds } else { Input::Tokens },
            window: None,
            hidden_states: self.taps.hidden_states,
            last_hidden_state: self.taps.last_hidden_state,
            head: if self.taps.headless { Head::None } else { self.model.head() },
        };
        let head_dim = self.model.config().head_dim;
        check_cache_type(options.kv_dtype, head_dim).map_err(|rule| EngineError::Option {
            option: "kv_dtype",
            found: options.kv_dtype.to_string(),
            rule,
        })?;
        let build = |options: &GraphOptions<'_>| {
            llama::build(self.model.config(), self.model.weight_types(), options)
                .map_err(|source| EngineError::Graph { path: self.model.path().to_owned(), source })
        };
        let place = |graph: &Graph| self.model.device().place(graph, self.options.on_unsupported);
        match place(&build(&options)?) {
            Ok(placed) => Ok((placed.graph, placed.lowered)),
            Err(source @ (HostError::Unsupported { .. } | HostError::NotLowered { .. })) => {
                // Is it the cache's type that it lacks? Then there is another to name.
                for instead in [DType::F16, DType::F32] {
                    if instead != options.kv_dtype
                        && place(&build(&GraphOptions { kv_dtype: instead, ..options })?).is_ok()
                    {
                        return Err(EngineError::KvDtype {
                            kv_dtype: options.kv_dtype,
                            instead,
                            source: source.into(),
                        });
                    }
                }
                Err(source.into())
            }
            Err(other) => Err(other.into()),
        }
    }
}

fn symbols(tokens: usize, sequences: usize, outputs: usize, context: usize) -> SymbolValues {
    SymbolValues::new(tokens, sequences, outputs, context)
}

/// The session's own memory, by the name of the value or output; every graph binds to the same.
struct Buffers<'a> {
    model: &'a Model,
    by_name: HashMap<String, Buffer>,
    shared: &'a mut Shared,
    context_size: usize,
}

impl Buffers<'_> {
    fn get(&self, name: &str) -> Option<&Buffer> {
        self.by_name.get(name).or_else(|| self.shared.by_name.get(name))
    }

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
            if self.get(&name).is_some() {
                continue;
            }
            let size = value.ty.bytes(&range.max).ok_or_else(|| EngineError::Option {
                option: "context_size",
                found: self.context_size.to_string(),
                rule: format!("leave `{name}` ({}) a size that fits in memory", value.ty),
            })?;
            // A buffer of no bytes is nothing a device needs to understand.
            let desc = BufferDesc { name: name.clone(), size: size.max(4), usage };
            let buffer = self.model.device().alloc(desc)?;
            let of = if value.kind == ValueKind::State { &mut self.shared.by_name } else { &mut self.by_name };
            of.insert(name, buffer);
        }
        Ok(())
    }

    fn load_rope_tables(&mut self, ty: &TensorType) -> Result<(), EngineError> {
        if self.get(ROPE_COS).is_some() {
            return Ok(());
        }
        let rotary = Rotary::new(self.model.config(), self.model.rope_divisors());
        let (cos, sin) = rotary.tables(self.context_size);
        for (name, table) in [(ROPE_COS, cos), (ROPE_SIN, sin)] {
            debug_assert_eq!(ty.dtype, DType::F32);
            let data = Bytes::from(table.into_iter().flat_map(f32::to_ne_bytes).collect::<Vec<u8>>());
            let weight = Weight { name: name.into(), ty: *ty, data, may_repack: false };
            self.shared.by_name.insert(name.into(), self.model.device().load_weight(weight)?.0);
        }
        Ok(())
    }

    fn compile(&self, graph: &Graph) -> Result<CompiledPlan, EngineError> {
        let mut bindings = Vec::new();
        let mut inputs = Vec::new();
        for (id, value) in graph.bound_values() {
            let name = if value.kind == ValueKind::Computed { &output_name(graph, id) } else { &value.name };
            let buffer = self.get(name).or_else(|| self.model.weight(name)).ok_or_else(|| self.unbound(name))?;
            bindings.push((id, buffer.clone(), 0));
            if let ValueKind::Step(input) = value.kind {
                inputs.push((input, buffer.clone()));
            }
        }
        let plan = self.model.device().compile(graph, &bindings)?;
        let outputs = graph.outputs().iter().map(|o| {
            let buffer = self.get(&o.name).ok_or_else(|| self.unbound(&o.name))?.clone();
            Ok(PlanOutput { name: o.name.clone(), ty: graph.value(o.value).ty, buffer })
        });
        let outputs = outputs.collect::<Result<_, EngineError>>()?;
        Ok(CompiledPlan { plan, inputs, outputs, range: *graph.range() })
    }

    fn unbound(&self, name: &str) -> EngineError {
        let source = camelid_core::graph::GraphError::Unbound(name.to_owned());
        EngineError::Graph { path: self.model.path().to_owned(), source }
    }
}

fn output_name(graph: &Graph, id: ValueId) -> String {
    graph.output_in(id).map_or_else(String::new, |o| o.name.clone())
}
