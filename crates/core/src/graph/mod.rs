//! The graph: the only way work reaches a backend.
//!
//! A [`Graph`] is a list of nodes in an order in which they can run. Values are dense, row-major and at most of rank
//! four; there are no strides, so a backend never meets a layout it did not choose. Whatever changes from step to
//! step is the *contents* of an input or the value of a [`Symbol`]: the graph itself, and with it every address,
//! is fixed once compiled.
//!
//! Start at [`GraphBuilder`]; the operations are one file each in [`crate::ops`].

mod builder;
mod shape;
mod step;

use std::collections::HashSet;
use std::fmt;

pub use builder::{GraphBuilder, GraphError};
pub use shape::{Dim, MAX_RANK, Shape, Symbol, SymbolRange, SymbolValues, TensorType};
pub use step::{CacheLayout, StepInput};

use crate::ops::Op;

/// A value of a graph: an index into [`Graph::values`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub u32);

/// A node of a graph: an index into [`Graph::nodes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u32);

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
    /// Written by the host before every step, with a meaning that the engine knows.
    Step(StepInput),
    /// Written by the host, with a meaning only the builder of the graph knows.
    Input,
    /// Loaded once, never changed.
    Weight,
    /// Kept from step to step and changed in place by `kv_append` and `scatter_rows`.
    State,
    /// Made by a node.
    Computed,
}

/// A value: its type, and what it is called in messages and checkpoints.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// For weights the tensor's name in Hugging Face form; unique among the bound values of a graph.
    pub name: String,
    /// Element type and shape.
    pub ty: TensorType,
    /// Where it comes from.
    pub kind: ValueKind,
    /// The value whose memory this one takes over: what an in-place operation changes. The older value must not be
    /// used any more.
    pub in_place_of: Option<ValueId>,
}

/// An operation with its operands and results.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What to compute.
    pub op: Op,
    /// Operands, in the order the operation's page gives.
    pub inputs: Vec<ValueId>,
    /// Results, in the order the operation's page gives.
    pub outputs: Vec<ValueId>,
    /// Where in the model this is (`"model.layers.3.self_attn"`), for messages.
    pub scope: String,
}

/// A result the host reads after a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// What the host asks for (`"logits"`).
    pub name: String,
    /// The value.
    pub value: ValueId,
}

/// A checked, ordered computation. Made by [`GraphBuilder`], so it is well-typed.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    values: Vec<Value>,
    nodes: Vec<Node>,
    outputs: Vec<Output>,
    range: SymbolRange,
}

impl Graph {
    /// All values.
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// A value.
    ///
    /// # Panics
    /// If `id` belongs to another graph.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.0 as usize]
    }

    /// The nodes, each after the nodes whose results it uses.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// A node.
    ///
    /// # Panics
    /// If `id` belongs to another graph.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    /// The ids of the nodes, in order.
    pub fn node_ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..self.nodes.len() as u32).map(NodeId)
    }

    /// What the host reads after a step.
    pub fn outputs(&self) -> &[Output] {
        &self.outputs
    }

    /// What the symbols may be.
    pub fn range(&self) -> &SymbolRange {
        &self.range
    }

    /// The values that must be bound to buffers: inputs, weights, states, and the memory that outputs are computed in.
    pub fn bound_values(&self) -> impl Iterator<Item = (ValueId, &Value)> {
        let outputs: HashSet<ValueId> = self.outputs.iter().map(|o| self.storage_of(o.value)).collect();
        self.values
            .iter()
            .enumerate()
            .map(|(i, v)| (ValueId(i as u32), v))
            .filter(move |(id, v)| v.kind != ValueKind::Computed || outputs.contains(id))
    }

    /// The first output that lives in the memory of `id`.
    pub fn output_in(&self, id: ValueId) -> Option<&Output> {
        self.outputs.iter().find(|o| self.storage_of(o.value) == id)
    }

    /// True if the host reads this value.
    pub fn is_output(&self, id: ValueId) -> bool {
        self.outputs.iter().any(|o| o.value == id)
    }

    /// The value whose memory `id` lives in: itself, or for a value made in place the one it took over.
    pub fn storage_of(&self, mut id: ValueId) -> ValueId {
        while let Some(older) = self.value(id).in_place_of {
            id = older;
        }
        id
    }

    /// The node as a message names it: `linear at model.layers.0.mlp`.
    pub fn describe(&self, id: NodeId) -> String {
        let node = self.node(id);
        if node.scope.is_empty() { node.op.name().to_owned() } else { format!("{} at {}", node.op.name(), node.scope) }
    }

    /// The node with the types of its operands: `linear(x f32 [T, 88], w q4_0 [200, 88]) at model.layers.0.mlp`.
    pub fn signature(&self, id: NodeId) -> String {
        let node = self.node(id);
        let operands: Vec<String> = node
            .op
            .operand_names()
            .iter()
            .zip(&node.inputs)
            .map(|(name, v)| format!("{name} {}", self.value(*v).ty))
            .collect();
        let place = if node.scope.is_empty() { String::new() } else { format!(" at {}", node.scope) };
        format!("{}({}){place}", node.op.name(), operands.join(", "))
    }
}

impl fmt::Display for Graph {
    /// One line a node: `%12 f32 [T, 88] = linear(%10, model.layers.0.self_attn.q_proj.weight)  # model.layers.0`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let label = |id: ValueId| match self.value(id).kind {
            ValueKind::Computed => format!("%{}", id.0),
            _ => self.value(id).name.clone(),
        };
        for (_, value) in self.bound_values().filter(|(_, v)| v.kind != ValueKind::Computed) {
            let kind = match value.kind {
                ValueKind::Step(_) | ValueKind::Input => "input",
                ValueKind::Weight => "weight",
                _ => "state",
            };
            writeln!(f, "{kind} {}: {}", value.name, value.ty)?;
        }
        for node in &self.nodes {
            let results: Vec<_> =
                node.outputs.iter().map(|v| format!("{}: {}", label(*v), self.value(*v).ty)).collect();
            let operands: Vec<_> = node.inputs.iter().map(|v| label(*v)).collect();
            write!(f, "{} = {}({})", results.join(", "), node.op.name(), operands.join(", "))?;
            let attributes = node.op.attributes();
            if !attributes.is_empty() {
                write!(f, " {{{attributes}}}")?;
            }
            if !node.scope.is_empty() {
                write!(f, "  # {}", node.scope)?;
            }
            writeln!(f)?;
        }
        for output in &self.outputs {
            writeln!(f, "output {} = {}", output.name, label(output.value))?;
        }
        Ok(())
    }
}
