//! A backend that does what a test tells it to.

use std::panic::panic_any;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use camelid_core::Bytes;
use camelid_core::backend::{
    Backend, BackendError, Binding, BufferDesc, BufferId, Device, DeviceInfo, DeviceKind, Devices, ErrorCode,
    LoadedWeight, Location, Options, Placement, PlanId, Support, Weight,
};
use camelid_core::graph::{Graph, NodeId, SymbolValues};
use camelid_core::ops::Op;

/// What the fake backend was asked, and where it fails.
#[derive(Default)]
pub(super) struct Script {
    pub(super) panics_in: Mutex<Option<&'static str>>,
    pub(super) keeps: Mutex<Vec<Bytes>>,
    pub(super) keeps_weights: bool,
    pub(super) refuses_weights: bool,
    pub(super) seen: Mutex<Vec<String>>,
    pub(super) closed: AtomicUsize,
    pub(super) shut_down: AtomicUsize,
}

/// A payload that panics again when it is dropped.
struct Sting;

impl Drop for Sting {
    fn drop(&mut self) {
        panic!("and once more");
    }
}

impl Script {
    fn at(&self, function: &'static str) {
        self.seen.lock().unwrap().push(function.to_owned());
        if *self.panics_in.lock().unwrap() == Some(function) {
            panic_any(Sting);
        }
    }
}

pub(super) struct Fake(pub(super) Arc<Script>);
struct FakeDevice(Arc<Script>, Vec<u8>);

impl Drop for Fake {
    fn drop(&mut self) {
        self.0.shut_down.fetch_add(1, Ordering::SeqCst);
        self.0.at("shutdown");
    }
}

impl Drop for FakeDevice {
    fn drop(&mut self) {
        self.0.closed.fetch_add(1, Ordering::SeqCst);
        self.0.at("device_close");
    }
}

impl Backend for Fake {
    fn name(&self) -> &str {
        "fake"
    }

    fn version(&self) -> &str {
        "1.2.3"
    }

    fn devices(&self) -> Result<Devices, BackendError> {
        self.0.at("device_count");
        let device = DeviceInfo { name: "Ünit".into(), kind: DeviceKind::Accelerator, memory: Some(1 << 40) };
        Ok(Devices { list: vec![device], note: Some("one is asleep".into()) })
    }

    fn open(&self, index: usize, options: &Options) -> Result<Box<dyn Device>, BackendError> {
        self.0.at("device_open");
        options.reject_unknown(&["threads"])?;
        assert_eq!(index, 0);
        Ok(Box::new(FakeDevice(self.0.clone(), vec![0; 16])))
    }
}

impl Device for FakeDevice {
    fn supports(&self, graph: &Graph, node: NodeId) -> Support {
        self.0.at("graph_supports");
        match graph.node(node).op {
            Op::Linear => Support::Yes,
            Op::Swiglu => Support::Lower { reason: "too new".into() },
            _ => Support::No { reason: "ü".repeat(400) },
        }
    }

    fn alloc(&mut self, buffer: &BufferDesc) -> Result<BufferId, BackendError> {
        self.0.at("buffer_alloc");
        if buffer.size > 16 {
            return Err(BackendError::new(ErrorCode::OutOfMemory, format!("`{}`: 16 bytes there are", buffer.name)));
        }
        Ok(BufferId(0))
    }

    fn load_weight(&mut self, weight: Weight) -> Result<LoadedWeight, BackendError> {
        if self.0.keeps_weights {
            self.0.keeps.lock().unwrap().push(weight.data.clone());
        }
        self.0.at("weight_load");
        if self.0.refuses_weights {
            return Err(BackendError::unsupported("not that one"));
        }
        // Not the truth if it keeps the bytes.
        Ok(LoadedWeight { buffer: BufferId(1), placement: Placement::Copied })
    }

    fn write(&mut self, buffer: BufferId, offset: usize, src: &[u8]) -> Result<(), BackendError> {
        self.0.at("buffer_write");
        assert_eq!(buffer, BufferId(0));
        self.1[offset..offset + src.len()].copy_from_slice(src);
        Ok(())
    }

    fn read(&mut self, _: BufferId, offset: usize, dst: &mut [u8]) -> Result<(), BackendError> {
        self.0.at("buffer_read");
        dst.copy_from_slice(&self.1[offset..offset + dst.len()]);
        Ok(())
    }

    fn copy(&mut self, to: Location, from: Location, len: usize) -> Result<(), BackendError> {
        self.0.at("buffer_copy");
        self.1.copy_within(from.offset..from.offset + len, to.offset);
        Ok(())
    }

    fn free(&mut self, _: BufferId) {
        self.0.at("buffer_free");
    }

    fn compile(&mut self, graph: &Graph, bindings: &[Binding]) -> Result<PlanId, BackendError> {
        self.0.at("plan_compile");
        self.0.seen.lock().unwrap().push(format!("{graph}{:?}", bindings.last()));
        Ok(PlanId(7))
    }

    fn run(&mut self, plan: PlanId, symbols: &SymbolValues) -> Result<(), BackendError> {
        self.0.at("plan_run");
        self.0.seen.lock().unwrap().push(format!("{plan:?} {symbols:?}"));
        Ok(())
    }

    fn free_plan(&mut self, _: PlanId) {
        self.0.at("plan_free");
    }

    fn sync(&mut self) -> Result<(), BackendError> {
        self.0.at("device_sync");
        Ok(())
    }
}
