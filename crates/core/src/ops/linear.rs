//! `linear(x [.., K] float, w [N, K] any, b [N] float?) -> [.., N]` of x's type
//!
//! `y[.., n] = sum_k x[.., k] * w[n, k] + b[n]`: the layout of `torch.nn.Linear`. A weight in a block format is
//! taken as it lies in the file and means exactly the numbers it dequantizes to.

use super::{Op, OperandError, Operands};
use crate::graph::{GraphBuilder, GraphError, TensorType, ValueId};

pub(super) const OPERANDS: &[&str] = &["x", "w", "b"];

pub(super) fn infer(inputs: &[TensorType]) -> Result<Vec<TensorType>, OperandError> {
    let ops = Operands::new(OPERANDS, 2, inputs)?;
    let (x, w) = (ops.float(0)?, ops.ty(1));
    ops.check(0, x.shape.last_fixed().is_some(), "have rows of a fixed length")?;
    let k = x.shape.last_fixed().unwrap_or(0);
    ops.check(1, w.dtype.is_float() && w.shape.rank() == 2, "be a float matrix [N, K]")?;
    ops.check(1, w.shape.last_fixed() == Some(k), format!("have rows of {k} elements as x has"))?;
    let n = w.shape.dims()[0];
    if inputs.len() > 2 {
        let b = ops.float(2)?;
        ops.check(2, b.shape.dims() == [n], format!("be [{n}], one number for each row of w"))?;
    }
    let mut dims = x.shape.dims().to_vec();
    *dims.last_mut().expect("x has a last dimension") = n;
    Ok(vec![TensorType::new(x.dtype, &dims).expect("x's rank and an unblocked type")])
}

impl GraphBuilder {
    /// `x w^T + b`: see [`crate::ops::linear`].
    pub fn linear(&mut self, x: ValueId, w: ValueId, b: Option<ValueId>) -> Result<ValueId, GraphError> {
        let mut inputs = vec![x, w];
        inputs.extend(b);
        self.push_one(Op::Linear, &inputs)
    }
}
