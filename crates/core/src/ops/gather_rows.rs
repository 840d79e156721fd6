//! `gather_rows(table [N, D] any, index [..] i32) -> [.., D]`
//!
//! `y[i] = table[index[i]]`, and zeros where `index[i]` is -1. Rows of f32, f16 and bf16 tables keep their type;
//! rows of block formats are dequantized to f32. Every other index outside `0..N` is an error at run time.
//! The token embedding, the RoPE tables by position, the output rows, and lowered attention's context.

use super::{Op, OperandError, Operands, is_plain_float};
use crate::DType;
use crate::graph::{GraphBuilder, GraphError, MAX_RANK, TensorType, ValueId};

pub(super) const OPERANDS: &[&str] = &["table", "index"];

pub(super) fn infer(inputs: &[TensorType]) -> Result<Vec<TensorType>, OperandError> {
    let ops = Operands::new(OPERANDS, 2, inputs)?;
    let (table, index) = (ops.ty(0), ops.ty(1));
    let matrix = table.shape.rank() == 2 && table.shape.last_fixed().is_some();
    ops.check(0, table.dtype.is_float() && matrix, "be a float table [N, D] with a fixed D")?;
    let room = index.dtype == DType::I32 && (1..MAX_RANK).contains(&index.shape.rank());
    ops.check(1, room, "be i32 of rank 1 to 3")?;
    let dtype = if is_plain_float(table.dtype) { table.dtype } else { DType::F32 };
    let mut dims = index.shape.dims().to_vec();
    dims.push(table.shape.dims()[1]);
    Ok(vec![TensorType::new(dtype, &dims).expect("rank is at most four and the type has no blocks")])
}

impl GraphBuilder {
    /// Rows of `table` by `index`: see [`crate::ops::gather_rows`].
    pub fn gather_rows(&mut self, table: ValueId, index: ValueId) -> Result<ValueId, GraphError> {
        self.push_one(Op::GatherRows, &[table, index])
    }
}
