/* Types: which there are, how large they are, how numbers are read, and the loop that takes nearly all the time. */
#include <stdio.h>
#include <string.h>
#include "example.h"

static const struct {
  unsigned bit;
  const char *name;
  uint32_t id, block_elems, block_bytes;
} dtypes[] = {
  {F32, "f32", CAMELID_DTYPE_F32, 1, 4},      {F16, "f16", CAMELID_DTYPE_F16, 1, 2},
  {BF16, "bf16", CAMELID_DTYPE_BF16, 1, 2},   {I32, "i32", CAMELID_DTYPE_I32, 1, 4},
  {Q4_0, "q4_0", CAMELID_DTYPE_Q4_0, 32, 18}, {Q4_1, "q4_1", CAMELID_DTYPE_Q4_1, 32, 20},
  {Q8_0, "q8_0", CAMELID_DTYPE_Q8_0, 32, 34},
};
#define N_DTYPES (sizeof dtypes / sizeof *dtypes)

unsigned dtype_bit(CamelidDType dtype) {
  for (size_t i = 0; i < N_DTYPES; i++) {
    bool block = dtypes[i].block_elems == dtype.block_elems && dtypes[i].block_bytes == dtype.block_bytes;
    if (dtypes[i].id == dtype.id && block) return dtypes[i].bit; /* with another block it is another type */
  }
  return 0;
}

const char *dtype_names(unsigned set, char names[64]) {
  int used = 0;
  for (size_t i = 0; i < N_DTYPES; i++) {
    if (set & dtypes[i].bit) used += snprintf(names + used, 64 - (size_t)used, "%s%s", used ? ", " : "", dtypes[i].name);
  }
  return names;
}

bool type_is_known(const CamelidTensorType *ty) {
  if (dtype_bit(ty->dtype) == 0 || ty->rank > MAX_RANK) return false;
  for (uint32_t i = 0; i < ty->rank; i++) {
    if (ty->dim[i] < CAMELID_SYMBOL_P) return false; /* a symbol of a later version */
  }
  int64_t last = ty->rank > 0 ? ty->dim[ty->rank - 1] : 1;
  return ty->dtype.block_elems == 1 || (last >= 0 && last % (int64_t)ty->dtype.block_elems == 0);
}

size_t dim_size(int64_t dim, const uint64_t *symbols) {
  if (dim >= 0) return (size_t)dim;
  if (dim == CAMELID_SYMBOL_P) return (size_t)symbols[1] + 1; /* sequence boundaries: S + 1 */
  return (size_t)symbols[-dim - 1];                           /* T, S, O, L are -1 to -4 */
}

bool tensor_bytes(const CamelidTensorType *ty, const uint64_t *symbols, size_t *bytes) {
  /* Counted as if no dimension was zero, so that every product of some of the dimensions fits as well. */
  size_t elements = 1;
  bool empty = false;
  for (uint32_t i = 0; i < ty->rank; i++) {
    size_t size = dim_size(ty->dim[i], symbols);
    empty = empty || size == 0;
    if (size > PTRDIFF_MAX / 4 / elements) return false;
    if (size > 0) elements *= size;
  }
  *bytes = empty ? 0 : elements / ty->dtype.block_elems * ty->dtype.block_bytes;
  return true;
}

static float float_of_bits(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}
static uint32_t u16_at(const uint8_t *from) { return from[0] | (uint32_t)from[1] << 8; }
static float f16_at(const uint8_t *from) {
  uint32_t half = u16_at(from), magnitude = (half & 0x7fffu) << 13;
  /* As a float's bits the magnitude is 2^112 too small, which a product puts right exactly, subnormal or not. */
  bool finite = (half & 0x7c00u) != 0x7c00u;
  float value = finite ? float_of_bits(magnitude) * 0x1p112f : float_of_bits(magnitude | 0x7f800000u);
  return half & 0x8000u ? -value : value;
}

/* 16 bytes of two 4-bit codes each: the low halves are elements 0 to 15, the high ones 16 to 31. */
static void widen_nibbles(const uint8_t *codes, float scale, int centre, float minimum, float *to) {
  for (int i = 0; i < 16; i++) {
    to[i] = scale * (float)((codes[i] & 15) - centre) + minimum;
    to[16 + i] = scale * (float)((codes[i] >> 4) - centre) + minimum;
  }
}

void widen(unsigned dtype, const uint8_t *from, float *to, size_t n) {
  if (dtype == F32) memcpy(to, from, n * sizeof *to);
  for (size_t i = 0; dtype == F16 && i < n; i++) to[i] = f16_at(from + 2 * i);
  for (size_t i = 0; dtype == BF16 && i < n; i++) to[i] = float_of_bits(u16_at(from + 2 * i) << 16);
  /* q4_0: f16 scale, 16 bytes of codes around 8; q4_1: f16 scale, f16 minimum, 16 bytes of codes */
  for (size_t i = 0; dtype == Q4_0 && i < n; i += 32, from += 18) widen_nibbles(from + 2, f16_at(from), 8, 0, to + i);
  for (size_t i = 0; dtype == Q4_1 && i < n; i += 32, from += 20) {
    widen_nibbles(from + 4, f16_at(from), 0, f16_at(from + 2), to + i);
  }
  for (size_t i = 0; dtype == Q8_0 && i < n; i += 32, from += 34) { /* f16 scale, 32 signed bytes */
    float scale = f16_at(from);
    for (size_t j = 0; j < 32; j++) to[i + j] = scale * (float)(int8_t)from[2 + j];
  }
}

float dot(const float *a, const float *b, size_t n) {
  /* Partial sums that do not wait for one another: the compiler puts them into vector registers. */
  float sums[16] = {0};
  size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    for (size_t j = 0; j < 16; j++) sums[j] += a[i + j] * b[i + j];
  }
  double sum = 0;
  for (size_t j = 0; j < 16; j++) sum += (double)sums[j];
  for (; i < n; i++) sum += (double)a[i] * (double)b[i];
  return (float)sum;
}
