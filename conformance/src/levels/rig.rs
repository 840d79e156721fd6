//! A small graph on a device with memory for all of its values: what the cases that look around operations run.

use camelid_core::backend::{BufferDesc, BufferUsage};
use camelid_core::graph::{
    Dim, Graph, GraphBuilder, GraphError, Symbol, SymbolRange, SymbolValues, TensorType, ValueId, ValueKind,
};
use camelid_core::ops::Op;
use camelid_core::{Bytes, DType};
use camelid_host::{Buffer, DeviceHandle, OnUnsupported, Plan};

use crate::case::Problem;

/// Columns of the graphs that [`sum`] makes.
pub const WIDTH: usize = 5;

/// A compiled graph and the memory it works on.
pub struct Rig {
    plan: Plan,
    /// Every bound value's memory, by its name.
    buffers: Vec<(String, Buffer)>,
}

/// Memory that a value gets from somewhere else.
pub type Given<'a> = (&'a str, &'a Buffer);

impl Rig {
    /// Compiles `graph` as the device takes it; memory of exactly the largest size for every value that is not `given`.
    ///
    /// # Errors
    /// What the host says.
    pub fn new(device: &DeviceHandle, graph: Graph, given: &[Given<'_>]) -> Result<Rig, Problem> {
        let graph = device.place(&graph, OnUnsupported::Lower)?.graph;
        let (mut buffers, mut bindings) = (Vec::new(), Vec::new());
        for (id, value) in graph.bound_values() {
            // What the host reads is known by its name as an output.
            let output =
                graph.outputs().iter().find(|o| graph.storage_of(o.value) == id && value.kind == ValueKind::Computed);
            let name = output.map_or(&value.name, |o| &o.name);
            let buffer = match given.iter().find(|(given, _)| given == name) {
                Some((_, buffer)) => (*buffer).clone(),
                None => device.alloc(desc(&graph, id)?)?,
            };
            bindings.push((id, buffer.clone(), 0));
            buffers.push((name.clone(), buffer));
        }
        let plan = device.compile(&graph, &bindings)?;
        Ok(Rig { plan, buffers })
    }

    /// The memory of the operand or output called `name`.
    ///
    /// # Panics
    /// If there is none: the cases name what they built.
    pub fn buffer(&self, name: &str) -> &Buffer {
        &self.buffers.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("no value `{name}`")).1
    }

    /// Writes numbers to the front of a value.
    ///
    /// # Errors
    /// What the host says.
    pub fn write(&self, name: &str, values: &[f32]) -> Result<(), Problem> {
        Ok(self.buffer(name).write(0, &bytes(values))?)
    }

    /// Writes indices to the front of a value.
    ///
    /// # Errors
    /// What the host says.
    pub fn write_ints(&self, name: &str, values: &[i32]) -> Result<(), Problem> {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Ok(self.buffer(name).write(0, &bytes)?)
    }

    /// Runs for so many tokens.
    ///
    /// # Errors
    /// What the host says.
    pub fn run(&self, tokens: usize) -> Result<(), Problem> {
        Ok(self.plan.run(&SymbolValues::new(tokens, 1, 1, 1))?)
    }

    /// The first `count` numbers of a value.
    ///
    /// # Errors
    /// What the host says.
    pub fn read(&self, name: &str, count: usize) -> Result<Vec<f32>, Problem> {
        read(self.buffer(name), count)
    }
}

fn desc(graph: &Graph, id: ValueId) -> Result<BufferDesc, Problem> {
    let value = graph.value(id);
    let size = value.ty.bytes(&graph.range().max);
    let size = size.ok_or_else(|| Problem::Blocked(format!("`{}` is too large", value.name)))?;
    let usage = match value.kind {
        ValueKind::State => BufferUsage::State,
        ValueKind::Computed => BufferUsage::Output,
        _ => BufferUsage::Input,
    };
    Ok(BufferDesc { name: value.name.clone(), size, usage })
}

/// Memory for `count` numbers.
///
/// # Errors
/// What the host says.
pub fn memory(device: &DeviceHandle, name: &str, count: usize) -> Result<Buffer, Problem> {
    Ok(device.alloc(BufferDesc { name: name.into(), size: 4 * count, usage: BufferUsage::State })?)
}

/// The first `count` numbers of a buffer.
///
/// # Errors
/// What the host says.
pub fn read(buffer: &Buffer, count: usize) -> Result<Vec<f32>, Problem> {
    let mut bytes = vec![0; 4 * count];
    buffer.read(0, &mut bytes)?;
    Ok(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
}

/// The bytes of numbers.
pub fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// Symbols from one token to `tokens`, one of everything else.
pub fn up_to(tokens: usize) -> SymbolRange {
    SymbolRange { min: SymbolValues::new(1, 1, 1, 1), max: SymbolValues::new(tokens, 1, 1, 1) }
}

/// `[T, columns] f32`.
pub fn rows(columns: usize) -> TensorType {
    fixed_or_tokens(DType::F32, &[Dim::Sym(Symbol::T), Dim::Fixed(columns)])
}

/// `dims` f32.
pub fn fixed(dims: &[usize]) -> TensorType {
    let dims: Vec<Dim> = dims.iter().map(|n| Dim::Fixed(*n)).collect();
    fixed_or_tokens(DType::F32, &dims)
}

/// `[T] i32`.
pub fn indices() -> TensorType {
    fixed_or_tokens(DType::I32, &[Dim::Sym(Symbol::T)])
}

fn fixed_or_tokens(dtype: DType, dims: &[Dim]) -> TensorType {
    TensorType::new(dtype, dims).expect("f32 and i32 rows of any length are whole")
}

/// A graph made by `build`, for at most `tokens` tokens.
///
/// # Errors
/// If the case's graph makes no sense.
pub fn graph(tokens: usize, build: impl FnOnce(&mut GraphBuilder) -> Result<(), GraphError>) -> Result<Graph, Problem> {
    let mut g = GraphBuilder::new(up_to(tokens));
    build(&mut g).map_err(|e| Problem::Blocked(e.to_string()))?;
    Ok(g.finish())
}

/// `y = a + b` of `[T, WIDTH]`, for at most `tokens` tokens. Sums of whole numbers below 128 are exact in every class.
///
/// # Errors
/// As [`graph`].
pub fn sum(tokens: usize) -> Result<Graph, Problem> {
    graph(tokens, |g| {
        let (a, b) = (g.input("a", rows(WIDTH))?, g.input("b", rows(WIDTH))?);
        let y = g.push(Op::Add, &[a, b])?[0];
        g.output("y", y)
    })
}

/// `count` whole numbers below 128, other ones for every `salt`.
pub fn whole(count: usize, salt: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 31 + salt * 17 + 3) % 127) as f32).collect()
}

/// The weight `values` of shape `dims`, `skew` bytes into the memory it comes in.
///
/// # Errors
/// What the host says.
pub fn weight(
    device: &DeviceHandle,
    name: &str,
    dims: &[usize],
    values: &[f32],
    skew: usize,
) -> Result<Buffer, Problem> {
    let mut all = vec![0xa5; skew];
    all.extend(bytes(values));
    let len = all.len();
    let data = Bytes::from(all).slice(skew..len).expect("it is that long");
    let weight = camelid_core::backend::Weight { name: name.into(), ty: fixed(dims), data, may_repack: true };
    Ok(device.load_weight(weight)?.0)
}
