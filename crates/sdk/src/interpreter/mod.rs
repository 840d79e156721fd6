//! [`Interpreter`]: a whole [`Device`] made of [`Kernels`].
//!
//! Here is everything about a device but the arithmetic: buffers and their ids, bindings and what can be wrong with
//! them, where values live and when they die, and the order of a step. No operation is computed here.
//! Read `plan.rs` and `schedule.rs` for what is decided when a graph is compiled and `run.rs` for what is left for a
//! step.

mod bindings;
mod buffers;
mod error;
pub mod parts;
mod plan;
mod run;
mod schedule;
mod slots;

use std::collections::HashMap;
use std::fmt;

use camelid_core::Device;
use camelid_core::backend::{
    BackendError, Binding, BufferDesc, BufferId, LoadedWeight, Location, PlanId, Support, Weight,
};
use camelid_core::graph::{Graph, NodeId, SymbolValues};

use self::buffers::Buffers;
use self::error::Error;
use self::plan::Plan;
use self::run::Piece;
use crate::kernels::{Kernels, Memory, claim};

/// A device that runs graphs node by node with the kernels `K`.
///
/// - Memory for the values between two nodes is made when a graph is compiled, as large as the range's maximum needs,
///   and values that do not live at the same time share it. Two plans share none.
/// - A kernel's results are in memory that it does not read. Where the host bound a result beside an operand of the
///   same node in one buffer, or at an offset that is no multiple of [`Memory::ALIGN`], the value is copied; one
///   buffer for each value costs no copies.
/// - `reshape` costs nothing where the graph cannot tell, and a node whose results are empty at a step is left out.
/// - A kernel that panics loses the memory it was writing; using that is
///   [`ErrorCode::DeviceLost`](camelid_core::backend::ErrorCode::DeviceLost), freeing it is not.
pub struct Interpreter<K: Kernels> {
    kernels: K,
    buffers: Buffers<Piece<K>>,
    plans: HashMap<PlanId, Plan<Piece<K>>>,
    last_plan: u64,
}

impl<K: Kernels> Interpreter<K> {
    /// A device without buffers and plans.
    pub fn new(kernels: K) -> Interpreter<K> {
        Interpreter { kernels, buffers: Buffers::default(), plans: HashMap::new(), last_plan: 0 }
    }

    /// The kernels.
    pub fn kernels(&self) -> &K {
        &self.kernels
    }
}

impl<K: Kernels> fmt::Debug for Interpreter<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interpreter").field("plans", &self.plans.len()).finish_non_exhaustive()
    }
}

impl<K: Kernels> Device for Interpreter<K> {
    fn supports(&self, graph: &Graph, node: NodeId) -> Support {
        claim::supports(self.kernels.claims(), graph, node)
    }

    fn alloc(&mut self, buffer: &BufferDesc) -> Result<BufferId, BackendError> {
        self.buffers.alloc(self.kernels.memory(), buffer)
    }

    fn load_weight(&mut self, weight: Weight) -> Result<LoadedWeight, BackendError> {
        let claims = self.kernels.claims();
        self.buffers.load(self.kernels.memory(), claims, weight)
    }

    fn write(&mut self, buffer: BufferId, offset: usize, src: &[u8]) -> Result<(), BackendError> {
        self.buffers.write(self.kernels.memory(), Location { buffer, offset }, src)
    }

    fn read(&mut self, buffer: BufferId, offset: usize, dst: &mut [u8]) -> Result<(), BackendError> {
        self.buffers.read(self.kernels.memory(), Location { buffer, offset }, dst)
    }

    fn copy(&mut self, to: Location, from: Location, len: usize) -> Result<(), BackendError> {
        self.buffers.copy(self.kernels.memory(), to, from, len)
    }

    fn free(&mut self, buffer: BufferId) {
        if !self.buffers.free(buffer) {
            crate::log(crate::Level::Warn, "camelid_sdk", &format!("freed buffer {}, which is not there", buffer.0));
        }
    }

    fn compile(&mut self, graph: &Graph, bindings: &[Binding]) -> Result<PlanId, BackendError> {
        let claims = self.kernels.claims();
        let plan = Plan::new(graph, bindings, claims, &self.buffers, self.kernels.memory())?;
        self.last_plan += 1;
        let id = PlanId(self.last_plan);
        self.plans.insert(id, plan);
        Ok(id)
    }

    fn run(&mut self, plan: PlanId, symbols: &SymbolValues) -> Result<(), BackendError> {
        let Interpreter { kernels, buffers, plans, .. } = self;
        let plan = plans.get_mut(&plan).ok_or(Error::UnknownPlan(plan))?;
        run::run(kernels, plan, buffers, symbols)
    }

    fn free_plan(&mut self, plan: PlanId) {
        if self.plans.remove(&plan).is_none() {
            crate::log(crate::Level::Warn, "camelid_sdk", &format!("freed plan {}, which is not there", plan.0));
        }
    }

    fn sync(&mut self) -> Result<(), BackendError> {
        self.kernels.memory().sync()
    }
}
