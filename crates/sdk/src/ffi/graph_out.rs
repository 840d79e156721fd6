//! A graph on its way to a plugin: the ABI's structs, borrowing the names of the graph.

use std::marker::PhantomData;
use std::ptr;

use camelid_abi as abi;
use camelid_abi::attrs;
use camelid_core::backend::BackendError;
use camelid_core::graph::{Graph, Node, StepInput, Symbol, SymbolValues, Value, ValueKind};
use camelid_core::ops::{Activation, AttentionSpec, Op};

use super::{str_out, struct_size};
use crate::convert;

/// The order of the symbols whose values cross the border.
pub(crate) const SYMBOLS: [Symbol; abi::SYMBOL_COUNT as usize] = [Symbol::T, Symbol::S, Symbol::O, Symbol::L];

/// The values of the symbols as the ABI has them.
pub(crate) fn symbols_out(values: &SymbolValues) -> [u64; SYMBOLS.len()] {
    SYMBOLS.map(|s| values.get(s) as u64)
}

/// A graph in the ABI's form, for as long as the graph it was made of.
pub(crate) struct GraphOut<'a> {
    graph: abi::Graph,
    // What `graph` points to.
    _values: Vec<abi::Value>,
    _value_ptrs: Vec<*const abi::Value>,
    _nodes: Vec<abi::Node>,
    _node_ptrs: Vec<*const abi::Node>,
    _outputs: Vec<abi::Output>,
    _output_ptrs: Vec<*const abi::Output>,
    _operands: Vec<u32>,
    _attributes: Vec<u64>,
    _symbols: Vec<[u64; SYMBOLS.len()]>,
    _names: PhantomData<&'a Graph>,
}

impl<'a> GraphOut<'a> {
    /// The ABI's form of `graph`.
    pub(crate) fn new(graph: &'a Graph) -> Result<GraphOut<'a>, BackendError> {
        let values = graph.values().iter().map(value_out).collect::<Result<Vec<_>, _>>()?;
        let value_ptrs: Vec<_> = values.iter().map(ptr::from_ref).collect();

        // All operands and attributes lie in two arrays, which must not move once pointed to: places first.
        let (mut operands, mut attributes, mut places) = (Vec::new(), Vec::new(), Vec::new());
        for node in graph.nodes() {
            let size = attributes_out(&node.op, &mut attributes)?;
            places.push((operands.len(), attributes.len() - size.div_ceil(8), size));
            operands.extend(node.inputs.iter().chain(&node.outputs).map(|v| v.0));
        }
        let nodes: Vec<_> = graph
            .nodes()
            .iter()
            .zip(places)
            .map(|(node, (first, word, size))| {
                let results = first + node.inputs.len();
                node_out(node, &operands[first..results], &operands[results..], &attributes[word..], size)
            })
            .collect::<Result<_, _>>()?;
        let node_ptrs: Vec<_> = nodes.iter().map(ptr::from_ref).collect();

        let outputs: Vec<_> = graph
            .outputs()
            .iter()
            .map(|o| abi::Output {
                struct_size: struct_size::<abi::Output>(),
                value: o.value.0,
                name: str_out(&o.name),
            })
            .collect();
        let output_ptrs: Vec<_> = outputs.iter().map(ptr::from_ref).collect();
        let symbols = vec![symbols_out(&graph.range().min), symbols_out(&graph.range().max)];
        let graph = abi::Graph {
            struct_size: struct_size::<abi::Graph>(),
            n_values: count(values.len())?,
            n_nodes: count(nodes.len())?,
            n_outputs: count(outputs.len())?,
            n_symbols: abi::SYMBOL_COUNT,
            reserved: 0,
            values: value_ptrs.as_ptr(),
            nodes: node_ptrs.as_ptr(),
            outputs: output_ptrs.as_ptr(),
            symbol_min: symbols[0].as_ptr(),
            symbol_max: symbols[1].as_ptr(),
        };
        Ok(GraphOut {
            graph,
            _values: values,
            _value_ptrs: value_ptrs,
            _nodes: nodes,
            _node_ptrs: node_ptrs,
            _outputs: outputs,
            _output_ptrs: output_ptrs,
            _operands: operands,
            _attributes: attributes,
            _symbols: symbols,
            _names: PhantomData,
        })
    }

    /// What a plugin is given.
    pub(crate) fn as_ptr(&self) -> *const abi::Graph {
        &self.graph
    }
}

fn count(n: usize) -> Result<u32, BackendError> {
    u32::try_from(n).map_err(|_| BackendError::invalid(format!("the graph has {n} parts of a kind, more than 2^32")))
}

fn value_out(value: &Value) -> Result<abi::Value, BackendError> {
    let too_large =
        || BackendError::invalid(format!("value `{}` ({}) is too large for a plugin", value.name, value.ty));
    let (kind, step_input, step_param) = match value.kind {
        ValueKind::Step(input) => {
            let (code, param) = step_out(input);
            (abi::VALUE_STEP, code, param)
        }
        ValueKind::Input => (abi::VALUE_INPUT, 0, 0),
        ValueKind::Weight => (abi::VALUE_WEIGHT, 0, 0),
        ValueKind::State => (abi::VALUE_STATE, 0, 0),
        ValueKind::Computed => (abi::VALUE_COMPUTED, 0, 0),
    };
    Ok(abi::Value {
        struct_size: struct_size::<abi::Value>(),
        kind,
        ty: convert::type_to_abi(&value.ty).ok_or_else(too_large)?,
        name: str_out(&value.name),
        in_place_of: value.in_place_of.map_or(abi::NO_VALUE, |v| v.0),
        step_input,
        step_param,
    })
}

fn step_out(input: StepInput) -> (u32, u64) {
    match input {
        StepInput::Tokens => (abi::STEP_TOKENS, 0),
        StepInput::Embeds { hidden_size } => (abi::STEP_EMBEDS, hidden_size as u64),
        StepInput::Positions => (abi::STEP_POSITIONS, 0),
        StepInput::Slot => (abi::STEP_SLOT, 0),
        StepInput::BlockTable { blocks } => (abi::STEP_BLOCK_TABLE, blocks as u64),
        StepInput::SeqLen => (abi::STEP_SEQ_LEN, 0),
        StepInput::QStart => (abi::STEP_Q_START, 0),
        StepInput::OutRow => (abi::STEP_OUT_ROW, 0),
        StepInput::ContextRow { kv_heads } => (abi::STEP_CONTEXT_ROW, kv_heads as u64),
        StepInput::ContextMask { window } => (abi::STEP_CONTEXT_MASK, window.unwrap_or(0) as u64),
    }
}

fn node_out(
    node: &Node,
    inputs: &[u32],
    rest: &[u32],
    attributes: &[u64],
    size: usize,
) -> Result<abi::Node, BackendError> {
    let op = op_code(&node.op).ok_or_else(|| {
        BackendError::unsupported(format!("operation {} has no code in this interface", node.op.name()))
    })?;
    Ok(abi::Node {
        struct_size: struct_size::<abi::Node>(),
        op,
        op_version: 1,
        n_inputs: count(inputs.len())?,
        n_outputs: count(node.outputs.len())?,
        attrs_size: size as u32,
        inputs: inputs.as_ptr(),
        outputs: rest.as_ptr(),
        attrs: if size == 0 { ptr::null() } else { attributes.as_ptr().cast() },
        name: str_out(node.op.name()),
        scope: str_out(&node.scope),
    })
}

/// The code of an operation; `None` for one that is newer than this interface.
pub(crate) fn op_code(op: &Op) -> Option<u32> {
    Some(match op {
        Op::GatherRows => abi::OP_GATHER_ROWS,
        Op::Linear => abi::OP_LINEAR,
        Op::Bmm { .. } => abi::OP_BMM,
        Op::RmsNorm { .. } => abi::OP_RMS_NORM,
        Op::Rope { .. } => abi::OP_ROPE,
        Op::Add => abi::OP_ADD,
        Op::Mul => abi::OP_MUL,
        Op::Activation(_) => abi::OP_ACTIVATION,
        Op::Softmax { .. } => abi::OP_SOFTMAX,
        Op::ScatterRows => abi::OP_SCATTER_ROWS,
        Op::Cast { .. } => abi::OP_CAST,
        Op::Copy => abi::OP_COPY,
        Op::Reshape { .. } => abi::OP_RESHAPE,
        Op::KvAppend => abi::OP_KV_APPEND,
        Op::Attention(_) => abi::OP_ATTENTION,
        Op::Swiglu => abi::OP_SWIGLU,
        Op::QkvLinear => abi::OP_QKV_LINEAR,
        Op::AddRmsNorm { .. } => abi::OP_ADD_RMS_NORM,
        _ => return None,
    })
}

/// Appends the attributes of `op` to `words`, so that they are aligned to 8 bytes; returns their size in bytes.
fn attributes_out(op: &Op, words: &mut Vec<u64>) -> Result<usize, BackendError> {
    Ok(match op {
        Op::Bmm { transpose_b } => push(words, attrs::BmmAttrs { transpose_b: u32::from(*transpose_b) }),
        Op::RmsNorm { eps } | Op::AddRmsNorm { eps } => push(words, attrs::RmsNormAttrs { eps: *eps }),
        Op::Rope { head_dim } => push(words, attrs::RopeAttrs { head_dim: *head_dim as u64 }),
        Op::Activation(kind) => {
            let kind = activation_code(*kind).ok_or_else(|| {
                BackendError::unsupported(format!("activation {} has no code in this interface", kind.name()))
            })?;
            push(words, attrs::ActivationAttrs { kind })
        }
        Op::Softmax { scale } => push(words, attrs::SoftmaxAttrs { scale: *scale }),
        Op::Cast { to } => push(words, attrs::CastAttrs { to: convert::dtype_to_abi(*to) }),
        Op::Reshape { shape } => {
            let (rank, dim) = convert::dims_to_abi(shape)
                .ok_or_else(|| BackendError::invalid(format!("shape {shape} is too large for a plugin")))?;
            push(words, attrs::ReshapeAttrs { rank, reserved: 0, dim })
        }
        Op::Attention(AttentionSpec { num_heads, num_kv_heads, head_dim, block_size, scale, window }) => push(
            words,
            attrs::AttentionAttrs {
                num_heads: *num_heads as u64,
                num_kv_heads: *num_kv_heads as u64,
                head_dim: *head_dim as u64,
                block_size: *block_size as u64,
                window: window.unwrap_or(0) as u64,
                scale: *scale,
                reserved: 0,
            },
        ),
        _ => 0,
    })
}

fn push<T: Copy>(words: &mut Vec<u64>, attributes: T) -> usize {
    const { assert!(align_of::<T>() <= 8) };
    let start = words.len();
    words.resize(start + size_of::<T>().div_ceil(8), 0);
    // SAFETY: the words from `start` on have room for a `T` and are aligned for it.
    unsafe { words[start..].as_mut_ptr().cast::<T>().write(attributes) };
    size_of::<T>()
}

fn activation_code(kind: Activation) -> Option<u32> {
    Some(match kind {
        Activation::Silu => abi::ACTIVATION_SILU,
        Activation::Gelu => abi::ACTIVATION_GELU,
        Activation::GeluTanh => abi::ACTIVATION_GELU_TANH,
        Activation::QuickGelu => abi::ACTIVATION_QUICK_GELU,
        Activation::Relu => abi::ACTIVATION_RELU,
        Activation::Relu2 => abi::ACTIVATION_RELU2,
        Activation::Sigmoid => abi::ACTIVATION_SIGMOID,
        Activation::Tanh => abi::ACTIVATION_TANH,
        Activation::Mish => abi::ACTIVATION_MISH,
        _ => return None,
    })
}

/// The activation of this code, if this version knows it.
pub(crate) fn activation_of(code: u32) -> Option<Activation> {
    Activation::ALL.into_iter().find(|kind| activation_code(*kind) == Some(code))
}
