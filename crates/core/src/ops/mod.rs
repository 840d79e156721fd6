//! The operations, one file each: operands with their shapes, the formula, where the rule comes from, the check, and
//! for macro operations the lowering.
//!
//! **Core** operations are few and every backend computes them in f32. **Macro** operations say more at once
//! (`attention`, `swiglu`) so that a backend can do them well; each lowers to core operations, so a backend may
//! leave any of them out. What an operation computes is defined here; how exactly it must is the conformance
//! suite's business.
//!
//! In the signatures `float` is f32, f16 or bf16, `cache` also q8_0, and `any` all block formats. Dimensions are
//! row-major, outermost first; a dimension used twice must be the same.

pub mod activation;
pub mod add;
pub mod add_rms_norm;
pub mod attention;
pub mod bmm;
pub mod cast;
pub mod copy;
pub mod gather_rows;
pub mod kv_append;
pub mod linear;
pub mod mul;
pub mod qkv_linear;
pub mod reshape;
pub mod rms_norm;
pub mod rope;
pub mod scatter_rows;
pub mod softmax;
pub mod swiglu;

use thiserror::Error;

pub use activation::Activation;
pub use attention::AttentionSpec;
pub use kv_append::{CACHE_TYPES, check_cache_type};

use crate::DType;
use crate::graph::{GraphBuilder, GraphError, Shape, TensorType, ValueId};

/// An operation and its attributes.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Op {
    /// Rows of a table by index: [`gather_rows`].
    GatherRows,
    /// `x W^T + b`: [`linear`].
    Linear,
    /// Batched matrix product: [`bmm`].
    Bmm {
        /// `b` is given as `[.., N, K]`.
        transpose_b: bool,
    },
    /// Root-mean-square normalisation: [`rms_norm`].
    RmsNorm {
        /// Added to the mean square.
        eps: f32,
    },
    /// Rotary position embedding: [`rope`].
    Rope {
        /// Width of a head.
        head_dim: usize,
    },
    /// Elementwise sum: [`add`].
    Add,
    /// Elementwise product: [`mul`].
    Mul,
    /// Elementwise activation: [`activation`].
    Activation(Activation),
    /// Softmax of the scaled and masked last dimension: [`softmax`].
    Softmax {
        /// Multiplies the scores before the mask is added.
        scale: f32,
    },
    /// Rows written into a table by index, in place: [`scatter_rows`].
    ScatterRows,
    /// Another element type: [`cast`].
    Cast {
        /// The new type.
        to: DType,
    },
    /// The same elements in memory of their own: [`copy`].
    Copy,
    /// The same elements under another shape: [`reshape`].
    Reshape {
        /// The new shape.
        shape: Shape,
    },
    /// New keys or values into the cache, in place: [`kv_append`].
    KvAppend,
    /// Causal attention over the cache: [`attention`].
    Attention(AttentionSpec),
    /// `silu(gate) * up`: [`swiglu`].
    Swiglu,
    /// The three projections of attention at once: [`qkv_linear`].
    QkvLinear,
    /// Residual sum and its normalisation: [`add_rms_norm`].
    AddRmsNorm {
        /// Added to the mean square.
        eps: f32,
    },
}

/// What is wrong with an operand.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum OperandError {
    /// The operand's type breaks a rule of the operation.
    #[error("operand `{operand}` is {found}, but it must {rule}")]
    Type {
        /// Its name on the operation's page.
        operand: &'static str,
        /// Its type.
        found: TensorType,
        /// The rule.
        rule: String,
    },
    /// Too few or too many operands.
    #[error("takes {expected} operands ({names}), but got {found}")]
    Count {
        /// How many there should be.
        expected: String,
        /// Their names.
        names: String,
        /// How many there are.
        found: usize,
    },
    /// An attribute that makes no sense.
    #[error("attribute `{attribute}` is {found}, but it must {rule}")]
    Attribute {
        /// The attribute's name.
        attribute: &'static str,
        /// Its value.
        found: String,
        /// The rule.
        rule: String,
    },
}

impl Op {
    /// The name used in messages, claims and tables.
    pub fn name(&self) -> &'static str {
        match self {
            Op::GatherRows => "gather_rows",
            Op::Linear => "linear",
            Op::Bmm { .. } => "bmm",
            Op::RmsNorm { .. } => "rms_norm",
            Op::Rope { .. } => "rope",
            Op::Add => "add",
            Op::Mul => "mul",
            Op::Activation(_) => "activation",
            Op::Softmax { .. } => "softmax",
            Op::ScatterRows => "scatter_rows",
            Op::Cast { .. } => "cast",
            Op::Copy => "copy",
            Op::Reshape { .. } => "reshape",
            Op::KvAppend => "kv_append",
            Op::Attention(_) => "attention",
            Op::Swiglu => "swiglu",
            Op::QkvLinear => "qkv_linear",
            Op::AddRmsNorm { .. } => "add_rms_norm",
        }
    }

    /// True for operations that lower to core operations.
    pub fn is_macro(&self) -> bool {
        matches!(self, Op::KvAppend | Op::Attention(_) | Op::Swiglu | Op::QkvLinear | Op::AddRmsNorm { .. })
    }

    /// The attributes as `name=value`, for people.
    pub fn attributes(&self) -> String {
        match self {
            Op::Bmm { transpose_b } => format!("transpose_b={transpose_b}"),
            Op::RmsNorm { eps } | Op::AddRmsNorm { eps } => format!("eps={eps:e}"),
            Op::Rope { head_dim } => format!("head_dim={head_dim}"),
            Op::Activation(kind) => format!("kind={}", kind.name()),
            Op::Softmax { scale } => format!("scale={scale}"),
            Op::Cast { to } => format!("to={to}"),
            Op::Reshape { shape } => format!("shape={shape}"),
            Op::Attention(spec) => spec.to_string(),
            _ => String::new(),
        }
    }

    /// The operands' names in order; optional ones last.
    pub fn operand_names(&self) -> &'static [&'static str] {
        match self {
            Op::GatherRows => gather_rows::OPERANDS,
            Op::Linear => linear::OPERANDS,
            Op::Bmm { .. } => bmm::OPERANDS,
            Op::RmsNorm { .. } => rms_norm::OPERANDS,
            Op::Rope { .. } => rope::OPERANDS,
            Op::Add | Op::Mul => add::OPERANDS,
            Op::Activation(_) | Op::Cast { .. } | Op::Copy | Op::Reshape { .. } => &["x"],
            Op::Softmax { .. } => softmax::OPERANDS,
            Op::ScatterRows => scatter_rows::OPERANDS,
            Op::KvAppend => kv_append::OPERANDS,
            Op::Attention(_) => attention::OPERANDS,
            Op::Swiglu => swiglu::OPERANDS,
            Op::QkvLinear => qkv_linear::OPERANDS,
            Op::AddRmsNorm { .. } => add_rms_norm::OPERANDS,
        }
    }

    /// The operand whose memory the result takes over, if the operation works in place.
    pub fn changes_in_place(&self) -> Option<usize> {
        matches!(self, Op::ScatterRows | Op::KvAppend).then_some(0)
    }

    /// The types of the results for operands of these types, or what is wrong with them.
    pub fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, OperandError> {
        match self {
            Op::GatherRows => gather_rows::infer(inputs),
            Op::Linear => linear::infer(inputs),
            Op::Bmm { transpose_b } => bmm::infer(inputs, *transpose_b),
            Op::RmsNorm { eps } => rms_norm::infer(inputs, *eps),
            Op::Rope { head_dim } => rope::infer(inputs, *head_dim),
            Op::Add | Op::Mul => add::infer(inputs),
            Op::Activation(_) => activation::infer(inputs),
            Op::Softmax { scale } => softmax::infer(inputs, *scale),
            Op::ScatterRows => scatter_rows::infer(inputs),
            Op::Cast { to } => cast::infer(inputs, *to),
            Op::Copy => copy::infer(inputs),
            Op::Reshape { shape } => reshape::infer(inputs, *shape),
            Op::KvAppend => kv_append::infer(inputs),
            Op::Attention(spec) => attention::infer(inputs, spec),
            Op::Swiglu => swiglu::infer(inputs),
            Op::QkvLinear => qkv_linear::infer(inputs),
            Op::AddRmsNorm { eps } => add_rms_norm::infer(inputs, *eps),
        }
    }

    /// Builds the operation's lowering in `g`, one level deep, and returns the results in its place.
    ///
    /// # Errors
    /// [`GraphError::NotLowerable`] for a core operation.
    pub fn lower(&self, g: &mut GraphBuilder, inputs: &[ValueId], scope: &str) -> Result<Vec<ValueId>, GraphError> {
        match self {
            Op::KvAppend => kv_append::lower(g, inputs),
            Op::Attention(spec) => attention::lower(g, inputs, spec),
            Op::Swiglu => swiglu::lower(g, inputs),
            Op::QkvLinear => qkv_linear::lower(g, inputs),
            Op::AddRmsNorm { eps } => add_rms_norm::lower(g, inputs, *eps),
            _ => Err(GraphError::NotLowerable { op: self.name(), scope: scope.to_owned() }),
        }
    }
}

/// Operands under check, by their names.
pub(crate) struct Operands<'a> {
    names: &'static [&'static str],
    types: &'a [TensorType],
}

impl<'a> Operands<'a> {
    /// Takes `types` as the operands `names`, of which the first `required` must be there.
    pub(crate) fn new(
        names: &'static [&'static str],
        required: usize,
        types: &'a [TensorType],
    ) -> Result<Operands<'a>, OperandError> {
        if types.len() < required || types.len() > names.len() {
            let expected =
                if required == names.len() { required.to_string() } else { format!("{required} to {}", names.len()) };
            return Err(OperandError::Count { expected, names: names.join(", "), found: types.len() });
        }
        Ok(Operands { names, types })
    }

    pub(crate) fn ty(&self, i: usize) -> TensorType {
        self.types[i]
    }

    /// Operand `i`, or an error with `rule` unless `holds`.
    pub(crate) fn check(&self, i: usize, holds: bool, rule: impl Into<String>) -> Result<(), OperandError> {
        if holds {
            return Ok(());
        }
        Err(OperandError::Type { operand: self.names[i], found: self.types[i], rule: rule.into() })
    }

    /// Checks that operand `i` has one of the unblocked float types.
    pub(crate) fn float(&self, i: usize) -> Result<TensorType, OperandError> {
        let ty = self.ty(i);
        self.check(i, is_plain_float(ty.dtype), "be f32, f16 or bf16")?;
        Ok(ty)
    }

    /// Checks that operand `i` has a type that keys and values are cached in.
    pub(crate) fn cache(&self, i: usize) -> Result<TensorType, OperandError> {
        let ty = self.ty(i);
        self.check(i, CACHE_TYPES.contains(&ty.dtype), "be f32, f16, bf16 or q8_0")?;
        Ok(ty)
    }

    /// Checks that operand `i` is an i32 vector.
    pub(crate) fn index(&self, i: usize, rank: usize) -> Result<TensorType, OperandError> {
        let ty = self.ty(i);
        let holds = ty.dtype == DType::I32 && ty.shape.rank() == rank;
        self.check(i, holds, format!("be i32 of rank {rank}"))?;
        Ok(ty)
    }
}

pub(crate) fn is_plain_float(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F16 | DType::BF16)
}

pub(crate) fn positive_eps(eps: f32) -> Result<(), OperandError> {
    if eps.is_finite() && eps > 0.0 {
        return Ok(());
    }
    Err(OperandError::Attribute { attribute: "eps", found: eps.to_string(), rule: "be positive and finite".into() })
}
