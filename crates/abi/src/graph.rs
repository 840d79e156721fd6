//! The graph as it crosses the border: borrowed for the call, arrays of pointers so that the parts can grow.

use core::ffi::c_void;

use super::{Str, TensorType};

/// A value: its type, and what it is called.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Value {
    /// Size of this struct as the sender knows it.
    pub struct_size: u32,
    /// `VALUE_*`.
    pub kind: u32,
    /// Element type and shape.
    pub ty: TensorType,
    /// For weights the tensor's name in Hugging Face form.
    pub name: Str,
    /// The value whose memory this one takes over, or `NO_VALUE`.
    pub in_place_of: u32,
    /// `STEP_*` if `kind` is `VALUE_STEP`, else 0.
    pub step_input: u32,
    /// The number that belongs to the step input, else 0.
    pub step_param: u64,
}

/// An operation with its operands and results.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Node {
    /// Size of this struct as the sender knows it.
    pub struct_size: u32,
    /// `OP_*`, or a vendor's own.
    pub op: u32,
    /// 1; a changed meaning of an operation counts up.
    pub op_version: u32,
    /// Operands.
    pub n_inputs: u32,
    /// Results.
    pub n_outputs: u32,
    /// Bytes at `attrs`; at least the size of the operation's struct in this header.
    pub attrs_size: u32,
    /// Indices of the operands' values.
    pub inputs: *const u32,
    /// Indices of the results' values.
    pub outputs: *const u32,
    /// The operation's attributes, aligned to 8 bytes; null if it has none.
    pub attrs: *const c_void,
    /// The operation's name, for messages.
    pub name: Str,
    /// Where in the model this is, for messages.
    pub scope: Str,
}

/// A result the host reads after a step.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// Size of this struct as the sender knows it.
    pub struct_size: u32,
    /// Index of the value.
    pub value: u32,
    /// What the host asks for.
    pub name: Str,
}

/// A checked computation: nodes in an order in which they can run.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Graph {
    /// Size of this struct as the sender knows it.
    pub struct_size: u32,
    /// Number of values.
    pub n_values: u32,
    /// Number of nodes.
    pub n_nodes: u32,
    /// Number of outputs.
    pub n_outputs: u32,
    /// Number of symbols; at least `SYMBOL_COUNT`.
    pub n_symbols: u32,
    /// Zero.
    pub reserved: u32,
    /// The values.
    pub values: *const *const Value,
    /// The nodes.
    pub nodes: *const *const Node,
    /// The outputs.
    pub outputs: *const *const Output,
    /// The least value of each symbol, in the order T, S, O, L.
    pub symbol_min: *const u64,
    /// The greatest value of each symbol: what every buffer is large enough for.
    pub symbol_max: *const u64,
}
