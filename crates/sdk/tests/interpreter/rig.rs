//! Kernels to test the interpreter with: plain functions of bytes, over the host's memory and over one that is as
//! particular as a device's.

use std::panic::panic_any;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use camelid_sdk::core::backend::{BackendError, BufferDesc, BufferId, BufferUsage, ErrorCode, Location};
use camelid_sdk::core::backend::{Binding, Placement, Weight};
use camelid_sdk::core::graph::{Dim, Graph, Symbol, SymbolRange, SymbolValues, TensorType, ValueId, ValueKind};
use camelid_sdk::core::ops::Op;
use camelid_sdk::core::{Bytes, DType};
use camelid_sdk::kernels::{Claim, F32, HostBuf, HostMemory, INDICES, Kernels, Memory, NodeView};
use camelid_sdk::{Device, Interpreter};

/// What the kernels and the memory saw.
#[derive(Default)]
pub struct Counts {
    pub evals: AtomicUsize,
    pub steps: AtomicUsize,
    /// Pieces of memory that are not dropped yet.
    pub pieces: AtomicUsize,
    /// Bytes of the pieces, those dropped included.
    pub bytes: AtomicUsize,
    /// Copies between and inside pieces.
    pub copies: AtomicUsize,
}

/// Memory whose fresh contents are poison, which takes offsets of multiples of 256 only, and copies weights.
pub struct Particular(pub Arc<Counts>);

/// A piece of [`Particular`].
pub struct Piece {
    bytes: Vec<u8>,
    counts: Arc<Counts>,
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.counts.pieces.fetch_sub(1, Relaxed);
    }
}

impl Particular {
    fn piece(&self, bytes: Vec<u8>) -> Piece {
        self.0.pieces.fetch_add(1, Relaxed);
        self.0.bytes.fetch_add(bytes.len(), Relaxed);
        Piece { bytes, counts: self.0.clone() }
    }
}

impl Memory for Particular {
    type Buf = Piece;
    const ALIGN: usize = 256;

    fn alloc(&mut self, buffer: &BufferDesc) -> Result<Piece, BackendError> {
        if buffer.size > 1 << 30 {
            let message = format!("`{}`: there are no {} bytes", buffer.name, buffer.size);
            return Err(BackendError::new(ErrorCode::OutOfMemory, message));
        }
        Ok(self.piece(vec![0xff; buffer.size]))
    }

    fn load_weight(&mut self, weight: Weight) -> Result<(Piece, Placement), BackendError> {
        Ok((self.piece(weight.data.to_vec()), Placement::Copied))
    }

    fn write(&mut self, to: &mut Piece, offset: usize, src: &[u8]) -> Result<(), BackendError> {
        to.bytes[offset..offset + src.len()].copy_from_slice(src);
        Ok(())
    }

    fn read(&mut self, from: &Piece, offset: usize, dst: &mut [u8]) -> Result<(), BackendError> {
        dst.copy_from_slice(&from.bytes[offset..offset + dst.len()]);
        Ok(())
    }

    fn copy(&mut self, to: (&mut Piece, usize), from: (&Piece, usize), len: usize) -> Result<(), BackendError> {
        self.0.copies.fetch_add(1, Relaxed);
        to.0.bytes[to.1..to.1 + len].copy_from_slice(&from.0.bytes[from.1..from.1 + len]);
        Ok(())
    }

    fn copy_within(&mut self, buf: &mut Piece, to: usize, from: usize, len: usize) -> Result<(), BackendError> {
        self.0.copies.fetch_add(1, Relaxed);
        assert!(to + len <= from || from + len <= to, "the ranges overlap");
        buf.bytes.copy_within(from..from + len, to);
        Ok(())
    }
}

/// How the kernels see bytes.
pub trait Look: Memory {
    fn bytes(buf: &Self::Buf) -> &[u8];
    fn bytes_mut(buf: &mut Self::Buf) -> &mut [u8];
}

impl Look for HostMemory {
    fn bytes(buf: &HostBuf) -> &[u8] {
        buf.bytes()
    }
    fn bytes_mut(buf: &mut HostBuf) -> &mut [u8] {
        buf.bytes_mut().unwrap()
    }
}

impl Look for Particular {
    fn bytes(buf: &Piece) -> &[u8] {
        &buf.bytes
    }
    fn bytes_mut(buf: &mut Piece) -> &mut [u8] {
        &mut buf.bytes
    }
}

pub struct TestKernels<M> {
    memory: M,
    counts: Arc<Counts>,
}

const CLAIMS: &[Claim] = &[
    Claim::new("add", &[F32, F32]),
    Claim::new("mul", &[F32, F32]),
    Claim::new("linear", &[F32, F32]),
    Claim::new("gather_rows", &[F32, INDICES]),
    Claim::new("scatter_rows", &[F32, F32, INDICES]),
    Claim::new("add_rms_norm", &[F32, F32, F32]),
];

impl<M: Look> Kernels for TestKernels<M> {
    type Memory = M;

    fn memory(&mut self) -> &mut M {
        &mut self.memory
    }

    fn claims(&self) -> &'static [Claim] {
        CLAIMS
    }

    fn eval(&mut self, node: NodeView<'_, M::Buf>) -> Result<(), BackendError> {
        self.counts.evals.fetch_add(1, Relaxed);
        let NodeView { op, inputs, mut outputs } = node;
        let mut operands = Vec::new();
        if op.changes_in_place().is_some() {
            let table = &outputs[0];
            operands.push((table.dims.clone(), M::bytes(table.buf)[table.offset..table.offset + table.len].to_vec()));
        }
        for (view, name) in inputs.iter().zip(&op.operand_names()[operands.len()..]) {
            assert_eq!((view.name, view.offset % M::ALIGN), (*name, 0));
            assert_eq!(view.rows() * view.row_bytes(), view.len);
            operands.push((view.dims.clone(), M::bytes(view.buf)[view.offset..view.offset + view.len].to_vec()));
        }
        for (view, result) in outputs.iter_mut().zip(compute(op, &operands)?) {
            assert_eq!((view.offset % M::ALIGN, view.len), (0, result.len()));
            M::bytes_mut(view.buf)[view.offset..view.offset + view.len].copy_from_slice(&result);
        }
        Ok(())
    }

    fn end_step(&mut self) -> Result<(), BackendError> {
        self.counts.steps.fetch_add(1, Relaxed);
        Ok(())
    }
}

/// The results of `op` as bytes, from the sizes and bytes of its operands. A product with NaN makes it panic.
pub fn compute(op: &Op, x: &[(Vec<usize>, Vec<u8>)]) -> Result<Vec<Vec<u8>>, BackendError> {
    let f = |i: usize| floats(&x[i].1);
    let width = |i: usize| *x[i].0.last().unwrap();
    let pairs = |f: fn(f32, f32) -> f32, a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f(*a, *b)).collect();
    let row = |value: i32, limit: usize| match usize::try_from(value) {
        Ok(row) if row < limit => Ok(row),
        _ => Err(BackendError::invalid(format!("row {value} of {limit}"))),
    };
    let result: Vec<f32> = match op {
        Op::Add => pairs(|a, b| a + b, &f(0), &f(1)),
        Op::Mul if f(1).iter().any(|b| b.is_nan()) => panic_any("a product with NaN"),
        Op::Mul => pairs(|a, b| a * b, &f(0), &f(1)),
        Op::Linear => {
            let (a, w) = (f(0), f(1));
            let (a, w) = (a.chunks_exact(width(0)), w.chunks_exact(width(0)));
            a.flat_map(|a| w.clone().map(|w| a.iter().zip(w).map(|(a, w)| a * w).sum::<f32>())).collect()
        }
        Op::GatherRows => {
            let (table, d) = (f(0), width(0));
            let mut y = Vec::new();
            for i in ints(&x[1].1) {
                let row = row(i, x[0].0[0])?;
                y.extend_from_slice(&table[row * d..(row + 1) * d]);
            }
            y
        }
        Op::ScatterRows => {
            let (mut table, rows, d) = (f(0), f(1), width(0));
            for (t, i) in ints(&x[2].1).into_iter().enumerate() {
                let row = row(i, x[0].0[0])?;
                table[row * d..(row + 1) * d].copy_from_slice(&rows[t * d..(t + 1) * d]);
            }
            table
        }
        Op::AddRmsNorm { eps } => {
            let sum: Vec<f32> = pairs(|a, b| a + b, &f(0), &f(1));
            let norm = |row: &[f32]| {
                let scale = 1.0 / (row.iter().map(|v| v * v).sum::<f32>() / row.len() as f32 + eps).sqrt();
                pairs(|a, b| a * b, &row.iter().map(|v| v * scale).collect::<Vec<_>>(), &f(2))
            };
            let y: Vec<f32> = sum.chunks_exact(width(0)).flat_map(norm).collect();
            return Ok(vec![f32_bytes(&sum), f32_bytes(&y)]);
        }
        other => return Err(BackendError::unsupported(other.name())),
    };
    Ok(vec![f32_bytes(&result)])
}

/// A device over the particular memory, and what its kernels see.
pub fn particular() -> (Box<dyn Device>, Arc<Counts>) {
    let counts = Arc::new(Counts::default());
    let kernels = TestKernels { memory: Particular(counts.clone()), counts: counts.clone() };
    (Box::new(Interpreter::new(kernels)), counts)
}

/// A device over the host's memory, and what its kernels see.
pub fn host() -> (Box<dyn Device>, Arc<Counts>) {
    let counts = Arc::new(Counts::default());
    (Box::new(Interpreter::new(TestKernels { memory: HostMemory, counts: counts.clone() })), counts)
}

/// One of each.
pub fn devices() -> [Box<dyn Device>; 2] {
    [host().0, particular().0]
}

/// The buffers for `graph`: every value in one of its own, or those that are no weights in one, each right after the
/// last with `gap` bytes between.
pub fn bind(
    device: &mut dyn Device,
    graph: &Graph,
    contents: &[(&str, Vec<u8>)],
    together: Option<usize>,
) -> Vec<Binding> {
    let size = |ty: TensorType| ty.bytes(&graph.range().max).unwrap();
    let desc = |name: &str, size| BufferDesc { name: name.into(), size, usage: BufferUsage::State };
    let all: usize = graph.bound_values().map(|(_, v)| size(v.ty) + together.unwrap_or(0)).sum();
    let shared = together.map(|gap| (device.alloc(&desc("shared", all + gap)).unwrap(), gap));
    let mut next = shared.map_or(0, |(_, gap)| gap);
    let mut bindings = Vec::new();
    for (value, bound) in graph.bound_values() {
        let data = contents.iter().find(|(name, _)| *name == bound.name).map(|(_, data)| data.clone());
        let location = if bound.kind == ValueKind::Weight {
            let data = Bytes::from(data.clone().unwrap());
            let weight = Weight { name: bound.name.clone(), ty: bound.ty, data, may_repack: false };
            Location { buffer: device.load_weight(weight).unwrap().buffer, offset: 0 }
        } else if let Some((buffer, gap)) = shared {
            let offset = next;
            next += size(bound.ty) + gap;
            Location { buffer, offset }
        } else {
            Location { buffer: device.alloc(&desc(&bound.name, size(bound.ty))).unwrap(), offset: 0 }
        };
        bindings.push(Binding { value, location });
        if let Some(data) = data.filter(|_| bound.kind != ValueKind::Weight) {
            device.write(location.buffer, location.offset, &data).unwrap();
        }
    }
    bindings
}

/// The bytes of a value, or of the one it lives in, at this step.
pub fn read(
    device: &mut dyn Device,
    graph: &Graph,
    bindings: &[Binding],
    value: ValueId,
    symbols: &SymbolValues,
) -> Vec<u8> {
    let at = location(graph, bindings, value);
    let mut bytes = vec![0; graph.value(value).ty.bytes(symbols).unwrap()];
    device.read(at.buffer, at.offset, &mut bytes).unwrap();
    bytes
}

/// Where a value lives.
pub fn location(graph: &Graph, bindings: &[Binding], value: ValueId) -> Location {
    bindings.iter().find(|b| b.value == graph.storage_of(value)).unwrap().location
}

/// The value that is an output under this name.
pub fn output(graph: &Graph, name: &str) -> ValueId {
    graph.outputs().iter().find(|o| o.name == name).unwrap().value
}

/// The buffer of a value's name.
pub fn buffer(graph: &Graph, bindings: &[Binding], name: &str) -> BufferId {
    let (id, _) = graph.bound_values().find(|(_, v)| v.name == name).unwrap();
    location(graph, bindings, id).buffer
}

pub fn ty(dtype: DType, dims: &[Dim]) -> TensorType {
    TensorType::new(dtype, dims).unwrap()
}

/// `[T, width] f32`
pub fn tokens_by(width: usize) -> TensorType {
    ty(DType::F32, &[Symbol::T.into(), width.into()])
}

/// From nothing up to these.
pub fn up_to(tokens: usize, outputs: usize) -> SymbolRange {
    SymbolRange { min: SymbolValues::new(0, 0, 0, 0), max: SymbolValues::new(tokens, 1, outputs, 64) }
}

/// A step of this many tokens and output rows.
pub fn step(tokens: usize, outputs: usize) -> SymbolValues {
    SymbolValues::new(tokens, 1, outputs, 1)
}

pub fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

pub fn i32_bytes(values: &[i32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

pub fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

fn ints(bytes: &[u8]) -> Vec<i32> {
    bytes.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b)).collect()
}
