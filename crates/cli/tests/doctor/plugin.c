/* A small backend for the tests of `camelid doctor`: one device that computes linear layers in f32. Compiled with
 * -DNAME="..." -DTARGET="..." -DFAULT="...", it does one thing wrong; with FAULT "none" nothing.
 * SPDX-License-Identifier: MIT OR Apache-2.0 */

#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "camelid_backend.h"

const CamelidManifest camelid_plugin_manifest = {
  .magic = CAMELID_MAGIC,
  .struct_size = sizeof(CamelidManifest),
  .abi_major = CAMELID_ABI_MAJOR,
  .abi_minor = CAMELID_ABI_MINOR,
  .name = NAME,
  .version = "1.2.3",
  .target = TARGET,
};

struct CamelidPlugin {
  char unused;
};
struct CamelidDevice {
  char unused;
};
struct CamelidBuffer {
  char *data;
};
/* y [T, n] = x [T, k] w [n, k] transposed */
struct CamelidPlan {
  CamelidBuffer *x, *w, *y;
  int64_t n, k;
  int runs;
};

static int is(const char *fault) { return strcmp(FAULT, fault) == 0; }

static void die_by(int number) {
  signal(number, SIG_DFL);
  raise(number);
}

/* The process is told apart by its id, so that a test can see that it is gone. */
static void hang(void) {
  fprintf(stderr, "process %ld\n", (long)getpid());
  for (;;) pause();
}

static CamelidStatus fail(CamelidError *error, CamelidStatus status, const char *message) {
  if (error != NULL) snprintf(error->message, error->capacity, "%s", message);
  return status;
}

static void at_exit(void) {
  if (is("segfault at exit")) die_by(SIGSEGV);
  if (is("hang at exit")) hang();
}

__attribute__((constructor)) static void constructor(void) {
  if (is("segfault in constructor")) *(volatile int *)8 = 1;
  if (is("hang in constructor")) hang();
  if (is("much to say")) {
    for (int i = 0; i < 40000; i++) {
      printf("stdout is busy with line %d, ", i);
      fprintf(stderr, "stderr is busy with line %d\n", i);
    }
  }
  if (is("children")) {
    /* One that keeps the pipes open for a while. */
    if (fork() == 0) {
      sleep(20);
      _exit(0);
    }
  }
}

static CamelidStatus device_count(CamelidPlugin *plugin, uint32_t *count, CamelidError *error) {
  (void)plugin;
  if (is("exit in device_count")) exit(0);
  if (is("no devices")) {
    *count = 0;
    return fail(error, CAMELID_STATUS_OK, "the driver is \033[31mnot there");
  }
  *count = 1;
  return CAMELID_STATUS_OK;
}

static CamelidStatus device_info(CamelidPlugin *plugin, uint32_t index, CamelidDeviceInfo *info, CamelidError *error) {
  (void)plugin, (void)index, (void)error;
  info->kind = CAMELID_DEVICE_ACCELERATOR;
  info->memory = (uint64_t)3 << 30;
  snprintf(info->name, sizeof info->name, "test device");
  return CAMELID_STATUS_OK;
}

static CamelidStatus device_open(CamelidPlugin *plugin, uint32_t index, const CamelidKeyValue *options, size_t n_options,
                                 CamelidDevice **device, CamelidError *error) {
  static CamelidDevice the_device;
  (void)plugin, (void)index, (void)options;
  if (n_options > 0) return fail(error, CAMELID_STATUS_INVALID, "there are no options");
  if (is("abort in device_open")) {
    fprintf(stderr, "first line\n\nthe firmware is \033[2Jtoo old");
    abort();
  }
  if (is("error in device_open, then segfault in shutdown")) return fail(error, CAMELID_STATUS_INTERNAL, "no firmware");
  if (is("hang in device_open")) hang();
  *device = &the_device;
  return CAMELID_STATUS_OK;
}

static void device_close(CamelidDevice *device) {
  (void)device;
  if (is("illegal instruction in device_close")) die_by(SIGILL);
}

static CamelidStatus device_sync(CamelidDevice *device, CamelidError *error) {
  (void)device, (void)error;
  return CAMELID_STATUS_OK;
}

static CamelidStatus graph_supports(CamelidDevice *device, const CamelidGraph *graph, CamelidSupport *const *answers,
                                    CamelidError *error) {
  (void)device, (void)error;
  if (is("bus error in graph_supports")) die_by(SIGBUS);
  for (uint32_t i = 0; i < graph->n_nodes; i++) {
    int known = graph->nodes[i]->op == CAMELID_OP_LINEAR && !is("computes nothing");
    answers[i]->verdict = known ? CAMELID_SUPPORT_YES : CAMELID_SUPPORT_NO;
    if (!known) snprintf(answers[i]->reason, answers[i]->reason_capacity, "it is not wired up");
  }
  return CAMELID_STATUS_OK;
}

static CamelidBuffer *buffer(uint64_t size) {
  CamelidBuffer *made = malloc(sizeof *made);
  made->data = calloc(size, 1);
  return made;
}

static CamelidStatus buffer_alloc(CamelidDevice *device, const CamelidBufferDesc *desc, CamelidBuffer **made,
                                  CamelidError *error) {
  (void)device;
  if (is("no memory")) return fail(error, CAMELID_STATUS_OUT_OF_MEMORY, "all 3 GiB are taken");
  if (is("killed in buffer_alloc")) kill(getpid(), SIGKILL);
  *made = buffer(desc->size);
  return CAMELID_STATUS_OK;
}

static CamelidStatus weight_load(CamelidDevice *device, CamelidWeight *weight, CamelidBuffer **made,
                                 CamelidError *error) {
  (void)device, (void)error;
  if (is("exit in weight_load")) exit(3);
  *made = buffer(weight->size);
  memcpy((*made)->data, weight->data, weight->size);
  weight->placement = CAMELID_PLACEMENT_COPIED;
  return CAMELID_STATUS_OK;
}

static CamelidStatus buffer_write(CamelidDevice *device, CamelidBuffer *to, uint64_t offset, const void *data,
                                  size_t size, CamelidError *error) {
  (void)device, (void)error;
  if (is("alarm in buffer_write")) die_by(SIGALRM);
  memcpy(to->data + offset, data, size);
  return CAMELID_STATUS_OK;
}

static CamelidStatus buffer_read(CamelidDevice *device, CamelidBuffer *from, uint64_t offset, void *data, size_t size,
                                 CamelidError *error) {
  (void)device, (void)error;
  if (is("segfault in buffer_read")) die_by(SIGSEGV);
  if (is("OK without reading")) return CAMELID_STATUS_OK;
  memcpy(data, from->data + offset, size);
  return CAMELID_STATUS_OK;
}

static CamelidStatus buffer_copy(CamelidDevice *device, CamelidBuffer *to, uint64_t to_offset, CamelidBuffer *from,
                                 uint64_t from_offset, uint64_t size, CamelidError *error) {
  (void)device, (void)error;
  memcpy(to->data + to_offset, from->data + from_offset, size);
  return CAMELID_STATUS_OK;
}

static void buffer_free(CamelidDevice *device, CamelidBuffer *given) {
  (void)device;
  free(given->data);
  free(given);
}

static CamelidStatus plan_compile(CamelidDevice *device, const CamelidGraph *graph, const CamelidBinding *bindings,
                                  size_t n_bindings, CamelidPlan **made, CamelidError *error) {
  (void)device;
  if (is("trap in plan_compile")) die_by(SIGTRAP);
  if (graph->n_nodes != 1) return fail(error, CAMELID_STATUS_UNSUPPORTED, "one linear layer is all it can");
  const CamelidNode *node = graph->nodes[0];
  CamelidPlan *plan = calloc(1, sizeof *plan);
  for (size_t i = 0; i < n_bindings; i++) {
    uint32_t value = bindings[i].value;
    if (value == node->inputs[0]) plan->x = bindings[i].buffer;
    if (value == node->inputs[1]) plan->w = bindings[i].buffer;
    if (value == node->outputs[0]) plan->y = bindings[i].buffer;
  }
  const int64_t *shape = graph->values[node->inputs[1]]->ty.dim;
  plan->n = shape[0];
  plan->k = shape[1];
  *made = plan;
  return CAMELID_STATUS_OK;
}

static CamelidStatus plan_run(CamelidDevice *device, CamelidPlan *plan, const uint64_t *symbols, size_t n_symbols,
                              CamelidError *error) {
  (void)device, (void)error, (void)n_symbols;
  const float *x = (const float *)plan->x->data, *w = (const float *)plan->w->data;
  float *y = (float *)plan->y->data;
  plan->runs++;
  if (is("arithmetic error in plan_run")) die_by(SIGFPE);
  if (is("OK without computing")) return CAMELID_STATUS_OK;
  if (is("the first result again") && plan->runs > 1) return CAMELID_STATUS_OK;
  for (int64_t t = 0; t < (int64_t)symbols[0]; t++) {
    for (int64_t i = 0; i < plan->n; i++) {
      float sum = 0;
      for (int64_t j = 0; j < plan->k; j++) sum += x[t * plan->k + j] * w[i * plan->k + j];
      y[t * plan->n + i] = is("NaN") ? sum * (0.0f / 0.0f) : sum;
    }
  }
  return CAMELID_STATUS_OK;
}

static void plan_free(CamelidDevice *device, CamelidPlan *plan) {
  (void)device;
  free(plan);
}

static void shut_down(CamelidPlugin *plugin) {
  (void)plugin;
  if (is("abort in shutdown")) abort();
  if (is("error in device_open, then segfault in shutdown")) die_by(SIGSEGV);
  if (is("exit in shutdown")) exit(0);
  if (is("hang in shutdown")) hang();
  /* Stays in the library's memory until the process ends, and comes out after all else. */
  if (is("last words")) printf("goodbye,\nand thanks");
}

static const CamelidApi api = {
  .struct_size = sizeof(CamelidApi),
  .abi_minor = CAMELID_ABI_MINOR,
  .shutdown = shut_down,
  .device_count = device_count,
  .device_info = device_info,
  .device_open = device_open,
  .device_close = device_close,
  .device_sync = device_sync,
  .graph_supports = graph_supports,
  .buffer_alloc = buffer_alloc,
  .weight_load = weight_load,
  .buffer_write = buffer_write,
  .buffer_read = buffer_read,
  .buffer_copy = buffer_copy,
  .buffer_free = buffer_free,
  .plan_compile = plan_compile,
  .plan_run = plan_run,
  .plan_free = plan_free,
};

CamelidStatus camelid_plugin_entry_v1(const CamelidHost *host, CamelidPlugin **plugin, const CamelidApi **table,
                                      CamelidError *error) {
  static CamelidPlugin the_plugin;
  (void)host;
  if (is("exit in entry")) exit(0);
  if (is("error in entry")) return fail(error, CAMELID_STATUS_INTERNAL, "the licence has run out");
  atexit(at_exit);
  *plugin = &the_plugin;
  *table = &api;
  return CAMELID_STATUS_OK;
}
