//! Which nodes are computed together.

use std::collections::{HashMap, HashSet};

use camelid_core::graph::{Graph, NodeId, Symbol, ValueId, ValueKind};
use camelid_core::ops::Op;

use crate::kernel::Kernel;
use crate::ops::Attention;

/// Nodes that become phases together, in the graph's order.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Group {
    One(NodeId),
    /// Two `linear` of one x, and the `swiglu` of their results, which nothing else reads.
    GateUp {
        gate: NodeId,
        up: NodeId,
        swiglu: NodeId,
    },
    /// `rope` and `kv_append` one after the other.
    RopeAppend(Vec<NodeId>),
    /// In a plan for one token, those and the `attention` that reads what they make.
    Attend {
        rope_append: Vec<NodeId>,
        attention: NodeId,
    },
}

impl Group {
    pub(super) fn nodes(&self) -> Vec<NodeId> {
        match self {
            Group::One(node) => vec![*node],
            Group::GateUp { gate, up, swiglu } => vec![*gate, *up, *swiglu],
            Group::RopeAppend(nodes) => nodes.clone(),
            Group::Attend { rope_append, attention } => [rope_append.as_slice(), &[*attention]].concat(),
        }
    }

    /// Values that exist only inside the group and get no memory.
    pub(super) fn inner(&self, graph: &Graph) -> Vec<ValueId> {
        match self {
            Group::GateUp { gate, up, .. } => vec![graph.node(*gate).outputs[0], graph.node(*up).outputs[0]],
            _ => Vec::new(),
        }
    }
}

/// The graph in groups.
pub(super) fn groups(graph: &Graph) -> Vec<Group> {
    let mut uses: HashMap<ValueId, usize> = HashMap::new();
    for node in graph.nodes() {
        for value in &node.inputs {
            *uses.entry(*value).or_default() += 1;
        }
    }
    let nodes: Vec<NodeId> = graph.node_ids().collect();
    let mut groups = Vec::new();
    let mut at = 0;
    while at < nodes.len() {
        let rest = &nodes[at..];
        let group = gate_up(graph, rest, &uses).or_else(|| rope_append(graph, rest)).unwrap_or(Group::One(rest[0]));
        at += group.nodes().len();
        groups.push(match (group, nodes.get(at)) {
            (Group::RopeAppend(rope_append), Some(next))
                if matches!(graph.node(*next).op, Op::Attention(_)) && graph.range().max.get(Symbol::T) == 1 =>
            {
                at += 1;
                Group::Attend { rope_append, attention: *next }
            }
            (group, _) => group,
        });
    }
    groups
}

/// The values that each thread computes for itself and reads in a copy of its own: rows of numbers between products, in a plan
/// that has one row of them, where the work is less than waiting for another thread.
pub(super) fn own(graph: &Graph, groups: &[Group]) -> HashSet<ValueId> {
    let mut changed: HashSet<ValueId> = HashSet::new();
    let mut read_otherwise: HashSet<ValueId> = graph.outputs().iter().map(|o| o.value).collect();
    for (id, value) in graph.values().iter().enumerate() {
        if let Some(older) = value.in_place_of {
            changed.extend([older, ValueId(id as u32)]);
        }
    }
    for node in graph.nodes() {
        if !matches!(node.op, Op::Linear | Op::QkvLinear | Op::RmsNorm { .. } | Op::AddRmsNorm { .. }) {
            read_otherwise.extend(&node.inputs);
        }
    }
    // Nobody may write what a thread that is behind still reads.
    let stays = |v: &ValueId| {
        let kind = graph.value(*v).kind;
        kind == ValueKind::Weight || (kind == ValueKind::Computed && !changed.contains(v) && !graph.is_output(*v))
    };
    let fits = |v: &ValueId| {
        let ty = graph.value(*v).ty;
        let rows: usize = ty.shape.dims().iter().rev().skip(1).map(|d| graph.range().max.size(*d)).product();
        rows <= 1 && ty.dtype == camelid_core::DType::F32 && !changed.contains(v) && !read_otherwise.contains(v)
    };
    let mut own = HashSet::new();
    for group in groups {
        let (Group::One(node) | Group::Attend { attention: node, .. }) = group else { continue };
        let node = graph.node(*node);
        let each = match node.op {
            Op::RmsNorm { .. } | Op::AddRmsNorm { .. } => node.inputs.iter().all(stays),
            // Its last phase reads what the phase before has left for it alone.
            Op::Attention(spec) => Attention::can_split(&spec),
            _ => false,
        };
        if each && node.outputs.iter().all(fits) {
            own.extend(&node.outputs);
        }
    }
    own
}

fn gate_up(graph: &Graph, nodes: &[NodeId], uses: &HashMap<ValueId, usize>) -> Option<Group> {
    let &[gate, up, swiglu, ..] = nodes else { return None };
    let [a, b, c] = [gate, up, swiglu].map(|n| graph.node(n));
    let plain = |n: &camelid_core::graph::Node| {
        let (x, w) = (graph.value(n.inputs[0]).ty, graph.value(n.inputs[1]));
        // Of types without a kernel of their own every panel is dequantized, which pays only once for many tokens.
        let known = Kernel::of(w.ty.dtype, crate::isa::IsaName::Portable).is_some();
        n.inputs.len() == 2 && x.dtype == camelid_core::DType::F32 && w.kind == ValueKind::Weight && known
    };
    let inner = |v: ValueId| uses.get(&v) == Some(&1) && !graph.is_output(v);
    let fits = matches!((&a.op, &b.op, &c.op), (Op::Linear, Op::Linear, Op::Swiglu))
        && plain(a)
        && plain(b)
        && a.inputs[0] == b.inputs[0]
        && graph.value(a.inputs[1]).ty == graph.value(b.inputs[1]).ty
        && c.inputs == [a.outputs[0], b.outputs[0]]
        && inner(a.outputs[0])
        && inner(b.outputs[0]);
    fits.then_some(Group::GateUp { gate, up, swiglu })
}

fn rope_append(graph: &Graph, nodes: &[NodeId]) -> Option<Group> {
    let of_kind = |n: &&NodeId| matches!(graph.node(**n).op, Op::Rope { .. } | Op::KvAppend);
    let mut run: Vec<NodeId> = Vec::new();
    for node in nodes.iter().take_while(of_kind) {
        let reads = &graph.node(*node).inputs;
        // A rotated value may be appended on the way; anything else that is read must be there before.
        let made_here = run.iter().find(|n| graph.node(**n).outputs.iter().any(|v| reads.contains(v)));
        if let Some(maker) = made_here {
            let (maker, this) = (graph.node(*maker), graph.node(*node));
            let block = graph.value(this.inputs[0]).ty.dtype.block_elems();
            // A head is appended by itself, so it must be whole blocks.
            let whole = matches!(maker.op, Op::Rope { head_dim } if head_dim.is_multiple_of(block));
            let appended = whole
                && this.op == Op::KvAppend
                && this.inputs[1] == maker.outputs[0]
                && graph.value(maker.outputs[0]).ty.dtype == camelid_core::DType::F32;
            if !appended {
                break;
            }
        }
        run.push(*node);
    }
    (run.len() > 1).then_some(Group::RopeAppend(run))
}
