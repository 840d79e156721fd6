//! Runs a case on a device, in two layouts: every value in memory of exactly its size, and every value inside larger
//! memory with guards around it and a plan for larger symbols.

use std::collections::HashMap;
use std::path::Path;

use camelid_core::backend::{
    BackendError, Binding, BufferDesc, BufferId, BufferUsage, Device, ErrorCode, Location, PlanId, Support, Weight,
};
use camelid_core::graph::{Graph, StepInput, SymbolRange, SymbolValues, ValueId, ValueKind};
use camelid_core::ops::softmax::MASKED;
use camelid_core::{Bytes, DType, lower};

use super::contents::poison;
use super::expect;
use super::file::{GraphCase, Kind, StepSpec};
use crate::case::{Evidence, Problem};
use crate::fixtures::Fixture;
use crate::tolerance::MathClass;

/// Bytes of guard before and after a value, and so the alignment of values: what the devices of today ask for.
const GUARD: usize = 256;
const GUARD_BYTE: u8 = 0xa5;

/// How values lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Memory of exactly the size, a plan for exactly the symbols of the steps.
    Exact,
    /// Guards around every value, a plan for symbols from 1 to more than twice as large, every step run twice.
    Wide,
}

impl Layout {
    /// Both.
    pub const ALL: [Layout; 2] = [Layout::Exact, Layout::Wide];

    fn name(self) -> &'static str {
        match self {
            Layout::Exact => "exact layout",
            Layout::Wide => "wide layout",
        }
    }

    fn guard(self) -> usize {
        if self == Layout::Wide { GUARD } else { 0 }
    }

    /// The symbols to compile for.
    pub fn range(self, steps: &[StepSpec]) -> SymbolRange {
        let over = |pick: fn(&super::file::Symbols) -> usize| {
            let all = steps.iter().map(|s| pick(&s.symbols));
            let (min, max) = (all.clone().min().unwrap_or(1), all.max().unwrap_or(1));
            if self == Layout::Exact { (min, max) } else { (min.min(1), 2 * max + 3) }
        };
        let (t, s, o, l) = (over(|s| s.t), over(|s| s.s), over(|s| s.o), over(|s| s.l));
        SymbolRange { min: SymbolValues::new(t.0, s.0, o.0, l.0), max: SymbolValues::new(t.1, s.1, o.1, l.1) }
    }
}

/// A case on its way through a device.
#[derive(Clone, Copy, Debug)]
pub struct Execution<'a> {
    /// The case.
    pub case: &'a GraphCase,
    /// Its stored tensors.
    pub fixture: &'a Fixture,
    /// The class it is held to.
    pub class: MathClass,
    /// How values lie in memory.
    pub layout: Layout,
    /// Where to leave what was computed.
    pub dump: Option<&'a Path>,
    /// Whether the plan and its memory stay on the device after it.
    pub stays: bool,
}

/// A bound value in the device's memory.
struct Placed {
    id: ValueId,
    name: String,
    kind: ValueKind,
    dtype: DType,
    buffer: BufferId,
    offset: usize,
    /// At the largest symbols.
    size: usize,
}

/// What an execution holds of a device.
struct Held<'d> {
    device: &'d mut dyn Device,
    values: Vec<Placed>,
    /// What inputs hold now, by name.
    contents: HashMap<String, Vec<u8>>,
}

fn damaged(case: &GraphCase, problem: impl std::fmt::Display) -> Problem {
    Problem::Blocked(format!("the case `{}` cannot be used: {problem}", case.id))
}

impl Execution<'_> {
    /// Runs all steps and adds what was measured to `evidence`. After an error the device is to be dropped.
    ///
    /// # Errors
    /// See [`Problem`].
    pub fn on(&self, device: &mut dyn Device, evidence: &mut Evidence) -> Result<(), Problem> {
        let graph = super::build::graph(self.case, self.layout.range(&self.case.step));
        let graph = graph.map_err(|e| damaged(self.case, e))?;
        let (graph, refusal) = place(device, graph, evidence)?;
        let mut held = Held { device, values: Vec::new(), contents: HashMap::new() };
        let bound = self.bind(&mut held, &graph);
        if let Some(reason) = refusal {
            let refused = bound.and_then(|bindings| Ok(held.device.compile(&graph, &bindings)?));
            held.free(refused.as_ref().ok().copied());
            return Err(probe(refused, &reason));
        }
        let bindings = bound?;
        let plan = held.device.compile(&graph, &bindings).map_err(|e| {
            Problem::fail(format!("`supports` takes every node of the graph, but `compile` answers: {e}"))
        })?;
        for (number, step) in self.case.step.iter().enumerate() {
            self.step(&mut held, &graph, plan, number, step, evidence)?;
        }
        if !self.stays {
            held.free(Some(plan));
        }
        Ok(())
    }

    /// Memory with contents for every bound value.
    fn bind(&self, held: &mut Held<'_>, graph: &Graph) -> Result<Vec<Binding>, Problem> {
        let (max, guard) = (&graph.range().max, self.layout.guard());
        for (id, value) in graph.bound_values() {
            let (name, ty) = (value.name.clone(), value.ty);
            let too_large = || damaged(self.case, format!("`{name}` is too large"));
            let size = ty.bytes(max).ok_or_else(too_large)?;
            let spec = self.case.values.iter().find(|v| v.name == value.name);
            let place = |buffer, offset| Placed {
                id,
                name: value.name.clone(),
                kind: value.kind,
                dtype: ty.dtype,
                buffer,
                offset,
                size,
            };
            if let Some(spec) = spec.filter(|spec| spec.kind == Kind::Weight) {
                let elements = ty.elements(max).ok_or_else(too_large)?;
                let columns = ty.shape.last_fixed().unwrap_or(1);
                let data = spec.contents.bytes(&self.case.id, self.fixture, ty.dtype, elements, columns);
                let data = Bytes::from(data.map_err(|e| damaged(self.case, format!("`{name}`: {e}")))?);
                let may_repack = self.layout == Layout::Exact;
                let loaded = held.device.load_weight(Weight { name, ty, data, may_repack })?;
                held.values.push(place(loaded.buffer, 0));
                continue;
            }
            let usage = match value.kind {
                ValueKind::State => BufferUsage::State,
                ValueKind::Computed => BufferUsage::Output,
                _ => BufferUsage::Input,
            };
            let desc = BufferDesc { name, size: size + 2 * guard, usage };
            let buffer = held.device.alloc(&desc)?;
            held.values.push(place(buffer, guard));
            let mut all = vec![GUARD_BYTE; size + 2 * guard];
            all[guard..guard + size].copy_from_slice(&poison(ty.dtype, size));
            held.device.write(buffer, 0, &all)?;
        }
        for spec in self.case.values.iter().filter(|v| v.kind != Kind::Weight) {
            self.fill(held, &spec.name, &spec.contents, &self.case.step[0], spec.kind)?;
        }
        let location = |v: &Placed| Location { buffer: v.buffer, offset: v.offset };
        Ok(held.values.iter().map(|v| Binding { value: v.id, location: location(v) }).collect())
    }

    /// Writes contents into an input or a state, at the sizes of `step`.
    fn fill(
        &self,
        held: &mut Held<'_>,
        name: &str,
        contents: &super::file::Contents,
        step: &StepSpec,
        kind: Kind,
    ) -> Result<(), Problem> {
        let wrong = |e: String| damaged(self.case, format!("`{name}`: {e}"));
        let spec = self.case.values.iter().find(|v| v.name == name).ok_or_else(|| wrong("is no value".into()))?;
        let ty = super::build::ty(spec).map_err(wrong)?;
        let elements = ty.elements(&step.symbols.values()).ok_or_else(|| wrong("is too large".into()))?;
        let columns = ty.shape.last_fixed().unwrap_or(1);
        let bytes = contents.bytes(&self.case.id, self.fixture, ty.dtype, elements, columns).map_err(wrong)?;
        let value = held.values.iter().find(|v| v.name == name).expect("every value of the case is bound");
        held.device.write(value.buffer, value.offset, &bytes)?;
        if kind == Kind::Input {
            held.contents.insert(name.to_owned(), bytes);
        }
        Ok(())
    }

    fn step(
        &self,
        held: &mut Held<'_>,
        graph: &Graph,
        plan: PlanId,
        number: usize,
        step: &StepSpec,
        evidence: &mut Evidence,
    ) -> Result<(), Problem> {
        let symbols = step.symbols.values();
        let at = |e: BackendError| Problem::fail(format!("step {number}, {}: {e}", self.layout.name()));
        for write in &step.write {
            self.fill(held, &write.name, &write.contents, step, Kind::Input)?;
        }
        self.write_context(held, graph, &symbols)?;
        if let Some(code) = &step.error {
            return self.must_fail(held, plan, &symbols, number, code);
        }
        let mut first: Vec<Vec<u8>> = Vec::new();
        let runs = if self.layout == Layout::Wide { 2 } else { 1 };
        let states = if runs > 1 { held.read_states()? } else { Vec::new() };
        for run in 0..runs {
            if run > 0 {
                held.write_states(&states)?;
            }
            held.poison_outputs(graph)?;
            held.device.run(plan, &symbols).map_err(at)?;
            let mut results = Vec::new();
            for expected in &step.expect {
                let bytes = held.read_output(graph, &expected.output, &symbols).map_err(at)?;
                let checked = expect::check(self, graph, number, expected, &bytes, &symbols)?;
                if run == 0 {
                    evidence.measures.extend(checked);
                }
                results.push(bytes);
            }
            held.check_untouched(self.layout.guard(), &format!("step {number}, {}", self.layout.name()))?;
            if run == 0 {
                first = results;
            } else if first != results {
                let note = "the same step run twice gives other bits".to_owned();
                if !evidence.notes.contains(&note) {
                    evidence.notes.push(note);
                }
            }
        }
        Ok(())
    }

    /// A step whose inputs make no sense must end in an error, when it runs or when the host waits for it.
    fn must_fail(
        &self,
        held: &mut Held<'_>,
        plan: PlanId,
        symbols: &SymbolValues,
        number: usize,
        code: &str,
    ) -> Result<(), Problem> {
        let outcome = held.device.run(plan, symbols).and_then(|()| held.device.sync());
        match outcome {
            Ok(()) => Err(Problem::fail(format!(
                "step {number} has an index outside its table and must end in an error ({code}), but it succeeded"
            ))),
            Err(e) if e.code == ErrorCode::DeviceLost => {
                Err(Problem::fail(format!("step {number}: an index outside its table must not lose the device: {e}")))
            }
            Err(e) if e.message.trim().is_empty() => {
                Err(Problem::fail(format!("step {number}: the error ({}) has no message", e.code)))
            }
            Err(_) => Ok(()),
        }
    }

    /// The inputs that lowered attention adds, from the case's own.
    fn write_context(&self, held: &mut Held<'_>, graph: &Graph, symbols: &SymbolValues) -> Result<(), Problem> {
        let wanted: Vec<(ValueId, StepInput)> = graph
            .bound_values()
            .filter_map(|(id, v)| if let ValueKind::Step(input) = v.kind { Some((id, input)) } else { None })
            .collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let node = self.case.nodes.iter().find(|n| n.op == "attention");
        let node =
            node.ok_or_else(|| damaged(self.case, "a lowering asks for a context, but there is no attention"))?;
        let ints = |operand: usize| -> Result<Vec<i64>, Problem> {
            let bytes = node.inputs.get(operand).and_then(|name| held.contents.get(name));
            let bytes = bytes.ok_or_else(|| damaged(self.case, "attention's indices must be inputs"))?;
            Ok(bytes.as_chunks::<4>().0.iter().map(|b| i64::from(i32::from_le_bytes(*b))).collect())
        };
        let block_size = node.attrs.get("block_size").and_then(toml::Value::as_integer).unwrap_or(1);
        let context = Context { q_start: ints(3)?, seq_len: ints(4)?, block_table: ints(5)?, block_size };
        for (id, input) in wanted {
            let bytes = context.input(input, symbols).ok_or_else(|| damaged(self.case, format!("needs {input}")))?;
            let value = held.values.iter().find(|v| v.id == id).expect("every value of the graph is bound");
            held.device.write(value.buffer, value.offset, &bytes)?;
        }
        Ok(())
    }
}

/// The graph as the device takes it, and why it refuses it, if it does.
fn place(
    device: &mut dyn Device,
    mut graph: Graph,
    evidence: &mut Evidence,
) -> Result<(Graph, Option<String>), Problem> {
    loop {
        let answers = device.supports_all(&graph)?;
        if answers.len() != graph.nodes().len() {
            return Err(Problem::fail(format!("{} answers for {} nodes", answers.len(), graph.nodes().len())));
        }
        let mut wanted = Vec::new();
        for (id, answer) in graph.node_ids().zip(&answers) {
            let op = &graph.node(id).op;
            match answer {
                Support::Yes => {}
                Support::No { reason } => {
                    check_reason(op.name(), reason)?;
                    let reason = format!("{}: {reason}", graph.signature(id));
                    return Ok((graph, Some(reason)));
                }
                Support::Lower { reason } if op.is_macro() => {
                    check_reason(op.name(), reason)?;
                    wanted.push(id);
                }
                Support::Lower { .. } => {
                    let message =
                        format!("{} is a core operation and has no lowering, but the answer is Lower", op.name());
                    return Err(Problem::fail(message));
                }
            }
        }
        if wanted.is_empty() {
            return Ok((graph, None));
        }
        let mut names: Vec<_> = wanted.iter().map(|id| graph.node(*id).op.name()).collect();
        names.dedup();
        let note = format!("lowered: {}", names.join(", "));
        if !evidence.notes.contains(&note) {
            evidence.notes.push(note);
        }
        graph = lower::lower(&graph, |id| wanted.contains(&id)).map_err(|e| Problem::Blocked(e.to_string()))?;
    }
}

fn check_reason(op: &str, reason: &str) -> Result<(), Problem> {
    if reason.trim().is_empty() {
        return Err(Problem::fail(format!("{op} is not supported, but no reason is given")));
    }
    Ok(())
}

/// What was declared unsupported must also be refused.
fn probe(outcome: Result<PlanId, Problem>, reason: &str) -> Problem {
    match outcome {
        Ok(_) => Problem::fail(format!("`supports` says No ({reason}), but `compile` takes the graph")),
        Err(Problem::Fail(failure)) if failure.message.contains("device lost") => *Box::new(Problem::Fail(failure)),
        Err(_) => Problem::Unsupported(reason.to_owned()),
    }
}

impl Held<'_> {
    fn free(&mut self, plan: Option<PlanId>) {
        if let Some(plan) = plan {
            self.device.free_plan(plan);
        }
        for value in self.values.drain(..) {
            self.device.free(value.buffer);
        }
    }

    fn poison_outputs(&mut self, graph: &Graph) -> Result<(), Problem> {
        for value in self.values.iter().filter(|v| v.kind == ValueKind::Computed && graph.output_in(v.id).is_some()) {
            self.device.write(value.buffer, value.offset, &poison(value.dtype, value.size))?;
        }
        Ok(())
    }

    /// The contents of all states, in order.
    fn read_states(&mut self) -> Result<Vec<Vec<u8>>, BackendError> {
        let mut states = Vec::new();
        for value in self.values.iter().filter(|v| v.kind == ValueKind::State) {
            let mut bytes = vec![0; value.size];
            self.device.read(value.buffer, value.offset, &mut bytes)?;
            states.push(bytes);
        }
        Ok(states)
    }

    fn write_states(&mut self, states: &[Vec<u8>]) -> Result<(), BackendError> {
        for (value, bytes) in self.values.iter().filter(|v| v.kind == ValueKind::State).zip(states) {
            self.device.write(value.buffer, value.offset, bytes)?;
        }
        Ok(())
    }

    fn read_output(&mut self, graph: &Graph, name: &str, symbols: &SymbolValues) -> Result<Vec<u8>, BackendError> {
        let output = graph.outputs().iter().find(|o| o.name == name).expect("every expected result is an output");
        let storage = graph.storage_of(output.value);
        let place = self.values.iter().find(|v| v.id == storage).expect("outputs are bound");
        let len = graph.value(output.value).ty.bytes(symbols).expect("its largest size was counted");
        let mut bytes = vec![0; len];
        self.device.read(place.buffer, place.offset, &mut bytes)?;
        Ok(bytes)
    }

    /// Guards and inputs are as they were.
    fn check_untouched(&mut self, guard: usize, place: &str) -> Result<(), Problem> {
        for value in self.values.iter().filter(|v| v.kind != ValueKind::Weight) {
            let mut all = vec![0; value.size + 2 * guard];
            self.device.read(value.buffer, value.offset - guard, &mut all)?;
            let end = guard + value.size;
            for (what, range) in [("before", 0..guard), ("after", end..end + guard)] {
                if let Some(at) = all[range].iter().position(|b| *b != GUARD_BYTE) {
                    let message = format!("{place}: byte {at} of the memory {what} `{}` was written to", value.name);
                    return Err(Problem::fail(message));
                }
            }
            if let Some(bytes) = self.contents.get(&value.name)
                && let Some(at) = bytes.iter().zip(&all[guard..]).position(|(a, b)| a != b)
            {
                return Err(Problem::fail(format!("{place}: byte {at} of the input `{}` was changed", value.name)));
            }
        }
        Ok(())
    }
}

/// The batch, as attention's indices tell it.
struct Context {
    q_start: Vec<i64>,
    seq_len: Vec<i64>,
    block_table: Vec<i64>,
    block_size: i64,
}

impl Context {
    fn input(&self, input: StepInput, symbols: &SymbolValues) -> Option<Vec<u8>> {
        let dims = input.ty().shape.resolve(symbols);
        let (tokens, context) = (*dims.first()?, *dims.last()?);
        let mut bytes = Vec::new();
        for t in 0..tokens as i64 {
            match input {
                StepInput::ContextRow { kv_heads } => {
                    for head in 0..kv_heads as i64 {
                        for j in 0..context as i64 {
                            let row = self.row(t, j).map_or(-1, |slot| slot * kv_heads as i64 + head);
                            bytes.extend(i32::try_from(row).ok()?.to_le_bytes());
                        }
                    }
                }
                StepInput::ContextMask { window } => {
                    for j in 0..context as i64 {
                        let index = self.index(t);
                        let seen = index.is_some_and(|(_, i)| j <= i && window.is_none_or(|w| j > i - w as i64));
                        bytes.extend(if seen { 0.0_f32 } else { MASKED }.to_le_bytes());
                    }
                }
                _ => return None,
            }
        }
        Some(bytes)
    }

    /// The sequence of a token and its index there; `None` for padding.
    fn index(&self, t: i64) -> Option<(usize, i64)> {
        let s = (0..self.seq_len.len()).find(|s| self.q_start[*s] <= t && t < self.q_start[s + 1])?;
        Some((s, self.seq_len[s] - (self.q_start[s + 1] - t)))
    }

    fn row(&self, t: i64, j: i64) -> Option<i64> {
        let (s, i) = self.index(t)?;
        let blocks = self.block_table.len() / self.seq_len.len();
        let block = *self.block_table.get(s * blocks + (j / self.block_size) as usize)?;
        (j <= i).then_some(block * self.block_size + j % self.block_size)
    }
}
