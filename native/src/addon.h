/*
 * What the files of the addon share: the per-environment state, and readers for the arguments of a call.
 *
 * One `struct environment` belongs to one Node-API environment, that is, to one thread. It reaches every function as
 * its callback data, which is cheaper than a look-up of instance data. Nothing in it is touched by another thread,
 * except `blockable` (atomics) and what locks.c guards with its own mutex.
 */
#ifndef FUSEWIRE_ADDON_H
#define FUSEWIRE_ADDON_H

#include <errno.h>
#include <node_api.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#define BUFFERS_MAX 65536
#define SCRATCH_BYTES (256 * 1024)
#define ARGUMENTS_MAX 8
/* PATH_MAX counts the NUL; mount(2) data has the same limit. */
#define TEXT_BYTES 4096

/* A thread as its wakers see it. `wake`: 0 nothing, WAKE_ONCE until consumed, WAKE_FOREVER once the process stops. */
struct blockable {
  pid_t thread;
  _Atomic int blocked;
  _Atomic int wake;
  struct blockable *next;
};

enum { WAKE_ONCE = 1, WAKE_FOREVER = 2 };

struct buffer_slot {
  uint8_t *data; /* NULL while the slot is free */
  size_t length;
  napi_ref reference;
  int next_free;
};

struct watch;
struct lock_desk;
struct ring;
struct tape;

struct environment {
  napi_env env;
  struct buffer_slot *buffers;
  uint32_t buffer_count;
  uint32_t buffer_capacity;
  int buffer_free;
  int32_t *reply_status;
  struct blockable blockable;
  struct watch *watches;
  int watch_last_id;
  uint32_t watches_closing;
  struct lock_desk *locks;
  struct ring *rings;
  int ring_last_id;
  struct tape *tapes;
  bool ending;
  napi_async_cleanup_hook_handle cleanup;
};

struct function_row {
  const char *name;
  napi_callback call;
};

/* Each file's functions, ended by a row without a name. */
extern const struct function_row backing_functions[];
extern const struct function_row buffer_functions[];
extern const struct function_row device_functions[];
extern const struct function_row file_functions[];
extern const struct function_row identity_functions[];
extern const struct function_row lock_functions[];
extern const struct function_row mount_functions[];
extern const struct function_row tape_functions[];
extern const struct function_row uring_functions[];
extern const struct function_row wake_functions[];
extern const struct function_row watch_functions[];

bool buffers_begin(struct environment *self, napi_value exports);
void buffers_end(struct environment *self);
void wake_begin(struct environment *self);
void wake_end(struct environment *self);
/* The signal that interrupts a blocked thread, or 0 when every realtime signal was taken. */
int wake_signal(void);
void watches_end(struct environment *self);
void locks_end(struct environment *self);
void rings_end(struct environment *self);
void tapes_end(struct environment *self);
void identity_begin(void);
/* Frees `self` once it is ending and its last watch has closed. */
void environment_maybe_free(struct environment *self);
/* Raises an exception that a callback left behind as 'uncaughtException'. */
void raise_pending_exception(napi_env env);

/* --- arguments ----------------------------------------------------------------------------------------------------- */

/* `outcome` is what the function returns when a reader failed: NULL after a throw, or a number such as -ENAMETOOLONG. */
struct call {
  napi_env env;
  struct environment *self;
  napi_value outcome;
  napi_value argument[ARGUMENTS_MAX];
};

void throw_argument(struct call *call, int index, const char *expected);
bool take_text(struct call *call, int index, char text[TEXT_BYTES]);

/* Inline, so that the compiler knows the answer and sees that no value is used after a failure. */
static inline bool fail_argument(struct call *call, int index, const char *expected) {
  throw_argument(call, index, expected);
  return false;
}

static inline bool begin_call(struct call *call, napi_env env, napi_callback_info info) {
  size_t count = ARGUMENTS_MAX;
  call->env = env;
  call->outcome = NULL;
  return napi_get_cb_info(env, info, &count, call->argument, NULL, (void **)&call->self) == napi_ok;
}

/* Integers go through double: it is as cheap as the integer getters, and NaN, fractions and wrap-around are noticed. */
static inline bool take_wide(struct call *call, int index, double least, double most, int64_t *value) {
  double number;
  if (napi_get_value_double(call->env, call->argument[index], &number) != napi_ok) return fail_argument(call, index, "a number");
  if (!(number >= least && number <= most)) return fail_argument(call, index, "an integer in range");
  *value = (int64_t)number;
  return (double)*value == number || fail_argument(call, index, "an integer");
}

static inline bool take_int(struct call *call, int index, int *value) {
  int64_t wide;
  if (!take_wide(call, index, -2147483648.0, 2147483647.0, &wide)) return false;
  *value = (int)wide;
  return true;
}

/* A 32-bit word, signed or unsigned: -1 and 0xffffffff are the same word. */
static inline bool take_word(struct call *call, int index, uint32_t *value) {
  int64_t wide;
  if (!take_wide(call, index, -2147483648.0, 4294967295.0, &wide)) return false;
  *value = (uint32_t)wide;
  return true;
}

static inline bool take_int64(struct call *call, int index, int64_t *value) {
  return take_wide(call, index, -9007199254740991.0, 9007199254740991.0, value);
}

/* The address of a place inside a registered buffer, and how many bytes stand behind it: arguments buffer, offset. */
static inline bool take_place(struct call *call, int index, uint8_t **at, size_t *room) {
  int64_t id, offset;
  if (!take_wide(call, index, 0, BUFFERS_MAX, &id) || !take_wide(call, index + 1, 0, 9007199254740991.0, &offset)) return false;
  struct environment *self = call->self;
  if ((uint64_t)id >= self->buffer_count || self->buffers[id].data == NULL) {
    return fail_argument(call, index, "the id of a registered buffer");
  }
  if ((uint64_t)offset > self->buffers[id].length) return fail_argument(call, index + 1, "an offset inside the buffer");
  *at = self->buffers[id].data + offset;
  *room = self->buffers[id].length - (size_t)offset;
  return true;
}

/* Arguments buffer, offset, length. */
static inline bool take_span(struct call *call, int index, uint8_t **at, size_t *length) {
  size_t room;
  int64_t wide;
  if (!take_place(call, index, at, &room) || !take_wide(call, index + 2, 0, 9007199254740991.0, &wide)) return false;
  if ((uint64_t)wide > room) return fail_argument(call, index + 2, "a length inside the buffer");
  *length = (size_t)wide;
  return true;
}

/* Arguments buffer, offset, of which `need` bytes are used. */
static inline bool take_fixed(struct call *call, int index, size_t need, uint8_t **at) {
  size_t room;
  if (!take_place(call, index, at, &room)) return false;
  return room >= need || fail_argument(call, index + 1, "an offset with enough bytes behind it");
}

static inline bool take_flag(struct call *call, int index, bool *value) {
  return napi_get_value_bool(call->env, call->argument[index], value) == napi_ok || fail_argument(call, index, "a boolean");
}

static inline bool take_function(struct call *call, int index) {
  napi_valuetype type;
  return (napi_typeof(call->env, call->argument[index], &type) == napi_ok && type == napi_function) ||
         fail_argument(call, index, "a function");
}

/* --- results ------------------------------------------------------------------------------------------------------- */

static inline napi_value number_result(napi_env env, int64_t value) {
  napi_value result = NULL;
  if (value >= INT32_MIN && value <= INT32_MAX) napi_create_int32(env, (int32_t)value, &result);
  else napi_create_double(env, (double)value, &result);
  return result;
}

/* The value of a system call as the addon reports it: non-negative, or -errno. */
#define STATUS(expression) ({ int64_t status_ = (int64_t)(expression); status_ < 0 ? -(int64_t)errno : status_; })

/* The same, asked again after a signal: for calls that have had no effect when they fail with EINTR. */
#define STATUS_RETRIED(expression)                       \
  ({                                                     \
    int64_t status_;                                     \
    do status_ = (int64_t)(expression);                  \
    while (status_ < 0 && errno == EINTR);               \
    status_ < 0 ? -(int64_t)errno : status_;             \
  })

#endif
