//! `swiglu(gate [..] float, up [..] float) -> [..]`; macro
//!
//! `y = silu(gate) * up` (Shazeer 2020). Lowering: `mul(activation(gate, silu), up)`.

use super::{Activation, Op, OperandError, Operands};
use crate::graph::{GraphBuilder, GraphError, TensorType, ValueId};

pub(super) const OPERANDS: &[&str] = &["gate", "up"];

pub(super) fn infer(inputs: &[TensorType]) -> Result<Vec<TensorType>, OperandError> {
    let ops = Operands::new(OPERANDS, 2, inputs)?;
    let gate = ops.float(0)?;
    ops.check(1, ops.ty(1) == gate, format!("be {gate} as gate is"))?;
    Ok(vec![gate])
}

pub(super) fn lower(g: &mut GraphBuilder, inputs: &[ValueId]) -> Result<Vec<ValueId>, GraphError> {
    let gate = g.activation(inputs[0], Activation::Silu)?;
    Ok(vec![g.mul(gate, inputs[1])?])
}

impl GraphBuilder {
    /// `silu(gate) * up`: see [`crate::ops::swiglu`].
    pub fn swiglu(&mut self, gate: ValueId, up: ValueId) -> Result<ValueId, GraphError> {
        self.push_one(Op::Swiglu, &[gate, up])
    }
}
