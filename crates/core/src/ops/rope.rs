//! `rope(x [T, H * head_dim] float, cos [T, R / 2] f32, sin [T, R / 2] f32) -> [T, H * head_dim]` of x's type
//!
//! In every head, element `i < R / 2` is rotated with element `i + R / 2` (the Hugging Face layout, "rotate half"):
//! `y[i] = x[i] cos[i] - x[i + R/2] sin[i]` and `y[i + R/2] = x[i + R/2] cos[i] + x[i] sin[i]`; elements from `R` on
//! stay as they are (Su et al. 2021). Cosines and sines come ready from the framework, which computes the angles in
//! f64 for every kind of RoPE scaling, so a backend never sees a frequency.

use super::{Op, OperandError, Operands};
use crate::DType;
use crate::graph::{GraphBuilder, GraphError, TensorType, ValueId};

pub(super) const OPERANDS: &[&str] = &["x", "cos", "sin"];

pub(super) fn infer(inputs: &[TensorType], head_dim: usize) -> Result<Vec<TensorType>, OperandError> {
    let ops = Operands::new(OPERANDS, 3, inputs)?;
    let (x, cos, sin) = (ops.float(0)?, ops.ty(1), ops.ty(2));
    let whole_heads = x.shape.last_fixed().is_some_and(|n| head_dim > 0 && n.is_multiple_of(head_dim));
    ops.check(0, x.shape.rank() == 2 && whole_heads, format!("be [T, H * {head_dim}], whole heads"))?;
    let half = cos.shape.last_fixed().unwrap_or(0);
    let rows = cos.dtype == DType::F32 && cos.shape.rank() == 2 && cos.shape.dims()[0] == x.shape.dims()[0];
    ops.check(1, rows && half > 0, format!("be f32 [{}, R / 2], a row for each row of x", x.shape.dims()[0]))?;
    ops.check(1, 2 * half <= head_dim, format!("rotate at most head_dim = {head_dim} elements"))?;
    ops.check(2, sin == cos, format!("be {cos} as cos is"))?;
    Ok(vec![x])
}

impl GraphBuilder {
    /// Rotary position embedding: see [`crate::ops::rope`].
    pub fn rope(&mut self, x: ValueId, cos: ValueId, sin: ValueId, head_dim: usize) -> Result<ValueId, GraphError> {
        self.push_one(Op::Rope { head_dim }, &[x, cos, sin])
    }
}
