//! Groups into phases.

use std::collections::{BTreeMap, HashMap};

use camelid_core::DType;
use camelid_core::backend::{BackendError, Location};
use camelid_core::graph::{Graph, Node, NodeId, TensorType, ValueId};
use camelid_core::ops::Op;
use camelid_sdk::parts::Buffers;

use super::groups::{Group, groups, own};
use super::places::{Place, Places};
use super::{Named, Phase, Value};
use crate::activations::Input;
use crate::block::Block;
use crate::kernel::Kernels;
use crate::memory::{Panels, Piece};
use crate::ops::{
    Append, Bmm, Cast, Copy, Elementwise, Function, GateUp, GatherRows, Linear, Matrix, Norm, Prepare, Prepared,
    Product, Rope, RopeAppend, Softmax, Source, Table,
};

/// A graph's phases and the memory between them.
pub(super) struct Built {
    pub phases: Vec<Named>,
    pub blocks: Vec<Block>,
}

/// Makes phases of `graph`, whose nodes and bindings were found right.
pub(super) fn build(
    graph: &Graph,
    bound: &BTreeMap<ValueId, Location>,
    buffers: &mut Buffers<Piece>,
    kernels: Kernels,
    threads: usize,
) -> Result<Built, BackendError> {
    let groups = groups(graph);
    let own = own(graph, &groups);
    let places = Places::new(graph, &groups, bound, &own, threads)?;
    let mut builder = Builder {
        graph,
        buffers,
        kernels,
        threads,
        places,
        phases: Vec::new(),
        blocks: Vec::new(),
        widened: HashMap::new(),
        prepared: [None, None],
        latest: 0,
        signature: String::new(),
    };
    for (i, group) in groups.iter().enumerate() {
        builder.group(group, groups.get(i + 1))?;
    }
    let Builder { phases, mut blocks, places, prepared, .. } = builder;
    blocks.extend(places.blocks());
    blocks.extend(prepared.into_iter().flatten().map(|area| area.block));
    Ok(Built { phases, blocks })
}

pub(super) struct Builder<'a> {
    pub(super) graph: &'a Graph,
    buffers: &'a mut Buffers<Piece>,
    kernels: Kernels,
    threads: usize,
    places: Places,
    phases: Vec<Named>,
    blocks: Vec<Block>,
    /// f32 copies of values that kernels cannot read, and bytes of weights that lie in panels.
    widened: HashMap<(ValueId, bool), *mut u8>,
    /// Two areas of prepared activations: a phase may read one and write the other.
    prepared: [Option<Area>; 2],
    /// The area that was written last.
    latest: usize,
    /// What the phases of this group are called in errors.
    pub(super) signature: String,
}

/// Memory for prepared activations, and whose they are.
struct Area {
    block: Block,
    of: Option<(ValueId, Input)>,
    /// As [`Prepared::stride`].
    stride: usize,
}

/// A result as the kernel writes it, and where it goes from there.
#[derive(Clone, Copy)]
pub(super) struct Target {
    pub value: Value,
    pub then: Option<Value>,
}

impl Builder<'_> {
    fn group(&mut self, group: &Group, next: Option<&Group>) -> Result<(), BackendError> {
        self.signature = self.graph.signature(group.nodes()[0]);
        match group {
            Group::One(id) => self.node(*id, next),
            Group::GateUp { gate, up, swiglu } => self.gate_up(*gate, *up, *swiglu, next),
            Group::RopeAppend(nodes) => {
                let (phase, targets) = self.rope_append(nodes)?;
                self.push(phase);
                targets.into_iter().for_each(|target| self.finish(target));
                Ok(())
            }
            Group::Attend { rope_append, attention } => self.attend(rope_append, *attention),
        }
    }

    pub(super) fn push(&mut self, phase: impl Phase + 'static) {
        self.phases.push(Named { phase: Box::new(phase), signature: self.signature.clone() });
    }

    pub(super) fn memory(&mut self, what: &str, bytes: usize) -> Result<*mut u8, BackendError> {
        let mut block = Block::new(what, bytes)?;
        let start = block.start();
        self.blocks.push(block);
        Ok(start)
    }

    fn ty(&self, id: ValueId) -> TensorType {
        self.graph.value(id).ty
    }

    /// Bytes of a value of this type at most.
    fn bytes(&self, ty: &TensorType) -> usize {
        ty.bytes(&self.graph.range().max).expect("every value's size was found countable, as f32 too")
    }

    /// A weight in panels, if that is what the value is.
    fn panels(&mut self, id: ValueId) -> Result<Option<&Panels>, BackendError> {
        let shape = self.ty(id).shape;
        let Place::Bound(location) = self.places.of(id) else { return Ok(None) };
        match self.buffers.memory(location.buffer)? {
            // Reshaped to rows of another length, it is read as it lies in the file.
            Piece::Panels(panels) if shape.last_fixed() == Some(panels.k) => Ok(Some(panels)),
            _ => Ok(None),
        }
    }

    /// A value as its bytes lie. Of a weight in panels that something else than a product reads, a copy is made now.
    pub(super) fn value(&mut self, id: ValueId) -> Result<Value, BackendError> {
        let ty = self.ty(id);
        let location = match self.places.of(id) {
            Place::Here { ptr, stride } => return Ok(Value { ptr, ty, stride }),
            Place::Bound(location) => location,
        };
        let ptr = match self.buffers.memory_mut(location.buffer)? {
            Piece::Plain(block) => block.start(),
            Piece::File(bytes) => bytes.as_ptr().cast_mut(),
            Piece::Panels(panels) => {
                if let Some(ptr) = self.widened.get(&(id, false)) {
                    return Ok(Value { ptr: *ptr, ty, stride: 0 });
                }
                let len = panels.n * panels.row_len();
                let mut block = Block::new("a weight as it lies in the file", len)?;
                panels.read(0, block.bytes_mut());
                let ptr = block.start();
                self.blocks.push(block);
                self.widened.insert((id, false), ptr);
                ptr
            }
        };
        // SAFETY: the binding was found to lie inside the buffer.
        Ok(Value { ptr: unsafe { ptr.add(location.offset) }, ty, stride: 0 })
    }

    /// A value as f32 where f32 may lie, after a phase that makes a copy if it is not.
    pub(super) fn floats(&mut self, id: ValueId) -> Result<Value, BackendError> {
        let value = self.value(id)?;
        let ty = TensorType { dtype: DType::F32, ..value.ty };
        if value.ty.dtype == DType::F32 && value.ptr.addr().is_multiple_of(align_of::<f32>()) {
            return Ok(value);
        }
        if let Some(ptr) = self.widened.get(&(id, true)) {
            return Ok(Value { ptr: *ptr, ty, stride: 0 });
        }
        let bytes = self.bytes(&ty);
        let y = Value { ptr: self.memory("an operand as f32", bytes)?, ty, stride: 0 };
        self.widened.insert((id, true), y.ptr);
        self.push(Cast { x: value, y });
        Ok(y)
    }

    /// Where a kernel writes a result in f32.
    pub(super) fn target(&mut self, id: ValueId) -> Result<Target, BackendError> {
        let value = self.value(id)?;
        if value.ty.dtype == DType::F32 && value.ptr.addr().is_multiple_of(align_of::<f32>()) {
            return Ok(Target { value, then: None });
        }
        let ty = TensorType { dtype: DType::F32, ..value.ty };
        let bytes = self.bytes(&ty);
        let ptr = self.memory("a result as f32", bytes)?;
        Ok(Target { value: Value { ptr, ty, stride: 0 }, then: Some(value) })
    }

    /// A phase that stores a result in its own type.
    pub(super) fn finish(&mut self, target: Target) {
        if let Some(y) = target.then {
            self.push(Cast { x: target.value, y });
        }
    }

    /// The kernel for a matrix of weights.
    fn matrix(&mut self, id: ValueId) -> Result<Matrix, BackendError> {
        if let Some(Panels { kernel, n, k, data, .. }) = self.panels(id)? {
            return Ok(Matrix { n: *n, k: *k, kernel: *kernel, source: Source::Panels(data.bytes().as_ptr()) });
        }
        let w = self.value(id)?;
        // The weight may be an input or a computed value, whose size is known at a step only: rows are the first dimension.
        let max = self.graph.range().max;
        let (n, k) = (w.rows(&max), w.columns(&max));
        let dtype = w.ty.dtype;
        let own = self.kernels.of(dtype);
        let kernel = own.or_else(|| self.kernels.of(DType::F32)).expect("f32 has a kernel");
        if kernel.panel_len(k).is_none() {
            return Err(BackendError::invalid(format!("{}: rows of {k} elements are too long", self.signature)));
        }
        Ok(Matrix { n, k, kernel, source: Source::Rows(w.ptr, dtype) })
    }

    /// What form of activations a product with this weight reads.
    fn input_of(&self, weight: ValueId) -> Input {
        self.kernels.of(self.ty(weight).dtype).map_or(Input::F32, |kernel| kernel.input)
    }

    /// The form of `id` that the next group's products read, if that is what it reads it for.
    fn wanted(&self, id: ValueId, next: Option<&Group>) -> Option<Input> {
        let node = self.graph.node(*next?.nodes().first()?);
        let reads = matches!(node.op, Op::Linear | Op::QkvLinear) && node.inputs[0] == id;
        (reads && self.ty(id).dtype == DType::F32).then(|| self.input_of(node.inputs[1]))
    }

    /// Room for the prepared rows of `id`, in the area that the phase before does not write; for each thread if each prepares
    /// them for itself.
    fn area(&mut self, id: ValueId, input: Input, each: bool) -> Result<Prepared, BackendError> {
        let ty = TensorType { dtype: DType::F32, ..self.ty(id) };
        let value = Value { ptr: std::ptr::null_mut(), ty, stride: 0 };
        let max = self.graph.range().max;
        let bytes = input.row_bytes(value.columns(&max)).and_then(|row| row.checked_mul(value.rows(&max)));
        let stride = bytes.and_then(|bytes| bytes.checked_next_multiple_of(64));
        let bytes = stride.and_then(|stride| stride.checked_mul(if each { self.threads } else { 1 }));
        let (Some(stride), Some(bytes)) = (stride, bytes) else {
            return Err(BackendError::invalid(format!("{}: x is too large", self.signature)));
        };
        let stride = if each { stride } else { 0 };
        let at = 1 - self.latest;
        let mut area = match self.prepared[at].take() {
            Some(area) if area.block.bytes().len() >= bytes => area,
            too_small => {
                // Phases before this one keep on using it.
                self.blocks.extend(too_small.map(|area| area.block));
                Area { block: Block::new("prepared activations", bytes)?, of: None, stride }
            }
        };
        (area.of, area.stride) = (Some((id, input)), stride);
        let ptr = area.block.start();
        self.prepared[at] = Some(area);
        self.latest = at;
        Ok(Prepared { ptr, input, stride })
    }

    /// Whether every thread prepares the rows of this type for itself.
    fn each(&self, ty: &TensorType) -> bool {
        Value { ptr: std::ptr::null_mut(), ty: *ty, stride: 0 }.rows(&self.graph.range().max) <= 1
    }

    /// The rows of `id` in this form, after a phase that makes it so if none before has.
    fn prepared(&mut self, id: ValueId, x: Value, input: Input) -> Result<Prepared, BackendError> {
        for area in self.prepared.iter_mut().flatten() {
            if area.of == Some((id, input)) {
                return Ok(Prepared { ptr: area.block.start(), input, stride: area.stride });
            }
        }
        let to = self.area(id, input, self.each(&x.ty))?;
        self.push(Prepare { x, to });
        Ok(to)
    }
}

/// Products.
impl Builder<'_> {
    fn linear(&mut self, node: &Node, weights: &[ValueId], biases: &[ValueId]) -> Result<(), BackendError> {
        let x = self.floats(node.inputs[0])?;
        let mut targets = Vec::with_capacity(weights.len());
        // Weights of one form of activations are one phase.
        let mut by_input: Vec<(Input, Vec<Product>)> = Vec::new();
        for (i, weight) in weights.iter().enumerate() {
            let matrix = self.matrix(*weight)?;
            let bias = biases.get(i).map(|b| self.floats(*b)).transpose()?;
            let target = self.target(node.outputs[i])?;
            targets.push(target);
            let product = Product { matrix, bias, y: target.value };
            match by_input.iter_mut().find(|(input, _)| *input == matrix.kernel.input) {
                Some((_, products)) => products.push(product),
                None => by_input.push((matrix.kernel.input, vec![product])),
            }
        }
        for (input, products) in by_input {
            let prepared = self.prepared(node.inputs[0], x, input)?;
            self.push(Linear { x, prepared, products });
        }
        for target in targets {
            self.finish(target);
        }
        Ok(())
    }

    fn gate_up(&mut self, gate: NodeId, up: NodeId, swiglu: NodeId, next: Option<&Group>) -> Result<(), BackendError> {
        let [gate, up, swiglu] = [gate, up, swiglu].map(|n| self.graph.node(n));
        let id = gate.inputs[0];
        let x = self.floats(id)?;
        let (gate, up) = (self.matrix(gate.inputs[1])?, self.matrix(up.inputs[1])?);
        let prepared = self.prepared(id, x, gate.kernel.input)?;
        let result = swiglu.outputs[0];
        let target = self.target(result)?;
        let form = self.wanted(result, next).filter(|_| target.then.is_none());
        // The area that this phase reads must not be the one that it writes.
        self.latest = usize::from(self.prepared[1].as_ref().is_some_and(|a| a.of == Some((id, gate.kernel.input))));
        let to = form.map(|form| self.area(result, form, false)).transpose()?;
        self.push(GateUp { x, prepared, gate, up, y: target.value, to });
        self.finish(target);
        Ok(())
    }
}

/// Everything else.
impl Builder<'_> {
    fn rope(&mut self, node: &Node, head_dim: usize) -> Result<(Rope, Target), BackendError> {
        let (x, cos, sin) = (self.floats(node.inputs[0])?, self.floats(node.inputs[1])?, self.floats(node.inputs[2])?);
        let target = self.target(node.outputs[0])?;
        Ok((Rope { x, cos, sin, head_dim, y: target.value, appends: Vec::new() }, target))
    }

    /// Rows into a table; they come as f32 or in the table's type.
    fn append(&mut self, node: &Node, index_name: &'static str) -> Result<Append, BackendError> {
        let (table, index) = (self.value(node.inputs[0])?, self.value(node.inputs[2])?);
        let mut rows = self.value(node.inputs[1])?;
        if rows.ty.dtype != table.ty.dtype {
            rows = self.floats(node.inputs[1])?;
        }
        Ok(Append { rows, table, index, index_name })
    }

    pub(super) fn rope_append(&mut self, nodes: &[NodeId]) -> Result<(RopeAppend, Vec<Target>), BackendError> {
        let mut phase = RopeAppend::default();
        let mut made: Vec<ValueId> = Vec::new();
        let mut targets = Vec::new();
        for id in nodes {
            let node = self.graph.node(*id);
            if let Op::Rope { head_dim } = node.op {
                let (rope, target) = self.rope(node, head_dim)?;
                phase.ropes.push(rope);
                made.push(node.outputs[0]);
                targets.push(target);
                continue;
            }
            match made.iter().position(|v| *v == node.inputs[1]) {
                Some(rope) => {
                    let (table, index) = (self.value(node.inputs[0])?, self.value(node.inputs[2])?);
                    let rows = phase.ropes[rope].y;
                    phase.ropes[rope].appends.push(Append { rows, table, index, index_name: "slot" });
                }
                None => {
                    let append = self.append(node, "slot")?;
                    phase.appends.push(append);
                }
            }
        }
        Ok((phase, targets))
    }

    fn node(&mut self, id: NodeId, next: Option<&Group>) -> Result<(), BackendError> {
        let node = self.graph.node(id);
        match node.op {
            Op::Linear => self.linear(node, &node.inputs[1..2], &node.inputs[2..]),
            Op::QkvLinear => self.linear(node, &node.inputs[1..4], &node.inputs[4..]),
            Op::RmsNorm { eps } | Op::AddRmsNorm { eps } => self.norm(node, eps, next),
            Op::Rope { head_dim } => {
                let (rope, target) = self.rope(node, head_dim)?;
                self.push(RopeAppend { ropes: vec![rope], ..RopeAppend::default() });
                self.finish(target);
                Ok(())
            }
            Op::KvAppend | Op::ScatterRows => {
                let name = if node.op == Op::KvAppend { "slot" } else { "index" };
                let append = self.append(node, name)?;
                self.push(RopeAppend { appends: vec![append], ..RopeAppend::default() });
                Ok(())
            }
            Op::Attention(_) => self.attention(node, None),
            Op::Add => self.elementwise(node, Function::Add),
            Op::Mul => self.elementwise(node, Function::Mul),
            Op::Swiglu => self.elementwise(node, Function::Swiglu),
            Op::Activation(kind) => self.elementwise(node, Function::Activation(kind)),
            Op::Softmax { scale } => {
                let x = self.floats(node.inputs[0])?;
                let mask = node.inputs.get(1).map(|m| self.floats(*m)).transpose()?;
                let target = self.target(node.outputs[0])?;
                self.push(Softmax { x, mask, scale, y: target.value });
                self.finish(target);
                Ok(())
            }
            Op::Bmm { transpose_b } => {
                let (a, b) = (self.floats(node.inputs[0])?, self.floats(node.inputs[1])?);
                let target = self.target(node.outputs[0])?;
                self.push(Bmm { a, b, transpose_b, y: target.value });
                self.finish(target);
                Ok(())
            }
            Op::GatherRows => self.gather_rows(node),
            Op::Cast { .. } => {
                let (x, y) = (self.value(node.inputs[0])?, self.value(node.outputs[0])?);
                // Through f32 at an address where it may lie, if need be.
                let x = if x.ptr.addr().is_multiple_of(align_of::<f32>()) { x } else { self.floats(node.inputs[0])? };
                self.push(Cast { x, y });
                Ok(())
            }
            Op::Copy | Op::Reshape { .. } => {
                if self.places.of(node.inputs[0]) == self.places.of(node.outputs[0]) {
                    return Ok(());
                }
                let (x, y) = (self.value(node.inputs[0])?, self.value(node.outputs[0])?);
                self.push(Copy { x, y });
                Ok(())
            }
            ref other => Err(BackendError::unsupported(format!("{}: {} is not claimed", self.signature, other.name()))),
        }
    }

    fn norm(&mut self, node: &Node, eps: f32, next: Option<&Group>) -> Result<(), BackendError> {
        let x = self.floats(node.inputs[0])?;
        let (weight, result) = (*node.inputs.last().expect("checked"), *node.outputs.last().expect("checked"));
        let residual = if let Op::AddRmsNorm { .. } = node.op {
            Some((self.floats(node.inputs[1])?, self.target(node.outputs[0])?))
        } else {
            None
        };
        let weight = self.floats(weight)?;
        let target = self.target(result)?;
        let to = match self.wanted(result, next) {
            Some(input) if target.then.is_none() => Some(self.area(result, input, target.value.stride > 0)?),
            _ => None,
        };
        let sums = residual.map(|(residual, sum)| (residual, sum.value));
        // The norm is of the sum as it is stored.
        let rounds = residual.and_then(|(_, sum)| sum.then).map(|stored| stored.ty.dtype);
        self.push(Norm { x, residual: sums, rounds, weight, eps, y: target.value, to });
        if let Some((_, sum)) = residual {
            self.finish(sum);
        }
        self.finish(target);
        Ok(())
    }

    fn elementwise(&mut self, node: &Node, f: Function) -> Result<(), BackendError> {
        let a = self.floats(node.inputs[0])?;
        let b = node.inputs.get(1).map(|b| self.floats(*b)).transpose()?;
        let target = self.target(node.outputs[0])?;
        self.push(Elementwise { f, a, b, y: target.value });
        self.finish(target);
        Ok(())
    }

    fn gather_rows(&mut self, node: &Node) -> Result<(), BackendError> {
        let table = match self.panels(node.inputs[0])? {
            Some(Panels { kernel, n, k, data, .. }) => {
                Table::Panels { start: data.bytes().as_ptr(), kernel: *kernel, n: *n, k: *k }
            }
            None => Table::Rows(self.value(node.inputs[0])?),
        };
        let (index, y) = (self.value(node.inputs[1])?, self.value(node.outputs[0])?);
        self.push(GatherRows { table, index, y });
        Ok(())
    }
}
