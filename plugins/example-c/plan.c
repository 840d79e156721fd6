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
};

void plan_free(CamelidDevice *device, CamelidPlan *plan) {
  free(plan->values);
  free(plan->nodes);
  free(plan);
}

static CamelidStatus bind(CamelidPlan *plan, const CamelidGraph *graph, const CamelidBinding *binding,
                          CamelidError *error) {
  CamelidBuffer *buffer = binding->buffer;
  Value *value = &plan->values[binding->value < plan->n_values ? binding->value : 0];
  if (binding->value >= plan->n_values || buffer == NULL || !value->bindable || value->buffer != NULL) {
    return fail(error, INVALID, "value %u is bound without need, twice, or to no buffer", binding->value);
  }
  CamelidStr name = graph->values[binding->value]->name;
  bool is_weight = graph->values[binding->value]->kind == CAMELID_VALUE_WEIGHT;
  bool same = binding->offset == 0 && memcmp(&value->ty, &buffer->ty, sizeof value->ty) == 0;
  if (is_weight != buffer->is_weight || (is_weight && !same)) {
    return fail(error, INVALID, "value `%.*s` is bound to `%s`: a weight, and no other value, is bound to a weight of "
                "its type at offset 0", STR(name), buffer->name);
  }
  if (binding->offset % 4 != 0 || binding->offset > buffer->size || value->most > buffer->size - binding->offset) {
    return fail(error, INVALID, "value `%.*s` needs up to %zu bytes at a multiple of 4, but has offset %llu of `%s` of %zu",
                STR(name), value->most, (unsigned long long)binding->offset, buffer->name, buffer->size);
  }
  value->buffer = buffer;
  value->offset = (size_t)binding->offset;
  return OK;
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
      return fail(error, UNSUPPORTED, "value `%.*s` has an unknown type (%u) or more bytes than can be counted",
                  STR(graph->values[i]->name), value->ty.dtype.id);
    }
  }
  for (uint32_t i = 0; i < graph->n_outputs; i++) plan->values[storage_of(graph, graph->outputs[i]->value)].bindable = true;
  CamelidStatus status = OK;
  for (size_t i = 0; status == OK && i < n_bindings; i++) status = bind(plan, graph, &bindings[i], error);
  for (uint32_t i = 0; status == OK && i < plan->n_values; i++) {
    if (!plan->values[i].bindable || plan->values[i].buffer != NULL) continue;
    status = fail(error, INVALID, "value %u, `%.*s`, is not bound to a buffer", i, STR(graph->values[i]->name));
  }
  return status;
}

/* Nodes with their attributes: each is claimed, and comes after those whose results it uses. */
static CamelidStatus take_nodes(CamelidPlan *plan, const CamelidGraph *graph, CamelidError *error) {
  for (uint32_t i = 0; i < plan->n_nodes; i++) {
    const CamelidNode *node = graph->nodes[i];
    Node *taken = &plan->nodes[i];
    char reason[256];
    snprintf(taken->label, sizeof taken->label, "%.*s at %.*s", STR(node->name), STR(node->scope));
    if (node_support(graph, node, reason, sizeof reason) != CAMELID_SUPPORT_YES) {
      return fail(error, UNSUPPORTED, "%s: %s", taken->label, reason);
    }
    taken->op = node->op;
    taken->n_inputs = node->n_inputs;
    taken->output = node->outputs[0];
    bool ordered = !plan->values[taken->output].made;
    for (uint32_t j = 0; j < node->n_inputs; j++) {
      taken->inputs[j] = node->inputs[j];
      ordered = ordered && plan->values[node->inputs[j]].made;
    }
    if (!ordered) return fail(error, INVALID, "%s: comes before a node it needs, or twice", taken->label);
    plan->values[taken->output].made = true;
    /* Attributes may have grown at their end; that they are not too short is part of the claim. */
    size_t size = node->attrs_size < sizeof(Attrs) ? node->attrs_size : sizeof(Attrs);
    if (size > 0) memcpy(&taken->attrs, node->attrs, size);
    if (node->op == CAMELID_OP_SCATTER_ROWS) plan->values[storage_of(graph, node->inputs[0])].last_change = i + 1;
  }
  return OK;
}

/* Finds every value that is not bound a home: a slot, which it shares with values that are dead by then. */
static CamelidStatus find_homes(CamelidPlan *plan, const CamelidGraph *graph, CamelidError *error) {
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
  bool busy[MAX_SLOTS + 1] = {false};
  for (uint32_t i = 0; i < plan->n_nodes; i++) {
    const Node *node = &plan->nodes[i];
    Value *y = &values[node->output];
    if (y->home == node->output && y->buffer == NULL) {
      while (busy[y->slot]) y->slot++;
      if (y->slot == MAX_SLOTS) return fail(error, UNSUPPORTED, "%s: too many values are alive at once", node->label);
      busy[y->slot] = true;
    }
    for (uint32_t j = 0; j <= node->n_inputs; j++) {
      const Value *home = &values[values[j < node->n_inputs ? node->inputs[j] : node->output].home];
      if (home->buffer == NULL && home->last_use == i) busy[home->slot] = false;
    }
  }
  return OK;
}

CamelidStatus plan_compile(CamelidDevice *device, const CamelidGraph *graph, const CamelidBinding *bindings,
                           size_t n_bindings, CamelidPlan **made, CamelidError *error) {
  *made = NULL;
  CamelidStatus status = graph_check(graph, error);
  if (status != OK) return status;
  CamelidPlan *plan = calloc(1, sizeof *plan);
  if (plan == NULL) return no_memory(error, "a", (CamelidStr){"plan", 4}, sizeof *plan);
  plan->n_values = graph->n_values;
  plan->n_nodes = graph->n_nodes;
  memcpy(plan->least, graph->symbol_min, sizeof plan->least);
  memcpy(plan->most, graph->symbol_max, sizeof plan->most);
  plan->values = calloc((size_t)graph->n_values + 1, sizeof *plan->values);
  plan->nodes = calloc((size_t)graph->n_nodes + 1, sizeof *plan->nodes);
  if (plan->values == NULL || plan->nodes == NULL) {
    status = no_memory(error, "a", (CamelidStr){"plan", 4}, graph->n_nodes * sizeof *plan->nodes);
  }
  if (status == OK) status = take_values(plan, graph, bindings, n_bindings, error);
  if (status == OK) status = take_nodes(plan, graph, error);
  if (status == OK) status = find_homes(plan, graph, error);
  if (status == OK) *made = plan;
  else plan_free(device, plan);
  return status;
}

/* A value at this step; null data if there is no memory for it. */
static Tensor tensor_at(CamelidDevice *device, const CamelidPlan *plan, const uint64_t *symbols, uint32_t index) {
  const Value *value = &plan->values[index], *home = &plan->values[value->home];
  Tensor tensor = {.dtype = dtype_bit(value->ty.dtype), .columns = 1, .rows = 1, .matrix = 1};
  for (uint32_t i = 0; i < value->ty.rank; i++) {
    tensor.matrix = tensor.columns;
    tensor.rows *= tensor.columns;
    tensor.columns = dim_size(value->ty.dim[i], symbols);
  }
  tensor_bytes(&value->ty, symbols, &tensor.bytes); /* no more than at the largest symbols, where it was counted */
  tensor.data = home->buffer != NULL ? home->buffer->data + home->offset : device->slots[home->slot].data;
  if (home->buffer == NULL && device->slots[home->slot].size < tensor.bytes + 1) { /* so for a result only */
    free(tensor.data);
    tensor.data = device->slots[home->slot].data = malloc(tensor.bytes + 1);
    device->slots[home->slot].size = tensor.data != NULL ? tensor.bytes + 1 : 0;
  }
  return tensor;
}

CamelidStatus plan_run(CamelidDevice *device, CamelidPlan *plan, const uint64_t *symbols, size_t n_symbols,
                       CamelidError *error) {
  for (size_t i = 0; i < CAMELID_SYMBOL_COUNT; i++) {
    if (i < n_symbols && symbols[i] >= plan->least[i] && symbols[i] <= plan->most[i]) continue;
    return fail(error, INVALID, "symbol %c is %llu in this step, but the plan was made for %llu to %llu",
                "TSOL"[i], (unsigned long long)(i < n_symbols ? symbols[i] : 0), (unsigned long long)plan->least[i],
                (unsigned long long)plan->most[i]);
  }
  CamelidStatus status = OK;
  for (uint32_t i = 0; status == OK && i < plan->n_nodes; i++) {
    const Node *node = &plan->nodes[i];
    Tensor x[MAX_INPUTS], y = tensor_at(device, plan, symbols, node->output);
    for (uint32_t j = 0; j < node->n_inputs; j++) x[j] = tensor_at(device, plan, symbols, node->inputs[j]);
    char problem[160];
    if (y.data == NULL) {
      status = no_memory(error, "the result of", (CamelidStr){node->label, strlen(node->label)}, y.bytes);
    } else if (!op_run(node->op, &node->attrs, x, node->n_inputs, &y, problem)) {
      status = fail(error, INVALID, "%s: %s", node->label, problem);
    }
  }
  return status;
}
