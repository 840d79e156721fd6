//! A plan: a graph, and all that is decided before its first step. What goes where when is `schedule.rs`.

use std::collections::BTreeMap;

use camelid_core::backend::{BackendError, Binding, BufferDesc, BufferId, BufferUsage, Location, Support};
use camelid_core::graph::{Graph, NodeId, TensorType, ValueId};

use super::bindings;
use super::buffers::Buffers;
use super::error::Error;
use super::schedule::Scheduler;
use crate::kernels::{Claim, Memory, claim};

/// A checked graph, what its nodes do with which memory, and the memory between them.
pub(super) struct Plan<B> {
    pub graph: Graph,
    /// The buffers of the bound values.
    pub bound: BTreeMap<ValueId, Location>,
    pub actions: Vec<Action>,
    /// Memory between the nodes, as large as the range's maximum needs. A piece is taken out while it is written.
    pub slots: Vec<Option<B>>,
}

/// A piece of memory: a buffer of the host or a slot of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Store {
    Buffer(BufferId),
    Slot(usize),
}

/// Where a value's bytes begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub store: Store,
    pub offset: usize,
}

/// Something a step does.
#[derive(Debug, PartialEq)]
pub(super) enum Action {
    /// The bytes of a value go elsewhere.
    Move(Move),
    /// A kernel runs.
    Eval(Eval),
}

/// `value`'s bytes go from one place to another.
#[derive(Debug, PartialEq)]
pub(super) struct Move {
    pub value: ValueId,
    pub from: Place,
    pub to: Place,
}

/// A kernel's operands and results. Nothing that it writes is in a piece of memory that it also reads.
#[derive(Debug, PartialEq)]
pub(super) struct Eval {
    pub node: NodeId,
    /// Copies to make first, for operands that lie where the kernel cannot have them.
    pub before: Vec<Move>,
    /// Name, value and place of each operand; without the table of an operation in place.
    pub inputs: Vec<(&'static str, ValueId, Place)>,
    pub outputs: Vec<(ValueId, Place)>,
    /// Copies to make last, for results that belong where the kernel cannot write them.
    pub after: Vec<Move>,
}

impl<B> Plan<B> {
    pub(super) fn new<M: Memory<Buf = B>>(
        graph: &Graph,
        bindings: &[Binding],
        claims: &[Claim],
        buffers: &Buffers<B>,
        memory: &mut M,
    ) -> Result<Plan<B>, BackendError> {
        check(claims, graph)?;
        let bound = bindings::resolve(graph, bindings, buffers)?;
        let (actions, sizes) = Scheduler::new(graph, &bound, M::ALIGN).schedule();
        let slots = sizes.iter().enumerate().map(|(i, size)| {
            let name = format!("values between operations, {} of {}", i + 1, sizes.len());
            memory.alloc(&BufferDesc { name, size: (*size).max(1), usage: BufferUsage::State }).map(Some)
        });
        let slots = slots.collect::<Result<Vec<_>, _>>()?;
        Ok(Plan { graph: graph.clone(), bound, actions, slots })
    }
}

/// Checks that every node is one of those claimed, and that every value's bytes can be counted.
pub(super) fn check(claims: &[Claim], graph: &Graph) -> Result<(), Error> {
    for node in graph.node_ids() {
        check_node(claims, graph, node)?;
    }
    match graph.values().iter().find(|v| !is_countable(&v.ty, graph)) {
        Some(value) => Err(Error::TooLarge { value: value.name.clone(), ty: value.ty }),
        None => Ok(()),
    }
}

/// Checks that the node is one of those claimed.
fn check_node(claims: &[Claim], graph: &Graph, id: NodeId) -> Result<(), Error> {
    let reason = match claim::supports(claims, graph, id) {
        Support::Yes => return Ok(()),
        Support::Lower { reason } => format!("it is to be lowered: {reason}"),
        Support::No { reason } => reason,
    };
    Err(Error::Unsupported { signature: graph.signature(id), reason })
}

/// Whether bytes of the value can be counted at the largest symbols, as f32 too and where another dimension is zero.
fn is_countable(ty: &TensorType, graph: &Graph) -> bool {
    let mut sizes = ty.shape.dims().iter().map(|d| graph.range().max.size(*d).max(1));
    let elements = sizes.try_fold(1usize, |n, size| n.checked_mul(size));
    let bytes = elements.and_then(|n| n.checked_mul(ty.dtype.block_bytes().max(size_of::<f32>())));
    bytes.is_some_and(|n| n <= isize::MAX as usize)
}
