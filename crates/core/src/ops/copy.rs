//! `copy(x [..] any) -> [..]`: the same bytes in memory of their own, as when an input is also an output.

use super::{Op, OperandError, Operands};
use crate::graph::{GraphBuilder, GraphError, TensorType, ValueId};

pub(super) fn infer(inputs: &[TensorType]) -> Result<Vec<TensorType>, OperandError> {
    Ok(vec![Operands::new(&["x"], 1, inputs)?.ty(0)])
}

impl GraphBuilder {
    /// The same elements in memory of their own: see [`crate::ops::copy`].
    pub fn copy(&mut self, x: ValueId) -> Result<ValueId, GraphError> {
        self.push_one(Op::Copy, &[x])
    }
}
