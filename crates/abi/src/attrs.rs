//! The attributes of the operations. Append-only; the sender writes at least the size known here to
//! `Node::attrs_size`, and a receiver compares with `>=`.

use super::DType;

/// Attributes of `OP_BMM`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct BmmAttrs {
    /// 1 if `b` is given as `[.., N, K]`, else 0.
    pub transpose_b: u32,
}

/// Attributes of `OP_RMS_NORM` and `OP_ADD_RMS_NORM`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct RmsNormAttrs {
    /// Added to the mean square.
    pub eps: f32,
}

/// Attributes of `OP_ROPE`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct RopeAttrs {
    /// Width of a head.
    pub head_dim: u64,
}

/// Attributes of `OP_ACTIVATION`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ActivationAttrs {
    /// `ACTIVATION_*`.
    pub kind: u32,
}

/// Attributes of `OP_SOFTMAX`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct SoftmaxAttrs {
    /// Multiplies the scores before the mask is added.
    pub scale: f32,
}

/// Attributes of `OP_CAST`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CastAttrs {
    /// The new element type.
    pub to: DType,
}

/// Attributes of `OP_RESHAPE`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ReshapeAttrs {
    /// Number of dimensions, at most 4.
    pub rank: u32,
    /// Zero.
    pub reserved: u32,
    /// Sizes, or `SYMBOL_*`; entries from `rank` on are zero.
    pub dim: [i64; 4],
}

/// Attributes of `OP_ATTENTION`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct AttentionAttrs {
    /// Query heads.
    pub num_heads: u64,
    /// Key/value heads; divides `num_heads`.
    pub num_kv_heads: u64,
    /// Width of a head.
    pub head_dim: u64,
    /// Rows of a cache block.
    pub block_size: u64,
    /// How many tokens, itself included, a token sees; 0 for all.
    pub window: u64,
    /// Multiplies the scores.
    pub scale: f32,
    /// Zero.
    pub reserved: u32,
}
