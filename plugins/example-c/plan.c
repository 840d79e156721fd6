/* Compiling: where every value lives and for how long; and running what was compiled, node by node. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "example.h"

typedef struct {
  CamelidTensorType ty;
  size_t most;           /* bytes at the largest symbols */
  uint32_t home;         /* the value in whose memory it lies: itself, or what it was made in place of or reshaped from */
  CamelidBuffer *buffer; /* of a bound value, else null */
  size_t offset;
  size_t slot;           /* of a home that is not bound */
  uint32_t last_use;     /* of a home: the last node that uses it */
  uint32_t last_change;  /* of a storage: 1 + the last node that changes it in place, 0 for none */
  bool bindable, made;
} Value;

typedef struct {
  uint32_t op, n_inputs, inputs[MAX_INPUTS], output;
  Attrs attrs;
  char label[128];
} Node;

struct CamelidPlan {
  uint32_t n_values, n_nodes;
  uint64_t least[CAMELID_SYMBOL_COUNT], most[CAMELID_SYMBOL_COUNT];
  Value *values;
  Node *nodes;
  size_t *slots; /* where each slot begins in the device's scratch memory at the present step; the last is the end */
  size_t n_slots;
};

void plan_free(CamelidDevice *device, CamelidPlan *plan) {
  free(plan->values);
  free(plan->nodes);
  free(plan->slots);
  free(plan);
}

static CamelidStatus bind(CamelidPlan *plan, const CamelidGraph *graph, const CamelidBinding *binding,
                          CamelidError *error) {
  CamelidBuffer *buffer = binding->buffer;
  Value *value = &plan->values[binding->value < plan->n_values ? binding->value : 0];
  if (binding->value >= plan->n_values || buffer == NULL || !value->bindable || value->buffer != NULL) {
    return fail(error, CAMELID_STATUS_INVALID, "value %u is bound, but it is no input, weight, state or output, or bound twice",
                binding->value);
  }
  CamelidStr name = graph->values[binding->value]->name;
  bool is_weight = graph->values[binding->value]->kind == CAMELID_VALUE_WEIGHT;
  bool same = is_weight && binding->offset == 0 && memcmp(&value->ty, &buffer->ty, sizeof value->ty) == 0;
  if (is_weight != buffer->is_weight || is_weight != same) {
    return fail(error, CAMELID_STATUS_INVALID,
                "value `%.*s` is bound to `%s`, but weights, and only they, are bound to a weight of their type, at offset 0",
                STR(name), buffer->name);
  }
  if (binding->offset % 4 != 0 || binding->offset > buffer->size || value->most > buffer->size - binding->offset) {
    return fail(error, CAMELID_STATUS_INVALID,
                "value `%.*s` needs up to %zu bytes at a multiple of 4, but is bound at offset %llu of buffer `%s` of %zu",
                STR(name), value->most, (unsigned long long)binding->offset, buffer->name, buffer->size);
  }
  value->buffer = buffer;
  value->offset = (size_t)binding->offset;
  return CAMELID_STATUS_OK;
}

/* Values with their sizes and bindings. */
static CamelidStatus take_values(CamelidPlan *plan, const CamelidGraph *graph, const CamelidBinding *bindings,
                                 size_t n_bindings, CamelidError *error) {
  for (uint32_t i = 0; i < plan->n_values; i++) {
    Value *value = &plan->values[i];
    value->ty = graph->values[i]->ty;
    value->home = i;
    value->bindable = value->made = graph->values[i]->kind != CAMELID_VALUE_COMPUTED;
    if (!type_is_known(&value->ty) || !tensor_bytes(&value->ty, plan->most, &value->most)) {
      return fail(error, CAMELID_STATUS_UNSUPPORTED,
                  "value `%.*s` has a type (%u) that is not known here, or more bytes than can be counted",
                  STR(graph->values[i]->name), value->ty.dtype.id);
    }
  }
  for (uint32_t i = 0; i < graph->n_outputs; i++) {
    plan->values[storage_of(graph, graph->outputs[i]->value)].bindable = true;
  }
  for (size_t i = 0; i < n_bindings; i++) {
    CamelidStatus status = bind(plan, graph, &bindings[i], error);
    if (status != CAMELID_STATUS_OK) return status;
  }
  for (uint32_t i = 0; i < plan->n_values; i++) {
    if (!plan->values[i].bindable || plan->values[i].buffer != NULL) continue;
    return fail(error, CAMELID_STATUS_INVALID, "value %u, `%.*s`, is not bound to a buffer", i, STR(graph->values[i]->name));
  }
  return CAMELID_STATUS_OK;
}

/* Nodes with their attributes: each is claimed, and comes after those whose results it uses. */
static CamelidStatus take_nodes(CamelidPlan *plan, const CamelidGraph *graph, CamelidError *error) {
  for (uint32_t i = 0; i < plan->n_nodes; i++) {
    const CamelidNode *node = graph->nodes[i];
    Node *taken = &plan->nodes[i];
    char reason[256];
    snprintf(taken->label, sizeof taken->label, "%.*s at %.*s", STR(node->name), STR(node->scope));
    if (node_support(graph, node, reason, sizeof reason) != CAMELID_SUPPORT_YES) {
      return fail(error, CAMELID_STATUS_UNSUPPORTED, "%s: %s", taken->label, reason);
    }
    taken->op = node->op;
    taken->n_inputs = node->n_inputs;
    taken->output = node->outputs[0];
    bool ordered = !plan->values[taken->output].made;
    for (uint32_t j = 0; j < node->n_inputs; j++) {
      taken->inputs[j] = node->inputs[j];
      ordered = ordered && plan->values[node->inputs[j]].made;
    }
    if (!ordered) return fail(error, CAMELID_STATUS_INVALID, "%s: comes before a node it needs, or twice", taken->label);
    plan->values[taken->output].made = true;
    /* Attributes may have grown at their end; that they are not too short is part of the claim. */
    size_t size = node->attrs_size < sizeof(Attrs) ? node->attrs_size : sizeof(Attrs);
    if (size > 0) memcpy(&taken->attrs, node->attrs, size);
    if (node->op == CAMELID_OP_SCATTER_ROWS) plan->values[storage_of(graph, node->inputs[0])].last_change = i + 1;
  }
  return CAMELID_STATUS_OK;
}

/* Finds every value that is not bound a home: a slot, which it shares with values that are dead by then. */
static void find_homes(CamelidPlan *plan, const CamelidGraph *graph, bool *busy) {
  Value *values = plan->values;
  for (uint32_t i = 0; i < plan->n_nodes; i++) {
    const Node *node = &plan->nodes[i];
    uint32_t x = node->inputs[0], y = node->output;
    /* A reshaped value lies where its operand does, unless it is bound or one of the two is changed later. */
    bool fixed = values[y].last_change <= i + 1 && values[storage_of(graph, x)].last_change <= i + 1;
    bool shares = node->op == CAMELID_OP_RESHAPE && values[y].buffer == NULL && fixed;
    if (shares || node->op == CAMELID_OP_SCATTER_ROWS) values[y].home = values[x].home;
    for (uint32_t j = 0; j < node->n_inputs; j++) values[values[node->inputs[j]].home].last_use = i;
    values[values[y].home].last_use = i;
  }
  for (uint32_t i = 0; i < plan->n_nodes; i++) {
    const Node *node = &plan->nodes[i];
    Value *y = &values[node->output];
    if (y->home == node->output && y->buffer == NULL) {
      while (busy[y->slot]) y->slot++;
      busy[y->slot] = true;
      if (y->slot >= plan->n_slots) plan->n_slots = y->slot + 1;
    }
    for (uint32_t j = 0; j <= node->n_inputs; j++) {
      const Value *home = &values[values[j < node->n_inputs ? node->inputs[j] : node->output].home];
      if (home->buffer == NULL && home->last_use == i) busy[home->slot] = false;
    }
  }
}

CamelidStatus plan_compile(CamelidDevice *device, const CamelidGraph *graph, const CamelidBinding *bindings,
                           size_t n_bindings, CamelidPlan **made, CamelidError *error) {
  *made = NULL;
  CamelidStatus status = graph_check(graph, error);
  if (status != CAMELID_STATUS_OK) return status;
  for (size_t i = 0; i < CAMELID_SYMBOL_COUNT; i++) {
    if (graph->symbol_max[i] <= UINT32_MAX) continue;
    return fail(error, CAMELID_STATUS_UNSUPPORTED, "the maximum of symbol %c is over %u", "TSOL"[i], UINT32_MAX);
  }
  CamelidPlan *plan = calloc(1, sizeof *plan);
  bool *busy = calloc((size_t)graph->n_nodes + 1, sizeof *busy);
  if (plan != NULL) {
    plan->n_values = graph->n_values;
    plan->n_nodes = graph->n_nodes;
    memcpy(plan->least, graph->symbol_min, sizeof plan->least);
    memcpy(plan->most, graph->symbol_max, sizeof plan->most);
    plan->values = calloc((size_t)graph->n_values + 1, sizeof *plan->values);
    plan->nodes = calloc((size_t)graph->n_nodes + 1, sizeof *plan->nodes);
    plan->slots = calloc((size_t)graph->n_nodes + 1, sizeof *plan->slots);
  }
  if (busy == NULL || plan == NULL || plan->values == NULL || plan->nodes == NULL || plan->slots == NULL) {
    status = fail(error, CAMELID_STATUS_OUT_OF_MEMORY, "no memory for a plan of %u nodes", graph->n_nodes);
  }
  if (status == CAMELID_STATUS_OK) status = take_values(plan, graph, bindings, n_bindings, error);
  if (status == CAMELID_STATUS_OK) status = take_nodes(plan, graph, error);
  if (status == CAMELID_STATUS_OK) find_homes(plan, graph, busy);
  free(busy);
  if (status != CAMELID_STATUS_OK && plan != NULL) {
    plan_free(device, plan);
    return status;
  }
  *made = plan;
  return status;
}

/* Makes room for the slots, each as large as the largest value in it at this step. */
static CamelidStatus lay_out(CamelidDevice *device, CamelidPlan *plan, const uint64_t *symbols, CamelidError *error) {
  memset(plan->slots, 0, (plan->n_slots + 1) * sizeof *plan->slots);
  for (uint32_t i = 0; i < plan->n_nodes; i++) {
    const Value *y = &plan->values[plan->nodes[i].output];
    size_t bytes;
    if (y->home != plan->nodes[i].output || y->buffer != NULL || !tensor_bytes(&y->ty, symbols, &bytes)) continue;
    if (bytes > plan->slots[y->slot]) plan->slots[y->slot] = bytes;
  }
  size_t end = 0;
  for (size_t i = 0; i <= plan->n_slots; i++) {
    size_t size = plan->slots[i] + (64 - plan->slots[i] % 64) % 64;
    plan->slots[i] = end;
    end = size <= PTRDIFF_MAX - end ? end + size : PTRDIFF_MAX;
  }
  if (end <= device->scratch_size) return CAMELID_STATUS_OK;
  free(device->scratch); /* what it held belongs to an earlier step */
  device->scratch = malloc(end);
  device->scratch_size = device->scratch != NULL ? end : 0;
  return device->scratch != NULL ? CAMELID_STATUS_OK : no_memory(error, "a step's", (CamelidStr){"values", 6}, end);
}

static Tensor tensor_at(const CamelidDevice *device, const CamelidPlan *plan, const uint64_t *symbols, uint32_t index) {
  const Value *value = &plan->values[index], *home = &plan->values[value->home];
  Tensor tensor = {.dtype = dtype_bit(value->ty.dtype), .columns = 1, .rows = 1, .matrix = 1};
  for (uint32_t i = 0; i < value->ty.rank; i++) {
    tensor.matrix = tensor.columns;
    tensor.rows *= tensor.columns;
    tensor.columns = dim_size(value->ty.dim[i], symbols);
  }
  tensor_bytes(&value->ty, symbols, &tensor.bytes); /* no more than at the largest symbols, where it was counted */
  tensor.data = home->buffer != NULL ? home->buffer->data + home->offset : device->scratch + plan->slots[home->slot];
  return tensor;
}

CamelidStatus plan_run(CamelidDevice *device, CamelidPlan *plan, const uint64_t *symbols, size_t n_symbols,
                       CamelidError *error) {
  for (size_t i = 0; i < CAMELID_SYMBOL_COUNT; i++) {
    if (i < n_symbols && symbols[i] >= plan->least[i] && symbols[i] <= plan->most[i]) continue;
    return fail(error, CAMELID_STATUS_INVALID, "symbol %c is %llu in this step, but the plan was made for %llu to %llu",
                "TSOL"[i], (unsigned long long)(i < n_symbols ? symbols[i] : 0), (unsigned long long)plan->least[i],
                (unsigned long long)plan->most[i]);
  }
  CamelidStatus status = lay_out(device, plan, symbols, error);
  for (uint32_t i = 0; status == CAMELID_STATUS_OK && i < plan->n_nodes; i++) {
    const Node *node = &plan->nodes[i];
    Tensor x[MAX_INPUTS], y = tensor_at(device, plan, symbols, node->output);
    for (uint32_t j = 0; j < node->n_inputs; j++) x[j] = tensor_at(device, plan, symbols, node->inputs[j]);
    char problem[160];
    if (!op_run(node->op, &node->attrs, x, node->n_inputs, &y, problem)) {
      status = fail(error, CAMELID_STATUS_INVALID, "%s: %s", node->label, problem);
    }
  }
  return status;
}
