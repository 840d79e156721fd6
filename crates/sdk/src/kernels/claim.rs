//! [`Claim`]: what a device computes, said once.

use camelid_core::DType;
use camelid_core::backend::Support;
use camelid_core::graph::{Graph, Node, NodeId, ValueKind};
use camelid_core::ops::Op;

/// Only f32.
pub const F32: &[DType] = &[DType::F32];

/// Types of indices.
pub const INDICES: &[DType] = &[DType::I32];

/// Every type that [`camelid_core::quant`] turns into floats: what [`View::read_row`](super::View::read_row) reads.
pub const DEQUANTIZABLE: &[DType] = &[
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

/// A limit of a claim that types cannot express: an attribute, a size, the symbols' range. The error says what is
/// asked for and what is supported.
pub type Limit = fn(&Graph, &Node) -> Result<(), String>;

/// An operation that a device computes, and on what.
///
/// An operation may be claimed more than once, for combinations of types that are not all with all.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    op: &'static str,
    operands: &'static [&'static [DType]],
    blocks: &'static [DType],
    limit: Option<Limit>,
}

impl Claim {
    /// Operation `op`, by [`Op::name`], with these types for each of its operands in the order of
    /// [`Op::operand_names`]. An operand past the end of the list is not supported, which is how an optional one is
    /// left out.
    pub const fn new(op: &'static str, operands: &'static [&'static [DType]]) -> Claim {
        Claim { op, operands, blocks: &[], limit: None }
    }

    /// The claim holds for results in these block formats, too: `cast` to the types of caches. Without it, results that
    /// take no memory of an operand over are f32, f16 or bf16.
    #[must_use]
    pub const fn with_block_results(self, blocks: &'static [DType]) -> Claim {
        Claim { blocks, ..self }
    }

    /// The claim holds only where `limit` finds nothing wrong.
    #[must_use]
    pub const fn with_limit(self, limit: Limit) -> Claim {
        Claim { limit: Some(limit), ..self }
    }

    fn check(&self, graph: &Graph, node: &Node) -> Result<(), String> {
        for (i, (name, value)) in node.op.operand_names().iter().zip(&node.inputs).enumerate() {
            let dtype = graph.value(*value).ty.dtype;
            let Some(dtypes) = self.operands.get(i) else {
                return Err(format!("operand `{name}` is not supported; supported: {} without it", self.op));
            };
            if !dtypes.contains(&dtype) {
                return Err(format!("operand `{name}` of type {dtype} is not supported; supported: {}", names(dtypes)));
            }
        }
        if let Op::Cast { to } = node.op
            && to.is_block()
            && !self.blocks.contains(&to)
        {
            let known = [&[DType::F32, DType::F16, DType::BF16], self.blocks].concat();
            return Err(format!("a result of type {to} is not supported; supported: {}", names(&known)));
        }
        self.limit.map_or(Ok(()), |limit| limit(graph, node))
    }
}

/// What the interpreter does itself, with copies of bytes.
pub(crate) fn is_built_in(op: &Op) -> bool {
    matches!(op, Op::Copy | Op::Reshape { .. })
}

/// The answer of `Device::supports` for a device with these claims.
pub(crate) fn supports(claims: &[Claim], graph: &Graph, id: NodeId) -> Support {
    let node = graph.node(id);
    if is_built_in(&node.op) {
        return Support::Yes;
    }
    let refused = |reason| if node.op.is_macro() { Support::Lower { reason } } else { Support::No { reason } };
    if let Some(table) = node.op.changes_in_place() {
        let storage = graph.value(graph.storage_of(node.inputs[table]));
        if storage.kind == ValueKind::Weight {
            let reason = format!("`{}` is a weight, and weights are never written; make it a state", storage.name);
            return Support::No { reason };
        }
    }
    let mut reasons: Vec<String> = Vec::new();
    for claim in claims.iter().filter(|c| c.op == node.op.name()) {
        match claim.check(graph, node) {
            Ok(()) => return Support::Yes,
            Err(reason) if reasons.contains(&reason) => {}
            Err(reason) => reasons.push(reason),
        }
    }
    if reasons.is_empty() {
        let mut known: Vec<_> = claims.iter().map(|c| c.op).chain(["copy", "reshape"]).collect();
        known.dedup();
        return refused(format!("there is no kernel for {}; supported: {}", node.op.name(), known.join(", ")));
    }
    refused(reasons.join("; or: "))
}

/// Whether any claim has a use for operands of this type.
pub(crate) fn takes(claims: &[Claim], dtype: DType) -> bool {
    claims.iter().any(|c| c.operands.iter().any(|dtypes| dtypes.contains(&dtype)))
}

/// All types that claims have a use for, for a message.
pub(crate) fn all_types(claims: &[Claim]) -> String {
    let mut all: Vec<DType> = claims.iter().flat_map(|c| c.operands.iter()).flat_map(|d| d.iter().copied()).collect();
    all.sort_by_key(|d| d.id());
    all.dedup();
    names(&all)
}

fn names(dtypes: &[DType]) -> String {
    dtypes.iter().map(DType::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use camelid_core::graph::{GraphBuilder, SymbolRange, SymbolValues, TensorType, ValueId};
    use camelid_core::quant;

    #[test]
    fn dequantizable_is_what_core_can_dequantize() {
        let known: Vec<_> = DType::ALL.iter().copied().filter(|d| quant::row_dequantizer(*d).is_some()).collect();
        assert_eq!(DEQUANTIZABLE, known);
    }

    /// The answer to the one node that `build` adds.
    fn answer(claims: &[Claim], build: impl FnOnce(&mut GraphBuilder)) -> Support {
        let range = SymbolRange { min: SymbolValues::new(0, 0, 0, 0), max: SymbolValues::new(8, 2, 8, 64) };
        let mut g = GraphBuilder::new(range);
        build(&mut g);
        let graph = g.finish();
        let last = graph.node_ids().last().expect("a node was added");
        supports(claims, &graph, last)
    }

    fn input(g: &mut GraphBuilder, name: &str, dtype: DType, dims: &[usize]) -> ValueId {
        let dims: Vec<_> = dims.iter().map(|d| (*d).into()).collect();
        g.input(name, TensorType::new(dtype, &dims).unwrap()).unwrap()
    }

    const LINEAR: &[Claim] = &[
        Claim::new("linear", &[F32, F32]),
        Claim::new("linear", &[&[DType::F16], &[DType::Q8_0]]).with_limit(few_rows),
    ];

    fn few_rows(graph: &Graph, node: &Node) -> Result<(), String> {
        let rows = graph.value(node.inputs[1]).ty.shape.dims()[0];
        let many = || format!("w of {rows} rows is not supported; supported: 4");
        if rows == 4.into() { Ok(()) } else { Err(many()) }
    }

    fn linear(x: DType, w: DType, rows: usize, bias: bool) -> Support {
        answer(LINEAR, |g| {
            let (x, w) = (input(g, "x", x, &[2, 32]), input(g, "w", w, &[rows, 32]));
            let b = bias.then(|| input(g, "b", DType::F32, &[rows]));
            g.linear(x, w, b).unwrap();
        })
    }

    #[test]
    fn a_node_is_taken_if_one_of_the_claims_fits() {
        assert_eq!(linear(DType::F32, DType::F32, 3, false), Support::Yes);
        assert_eq!(linear(DType::F16, DType::Q8_0, 4, false), Support::Yes);
        let Support::No { reason } = linear(DType::F32, DType::Q8_0, 4, false) else { panic!("refused") };
        let (first, second) = reason.split_once("; or: ").unwrap();
        assert_eq!(first, "operand `w` of type q8_0 is not supported; supported: f32");
        assert_eq!(second, "operand `x` of type f32 is not supported; supported: f16");
    }

    #[test]
    fn limits_and_operands_left_out_are_reasons() {
        let Support::No { reason } = linear(DType::F16, DType::Q8_0, 3, false) else { panic!("refused") };
        assert!(reason.ends_with("w of 3 rows is not supported; supported: 4"), "{reason}");
        let Support::No { reason } = linear(DType::F32, DType::F32, 3, true) else { panic!("refused") };
        assert!(reason.starts_with("operand `b` is not supported; supported: linear without it"), "{reason}");
    }

    #[test]
    fn what_is_not_claimed_is_lowered_if_it_can_be_and_refused_if_not() {
        let swiglu = answer(LINEAR, |g| {
            let x = input(g, "x", DType::F32, &[2, 4]);
            g.swiglu(x, x).unwrap();
        });
        assert!(matches!(swiglu, Support::Lower { .. }), "{swiglu:?}");
        let add = answer(LINEAR, |g| {
            let x = input(g, "x", DType::F32, &[2, 4]);
            g.add(x, x).unwrap();
        });
        let reason = "there is no kernel for add; supported: linear, copy, reshape".into();
        assert_eq!(add, Support::No { reason });
        let half = answer(&[Claim::new("swiglu", &[F32, F32])], |g| {
            let x = input(g, "x", DType::F16, &[2, 4]);
            g.swiglu(x, x).unwrap();
        });
        assert!(matches!(half, Support::Lower { .. }), "another type may have kernels for the parts: {half:?}");
    }

    #[test]
    fn a_result_in_blocks_is_claimed_by_name() {
        const PLAIN: Claim = Claim::new("cast", &[DEQUANTIZABLE]);
        let cast = |claim: Claim| {
            answer(&[claim], |g| {
                let x = input(g, "x", DType::F32, &[2, 32]);
                g.cast(x, DType::Q8_0).unwrap();
            })
        };
        let Support::No { reason } = cast(PLAIN) else { panic!("refused") };
        assert_eq!(reason, "a result of type q8_0 is not supported; supported: f32, f16, bf16");
        assert_eq!(cast(PLAIN.with_block_results(&[DType::Q8_0])), Support::Yes);
    }

    #[test]
    fn bytes_are_moved_without_a_claim_but_never_into_a_weight() {
        let copy = answer(&[], |g| {
            let x = input(g, "x", DType::Q4_K, &[2, 256]);
            g.copy(x).unwrap();
        });
        assert_eq!(copy, Support::Yes);
        let change = answer(&[Claim::new("scatter_rows", &[F32, F32, INDICES])], |g| {
            let table = g.weight("table", TensorType::new(DType::F32, &[4.into(), 2.into()]).unwrap()).unwrap();
            let (rows, index) = (input(g, "rows", DType::F32, &[1, 2]), input(g, "index", DType::I32, &[1]));
            g.scatter_rows(table, rows, index).unwrap();
        });
        let Support::No { reason } = change else { panic!("refused") };
        assert!(reason.contains("`table` is a weight"), "{reason}");
    }
}
