//! The device: buffers, plans, and a pool of threads that steps run in.

use std::collections::HashMap;

use camelid_core::Device;
use camelid_core::backend::{
    BackendError, Binding, BufferDesc, BufferId, ErrorCode, LoadedWeight, Location, Placement, PlanId, Support, Weight,
};
use camelid_core::graph::{Graph, NodeId, SymbolValues};
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::buffers::Buffers;
use crate::claims;
use crate::error::Error;
use crate::plan::Plan;
use crate::run::run;

/// The processor. Every call is done when it returns, so there is never anything to wait for.
pub(crate) struct ReferenceDevice {
    buffers: Buffers,
    plans: HashMap<PlanId, Plan>,
    last_plan: u64,
    pool: ThreadPool,
}

impl ReferenceDevice {
    pub(crate) fn new(threads: usize) -> Result<ReferenceDevice, BackendError> {
        let pool = ThreadPoolBuilder::new().num_threads(threads).thread_name(|i| format!("camelid-reference-{i}"));
        let pool = pool.build().map_err(|e| {
            let message = format!("cannot start {threads} threads: {e}; set the option `threads` to a smaller number");
            BackendError::new(ErrorCode::OutOfMemory, message)
        })?;
        tracing::debug!(threads, "reference device opened");
        Ok(ReferenceDevice { buffers: Buffers::default(), plans: HashMap::new(), last_plan: 0, pool })
    }
}

impl Device for ReferenceDevice {
    fn supports(&self, graph: &Graph, node: NodeId) -> Support {
        claims::supports(graph, node)
    }

    fn alloc(&mut self, buffer: &BufferDesc) -> Result<BufferId, BackendError> {
        Ok(self.buffers.alloc(buffer)?)
    }

    fn load_weight(&mut self, weight: Weight) -> Result<LoadedWeight, BackendError> {
        Ok(LoadedWeight { buffer: self.buffers.load(weight)?, placement: Placement::Aliased })
    }

    fn write(&mut self, buffer: BufferId, offset: usize, src: &[u8]) -> Result<(), BackendError> {
        self.buffers.write(Location { buffer, offset }, src.len())?.copy_from_slice(src);
        Ok(())
    }

    fn read(&mut self, buffer: BufferId, offset: usize, dst: &mut [u8]) -> Result<(), BackendError> {
        dst.copy_from_slice(self.buffers.read(Location { buffer, offset }, dst.len())?);
        Ok(())
    }

    fn copy(&mut self, to: Location, from: Location, len: usize) -> Result<(), BackendError> {
        Ok(self.buffers.copy(to, from, len)?)
    }

    fn free(&mut self, buffer: BufferId) {
        self.buffers.free(buffer);
    }

    fn compile(&mut self, graph: &Graph, bindings: &[Binding]) -> Result<PlanId, BackendError> {
        let plan = Plan::new(graph, bindings, &self.buffers)?;
        self.last_plan += 1;
        let id = PlanId(self.last_plan);
        self.plans.insert(id, plan);
        Ok(id)
    }

    fn run(&mut self, plan: PlanId, symbols: &SymbolValues) -> Result<(), BackendError> {
        let ReferenceDevice { buffers, plans, pool, .. } = self;
        let plan = plans.get(&plan).ok_or(Error::UnknownPlan(plan))?;
        Ok(pool.install(|| run(plan, buffers, symbols))?)
    }

    fn free_plan(&mut self, plan: PlanId) {
        if self.plans.remove(&plan).is_none() {
            tracing::warn!(plan = plan.0, "freed a plan that does not exist");
        }
    }

    fn sync(&mut self) -> Result<(), BackendError> {
        Ok(())
    }
}
