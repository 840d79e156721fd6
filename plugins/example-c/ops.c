/* The kernels: what each has to compute is in crates/core/src/ops, one file an operation. Shapes were checked when the
 * plan was made; what an index holds is checked here. All dimensions but the last are taken as one: [rows, columns]. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "example.h"

#define MASKED -1e30f /* a score whose mask is this or less has weight zero */
#define CHUNK 1024    /* elements of a weight's row that are widened at a time: whole blocks */

static bool check_rows(const Tensor *index, size_t rows, char problem[160]) {
  for (size_t i = 0; i < index->bytes / 4; i++) {
    int32_t row = index->i32[i];
    if (row == -1 || (row >= 0 && (size_t)row < rows)) continue;
    snprintf(problem, 160, "operand `index`: element %zu is %d, but it must be in 0..%zu, or -1 for none", i, row, rows);
    return false;
  }
  return true;
}

/* table [N, D], index [..] -> [.., D]: rows keep their bytes, but those in blocks become f32. */
static void gather_rows(const Tensor *table, const Tensor *index, const Tensor *y) {
  size_t row_size = table->rows > 0 ? table->bytes / table->rows : 0;
  for (size_t i = 0; i < y->rows; i++) {
    uint8_t *to = y->data + i * (y->bytes / y->rows);
    const uint8_t *from = index->i32[i] < 0 ? NULL : table->data + (size_t)index->i32[i] * row_size;
    if (from == NULL) memset(to, 0, y->bytes / y->rows);
    else if (table->dtype & FLOATS) memcpy(to, from, row_size);
    else widen(table->dtype, from, (float *)(void *)to, table->columns);
  }
}

/* table [N, D], rows [T, D], index [T]: in place */
static void scatter_rows(const Tensor *table, const Tensor *rows, const Tensor *index) {
  size_t n = rows->columns;
  for (size_t i = 0; i < rows->rows; i++) {
    if (index->i32[i] >= 0) memmove(table->f32 + (size_t)index->i32[i] * n, rows->f32 + i * n, n * sizeof(float));
  }
}

/* x [rows, K], w [N, K], b [N]? -> [rows, N]: each part of w is widened once for all rows of x. */
static void linear(const Tensor *x, const Tensor *w, const Tensor *b, const Tensor *y) {
  size_t n = w->rows, k = w->columns, row_size = n > 0 ? w->bytes / n : 0;
  for (size_t i = 0; x->rows > 0 && i < n; i++) {
    float part[CHUNK], bias = 0;
    if (b != NULL) widen(b->dtype, b->data + i * (b->bytes / n), &bias, 1);
    for (size_t t = 0; t < x->rows; t++) y->f32[t * n + i] = bias;
    for (size_t at = 0; at < k; at += CHUNK) {
      size_t size = k - at < CHUNK ? k - at : CHUNK;
      widen(w->dtype, w->data + i * row_size + at / CHUNK * (row_size * CHUNK / k), part, size);
      for (size_t t = 0; t < x->rows; t++) y->f32[t * n + i] += dot(x->f32 + t * k + at, part, size);
    }
  }
}

/* a [B, M, K], b [B, K, N] or transposed [B, N, K] -> [B, M, N] */
static void bmm(const Tensor *a, const Tensor *b, bool transposed, const Tensor *y) {
  size_t k = a->columns, n = y->columns;
  for (size_t i = 0; i < y->rows; i++) {
    const float *from = a->f32 + i * k, *matrix = b->f32 + i / y->matrix * k * n;
    float *to = y->f32 + i * n;
    for (size_t j = 0; j < n; j++) to[j] = transposed ? dot(from, matrix + j * k, k) : 0;
    for (size_t l = 0; l < k && !transposed; l++) {
      for (size_t j = 0; j < n; j++) to[j] += from[l] * matrix[l * n + j];
    }
  }
}

/* x [rows, D], weight [D]: x / sqrt(mean(x^2) + eps) * weight */
static void rms_norm(const Tensor *x, const Tensor *weight, float eps, const Tensor *y) {
  size_t n = x->columns;
  for (size_t i = 0; i < x->rows; i++) {
    double squares = 0;
    for (size_t j = 0; j < n; j++) squares += (double)x->f32[i * n + j] * (double)x->f32[i * n + j];
    float scale = (float)(1 / sqrt(squares / (double)n + (double)eps));
    for (size_t j = 0; j < n; j++) y->f32[i * n + j] = x->f32[i * n + j] * scale;
  }
  for (size_t j = 0; j < n; j++) {
    float factor;
    widen(weight->dtype, weight->data + j * (weight->bytes / n), &factor, 1);
    for (size_t i = 0; i < x->rows; i++) y->f32[i * n + j] *= factor;
  }
}

/* x [T, H * head_dim], cos and sin [T, R / 2]: element i of a head is rotated with i + R / 2, the rest stays. */
static void rope(const Tensor *x, const Tensor *cosines, const Tensor *sines, size_t head_dim, const Tensor *y) {
  size_t half = cosines->columns, heads = x->columns / head_dim;
  memmove(y->data, x->data, x->bytes);
  for (size_t i = 0; i < x->rows * heads; i++) {
    const float *cosine = cosines->f32 + i / heads * half, *sine = sines->f32 + i / heads * half;
    float *first = y->f32 + i * head_dim, *second = first + half;
    for (size_t j = 0; j < half; j++) {
      float a = first[j], b = second[j];
      first[j] = a * cosine[j] - b * sine[j];
      second[j] = b * cosine[j] + a * sine[j];
    }
  }
}

/* x [T, .., L], mask [T, L]?: a row of which nothing is visible is all zeros. */
static void softmax(const Tensor *x, const Tensor *mask, float scale, const Tensor *y) {
  size_t n = x->columns;
  for (size_t i = 0; i < x->rows; i++) {
    const float *from = x->f32 + i * n, *added = mask == NULL ? NULL : mask->f32 + i / (x->rows / mask->rows) * n;
    float *to = y->f32 + i * n, most = -INFINITY;
    double sum = 0;
    for (size_t j = 0; j < n; j++) {
      bool hidden = added != NULL && added[j] <= MASKED;
      to[j] = hidden ? -INFINITY : scale * from[j] + (added == NULL ? 0 : added[j]);
      most = fmaxf(most, to[j]);
    }
    for (size_t j = 0; j < n; j++) sum += (double)(to[j] = to[j] == -INFINITY ? 0 : expf(to[j] - most));
    for (size_t j = 0; j < n && sum != 0; j++) to[j] = (float)(to[j] / sum);
  }
}

static float activate(uint32_t kind, float x) {
  switch (kind) {
    case CAMELID_ACTIVATION_SILU: return x / (1 + expf(-x));
    case CAMELID_ACTIVATION_GELU: return x / 2 * (1 + erff(x * 0.70710678f));
    case CAMELID_ACTIVATION_GELU_TANH: return x / 2 * (1 + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
    case CAMELID_ACTIVATION_QUICK_GELU: return x / (1 + expf(-1.702f * x));
    case CAMELID_ACTIVATION_RELU: return x < 0 ? 0 : x;
    case CAMELID_ACTIVATION_RELU2: return x < 0 ? 0 : x * x;
    case CAMELID_ACTIVATION_SIGMOID: return 1 / (1 + expf(-x));
    case CAMELID_ACTIVATION_TANH: return tanhf(x);
    default: return x * tanhf(x > 20 ? x : log1pf(expf(x))); /* mish */
  }
}

bool op_run(uint32_t op, const Attrs *attrs, const Tensor *x, size_t n, const Tensor *y, char problem[160]) {
  const float *a = x[0].f32, *b = n > 1 ? x[1].f32 : NULL;
  size_t count = y->rows * y->columns;
  switch (op) {
    case CAMELID_OP_GATHER_ROWS: return check_rows(&x[1], x[0].rows, problem) && (gather_rows(&x[0], &x[1], y), true);
    case CAMELID_OP_SCATTER_ROWS: return check_rows(&x[2], x[0].rows, problem) && (scatter_rows(y, &x[1], &x[2]), true);
    case CAMELID_OP_LINEAR: linear(&x[0], &x[1], n > 2 ? &x[2] : NULL, y); return true;
    case CAMELID_OP_BMM: bmm(&x[0], &x[1], attrs->bmm.transpose_b != 0, y); return true;
    case CAMELID_OP_RMS_NORM: rms_norm(&x[0], &x[1], attrs->rms_norm.eps, y); return true;
    case CAMELID_OP_ROPE: rope(&x[0], &x[1], &x[2], (size_t)attrs->rope.head_dim, y); return true;
    case CAMELID_OP_SOFTMAX: softmax(&x[0], n > 1 ? &x[1] : NULL, attrs->softmax.scale, y); return true;
    case CAMELID_OP_CAST: widen(x[0].dtype, x[0].data, y->f32, count); return true;
    case CAMELID_OP_ADD: for (size_t i = 0; i < count; i++) y->f32[i] = a[i] + b[i]; return true;
    case CAMELID_OP_MUL: for (size_t i = 0; i < count; i++) y->f32[i] = a[i] * b[i]; return true;
    case CAMELID_OP_ACTIVATION:
      for (size_t i = 0; i < count; i++) y->f32[i] = activate(attrs->activation.kind, a[i]);
      return true;
    default: /* copy and reshape; the latter may find its operand in place */
      snprintf(problem, 160, "%zu bytes cannot be seen as %zu", x[0].bytes, y->bytes);
      if (x[0].bytes == y->bytes && x[0].data != y->data) memmove(y->data, x[0].data, y->bytes);
      return x[0].bytes == y->bytes;
  }
}
