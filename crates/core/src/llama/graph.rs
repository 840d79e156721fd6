//! The Llama graph: from tokens to logits for a ragged batch.

use std::collections::HashMap;

use super::config::LlamaConfig;
use super::rope::Rotary;
use super::tensors::{EMBED_TOKENS, FINAL_NORM, LM_HEAD, SCORE, layer};
use crate::DType;
use crate::attention::{Attention, Qkv};
use crate::graph::{CacheLayout, Graph, GraphBuilder, GraphError, StepInput, Symbol, SymbolRange, TensorType, ValueId};
use crate::ops::{Activation, AttentionSpec, OperandError, check_cache_type};

/// What the graph starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// Token ids.
    Tokens,
    /// Embeddings computed elsewhere.
    Embeds,
}

/// What the graph ends in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// A score for every token of the vocabulary: `logits [O, vocab_size] f32`. The weight is [`LM_HEAD`] if the
    /// checkpoint has one and the configuration does not tie it, and the embedding table otherwise.
    LanguageModel,
    /// A score for every class, of [`SCORE`]: `logits [O, num_labels] f32`.
    Classes {
        /// How many classes.
        num_labels: usize,
    },
    /// None: the base model, which has no output `logits`.
    None,
}

/// What to build besides the configuration.
#[derive(Clone, Copy)]
pub struct GraphOptions<'a> {
    /// How layers look back.
    pub attention: &'a dyn Attention,
    /// How the cache divides its memory.
    pub layout: CacheLayout,
    /// Type of the cached keys and values, one of [`crate::ops::CACHE_TYPES`].
    pub kv_dtype: DType,
    /// What the symbols may be.
    pub range: SymbolRange,
    /// Rows of the RoPE tables: one more than the largest position.
    pub positions: usize,
    /// What the graph starts from.
    pub input: Input,
    /// Sliding window; the whole context if `None`.
    pub window: Option<usize>,
    /// Whether to give out the residual stream after the embedding and after every layer, `hidden_states.0` and so
    /// on, `[T, hidden_size]`; the last one after the final norm. A graph that starts from embeddings leaves out
    /// `hidden_states.0`, which they are.
    pub hidden_states: bool,
    /// Whether to give out all tokens after the final norm, `last_hidden_state [T, hidden_size]`; it takes the place of
    /// the last of the hidden states.
    pub last_hidden_state: bool,
    /// What the graph ends in.
    pub head: Head,
}

impl std::fmt::Debug for GraphOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GraphOptions")
            .field("attention", &self.attention.name())
            .field("layout", &self.layout)
            .field("range", &self.range)
            .field("input", &self.input)
            .finish_non_exhaustive()
    }
}

/// The name of the graph's cosines: a table `[positions, pairs] f32` that [`StepInput::Positions`] picks rows of, or,
/// where the frequencies depend on a sequence's length, an input with a row for each token, `[T, pairs] f32`. `pairs` is
/// [`Rotary::pairs`].
pub const ROPE_COS: &str = "rope.cos";
/// The name of the graph's sines.
pub const ROPE_SIN: &str = "rope.sin";

/// Builds the graph of `config`, with the outputs that `options` ask for, for weights of the types in `weights` (by name
/// in Hugging Face form).
///
/// # Errors
/// [`GraphError`] for weights whose types do not fit. A weight that is missing from `weights` is asked for as f32,
/// so that the loader reports it.
pub fn build(
    config: &LlamaConfig,
    weights: &HashMap<String, TensorType>,
    options: &GraphOptions<'_>,
) -> Result<Graph, GraphError> {
    Builder { config, weights, options, g: GraphBuilder::new(options.range) }.build()
}

struct Builder<'a> {
    config: &'a LlamaConfig,
    weights: &'a HashMap<String, TensorType>,
    options: &'a GraphOptions<'a>,
    g: GraphBuilder,
}

/// Per-token values every layer uses.
#[derive(Clone, Copy)]
struct Rotation {
    cos: ValueId,
    sin: ValueId,
}

impl Builder<'_> {
    fn build(mut self) -> Result<Graph, GraphError> {
        let (c, eps) = (self.config, self.config.rms_norm_eps as f32);
        self.g.set_scope("model.embed_tokens");
        let table = self.weight(EMBED_TOKENS, &[c.vocab_size, c.hidden_size])?;
        let mut residual = match self.options.input {
            Input::Tokens => {
                let tokens = self.g.step_input(StepInput::Tokens)?;
                self.g.gather_rows(table, tokens)?
            }
            Input::Embeds => self.g.step_input(StepInput::Embeds { hidden_size: c.hidden_size })?,
        }; // [T, hidden]
        if self.g.ty(residual).dtype != DType::F32 {
            residual = self.g.cast(residual, DType::F32)?;
        }
        if self.options.input == Input::Tokens {
            self.tap(0, residual)?;
        }
        let rotation = self.rotation()?;

        // Each sublayer's sum is taken together with the norm of the next one.
        self.g.set_scope("model.layers.0");
        let norm = self.weight(&norm_name(0, layer::INPUT_NORM), &[c.hidden_size])?;
        let mut normed = self.g.rms_norm(residual, norm, eps)?;
        let mut update = residual;
        for i in 0..c.num_hidden_layers {
            let attended = self.attention(i, normed, rotation)?;
            self.g.set_scope(format!("model.layers.{i}"));
            let norm = self.weight(&norm_name(i, layer::POST_NORM), &[c.hidden_size])?;
            (residual, normed) = self.g.add_rms_norm(residual, attended, norm, eps)?;
            update = self.mlp(i, normed)?;
            if i + 1 < c.num_hidden_layers {
                self.g.set_scope(format!("model.layers.{}", i + 1));
                let norm = self.weight(&norm_name(i + 1, layer::INPUT_NORM), &[c.hidden_size])?;
                (residual, normed) = self.g.add_rms_norm(residual, update, norm, eps)?;
                self.tap(i + 1, residual)?;
            }
        }
        self.head(residual, update, table)?;
        Ok(self.g.finish())
    }

    /// Cosines and sines of this step's tokens, `[T, pairs]` each.
    fn rotation(&mut self) -> Result<Rotation, GraphError> {
        self.g.set_scope("model.rotary_emb");
        let rotary = Rotary::new(self.config, None);
        if rotary.depends_on_length() {
            let dims = [Symbol::T.into(), rotary.pairs().into()];
            let ty = TensorType::new(DType::F32, &dims).expect("two dimensions of an unblocked type");
            return Ok(Rotation { cos: self.g.input(ROPE_COS, ty)?, sin: self.g.input(ROPE_SIN, ty)? });
        }
        let shape = [self.options.positions, rotary.pairs()];
        let cos = self.g.weight(ROPE_COS, tensor(DType::F32, &shape))?;
        let sin = self.g.weight(ROPE_SIN, tensor(DType::F32, &shape))?;
        let positions = self.g.step_input(StepInput::Positions)?;
        Ok(Rotation { cos: self.g.gather_rows(cos, positions)?, sin: self.g.gather_rows(sin, positions)? })
    }

    /// Self-attention of layer `i` for normed `x [T, hidden]`: `[T, hidden]`.
    fn attention(&mut self, i: usize, x: ValueId, rotation: Rotation) -> Result<ValueId, GraphError> {
        let c = self.config;
        let spec = AttentionSpec {
            num_heads: c.num_attention_heads,
            num_kv_heads: c.num_key_value_heads,
            head_dim: c.head_dim,
            block_size: self.options.layout.block_size,
            scale: (c.head_dim as f64).sqrt().recip() as f32,
            window: self.options.window,
        };
        let (q_width, kv_width) = (c.num_attention_heads * c.head_dim, c.num_key_value_heads * c.head_dim);
        self.g.set_scope(format!("model.layers.{i}.self_attn"));
        let (wq, bq) = self.projection(i, layer::Q, q_width, c.hidden_size, c.attention_bias)?;
        let (wk, bk) = self.projection(i, layer::K, kv_width, c.hidden_size, c.attention_bias)?;
        let (wv, bv) = self.projection(i, layer::V, kv_width, c.hidden_size, c.attention_bias)?;
        let biases = bq.zip(bk).zip(bv).map(|((q, k), v)| [q, k, v]);
        let [q, k, v] = self.g.qkv_linear(x, [wq, wk, wv], biases)?;
        let q = self.g.rope(q, rotation.cos, rotation.sin, c.head_dim)?;
        let k = self.g.rope(k, rotation.cos, rotation.sin, c.head_dim)?;

        let kv_dtype = self.options.kv_dtype;
        check_cache_type(kv_dtype, c.head_dim).map_err(|rule| GraphError::Operand {
            op: "kv_append",
            scope: format!("model.layers.{i}.self_attn"),
            source: OperandError::Attribute { attribute: "kv_dtype", found: kv_dtype.to_string(), rule },
        })?;
        let kv = self.options.attention.kv_spec(&spec, kv_dtype);
        let mut planes = Vec::with_capacity(kv.planes.len());
        for plane in &kv.planes {
            let ty = tensor(plane.dtype, &[self.options.layout.num_slots, plane.width]);
            planes.push(self.g.state(format!("cache.{i}.{}", plane.name), ty)?);
        }
        let blocks = self.options.layout.blocks_per_sequence;
        let attended = self.options.attention.emit(&mut self.g, Qkv { q, k, v }, &planes, &spec, blocks)?;
        if let Some(probabilities) = attended.probabilities {
            self.g.output(format!("attentions.{i}"), probabilities)?;
        }
        let (wo, bo) = self.projection(i, layer::O, c.hidden_size, q_width, c.attention_bias)?;
        self.g.linear(attended.output, wo, bo)
    }

    /// The MLP of layer `i` for normed `x [T, hidden]`: `[T, hidden]`.
    fn mlp(&mut self, i: usize, x: ValueId) -> Result<ValueId, GraphError> {
        let c = self.config;
        self.g.set_scope(format!("model.layers.{i}.mlp"));
        let (wg, bg) = self.projection(i, layer::GATE, c.intermediate_size, c.hidden_size, c.mlp_bias)?;
        let (wu, bu) = self.projection(i, layer::UP, c.intermediate_size, c.hidden_size, c.mlp_bias)?;
        let (wd, bd) = self.projection(i, layer::DOWN, c.hidden_size, c.intermediate_size, c.mlp_bias)?;
        let gate = self.g.linear(x, wg, bg)?;
        let up = self.g.linear(x, wu, bu)?;
        let mixed = if c.hidden_act == Activation::Silu {
            self.g.swiglu(gate, up)?
        } else {
            let gate = self.g.activation(gate, c.hidden_act)?;
            self.g.mul(gate, up)?
        };
        self.g.linear(mixed, wd, bd)
    }

    /// The last sum, the final norm and the head: `logits`, for the rows asked for only.
    fn head(&mut self, residual: ValueId, update: ValueId, table: ValueId) -> Result<(), GraphError> {
        let (c, eps) = (self.config, self.config.rms_norm_eps as f32);
        self.g.set_scope("model.norm");
        let norm = self.weight(FINAL_NORM, &[c.hidden_size])?;
        if self.options.hidden_states || self.options.last_hidden_state {
            // The last of the hidden states is taken after the final norm, as transformers gives it.
            let (_, normed) = self.g.add_rms_norm(residual, update, norm, eps)?;
            if self.options.last_hidden_state {
                self.g.output("last_hidden_state", normed)?;
            } else {
                self.tap(c.num_hidden_layers, normed)?;
            }
        }
        let (scope, name, rows) = match self.options.head {
            Head::LanguageModel => ("lm_head", LM_HEAD, c.vocab_size),
            Head::Classes { num_labels } => ("score", SCORE, num_labels),
            Head::None => return Ok(()),
        };
        let wanted = self.g.step_input(StepInput::OutRow)?;
        let residual = self.g.gather_rows(residual, wanted)?;
        let update = self.g.gather_rows(update, wanted)?;
        let (_, normed) = self.g.add_rms_norm(residual, update, norm, eps)?;
        self.g.set_scope(scope);
        let tied = name == LM_HEAD && (c.tie_word_embeddings || !self.weights.contains_key(LM_HEAD));
        let head = if tied { table } else { self.weight(name, &[rows, c.hidden_size])? };
        let logits = self.g.linear(normed, head, None)?;
        self.g.output("logits", logits)
    }

    fn tap(&mut self, index: usize, value: ValueId) -> Result<(), GraphError> {
        if self.options.hidden_states { self.g.output(format!("hidden_states.{index}"), value) } else { Ok(()) }
    }

    fn projection(
        &mut self,
        i: usize,
        name: &str,
        rows: usize,
        columns: usize,
        bias: bool,
    ) -> Result<(ValueId, Option<ValueId>), GraphError> {
        let w = self.weight(&format!("model.layers.{i}.{name}.weight"), &[rows, columns])?;
        let b = bias.then(|| self.weight(&format!("model.layers.{i}.{name}.bias"), &[rows])).transpose()?;
        Ok((w, b))
    }

    fn weight(&mut self, name: &str, shape: &[usize]) -> Result<ValueId, GraphError> {
        let ty = self.weights.get(name).copied().unwrap_or_else(|| tensor(DType::F32, shape));
        self.g.weight(name, ty)
    }
}

fn norm_name(i: usize, norm: &str) -> String {
    format!("model.layers.{i}.{norm}.weight")
}

fn tensor(dtype: DType, shape: &[usize]) -> TensorType {
    let dims: Vec<_> = shape.iter().map(|n| (*n).into()).collect();
    TensorType::new(dtype, &dims).expect("one or two dimensions, and rows of whole blocks")
}
