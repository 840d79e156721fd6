//! `bmm(a [.., M, K] float, b [.., K, N] float) -> [.., M, N]`, or with `transpose_b` `b [.., N, K]`
//!
//! `y[.., m, n] = sum_k a[.., m, k] * b[.., k, n]`, the leading dimensions pairwise equal. Lowered attention uses it.

use super::{Op, OperandError, Operands};
use crate::graph::{GraphBuilder, GraphError, TensorType, ValueId};

pub(super) const OPERANDS: &[&str] = &["a", "b"];

pub(super) fn infer(inputs: &[TensorType], transpose_b: bool) -> Result<Vec<TensorType>, OperandError> {
    let ops = Operands::new(OPERANDS, 2, inputs)?;
    let (a, b) = (ops.float(0)?, ops.float(1)?);
    ops.check(0, a.shape.rank() >= 3, "have rank 3 or 4")?;
    let (batch, m_k) = a.shape.dims().split_at(a.shape.rank() - 2);
    let same_batch = b.shape.rank() == a.shape.rank() && b.shape.dims().starts_with(batch) && b.dtype == a.dtype;
    ops.check(1, same_batch, format!("be {} with the leading dimensions of a ({})", a.dtype, a.shape))?;
    let b_matrix = &b.shape.dims()[batch.len()..];
    let (k, n) = if transpose_b { (b_matrix[1], b_matrix[0]) } else { (b_matrix[0], b_matrix[1]) };
    ops.check(1, k == m_k[1], format!("have {} as the dimension summed over, as a has", m_k[1]))?;
    let dims: Vec<_> = batch.iter().copied().chain([m_k[0], n]).collect();
    Ok(vec![TensorType::new(a.dtype, &dims).expect("a's rank and an unblocked type")])
}

impl GraphBuilder {
    /// Batched matrix product: see [`crate::ops::bmm`].
    pub fn bmm(&mut self, a: ValueId, b: ValueId, transpose_b: bool) -> Result<ValueId, GraphError> {
        self.push_one(Op::Bmm { transpose_b }, &[a, b])
    }
}
