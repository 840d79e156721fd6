/* The border: the two symbols, the table of functions, messages, and the one device. The other functions of the table are in
 * memory.c (buffers, weights), claims.c (what is computed) and plan.c (compiling, running); ops.c and dtype.c compute. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "example.h"

#if !defined(__x86_64__) || !defined(__linux__)
#error "say in both manifests, here and in libcamelid_example_c.plugin.toml, what else this is built for"
#endif

const CamelidManifest camelid_plugin_manifest = {
  .magic = CAMELID_MAGIC, .struct_size = sizeof(CamelidManifest),
  .abi_major = CAMELID_ABI_MAJOR, .abi_minor = CAMELID_ABI_MINOR,
  .name = "example-c", .version = "0.1.0", .target = "x86_64-linux",
};

/* There is one plugin in a process, and all it has is the host's functions. */
struct CamelidPlugin {
  const CamelidHost *host;
};
static CamelidPlugin the_plugin;

CamelidStatus fail(CamelidError *error, CamelidStatus status, const char *format, ...) {
  if (error == NULL || error->message == NULL || error->capacity == 0) return status;
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(error->message, error->capacity, format, arguments);
  va_end(arguments);
  return status;
}

CamelidStatus no_memory(CamelidError *error, const char *what, CamelidStr name, uint64_t size) {
  return fail(error, CAMELID_STATUS_OUT_OF_MEMORY, "no memory for %s `%.*s` (%llu bytes); a shorter context needs less",
              what, STR(name), (unsigned long long)size);
}

static CamelidStatus device_count(CamelidPlugin *plugin, uint32_t *count, CamelidError *error) {
  *count = 1;
  return OK;
}

static CamelidStatus device_info(CamelidPlugin *plugin, uint32_t index, CamelidDeviceInfo *info, CamelidError *error) {
  if (index != 0) return fail(error, INVALID, "there is no device %u, only device 0", index);
  info->kind = CAMELID_DEVICE_CPU;
  info->memory = 0;
  snprintf(info->name, sizeof info->name, "CPU, one thread");
  return OK;
}

static CamelidStatus device_open(CamelidPlugin *plugin, uint32_t index, const CamelidKeyValue *options, size_t n_options,
                                 CamelidDevice **device, CamelidError *error) {
  *device = NULL;
  if (index != 0) return fail(error, INVALID, "there is no device %u, only device 0", index);
  if (n_options > 0) return fail(error, INVALID, "unknown option `%.*s`; there are none", STR(options[0].key));
  *device = calloc(1, sizeof **device);
  if (*device == NULL) return no_memory(error, "device", (CamelidStr){"0", 1}, sizeof **device);
  const CamelidHost *host = plugin->host;
  CamelidStr name = {camelid_plugin_manifest.name, strlen(camelid_plugin_manifest.name)};
  if (host != NULL && CAMELID_HAS(host, CamelidHost, log) && host->log != NULL) {
    host->log(host->ctx, CAMELID_LOG_DEBUG, name, (CamelidStr){"device opened", 13});
  }
  return OK;
}

static void device_close(CamelidDevice *device) {
  for (size_t i = 0; i < MAX_SLOTS; i++) free(device->slots[i].data);
  free(device);
}

/* Every call is done when it returns, and there are no threads to end. */
static CamelidStatus device_sync(CamelidDevice *device, CamelidError *error) { return OK; }
static void shut_down(CamelidPlugin *plugin) {}

static const CamelidApi api = {
  .struct_size = sizeof(CamelidApi), .abi_minor = CAMELID_ABI_MINOR, .shutdown = shut_down,
  .device_count = device_count, .device_info = device_info, .device_open = device_open,
  .device_close = device_close, .device_sync = device_sync, .graph_supports = graph_supports,
  .buffer_alloc = buffer_alloc, .weight_load = weight_load, .buffer_write = buffer_write,
  .buffer_read = buffer_read, .buffer_copy = buffer_copy, .buffer_free = buffer_free,
  .plan_compile = plan_compile, .plan_run = plan_run, .plan_free = plan_free,
};

CamelidStatus camelid_plugin_entry_v1(const CamelidHost *host, CamelidPlugin **plugin, const CamelidApi **table,
                                      CamelidError *error) {
  the_plugin.host = host;
  *plugin = &the_plugin;
  *table = &api;
  return OK;
}
