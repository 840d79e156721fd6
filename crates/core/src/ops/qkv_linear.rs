//! `qkv_linear(x [T, K] float, wq [Q, K], wk [W, K], wv [W, K] any, bq [Q]?, bk [W]?, bv [W]? float)
//! -> (q [T, Q], k [T, W], v [T, W])`; macro
//!
//! The three projections of attention, which read the same x; all biases or none. Lowering: three `linear`.

use super::{Op, OperandError, Operands, linear};
use crate::graph::{GraphBuilder, GraphError, TensorType, ValueId};

pub(super) const OPERANDS: &[&str] = &["x", "wq", "wk", "wv", "bq", "bk", "bv"];

pub(super) fn infer(inputs: &[TensorType]) -> Result<Vec<TensorType>, OperandError> {
    let ops = Operands::new(OPERANDS, 4, inputs)?;
    if inputs.len() != 4 && inputs.len() != 7 {
        let names = OPERANDS.join(", ");
        return Err(OperandError::Count { expected: "4 or 7".into(), names, found: inputs.len() });
    }
    ops.check(0, ops.ty(0).shape.rank() == 2, "be [T, K]")?;
    let mut results = Vec::with_capacity(3);
    for i in 1..=3 {
        let mut operands = vec![ops.ty(0), ops.ty(i)];
        operands.extend(inputs.get(i + 3));
        // The message speaks of this operation's operand names, not of linear's.
        results.extend(linear::infer(&operands).map_err(|e| match e {
            OperandError::Type { operand: "w", found, rule } => {
                OperandError::Type { operand: OPERANDS[i], found, rule }
            }
            OperandError::Type { operand: "b", found, rule } => {
                OperandError::Type { operand: OPERANDS[i + 3], found, rule }
            }
            other => other,
        })?);
    }
    Ok(results)
}

pub(super) fn lower(g: &mut GraphBuilder, inputs: &[ValueId]) -> Result<Vec<ValueId>, GraphError> {
    (1..=3).map(|i| g.linear(inputs[0], inputs[i], inputs.get(i + 3).copied())).collect()
}

impl GraphBuilder {
    /// The three projections of attention: see [`crate::ops::qkv_linear`].
    pub fn qkv_linear(
        &mut self,
        x: ValueId,
        weights: [ValueId; 3],
        biases: Option<[ValueId; 3]>,
    ) -> Result<[ValueId; 3], GraphError> {
        let mut inputs = vec![x];
        inputs.extend(weights);
        inputs.extend(biases.into_iter().flatten());
        let results = self.push(Op::QkvLinear, &inputs)?;
        Ok([results[0], results[1], results[2]])
    }
}
