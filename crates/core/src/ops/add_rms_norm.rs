//! `add_rms_norm(x [.., D] float, residual [.., D] float, weight [D] float) -> (sum [.., D], y [.., D])`; macro
//!
//! `sum = x + residual` and `y = rms_norm(sum, weight)`: the end of one sublayer and the beginning of the next.
//! Lowering: `add`, then `rms_norm`.

use super::{Op, OperandError, Operands, rms_norm};
use crate::graph::{GraphBuilder, GraphError, TensorType, ValueId};

pub(super) const OPERANDS: &[&str] = &["x", "residual", "weight"];

pub(super) fn infer(inputs: &[TensorType], eps: f32) -> Result<Vec<TensorType>, OperandError> {
    let ops = Operands::new(OPERANDS, 3, inputs)?;
    let x = ops.float(0)?;
    ops.check(1, ops.ty(1) == x, format!("be {x} as x is"))?;
    rms_norm::infer(&[x, ops.ty(2)], eps)?;
    Ok(vec![x, x])
}

pub(super) fn lower(g: &mut GraphBuilder, inputs: &[ValueId], eps: f32) -> Result<Vec<ValueId>, GraphError> {
    let sum = g.add(inputs[0], inputs[1])?;
    Ok(vec![sum, g.rms_norm(sum, inputs[2], eps)?])
}

impl GraphBuilder {
    /// Residual sum and its normalisation: see [`crate::ops::add_rms_norm`]. Returns `(sum, y)`.
    pub fn add_rms_norm(
        &mut self,
        x: ValueId,
        residual: ValueId,
        weight: ValueId,
        eps: f32,
    ) -> Result<(ValueId, ValueId), GraphError> {
        let results = self.push(Op::AddRmsNorm { eps }, &[x, residual, weight])?;
        Ok((results[0], results[1]))
    }
}
