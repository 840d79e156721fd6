//! The device: buffers, plans, and the threads that steps run on.

use std::collections::HashMap;
use std::sync::Arc;

use camelid_core::Device;
use camelid_core::backend::{
    BackendError, Binding, BufferDesc, BufferId, LoadedWeight, Location, PlanId, Support, Weight,
};
use camelid_core::graph::{Graph, NodeId, SymbolValues};
use camelid_sdk::parts::{self, Buffers};

use crate::block::Arena;
use crate::claims::CLAIMS;
use crate::kernel::Kernels;
use crate::memory::{CpuMemory, Piece};
use crate::plan::Plan;
use crate::pool::Pool;

/// The processor. Every call is done when it returns, so there is never anything to wait for.
pub(crate) struct CpuDevice {
    // Plans point into buffers: they go first.
    plans: HashMap<PlanId, Plan>,
    last_plan: u64,
    buffers: Buffers<Piece>,
    memory: CpuMemory,
    kernels: Kernels,
    pool: Arc<Pool>,
}

impl CpuDevice {
    pub(crate) fn new(pool: Pool, kernels: Kernels, repack: bool) -> CpuDevice {
        let pool = Arc::new(pool);
        let memory = CpuMemory { kernels, pool: pool.clone(), repack, arena: Arena::default() };
        CpuDevice { plans: HashMap::new(), last_plan: 0, buffers: Buffers::default(), memory, kernels, pool }
    }
}

impl Device for CpuDevice {
    fn supports(&self, graph: &Graph, node: NodeId) -> Support {
        parts::supports(CLAIMS, graph, node)
    }

    fn alloc(&mut self, buffer: &BufferDesc) -> Result<BufferId, BackendError> {
        self.buffers.alloc(&mut self.memory, buffer)
    }

    fn load_weight(&mut self, weight: Weight) -> Result<LoadedWeight, BackendError> {
        self.buffers.load(&mut self.memory, CLAIMS, weight)
    }

    fn write(&mut self, buffer: BufferId, offset: usize, src: &[u8]) -> Result<(), BackendError> {
        self.buffers.write(&mut self.memory, Location { buffer, offset }, src)
    }

    fn read(&mut self, buffer: BufferId, offset: usize, dst: &mut [u8]) -> Result<(), BackendError> {
        self.buffers.read(&mut self.memory, Location { buffer, offset }, dst)
    }

    fn copy(&mut self, to: Location, from: Location, len: usize) -> Result<(), BackendError> {
        self.buffers.copy(&mut self.memory, to, from, len)
    }

    fn free(&mut self, buffer: BufferId) {
        if !self.buffers.free(buffer) {
            let message = format!("freed buffer {}, which is not there", buffer.0);
            camelid_sdk::log(camelid_sdk::Level::Warn, "camelid_cpu", &message);
        }
    }

    fn compile(&mut self, graph: &Graph, bindings: &[Binding]) -> Result<PlanId, BackendError> {
        let plan = Plan::new(graph, bindings, &mut self.buffers, self.kernels, self.pool.threads())?;
        self.last_plan += 1;
        let id = PlanId(self.last_plan);
        self.plans.insert(id, plan);
        Ok(id)
    }

    fn run(&mut self, plan: PlanId, symbols: &SymbolValues) -> Result<(), BackendError> {
        let found = self.plans.get_mut(&plan);
        let found = found.ok_or_else(|| {
            BackendError::invalid(format!("there is no plan {}: it was never made, or it was freed", plan.0))
        })?;
        found.run(&self.buffers, &self.pool, self.kernels.isa, symbols)
    }

    fn free_plan(&mut self, plan: PlanId) {
        if self.plans.remove(&plan).is_none() {
            let message = format!("freed plan {}, which is not there", plan.0);
            camelid_sdk::log(camelid_sdk::Level::Warn, "camelid_cpu", &message);
        }
    }

    fn sync(&mut self) -> Result<(), BackendError> {
        Ok(())
    }
}
