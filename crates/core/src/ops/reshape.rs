//! `reshape(x [..] any) -> [shape]`: the same elements in the same order under another shape.
//!
//! Values are dense, so a backend need not move anything: the result may share the operand's memory. Both shapes
//! have the same symbols equally often and the same product of fixed dimensions. In a block format the new rows are
//! whole blocks, too.

use super::{Op, OperandError, Operands};
use crate::graph::{Dim, GraphBuilder, GraphError, Shape, TensorType, ValueId};

pub(super) fn infer(inputs: &[TensorType], shape: Shape) -> Result<Vec<TensorType>, OperandError> {
    let ops = Operands::new(&["x"], 1, inputs)?;
    let x = ops.ty(0);
    let same = x.shape.signature().is_some() && x.shape.signature() == shape.signature();
    ops.check(0, same, format!("have as many elements as {shape}"))?;
    let whole = TensorType::new(x.dtype, shape.dims()).is_some();
    ops.check(0, whole, format!("have new rows of a multiple of {}, its type's block", x.dtype.block_elems()))?;
    Ok(vec![TensorType { dtype: x.dtype, shape }])
}

impl GraphBuilder {
    /// The same elements under another shape: see [`crate::ops::reshape`].
    pub fn reshape(&mut self, x: ValueId, dims: &[Dim]) -> Result<ValueId, GraphError> {
        let shape = Shape::new(dims).ok_or_else(|| GraphError::Operand {
            op: "reshape",
            scope: String::new(),
            source: OperandError::Attribute {
                attribute: "shape",
                found: format!("{} dimensions", dims.len()),
                rule: "have at most 4 dimensions".into(),
            },
        })?;
        self.push_one(Op::Reshape { shape }, &[x])
    }
}
