//! Lowering: macro operations a backend leaves out are rebuilt from core operations.

use std::collections::HashMap;

use crate::graph::{Graph, GraphBuilder, GraphError, NodeId, ValueId, ValueKind};

/// Rebuilds `graph` with every node for which `wanted` says so replaced by its lowering, one level deep.
///
/// Names, kinds and order of the bound values stay; a lowering may add step inputs. Node and value ids change.
///
/// # Errors
/// [`GraphError::NotLowerable`] if `wanted` picks a core operation.
pub fn lower(graph: &Graph, mut wanted: impl FnMut(NodeId) -> bool) -> Result<Graph, GraphError> {
    let mut g = GraphBuilder::new(*graph.range());
    let mut new_ids: HashMap<ValueId, ValueId> = HashMap::new();
    for (id, value) in graph.bound_values().filter(|(_, v)| v.kind != ValueKind::Computed) {
        new_ids.insert(id, g.bound(value.name.clone(), value.ty, value.kind)?);
    }
    for (id, node) in graph.node_ids().zip(graph.nodes()) {
        let inputs: Vec<ValueId> = node.inputs.iter().map(|v| new_ids[v]).collect();
        g.set_scope(&node.scope);
        let results =
            if wanted(id) { node.op.lower(&mut g, &inputs, &node.scope)? } else { g.push(node.op.clone(), &inputs)? };
        new_ids.extend(node.outputs.iter().copied().zip(results));
    }
    for output in graph.outputs() {
        g.output(&output.name, new_ids[&output.value])?;
    }
    Ok(g.finish())
}

/// Rebuilds `graph` from core operations alone.
pub fn lower_all(graph: &Graph) -> Result<Graph, GraphError> {
    let mut graph = graph.clone();
    while graph.nodes().iter().any(|n| n.op.is_macro()) {
        let lowered = lower(&graph, |id| graph.node(id).op.is_macro())?;
        graph = lowered;
    }
    Ok(graph)
}
