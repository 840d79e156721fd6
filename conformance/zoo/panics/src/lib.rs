//! A plugin whose device panics in the function that the option `in` names, with a payload that panics again when it is
//! dropped.

#![deny(missing_docs)]

use std::panic::panic_any;

use camelid_sdk::core::backend::{
    BackendError, Binding, BufferDesc, BufferId, DeviceInfo, DeviceKind, Devices, LoadedWeight, Location, Options,
    Placement, PlanId, Support, Weight,
};
use camelid_sdk::core::graph::{Graph, NodeId, SymbolValues};
use camelid_sdk::{Backend, Device};

camelid_sdk::export_backend!("panics", || Box::new(Panics));

struct Panics;

/// The function to panic in, and the last id given.
struct PanicDevice(String, u64);

/// Panics again when it is dropped.
struct Sting;

impl Drop for Sting {
    fn drop(&mut self) {
        panic!("and once more");
    }
}

impl PanicDevice {
    fn at(&self, function: &str) {
        if self.0 == function {
            panic_any(Sting);
        }
    }

    fn next(&mut self) -> u64 {
        self.1 += 1;
        self.1
    }
}

impl Drop for PanicDevice {
    fn drop(&mut self) {
        self.at("device_close");
    }
}

impl Backend for Panics {
    fn name(&self) -> &str {
        "panics"
    }

    fn version(&self) -> &str {
        env!("CARGO_PKG_VERSION")
    }

    fn devices(&self) -> Result<Devices, BackendError> {
        let device = DeviceInfo { name: "a nervous one".into(), kind: DeviceKind::Cpu, memory: None };
        Ok(Devices { list: vec![device], note: None })
    }

    fn open(&self, _: usize, options: &Options) -> Result<Box<dyn Device>, BackendError> {
        let device = PanicDevice(options.get("in").unwrap_or_default().to_owned(), 0);
        device.at("device_open");
        Ok(Box::new(device))
    }
}

impl Device for PanicDevice {
    fn supports(&self, _: &Graph, _: NodeId) -> Support {
        self.at("graph_supports");
        Support::Yes
    }

    fn alloc(&mut self, _: &BufferDesc) -> Result<BufferId, BackendError> {
        self.at("buffer_alloc");
        Ok(BufferId(self.next()))
    }

    fn load_weight(&mut self, _: Weight) -> Result<LoadedWeight, BackendError> {
        self.at("weight_load");
        Ok(LoadedWeight { buffer: BufferId(self.next()), placement: Placement::Copied })
    }

    fn write(&mut self, _: BufferId, _: usize, _: &[u8]) -> Result<(), BackendError> {
        self.at("buffer_write");
        Ok(())
    }

    fn read(&mut self, _: BufferId, _: usize, _: &mut [u8]) -> Result<(), BackendError> {
        self.at("buffer_read");
        Ok(())
    }

    fn copy(&mut self, _: Location, _: Location, _: usize) -> Result<(), BackendError> {
        self.at("buffer_copy");
        Ok(())
    }

    fn free(&mut self, _: BufferId) {
        self.at("buffer_free");
    }

    fn compile(&mut self, _: &Graph, _: &[Binding]) -> Result<PlanId, BackendError> {
        self.at("plan_compile");
        Ok(PlanId(self.next()))
    }

    fn run(&mut self, _: PlanId, _: &SymbolValues) -> Result<(), BackendError> {
        self.at("plan_run");
        Ok(())
    }

    fn free_plan(&mut self, _: PlanId) {
        self.at("plan_free");
    }

    fn sync(&mut self) -> Result<(), BackendError> {
        self.at("device_sync");
        Ok(())
    }
}
