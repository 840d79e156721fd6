//! `mul(a [..] float, b [..] float) -> [..]`: `y = a * b`, shapes and types equal; there is no broadcasting.

use super::Op;
use crate::graph::{GraphBuilder, GraphError, ValueId};

impl GraphBuilder {
    /// Elementwise product: see [`crate::ops::mul`].
    pub fn mul(&mut self, a: ValueId, b: ValueId) -> Result<ValueId, GraphError> {
        self.push_one(Op::Mul, &[a, b])
    }
}
