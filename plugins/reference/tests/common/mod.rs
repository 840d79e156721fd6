//! Runs a graph through the public traits: what a host does, in one struct.

#![allow(dead_code)] // each test file uses its part

use std::collections::HashMap;

use camelid_core::backend::{
    Backend, BackendError, Binding, BufferDesc, BufferId, BufferUsage, Location, Options, PlanId, Support, Weight,
};
use camelid_core::graph::{Graph, Symbol, SymbolRange, SymbolValues, TensorType, ValueKind};
use camelid_core::{Bytes, DType, Device, lower};
use camelid_reference::ReferenceBackend;

/// The contents of bound values by name.
pub type Contents = HashMap<String, Vec<u8>>;

pub fn open(threads: usize) -> Box<dyn Device> {
    let mut options = Options::default();
    options.set("threads", threads.to_string());
    ReferenceBackend.open(0, &options).unwrap()
}

/// A device with one graph on it.
pub struct Rig {
    pub device: Box<dyn Device>,
    pub graph: Graph,
    pub plan: PlanId,
    /// Buffer and type of every bound value and output.
    pub buffers: HashMap<String, (BufferId, TensorType)>,
}

impl Rig {
    /// Loads the weights among `contents`, makes a buffer of its own for every other bound value, and compiles.
    pub fn new(graph: &Graph, contents: &Contents, threads: usize) -> Rig {
        let mut device = open(threads);
        let (mut bindings, mut buffers) = (Vec::new(), HashMap::new());
        for (id, value) in graph.bound_values() {
            let name = value.name.clone();
            let buffer = if value.kind == ValueKind::Weight {
                let data = Bytes::from(contents[&name].clone());
                let weight = Weight { name: name.clone(), ty: value.ty, data, may_repack: false };
                device.load_weight(weight).unwrap().buffer
            } else {
                let size = value.ty.bytes(&graph.range().max).unwrap();
                device.alloc(&BufferDesc { name: name.clone(), size, usage: BufferUsage::State }).unwrap()
            };
            bindings.push(Binding { value: id, location: Location { buffer, offset: 0 } });
            buffers.insert(name, (buffer, value.ty));
        }
        for output in graph.outputs() {
            let storage = graph.value(graph.storage_of(output.value));
            let (buffer, _) = buffers[&storage.name];
            buffers.insert(output.name.clone(), (buffer, graph.value(output.value).ty));
        }
        let plan = device.compile(graph, &bindings).unwrap();
        let mut rig = Rig { device, graph: graph.clone(), plan, buffers };
        rig.write(contents);
        rig
    }

    /// Writes the inputs and states among `contents`.
    pub fn write(&mut self, contents: &Contents) {
        for (_, value) in self.graph.bound_values().filter(|(_, v)| v.kind != ValueKind::Weight) {
            if let Some(bytes) = contents.get(&value.name) {
                self.device.write(self.buffers[&value.name].0, 0, bytes).unwrap();
            }
        }
    }

    /// One step.
    pub fn run(&mut self, symbols: &SymbolValues) -> Result<(), BackendError> {
        self.device.run(self.plan, symbols)
    }

    /// The bytes of a bound value or output as large as it is at this step.
    pub fn read(&mut self, name: &str, symbols: &SymbolValues) -> Vec<u8> {
        let (buffer, ty) = self.buffers[name];
        let mut bytes = vec![0; ty.bytes(symbols).unwrap()];
        self.device.read(buffer, 0, &mut bytes).unwrap();
        bytes
    }
}

/// Writes `contents`, runs one step on a device of its own, and gives back what `names` say.
pub fn evaluate(graph: &Graph, contents: &Contents, symbols: &SymbolValues, names: &[&str]) -> Vec<Vec<u8>> {
    let mut rig = Rig::new(graph, contents, 2);
    rig.run(symbols).unwrap();
    names.iter().map(|n| rig.read(n, symbols)).collect()
}

/// The graph as a host would lower it for this backend.
pub fn lowered_for_device(graph: &Graph) -> Graph {
    let device = open(1);
    lower::lower(graph, |node| matches!(device.supports(graph, node), Support::Lower { .. })).unwrap()
}

/// A type from symbols and numbers.
pub fn ty(dtype: DType, dims: &[camelid_core::graph::Dim]) -> TensorType {
    TensorType::new(dtype, dims).unwrap()
}

/// `[T, width]`
pub fn tokens_by(dtype: DType, width: usize) -> TensorType {
    ty(dtype, &[Symbol::T.into(), width.into()])
}

/// From nothing up to these.
pub fn up_to(max: SymbolValues) -> SymbolRange {
    SymbolRange { min: SymbolValues::new(0, 0, 0, 0), max }
}

pub fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

pub fn i32_bytes(values: &[i32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

pub fn floats(dtype: DType, bytes: &[u8]) -> Vec<f32> {
    let mut values = vec![0.0; bytes.len() / dtype.block_bytes() * dtype.block_elems()];
    camelid_core::quant::dequantize(dtype, bytes, &mut values).unwrap();
    values
}

/// `values` in an unblocked type or q8_0.
pub fn stored(dtype: DType, values: &[f32]) -> Vec<u8> {
    match dtype {
        DType::F16 => values.iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect(),
        DType::BF16 => values.iter().flat_map(|v| half::bf16::from_f32(*v).to_le_bytes()).collect(),
        DType::Q8_0 => {
            let mut bytes = vec![0; dtype.row_bytes(values.len()).unwrap()];
            camelid_core::quant::quantize(dtype, values, &mut bytes).unwrap();
            bytes
        }
        _ => f32_bytes(values),
    }
}

/// `n` numbers in -1..1 that look random and are the same in every run.
pub fn noise(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

/// Bytes of a weight in any type whose numbers are small and finite.
pub fn weight_bytes(dtype: DType, seed: u64, rows: usize, columns: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = match dtype.is_block() {
        false => return stored(dtype, &noise(seed, rows * columns)),
        true => noise(seed, rows * dtype.row_bytes(columns).unwrap()).iter().map(|v| (v * 127.0) as i8 as u8).collect(),
    };
    for block in bytes.chunks_exact_mut(dtype.block_bytes()) {
        let scale = half::f16::from_f32(0.01).to_le_bytes();
        // The f16 scales: first in the 32-element formats, last or nearly last in the others.
        for at in [0, 2, dtype.block_bytes() - 4, dtype.block_bytes() - 2] {
            block[at..at + 2].copy_from_slice(&scale);
        }
    }
    bytes
}
