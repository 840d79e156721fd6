/* Buffers and weights. Weights stay where the host has them, which is often a memory map of the file. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "example.h"

/* A buffer of `size` bytes, or one without memory for a weight that is aliased. */
static CamelidBuffer *buffer_new(CamelidStr name, uint64_t size, bool with_memory) {
  CamelidBuffer *buffer = size <= PTRDIFF_MAX ? calloc(1, sizeof *buffer) : NULL;
  if (buffer == NULL) return NULL;
  buffer->size = (size_t)size;
  snprintf(buffer->name, sizeof buffer->name, "%.*s", STR(name));
  if (with_memory && (buffer->data = calloc(1, buffer->size ? buffer->size : 1)) == NULL) {
    free(buffer);
    return NULL;
  }
  return buffer;
}

/* All memory of the processor is alike, so the use does not matter. */
CamelidStatus buffer_alloc(CamelidDevice *device, const CamelidBufferDesc *desc, CamelidBuffer **buffer,
                           CamelidError *error) {
  *buffer = buffer_new(desc->name, desc->size, true);
  return *buffer != NULL ? OK : no_memory(error, "buffer", desc->name, desc->size);
}

CamelidStatus weight_load(CamelidDevice *device, CamelidWeight *weight, CamelidBuffer **buffer, CamelidError *error) {
  const CamelidTensorType *ty = &weight->ty;
  const uint64_t none[CAMELID_SYMBOL_COUNT] = {0};
  size_t bytes;
  char names[64];
  *buffer = NULL;
  if (dtype_bit(ty->dtype) == 0) {
    return fail(error, UNSUPPORTED, "weight `%.*s` has element type %u; convert it to one of %s", STR(weight->name),
                ty->dtype.id, dtype_names(ANY, names));
  }
  bool fixed = type_is_known(ty);
  for (uint32_t i = 0; fixed && i < ty->rank; i++) fixed = ty->dim[i] >= 0;
  if (!fixed || !tensor_bytes(ty, none, &bytes) || bytes != weight->size || weight->data == NULL) {
    return fail(error, INVALID, "weight `%.*s` has %llu bytes, which do not make up a tensor of its type",
                STR(weight->name), (unsigned long long)weight->size);
  }
  /* Kernels read f32 and i32 in place, which needs them aligned; other types are read byte by byte. */
  bool aligned = ty->dtype.block_bytes != 4 || (uintptr_t)weight->data % 4 == 0;
  bool alias = (weight->flags & CAMELID_WEIGHT_MAY_ALIAS) && weight->release != NULL && aligned;
  CamelidBuffer *made = buffer_new(weight->name, bytes, !alias);
  if (made == NULL) return no_memory(error, "weight", weight->name, bytes);
  made->is_weight = true;
  made->ty = *ty;
  if (alias) made->data = (uint8_t *)(uintptr_t)weight->data; /* never written: see below and plan.c */
  else memcpy(made->data, weight->data, bytes);
  made->release = alias ? weight->release : NULL;
  made->release_ctx = weight->release_ctx;
  weight->placement = alias ? CAMELID_PLACEMENT_ALIASED : CAMELID_PLACEMENT_COPIED;
  *buffer = made;
  return OK;
}

static CamelidStatus check_range(const CamelidBuffer *buffer, const char *what, uint64_t offset, uint64_t size,
                                 bool written, CamelidError *error) {
  if (offset > buffer->size || size > buffer->size - offset || (written && buffer->is_weight)) {
    return fail(error, INVALID, "%s of %llu bytes at offset %llu of %s `%s` of %zu bytes is not possible",
                what, (unsigned long long)size, (unsigned long long)offset, buffer->is_weight ? "weight" : "buffer",
                buffer->name, buffer->size);
  }
  return OK;
}

CamelidStatus buffer_write(CamelidDevice *device, CamelidBuffer *buffer, uint64_t offset, const void *data, size_t size,
                           CamelidError *error) {
  CamelidStatus status = check_range(buffer, "a write", offset, size, true, error);
  if (status == OK && size > 0) memcpy(buffer->data + offset, data, size);
  return status;
}

CamelidStatus buffer_read(CamelidDevice *device, CamelidBuffer *buffer, uint64_t offset, void *data, size_t size,
                          CamelidError *error) {
  CamelidStatus status = check_range(buffer, "a read", offset, size, false, error);
  if (status == OK && size > 0) memcpy(data, buffer->data + offset, size);
  return status;
}

CamelidStatus buffer_copy(CamelidDevice *device, CamelidBuffer *to, uint64_t to_offset, CamelidBuffer *from,
                          uint64_t from_offset, uint64_t size, CamelidError *error) {
  CamelidStatus status = check_range(to, "a copy", to_offset, size, true, error);
  if (status == OK) status = check_range(from, "a copy", from_offset, size, false, error);
  if (status == OK) memmove(to->data + to_offset, from->data + from_offset, (size_t)size);
  return status;
}

void buffer_free(CamelidDevice *device, CamelidBuffer *buffer) {
  if (buffer->release != NULL) buffer->release(buffer->release_ctx);
  else free(buffer->data);
  free(buffer);
}
