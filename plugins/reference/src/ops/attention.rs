//! `attention(q [T, H * D], k_cache [N, G * D], v_cache [N, G * D], q_start [S + 1], seq_len [S], block_table [S, B])
//! -> [T, H * D]`: causal attention of every new token over its own sequence
//!
//! One sequence after the other: its keys and values are gathered from their blocks into the order of the tokens;
//! then every head of every new token is computed for itself, `y = softmax(scale * q k^T) v`, all in f64.

use std::ops::Range;

use camelid_core::ops::AttentionSpec;
use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, Slice, Zip};
use rayon::prelude::*;

use super::OpError;
use super::softmax::normalize;
use crate::dot::dot;
use crate::memory::OutOfMemory;
use crate::tensor::Tensor;

/// The batch of a step.
pub(super) struct Step<'a> {
    /// `[S + 1]`: where each sequence's new tokens begin.
    pub q_start: &'a [i32],
    /// `[S]`: length of each sequence, its new tokens included.
    pub seq_len: &'a [i32],
    /// `[S, B]`: the blocks of each sequence.
    pub block_table: &'a [i32],
}

/// One sequence: its new tokens are rows `first..first + count` of q, the last `count` of its `len` tokens.
struct Sequence {
    first: usize,
    count: usize,
    len: usize,
}

pub(super) fn attention(
    spec: &AttentionSpec,
    q: ArrayView2<'_, f32>, // [T, H * D]
    k_cache: &Tensor<'_>,   // [N, G * D]
    v_cache: &Tensor<'_>,   // [N, G * D]
    step: &Step<'_>,
    mut y: ArrayViewMut2<'_, f32>, // [T, H * D]
) -> Result<(), OpError> {
    let AttentionSpec { num_heads, num_kv_heads, head_dim, block_size, scale, window } = *spec;
    let sequences = step.sequences(q.nrows(), block_size)?;
    y.fill(0.0); // padding tokens stay so
    for (s, Sequence { first, count, len }) in sequences.into_iter().enumerate().filter(|(_, s)| s.count > 0) {
        // Token t of the new ones stands at index `len - count + t` and sees the indices from `begin(t)` to its own.
        let begin = |t: usize| window.map_or(0, |w| (len - count + t + 1).saturating_sub(w));
        let seen_from = begin(0); // the first index that any new token sees
        let first_block = seen_from / block_size;
        let blocks = step.blocks(s, first_block..len.div_ceil(block_size), k_cache.rows() / block_size)?;
        let row = |index: usize| blocks[index / block_size - first_block] * block_size + index % block_size;
        let k = gather(k_cache, seen_from..len, row)?; // [C, G * D], C = len - seen_from
        let v = gather(v_cache, seen_from..len, row)?; // [C, G * D]

        let new = Slice::from(first..first + count);
        let heads = (count * num_heads, head_dim);
        let q = q.slice_axis(Axis(0), new).into_shape_with_order(heads).expect("rows are dense"); // [count * H, D]
        let mut y = y.slice_axis_mut(Axis(0), new).into_shape_with_order(heads).expect("rows are dense"); // [count * H, D]
        Zip::indexed(y.rows_mut()).and(q.rows()).par_for_each(|row, mut y, q| {
            let (t, head) = (row / num_heads, row % num_heads);
            let kv_head = head / (num_heads / num_kv_heads); // H / G query heads share a key/value head
            let columns = kv_head * head_dim..(kv_head + 1) * head_dim;
            let context = begin(t) - seen_from..len - count + t + 1 - seen_from; // rows of k and v that t sees
            let q = q.to_slice().expect("rows are dense"); // [D]

            let score = |c| {
                let key = &k.row(c).to_slice().expect("rows are dense")[columns.clone()]; // [D]
                f64::from(scale) * dot(q, key)
            };
            let mut weights: Vec<f64> = context.clone().map(score).collect(); // [context]
            normalize(&mut weights);

            let mut sums = vec![0.0f64; head_dim]; // [D]
            for (c, weight) in context.zip(weights) {
                let value = &v.row(c).to_slice().expect("rows are dense")[columns.clone()]; // [D]
                for (sum, value) in sums.iter_mut().zip(value) {
                    *sum += weight * f64::from(*value);
                }
            }
            for (y, sum) in y.iter_mut().zip(sums) {
                *y = sum as f32;
            }
        });
    }
    Ok(())
}

impl Step<'_> {
    /// The sequences, after a check that their tokens lie in order among the `tokens` of the step and that their
    /// blocks are as many as they need.
    fn sequences(&self, tokens: usize, block_size: usize) -> Result<Vec<Sequence>, OpError> {
        let Step { q_start, seq_len, block_table } = *self;
        let s = seq_len.len();
        if q_start.len() != s + 1 {
            return Err(OpError::Length { operand: "q_start", found: q_start.len(), expected: s + 1 });
        }
        let start = |at: usize, least: i32| {
            let value = q_start[at];
            match usize::try_from(value) {
                Ok(start) if value >= least && start <= tokens => Ok(start),
                _ => {
                    let rule =
                        format!("in {least}..={tokens}: sequences follow one another, and there are {tokens} tokens");
                    Err(OpError::Index { operand: "q_start", at, value, rule })
                }
            }
        };
        if q_start[0] != 0 {
            let rule = "0: the first sequence begins with the first token".into();
            return Err(OpError::Index { operand: "q_start", at: 0, value: q_start[0], rule });
        }
        // Checked in order: each beginning is at most the next, so none is past the tokens.
        let blocks = block_table.len().checked_div(s).unwrap_or(0); // B
        let most = blocks.saturating_mul(block_size);
        let mut sequences = Vec::with_capacity(s);
        for (at, value) in seq_len.iter().copied().enumerate() {
            let (first, next) = (start(at, 0)?, start(at + 1, q_start[at])?);
            let count = next - first;
            match usize::try_from(value) {
                Ok(len) if len >= count && (len <= most || count == 0) => {
                    sequences.push(Sequence { first, count, len })
                }
                _ => {
                    let rule = format!("in {count}..={most}: at least its new tokens, at most its {blocks} blocks");
                    return Err(OpError::Index { operand: "seq_len", at, value, rule });
                }
            }
        }
        Ok(sequences)
    }

    /// Blocks `range` of sequence `s`, after a check that the cache, of `limit` blocks, has them.
    fn blocks(&self, s: usize, range: Range<usize>, limit: usize) -> Result<Vec<usize>, OpError> {
        let row = s * self.block_table.len() / self.seq_len.len();
        let block = |at: usize| match usize::try_from(self.block_table[at]) {
            Ok(block) if block < limit => Ok(block),
            _ => {
                let rule = format!("in 0..{limit}, because sequence {s} reaches this block");
                Err(OpError::Index { operand: "block_table", at, value: self.block_table[at], rule })
            }
        };
        range.map(|b| block(row + b)).collect()
    }
}

/// The cache rows of the tokens `indices` as f32: `cache [N, W]` -> `[C, W]`.
fn gather(
    cache: &Tensor<'_>,
    indices: Range<usize>, // C of them
    row: impl Fn(usize) -> usize + Sync,
) -> Result<Array2<f32>, OutOfMemory> {
    let shape = (indices.len(), cache.row_len());
    let len = shape.0.saturating_mul(shape.1);
    let mut gathered = Vec::new();
    gathered.try_reserve_exact(len).map_err(|_| OutOfMemory { bytes: len.saturating_mul(size_of::<f32>()) })?;
    gathered.resize(len, 0.0);
    gathered.par_chunks_mut(shape.1).zip(indices).for_each(|(out, index)| cache.read_row(row(index), out));
    Ok(Array2::from_shape_vec(shape, gathered).expect("the length is that of the shape"))
}

#[cfg(test)]
mod tests;
