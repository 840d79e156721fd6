//! A graph as a plugin receives it: built anew with core's own checks, so that a backend sees only graphs that make
//! sense.
//!
//! An operation that this version does not know may come from a newer host. The graph is still read, with the
//! operation's results standing as inputs, so that every other node can be answered for.

use std::collections::HashMap;

use camelid_abi as abi;
use camelid_abi::attrs;
use camelid_core::backend::BackendError;
use camelid_core::graph::{
    Graph, GraphBuilder, NodeId, Shape, StepInput, SymbolRange, SymbolValues, TensorType, ValueId,
};
use camelid_core::ops::{AttentionSpec, Op};

use super::graph_out::{SYMBOLS, activation_of};
use super::{has, slice_in, str_in};
use crate::convert;

/// A graph that came over the border.
pub(crate) struct GraphIn {
    /// The graph; its values have the indices they had.
    pub(crate) graph: Graph,
    /// What became of each node: its place in `graph`, or why it is not there.
    pub(crate) nodes: Vec<Result<NodeId, String>>,
}

impl GraphIn {
    /// The graph, if every operation in it is known.
    pub(crate) fn complete(self) -> Result<Graph, BackendError> {
        match self.nodes.into_iter().find_map(Result::err) {
            None => Ok(self.graph),
            Some(unknown) => Err(BackendError::unsupported(unknown)),
        }
    }
}

/// The values of the symbols of a step.
pub(crate) fn symbols_in(values: &[u64]) -> Result<SymbolValues, BackendError> {
    if values.len() < SYMBOLS.len() {
        return Err(invalid(format!("{} symbols have values, but there are {}", values.len(), SYMBOLS.len())));
    }
    let value = |i: usize| {
        usize::try_from(values[i]).map_err(|_| invalid(format!("symbol {} = {} is too large", SYMBOLS[i], values[i])))
    };
    Ok(SymbolValues::new(value(0)?, value(1)?, value(2)?, value(3)?))
}

/// Reads a graph.
///
/// # Safety
/// `graph` is null or points to a graph as the ABI describes it.
pub(crate) unsafe fn graph_in(graph: *const abi::Graph) -> Result<GraphIn, BackendError> {
    if graph.is_null() {
        return Err(invalid("the graph is null"));
    }
    // SAFETY: by contract; the size is looked at before any later field.
    unsafe {
        if !has!((*graph).struct_size, abi::Graph, symbol_max) {
            return Err(invalid(format!("the graph's struct_size {} is too small", (*graph).struct_size)));
        }
        let g = &*graph;
        let values = parts(g.values, g.n_values, "values")?;
        let nodes = parts(g.nodes, g.n_nodes, "nodes")?;
        let outputs = parts(g.outputs, g.n_outputs, "outputs")?;
        let range = SymbolRange {
            min: symbols_in(slice_in(g.symbol_min, g.n_symbols as usize))?,
            max: symbols_in(slice_in(g.symbol_max, g.n_symbols as usize))?,
        };
        let mut reader = Reader { builder: GraphBuilder::new(range), made_by: HashMap::new(), values };
        reader.note_results(nodes)?;
        let places = reader.read(nodes)?;
        for output in outputs {
            if !has!((**output).struct_size, abi::Output, name) {
                return Err(invalid("an output's struct_size is too small"));
            }
            let value = reader.value_id((**output).value)?;
            reader.builder.output(str_in((**output).name), value).map_err(not_well_formed)?;
        }
        Ok(GraphIn { graph: reader.builder.finish(), nodes: places })
    }
}

fn invalid(message: impl Into<String>) -> BackendError {
    BackendError::invalid(message)
}

fn not_well_formed(error: impl std::fmt::Display) -> BackendError {
    invalid(format!("the graph is not well-formed: {error}"))
}

/// An array of pointers to parts, none of them null.
unsafe fn parts<'a, T>(array: *const *const T, n: u32, what: &str) -> Result<&'a [*const T], BackendError> {
    // SAFETY: the caller's contract.
    let parts = unsafe { slice_in(array, n as usize) };
    if parts.len() != n as usize || parts.iter().any(|p| p.is_null()) {
        return Err(invalid(format!("the graph's {what} are null")));
    }
    Ok(parts)
}

struct Reader<'a> {
    builder: GraphBuilder,
    /// For the first result of each node its index: nodes are made when their results' turn comes.
    made_by: HashMap<u32, usize>,
    values: &'a [*const abi::Value],
}

impl Reader<'_> {
    fn value_id(&self, index: u32) -> Result<ValueId, BackendError> {
        if (index as usize) < self.values.len() {
            return Ok(ValueId(index));
        }
        Err(invalid(format!("the graph names value {index}, but it has {}", self.values.len())))
    }

    unsafe fn note_results(&mut self, nodes: &[*const abi::Node]) -> Result<(), BackendError> {
        for (i, node) in nodes.iter().enumerate() {
            // SAFETY: the pointers of a graph point to nodes; the size is looked at first.
            let (n, first) = unsafe {
                if !has!((**node).struct_size, abi::Node, scope) {
                    return Err(invalid(format!("node {i}'s struct_size {} is too small", (**node).struct_size)));
                }
                ((**node).n_outputs, slice_in((**node).outputs, (**node).n_outputs as usize).first().copied())
            };
            match first {
                Some(first) if self.made_by.insert(first, i).is_none() => {}
                _ => return Err(invalid(format!("node {i} has {n} results, or shares one with another node"))),
            }
        }
        Ok(())
    }

    /// Adds all values and nodes in the order of the values, so that each keeps its index.
    unsafe fn read(&mut self, nodes: &[*const abi::Node]) -> Result<Vec<Result<NodeId, String>>, BackendError> {
        let mut places = Vec::with_capacity(nodes.len());
        let mut next = 0;
        while next < self.values.len() {
            // SAFETY: the pointers of a graph point to values; the size is looked at first.
            let value = unsafe {
                if !has!((*self.values[next]).struct_size, abi::Value, step_param) {
                    return Err(invalid(format!("value {next}'s struct_size is too small")));
                }
                &*self.values[next]
            };
            let Some(&node) = self.made_by.get(&(next as u32)) else {
                // SAFETY: as above.
                unsafe { self.bound(next, value)? };
                next += 1;
                continue;
            };
            if node != places.len() {
                return Err(invalid(format!("node {node} is not in the order of its results")));
            }
            // SAFETY: as above.
            let (place, results) = unsafe { self.node(&*nodes[node], next)? };
            places.push(place);
            next += results;
        }
        if places.len() != nodes.len() {
            return Err(invalid("a node has results that are no values of the graph"));
        }
        Ok(places)
    }

    fn ty(&self, index: usize) -> Result<TensorType, BackendError> {
        // SAFETY: the pointers of a graph point to values.
        let ty = unsafe { (*self.values[index]).ty };
        convert::type_from_abi(&ty).ok_or_else(|| {
            BackendError::unsupported(format!(
                "value {index} has a type this version does not know: dtype {} of {} elements in {} bytes, rank {}, \
                 dimensions {:?}",
                ty.dtype.id, ty.dtype.block_elems, ty.dtype.block_bytes, ty.rank, ty.dim
            ))
        })
    }

    /// A value that no node makes.
    unsafe fn bound(&mut self, index: usize, value: &abi::Value) -> Result<(), BackendError> {
        // SAFETY: by contract.
        let name = unsafe { str_in(value.name) };
        let ty = self.ty(index)?;
        let added = match value.kind {
            abi::VALUE_STEP => match step_in(value.step_input, value.step_param)? {
                Some(input) if input.name() == name => self.builder.step_input(input),
                // A newer host's input is an input like another: only the host has to know what it means.
                _ => self.builder.input(name, ty),
            },
            abi::VALUE_INPUT => self.builder.input(name, ty),
            abi::VALUE_WEIGHT => self.builder.weight(name, ty),
            abi::VALUE_STATE => self.builder.state(name, ty),
            abi::VALUE_COMPUTED => return Err(invalid(format!("value {index} is computed, but no node makes it"))),
            other => return Err(BackendError::unsupported(format!("value {index} is of the unknown kind {other}"))),
        };
        let added = added.map_err(not_well_formed)?;
        if added != ValueId(index as u32) || self.builder.ty(added) != ty {
            return Err(invalid(format!("value {index} is there twice, or has not the type of its step input")));
        }
        Ok(())
    }

    /// A node, whose results begin at `first`; returns its place and how many they are.
    unsafe fn node(&mut self, node: &abi::Node, first: usize) -> Result<(Result<NodeId, String>, usize), BackendError> {
        // SAFETY: by contract.
        let (name, scope, inputs, outputs) = unsafe {
            let inputs = slice_in(node.inputs, node.n_inputs as usize);
            (str_in(node.name), str_in(node.scope), inputs, slice_in(node.outputs, node.n_outputs as usize))
        };
        let place = if scope.is_empty() { name.clone() } else { format!("{name} at {scope}") };
        if outputs.iter().enumerate().any(|(i, v)| *v as usize != first + i) {
            return Err(invalid(format!("{place}: the results are not consecutive values")));
        }
        if inputs.iter().any(|v| *v as usize >= first) {
            return Err(invalid(format!("{place}: an operand is made only later")));
        }
        // SAFETY: by contract.
        let Some(op) = (unsafe { op_in(node)? }) else {
            let (op, version) = (node.op, node.op_version);
            for index in first..first + outputs.len() {
                let ty = self.ty(index)?;
                self.builder.input(format!("%{index}"), ty).map_err(not_well_formed)?;
            }
            let why = format!("{place}: operation {op}, version {version}, is not known to this plugin");
            return Ok((Err(why), outputs.len()));
        };
        let inputs: Vec<ValueId> = inputs.iter().map(|v| ValueId(*v)).collect();
        self.builder.set_scope(scope);
        let (id, made) = self.builder.push_node(op, &inputs).map_err(not_well_formed)?;
        for (index, made) in made.iter().enumerate().map(|(i, v)| (first + i, *v)) {
            let ty = self.ty(index)?;
            if self.builder.ty(made) != ty {
                return Err(invalid(format!(
                    "{place}: the result is said to be {ty}, but it is {}",
                    self.builder.ty(made)
                )));
            }
        }
        if made.len() != outputs.len() {
            return Err(invalid(format!("{place}: there are {} results instead of {}", outputs.len(), made.len())));
        }
        Ok((Ok(id), made.len()))
    }
}

/// The step input of this code; `None` for one this version does not know.
fn step_in(code: u32, param: u64) -> Result<Option<StepInput>, BackendError> {
    let param = usize::try_from(param).map_err(|_| invalid(format!("step input {code} has the number {param}")))?;
    Ok(Some(match code {
        abi::STEP_TOKENS => StepInput::Tokens,
        abi::STEP_EMBEDS => StepInput::Embeds { hidden_size: param },
        abi::STEP_POSITIONS => StepInput::Positions,
        abi::STEP_SLOT => StepInput::Slot,
        abi::STEP_BLOCK_TABLE => StepInput::BlockTable { blocks: param },
        abi::STEP_SEQ_LEN => StepInput::SeqLen,
        abi::STEP_Q_START => StepInput::QStart,
        abi::STEP_OUT_ROW => StepInput::OutRow,
        abi::STEP_CONTEXT_ROW => StepInput::ContextRow { kv_heads: param },
        abi::STEP_CONTEXT_MASK => StepInput::ContextMask { window: (param > 0).then_some(param) },
        _ => return Ok(None),
    }))
}

/// The operation of a node; `None` for one this version does not know.
unsafe fn op_in(node: &abi::Node) -> Result<Option<Op>, BackendError> {
    if node.op_version != 1 {
        return Ok(None);
    }
    let wide = |what: &str, n: u64| usize::try_from(n).map_err(|_| invalid(format!("attribute {what} = {n}")));
    // SAFETY: `attrs` checks the size; a plugin's caller gives attributes of the operation.
    Ok(Some(unsafe {
        match node.op {
            abi::OP_GATHER_ROWS => Op::GatherRows,
            abi::OP_LINEAR => Op::Linear,
            abi::OP_BMM => Op::Bmm { transpose_b: attributes::<attrs::BmmAttrs>(node)?.transpose_b != 0 },
            abi::OP_RMS_NORM => Op::RmsNorm { eps: attributes::<attrs::RmsNormAttrs>(node)?.eps },
            abi::OP_ROPE => Op::Rope { head_dim: wide("head_dim", attributes::<attrs::RopeAttrs>(node)?.head_dim)? },
            abi::OP_ADD => Op::Add,
            abi::OP_MUL => Op::Mul,
            abi::OP_ACTIVATION => match activation_of(attributes::<attrs::ActivationAttrs>(node)?.kind) {
                Some(kind) => Op::Activation(kind),
                None => return Ok(None),
            },
            abi::OP_SOFTMAX => Op::Softmax { scale: attributes::<attrs::SoftmaxAttrs>(node)?.scale },
            abi::OP_SCATTER_ROWS => Op::ScatterRows,
            abi::OP_CAST => match convert::dtype_from_abi(attributes::<attrs::CastAttrs>(node)?.to) {
                Some(to) => Op::Cast { to },
                None => return Ok(None),
            },
            abi::OP_COPY => Op::Copy,
            abi::OP_RESHAPE => {
                let attrs::ReshapeAttrs { rank, dim, .. } = attributes(node)?;
                match convert::dims_from_abi(rank, &dim).and_then(|dims| Shape::new(&dims)) {
                    Some(shape) => Op::Reshape { shape },
                    None => return Ok(None),
                }
            }
            abi::OP_KV_APPEND => Op::KvAppend,
            abi::OP_ATTENTION => {
                let a: attrs::AttentionAttrs = attributes(node)?;
                Op::Attention(AttentionSpec {
                    num_heads: wide("num_heads", a.num_heads)?,
                    num_kv_heads: wide("num_kv_heads", a.num_kv_heads)?,
                    head_dim: wide("head_dim", a.head_dim)?,
                    block_size: wide("block_size", a.block_size)?,
                    scale: a.scale,
                    window: (a.window > 0).then_some(wide("window", a.window)?),
                })
            }
            abi::OP_SWIGLU => Op::Swiglu,
            abi::OP_QKV_LINEAR => Op::QkvLinear,
            abi::OP_ADD_RMS_NORM => Op::AddRmsNorm { eps: attributes::<attrs::RmsNormAttrs>(node)?.eps },
            _ => return Ok(None),
        }
    }))
}

/// The attributes of a node.
///
/// # Safety
/// `node.attrs` is null or points to `attrs_size` bytes that hold a `T` if there are as many.
unsafe fn attributes<T: Copy>(node: &abi::Node) -> Result<T, BackendError> {
    if node.attrs.is_null() || (node.attrs_size as usize) < size_of::<T>() {
        return Err(invalid(format!(
            "operation {} comes with {} bytes of attributes instead of {}",
            node.op,
            node.attrs_size,
            size_of::<T>()
        )));
    }
    // SAFETY: large enough; alignment is not taken for granted.
    Ok(unsafe { node.attrs.cast::<T>().read_unaligned() })
}
