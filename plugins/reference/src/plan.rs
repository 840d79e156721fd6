//! A plan: a graph, and all that is decided before its first step.

use std::collections::HashMap;

use camelid_core::backend::{Binding, Location, Support};
use camelid_core::graph::{Graph, NodeId, TensorType, ValueId};
use camelid_core::ops::Op;

use crate::bindings;
use crate::buffers::Buffers;
use crate::claims;
use crate::error::Error;

/// A checked graph and the place of every value.
pub(crate) struct Plan {
    pub graph: Graph,
    /// For each value of the graph, where its bytes are.
    pub homes: Vec<Home>,
    /// The values that have bytes in buffers.
    pub bound: HashMap<ValueId, Location>,
    /// For each node, the values whose scratch memory nobody needs after it.
    pub dead_after: Vec<Vec<ValueId>>,
}

/// Where a value's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Home {
    /// In a buffer of the host.
    Buffer(Location),
    /// In memory made for this value and given back after its last use. Values made in place and reshaped values
    /// name the value they take over from.
    Scratch(ValueId),
}

impl Plan {
    pub(crate) fn new(graph: &Graph, bindings: &[Binding], buffers: &Buffers) -> Result<Plan, Error> {
        for node in graph.node_ids() {
            check_node(graph, node)?;
        }
        for value in graph.values() {
            if !is_countable(&value.ty, graph) {
                return Err(Error::TooLarge { value: value.name.clone(), ty: value.ty });
            }
        }
        let bound = bindings::resolve(graph, bindings, buffers)?;
        let homes = homes(graph, &bound);
        let dead_after = dead_after(graph, &homes);
        Ok(Plan { graph: graph.clone(), homes, bound, dead_after })
    }

    pub(crate) fn home(&self, value: ValueId) -> Home {
        self.homes[value.0 as usize]
    }
}

/// Checks that the node is one of those claimed.
fn check_node(graph: &Graph, id: NodeId) -> Result<(), Error> {
    let reason = match claims::supports(graph, id) {
        Support::Yes => return Ok(()),
        Support::Lower { reason } => format!("it is to be lowered: {reason}"),
        Support::No { reason } => reason,
    };
    Err(Error::Unsupported { signature: graph.signature(id), reason })
}

/// Whether indices into the value can be counted at the largest symbols, even where another dimension is zero.
fn is_countable(ty: &TensorType, graph: &Graph) -> bool {
    let mut sizes = ty.shape.dims().iter().map(|d| graph.range().max.size(*d).max(1));
    let elements = sizes.try_fold(1usize, |n, size| n.checked_mul(size));
    // No type takes more than four bytes an element.
    elements.is_some_and(|n| n <= isize::MAX as usize / 4)
}

/// The home of every value.
///
/// A value made in place lives where its storage does. A reshaped value shares its operand's memory, as long as the
/// graph cannot tell: it is no output, and neither of the two is changed in place later.
fn homes(graph: &Graph, bound: &HashMap<ValueId, Location>) -> Vec<Home> {
    let mut last_change: HashMap<ValueId, usize> = HashMap::new(); // storage -> the last node that changes it in place
    for (i, node) in graph.nodes().iter().enumerate() {
        if let Some(operand) = node.op.changes_in_place() {
            last_change.insert(graph.storage_of(node.inputs[operand]), i);
        }
    }
    let changed_after = |storage: ValueId, i: usize| last_change.get(&storage).is_some_and(|last| *last > i);

    let all = (0..graph.values().len() as u32).map(ValueId);
    let mut homes: Vec<Home> = all.map(|id| bound.get(&id).map_or(Home::Scratch(id), |at| Home::Buffer(*at))).collect();
    for (i, node) in graph.nodes().iter().enumerate() {
        let shared = match node.op {
            Op::Reshape { .. } => {
                let (x, y) = (node.inputs[0], node.outputs[0]);
                let copied = bound.contains_key(&y) || changed_after(graph.storage_of(x), i) || changed_after(y, i);
                (!copied).then_some(x)
            }
            _ => node.op.changes_in_place().map(|operand| node.inputs[operand]),
        };
        if let Some(older) = shared {
            homes[node.outputs[0].0 as usize] = homes[older.0 as usize];
        }
    }
    homes
}

/// For each node, the scratch memory that it is the last to use.
fn dead_after(graph: &Graph, homes: &[Home]) -> Vec<Vec<ValueId>> {
    let mut last_use: HashMap<ValueId, usize> = HashMap::new();
    for (i, node) in graph.nodes().iter().enumerate() {
        for value in node.inputs.iter().chain(&node.outputs) {
            if let Home::Scratch(storage) = homes[value.0 as usize] {
                last_use.insert(storage, i);
            }
        }
    }
    let mut dead = vec![Vec::new(); graph.nodes().len()];
    for (storage, node) in last_use {
        dead[node].push(storage);
    }
    dead
}
