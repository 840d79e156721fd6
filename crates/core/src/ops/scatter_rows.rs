//! `scatter_rows(table [N, D] cache, rows [T, D] cache, index [T] i32) -> [N, D]`, in place
//!
//! `table[index[t]] = rows[t]`, both of one type; a row whose index is -1 is left out. Two rows with one index are an
//! error of the caller: which one stays is not defined. The result is the table; the operand must not be used any more.

use super::{Op, OperandError, Operands};
use crate::graph::{GraphBuilder, GraphError, TensorType, ValueId};

pub(super) const OPERANDS: &[&str] = &["table", "rows", "index"];

pub(super) fn infer(inputs: &[TensorType]) -> Result<Vec<TensorType>, OperandError> {
    let ops = Operands::new(OPERANDS, 3, inputs)?;
    let (table, rows, index) = (ops.cache(0)?, ops.ty(1), ops.index(2, 1)?);
    ops.check(0, table.shape.rank() == 2, "be a table [N, D]")?;
    let (t, d) = (index.shape.dims()[0], table.shape.dims()[1]);
    let fits = rows.dtype == table.dtype && rows.shape.dims() == [t, d];
    ops.check(1, fits, format!("be {} [{t}, {d}], a row of the table for each index", table.dtype))?;
    Ok(vec![table])
}

impl GraphBuilder {
    /// Writes rows into a table in place: see [`crate::ops::scatter_rows`].
    pub fn scatter_rows(&mut self, table: ValueId, rows: ValueId, index: ValueId) -> Result<ValueId, GraphError> {
        self.push_one(Op::ScatterRows, &[table, rows, index])
    }
}
