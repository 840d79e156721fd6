/* What the files of the example backend share; start reading in plugin.c. */
#ifndef EXAMPLE_H
#define EXAMPLE_H

#include <stdbool.h>
#include "camelid_backend.h"

/* A CamelidStr as the two arguments of "%.*s"; long names are cut. */
#define STR(s) ((s).ptr == NULL ? 0 : (s).len < 160 ? (int)(s).len : 160), ((s).ptr == NULL ? "" : (s).ptr)
#define OK CAMELID_STATUS_OK
#define INVALID CAMELID_STATUS_INVALID
#define UNSUPPORTED CAMELID_STATUS_UNSUPPORTED
#define MAX_INPUTS 3
#define MAX_RANK 4
#define MAX_SLOTS 256 /* intermediate values that are alive at once */

/* plugin.c: the border. `fail` writes a message as printf does and answers `status`. */
__attribute__((format(printf, 3, 4))) CamelidStatus fail(CamelidError *, CamelidStatus status, const char *format, ...);
CamelidStatus no_memory(CamelidError *, const char *what, CamelidStr name, uint64_t size);
struct CamelidDevice {
  struct {
    uint8_t *data;
    size_t size;
  } slots[MAX_SLOTS]; /* where steps keep intermediate values: shared by all plans, since no two run at once */
};

/* dtype.c: element types. A set of them is a number, and so is one: its bit, 0 for a type that is not known here. */
enum {
  F32 = 1, F16 = 2, BF16 = 4, I32 = 8, Q4_0 = 16, Q4_1 = 32, Q8_0 = 64,
  FLOATS = F32 | F16 | BF16, TABLES = FLOATS | Q4_0 | Q4_1 | Q8_0, ANY = TABLES | I32
};
unsigned dtype_bit(CamelidDType);
const char *dtype_names(unsigned set, char names[64]); /* "f32, f16" */
bool type_is_known(const CamelidTensorType *);         /* element type and symbols; and rows are whole blocks */
size_t dim_size(int64_t dim, const uint64_t *symbols); /* when the symbols T, S, O, L have these values */
bool tensor_bytes(const CamelidTensorType *, const uint64_t *symbols, size_t *bytes); /* false if there are too many */
void widen(unsigned dtype, const uint8_t *from, float *to, size_t n); /* whole blocks, at any alignment, as f32, exactly */
float dot(const float *a, const float *b, size_t n);

/* memory.c: buffers and weights. */
struct CamelidBuffer {
  uint8_t *data; /* aligned for f32 */
  size_t size;
  bool is_weight;
  CamelidTensorType ty;       /* of a weight */
  void (*release)(void *ctx); /* of an aliased weight, else null */
  void *release_ctx;
  char name[64];
};
CamelidStatus buffer_alloc(CamelidDevice *, const CamelidBufferDesc *, CamelidBuffer **, CamelidError *);
CamelidStatus weight_load(CamelidDevice *, CamelidWeight *, CamelidBuffer **, CamelidError *);
CamelidStatus buffer_write(CamelidDevice *, CamelidBuffer *, uint64_t offset, const void *, size_t, CamelidError *);
CamelidStatus buffer_read(CamelidDevice *, CamelidBuffer *, uint64_t offset, void *, size_t, CamelidError *);
CamelidStatus buffer_copy(CamelidDevice *, CamelidBuffer *to, uint64_t to_offset, CamelidBuffer *from,
                          uint64_t from_offset, uint64_t size, CamelidError *);
void buffer_free(CamelidDevice *, CamelidBuffer *);

/* claims.c: what is computed. A graph is checked before anything else is asked about it. */
CamelidStatus graph_check(const CamelidGraph *, CamelidError *);
uint32_t storage_of(const CamelidGraph *, uint32_t value); /* itself, or the value that it was made in place of */
uint32_t node_support(const CamelidGraph *, const CamelidNode *, char *reason, size_t size);
CamelidStatus graph_supports(CamelidDevice *, const CamelidGraph *, CamelidSupport *const *answers, CamelidError *);

/* plan.c: what is decided before the first step, and the step. */
CamelidStatus plan_compile(CamelidDevice *, const CamelidGraph *, const CamelidBinding *, size_t n_bindings,
                           CamelidPlan **, CamelidError *);
CamelidStatus plan_run(CamelidDevice *, CamelidPlan *, const uint64_t *symbols, size_t n_symbols, CamelidError *);
void plan_free(CamelidDevice *, CamelidPlan *);

/* ops.c: how it is computed. A tensor is a value at one step. */
typedef struct {
  unsigned dtype;
  size_t columns, rows, matrix; /* the last dimension, all others in one, and the last but one */
  size_t bytes;
  union { uint8_t *data; float *f32; int32_t *i32; };
} Tensor;
typedef union {
  CamelidBmmAttrs bmm; CamelidRmsNormAttrs rms_norm; CamelidRopeAttrs rope;
  CamelidActivationAttrs activation; CamelidSoftmaxAttrs softmax;
} Attrs;
/* `y` from `n` operands `x`; false with a message in `problem` if the contents of an index make no sense. */
bool op_run(uint32_t op, const Attrs *, const Tensor *x, size_t n, const Tensor *y, char problem[160]);

#endif
