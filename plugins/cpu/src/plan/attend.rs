//! Attention, and in a plan for one token what comes before it, into phases.

use std::sync::Arc;

use camelid_core::DType;
use camelid_core::backend::{BackendError, ErrorCode};
use camelid_core::graph::{Node, NodeId, Symbol, ValueId};
use camelid_core::ops::Op;

use super::build::{Builder, Target};
use crate::ops::{Attention, AttentionJoin, AttentionPieces, AttentionTiles, OnTheWay, Partial, RopeAppend};

impl Builder<'_> {
    /// RoPE, caches and attention of one token.
    pub(super) fn attend(&mut self, rope_append: &[NodeId], attention: NodeId) -> Result<(), BackendError> {
        let (mut phase, targets) = self.rope_append(rope_append)?;
        let node = self.graph.node(attention);
        let ropes = rope_append.iter().map(|id| self.graph.node(*id)).filter(|n| matches!(n.op, Op::Rope { .. }));
        let rotated: Vec<ValueId> = ropes.map(|n| n.outputs[0]).collect();
        let on_the_way = self.on_the_way(&phase, (&rotated, &targets), node)?.map(Arc::new);
        phase.on_the_way.clone_from(&on_the_way);
        self.push(phase);
        targets.into_iter().for_each(|target| self.finish(target));
        self.signature = self.graph.signature(attention);
        self.attention(node, on_the_way)
    }

    /// What attention can do of it on the way: the rotations and appends of its own operands, if nobody else reads them.
    fn on_the_way(
        &mut self,
        phase: &RopeAppend,
        (rotated, targets): (&[ValueId], &[Target]),
        node: &Node,
    ) -> Result<Option<OnTheWay>, BackendError> {
        let ([q, k], [v]) = (phase.ropes.as_slice(), phase.appends.as_slice()) else { return Ok(None) };
        let (q, k) = if q.appends.is_empty() { (q, k) } else { (k, q) };
        let ([], [appended]) = (q.appends.as_slice(), k.appends.as_slice()) else { return Ok(None) };
        if targets.iter().any(|target| target.then.is_some()) || rotated.iter().any(|value| !self.is_read_once(*value))
        {
            return Ok(None);
        }
        let (attention, _) = self.attention_of(node)?;
        let d = attention.spec.head_dim;
        let ours = attention.q.ptr == q.y.ptr
            && attention.k.ptr == appended.table.ptr
            && attention.v.ptr == v.table.ptr
            && appended.index.ptr == v.index.ptr
            && [q.head_dim, k.head_dim] == [d, d]
            && v.rows.ty.dtype == DType::F32
            && self.partial(&attention).is_some();
        Ok(ours.then(|| OnTheWay { attention, q: q.clone(), k: k.clone(), v: *v }))
    }

    fn is_read_once(&self, value: ValueId) -> bool {
        let reads = self.graph.nodes().iter().flat_map(|n| &n.inputs).filter(|v| **v == value);
        reads.count() == 1 && !self.graph.is_output(value)
    }

    /// The most pieces of a sequence, and the bytes of what all of them leave, where sequences with one token are split.
    fn partial(&self, attention: &Attention) -> Option<(usize, usize)> {
        let Attention { spec, k, seq_len, block_table, .. } = attention;
        let max = self.graph.range().max;
        let pieces = Partial::pieces(block_table.columns(&max).saturating_mul(spec.block_size).min(k.rows(&max)));
        let floats = Partial::floats(attention, seq_len.elements(&max), pieces);
        let bytes = floats.and_then(|n| n.checked_mul(size_of::<f32>()));
        // More than can be counted is refused where memory is asked for.
        Attention::can_split(spec).then_some((pieces, bytes.unwrap_or(usize::MAX)))
    }

    fn attention_of(&mut self, node: &Node) -> Result<(Attention, Target), BackendError> {
        let Op::Attention(spec) = node.op else {
            return Err(BackendError::new(ErrorCode::Internal, format!("{}: no attention", self.signature)));
        };
        let q = self.floats(node.inputs[0])?;
        let (k, v) = (self.value(node.inputs[1])?, self.value(node.inputs[2])?);
        let [q_start, seq_len, block_table] = [3, 4, 5].map(|i| node.inputs[i]);
        let (q_start, seq_len, block_table) = (self.value(q_start)?, self.value(seq_len)?, self.value(block_table)?);
        let target = self.target(node.outputs[0])?;
        Ok((Attention { spec, q, k, v, q_start, seq_len, block_table, y: target.value }, target))
    }

    pub(super) fn attention(&mut self, node: &Node, on_the_way: Option<Arc<OnTheWay>>) -> Result<(), BackendError> {
        let (attention, target) = self.attention_of(node)?;
        let split = self.partial(&attention);
        if let Some((pieces, bytes)) = split {
            let memory = self.memory("attention in pieces", bytes)?.cast();
            let partial = Partial { attention, memory, pieces };
            self.push(AttentionPieces { partial, on_the_way });
            self.push(AttentionJoin(partial));
        }
        // A plan for one token has nothing left.
        if split.is_none() || self.graph.range().max.get(Symbol::T) > 1 {
            self.push(AttentionTiles { attention, split: split.is_some() });
        }
        self.finish(target);
        Ok(())
    }
}
