/* A plugin that does nothing well, and with -DANIMAL=n one thing badly; conformance/tests/zoo.rs has the list.
 * SPDX-License-Identifier: MIT OR Apache-2.0
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "camelid_backend.h"

enum {
  GOOD, WRONG_MAGIC, WRONG_MAJOR, NEWER_MINOR, SHORT_MANIFEST, LONG_MANIFEST, SHORT_TABLE, LONG_TABLE, NO_MANIFEST,
  NO_ENTRY, ENTRY_FAILS, ENTRY_SILENT, ENTRY_OVERLONG, ENTRY_NOT_UTF8, ENTRY_UNKNOWN_STATUS, NO_PLUGIN, NO_TABLE,
  MISSING_FUNCTION, NO_DEVICE, NO_COUNT, MANY_DEVICES, NO_INFO, NO_VERDICT, ODD_VERDICT, NO_BUFFER, NO_PLACEMENT,
  NO_PLAN, FALSE_CLAIM, SAME_BUFFER, SLOW_INIT, THREAD_AT_SHUTDOWN, LOG_AFTER_SHUTDOWN, ZERO_DEVICES, OTHER_VERSION,
  NULL_NAME
};

#ifndef ANIMAL
#define ANIMAL GOOD
#endif
#ifndef NAME
#define NAME "animal"
#endif

static const CamelidHost *host;
static pthread_t thread;
static int running;
static int handle;
static uint64_t handles;

static void say(CamelidError *error, const char *text) {
  if (error) snprintf(error->message, error->capacity, "%s", text);
}

static void log_text(const char *text) {
  CamelidStr target = {"zoo", 3}, message = {text, strlen(text)};
  host->log(host->ctx, CAMELID_LOG_WARN, target, message);
}

static void *work(void *unused) {
  (void)unused;
  /* Ends only after shutdown, which it does not wait for. */
  for (int i = 0; i < 20; i++) {
    usleep(10 * 1000);
    if (ANIMAL == LOG_AFTER_SHUTDOWN) log_text("still here");
  }
  running = 0;
  return NULL;
}

static void shutdown_plugin(CamelidPlugin *p) { (void)p; }
static CamelidStatus device_count(CamelidPlugin *p, uint32_t *n, CamelidError *e) {
  (void)p;
  if (ANIMAL == NO_COUNT) return CAMELID_STATUS_OK;
  *n = ANIMAL == MANY_DEVICES ? 4000000000u : ANIMAL == ZERO_DEVICES ? 0 : 1;
  if (ANIMAL == ZERO_DEVICES) say(e, "libanimal.so.1 not found");
  return CAMELID_STATUS_OK;
}
static CamelidStatus device_info(CamelidPlugin *p, uint32_t i, CamelidDeviceInfo *info, CamelidError *e) {
  (void)p, (void)i, (void)e;
  if (ANIMAL == NO_INFO) return CAMELID_STATUS_OK;
  info->kind = CAMELID_DEVICE_CPU;
  snprintf(info->name, sizeof info->name, "cage");
  return CAMELID_STATUS_OK;
}
static CamelidStatus device_open(CamelidPlugin *p, uint32_t i, const CamelidKeyValue *o, size_t n, CamelidDevice **d,
                                 CamelidError *e) {
  (void)p, (void)i, (void)o, (void)n, (void)e;
  if (ANIMAL != NO_DEVICE) *d = (CamelidDevice *)&handle;
  return CAMELID_STATUS_OK;
}
static void device_close(CamelidDevice *d) { (void)d; }
static CamelidStatus device_sync(CamelidDevice *d, CamelidError *e) {
  (void)d, (void)e;
  return CAMELID_STATUS_OK;
}
static CamelidStatus graph_supports(CamelidDevice *d, const CamelidGraph *g, CamelidSupport *const *answers,
                                    CamelidError *e) {
  (void)d, (void)e;
  for (uint32_t i = 0; i < g->n_nodes; i++) {
    if (ANIMAL == NO_VERDICT) continue;
    answers[i]->verdict = ANIMAL == ODD_VERDICT ? 77 : CAMELID_SUPPORT_YES;
  }
  return CAMELID_STATUS_OK;
}
static CamelidStatus buffer_alloc(CamelidDevice *d, const CamelidBufferDesc *desc, CamelidBuffer **b, CamelidError *e) {
  (void)d, (void)desc, (void)e;
  if (ANIMAL == SAME_BUFFER) handles = 0;
  if (ANIMAL != NO_BUFFER) *b = (CamelidBuffer *)(uintptr_t)(++handles * 16);
  return CAMELID_STATUS_OK;
}
static CamelidStatus weight_load(CamelidDevice *d, CamelidWeight *w, CamelidBuffer **b, CamelidError *e) {
  (void)d, (void)e;
  *b = (CamelidBuffer *)(uintptr_t)(++handles * 16);
  if (ANIMAL != NO_PLACEMENT) w->placement = CAMELID_PLACEMENT_COPIED;
  return CAMELID_STATUS_OK;
}
static CamelidStatus buffer_write(CamelidDevice *d, CamelidBuffer *b, uint64_t o, const void *s, size_t n,
                                  CamelidError *e) {
  (void)d, (void)b, (void)o, (void)s, (void)n, (void)e;
  return CAMELID_STATUS_OK;
}
static CamelidStatus buffer_read(CamelidDevice *d, CamelidBuffer *b, uint64_t o, void *s, size_t n, CamelidError *e) {
  (void)d, (void)b, (void)o, (void)e;
  memset(s, 0, n);
  return CAMELID_STATUS_OK;
}
static CamelidStatus buffer_copy(CamelidDevice *d, CamelidBuffer *a, uint64_t i, CamelidBuffer *b, uint64_t j,
                                 uint64_t n, CamelidError *e) {
  (void)d, (void)a, (void)i, (void)b, (void)j, (void)n, (void)e;
  return CAMELID_STATUS_OK;
}
static void buffer_free(CamelidDevice *d, CamelidBuffer *b) { (void)d, (void)b; }
static CamelidStatus plan_compile(CamelidDevice *d, const CamelidGraph *g, const CamelidBinding *b, size_t n,
                                  CamelidPlan **p, CamelidError *e) {
  (void)d, (void)g, (void)b, (void)n;
  if (ANIMAL == FALSE_CLAIM) {
    say(e, "no kernel for this after all");
    return CAMELID_STATUS_UNSUPPORTED;
  }
  if (ANIMAL != NO_PLAN) *p = (CamelidPlan *)&handle;
  return CAMELID_STATUS_OK;
}
static CamelidStatus plan_run(CamelidDevice *d, CamelidPlan *p, const uint64_t *s, size_t n, CamelidError *e) {
  (void)d, (void)p, (void)s, (void)n, (void)e;
  return CAMELID_STATUS_OK;
}
static void plan_free(CamelidDevice *d, CamelidPlan *p) { (void)d, (void)p; }

/* One field longer than this version's, as a later version's would be. */
static const struct {
  CamelidApi api;
  void (*later)(void);
} table = {
    .api = {
        .struct_size = ANIMAL == SHORT_TABLE ? offsetof(CamelidApi, plan_free)
                       : ANIMAL == LONG_TABLE ? sizeof(CamelidApi) + sizeof(void (*)(void))
                                              : sizeof(CamelidApi),
        .abi_minor = ANIMAL == NEWER_MINOR ? 9 : CAMELID_ABI_MINOR,
        .shutdown = shutdown_plugin,
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
        .plan_run = ANIMAL == MISSING_FUNCTION ? NULL : plan_run,
        .plan_free = plan_free,
    },
};

#if ANIMAL_NO_MANIFEST
extern CAMELID_EXPORT const CamelidManifest another_name;
CAMELID_EXPORT const CamelidManifest another_name = {
#else
CAMELID_EXPORT const CamelidManifest camelid_plugin_manifest = {
#endif
    .magic = ANIMAL == WRONG_MAGIC ? 0x12345678 : CAMELID_MAGIC,
    .struct_size = ANIMAL == SHORT_MANIFEST  ? offsetof(CamelidManifest, target)
                   : ANIMAL == LONG_MANIFEST ? sizeof(CamelidManifest) + 8
                                             : sizeof(CamelidManifest),
    .abi_major = ANIMAL == WRONG_MAJOR ? 2 : CAMELID_ABI_MAJOR,
    .abi_minor = ANIMAL == NEWER_MINOR ? 9 : CAMELID_ABI_MINOR,
    .name = ANIMAL == NULL_NAME ? NULL : NAME,
    .version = ANIMAL == OTHER_VERSION ? "9.9" : "1.0",
    .target = TARGET,
};

#if !ANIMAL_NO_ENTRY
CAMELID_EXPORT CamelidStatus camelid_plugin_entry_v1(const CamelidHost *h, CamelidPlugin **plugin,
                                                     const CamelidApi **api, CamelidError *error) {
  host = h;
  switch (ANIMAL) {
    case ENTRY_FAILS: say(error, "the firmware is of 1987"); return CAMELID_STATUS_UNSUPPORTED;
    case ENTRY_SILENT: return CAMELID_STATUS_INTERNAL;
    case ENTRY_OVERLONG: memset(error->message, 'x', error->capacity); return CAMELID_STATUS_INTERNAL;
    case ENTRY_NOT_UTF8: say(error, "gr\xfc\xdf dich"); return CAMELID_STATUS_INTERNAL;
    case ENTRY_UNKNOWN_STATUS: say(error, "odd"); return 4711;
    case SLOW_INIT: usleep(300 * 1000); break;
    case THREAD_AT_SHUTDOWN:
    case LOG_AFTER_SHUTDOWN:
      running = 1;
      if (pthread_create(&thread, NULL, work, NULL)) return CAMELID_STATUS_INTERNAL;
      pthread_detach(thread);
      break;
    default: break;
  }
  if (ANIMAL != NO_PLUGIN) *plugin = (CamelidPlugin *)&handle;
  if (ANIMAL != NO_TABLE) *api = &table.api;
  return CAMELID_STATUS_OK;
}
#endif
