//! `rms_norm(x [.., D] float, weight [D] float) -> [.., D]` of x's type
//!
//! `y = x / sqrt(mean(x^2) + eps) * weight`, the mean over the last dimension (Zhang and Sennrich 2019). The
//! statistics are computed in f32 or better whatever the type of x, as `LlamaRMSNorm` does.

use super::{Op, OperandError, Operands, positive_eps};
use crate::graph::{GraphBuilder, GraphError, TensorType, ValueId};

pub(super) const OPERANDS: &[&str] = &["x", "weight"];

pub(super) fn infer(inputs: &[TensorType], eps: f32) -> Result<Vec<TensorType>, OperandError> {
    positive_eps(eps)?;
    let ops = Operands::new(OPERANDS, 2, inputs)?;
    let (x, weight) = (ops.float(0)?, ops.float(1)?);
    ops.check(0, x.shape.last_fixed().is_some(), "have rows of a fixed length")?;
    let row = &x.shape.dims()[x.shape.rank() - 1..];
    ops.check(1, weight.shape.dims() == row, format!("be [{}], one number for each element of a row of x", row[0]))?;
    Ok(vec![x])
}

impl GraphBuilder {
    /// Root-mean-square normalisation: see [`crate::ops::rms_norm`].
    pub fn rms_norm(&mut self, x: ValueId, weight: ValueId, eps: f32) -> Result<ValueId, GraphError> {
        self.push_one(Op::RmsNorm { eps }, &[x, weight])
    }
}
