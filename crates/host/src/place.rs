//! Placement: a graph as a device will compute it.

use std::collections::{BTreeMap, HashSet};

use camelid_core::backend::Support;
use camelid_core::graph::{Graph, NodeId};
use camelid_core::lower::lower;

use crate::device::DeviceHandle;
use crate::error::HostError;

/// What to do with an operation the device does not have but could compute from others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnUnsupported {
    /// Compute it from core operations, on the same device.
    #[default]
    Lower,
    /// Refuse the graph.
    Error,
}

/// A graph every node of which the device computes as it stands.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The graph. Its bound values are those of the graph that was placed, perhaps with more step inputs.
    pub graph: Graph,
    /// What was replaced by its lowering, in the order of the graph.
    pub lowered: Vec<LoweredOp>,
}

/// A node that was replaced by its lowering.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoweredOp {
    /// The operation's name.
    pub op: &'static str,
    /// Where in the model.
    pub scope: String,
    /// Why, in the backend's words.
    pub reason: String,
}

/// A node the device does not compute as it stands.
struct Refused {
    node: NodeId,
    reason: String,
}

impl DeviceHandle {
    /// Asks the device about every node of `graph` and replaces those it does not have by their lowerings, until it
    /// has all. Nothing ever moves to another device.
    ///
    /// # Errors
    /// [`HostError::Unsupported`] for a node the device cannot compute in any form; [`HostError::NotLowered`] for one
    /// it would have lowered if `on_unsupported` is [`OnUnsupported::Error`]; [`HostError::LowersCore`] if the backend
    /// asks for the lowering of a core operation.
    pub fn place(&self, graph: &Graph, on_unsupported: OnUnsupported) -> Result<Placed, HostError> {
        let mut graph = graph.clone();
        let mut lowered = Vec::new();
        loop {
            let wanted = self.ask(&graph)?;
            let Some(first) = wanted.first() else { break };
            if on_unsupported == OnUnsupported::Error {
                return Err(HostError::NotLowered {
                    backend: self.backend().to_owned(),
                    node: graph.signature(first.node),
                    reason: first.reason.clone(),
                    more: wanted.len() - 1,
                });
            }
            let nodes: HashSet<NodeId> = wanted.iter().map(|r| r.node).collect();
            lowered.extend(wanted.into_iter().map(|Refused { node, reason }| {
                let node = graph.node(node);
                LoweredOp { op: node.op.name(), scope: node.scope.clone(), reason }
            }));
            graph = lower(&graph, |node| nodes.contains(&node))
                .map_err(|error| HostError::Lowering { backend: self.backend().to_owned(), error })?;
        }
        self.log(&lowered);
        Ok(Placed { graph, lowered })
    }

    /// The nodes the device would have lowered.
    fn ask(&self, graph: &Graph) -> Result<Vec<Refused>, HostError> {
        let (mut lower, mut no) = (Vec::new(), Vec::new());
        let operation = || format!("say which of {} nodes it computes", graph.nodes().len());
        let mut state = self.shared.lock(operation)?;
        let answers = self.shared.check(&mut state, operation, |device| device.supports_all(graph))?;
        drop(state);
        for (node, answer) in graph.node_ids().zip(answers) {
            match answer {
                Support::Yes => {}
                Support::Lower { reason } => lower.push(Refused { node, reason: given(reason) }),
                Support::No { reason } => no.push(Refused { node, reason: given(reason) }),
            }
        }
        let backend = self.backend().to_owned();
        if let Some(Refused { node, reason }) = no.first() {
            let (node, reason) = (graph.signature(*node), reason.clone());
            return Err(HostError::Unsupported { backend, node, reason, more: no.len() - 1 });
        }
        match lower.iter().find(|r| !graph.node(r.node).op.is_macro()) {
            None => Ok(lower),
            Some(Refused { node, reason }) => {
                let (op, node) = (graph.node(*node).op.name(), graph.signature(*node));
                Err(HostError::LowersCore { backend, op, node, reason: reason.clone() })
            }
        }
    }

    /// One line for each kind of operation: a model has hundreds of nodes.
    fn log(&self, lowered: &[LoweredOp]) {
        let mut kinds: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
        for LoweredOp { op, reason, .. } in lowered {
            kinds.entry(op).or_insert((0, reason)).0 += 1;
        }
        for (op, (nodes, reason)) in kinds {
            tracing::debug!(backend = self.backend(), op, nodes, reason, "computed from core operations");
        }
    }
}

/// A backend's reason, or that there is none.
fn given(reason: String) -> String {
    if reason.trim().is_empty() { "the backend gives no reason".into() } else { reason }
}
