//! `softmax(x [T, .., L] float, mask [T, L] f32?) -> [T, .., L]` of x's type
//!
//! `y = exp(z - max z) / sum exp(z - max z)` over the last dimension with `z = scale * x + mask`, the mask repeated
//! over the dimensions between. An element whose mask is [`MASKED`] or less has weight exactly zero and its x, which
//! may be anything, is not looked at; a row with nothing left, or of no elements, is all zeros, never NaN.

use super::{Op, OperandError, Operands};
use crate::DType;
use crate::graph::{GraphBuilder, GraphError, TensorType, ValueId};

pub(super) const OPERANDS: &[&str] = &["x", "mask"];

/// The mask value that hides an element. Finite, because a WGSL compiler may assume that there is no infinity.
pub const MASKED: f32 = -1e30;

pub(super) fn infer(inputs: &[TensorType], scale: f32) -> Result<Vec<TensorType>, OperandError> {
    if !scale.is_finite() {
        return Err(OperandError::Attribute {
            attribute: "scale",
            found: scale.to_string(),
            rule: "be a finite number".into(),
        });
    }
    let ops = Operands::new(OPERANDS, 1, inputs)?;
    let x = ops.float(0)?;
    ops.check(0, x.shape.rank() >= 1, "have at least one dimension")?;
    if inputs.len() > 1 {
        let (mask, dims) = (ops.ty(1), x.shape.dims());
        ops.check(0, dims.len() >= 2, "be [T, .., L] when there is a mask")?;
        let (first, last) = (dims[0], dims[dims.len() - 1]);
        let fits = mask.dtype == DType::F32 && mask.shape.dims() == [first, last];
        ops.check(1, fits, format!("be f32 [{first}, {last}], the first and last dimension of x"))?;
    }
    Ok(vec![x])
}

impl GraphBuilder {
    /// Softmax of the scaled and masked last dimension: see [`crate::ops::softmax`].
    pub fn softmax(&mut self, x: ValueId, mask: Option<ValueId>, scale: f32) -> Result<ValueId, GraphError> {
        let mut inputs = vec![x];
        inputs.extend(mask);
        self.push_one(Op::Softmax { scale }, &inputs)
    }
}
