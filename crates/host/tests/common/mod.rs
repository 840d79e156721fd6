//! A backend that computes nothing: it records the calls it gets and answers as a test wants.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use camelid_core::backend::{
    Backend, BackendError, Binding, BufferDesc, BufferId, Device, DeviceInfo, DeviceKind, Devices, ErrorCode,
    LoadedWeight, Location, Options, Placement, PlanId, Support, Weight,
};
use camelid_core::graph::{Graph, NodeId, SymbolRange, SymbolValues, TensorType};
use camelid_core::{Bytes, DType};
use camelid_host::{DeviceHandle, Registry};

/// What the device shall do, and what it was asked.
#[derive(Default)]
pub struct Script {
    /// The calls so far.
    pub calls: Mutex<Vec<String>>,
    /// The answer to `supports`, by the operation's name; the others are computed.
    pub supports: Mutex<BTreeMap<&'static str, Support>>,
    /// Calls that fail, by name.
    pub failing: Mutex<BTreeMap<&'static str, ErrorCode>>,
    /// A call that panics.
    pub panicking: Mutex<Option<&'static str>>,
    /// Ids given out; a test turns it back to make the device repeat one.
    pub next_id: Mutex<u64>,
    /// Contents of the buffers.
    memory: Mutex<BTreeMap<u64, Vec<u8>>>,
}

impl Script {
    pub fn take_calls(&self) -> Vec<String> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }

    fn record(&self, name: &'static str, call: String) -> Result<(), BackendError> {
        self.calls.lock().unwrap().push(call);
        if *self.panicking.lock().unwrap() == Some(name) {
            panic!("the fake device panics in {name}, as it was told");
        }
        match self.failing.lock().unwrap().get(name) {
            None => Ok(()),
            Some(code) => Err(BackendError::new(*code, format!("{name} fails as told"))),
        }
    }

    fn next(&self) -> u64 {
        let mut next = self.next_id.lock().unwrap();
        *next += 1;
        *next
    }
}

pub struct FakeBackend {
    pub name: String,
    pub devices: Devices,
    pub script: Arc<Script>,
}

impl FakeBackend {
    pub fn new(name: &str, script: &Arc<Script>) -> FakeBackend {
        let list = vec![DeviceInfo { name: "Fake 100".into(), kind: DeviceKind::Accelerator, memory: None }];
        FakeBackend { name: name.into(), devices: Devices { list, note: None }, script: script.clone() }
    }
}

impl Backend for FakeBackend {
    fn name(&self) -> &str {
        &self.name
    }

    fn version(&self) -> &str {
        "0.9.1"
    }

    fn devices(&self) -> Result<Devices, BackendError> {
        self.script.record("devices", "devices".into()).map(|()| self.devices.clone())
    }

    fn open(&self, index: usize, options: &Options) -> Result<Box<dyn Device>, BackendError> {
        options.reject_unknown(&["threads"])?;
        self.script.record("open", format!("open {index}"))?;
        Ok(Box::new(FakeDevice(self.script.clone())))
    }
}

struct FakeDevice(Arc<Script>);

impl Device for FakeDevice {
    fn supports(&self, graph: &Graph, node: NodeId) -> Support {
        let op = graph.node(node).op.name();
        self.0.supports.lock().unwrap().get(op).cloned().unwrap_or(Support::Yes)
    }

    fn alloc(&mut self, buffer: &BufferDesc) -> Result<BufferId, BackendError> {
        self.0.record("alloc", format!("alloc {} {}", buffer.name, buffer.size))?;
        let id = self.0.next();
        self.0.memory.lock().unwrap().insert(id, vec![0; buffer.size]);
        Ok(BufferId(id))
    }

    fn load_weight(&mut self, weight: Weight) -> Result<LoadedWeight, BackendError> {
        self.0.record("load_weight", format!("load_weight {} {}", weight.name, weight.data.len()))?;
        Ok(LoadedWeight { buffer: BufferId(self.0.next()), placement: Placement::Repacked })
    }

    fn write(&mut self, buffer: BufferId, offset: usize, src: &[u8]) -> Result<(), BackendError> {
        self.0.record("write", format!("write {} {offset} {}", buffer.0, src.len()))?;
        self.0.memory.lock().unwrap().get_mut(&buffer.0).unwrap()[offset..][..src.len()].copy_from_slice(src);
        Ok(())
    }

    fn read(&mut self, buffer: BufferId, offset: usize, dst: &mut [u8]) -> Result<(), BackendError> {
        self.0.record("read", format!("read {} {offset} {}", buffer.0, dst.len()))?;
        dst.copy_from_slice(&self.0.memory.lock().unwrap()[&buffer.0][offset..][..dst.len()]);
        Ok(())
    }

    fn copy(&mut self, to: Location, from: Location, len: usize) -> Result<(), BackendError> {
        self.0.record("copy", format!("copy {}+{} {}+{} {len}", to.buffer.0, to.offset, from.buffer.0, from.offset))?;
        let mut memory = self.0.memory.lock().unwrap();
        let bytes = memory[&from.buffer.0][from.offset..][..len].to_vec();
        memory.get_mut(&to.buffer.0).unwrap()[to.offset..][..len].copy_from_slice(&bytes);
        Ok(())
    }

    fn free(&mut self, buffer: BufferId) {
        let _ = self.0.record("free", format!("free {}", buffer.0));
    }

    fn compile(&mut self, graph: &Graph, bindings: &[Binding]) -> Result<PlanId, BackendError> {
        self.0.record("compile", format!("compile {} nodes, {} bindings", graph.nodes().len(), bindings.len()))?;
        Ok(PlanId(self.0.next()))
    }

    fn run(&mut self, plan: PlanId, _: &SymbolValues) -> Result<(), BackendError> {
        self.0.record("run", format!("run {}", plan.0))
    }

    fn free_plan(&mut self, plan: PlanId) {
        let _ = self.0.record("free_plan", format!("free_plan {}", plan.0));
    }

    fn sync(&mut self) -> Result<(), BackendError> {
        self.0.record("sync", "sync".into())
    }
}

impl Drop for FakeDevice {
    fn drop(&mut self) {
        let _ = self.0.record("close", "close".into());
    }
}

/// An open device of the backend `fake`; its calls so far are forgotten.
pub fn open() -> (DeviceHandle, Arc<Script>) {
    let script = Arc::new(Script::default());
    let mut registry = Registry::new();
    registry.register(Box::new(FakeBackend::new("fake", &script))).unwrap();
    let device = registry.open("fake", 0, &Options::default()).unwrap();
    script.take_calls();
    (device, script)
}

/// One to eight tokens.
pub fn range() -> SymbolRange {
    SymbolRange { min: SymbolValues::new(1, 1, 1, 1), max: SymbolValues::new(8, 2, 8, 64) }
}

pub fn weight(name: &str, ty: TensorType) -> Weight {
    let size = ty.bytes(&SymbolValues::new(0, 0, 0, 0)).unwrap();
    Weight { name: name.into(), ty, data: Bytes::from(vec![0; size]), may_repack: true }
}

pub fn f32(dims: &[camelid_core::graph::Dim]) -> TensorType {
    TensorType::new(DType::F32, dims).unwrap()
}
