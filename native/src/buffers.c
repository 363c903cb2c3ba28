/* Registered buffers: memory of ArrayBuffers under small integers. */
#include "addon.h"

static bool grow(struct environment *self) {
  uint32_t capacity = self->buffer_capacity == 0 ? 64 : self->buffer_capacity * 2;
  struct buffer_slot *slots = realloc(self->buffers, capacity * sizeof *slots);
  if (slots == NULL) return false;
  self->buffers = slots;
  self->buffer_capacity = capacity;
  return true;
}

/* Returns the id, or -1 when there is no memory or no id left. */
static int add_buffer(struct environment *self, napi_value buffer, uint8_t *data, size_t length) {
  int id = self->buffer_free;
  if (id < 0) {
    if (self->buffer_count == BUFFERS_MAX) return -1;
    if (self->buffer_count == self->buffer_capacity && !grow(self)) return -1;
    id = (int)self->buffer_count;
    self->buffers[id] = (struct buffer_slot){.next_free = -1};
  }
  struct buffer_slot *slot = &self->buffers[id];
  if (napi_create_reference(self->env, buffer, 1, &slot->reference) != napi_ok) return -1;
  if (id == self->buffer_free) self->buffer_free = slot->next_free;
  else self->buffer_count++;
  slot->data = data;
  slot->length = length;
  return id;
}

static bool is_resizable(napi_env env, napi_value buffer) {
  napi_value property;
  bool resizable = false;
  if (napi_get_named_property(env, buffer, "resizable", &property) != napi_ok) return true;
  return napi_get_value_bool(env, property, &resizable) == napi_ok && resizable;
}

static bool is_undefined(struct call *call, int index) {
  napi_valuetype type;
  return napi_typeof(call->env, call->argument[index], &type) == napi_ok && type == napi_undefined;
}

static napi_value register_buffer(napi_env env, napi_callback_info info) {
  struct call call;
  void *data;
  size_t length;
  bool is_buffer = false;
  int64_t offset = 0, span;
  if (!begin_call(&call, env, info)) return NULL;
  if (napi_is_arraybuffer(env, call.argument[0], &is_buffer) != napi_ok || !is_buffer ||
      napi_get_arraybuffer_info(env, call.argument[0], &data, &length) != napi_ok || length == 0) {
    fail_argument(&call, 0, "an ArrayBuffer that is not empty");
    return NULL;
  }
  if (is_resizable(env, call.argument[0])) {
    fail_argument(&call, 0, "an ArrayBuffer of fixed length");
    return NULL;
  }
  if (!is_undefined(&call, 1) && !take_wide(&call, 1, 0, (double)length - 1, &offset)) return NULL;
  span = (int64_t)length - offset;
  if (!is_undefined(&call, 2) && !take_wide(&call, 2, 1, (double)span, &span)) return NULL;
  int id = add_buffer(call.self, call.argument[0], (uint8_t *)data + offset, (size_t)span);
  if (id < 0) {
    napi_throw_range_error(env, "ERR_FUSEWIRE_ADDON_BUFFERS", "fusewire addon: more than 65,536 buffers are registered");
    return NULL;
  }
  return number_result(env, id);
}

static napi_value unregister_buffer(napi_env env, napi_callback_info info) {
  struct call call;
  int64_t id;
  /* Buffer 0 is the scratch area, which lives as long as the environment. */
  if (!begin_call(&call, env, info) || !take_wide(&call, 0, 1, BUFFERS_MAX, &id)) return NULL;
  struct environment *self = call.self;
  if ((uint64_t)id >= self->buffer_count || self->buffers[id].data == NULL) {
    fail_argument(&call, 0, "the id of a registered buffer");
    return NULL;
  }
  struct buffer_slot *slot = &self->buffers[id];
  napi_delete_reference(env, slot->reference);
  *slot = (struct buffer_slot){.next_free = self->buffer_free};
  self->buffer_free = (int)id;
  return NULL;
}

/* O_DIRECT asks for the alignment of a block, at most 4 KiB, also where pages are larger. */
#define BOUNDARY_BYTES 4096

static napi_value bytes_to_boundary(napi_env env, napi_callback_info info) {
  struct call call;
  void *data;
  size_t length;
  if (!begin_call(&call, env, info)) return NULL;
  if (napi_get_arraybuffer_info(env, call.argument[0], &data, &length) != napi_ok) {
    fail_argument(&call, 0, "an ArrayBuffer");
    return NULL;
  }
  return number_result(env, (int64_t)(-(uintptr_t)data & (BOUNDARY_BYTES - 1)));
}

static bool export_value(struct environment *self, napi_value exports, const char *name, napi_value value) {
  napi_property_descriptor descriptor = {.utf8name = name, .value = value, .attributes = napi_enumerable};
  return napi_define_properties(self->env, exports, 1, &descriptor) == napi_ok;
}

bool buffers_begin(struct environment *self, napi_value exports) {
  napi_env env = self->env;
  napi_value scratch, status_buffer, status;
  void *data, *status_data;
  if (napi_create_arraybuffer(env, SCRATCH_BYTES, &data, &scratch) != napi_ok) return false;
  if (add_buffer(self, scratch, data, SCRATCH_BYTES) != 0) return false;
  if (napi_create_arraybuffer(env, sizeof(int32_t), &status_data, &status_buffer) != napi_ok) return false;
  /* Registering the word keeps its memory alive, even if the exports object is dropped. */
  if (add_buffer(self, status_buffer, status_data, sizeof(int32_t)) < 0) return false;
  if (napi_create_typedarray(env, napi_int32_array, 1, status_buffer, 0, &status) != napi_ok) return false;
  self->reply_status = status_data;
  return export_value(self, exports, "scratch", scratch) && export_value(self, exports, "replyStatus", status);
}

/* The environment is going, and its references with it. */
void buffers_end(struct environment *self) {
  free(self->buffers);
  self->buffers = NULL;
  self->buffer_count = 0;
}

const struct function_row buffer_functions[] = {
  {"registerBuffer", register_buffer},
  {"unregisterBuffer", unregister_buffer},
  {"bytesToBoundary", bytes_to_boundary},
  {NULL, NULL},
};
