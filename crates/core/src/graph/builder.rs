//! [`GraphBuilder`]: makes graphs node by node and refuses what does not fit.

use std::collections::HashSet;

use thiserror::Error;

use super::{Graph, Node, NodeId, Output, StepInput, SymbolRange, TensorType, Value, ValueId, ValueKind};
use crate::ops::{Op, OperandError};

/// Why a node or a value could not be added.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum GraphError {
    /// An operand does not fit the operation.
    #[error("{op}{place}: {source}", place = at(scope))]
    Operand {
        /// The operation.
        op: &'static str,
        /// Where in the model.
        scope: String,
        /// Which operand, what it is, and what it should be.
        source: OperandError,
    },
    /// A value that an in-place operation has changed is used again.
    #[error("{op}{place}: operand `{operand}` ({value}) was changed in place by an earlier node; use that node's result",
            place = at(scope))]
    Stale {
        /// The operation.
        op: &'static str,
        /// Where in the model.
        scope: String,
        /// The operand.
        operand: &'static str,
        /// The value's name.
        value: String,
    },
    /// Two bound values with one name.
    #[error("the graph has two values named `{0}`; names of inputs, weights, states and outputs are unique")]
    DuplicateName(String),
    /// A weight the graph reads that nobody brings.
    #[error("the graph reads `{0}`, but the checkpoint does not have it")]
    Unbound(String),
    /// A macro operation that has no lowering was to be lowered.
    #[error("{op}{place}: a core operation has no lowering", place = at(scope))]
    NotLowerable {
        /// The operation.
        op: &'static str,
        /// Where in the model.
        scope: String,
    },
}

fn at(scope: &str) -> String {
    if scope.is_empty() { String::new() } else { format!(" at {scope}") }
}

/// Makes a [`Graph`].
///
/// There is one method an operation (`linear`, `rms_norm`, ...); each lives with its documentation in
/// [`crate::ops`] and returns the id of its result, or an error that names the operation, the operand and the rule.
///
/// ```
/// use camelid_core::DType;
/// use camelid_core::graph::{GraphBuilder, Symbol, SymbolRange, SymbolValues, TensorType};
///
/// let range = SymbolRange { min: SymbolValues::new(1, 1, 1, 1), max: SymbolValues::new(8, 1, 8, 64) };
/// let mut g = GraphBuilder::new(range);
/// let x = g.input("x", TensorType::new(DType::F32, &[Symbol::T.into(), 88.into()]).unwrap())?;
/// let w = g.weight("w", TensorType::new(DType::F32, &[200.into(), 90.into()]).unwrap())?;
/// let error = g.linear(x, w, None).unwrap_err().to_string();
/// assert_eq!(error, "linear: operand `w` is f32 [200, 90], but it must have rows of 88 elements as x has");
/// # Ok::<(), camelid_core::graph::GraphError>(())
/// ```
#[derive(Debug)]
pub struct GraphBuilder {
    values: Vec<Value>,
    nodes: Vec<Node>,
    outputs: Vec<Output>,
    range: SymbolRange,
    names: HashSet<String>,
    stale: HashSet<ValueId>,
    scope: String,
}

impl GraphBuilder {
    /// An empty graph for symbols in `range`.
    pub fn new(range: SymbolRange) -> GraphBuilder {
        GraphBuilder {
            values: Vec::new(),
            nodes: Vec::new(),
            outputs: Vec::new(),
            range,
            names: HashSet::new(),
            stale: HashSet::new(),
            scope: String::new(),
        }
    }

    /// Names the part of the model that the next nodes belong to; messages show it.
    pub fn set_scope(&mut self, scope: impl Into<String>) {
        self.scope = scope.into();
    }

    /// An input with a meaning of its own to whoever builds the graph.
    pub fn input(&mut self, name: impl Into<String>, ty: TensorType) -> Result<ValueId, GraphError> {
        self.bound(name.into(), ty, ValueKind::Input)
    }

    /// An input that the engine writes at every step; asked for twice, it is the same value.
    pub fn step_input(&mut self, input: StepInput) -> Result<ValueId, GraphError> {
        if let Some(i) = self.values.iter().position(|v| v.kind == ValueKind::Step(input)) {
            return Ok(ValueId(i as u32));
        }
        self.bound(input.name(), input.ty(), ValueKind::Step(input))
    }

    /// A weight.
    pub fn weight(&mut self, name: impl Into<String>, ty: TensorType) -> Result<ValueId, GraphError> {
        self.bound(name.into(), ty, ValueKind::Weight)
    }

    /// A value that lives from step to step and is changed in place.
    pub fn state(&mut self, name: impl Into<String>, ty: TensorType) -> Result<ValueId, GraphError> {
        self.bound(name.into(), ty, ValueKind::State)
    }

    /// Lets the host read `value` under `name`.
    pub fn output(&mut self, name: impl Into<String>, value: ValueId) -> Result<(), GraphError> {
        let name = name.into();
        self.claim_name(&name)?;
        self.outputs.push(Output { name, value });
        Ok(())
    }

    /// The type of a value.
    ///
    /// # Panics
    /// If `id` was not made by this builder.
    pub fn ty(&self, id: ValueId) -> TensorType {
        self.values[id.0 as usize].ty
    }

    /// Adds a node for `op` after checking its operands, and returns its results.
    ///
    /// The methods named after operations call this; it is public for tools that copy graphs.
    pub fn push(&mut self, op: Op, inputs: &[ValueId]) -> Result<Vec<ValueId>, GraphError> {
        Ok(self.push_node(op, inputs)?.1)
    }

    /// [`GraphBuilder::push`], returning the node too.
    pub fn push_node(&mut self, op: Op, inputs: &[ValueId]) -> Result<(NodeId, Vec<ValueId>), GraphError> {
        let types: Vec<TensorType> = inputs.iter().map(|v| self.ty(*v)).collect();
        let results = op.infer(&types).map_err(|source| GraphError::Operand {
            op: op.name(),
            scope: self.scope.clone(),
            source,
        })?;
        if let Some((i, value)) = inputs.iter().enumerate().find(|(_, v)| self.stale.contains(v)) {
            return Err(GraphError::Stale {
                op: op.name(),
                scope: self.scope.clone(),
                operand: op.operand_names().get(i).copied().unwrap_or("?"),
                value: self.values[value.0 as usize].name.clone(),
            });
        }
        let in_place_of = op.changes_in_place().map(|i| inputs[i]);
        if let Some(older) = in_place_of {
            self.stale.insert(older);
        }
        let outputs: Vec<ValueId> = results
            .into_iter()
            .map(|ty| {
                let id = ValueId(self.values.len() as u32);
                let name = format!("%{}", id.0);
                self.values.push(Value { name, ty, kind: ValueKind::Computed, in_place_of });
                id
            })
            .collect();
        let node = NodeId(self.nodes.len() as u32);
        self.nodes.push(Node { op, inputs: inputs.to_vec(), outputs: outputs.clone(), scope: self.scope.clone() });
        Ok((node, outputs))
    }

    /// The finished graph.
    pub fn finish(self) -> Graph {
        Graph { values: self.values, nodes: self.nodes, outputs: self.outputs, range: self.range }
    }

    pub(crate) fn push_one(&mut self, op: Op, inputs: &[ValueId]) -> Result<ValueId, GraphError> {
        Ok(self.push(op, inputs)?[0])
    }

    pub(crate) fn bound(&mut self, name: String, ty: TensorType, kind: ValueKind) -> Result<ValueId, GraphError> {
        self.claim_name(&name)?;
        let id = ValueId(self.values.len() as u32);
        self.values.push(Value { name, ty, kind, in_place_of: None });
        Ok(id)
    }

    fn claim_name(&mut self, name: &str) -> Result<(), GraphError> {
        if !self.names.insert(name.to_owned()) {
            return Err(GraphError::DuplicateName(name.to_owned()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;
    use crate::graph::{Symbol, SymbolValues};

    fn builder() -> GraphBuilder {
        GraphBuilder::new(SymbolRange { min: SymbolValues::new(1, 1, 1, 1), max: SymbolValues::new(8, 1, 8, 64) })
    }

    #[test]
    fn names_are_unique_and_step_inputs_shared() {
        let mut g = builder();
        let a = g.step_input(StepInput::Tokens).unwrap();
        assert_eq!(g.step_input(StepInput::Tokens).unwrap(), a);
        let ty = g.ty(a);
        assert_eq!(g.input("tokens", ty), Err(GraphError::DuplicateName("tokens".into())));
    }

    #[test]
    fn a_value_changed_in_place_cannot_be_used_again() {
        let mut g = builder();
        let cache = g.state("k", TensorType::new(DType::F32, &[4.into(), 2.into()]).unwrap()).unwrap();
        let rows = g.input("rows", TensorType::new(DType::F32, &[Symbol::T.into(), 2.into()]).unwrap()).unwrap();
        let slot = g.step_input(StepInput::Slot).unwrap();
        g.set_scope("layer");
        let newer = g.scatter_rows(cache, rows, slot).unwrap();
        let error = g.scatter_rows(cache, rows, slot).unwrap_err().to_string();
        assert!(error.contains("scatter_rows at layer: operand `table` (k) was changed in place"), "{error}");
        g.scatter_rows(newer, rows, slot).unwrap();
    }
}
