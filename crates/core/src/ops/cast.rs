//! `cast(x [..] any) -> [..]` of type f32, f16, bf16 or q8_0
//!
//! The same numbers in another type, rounded to nearest even; out of f16's range they become infinite. From a block
//! format the numbers are the dequantized ones.
//!
//! To q8_0, which is for cached keys and values, `x` is f32, f16 or bf16, and each 32 numbers of a row become a block, by
//! the rule of ggml's `quantize_row_q8_0_ref`, all in f32: `d = max |x| / 127`, and `code = x * (1 / d)` to the nearest,
//! halves away from zero; where `d` is 0 all codes are. Then `d` is stored as f16. A block with an infinity or a NaN
//! reads as NaN throughout. Two blocks are the same if they mean the same numbers.

use super::{CACHE_TYPES, Op, OperandError, Operands};
use crate::DType;
use crate::graph::{GraphBuilder, GraphError, TensorType, ValueId};

pub(super) fn infer(inputs: &[TensorType], to: DType) -> Result<Vec<TensorType>, OperandError> {
    let ops = Operands::new(&["x"], 1, inputs)?;
    let x = ops.ty(0);
    ops.check(0, x.dtype.is_float(), "be of a float type")?;
    if !CACHE_TYPES.contains(&to) {
        return Err(OperandError::Attribute {
            attribute: "to",
            found: to.to_string(),
            rule: "be f32, f16, bf16 or q8_0".into(),
        });
    }
    if to.is_block() {
        ops.float(0)?;
    }
    let whole = TensorType::new(to, x.shape.dims()).is_some();
    ops.check(0, whole, format!("have rows of a multiple of {}, as {to} has blocks", to.block_elems()))?;
    Ok(vec![TensorType { dtype: to, shape: x.shape }])
}

impl GraphBuilder {
    /// Another element type: see [`crate::ops::cast`].
    pub fn cast(&mut self, x: ValueId, to: DType) -> Result<ValueId, GraphError> {
        self.push_one(Op::Cast { to }, &[x])
    }
}
