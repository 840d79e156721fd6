/* What this backend computes: one table, from which graph_supports answers and plan_compile refuses. */
#include <stdio.h>
#include <string.h>
#include "example.h"

/* In a shape a letter is a dimension, the same wherever it stands, and `*` any number of dimensions. */
static const struct Claim {
  uint32_t op, n_inputs, attrs_size;
  struct {
    const char *name, *shape;
    unsigned dtypes;
  } inputs[MAX_INPUTS];
  const char *result; /* of type f32, except where check() says otherwise */
} claims[] = {
  {CAMELID_OP_GATHER_ROWS, 2, 0, {{"table", "ND", TABLES}, {"index", "*", I32}}, "*D"},
  {CAMELID_OP_LINEAR, 2, 0, {{"x", "*K", F32}, {"w", "NK", TABLES}}, "*N"},
  {CAMELID_OP_LINEAR, 3, 0, {{"x", "*K", F32}, {"w", "NK", TABLES}, {"b", "N", FLOATS}}, "*N"},
  {CAMELID_OP_BMM, 2, sizeof(CamelidBmmAttrs), {{"a", "*MK", F32}, {"b", "*KN", F32}}, "*MN"},
  {CAMELID_OP_RMS_NORM, 2, sizeof(CamelidRmsNormAttrs), {{"x", "*D", F32}, {"weight", "D", FLOATS}}, "*D"},
  {CAMELID_OP_ROPE, 3, sizeof(CamelidRopeAttrs), {{"x", "TW", F32}, {"cos", "TR", F32}, {"sin", "TR", F32}}, "TW"},
  {CAMELID_OP_ADD, 2, 0, {{"a", "*", F32}, {"b", "*", F32}}, "*"},
  {CAMELID_OP_MUL, 2, 0, {{"a", "*", F32}, {"b", "*", F32}}, "*"},
  {CAMELID_OP_ACTIVATION, 1, sizeof(CamelidActivationAttrs), {{"x", "*", F32}}, "*"},
  {CAMELID_OP_SOFTMAX, 1, sizeof(CamelidSoftmaxAttrs), {{"x", "*L", F32}}, "*L"},
  {CAMELID_OP_SOFTMAX, 2, sizeof(CamelidSoftmaxAttrs), {{"x", "T*L", F32}, {"mask", "TL", F32}}, "T*L"},
  {CAMELID_OP_SCATTER_ROWS, 3, 0, {{"table", "ND", F32}, {"rows", "TD", F32}, {"index", "T", I32}}, "ND"},
  {CAMELID_OP_CAST, 1, sizeof(CamelidCastAttrs), {{"x", "*", TABLES}}, "*"},
  {CAMELID_OP_COPY, 1, 0, {{"x", "*", ANY}}, "*"},
  {CAMELID_OP_RESHAPE, 1, sizeof(CamelidReshapeAttrs), {{"x", "*", ANY}}, NULL},
};

CamelidStatus graph_check(const CamelidGraph *graph, CamelidError *error) {
  bool good = CAMELID_HAS(graph, CamelidGraph, symbol_max) && graph->n_symbols >= CAMELID_SYMBOL_COUNT;
  for (uint32_t i = 0; good && i < graph->n_values; i++) {
    uint32_t older = graph->values[i]->in_place_of;
    good = CAMELID_HAS(graph->values[i], CamelidValue, step_param) && (older < i || older == CAMELID_NO_VALUE);
  }
  for (uint32_t i = 0; good && i < graph->n_nodes; i++) {
    const CamelidNode *node = graph->nodes[i];
    good = CAMELID_HAS(node, CamelidNode, scope);
    for (uint32_t j = 0; good && j < node->n_inputs; j++) good = node->inputs[j] < graph->n_values;
    for (uint32_t j = 0; good && j < node->n_outputs; j++) good = node->outputs[j] < graph->n_values;
  }
  for (uint32_t i = 0; good && i < graph->n_outputs; i++) {
    good = CAMELID_HAS(graph->outputs[i], CamelidOutput, name) && graph->outputs[i]->value < graph->n_values;
  }
  return good ? OK : fail(error, INVALID, "the graph has parts that are too small, or names values that it lacks");
}

uint32_t storage_of(const CamelidGraph *graph, uint32_t value) {
  while (graph->values[value]->in_place_of != CAMELID_NO_VALUE) value = graph->values[value]->in_place_of;
  return value;
}

/* What the letters and the star of a claim stand for at one node: 8 more than the dimension, and 0 for not known yet. */
typedef struct {
  uint64_t letters[26], star[MAX_RANK], star_rank;
} Shapes;

static bool bind(uint64_t *place, int64_t dim) {
  if (*place == 0) *place = (uint64_t)dim + 8;
  return *place == (uint64_t)dim + 8;
}

static bool has_shape(const CamelidTensorType *ty, const char *shape, Shapes *shapes) {
  int64_t free_dims = (int64_t)ty->rank - (int64_t)strlen(shape);
  uint32_t at = 0;
  for (; *shape != 0; shape++) {
    if (*shape != '*') {
      if (at >= ty->rank || !bind(&shapes->letters[*shape - 'A'], ty->dim[at++])) return false;
      continue;
    }
    if (free_dims < -1 || !bind(&shapes->star_rank, free_dims + 1)) return false;
    for (int64_t i = 0; i <= free_dims; i++) if (!bind(&shapes->star[i], ty->dim[at++])) return false;
  }
  return at == ty->rank;
}

/* What else must hold once operands and result have the claim's types and shapes; null if it does. */
static const char *check(const CamelidGraph *graph, const CamelidNode *node) {
  const CamelidTensorType *x = &graph->values[node->inputs[0]]->ty, *y = &graph->values[node->outputs[0]]->ty;
  const CamelidValue *result = graph->values[node->outputs[0]];
  unsigned from = dtype_bit(x->dtype);
  uint32_t in_place_of = CAMELID_NO_VALUE;
  bool moved = node->op == CAMELID_OP_COPY || node->op == CAMELID_OP_RESHAPE ||
               (node->op == CAMELID_OP_GATHER_ROWS && (from & FLOATS));
  if (dtype_bit(y->dtype) != (moved ? from : F32)) return "the result is not f32, which is what is computed here";
  if (node->op == CAMELID_OP_RESHAPE && x->dtype.block_elems > 1 &&
      (x->rank == 0 || y->rank == 0 || y->dim[y->rank - 1] <= 0 || y->dim[y->rank - 1] % x->dtype.block_elems != 0)) {
    return "rows in blocks stay whole blocks";
  }
  if (node->op == CAMELID_OP_ROPE) {
    uint64_t head_dim = ((const CamelidRopeAttrs *)node->attrs)->head_dim;
    int64_t width = x->dim[1], half = graph->values[node->inputs[1]]->ty.dim[1];
    bool whole = head_dim > 0 && width >= 0 && (uint64_t)width % head_dim == 0;
    if (!whole || half <= 0 || (uint64_t)half > head_dim / 2) return "a head is not whole, or rotates more than it has";
  }
  if (node->op == CAMELID_OP_ACTIVATION) {
    uint32_t kind = ((const CamelidActivationAttrs *)node->attrs)->kind;
    if (kind < CAMELID_ACTIVATION_SILU || kind > CAMELID_ACTIVATION_MISH) return "supported are the activations 1 to 9";
  }
  if (node->op == CAMELID_OP_SCATTER_ROWS) in_place_of = node->inputs[0];
  if (graph->values[storage_of(graph, node->outputs[0])]->kind == CAMELID_VALUE_WEIGHT) return "a weight is never written";
  bool placed = result->kind == CAMELID_VALUE_COMPUTED && result->in_place_of == in_place_of;
  return placed ? NULL : "the result lies where this operation does not put it";
}

uint32_t node_support(const CamelidGraph *graph, const CamelidNode *node, char *reason, size_t size) {
  const struct Claim *claim = NULL;
  bool op_is_known = false;
  for (size_t i = 0; i < sizeof claims / sizeof *claims; i++) {
    if (claims[i].op != node->op || node->op_version != 1) continue;
    op_is_known = true;
    if (claims[i].n_inputs == node->n_inputs) claim = &claims[i];
  }
  if (!op_is_known) {
    snprintf(reason, size, "this backend has the core operations, and `%.*s` is none of them", STR(node->name));
    return CAMELID_SUPPORT_LOWER;
  }
  bool complete = claim != NULL && node->attrs_size >= claim->attrs_size && (node->attrs_size == 0 || node->attrs != NULL);
  if (!complete || node->n_outputs != 1) {
    snprintf(reason, size, "takes other than %u operands and %u bytes of attributes", node->n_inputs, node->attrs_size);
    return CAMELID_SUPPORT_NO;
  }
  Shapes shapes = {0};
  bool transposed = node->op == CAMELID_OP_BMM && ((const CamelidBmmAttrs *)node->attrs)->transpose_b;
  for (uint32_t i = 0; i < node->n_inputs; i++) {
    const CamelidTensorType *ty = &graph->values[node->inputs[i]]->ty;
    const char *shape = transposed && i == 1 ? "*NK" : claim->inputs[i].shape;
    char names[64];
    if ((dtype_bit(ty->dtype) & claim->inputs[i].dtypes) == 0) {
      snprintf(reason, size, "operand `%s` has element type %u; supported are %s", claim->inputs[i].name, ty->dtype.id,
               dtype_names(claim->inputs[i].dtypes, names));
      return CAMELID_SUPPORT_NO;
    }
    if (!type_is_known(ty) || !has_shape(ty, shape, &shapes)) {
      snprintf(reason, size, "operand `%s` has no shape [%s] that goes with the others", claim->inputs[i].name, shape);
      return CAMELID_SUPPORT_NO;
    }
  }
  const CamelidTensorType *y = &graph->values[node->outputs[0]]->ty;
  bool goes = type_is_known(y) && (claim->result == NULL || has_shape(y, claim->result, &shapes));
  const char *problem = goes ? check(graph, node) : "the result's shape does not go with the operands";
  if (problem == NULL) return CAMELID_SUPPORT_YES;
  snprintf(reason, size, "%s", problem);
  return CAMELID_SUPPORT_NO;
}

CamelidStatus graph_supports(CamelidDevice *device, const CamelidGraph *graph, CamelidSupport *const *answers,
                             CamelidError *error) {
  CamelidStatus status = graph_check(graph, error);
  for (uint32_t i = 0; status == OK && i < graph->n_nodes; i++) {
    size_t room = answers[i]->reason == NULL ? 0 : answers[i]->reason_capacity;
    answers[i]->verdict = node_support(graph, graph->nodes[i], answers[i]->reason, room);
  }
  return status;
}
