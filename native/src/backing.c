/*
 * Which inodes of a connection are open, and by which backing id, if any (FUSE_PASSTHROUGH). The kernel wants all opens of an
 * inode in one mode, and one id for each inode, while opens of it are answered by any thread: so the tables belong to the
 * process, and finding, registering and counting are one step under a mutex. A thread that dies never dies inside of it.
 */
#include "addon.h"

#include <pthread.h>
#include <sys/ioctl.h>

struct open_node {
  uint64_t node;
  int32_t id; /* 0: opened without a backing file */
  uint32_t opens;
  struct open_node *next;
};

struct backing_table {
  struct open_node **slots;
  uint32_t slot_count; /* a power of two */
  uint32_t node_count;
  bool refused; /* the process may not register: asking again is of no use */
};

#define SLOTS_FIRST 64

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
/* By id less one. An id is never used again, so that ending a table twice harms nobody. */
static struct backing_table **tables;
static uint32_t table_count;

static struct open_node **slot_of(const struct backing_table *table, uint64_t node) {
  uint64_t mixed = node * 0x9e3779b97f4a7c15u;
  return &table->slots[(mixed >> 32) & (table->slot_count - 1)];
}

/* Where the pointer to the node stands, or the end of its chain. */
static struct open_node **find(const struct backing_table *table, uint64_t node) {
  struct open_node **at = slot_of(table, node);
  while (*at != NULL && (*at)->node != node) at = &(*at)->next;
  return at;
}

/* More slots where there are as many nodes; without memory for them the chains grow instead. */
static void widen(struct backing_table *table) {
  if (table->node_count < table->slot_count) return;
  struct backing_table wide = {.slot_count = table->slot_count * 2};
  wide.slots = calloc(wide.slot_count, sizeof *wide.slots);
  if (wide.slots == NULL) return;
  for (uint32_t slot = 0; slot < table->slot_count; slot++) {
    for (struct open_node *node = table->slots[slot], *next; node != NULL; node = next) {
      struct open_node **at = slot_of(&wide, node->node);
      next = node->next;
      node->next = *at;
      *at = node;
    }
  }
  free(table->slots);
  table->slots = wide.slots;
  table->slot_count = wide.slot_count;
}

static void free_table(struct backing_table *table) {
  for (uint32_t slot = 0; slot < table->slot_count; slot++) {
    for (struct open_node *node = table->slots[slot], *next; node != NULL; node = next) {
      next = node->next;
      free(node);
    }
  }
  free(table->slots);
  free(table);
}

static struct backing_table *table_of(int id) {
  return id >= 1 && (uint32_t)id <= table_count ? tables[id - 1] : NULL;
}

static int add_table(void) {
  struct backing_table **more = realloc(tables, (table_count + 1) * sizeof *tables);
  if (more == NULL) return -ENOMEM;
  tables = more;
  struct backing_table *table = calloc(1, sizeof *table);
  if (table == NULL) return -ENOMEM;
  table->slot_count = SLOTS_FIRST;
  table->slots = calloc(SLOTS_FIRST, sizeof *table->slots);
  if (table->slots == NULL) {
    free(table);
    return -ENOMEM;
  }
  tables[table_count] = table;
  return (int)++table_count;
}

/* Counts an open. `*status`: what the ioctl returned, or 0 where none was made. */
static int64_t enter(struct backing_table *table, uint64_t node, int device, uint32_t request, void *argument, int32_t *status) {
  struct open_node **at = find(table, node);
  if (*at != NULL) {
    (*at)->opens++;
    return (*at)->id;
  }
  struct open_node *fresh = calloc(1, sizeof *fresh);
  if (fresh == NULL) return -ENOMEM;
  if (device >= 0 && !table->refused) {
    *status = (int32_t)STATUS(ioctl(device, request, argument));
    if (*status == -EPERM) table->refused = true;
  }
  *fresh = (struct open_node){.node = node, .id = *status > 0 ? *status : 0, .opens = 1};
  *at = fresh;
  table->node_count++;
  widen(table);
  return fresh->id;
}

/* Takes an open off; returns the id that nobody uses any more, or 0. */
static int32_t leave(struct backing_table *table, uint64_t node) {
  struct open_node **at = find(table, node);
  struct open_node *found = *at;
  if (found == NULL || --found->opens > 0) return 0;
  int32_t id = found->id;
  *at = found->next;
  free(found);
  table->node_count--;
  return id;
}

static napi_value backing_table(napi_env env, napi_callback_info info) {
  (void)info;
  pthread_mutex_lock(&mutex);
  int id = add_table();
  pthread_mutex_unlock(&mutex);
  return number_result(env, id);
}

static napi_value backing_enter(napi_env env, napi_callback_info info) {
  struct call call;
  int id, device;
  int64_t node;
  uint32_t request;
  uint8_t *argument;
  if (!begin_call(&call, env, info) || !take_int(&call, 0, &id) || !take_wide(&call, 1, 1, 9007199254740991.0, &node) ||
      !take_int(&call, 2, &device) || !take_word(&call, 3, &request) ||
      !take_fixed(&call, 4, _IOC_SIZE(request) + sizeof(int32_t), &argument)) {
    return NULL;
  }
  int32_t status = 0;
  int64_t backing = 0;
  pthread_mutex_lock(&mutex);
  struct backing_table *table = table_of(id);
  if (table != NULL) backing = enter(table, (uint64_t)node, device, request, argument, &status);
  pthread_mutex_unlock(&mutex);
  memcpy(argument + _IOC_SIZE(request), &status, sizeof status);
  return number_result(env, backing);
}

static napi_value backing_leave(napi_env env, napi_callback_info info) {
  struct call call;
  int id;
  int64_t node;
  if (!begin_call(&call, env, info) || !take_int(&call, 0, &id) || !take_wide(&call, 1, 1, 9007199254740991.0, &node)) return NULL;
  pthread_mutex_lock(&mutex);
  struct backing_table *table = table_of(id);
  int32_t backing = table == NULL ? 0 : leave(table, (uint64_t)node);
  pthread_mutex_unlock(&mutex);
  return number_result(env, backing);
}

static napi_value backing_nodes(napi_env env, napi_callback_info info) {
  struct call call;
  int id;
  if (!begin_call(&call, env, info) || !take_int(&call, 0, &id)) return NULL;
  pthread_mutex_lock(&mutex);
  const struct backing_table *table = table_of(id);
  uint32_t count = table == NULL ? 0 : table->node_count;
  pthread_mutex_unlock(&mutex);
  return number_result(env, count);
}

static napi_value backing_end(napi_env env, napi_callback_info info) {
  struct call call;
  int id;
  if (!begin_call(&call, env, info) || !take_int(&call, 0, &id)) return NULL;
  pthread_mutex_lock(&mutex);
  struct backing_table *table = table_of(id);
  if (table != NULL) {
    tables[id - 1] = NULL;
    free_table(table);
  }
  pthread_mutex_unlock(&mutex);
  return NULL;
}

const struct function_row backing_functions[] = {
  {"backingTable", backing_table},
  {"backingEnter", backing_enter},
  {"backingLeave", backing_leave},
  {"backingNodes", backing_nodes},
  {"backingEnd", backing_end},
  {NULL, NULL},
};
