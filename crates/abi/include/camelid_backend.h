/* Camelid's plugin interface, for C11 and C++17. Made from crates/abi by `cargo xtask header`; do not edit.
 *
 * A plugin exports two symbols: camelid_plugin_manifest and camelid_plugin_entry_v1. specs/plugin-abi.md has the rules.
 * SPDX-License-Identifier: MIT OR Apache-2.0
 */
#ifndef CAMELID_BACKEND_H
#define CAMELID_BACKEND_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define CAMELID_EXPORT __declspec(dllexport)
#else
#define CAMELID_EXPORT __attribute__((visibility("default")))
#endif

/* Whether the struct that `ptr` points to is large enough to have `field`. */
#define CAMELID_HAS(ptr, Type, field) \
  ((ptr)->struct_size >= offsetof(Type, field) + sizeof(((Type *)0)->field))

#ifdef __cplusplus
#define CAMELID_ASSERT(condition) static_assert(condition, #condition)
#else
#define CAMELID_ASSERT(condition) _Static_assert(condition, #condition)
#endif


// `Manifest::magic`: "CMLD" read as a little-endian number.
#define CAMELID_MAGIC 1145851203

// The version of this interface whose change breaks plugins; also in the name of the entry symbol.
#define CAMELID_ABI_MAJOR 1

// Counts what was appended within a major version.
#define CAMELID_ABI_MINOR 0

// Room that a host gives a message at least, in bytes.
#define CAMELID_MESSAGE_CAPACITY 1024

// Dimension of a `TensorType`: tokens of the step.
#define CAMELID_SYMBOL_T (-1)

// Dimension: sequences of the step.
#define CAMELID_SYMBOL_S (-2)

// Dimension: output rows.
#define CAMELID_SYMBOL_O (-3)

// Dimension: longest context of the step.
#define CAMELID_SYMBOL_L (-4)

// Dimension: sequence boundaries, always `S + 1`.
#define CAMELID_SYMBOL_P (-5)

// How many symbols a step gives values for: T, S, O, L, in this order.
#define CAMELID_SYMBOL_COUNT 4

// Ids of element types and operations from here on belong to vendors; the project never assigns them.
#define CAMELID_VENDOR_ID_START 2147483648

// IEEE 754 binary32.
#define CAMELID_DTYPE_F32 1

// IEEE 754 binary16.
#define CAMELID_DTYPE_F16 2

// bfloat16: the upper half of a binary32.
#define CAMELID_DTYPE_BF16 3

// Two's complement 32-bit integer.
#define CAMELID_DTYPE_I32 4

// 32 elements: f16 scale, 16 bytes of 4-bit codes around 8.
#define CAMELID_DTYPE_Q4_0 16

// 32 elements: f16 scale, f16 minimum, 16 bytes of 4-bit codes.
#define CAMELID_DTYPE_Q4_1 17

// 32 elements: f16 scale, 4 bytes of fifth bits, 16 bytes of low 4 bits, codes around 16.
#define CAMELID_DTYPE_Q5_0 18

// 32 elements: f16 scale, f16 minimum, 4 bytes of fifth bits, 16 bytes of low 4 bits.
#define CAMELID_DTYPE_Q5_1 19

// 32 elements: f16 scale, 32 signed bytes.
#define CAMELID_DTYPE_Q8_0 20

// 256 elements in 16 groups: 4-bit scales and minimums, 2-bit codes.
#define CAMELID_DTYPE_Q2_K 24

// 256 elements in 16 groups: 6-bit scales, 3-bit codes.
#define CAMELID_DTYPE_Q3_K 25

// 256 elements in 8 groups: 6-bit scales and minimums, 4-bit codes.
#define CAMELID_DTYPE_Q4_K 26

// 256 elements in 8 groups: 6-bit scales and minimums, 5-bit codes.
#define CAMELID_DTYPE_Q5_K 27

// 256 elements in 16 groups: 8-bit scales, 6-bit codes around 32.
#define CAMELID_DTYPE_Q6_K 28

// Core operation: rows of a table by index.
#define CAMELID_OP_GATHER_ROWS 1

// Core operation: `x W^T + b`.
#define CAMELID_OP_LINEAR 2

// Core operation: batched matrix product; `BmmAttrs`.
#define CAMELID_OP_BMM 3

// Core operation: root-mean-square normalisation; `RmsNormAttrs`.
#define CAMELID_OP_RMS_NORM 4

// Core operation: rotary position embedding; `RopeAttrs`.
#define CAMELID_OP_ROPE 5

// Core operation: elementwise sum.
#define CAMELID_OP_ADD 6

// Core operation: elementwise product.
#define CAMELID_OP_MUL 7

// Core operation: elementwise activation; `ActivationAttrs`.
#define CAMELID_OP_ACTIVATION 8

// Core operation: softmax of the scaled and masked last dimension; `SoftmaxAttrs`.
#define CAMELID_OP_SOFTMAX 9

// Core operation: rows written into a table by index, in place.
#define CAMELID_OP_SCATTER_ROWS 10

// Core operation: another element type; `CastAttrs`.
#define CAMELID_OP_CAST 11

// Core operation: the same elements in memory of their own.
#define CAMELID_OP_COPY 12

// Core operation: the same elements under another shape; `ReshapeAttrs`.
#define CAMELID_OP_RESHAPE 13

// Macro operation: new keys or values into the cache, in place.
#define CAMELID_OP_KV_APPEND 64

// Macro operation: causal attention over the cache; `AttentionAttrs`.
#define CAMELID_OP_ATTENTION 65

// Macro operation: `silu(gate) * up`.
#define CAMELID_OP_SWIGLU 66

// Macro operation: the three projections of attention at once.
#define CAMELID_OP_QKV_LINEAR 67

// Macro operation: residual sum and its normalisation; `RmsNormAttrs`.
#define CAMELID_OP_ADD_RMS_NORM 68

// Activation: `x / (1 + exp(-x))`.
#define CAMELID_ACTIVATION_SILU 1

// Activation: `x/2 (1 + erf(x / sqrt 2))`.
#define CAMELID_ACTIVATION_GELU 2

// Activation: `x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`.
#define CAMELID_ACTIVATION_GELU_TANH 3

// Activation: `x / (1 + exp(-1.702 x))`.
#define CAMELID_ACTIVATION_QUICK_GELU 4

// Activation: `max(x, 0)`.
#define CAMELID_ACTIVATION_RELU 5

// Activation: `max(x, 0)^2`.
#define CAMELID_ACTIVATION_RELU2 6

// Activation: `1 / (1 + exp(-x))`.
#define CAMELID_ACTIVATION_SIGMOID 7

// Activation: `tanh x`.
#define CAMELID_ACTIVATION_TANH 8

// Activation: `x tanh(ln(1 + exp x))`.
#define CAMELID_ACTIVATION_MISH 9

// Value: written by the host before every step, with a meaning that the engine knows (`STEP_*`).
#define CAMELID_VALUE_STEP 1

// Value: written by the host, with a meaning only the builder of the graph knows.
#define CAMELID_VALUE_INPUT 2

// Value: loaded once, never changed.
#define CAMELID_VALUE_WEIGHT 3

// Value: kept from step to step and changed in place.
#define CAMELID_VALUE_STATE 4

// Value: made by a node.
#define CAMELID_VALUE_COMPUTED 5

// In `Value::in_place_of`: the value has memory of its own.
#define CAMELID_NO_VALUE 4294967295

// Step input `[T] i32`: token ids.
#define CAMELID_STEP_TOKENS 1

// Step input `[T, param] f32`: embeddings in place of tokens.
#define CAMELID_STEP_EMBEDS 2

// Step input `[T] i32`: row of the RoPE tables for each token.
#define CAMELID_STEP_POSITIONS 3

// Step input `[T] i32`: the cache row for each token, -1 for a padding token.
#define CAMELID_STEP_SLOT 4

// Step input `[S, param] i32`: the blocks of each sequence.
#define CAMELID_STEP_BLOCK_TABLE 5

// Step input `[S] i32`: length of each sequence, this step's tokens included.
#define CAMELID_STEP_SEQ_LEN 6

// Step input `[P] i32`: where each sequence's tokens begin.
#define CAMELID_STEP_Q_START 7

// Step input `[O] i32`: the tokens whose logits are wanted.
#define CAMELID_STEP_OUT_ROW 8

// Step input `[T, param, L] i32`, for lowered attention: rows of each token's context.
#define CAMELID_STEP_CONTEXT_ROW 9

// Step input `[T, L] f32`, for lowered attention: what each token sees; `param` is the window, 0 for none.
#define CAMELID_STEP_CONTEXT_MASK 10

// Answer to a node: computed as it stands.
#define CAMELID_SUPPORT_YES 1

// Answer to a node: not computed, but its lowering would be.
#define CAMELID_SUPPORT_LOWER 2

// Answer to a node: cannot be computed.
#define CAMELID_SUPPORT_NO 3

// Buffer: written by the host before every step.
#define CAMELID_USAGE_INPUT 1

// Buffer: read by the host after a step.
#define CAMELID_USAGE_OUTPUT 2

// Buffer: kept and changed by the device from step to step.
#define CAMELID_USAGE_STATE 3

// Flag of a weight: its bytes may be kept where they are; call `release` when they are needed no more.
#define CAMELID_WEIGHT_MAY_ALIAS 1

// Flag of a weight: it may be kept in a layout of the device's own.
#define CAMELID_WEIGHT_MAY_REPACK 2

// Placement of a weight: the device has a copy.
#define CAMELID_PLACEMENT_COPIED 1

// Placement of a weight: the device reads the host's bytes where they are.
#define CAMELID_PLACEMENT_ALIASED 2

// Placement of a weight: the device has a copy in a layout of its own.
#define CAMELID_PLACEMENT_REPACKED 3

// Device: the processor the host runs on.
#define CAMELID_DEVICE_CPU 1

// Device: a graphics processor.
#define CAMELID_DEVICE_GPU 2

// Device: anything else.
#define CAMELID_DEVICE_ACCELERATOR 3

// Log level: something went wrong.
#define CAMELID_LOG_ERROR 1

// Log level: something the user should know.
#define CAMELID_LOG_WARN 2

// Log level: what happened.
#define CAMELID_LOG_INFO 3

// Log level: details.
#define CAMELID_LOG_DEBUG 4

// Log level: every step.
#define CAMELID_LOG_TRACE 5

// Memory of a device. The plugin's own.
typedef struct CamelidBuffer CamelidBuffer;

// An open device. The plugin's own.
typedef struct CamelidDevice CamelidDevice;

// A compiled graph of a device. The plugin's own.
typedef struct CamelidPlan CamelidPlan;

// A plugin, once its entry was called. The plugin's own.
typedef struct CamelidPlugin CamelidPlugin;

// What a function answers: `STATUS_OK` or what went wrong.
typedef int32_t CamelidStatus;

// UTF-8 text of `len` bytes, not NUL-terminated, borrowed for the call.
typedef struct CamelidStr {
  // The first byte; may be null if `len` is 0.
  const char *ptr;
  // Bytes.
  size_t len;
} CamelidStr;

// A setting: key and value.
typedef struct CamelidKeyValue {
  // The key.
  struct CamelidStr key;
  // Its value.
  struct CamelidStr value;
} CamelidKeyValue;

// An element type.
typedef struct CamelidDType {
  // The type's id (`DTYPE_*`); from `VENDOR_ID_START` on a vendor's own.
  uint32_t id;
  // Elements of one block; 1 for scalars.
  uint32_t block_elems;
  // Bytes of one block.
  uint32_t block_bytes;
  // Zero.
  uint32_t reserved;
} CamelidDType;

// A dense row-major tensor: its element type and up to four dimensions, outermost first.
typedef struct CamelidTensorType {
  // Element type.
  struct CamelidDType dtype;
  // Number of dimensions, at most 4.
  uint32_t rank;
  // Zero.
  uint32_t reserved;
  // Sizes, or `SYMBOL_*`; entries from `rank` on are zero.
  int64_t dim[4];
} CamelidTensorType;

// Where a bound value of a graph lives.
typedef struct CamelidBinding {
  // Index of the value.
  uint32_t value;
  // Zero.
  uint32_t reserved;
  // Its buffer.
  struct CamelidBuffer *buffer;
  // Bytes from the buffer's start.
  uint64_t offset;
} CamelidBinding;

// A value: its type, and what it is called.
typedef struct CamelidValue {
  // Size of this struct as the sender knows it.
  uint32_t struct_size;
  // `VALUE_*`.
  uint32_t kind;
  // Element type and shape.
  struct CamelidTensorType ty;
  // For weights the tensor's name in Hugging Face form.
  struct CamelidStr name;
  // The value whose memory this one takes over, or `NO_VALUE`.
  uint32_t in_place_of;
  // `STEP_*` if `kind` is `VALUE_STEP`, else 0.
  uint32_t step_input;
  // The number that belongs to the step input, else 0.
  uint64_t step_param;
} CamelidValue;

// An operation with its operands and results.
typedef struct CamelidNode {
  // Size of this struct as the sender knows it.
  uint32_t struct_size;
  // `OP_*`, or a vendor's own.
  uint32_t op;
  // 1; a changed meaning of an operation counts up.
  uint32_t op_version;
  // Operands.
  uint32_t n_inputs;
  // Results.
  uint32_t n_outputs;
  // Bytes at `attrs`; at least the size of the operation's struct in this header.
  uint32_t attrs_size;
  // Indices of the operands' values.
  const uint32_t *inputs;
  // Indices of the results' values.
  const uint32_t *outputs;
  // The operation's attributes, aligned to 8 bytes; null if it has none.
  const void *attrs;
  // The operation's name, for messages.
  struct CamelidStr name;
  // Where in the model this is, for messages.
  struct CamelidStr scope;
} CamelidNode;

// A result the host reads after a step.
typedef struct CamelidOutput {
  // Size of this struct as the sender knows it.
  uint32_t struct_size;
  // Index of the value.
  uint32_t value;
  // What the host asks for.
  struct CamelidStr name;
} CamelidOutput;

// A checked computation: nodes in an order in which they can run.
typedef struct CamelidGraph {
  // Size of this struct as the sender knows it.
  uint32_t struct_size;
  // Number of values.
  uint32_t n_values;
  // Number of nodes.
  uint32_t n_nodes;
  // Number of outputs.
  uint32_t n_outputs;
  // Number of symbols; at least `SYMBOL_COUNT`.
  uint32_t n_symbols;
  // Zero.
  uint32_t reserved;
  // The values.
  const struct CamelidValue *const *values;
  // The nodes.
  const struct CamelidNode *const *nodes;
  // The outputs.
  const struct CamelidOutput *const *outputs;
  // The least value of each symbol, in the order T, S, O, L.
  const uint64_t *symbol_min;
  // The greatest value of each symbol: what every buffer is large enough for.
  const uint64_t *symbol_max;
} CamelidGraph;

// Attributes of `OP_BMM`.
typedef struct CamelidBmmAttrs {
  // 1 if `b` is given as `[.., N, K]`, else 0.
  uint32_t transpose_b;
} CamelidBmmAttrs;

// Attributes of `OP_RMS_NORM` and `OP_ADD_RMS_NORM`.
typedef struct CamelidRmsNormAttrs {
  // Added to the mean square.
  float eps;
} CamelidRmsNormAttrs;

// Attributes of `OP_ROPE`.
typedef struct CamelidRopeAttrs {
  // Width of a head.
  uint64_t head_dim;
} CamelidRopeAttrs;

// Attributes of `OP_ACTIVATION`.
typedef struct CamelidActivationAttrs {
  // `ACTIVATION_*`.
  uint32_t kind;
} CamelidActivationAttrs;

// Attributes of `OP_SOFTMAX`.
typedef struct CamelidSoftmaxAttrs {
  // Multiplies the scores before the mask is added.
  float scale;
} CamelidSoftmaxAttrs;

// Attributes of `OP_CAST`.
typedef struct CamelidCastAttrs {
  // The new element type.
  struct CamelidDType to;
} CamelidCastAttrs;

// Attributes of `OP_RESHAPE`.
typedef struct CamelidReshapeAttrs {
  // Number of dimensions, at most 4.
  uint32_t rank;
  // Zero.
  uint32_t reserved;
  // Sizes, or `SYMBOL_*`; entries from `rank` on are zero.
  int64_t dim[4];
} CamelidReshapeAttrs;

// Attributes of `OP_ATTENTION`.
typedef struct CamelidAttentionAttrs {
  // Query heads.
  uint64_t num_heads;
  // Key/value heads; divides `num_heads`.
  uint64_t num_kv_heads;
  // Width of a head.
  uint64_t head_dim;
  // Rows of a cache block.
  uint64_t block_size;
  // How many tokens, itself included, a token sees; 0 for all.
  uint64_t window;
  // Multiplies the scores.
  float scale;
  // Zero.
  uint32_t reserved;
} CamelidAttentionAttrs;

// Says what the library is, as data: read before any of its code is called. The exported symbol
// `camelid_plugin_manifest` is this struct itself.
typedef struct CamelidManifest {
  // `MAGIC`.
  uint32_t magic;
  // Size of this struct as the sender knows it.
  uint32_t struct_size;
  // `ABI_MAJOR` it was built for.
  uint32_t abi_major;
  // `ABI_MINOR` it was built for.
  uint32_t abi_minor;
  // Name of the backend, NUL-terminated: lower-case letters, digits, `-` and `_`.
  const char *name;
  // Version of the plugin, NUL-terminated.
  const char *version;
  // What it was built for, NUL-terminated: `ARCHITECTURE-OS` as in "x86_64-linux".
  const char *target;
} CamelidManifest;

// Where a message goes. The caller owns the memory and has cleared it.
typedef struct CamelidError {
  // Size of this struct as the sender knows it.
  uint32_t struct_size;
  // Bytes at `message`; a longer message is cut.
  uint32_t capacity;
  // UTF-8 text, ended by a NUL or by `capacity`.
  char *message;
} CamelidError;

// What the host offers a plugin. Lives for the process.
typedef struct CamelidHost {
  // Size of this struct as the sender knows it.
  uint32_t struct_size;
  // `ABI_MINOR` of the host.
  uint32_t abi_minor;
  // Goes back to the functions of this struct.
  void *ctx;
  // Writes to the host's log, from any thread: level (`LOG_*`), where from, what.
  void (*log)(void *ctx, uint32_t level, struct CamelidStr target, struct CamelidStr message);
} CamelidHost;

// A device as the host shows it; the plugin fills it in.
typedef struct CamelidDeviceInfo {
  // Size of this struct as the host knows it.
  uint32_t struct_size;
  // `DEVICE_*`.
  uint32_t kind;
  // Memory in bytes; 0 if unknown.
  uint64_t memory;
  // The maker's name for it: UTF-8, ended by a NUL or by the array's end.
  char name[128];
} CamelidDeviceInfo;

// The answer to one node; the plugin fills it in.
typedef struct CamelidSupport {
  // Size of this struct as the host knows it.
  uint32_t struct_size;
  // `SUPPORT_*`.
  uint32_t verdict;
  // Bytes at `reason`.
  uint32_t reason_capacity;
  // Zero.
  uint32_t reserved;
  // Why, unless the verdict is yes: UTF-8, ended by a NUL or by `reason_capacity`.
  char *reason;
} CamelidSupport;

// What memory is asked for.
typedef struct CamelidBufferDesc {
  // Size of this struct as the host knows it.
  uint32_t struct_size;
  // `USAGE_*`.
  uint32_t usage;
  // Bytes, at least 1.
  uint64_t size;
  // What it is for, in messages.
  struct CamelidStr name;
} CamelidBufferDesc;

// A weight on its way to a device.
typedef struct CamelidWeight {
  // Size of this struct as the host knows it.
  uint32_t struct_size;
  // `WEIGHT_*`.
  uint32_t flags;
  // Element type and shape; all dimensions fixed.
  struct CamelidTensorType ty;
  // The bytes, row after row, at any alignment.
  const void *data;
  // Bytes.
  uint64_t size;
  // The tensor's name in Hugging Face form.
  struct CamelidStr name;
  // Lets go of the bytes. The plugin calls it exactly once, from any thread, if it answered OK and
  // `PLACEMENT_ALIASED`, and never otherwise.
  void (*release)(void *ctx);
  // Goes to `release`.
  void *release_ctx;
  // Out: `PLACEMENT_*`.
  uint32_t placement;
  // Zero.
  uint32_t reserved;
} CamelidWeight;

// The plugin's functions. Lives for the process. All but `extension` are required.
//
// Calls are serialized by the host: one at a time for a plugin's own functions, and one at a time for each device.
// Pointers are borrowed for the call. What is freed is never null.
typedef struct CamelidApi {
  // Size of this struct as the plugin knows it.
  uint32_t struct_size;
  // `ABI_MINOR` the plugin was built for.
  uint32_t abi_minor;
  // Ends the plugin: all devices are closed; its threads end before this returns. The library stays loaded.
  void (*shutdown)(struct CamelidPlugin*);
  // Counts the devices. With 0 the message says why there are none, though the status is OK.
  CamelidStatus (*device_count)(struct CamelidPlugin*, uint32_t *count, struct CamelidError*);
  // Describes device `index`.
  CamelidStatus (*device_info)(struct CamelidPlugin*,
                               uint32_t index,
                               struct CamelidDeviceInfo *info,
                               struct CamelidError*);
  // Opens device `index`. An unknown option is `STATUS_INVALID`.
  CamelidStatus (*device_open)(struct CamelidPlugin*,
                               uint32_t index,
                               const struct CamelidKeyValue *options,
                               size_t n_options,
                               struct CamelidDevice **device,
                               struct CamelidError*);
  // Closes a device whose plans and buffers are freed.
  void (*device_close)(struct CamelidDevice*);
  // Waits until all work of the device is done.
  CamelidStatus (*device_sync)(struct CamelidDevice*, struct CamelidError*);
  // Says of each node whether the device computes it: `answers` has an entry for each.
  CamelidStatus (*graph_supports)(struct CamelidDevice*,
                                  const struct CamelidGraph *graph,
                                  struct CamelidSupport *const *answers,
                                  struct CamelidError*);
  // Memory, contents unspecified.
  CamelidStatus (*buffer_alloc)(struct CamelidDevice*,
                                const struct CamelidBufferDesc *desc,
                                struct CamelidBuffer **buffer,
                                struct CamelidError*);
  // Takes a weight.
  CamelidStatus (*weight_load)(struct CamelidDevice*,
                               struct CamelidWeight *weight,
                               struct CamelidBuffer **buffer,
                               struct CamelidError*);
  // Copies `size` bytes into a buffer; `data` may be reused once the call returns.
  CamelidStatus (*buffer_write)(struct CamelidDevice*,
                                struct CamelidBuffer*,
                                uint64_t offset,
                                const void *data,
                                size_t size,
                                struct CamelidError*);
  // Copies `size` bytes from a buffer after all earlier work is done.
  CamelidStatus (*buffer_read)(struct CamelidDevice*,
                               struct CamelidBuffer*,
                               uint64_t offset,
                               void *data,
                               size_t size,
                               struct CamelidError*);
  // Copies between buffers of the device, or inside one where the ranges do not overlap.
  CamelidStatus (*buffer_copy)(struct CamelidDevice*,
                               struct CamelidBuffer *to,
                               uint64_t to_offset,
                               struct CamelidBuffer *from,
                               uint64_t from_offset,
                               uint64_t size,
                               struct CamelidError*);
  // Gives a buffer back.
  void (*buffer_free)(struct CamelidDevice*, struct CamelidBuffer*);
  // Makes a plan of a graph: everything that can be decided is decided here. Keep what you need of the graph.
  CamelidStatus (*plan_compile)(struct CamelidDevice*,
                                const struct CamelidGraph *graph,
                                const struct CamelidBinding *bindings,
                                size_t n_bindings,
                                struct CamelidPlan **plan,
                                struct CamelidError*);
  // Runs one step with the values of the symbols T, S, O, L; may return before the work is done.
  CamelidStatus (*plan_run)(struct CamelidDevice*,
                            struct CamelidPlan*,
                            const uint64_t *symbols,
                            size_t n_symbols,
                            struct CamelidError*);
  // Gives a plan back.
  void (*plan_free)(struct CamelidDevice*, struct CamelidPlan*);
  // Optional: a table of functions by name ("vendor.thing/1"), or null if the plugin does not have it.
  const void *(*extension)(struct CamelidPlugin*, struct CamelidStr name);
} CamelidApi;

// The function `camelid_plugin_entry_v1`: takes what the host offers and gives the plugin and its functions.
typedef CamelidStatus (*CamelidEntry)(const struct CamelidHost *host,
                                      struct CamelidPlugin **plugin,
                                      const struct CamelidApi **api,
                                      struct CamelidError *error);

// Done.
#define CAMELID_STATUS_OK 0

// The caller asked for something that makes no sense.
#define CAMELID_STATUS_INVALID 1

// The device cannot do this.
#define CAMELID_STATUS_UNSUPPORTED 2

// There is not enough memory.
#define CAMELID_STATUS_OUT_OF_MEMORY 3

// The device is gone; only freeing and closing make sense now.
#define CAMELID_STATUS_DEVICE_LOST 4

// The host asked to stop.
#define CAMELID_STATUS_ABORTED 5

// Anything else.
#define CAMELID_STATUS_INTERNAL 6

// A bug in the plugin was caught at its border (a Rust panic); the device counts as lost.
#define CAMELID_STATUS_PANIC 7

#ifdef __cplusplus
extern "C" {
#endif

/* The two symbols that a plugin exports. */
extern CAMELID_EXPORT const CamelidManifest camelid_plugin_manifest;
CAMELID_EXPORT CamelidStatus camelid_plugin_entry_v1(const CamelidHost *host, CamelidPlugin **plugin,
                                                     const CamelidApi **api, CamelidError *error);

#ifdef __cplusplus
}
#endif

#if UINTPTR_MAX == 0xffffffffffffffffu
CAMELID_ASSERT(sizeof(CamelidStr) == 16);
CAMELID_ASSERT(offsetof(CamelidStr, ptr) == 0);
CAMELID_ASSERT(offsetof(CamelidStr, len) == 8);
CAMELID_ASSERT(sizeof(CamelidKeyValue) == 32);
CAMELID_ASSERT(offsetof(CamelidKeyValue, key) == 0);
CAMELID_ASSERT(offsetof(CamelidKeyValue, value) == 16);
CAMELID_ASSERT(sizeof(CamelidDType) == 16);
CAMELID_ASSERT(offsetof(CamelidDType, id) == 0);
CAMELID_ASSERT(offsetof(CamelidDType, block_elems) == 4);
CAMELID_ASSERT(offsetof(CamelidDType, block_bytes) == 8);
CAMELID_ASSERT(offsetof(CamelidDType, reserved) == 12);
CAMELID_ASSERT(sizeof(CamelidTensorType) == 56);
CAMELID_ASSERT(offsetof(CamelidTensorType, dtype) == 0);
CAMELID_ASSERT(offsetof(CamelidTensorType, rank) == 16);
CAMELID_ASSERT(offsetof(CamelidTensorType, reserved) == 20);
CAMELID_ASSERT(offsetof(CamelidTensorType, dim) == 24);
CAMELID_ASSERT(sizeof(CamelidBinding) == 24);
CAMELID_ASSERT(offsetof(CamelidBinding, value) == 0);
CAMELID_ASSERT(offsetof(CamelidBinding, reserved) == 4);
CAMELID_ASSERT(offsetof(CamelidBinding, buffer) == 8);
CAMELID_ASSERT(offsetof(CamelidBinding, offset) == 16);
CAMELID_ASSERT(sizeof(CamelidValue) == 96);
CAMELID_ASSERT(offsetof(CamelidValue, struct_size) == 0);
CAMELID_ASSERT(offsetof(CamelidValue, kind) == 4);
CAMELID_ASSERT(offsetof(CamelidValue, ty) == 8);
CAMELID_ASSERT(offsetof(CamelidValue, name) == 64);
CAMELID_ASSERT(offsetof(CamelidValue, in_place_of) == 80);
CAMELID_ASSERT(offsetof(CamelidValue, step_input) == 84);
CAMELID_ASSERT(offsetof(CamelidValue, step_param) == 88);
CAMELID_ASSERT(sizeof(CamelidNode) == 80);
CAMELID_ASSERT(offsetof(CamelidNode, struct_size) == 0);
CAMELID_ASSERT(offsetof(CamelidNode, op) == 4);
CAMELID_ASSERT(offsetof(CamelidNode, op_version) == 8);
CAMELID_ASSERT(offsetof(CamelidNode, n_inputs) == 12);
CAMELID_ASSERT(offsetof(CamelidNode, n_outputs) == 16);
CAMELID_ASSERT(offsetof(CamelidNode, attrs_size) == 20);
CAMELID_ASSERT(offsetof(CamelidNode, inputs) == 24);
CAMELID_ASSERT(offsetof(CamelidNode, outputs) == 32);
CAMELID_ASSERT(offsetof(CamelidNode, attrs) == 40);
CAMELID_ASSERT(offsetof(CamelidNode, name) == 48);
CAMELID_ASSERT(offsetof(CamelidNode, scope) == 64);
CAMELID_ASSERT(sizeof(CamelidOutput) == 24);
CAMELID_ASSERT(offsetof(CamelidOutput, struct_size) == 0);
CAMELID_ASSERT(offsetof(CamelidOutput, value) == 4);
CAMELID_ASSERT(offsetof(CamelidOutput, name) == 8);
CAMELID_ASSERT(sizeof(CamelidGraph) == 64);
CAMELID_ASSERT(offsetof(CamelidGraph, struct_size) == 0);
CAMELID_ASSERT(offsetof(CamelidGraph, n_values) == 4);
CAMELID_ASSERT(offsetof(CamelidGraph, n_nodes) == 8);
CAMELID_ASSERT(offsetof(CamelidGraph, n_outputs) == 12);
CAMELID_ASSERT(offsetof(CamelidGraph, n_symbols) == 16);
CAMELID_ASSERT(offsetof(CamelidGraph, reserved) == 20);
CAMELID_ASSERT(offsetof(CamelidGraph, values) == 24);
CAMELID_ASSERT(offsetof(CamelidGraph, nodes) == 32);
CAMELID_ASSERT(offsetof(CamelidGraph, outputs) == 40);
CAMELID_ASSERT(offsetof(CamelidGraph, symbol_min) == 48);
CAMELID_ASSERT(offsetof(CamelidGraph, symbol_max) == 56);
CAMELID_ASSERT(sizeof(CamelidBmmAttrs) == 4);
CAMELID_ASSERT(offsetof(CamelidBmmAttrs, transpose_b) == 0);
CAMELID_ASSERT(sizeof(CamelidRmsNormAttrs) == 4);
CAMELID_ASSERT(offsetof(CamelidRmsNormAttrs, eps) == 0);
CAMELID_ASSERT(sizeof(CamelidRopeAttrs) == 8);
CAMELID_ASSERT(offsetof(CamelidRopeAttrs, head_dim) == 0);
CAMELID_ASSERT(sizeof(CamelidActivationAttrs) == 4);
CAMELID_ASSERT(offsetof(CamelidActivationAttrs, kind) == 0);
CAMELID_ASSERT(sizeof(CamelidSoftmaxAttrs) == 4);
CAMELID_ASSERT(offsetof(CamelidSoftmaxAttrs, scale) == 0);
CAMELID_ASSERT(sizeof(CamelidCastAttrs) == 16);
CAMELID_ASSERT(offsetof(CamelidCastAttrs, to) == 0);
CAMELID_ASSERT(sizeof(CamelidReshapeAttrs) == 40);
CAMELID_ASSERT(offsetof(CamelidReshapeAttrs, rank) == 0);
CAMELID_ASSERT(offsetof(CamelidReshapeAttrs, reserved) == 4);
CAMELID_ASSERT(offsetof(CamelidReshapeAttrs, dim) == 8);
CAMELID_ASSERT(sizeof(CamelidAttentionAttrs) == 48);
CAMELID_ASSERT(offsetof(CamelidAttentionAttrs, num_heads) == 0);
CAMELID_ASSERT(offsetof(CamelidAttentionAttrs, num_kv_heads) == 8);
CAMELID_ASSERT(offsetof(CamelidAttentionAttrs, head_dim) == 16);
CAMELID_ASSERT(offsetof(CamelidAttentionAttrs, block_size) == 24);
CAMELID_ASSERT(offsetof(CamelidAttentionAttrs, window) == 32);
CAMELID_ASSERT(offsetof(CamelidAttentionAttrs, scale) == 40);
CAMELID_ASSERT(offsetof(CamelidAttentionAttrs, reserved) == 44);
CAMELID_ASSERT(sizeof(CamelidManifest) == 40);
CAMELID_ASSERT(offsetof(CamelidManifest, magic) == 0);
CAMELID_ASSERT(offsetof(CamelidManifest, struct_size) == 4);
CAMELID_ASSERT(offsetof(CamelidManifest, abi_major) == 8);
CAMELID_ASSERT(offsetof(CamelidManifest, abi_minor) == 12);
CAMELID_ASSERT(offsetof(CamelidManifest, name) == 16);
CAMELID_ASSERT(offsetof(CamelidManifest, version) == 24);
CAMELID_ASSERT(offsetof(CamelidManifest, target) == 32);
CAMELID_ASSERT(sizeof(CamelidError) == 16);
CAMELID_ASSERT(offsetof(CamelidError, struct_size) == 0);
CAMELID_ASSERT(offsetof(CamelidError, capacity) == 4);
CAMELID_ASSERT(offsetof(CamelidError, message) == 8);
CAMELID_ASSERT(sizeof(CamelidHost) == 24);
CAMELID_ASSERT(offsetof(CamelidHost, struct_size) == 0);
CAMELID_ASSERT(offsetof(CamelidHost, abi_minor) == 4);
CAMELID_ASSERT(offsetof(CamelidHost, ctx) == 8);
CAMELID_ASSERT(offsetof(CamelidHost, log) == 16);
CAMELID_ASSERT(sizeof(CamelidDeviceInfo) == 144);
CAMELID_ASSERT(offsetof(CamelidDeviceInfo, struct_size) == 0);
CAMELID_ASSERT(offsetof(CamelidDeviceInfo, kind) == 4);
CAMELID_ASSERT(offsetof(CamelidDeviceInfo, memory) == 8);
CAMELID_ASSERT(offsetof(CamelidDeviceInfo, name) == 16);
CAMELID_ASSERT(sizeof(CamelidSupport) == 24);
CAMELID_ASSERT(offsetof(CamelidSupport, struct_size) == 0);
CAMELID_ASSERT(offsetof(CamelidSupport, verdict) == 4);
CAMELID_ASSERT(offsetof(CamelidSupport, reason_capacity) == 8);
CAMELID_ASSERT(offsetof(CamelidSupport, reserved) == 12);
CAMELID_ASSERT(offsetof(CamelidSupport, reason) == 16);
CAMELID_ASSERT(sizeof(CamelidBufferDesc) == 32);
CAMELID_ASSERT(offsetof(CamelidBufferDesc, struct_size) == 0);
CAMELID_ASSERT(offsetof(CamelidBufferDesc, usage) == 4);
CAMELID_ASSERT(offsetof(CamelidBufferDesc, size) == 8);
CAMELID_ASSERT(offsetof(CamelidBufferDesc, name) == 16);
CAMELID_ASSERT(sizeof(CamelidWeight) == 120);
CAMELID_ASSERT(offsetof(CamelidWeight, struct_size) == 0);
CAMELID_ASSERT(offsetof(CamelidWeight, flags) == 4);
CAMELID_ASSERT(offsetof(CamelidWeight, ty) == 8);
CAMELID_ASSERT(offsetof(CamelidWeight, data) == 64);
CAMELID_ASSERT(offsetof(CamelidWeight, size) == 72);
CAMELID_ASSERT(offsetof(CamelidWeight, name) == 80);
CAMELID_ASSERT(offsetof(CamelidWeight, release) == 96);
CAMELID_ASSERT(offsetof(CamelidWeight, release_ctx) == 104);
CAMELID_ASSERT(offsetof(CamelidWeight, placement) == 112);
CAMELID_ASSERT(offsetof(CamelidWeight, reserved) == 116);
CAMELID_ASSERT(sizeof(CamelidApi) == 144);
CAMELID_ASSERT(offsetof(CamelidApi, struct_size) == 0);
CAMELID_ASSERT(offsetof(CamelidApi, abi_minor) == 4);
CAMELID_ASSERT(offsetof(CamelidApi, shutdown) == 8);
CAMELID_ASSERT(offsetof(CamelidApi, device_count) == 16);
CAMELID_ASSERT(offsetof(CamelidApi, device_info) == 24);
CAMELID_ASSERT(offsetof(CamelidApi, device_open) == 32);
CAMELID_ASSERT(offsetof(CamelidApi, device_close) == 40);
CAMELID_ASSERT(offsetof(CamelidApi, device_sync) == 48);
CAMELID_ASSERT(offsetof(CamelidApi, graph_supports) == 56);
CAMELID_ASSERT(offsetof(CamelidApi, buffer_alloc) == 64);
CAMELID_ASSERT(offsetof(CamelidApi, weight_load) == 72);
CAMELID_ASSERT(offsetof(CamelidApi, buffer_write) == 80);
CAMELID_ASSERT(offsetof(CamelidApi, buffer_read) == 88);
CAMELID_ASSERT(offsetof(CamelidApi, buffer_copy) == 96);
CAMELID_ASSERT(offsetof(CamelidApi, buffer_free) == 104);
CAMELID_ASSERT(offsetof(CamelidApi, plan_compile) == 112);
CAMELID_ASSERT(offsetof(CamelidApi, plan_run) == 120);
CAMELID_ASSERT(offsetof(CamelidApi, plan_free) == 128);
CAMELID_ASSERT(offsetof(CamelidApi, extension) == 136);
#endif

#endif /* CAMELID_BACKEND_H */
