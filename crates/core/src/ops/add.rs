//! `add(a [..] float, b [..] float) -> [..]`: `y = a + b`, shapes and types equal; there is no broadcasting.

use super::{Op, OperandError, Operands};
use crate::graph::{GraphBuilder, GraphError, TensorType, ValueId};

pub(super) const OPERANDS: &[&str] = &["a", "b"];

pub(super) fn infer(inputs: &[TensorType]) -> Result<Vec<TensorType>, OperandError> {
    let ops = Operands::new(OPERANDS, 2, inputs)?;
    let a = ops.float(0)?;
    ops.check(1, ops.ty(1) == a, format!("be {a} as a is"))?;
    Ok(vec![a])
}

impl GraphBuilder {
    /// Elementwise sum: see [`crate::ops::add`].
    pub fn add(&mut self, a: ValueId, b: ValueId) -> Result<ValueId, GraphError> {
        self.push_one(Op::Add, &[a, b])
    }
}
