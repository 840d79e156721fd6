/* Tries the library as a host does, through its two symbols alone: `test ./libcamelid_example_c.so`. */

#define _POSIX_C_SOURCE 200809L
#include <dlfcn.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "camelid_backend.h"

#define MAX 32
#define T CAMELID_SYMBOL_T
#define DTYPE(name, elems, bytes) ((CamelidDType){CAMELID_DTYPE_##name, elems, bytes, 0})
#define F32 DTYPE(F32, 1, 4)
#define I32 DTYPE(I32, 1, 4)
#define DIMS(...) (int64_t[4]){__VA_ARGS__}, sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)
#define FLOATS(...) (float[]){__VA_ARGS__}
#define CHECK(condition) check(condition, #condition, __LINE__)

static const CamelidApi *api;
static CamelidPlugin *plugin;
static CamelidDevice *device;
static char message[CAMELID_MESSAGE_CAPACITY];
static CamelidError error = {sizeof error, sizeof message, message};
static int failures, checks, releases;

/* The graph under construction. */
static CamelidValue values[MAX];
static CamelidNode nodes[MAX];
static CamelidOutput outputs[MAX];
static uint32_t n_values, n_nodes, n_outputs, inputs_of[MAX][3], outputs_of[MAX];
static CamelidBinding bindings[MAX];
static size_t n_bindings;
static uint64_t symbols[] = {3, 1, 1, 2}, least[] = {0, 0, 0, 0}, most[] = {4, 2, 4, 4};

static void check(bool good, const char *what, int line) {
  checks++;
  if (good) return;
  failures++;
  printf("test.c:%d: %s does not hold; the last message was: %s\n", line, what, message);
}

static bool says(const char *part) { return strstr(message, part) != NULL; }

static void release(void *ctx) { ++*(int *)ctx; }

static uint32_t value(uint32_t kind, CamelidDType dtype, const int64_t *dims, size_t rank) {
  CamelidValue *made = &values[n_values];
  *made = (CamelidValue){sizeof *made, kind, {dtype, (uint32_t)rank, 0, {0}}, {"value", 5}, CAMELID_NO_VALUE, 0, 0};
  memcpy(made->ty.dim, dims, rank * sizeof *dims);
  return n_values++;
}

static void bind(uint32_t bound, CamelidBuffer *buffer) {
  bindings[n_bindings++] = (CamelidBinding){bound, 0, buffer, 0};
}

static CamelidBuffer *buffer(uint64_t size) {
  CamelidBufferDesc desc = {sizeof desc, CAMELID_USAGE_INPUT, size, {"buffer", 6}};
  CamelidBuffer *made = NULL;
  CHECK(api->buffer_alloc(device, &desc, &made, &error) == CAMELID_STATUS_OK && made != NULL);
  return made;
}

/* A bound value of this kind that holds `data`. */
static uint32_t filled(uint32_t kind, CamelidDType dtype, const int64_t *dims, size_t rank, const void *data, size_t size) {
  bind(value(kind, dtype, dims, rank), buffer(512));
  CHECK(api->buffer_write(device, bindings[n_bindings - 1].buffer, 0, data, size, &error) == CAMELID_STATUS_OK);
  return n_values - 1;
}
#define INPUT(dtype, dims, ...) filled(CAMELID_VALUE_INPUT, dtype, dims, (__VA_ARGS__), sizeof(__VA_ARGS__))

static CamelidStatus load(CamelidDType dtype, const int64_t *dims, size_t rank, const void *data, size_t size,
                          CamelidBuffer **made, uint32_t *placement) {
  CamelidWeight weight = {.struct_size = sizeof weight, .flags = CAMELID_WEIGHT_MAY_ALIAS, .data = data, .size = size};
  weight.ty.dtype = dtype;
  weight.ty.rank = (uint32_t)rank;
  memcpy(weight.ty.dim, dims, rank * sizeof *dims);
  weight.name = (CamelidStr){"weight", 6};
  weight.release = release;
  weight.release_ctx = &releases;
  CamelidStatus status = api->weight_load(device, &weight, made, &error);
  *placement = weight.placement;
  return status;
}

static uint32_t weight(CamelidDType dtype, const int64_t *dims, size_t rank, const void *data, size_t size) {
  CamelidBuffer *made = NULL;
  uint32_t placement;
  CHECK(load(dtype, dims, rank, data, size, &made, &placement) == CAMELID_STATUS_OK && made != NULL);
  bind(value(CAMELID_VALUE_WEIGHT, dtype, dims, rank), made);
  return n_values - 1;
}

/* A node and its result. */
static uint32_t node(uint32_t op, const void *attrs, size_t attrs_size, CamelidDType dtype, const int64_t *dims, size_t rank,
                     uint32_t n_inputs, ...) {
  va_list inputs;
  va_start(inputs, n_inputs);
  for (uint32_t i = 0; i < n_inputs; i++) inputs_of[n_nodes][i] = va_arg(inputs, uint32_t);
  va_end(inputs);
  outputs_of[n_nodes] = value(CAMELID_VALUE_COMPUTED, dtype, dims, rank);
  nodes[n_nodes] = (CamelidNode){sizeof(CamelidNode), op, 1, n_inputs, 1, (uint32_t)attrs_size, inputs_of[n_nodes],
                                 &outputs_of[n_nodes], attrs, {"op", 2}, {"test", 4}};
  if (op == CAMELID_OP_SCATTER_ROWS) values[n_values - 1].in_place_of = inputs_of[n_nodes][0];
  return outputs_of[n_nodes++];
}

static CamelidStatus use(CamelidStatus (*function)(const CamelidGraph *)) {
  const CamelidValue *value_at[MAX];
  const CamelidNode *node_at[MAX];
  const CamelidOutput *output_at[MAX];
  for (size_t i = 0; i < MAX; i++) value_at[i] = &values[i], node_at[i] = &nodes[i], output_at[i] = &outputs[i];
  CamelidGraph graph = {sizeof graph, n_values, n_nodes, n_outputs, 4, 0, value_at, node_at, output_at, least, most};
  message[0] = 0;
  return function(&graph);
}

static CamelidPlan *plan;
static CamelidStatus compile(const CamelidGraph *graph) {
  return api->plan_compile(device, graph, bindings, n_bindings, &plan, &error);
}

static uint32_t verdict; /* of the last node */
static CamelidStatus ask(const CamelidGraph *graph) {
  CamelidSupport answers[MAX], *answer_at[MAX];
  for (size_t i = 0; i < MAX; i++) {
    answers[i] = (CamelidSupport){sizeof answers[i], 0, sizeof message, 0, message};
    answer_at[i] = &answers[i];
  }
  CamelidStatus status = api->graph_supports(device, graph, answer_at, &error);
  verdict = answers[n_nodes - 1].verdict;
  return status;
}

static void reset(void) {
  for (size_t i = 0; i < n_bindings; i++) api->buffer_free(device, bindings[i].buffer);
  n_values = n_nodes = n_outputs = 0;
  n_bindings = 0;
}

static CamelidStatus run(void) {
  message[0] = 0;
  return api->plan_run(device, plan, symbols, 4, &error);
}

/* Compiles the graph with the result `y`, runs it, and compares. */
static void expect(int line, uint32_t y, const float *expected, size_t n) {
  float found[MAX] = {0};
  uint32_t storage = values[y].in_place_of == CAMELID_NO_VALUE ? y : values[y].in_place_of;
  outputs[n_outputs++] = (CamelidOutput){sizeof *outputs, y, {"y", 1}};
  if (storage == y) bind(y, buffer(512));
  check(use(ask) == CAMELID_STATUS_OK && verdict == CAMELID_SUPPORT_YES, "supported", line);
  check(use(compile) == CAMELID_STATUS_OK && plan != NULL, "compiled", line);
  if (plan != NULL) {
    /* Every step gives the same, unless a state has changed. */
    for (int step = 0; step < (values[0].kind == CAMELID_VALUE_STATE ? 1 : 2); step++) {
      check(run() == CAMELID_STATUS_OK, "ran", line);
      for (size_t i = 0; i < n_bindings; i++) {
        if (bindings[i].value == storage) api->buffer_read(device, bindings[i].buffer, 0, found, n * sizeof *found, &error);
      }
      for (size_t i = 0; i < n; i++) {
        snprintf(message, sizeof message, "element %zu is %.9g, not %.9g", i, (double)found[i], (double)expected[i]);
        check(fabsf(found[i] - expected[i]) <= 2e-6f * (1 + fabsf(expected[i])), "the expected result", line);
      }
    }
    api->plan_free(device, plan);
  }
  plan = NULL;
  reset();
}
#define EXPECT(y, ...) expect(__LINE__, y, FLOATS(__VA_ARGS__), sizeof FLOATS(__VA_ARGS__) / sizeof(float))

/* The last node cannot be computed; the answer and the error of compiling say why. */
static void refused(int line, uint32_t answer, const char *why) {
  check(use(ask) == CAMELID_STATUS_OK && verdict == answer && says(why), why, line);
  check(use(compile) == CAMELID_STATUS_UNSUPPORTED && says(why) && says("test"), why, line);
  reset();
}

static void operations(void) {
  uint32_t x, y, z;
  x = INPUT(F32, DIMS(3, 2), FLOATS(1, 2, 3, 4, 5, 6));
  y = INPUT(I32, DIMS(T), (int32_t[]){2, -1, 0});
  EXPECT(node(CAMELID_OP_GATHER_ROWS, NULL, 0, F32, DIMS(T, 2), 2, x, y), 5, 6, 0, 0, 1, 2);

  static const float w[2 * 17] = {[0] = 1, [16] = 2, [17] = -1, [33] = 0.5f};
  x = INPUT(F32, DIMS(T, 17), (float[3 * 17]){[0] = 1, [16] = 10, [17] = 2, [33] = 20, [34] = 3, [50] = 30});
  y = weight(F32, DIMS(2, 17), w, sizeof w);
  z = weight(DTYPE(BF16, 1, 2), DIMS(2), (uint8_t[]){0x80, 0x3f, 0, 0xc0}, 4); /* 1, -2 */
  EXPECT(node(CAMELID_OP_LINEAR, NULL, 0, F32, DIMS(T, 2), 3, x, y, z), 22, 2, 43, 6, 64, 10);

  for (uint32_t transposed = 0; transposed < 2; transposed++) {
    CamelidBmmAttrs attrs = {transposed};
    x = INPUT(F32, DIMS(2, 1, 2), FLOATS(1, 2, 3, 4));
    y = transposed ? INPUT(F32, DIMS(2, 3, 2), FLOATS(1, 4, 2, 5, 3, 6, 1, 0, 0, 1, 1, 1))
                   : INPUT(F32, DIMS(2, 2, 3), FLOATS(1, 2, 3, 4, 5, 6, 1, 0, 1, 0, 1, 1));
    EXPECT(node(CAMELID_OP_BMM, &attrs, sizeof attrs, F32, DIMS(2, 1, 3), 2, x, y), 9, 12, 15, 3, 4, 7);
  }
  CamelidRmsNormAttrs eps = {0.5f};
  x = INPUT(F32, DIMS(2, 2), FLOATS(3, 4, 1, 0));
  y = weight(DTYPE(F16, 1, 2), DIMS(2), (uint8_t[]){0, 0x3c, 1, 0}, 4); /* 1, 2^-24 */
  EXPECT(node(CAMELID_OP_RMS_NORM, &eps, sizeof eps, F32, DIMS(2, 2), 2, x, y), 3 / sqrtf(13), 4 / sqrtf(13) / (1 << 24), 1, 0);

  CamelidRopeAttrs head = {3};
  x = INPUT(F32, DIMS(1, 6), FLOATS(1, 2, 3, 4, 5, 6));
  y = INPUT(F32, DIMS(1, 1), FLOATS(0.6f));
  z = INPUT(F32, DIMS(1, 1), FLOATS(0.8f));
  EXPECT(node(CAMELID_OP_ROPE, &head, sizeof head, F32, DIMS(1, 6), 3, x, y, z), -1, 2, 3, -1.6f, 6.2f, 6);

  CamelidSoftmaxAttrs scale = {2};
  x = INPUT(F32, DIMS(2, 2, 2), FLOATS(0, 0.5f, 1, 1, NAN, 2, 3, 4)); /* the second token sees nothing */
  y = INPUT(F32, DIMS(2, 2), FLOATS(0, 1, -1e30f, -1e30f));
  EXPECT(node(CAMELID_OP_SOFTMAX, &scale, sizeof scale, F32, DIMS(2, 2, 2), 2, x, y), 1 / (1 + expf(2)), 1 / (1 + expf(-2)),
         1 / (1 + expf(1)), 1 / (1 + expf(-1)), 0, 0, 0, 0);

  static const float at_one[] = {0.73105858f, 0.84134475f, 0.84119199f, 0.84579577f, 1, 1, 0.73105858f, 0.76159416f, 0.86509839f};
  for (uint32_t kind = CAMELID_ACTIVATION_SILU; kind <= CAMELID_ACTIVATION_MISH; kind++) {
    CamelidActivationAttrs attrs = {kind};
    x = INPUT(F32, DIMS(1), FLOATS(1));
    EXPECT(node(CAMELID_OP_ACTIVATION, &attrs, sizeof attrs, F32, DIMS(1), 1, x), at_one[kind - 1]);
  }
  /* A table changed in place: reshaped before (a copy of its own) and after (the same memory), in slots used again. */
  CamelidReshapeAttrs flat = {1, 0, {4, 0, 0, 0}}, square = {3, 0, {1, 2, 2, 0}};
  CamelidBmmAttrs straight = {0};
  x = filled(CAMELID_VALUE_STATE, F32, DIMS(2, 2), FLOATS(1, 2, 3, 4), 16);
  y = INPUT(F32, DIMS(T, 2), FLOATS(9, 9, 7, 8, 9, 9));
  z = INPUT(I32, DIMS(T), (int32_t[]){-1, 1, -1});
  uint32_t before = node(CAMELID_OP_RESHAPE, &flat, sizeof flat, F32, DIMS(4), 1, x);
  uint32_t changed = node(CAMELID_OP_SCATTER_ROWS, NULL, 0, F32, DIMS(2, 2), 3, x, y, z);
  uint32_t after = node(CAMELID_OP_RESHAPE, &flat, sizeof flat, F32, DIMS(4), 1, changed);
  uint32_t sum = node(CAMELID_OP_ADD, NULL, 0, F32, DIMS(4), 2, before, after);
  uint32_t matrix = node(CAMELID_OP_RESHAPE, &square, sizeof square, F32, DIMS(1, 2, 2), 1, sum);
  uint32_t product = node(CAMELID_OP_BMM, &straight, sizeof straight, F32, DIMS(1, 2, 2), 2, matrix, matrix);
  uint32_t doubled = node(CAMELID_OP_ADD, NULL, 0, F32, DIMS(1, 2, 2), 2, product, product);
  EXPECT(node(CAMELID_OP_MUL, NULL, 0, F32, DIMS(1, 2, 2), 2, doubled, matrix), 176, 448, 2800, 4416);
}

/* Blocks whose codes are 0 to 15 and back, with a scale of 1/2 and a minimum of -1. */
static void blocks(void) {
  static const uint32_t ids[] = {CAMELID_DTYPE_Q4_0, CAMELID_DTYPE_Q4_1, CAMELID_DTYPE_Q8_0};
  static const uint32_t sizes[] = {18, 20, 34};
  for (int kind = 0; kind < 3; kind++) {
    uint8_t block[34] = {0, 0x38, 0, 0xbc}; /* f16: 0.5, -1 */
    float wanted[32];
    for (int i = 0; i < 32; i++) {
      int code = i < 16 ? i : 31 - i;
      if (kind == 2) block[2 + i] = (uint8_t)(code - 20);
      wanted[i] = kind == 0 ? 0.5f * (float)(code - 8) : kind == 1 ? 0.5f * (float)code - 1 : 0.5f * (float)(code - 20);
    }
    for (int i = 0; i < 16 && kind < 2; i++) block[sizes[kind] - 16 + (uint32_t)i] = (uint8_t)(i | (15 - i) << 4);
    CamelidDType dtype = {ids[kind], 32, sizes[kind], 0};
    CamelidCastAttrs to = {F32};
    uint32_t table = weight(dtype, DIMS(1, 32), block, sizes[kind]);
    expect(__LINE__, node(CAMELID_OP_CAST, &to, sizeof to, F32, DIMS(1, 32), 1, table), wanted, 32);
    table = weight(dtype, DIMS(1, 32), block, sizes[kind]);
    uint32_t index = INPUT(I32, DIMS(1), (int32_t[]){0});
    expect(__LINE__, node(CAMELID_OP_GATHER_ROWS, NULL, 0, F32, DIMS(1, 32), 2, table, index), wanted, 32);
  }
}

static void refusals(void) {
  uint32_t x, y, placement;
  CamelidBuffer *made;
  x = INPUT(F32, DIMS(T, 2), FLOATS(1, 2, 3, 4, 5, 6));
  node(CAMELID_OP_SWIGLU, NULL, 0, F32, DIMS(T, 2), 2, x, x);
  refused(__LINE__, CAMELID_SUPPORT_LOWER, "has the core operations");
  x = INPUT(DTYPE(F16, 1, 2), DIMS(T, 2), FLOATS(0));
  node(CAMELID_OP_ADD, NULL, 0, F32, DIMS(T, 2), 2, x, x);
  refused(__LINE__, CAMELID_SUPPORT_NO, "operand `a` has element type 2; supported are f32");
  x = INPUT(F32, DIMS(T, 2), FLOATS(0));
  y = INPUT(F32, DIMS(T, 3), FLOATS(0));
  node(CAMELID_OP_MUL, NULL, 0, F32, DIMS(T, 2), 2, x, y);
  refused(__LINE__, CAMELID_SUPPORT_NO, "operand `b` has no shape [*]");
  x = INPUT(F32, DIMS(T, 2), FLOATS(0));
  node(CAMELID_OP_SOFTMAX, NULL, 0, F32, DIMS(T, 2), 1, x);
  refused(__LINE__, CAMELID_SUPPORT_NO, "other than 1 operands and 0 bytes of attributes");

  /* What a step is given is checked: indices, symbols; and the plan goes on. */
  x = INPUT(F32, DIMS(2, 1), FLOATS(1, 2));
  y = INPUT(I32, DIMS(T), (int32_t[]){0, 2, 1});
  uint32_t rows = node(CAMELID_OP_GATHER_ROWS, NULL, 0, F32, DIMS(T, 1), 2, x, y);
  outputs[n_outputs++] = (CamelidOutput){sizeof *outputs, rows, {"y", 1}};
  CHECK(use(compile) == CAMELID_STATUS_INVALID && plan == NULL && says("is not bound"));
  bind(rows, buffer(8));
  CHECK(use(compile) == CAMELID_STATUS_INVALID && plan == NULL && says("needs up to 16 bytes"));
  api->buffer_free(device, bindings[--n_bindings].buffer);
  bind(rows, buffer(16));
  CHECK(use(compile) == CAMELID_STATUS_OK);
  CHECK(run() == CAMELID_STATUS_INVALID && says("element 1 is 2, but it must be in 0..2"));
  symbols[0] = 5;
  CHECK(run() == CAMELID_STATUS_INVALID && says("symbol T is 5") && says("0 to 4"));
  symbols[0] = 0;
  CHECK(run() == CAMELID_STATUS_OK);
  symbols[0] = 3;
  api->plan_free(device, plan);
  plan = NULL;
  outputs_of[n_nodes - 1] = MAX;
  CHECK(use(compile) == CAMELID_STATUS_INVALID && says("names values that it lacks"));
  reset();

  CamelidBuffer *small = buffer(8);
  CHECK(api->buffer_write(device, small, 5, "1234", 4, &error) == CAMELID_STATUS_INVALID && says("offset 5 of buffer"));
  CHECK(api->buffer_read(device, small, UINT64_MAX, message, 2, &error) == CAMELID_STATUS_INVALID);
  CHECK(api->buffer_copy(device, small, 0, small, 4, 5, &error) == CAMELID_STATUS_INVALID);
  api->buffer_free(device, small);

  static const char bytes[64] = {0};
  int before = releases;
  CHECK(load((CamelidDType){18, 32, 22, 0}, DIMS(1, 32), bytes, 22, &made, &placement) == CAMELID_STATUS_UNSUPPORTED);
  CHECK(says("element type 18; convert it to one of f32, f16, bf16, i32, q4_0, q4_1, q8_0") && made == NULL);
  CHECK(load(F32, DIMS(2, 2), bytes, 15, &made, &placement) == CAMELID_STATUS_INVALID && says("has 15 bytes"));
  CHECK(load(F32, DIMS(INT64_MAX, 4), bytes, 0, &made, &placement) == CAMELID_STATUS_INVALID);
  CHECK(load(DTYPE(Q8_0, 32, 34), DIMS(1, 33), bytes, 34, &made, &placement) == CAMELID_STATUS_INVALID);
  CHECK(load(F32, DIMS(1), bytes + 1 - (uintptr_t)bytes % 2, 4, &made, &placement) == CAMELID_STATUS_OK &&
        placement == CAMELID_PLACEMENT_COPIED);
  api->buffer_free(device, made);
  CHECK(releases == before); /* only what is aliased is released */
  static const float one[] = {1};
  CHECK(load(F32, DIMS(1), one, 4, &made, &placement) == CAMELID_STATUS_OK && placement == CAMELID_PLACEMENT_ALIASED);
  CHECK(api->buffer_write(device, made, 0, bytes, 4, &error) == CAMELID_STATUS_INVALID && says("weight `weight`"));
  api->buffer_free(device, made);
  CHECK(releases == before + 1);

  CamelidDevice *none = NULL;
  CamelidKeyValue option = {{"speed", 5}, {"11", 2}};
  CHECK(api->device_open(plugin, 0, &option, 1, &none, &error) == CAMELID_STATUS_INVALID && none == NULL && says("`speed`"));
  CHECK(api->device_open(plugin, 1, NULL, 0, &none, &error) == CAMELID_STATUS_INVALID && says("no device 1"));
}

int main(int count, char **arguments) {
  void *library = count == 2 ? dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL) : NULL;
  if (library == NULL) {
    printf("usage: test LIBRARY, with a slash in it (%s)\n", count == 2 ? dlerror() : "no library is given");
    return 2;
  }
  const CamelidManifest *manifest = dlsym(library, "camelid_plugin_manifest");
  CamelidEntry entry = NULL;
  *(void **)&entry = dlsym(library, "camelid_plugin_entry_v1");
  static const CamelidHost host = {.struct_size = sizeof host};
  CHECK(manifest != NULL && manifest->magic == CAMELID_MAGIC && strcmp(manifest->name, "example-c") == 0);
  CHECK(entry != NULL && entry(&host, &plugin, &api, &error) == CAMELID_STATUS_OK);
  CHECK(api->device_open(plugin, 0, NULL, 0, &device, &error) == CAMELID_STATUS_OK && device != NULL);
  operations();
  blocks();
  refusals();
  api->device_close(device);
  api->shutdown(plugin);
  printf("%d checks, %d failed\n", checks, failures);
  return failures > 0;
}
