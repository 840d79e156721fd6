//! `cast(x [..] any) -> [..]` of type f32, f16 or bf16
//!
//! The same numbers in another type, rounded to nearest even; out of f16's range they become infinite. From a block
//! format the numbers are the dequantized ones.

use super::{Op, OperandError, Operands, is_plain_float};
use crate::DType;
use crate::graph::{GraphBuilder, GraphError, TensorType, ValueId};

pub(super) fn infer(inputs: &[TensorType], to: DType) -> Result<Vec<TensorType>, OperandError> {
    let ops = Operands::new(&["x"], 1, inputs)?;
    let x = ops.ty(0);
    ops.check(0, x.dtype.is_float(), "be of a float type")?;
    if !is_plain_float(to) {
        return Err(OperandError::Attribute {
            attribute: "to",
            found: to.to_string(),
            rule: "be f32, f16 or bf16".into(),
        });
    }
    Ok(vec![TensorType { dtype: to, shape: x.shape }])
}

impl GraphBuilder {
    /// Another element type: see [`crate::ops::cast`].
    pub fn cast(&mut self, x: ValueId, to: DType) -> Result<ValueId, GraphError> {
        self.push_one(Op::Cast { to }, &[x])
    }
}
