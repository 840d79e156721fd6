//! The codes: statuses, operations, kinds. Appended, never renumbered, never reused.

/// What a function answers: [`STATUS_OK`] or what went wrong.
pub type Status = i32;

/// Done.
pub const STATUS_OK: Status = 0;
/// The caller asked for something that makes no sense.
pub const STATUS_INVALID: Status = 1;
/// The device cannot do this.
pub const STATUS_UNSUPPORTED: Status = 2;
/// There is not enough memory.
pub const STATUS_OUT_OF_MEMORY: Status = 3;
/// The device is gone; only freeing and closing make sense now.
pub const STATUS_DEVICE_LOST: Status = 4;
/// The host asked to stop.
pub const STATUS_ABORTED: Status = 5;
/// Anything else.
pub const STATUS_INTERNAL: Status = 6;
/// A bug in the plugin was caught at its border (a Rust panic); the device counts as lost.
pub const STATUS_PANIC: Status = 7;

/// Dimension of a `TensorType`: tokens of the step.
pub const SYMBOL_T: i64 = -1;
/// Dimension: sequences of the step.
pub const SYMBOL_S: i64 = -2;
/// Dimension: output rows.
pub const SYMBOL_O: i64 = -3;
/// Dimension: longest context of the step.
pub const SYMBOL_L: i64 = -4;
/// Dimension: sequence boundaries, always `S + 1`.
pub const SYMBOL_P: i64 = -5;
/// How many symbols a step gives values for: T, S, O, L, in this order.
pub const SYMBOL_COUNT: u32 = 4;

/// Ids of element types and operations from here on belong to vendors; the project never assigns them.
pub const VENDOR_ID_START: u32 = 0x8000_0000;

/// IEEE 754 binary32.
pub const DTYPE_F32: u32 = 1;
/// IEEE 754 binary16.
pub const DTYPE_F16: u32 = 2;
/// bfloat16: the upper half of a binary32.
pub const DTYPE_BF16: u32 = 3;
/// Two's complement 32-bit integer.
pub const DTYPE_I32: u32 = 4;
/// 32 elements: f16 scale, 16 bytes of 4-bit codes around 8.
pub const DTYPE_Q4_0: u32 = 16;
/// 32 elements: f16 scale, f16 minimum, 16 bytes of 4-bit codes.
pub const DTYPE_Q4_1: u32 = 17;
/// 32 elements: f16 scale, 4 bytes of fifth bits, 16 bytes of low 4 bits, codes around 16.
pub const DTYPE_Q5_0: u32 = 18;
/// 32 elements: f16 scale, f16 minimum, 4 bytes of fifth bits, 16 bytes of low 4 bits.
pub const DTYPE_Q5_1: u32 = 19;
/// 32 elements: f16 scale, 32 signed bytes.
pub const DTYPE_Q8_0: u32 = 20;
/// 256 elements in 16 groups: 4-bit scales and minimums, 2-bit codes.
pub const DTYPE_Q2_K: u32 = 24;
/// 256 elements in 16 groups: 6-bit scales, 3-bit codes.
pub const DTYPE_Q3_K: u32 = 25;
/// 256 elements in 8 groups: 6-bit scales and minimums, 4-bit codes.
pub const DTYPE_Q4_K: u32 = 26;
/// 256 elements in 8 groups: 6-bit scales and minimums, 5-bit codes.
pub const DTYPE_Q5_K: u32 = 27;
/// 256 elements in 16 groups: 8-bit scales, 6-bit codes around 32.
pub const DTYPE_Q6_K: u32 = 28;

/// Core operation: rows of a table by index.
pub const OP_GATHER_ROWS: u32 = 1;
/// Core operation: `x W^T + b`.
pub const OP_LINEAR: u32 = 2;
/// Core operation: batched matrix product; `BmmAttrs`.
pub const OP_BMM: u32 = 3;
/// Core operation: root-mean-square normalisation; `RmsNormAttrs`.
pub const OP_RMS_NORM: u32 = 4;
/// Core operation: rotary position embedding; `RopeAttrs`.
pub const OP_ROPE: u32 = 5;
/// Core operation: elementwise sum.
pub const OP_ADD: u32 = 6;
/// Core operation: elementwise product.
pub const OP_MUL: u32 = 7;
/// Core operation: elementwise activation; `ActivationAttrs`.
pub const OP_ACTIVATION: u32 = 8;
/// Core operation: softmax of the scaled and masked last dimension; `SoftmaxAttrs`.
pub const OP_SOFTMAX: u32 = 9;
/// Core operation: rows written into a table by index, in place.
pub const OP_SCATTER_ROWS: u32 = 10;
/// Core operation: another element type; `CastAttrs`.
pub const OP_CAST: u32 = 11;
/// Core operation: the same elements in memory of their own.
pub const OP_COPY: u32 = 12;
/// Core operation: the same elements under another shape; `ReshapeAttrs`.
pub const OP_RESHAPE: u32 = 13;
/// Macro operation: new keys or values into the cache, in place.
pub const OP_KV_APPEND: u32 = 64;
/// Macro operation: causal attention over the cache; `AttentionAttrs`.
pub const OP_ATTENTION: u32 = 65;
/// Macro operation: `silu(gate) * up`.
pub const OP_SWIGLU: u32 = 66;
/// Macro operation: the three projections of attention at once.
pub const OP_QKV_LINEAR: u32 = 67;
/// Macro operation: residual sum and its normalisation; `RmsNormAttrs`.
pub const OP_ADD_RMS_NORM: u32 = 68;

/// Activation: `x / (1 + exp(-x))`.
pub const ACTIVATION_SILU: u32 = 1;
/// Activation: `x/2 (1 + erf(x / sqrt 2))`.
pub const ACTIVATION_GELU: u32 = 2;
/// Activation: `x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`.
pub const ACTIVATION_GELU_TANH: u32 = 3;
/// Activation: `x / (1 + exp(-1.702 x))`.
pub const ACTIVATION_QUICK_GELU: u32 = 4;
/// Activation: `max(x, 0)`.
pub const ACTIVATION_RELU: u32 = 5;
/// Activation: `max(x, 0)^2`.
pub const ACTIVATION_RELU2: u32 = 6;
/// Activation: `1 / (1 + exp(-x))`.
pub const ACTIVATION_SIGMOID: u32 = 7;
/// Activation: `tanh x`.
pub const ACTIVATION_TANH: u32 = 8;
/// Activation: `x tanh(ln(1 + exp x))`.
pub const ACTIVATION_MISH: u32 = 9;

/// Value: written by the host before every step, with a meaning that the engine knows (`STEP_*`).
pub const VALUE_STEP: u32 = 1;
/// Value: written by the host, with a meaning only the builder of the graph knows.
pub const VALUE_INPUT: u32 = 2;
/// Value: loaded once, never changed.
pub const VALUE_WEIGHT: u32 = 3;
/// Value: kept from step to step and changed in place.
pub const VALUE_STATE: u32 = 4;
/// Value: made by a node.
pub const VALUE_COMPUTED: u32 = 5;
/// In `Value::in_place_of`: the value has memory of its own.
pub const NO_VALUE: u32 = 0xffff_ffff;

/// Step input `[T] i32`: token ids.
pub const STEP_TOKENS: u32 = 1;
/// Step input `[T, param] f32`: embeddings in place of tokens.
pub const STEP_EMBEDS: u32 = 2;
/// Step input `[T] i32`: row of the RoPE tables for each token.
pub const STEP_POSITIONS: u32 = 3;
/// Step input `[T] i32`: the cache row for each token, -1 for a padding token.
pub const STEP_SLOT: u32 = 4;
/// Step input `[S, param] i32`: the blocks of each sequence.
pub const STEP_BLOCK_TABLE: u32 = 5;
/// Step input `[S] i32`: length of each sequence, this step's tokens included.
pub const STEP_SEQ_LEN: u32 = 6;
/// Step input `[P] i32`: where each sequence's tokens begin.
pub const STEP_Q_START: u32 = 7;
/// Step input `[O] i32`: the tokens whose logits are wanted.
pub const STEP_OUT_ROW: u32 = 8;
/// Step input `[T, param, L] i32`, for lowered attention: rows of each token's context.
pub const STEP_CONTEXT_ROW: u32 = 9;
/// Step input `[T, L] f32`, for lowered attention: what each token sees; `param` is the window, 0 for none.
pub const STEP_CONTEXT_MASK: u32 = 10;

/// Answer to a node: computed as it stands.
pub const SUPPORT_YES: u32 = 1;
/// Answer to a node: not computed, but its lowering would be.
pub const SUPPORT_LOWER: u32 = 2;
/// Answer to a node: cannot be computed.
pub const SUPPORT_NO: u32 = 3;

/// Buffer: written by the host before every step.
pub const USAGE_INPUT: u32 = 1;
/// Buffer: read by the host after a step.
pub const USAGE_OUTPUT: u32 = 2;
/// Buffer: kept and changed by the device from step to step.
pub const USAGE_STATE: u32 = 3;

/// Flag of a weight: its bytes may be kept where they are; call `release` when they are needed no more.
pub const WEIGHT_MAY_ALIAS: u32 = 1;
/// Flag of a weight: it may be kept in a layout of the device's own.
pub const WEIGHT_MAY_REPACK: u32 = 2;

/// Placement of a weight: the device has a copy.
pub const PLACEMENT_COPIED: u32 = 1;
/// Placement of a weight: the device reads the host's bytes where they are.
pub const PLACEMENT_ALIASED: u32 = 2;
/// Placement of a weight: the device has a copy in a layout of its own.
pub const PLACEMENT_REPACKED: u32 = 3;

/// Device: the processor the host runs on.
pub const DEVICE_CPU: u32 = 1;
/// Device: a graphics processor.
pub const DEVICE_GPU: u32 = 2;
/// Device: anything else.
pub const DEVICE_ACCELERATOR: u32 = 3;

/// Log level: something went wrong.
pub const LOG_ERROR: u32 = 1;
/// Log level: something the user should know.
pub const LOG_WARN: u32 = 2;
/// Log level: what happened.
pub const LOG_INFO: u32 = 3;
/// Log level: details.
pub const LOG_DEBUG: u32 = 4;
/// Log level: every step.
pub const LOG_TRACE: u32 = 5;
