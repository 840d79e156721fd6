//! The [`Attention`] trait: how a layer looks back, as graph nodes.
//!
//! An implementation owns no memory and runs on no device: it says what a token leaves in the cache and emits nodes.
//! Whether a backend computes them as they stand or lowered is not its concern.

use crate::DType;
use crate::graph::{GraphBuilder, GraphError, StepInput, ValueId};
use crate::ops::AttentionSpec;
use crate::ops::attention::{context_probabilities, context_values};

/// What a token leaves in the cache, per layer: one row in each plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvSpec {
    /// The planes, in the order [`Attention::emit`] takes them.
    pub planes: Vec<KvPlane>,
}

/// One plane of the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvPlane {
    /// Short name ("k", "v"), part of the state's name.
    pub name: &'static str,
    /// Elements a row has.
    pub width: usize,
    /// Element type.
    pub dtype: DType,
}

/// The projections of one layer, RoPE applied.
#[derive(Clone, Copy, Debug)]
pub struct Qkv {
    /// Queries `[T, num_heads * head_dim]`.
    pub q: ValueId,
    /// Keys `[T, num_kv_heads * head_dim]`.
    pub k: ValueId,
    /// Values `[T, num_kv_heads * head_dim]`.
    pub v: ValueId,
}

/// What attention made of a layer.
#[derive(Clone, Debug)]
pub struct Attended {
    /// `[T, num_heads * head_dim]`, before the output projection.
    pub output: ValueId,
    /// `[T, num_kv_heads, num_heads / num_kv_heads, L]`, if the implementation gives them out.
    pub probabilities: Option<ValueId>,
}

/// A kind of attention: emits the nodes of one layer.
pub trait Attention: Send + Sync {
    /// A name for tables and messages.
    fn name(&self) -> &str;

    /// What a token leaves in the cache.
    fn kv_spec(&self, spec: &AttentionSpec, kv_dtype: DType) -> KvSpec {
        let width = spec.num_kv_heads * spec.head_dim;
        let plane = |name| KvPlane { name, width, dtype: kv_dtype };
        KvSpec { planes: vec![plane("k"), plane("v")] }
    }

    /// Appends the layer's keys and values to `planes` (one state for each plane of [`Attention::kv_spec`]) and
    /// attends. `blocks` is the second dimension of the block table.
    fn emit(
        &self,
        g: &mut GraphBuilder,
        qkv: Qkv,
        planes: &[ValueId],
        spec: &AttentionSpec,
        blocks: usize,
    ) -> Result<Attended, GraphError>;
}

/// Causal attention over the cache, all of it or through a sliding window ([`AttentionSpec::window`]).
#[derive(Clone, Copy, Debug, Default)]
pub struct CausalAttention;

impl Attention for CausalAttention {
    fn name(&self) -> &str {
        "causal"
    }

    fn emit(
        &self,
        g: &mut GraphBuilder,
        qkv: Qkv,
        planes: &[ValueId],
        spec: &AttentionSpec,
        blocks: usize,
    ) -> Result<Attended, GraphError> {
        let caches = append(g, qkv, planes)?;
        let table = g.step_input(StepInput::BlockTable { blocks })?;
        Ok(Attended { output: g.attention(qkv.q, caches, table, *spec)?, probabilities: None })
    }
}

/// The same in core operations, with the probabilities as a result: what `output_attentions` needs.
#[derive(Clone, Copy, Debug, Default)]
pub struct EagerAttention;

impl Attention for EagerAttention {
    fn name(&self) -> &str {
        "eager"
    }

    fn emit(
        &self,
        g: &mut GraphBuilder,
        qkv: Qkv,
        planes: &[ValueId],
        spec: &AttentionSpec,
        _blocks: usize,
    ) -> Result<Attended, GraphError> {
        let [k_cache, v_cache] = append(g, qkv, planes)?;
        let probabilities = context_probabilities(g, qkv.q, k_cache, spec)?;
        let result = g.ty(qkv.q);
        let output = context_values(g, probabilities, v_cache, result, spec)?;
        Ok(Attended { output, probabilities: Some(probabilities) })
    }
}

/// Attention through a mask that the caller supplies, in core operations: a token may look wherever
/// [`StepInput::ContextMask`] lets it, also at later tokens of the same run.
#[derive(Clone, Copy, Debug, Default)]
pub struct MaskedAttention;

impl Attention for MaskedAttention {
    fn name(&self) -> &str {
        "masked"
    }

    fn emit(
        &self,
        g: &mut GraphBuilder,
        qkv: Qkv,
        planes: &[ValueId],
        spec: &AttentionSpec,
        blocks: usize,
    ) -> Result<Attended, GraphError> {
        let attended = EagerAttention.emit(g, qkv, planes, spec, blocks)?;
        Ok(Attended { probabilities: None, ..attended })
    }
}

fn append(g: &mut GraphBuilder, qkv: Qkv, planes: &[ValueId]) -> Result<[ValueId; 2], GraphError> {
    let slot = g.step_input(StepInput::Slot)?;
    Ok([g.kv_append(planes[0], qkv.k, slot)?, g.kv_append(planes[1], qkv.v, slot)?])
}
