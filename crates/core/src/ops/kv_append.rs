//! `kv_append(cache [N, W] cache, rows [T, W] float, slot [T] i32) -> [N, W]`, in place; macro
//!
//! `cache[slot[t]] = rows[t]` in the cache's type, as `cast` makes it; a padding token has slot -1 and is not stored. It
//! returns the cache that `attention` then reads, so the order of the two is written in the graph.
//!
//! Lowering: `scatter_rows(cache, cast(rows), slot)`, without the cast where the types are equal.

use super::{Op, OperandError, Operands};
use crate::DType;
use crate::graph::{GraphBuilder, GraphError, TensorType, ValueId};

pub(super) const OPERANDS: &[&str] = &["cache", "rows", "slot"];

/// The types that keys and values may be cached in.
pub const CACHE_TYPES: &[DType] = &[DType::F32, DType::F16, DType::BF16, DType::Q8_0];

/// Whether heads of `head_dim` elements may be cached in `dtype`: each must be whole blocks.
///
/// # Errors
/// The rule that the type breaks, to follow "it must".
pub fn check_cache_type(dtype: DType, head_dim: usize) -> Result<(), String> {
    if !CACHE_TYPES.contains(&dtype) {
        return Err("be f32, f16, bf16 or q8_0".into());
    }
    let block = dtype.block_elems();
    if head_dim.is_multiple_of(block) {
        return Ok(());
    }
    Err(format!("be f16, bf16 or f32, because heads of {head_dim} elements are no whole blocks of {block}"))
}

pub(super) fn infer(inputs: &[TensorType]) -> Result<Vec<TensorType>, OperandError> {
    let ops = Operands::new(OPERANDS, 3, inputs)?;
    let (cache, rows, slot) = (ops.cache(0)?, ops.float(1)?, ops.index(2, 1)?);
    ops.check(0, cache.shape.rank() == 2, "be a table [N, W]")?;
    let (t, w) = (slot.shape.dims()[0], cache.shape.dims()[1]);
    ops.check(1, rows.shape.dims() == [t, w], format!("be [{t}, {w}], a row of the cache for each slot"))?;
    Ok(vec![cache])
}

pub(super) fn lower(g: &mut GraphBuilder, inputs: &[ValueId]) -> Result<Vec<ValueId>, GraphError> {
    let &[cache, mut rows, slot] = inputs else { unreachable!("checked when the node was added") };
    let stored = g.ty(cache).dtype;
    if g.ty(rows).dtype != stored {
        rows = g.cast(rows, stored)?;
    }
    Ok(vec![g.scatter_rows(cache, rows, slot)?])
}

impl GraphBuilder {
    /// New keys or values into the cache: see [`crate::ops::kv_append`].
    pub fn kv_append(&mut self, cache: ValueId, rows: ValueId, slot: ValueId) -> Result<ValueId, GraphError> {
        self.push_one(Op::KvAppend, &[cache, rows, slot])
    }
}
