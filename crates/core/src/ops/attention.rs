//! `attention(q [T, H * D] float, k_cache [N, G * D] cache, v_cache [N, G * D] cache, q_start [P] i32, seq_len [S] i32,
//! block_table [S, B] i32) -> [T, H * D]` of q's type; macro
//!
//! Causal attention of every new token over its own sequence's cached keys and values, with `H` query heads in
//! groups of `H / G` that share a key/value head: query head `h` reads key/value head `h / (H / G)`.
//! Token `t` of sequence `s` (`q_start[s] <= t < q_start[s + 1]`) stands at index
//! `i = seq_len[s] - (q_start[s + 1] - t)` of its sequence and sees the indices `j <= i`, with a window only
//! `j > i - window`; index `j` lies in cache row `block_table[s, j / block_size] * block_size + j % block_size`.
//! `y = softmax(scale * q k^T) v` (Vaswani et al. 2017; Ainslie et al. 2023 for the groups). A padding token, past
//! `q_start[S]`, gives zeros. The numbers of a q8_0 cache are `code * d`; `D` is then a multiple of 32, so that every
//! head is whole blocks.
//!
//! Lowering: every token gathers its own context, `[T, G, L, D]` large: exact and slow, for backends that have no
//! attention yet. The host computes two more inputs, the rows and the mask ([`StepInput::ContextRow`],
//! [`StepInput::ContextMask`]).

use std::fmt;

use super::{Op, OperandError, Operands, check_cache_type};
use crate::DType;
use crate::graph::{Dim, GraphBuilder, GraphError, StepInput, Symbol, TensorType, ValueId};

pub(super) const OPERANDS: &[&str] = &["q", "k_cache", "v_cache", "q_start", "seq_len", "block_table"];

/// The attributes of attention.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionSpec {
    /// Query heads, `H`.
    pub num_heads: usize,
    /// Key/value heads, `G`; divides `num_heads`.
    pub num_kv_heads: usize,
    /// Width of a head, `D`.
    pub head_dim: usize,
    /// Rows of a cache block.
    pub block_size: usize,
    /// Multiplies the scores; usually `1 / sqrt(head_dim)`.
    pub scale: f32,
    /// How many tokens, itself included, a token sees; all if `None`.
    pub window: Option<usize>,
}

impl fmt::Display for AttentionSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AttentionSpec { num_heads, num_kv_heads, head_dim, block_size, scale, window } = self;
        write!(f, "heads={num_heads} kv_heads={num_kv_heads} head_dim={head_dim} block={block_size} scale={scale}")?;
        window.map_or(Ok(()), |w| write!(f, " window={w}"))
    }
}

impl AttentionSpec {
    fn check(&self) -> Result<(), OperandError> {
        let wrong = |attribute, found: usize, rule: &str| {
            Err(OperandError::Attribute { attribute, found: found.to_string(), rule: rule.into() })
        };
        if self.num_kv_heads == 0 || !self.num_heads.is_multiple_of(self.num_kv_heads) || self.num_heads == 0 {
            return wrong("num_kv_heads", self.num_kv_heads, &format!("divide num_heads = {}", self.num_heads));
        }
        if self.head_dim == 0 || self.block_size == 0 {
            return wrong("head_dim and block_size", self.head_dim.min(self.block_size), "be at least 1");
        }
        if self.num_heads.checked_mul(self.head_dim).is_none() {
            return wrong("head_dim", self.head_dim, &format!("be small enough for {} heads", self.num_heads));
        }
        if self.window == Some(0) {
            return wrong("window", 0, "be at least 1: a token sees itself");
        }
        if !self.scale.is_finite() {
            return Err(OperandError::Attribute {
                attribute: "scale",
                found: self.scale.to_string(),
                rule: "be a finite number".into(),
            });
        }
        Ok(())
    }
}

pub(super) fn infer(inputs: &[TensorType], spec: &AttentionSpec) -> Result<Vec<TensorType>, OperandError> {
    spec.check()?;
    let ops = Operands::new(OPERANDS, 6, inputs)?;
    let q = ops.float(0)?;
    let (width, kv_width) = (spec.num_heads * spec.head_dim, spec.num_kv_heads * spec.head_dim);
    ops.check(0, q.shape.rank() == 2 && q.shape.last_fixed() == Some(width), format!("be [T, {width}], all heads"))?;
    for i in [1, 2] {
        let cache = ops.cache(i)?;
        let fits = cache.shape.rank() == 2 && cache.shape.last_fixed() == Some(kv_width);
        ops.check(i, fits, format!("be [N, {kv_width}], all key/value heads"))?;
        let whole = check_cache_type(cache.dtype, spec.head_dim);
        ops.check(i, whole.is_ok(), whole.err().unwrap_or_default())?;
    }
    ops.check(2, ops.ty(2) == ops.ty(1), format!("be {} as k_cache is", ops.ty(1)))?;
    let rows = match ops.ty(1).shape.dims()[0] {
        // The lowering numbers the rows of every head.
        Dim::Fixed(n) => n.is_multiple_of(spec.block_size) && n.checked_mul(spec.num_kv_heads).is_some(),
        Dim::Sym(_) => false,
    };
    ops.check(1, rows, format!("have a whole number of blocks of {} rows", spec.block_size))?;
    let (q_start, seq_len, table) = (ops.index(3, 1)?, ops.index(4, 1)?, ops.index(5, 2)?);
    let bounds = match (q_start.shape.dims()[0], seq_len.shape.dims()[0]) {
        (Dim::Fixed(bounds), Dim::Fixed(sequences)) => sequences.checked_add(1) == Some(bounds),
        (bounds, sequences) => (bounds, sequences) == (Symbol::P.into(), Symbol::S.into()),
    };
    ops.check(3, bounds, format!("have one element more than seq_len {}", seq_len.shape))?;
    let same = table.shape.dims()[0] == seq_len.shape.dims()[0];
    ops.check(5, same, format!("be [{}, B], a row for each sequence", seq_len.shape.dims()[0]))?;
    Ok(vec![q])
}

pub(super) fn lower(
    g: &mut GraphBuilder,
    inputs: &[ValueId],
    spec: &AttentionSpec,
) -> Result<Vec<ValueId>, GraphError> {
    let &[q, k_cache, v_cache, ..] = inputs else { unreachable!("checked when the node was added") };
    let probabilities = context_probabilities(g, q, k_cache, spec)?;
    Ok(vec![context_values(g, probabilities, v_cache, g.ty(q), spec)?])
}

/// The first half of attention in core operations: `[T, G, H / G, L]`, what each head looks at in each token's
/// context. `Attention` implementations that give out probabilities emit this instead of the macro operation.
pub fn context_probabilities(
    g: &mut GraphBuilder,
    q: ValueId,
    k_cache: ValueId,
    spec: &AttentionSpec,
) -> Result<ValueId, GraphError> {
    let AttentionSpec { num_heads, num_kv_heads, head_dim, scale, window, .. } = *spec;
    let t = g.ty(q).shape.dims()[0];
    let keys = context_rows(g, k_cache, spec)?; // [T, G, L, D]
    let queries = g.reshape(q, &[t, num_kv_heads.into(), (num_heads / num_kv_heads).into(), head_dim.into()])?;
    let queries = as_f32(g, queries)?;
    let scores = g.bmm(queries, keys, true)?; // [T, G, H / G, L]
    let mask = g.step_input(StepInput::ContextMask { window })?;
    g.softmax(scores, Some(mask), scale)
}

/// The second half: the values weighted by `probabilities [T, G, H / G, L]`, of type `result`.
pub fn context_values(
    g: &mut GraphBuilder,
    probabilities: ValueId,
    v_cache: ValueId,
    result: TensorType,
    spec: &AttentionSpec,
) -> Result<ValueId, GraphError> {
    let values = context_rows(g, v_cache, spec)?; // [T, G, L, D]
    let mixed = g.bmm(probabilities, values, false)?; // [T, G, H / G, D]
    let mixed = g.reshape(mixed, result.shape.dims())?;
    if result.dtype == DType::F32 { Ok(mixed) } else { g.cast(mixed, result.dtype) }
}

/// `[T, G, L, D] f32`: the cache rows of each token's context, per key/value head.
fn context_rows(g: &mut GraphBuilder, cache: ValueId, spec: &AttentionSpec) -> Result<ValueId, GraphError> {
    let Dim::Fixed(slots) = g.ty(cache).shape.dims()[0] else { unreachable!("a cache has a fixed number of rows") };
    let per_head = g.reshape(cache, &[(slots * spec.num_kv_heads).into(), spec.head_dim.into()])?;
    let index = g.step_input(StepInput::ContextRow { kv_heads: spec.num_kv_heads })?;
    let rows = g.gather_rows(per_head, index)?;
    as_f32(g, rows)
}

fn as_f32(g: &mut GraphBuilder, x: ValueId) -> Result<ValueId, GraphError> {
    if g.ty(x).dtype == DType::F32 { Ok(x) } else { g.cast(x, DType::F32) }
}

impl GraphBuilder {
    /// Causal attention over the cache: see [`crate::ops::attention`].
    pub fn attention(
        &mut self,
        q: ValueId,
        [k_cache, v_cache]: [ValueId; 2],
        block_table: ValueId,
        spec: AttentionSpec,
    ) -> Result<ValueId, GraphError> {
        let q_start = self.step_input(StepInput::QStart)?;
        let seq_len = self.step_input(StepInput::SeqLen)?;
        self.push_one(Op::Attention(spec), &[q, k_cache, v_cache, q_start, seq_len, block_table])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: AttentionSpec =
        AttentionSpec { num_heads: 2, num_kv_heads: 1, head_dim: 4, block_size: 2, scale: 0.5, window: None };

    /// The message for these dimensions of `q_start` and `seq_len`.
    fn refusal(q_start: Dim, seq_len: Dim, spec: AttentionSpec) -> Option<String> {
        let ty = |dtype, dims: &[Dim]| TensorType::new(dtype, dims).unwrap();
        let cache = ty(DType::F32, &[6.into(), 4.into()]);
        let q = ty(DType::F32, &[Symbol::T.into(), 8.into()]);
        let (q_start, seq_len) = (ty(DType::I32, &[q_start]), ty(DType::I32, &[seq_len]));
        let table = ty(DType::I32, &[seq_len.shape.dims()[0], 3.into()]);
        infer(&[q, cache, cache, q_start, seq_len, table], &spec).err().map(|e| e.to_string())
    }

    #[test]
    fn there_is_one_boundary_more_than_sequences() {
        assert_eq!(refusal(Symbol::P.into(), Symbol::S.into(), SPEC), None);
        assert_eq!(refusal(3.into(), 2.into(), SPEC), None);
        for (q_start, seq_len) in
            [(Symbol::S.into(), Symbol::S.into()), (2.into(), 2.into()), (Symbol::P.into(), 1.into())]
        {
            let message = refusal(q_start, seq_len, SPEC).unwrap();
            let expected =
                format!("operand `q_start` is i32 [{q_start}], but it must have one element more than seq_len");
            assert!(message.starts_with(&expected), "{message}");
        }
    }

    #[test]
    fn heads_too_wide_to_count_are_refused() {
        let spec = AttentionSpec { head_dim: usize::MAX, ..SPEC };
        let message = refusal(Symbol::P.into(), Symbol::S.into(), spec).unwrap();
        assert!(message.contains("attribute `head_dim`"), "{message}");
    }
}
