/* The module: one environment's beginning and end, and the argument readers that are not inline. */
#include "addon.h"

#include <stdio.h>

void throw_argument(struct call *call, int index, const char *expected) {
  char message[160];
  snprintf(message, sizeof message, "fusewire addon: argument %d must be %s", index + 1, expected);
  napi_throw_type_error(call->env, "ERR_FUSEWIRE_ADDON_ARGUMENT", message);
}

/*
 * Reads a binary string, one character a byte. It goes through UTF-16 because the latin1 getter drops the upper byte
 * of a wider character in silence, which would name another file.
 */
bool take_text(struct call *call, int index, char text[TEXT_BYTES]) {
  char16_t wide[TEXT_BYTES + 1];
  size_t length;
  if (napi_get_value_string_utf16(call->env, call->argument[index], wide, TEXT_BYTES + 1, &length) != napi_ok) {
    return fail_argument(call, index, "a string");
  }
  if (length >= TEXT_BYTES) {
    call->outcome = number_result(call->env, -ENAMETOOLONG);
    return false;
  }
  unsigned seen = 0;
  unsigned zeros = 0;
  for (size_t at = 0; at < length; at++) {
    seen |= wide[at];
    zeros |= wide[at] == 0;
    text[at] = (char)wide[at];
  }
  text[length] = 0;
  if (seen > 0xff) return fail_argument(call, index, "a binary string, one character a byte (see toBinary)");
  return !zeros || fail_argument(call, index, "a string without NUL");
}

void raise_pending_exception(napi_env env) {
  napi_value exception;
  bool pending = false;
  if (napi_is_exception_pending(env, &pending) != napi_ok || !pending) return;
  if (napi_get_and_clear_last_exception(env, &exception) == napi_ok) napi_fatal_exception(env, exception);
}

void environment_maybe_free(struct environment *self) {
  if (!self->ending || self->watches_closing > 0) return;
  if (self->cleanup != NULL) napi_remove_async_cleanup_hook(self->cleanup);
  buffers_end(self);
  free(self);
}

/* Asynchronous, because libuv handles close over one turn of the loop and the loop must not go before them. */
static void end_environment(napi_async_cleanup_hook_handle handle, void *data) {
  struct environment *self = data;
  self->cleanup = handle;
  wake_end(self);
  locks_end(self);
  rings_end(self);
  tapes_end(self);
  watches_end(self);
  self->ending = true;
  environment_maybe_free(self);
}

static bool define_functions(struct environment *self, napi_value exports, const struct function_row *row) {
  for (; row->name != NULL; row++) {
    napi_property_descriptor descriptor = {
      .utf8name = row->name,
      .method = row->call,
      .attributes = napi_enumerable,
      .data = self,
    };
    if (napi_define_properties(self->env, exports, 1, &descriptor) != napi_ok) return false;
  }
  return true;
}

NAPI_MODULE_INIT(/* napi_env env, napi_value exports */) {
  struct environment *self = calloc(1, sizeof *self);
  if (self == NULL) {
    napi_throw_error(env, "ERR_FUSEWIRE_ADDON_MEMORY", "fusewire addon: no memory for its state");
    return NULL;
  }
  self->env = env;
  self->buffer_free = -1;
  const struct function_row *const tables[] = {
    backing_functions, buffer_functions, device_functions, file_functions, identity_functions, lock_functions, mount_functions, tape_functions, uring_functions, wake_functions, watch_functions,
  };
  for (size_t index = 0; index < sizeof tables / sizeof *tables; index++) {
    if (!define_functions(self, exports, tables[index])) return NULL;
  }
  if (!buffers_begin(self, exports)) return NULL;
  identity_begin();
  wake_begin(self);
  napi_add_async_cleanup_hook(env, end_environment, self, &self->cleanup);
  return exports;
}
