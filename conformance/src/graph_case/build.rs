//! The graph of a case, for a range of symbols.

use std::collections::HashMap;

use camelid_core::DType;
use camelid_core::graph::{Dim, Graph, GraphBuilder, Shape, SymbolRange, TensorType, ValueId};
use camelid_core::ops::{Activation, AttentionSpec, Op};
use serde::Deserialize;

use super::file::{DimSpec, GraphCase, Kind, NodeSpec, ValueSpec};

/// Builds the graph: bound values in the order of the case, then its nodes; every result that a step expects is an output.
///
/// # Errors
/// What is wrong with the case.
pub fn graph(case: &GraphCase, range: SymbolRange) -> Result<Graph, String> {
    let mut g = GraphBuilder::new(range);
    let mut ids: HashMap<&str, ValueId> = HashMap::new();
    for value in &case.values {
        let ty = ty(value)?;
        let id = match value.kind {
            Kind::Input => g.input(&value.name, ty),
            Kind::Weight => g.weight(&value.name, ty),
            Kind::State => g.state(&value.name, ty),
        };
        ids.insert(&value.name, id.map_err(|e| e.to_string())?);
    }
    for node in &case.nodes {
        g.set_scope(&case.id);
        let operands = node.inputs.iter().map(|name| {
            ids.get(name.as_str()).copied().ok_or_else(|| format!("{}: operand `{name}` is not there", node.op))
        });
        let operands: Vec<_> = operands.collect::<Result<_, _>>()?;
        let results = g.push(op(node)?, &operands).map_err(|e| e.to_string())?;
        if results.len() != node.outputs.len() {
            return Err(format!("{} has {} results, {} are named", node.op, results.len(), node.outputs.len()));
        }
        ids.extend(node.outputs.iter().map(String::as_str).zip(results));
    }
    let mut outputs: Vec<&str> = Vec::new();
    for name in case.step.iter().flat_map(|s| &s.expect).map(|e| e.output.as_str()) {
        if !outputs.contains(&name) {
            outputs.push(name);
        }
    }
    if outputs.is_empty() {
        outputs.extend(case.nodes.last().and_then(|n| n.outputs.first()).map(String::as_str));
    }
    for name in outputs {
        let id = ids.get(name).ok_or_else(|| format!("output `{name}` is not there"))?;
        g.output(name, *id).map_err(|e| e.to_string())?;
    }
    Ok(g.finish())
}

/// The type of a bound value.
///
/// # Errors
/// If it is none.
pub fn ty(value: &ValueSpec) -> Result<TensorType, String> {
    let dims: Vec<Dim> = value.shape.iter().map(|d| d.0).collect();
    TensorType::new(value.dtype, &dims)
        .ok_or_else(|| format!("`{}`: no such type: {} {dims:?}", value.name, value.dtype))
}

fn op(node: &NodeSpec) -> Result<Op, String> {
    let attrs = node.attrs.clone();
    let attrs: Attrs = attrs.try_into().map_err(|e| format!("{}: attrs: {e}", node.op))?;
    let missing = |name: &str| format!("{}: attrs: `{name}` is missing", node.op);
    let number = |value: Option<usize>, name| value.ok_or_else(|| missing(name));
    let real = |value: Option<f64>, name| value.map(|x| x as f32).ok_or_else(|| missing(name));
    Ok(match node.op.as_str() {
        "gather_rows" => Op::GatherRows,
        "linear" => Op::Linear,
        "bmm" => Op::Bmm { transpose_b: attrs.transpose_b.unwrap_or(false) },
        "rms_norm" => Op::RmsNorm { eps: real(attrs.eps, "eps")? },
        "rope" => Op::Rope { head_dim: number(attrs.head_dim, "head_dim")? },
        "add" => Op::Add,
        "mul" => Op::Mul,
        "activation" => {
            let kind = attrs.kind.as_deref().ok_or_else(|| missing("kind"))?;
            Op::Activation(Activation::from_name(kind).ok_or_else(|| format!("activation `{kind}` is not known"))?)
        }
        "softmax" => Op::Softmax { scale: attrs.scale.map_or(1.0, |x| x as f32) },
        "scatter_rows" => Op::ScatterRows,
        "cast" => {
            let to = attrs.to.as_deref().ok_or_else(|| missing("to"))?;
            Op::Cast { to: DType::from_name(to).ok_or_else(|| format!("cast: `{to}` is no element type"))? }
        }
        "copy" => Op::Copy,
        "reshape" => {
            let dims: Vec<Dim> = attrs.shape.ok_or_else(|| missing("shape"))?.iter().map(|d| d.0).collect();
            Op::Reshape { shape: Shape::new(&dims).ok_or("reshape: too many dimensions")? }
        }
        "kv_append" => Op::KvAppend,
        "attention" => Op::Attention(AttentionSpec {
            num_heads: number(attrs.num_heads, "num_heads")?,
            num_kv_heads: number(attrs.num_kv_heads, "num_kv_heads")?,
            head_dim: number(attrs.head_dim, "head_dim")?,
            block_size: number(attrs.block_size, "block_size")?,
            scale: real(attrs.scale, "scale")?,
            window: attrs.window,
        }),
        "swiglu" => Op::Swiglu,
        "qkv_linear" => Op::QkvLinear,
        "add_rms_norm" => Op::AddRmsNorm { eps: real(attrs.eps, "eps")? },
        other => return Err(format!("`{other}` is no operation")),
    })
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Attrs {
    eps: Option<f64>,
    head_dim: Option<usize>,
    transpose_b: Option<bool>,
    kind: Option<String>,
    scale: Option<f64>,
    to: Option<String>,
    shape: Option<Vec<DimSpec>>,
    num_heads: Option<usize>,
    num_kv_heads: Option<usize>,
    block_size: Option<usize>,
    window: Option<usize>,
}
