//! What this backend computes: one table, from which `supports` is answered and `compile` refuses.

use camelid_core::DType;
use camelid_core::backend::Support;
use camelid_core::graph::{Graph, NodeId, ValueKind};
use camelid_core::ops::Op;

use crate::ops::activation;

/// Types of activations and results. Whatever the type, kernels compute on f32 and f64 and round once.
const FLOATS: &[DType] = &[DType::F32, DType::F16, DType::BF16];

/// Types of cached keys and values, and of tables whose rows are written.
const CACHES: &[DType] = camelid_core::ops::CACHE_TYPES;

/// Types of indices.
const INDICES: &[DType] = &[DType::I32];

/// Types of weight matrices and tables: everything that `camelid_core::quant` can dequantize.
const TABLES: &[DType] = &[
    DType::F32,
    DType::F16,
    DType::BF16,
    DType::Q4_0,
    DType::Q4_1,
    DType::Q5_0,
    DType::Q5_1,
    DType::Q8_0,
    DType::Q2_K,
    DType::Q3_K,
    DType::Q4_K,
    DType::Q5_K,
    DType::Q6_K,
];

/// Types of what is moved without a look at it, and of what can be loaded as a weight.
pub(crate) const WEIGHTS: &[DType] = DType::ALL;

/// An operation and the types each of its operands may have, in the order of `Op::operand_names`.
struct Claim {
    op: &'static str,
    operands: &'static [&'static [DType]],
}

const fn claim(op: &'static str, operands: &'static [&'static [DType]]) -> Claim {
    Claim { op, operands }
}

/// Every operation that has a kernel here. A macro operation that is missing is lowered by the host.
const CLAIMS: &[Claim] = &[
    claim("gather_rows", &[TABLES, INDICES]),
    claim("linear", &[FLOATS, TABLES, FLOATS]),
    claim("bmm", &[FLOATS, FLOATS]),
    claim("rms_norm", &[FLOATS, FLOATS]),
    claim("rope", &[FLOATS, FLOATS, FLOATS]),
    claim("add", &[FLOATS, FLOATS]),
    claim("mul", &[FLOATS, FLOATS]),
    claim("activation", &[FLOATS]),
    claim("softmax", &[FLOATS, FLOATS]),
    claim("scatter_rows", &[CACHES, CACHES, INDICES]),
    claim("cast", &[TABLES]),
    claim("copy", &[WEIGHTS]),
    claim("reshape", &[WEIGHTS]),
    claim("kv_append", &[CACHES, FLOATS, INDICES]),
    claim("attention", &[FLOATS, CACHES, CACHES, INDICES, INDICES, INDICES]),
];

/// The answer of `Device::supports`.
pub(crate) fn supports(graph: &Graph, id: NodeId) -> Support {
    let node = graph.node(id);
    let Some(claim) = CLAIMS.iter().find(|c| c.op == node.op.name()) else {
        return if node.op.is_macro() {
            Support::Lower { reason: "the core operations it is made of are what a reference is for".into() }
        } else {
            let known: Vec<_> = CLAIMS.iter().map(|c| c.op).collect();
            Support::No { reason: format!("no such operation; supported are {}", known.join(", ")) }
        };
    };
    if let Op::Activation(kind) = &node.op
        && activation::function(*kind).is_none()
    {
        return Support::No { reason: format!("no such activation: {}", kind.name()) };
    }
    if let Some(table) = node.op.changes_in_place() {
        let storage = graph.value(graph.storage_of(node.inputs[table]));
        if storage.kind == ValueKind::Weight {
            let reason = format!("`{}` is a weight, and weights are never written; make it a state", storage.name);
            return Support::No { reason };
        }
    }
    let operands = node.op.operand_names().iter().zip(&node.inputs).zip(claim.operands);
    for ((name, value), dtypes) in operands {
        let dtype = graph.value(*value).ty.dtype;
        if !dtypes.contains(&dtype) {
            let reason = format!("operand `{name}` of type {dtype} is not supported; supported are {}", names(dtypes));
            return Support::No { reason };
        }
    }
    Support::Yes
}

/// The types as a list for a message.
pub(crate) fn names(dtypes: &[DType]) -> String {
    dtypes.iter().map(DType::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use camelid_core::dtype::VENDOR_ID_START;
    use camelid_core::graph::{GraphBuilder, Symbol, SymbolRange, SymbolValues, TensorType};
    use camelid_core::quant;

    fn builder() -> GraphBuilder {
        GraphBuilder::new(SymbolRange { min: SymbolValues::new(0, 0, 0, 0), max: SymbolValues::new(8, 2, 8, 64) })
    }

    #[test]
    fn tables_are_all_that_can_be_dequantized() {
        let known: Vec<_> = DType::ALL.iter().copied().filter(|d| quant::row_dequantizer(*d).is_some()).collect();
        assert_eq!(TABLES, known);
    }

    #[test]
    fn a_vendors_type_is_refused_with_the_list_of_what_is_supported() {
        let vendor = DType::vendor(VENDOR_ID_START, 32, 18).unwrap();
        let mut g = builder();
        let x = g.input("x", TensorType::new(DType::F32, &[Symbol::T.into(), 32.into()]).unwrap()).unwrap();
        let w = g.weight("w", TensorType::new(vendor, &[4.into(), 32.into()]).unwrap()).unwrap();
        g.linear(x, w, None).unwrap();
        g.copy(w).unwrap();
        let graph = g.finish();
        let nodes: Vec<_> = graph.node_ids().collect();
        let Support::No { reason } = supports(&graph, nodes[0]) else { panic!("refused") };
        assert!(reason.starts_with("operand `w` of type vendor:0x80000000 is not supported; supported are f32, f16"));
        assert!(matches!(supports(&graph, nodes[1]), Support::No { .. }));
    }

    #[test]
    fn macro_operations_without_a_kernel_are_lowered() {
        let mut g = builder();
        let x = g.input("x", TensorType::new(DType::F32, &[Symbol::T.into(), 4.into()]).unwrap()).unwrap();
        let y = g.swiglu(x, x).unwrap();
        g.mul(x, y).unwrap();
        let graph = g.finish();
        let answers: Vec<_> = graph.node_ids().map(|n| supports(&graph, n)).collect();
        assert!(matches!(answers[0], Support::Lower { .. }));
        assert_eq!(answers[1], Support::Yes);
    }
}
