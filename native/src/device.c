/* Messages to and from a descriptor, and what belongs to it. */
#include "tape.h"
#include "wake.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

#define PARTS_MAX 1023

/*
 * A wake is used up only by -EINTR: when a message came first, it ends the next receive. And only a wake gives -EINTR:
 * the waker's last signal may arrive after its wake was noticed without one, and must not end another sleep.
 */
static inline int64_t receive_message(struct environment *self, int fd, uint8_t *at, size_t length) {
  struct blockable *thread = &self->blockable;
  for (;;) {
    if (!enter_sleep(thread)) return -EINTR;
    int64_t status = STATUS(read(fd, at, length));
    leave_sleep(thread);
    if (status != -EINTR || consume_wake(thread)) return status;
  }
}

static inline int64_t write_message(struct environment *self, int fd, const uint8_t *at, size_t length) {
  if (self->tapes == NULL) return STATUS_RETRIED(write(fd, at, length));
  struct tape *tape = tape_of(self, fd);
  double time = tape_sends(tape);
  int64_t status = STATUS_RETRIED(write(fd, at, length));
  tape_sent(tape, time, at, length, status);
  return status;
}

static napi_value receive(napi_env env, napi_callback_info info) {
  struct call call;
  int fd;
  uint8_t *at;
  size_t length;
  if (!begin_call(&call, env, info) || !take_int(&call, 0, &fd) || !take_span(&call, 1, &at, &length)) return NULL;
  int64_t got = receive_message(call.self, fd, at, length);
  if (call.self->tapes != NULL) tape_received(tape_of(call.self, fd), at, got);
  return number_result(env, got);
}

static napi_value reply(napi_env env, napi_callback_info info) {
  struct call call;
  int fd;
  uint8_t *at;
  size_t length;
  if (!begin_call(&call, env, info) || !take_int(&call, 0, &fd) || !take_span(&call, 1, &at, &length)) return NULL;
  return number_result(env, write_message(call.self, fd, at, length));
}

static napi_value reply_receive(napi_env env, napi_callback_info info) {
  struct call call;
  int fd;
  uint8_t *reply_at, *at;
  size_t reply_length, length;
  if (!begin_call(&call, env, info) || !take_int(&call, 0, &fd) || !take_span(&call, 1, &reply_at, &reply_length) ||
      !take_span(&call, 4, &at, &length)) {
    return NULL;
  }
  *call.self->reply_status = (int32_t)write_message(call.self, fd, reply_at, reply_length);
  int64_t got = receive_message(call.self, fd, at, length);
  if (call.self->tapes != NULL) tape_received(tape_of(call.self, fd), at, got);
  return number_result(env, got);
}

static bool take_parts(struct call *call, int index, struct iovec *vector, uint32_t *count) {
  bool is_array = false;
  if (napi_is_array(call->env, call->argument[index], &is_array) != napi_ok || !is_array ||
      napi_get_array_length(call->env, call->argument[index], count) != napi_ok || *count > PARTS_MAX) {
    return fail_argument(call, index, "an array of at most 1,023 Uint8Arrays");
  }
  for (uint32_t part = 0; part < *count; part++) {
    napi_value element;
    napi_typedarray_type type;
    void *data;
    size_t length;
    if (napi_get_element(call->env, call->argument[index], part, &element) != napi_ok ||
        napi_get_typedarray_info(call->env, element, &type, &length, &data, NULL, NULL) != napi_ok || type != napi_uint8_array) {
      return fail_argument(call, index, "an array of Uint8Arrays");
    }
    vector[part] = (struct iovec){.iov_base = data, .iov_len = length};
  }
  return true;
}

static napi_value reply_parts(napi_env env, napi_callback_info info) {
  struct call call;
  struct iovec vector[PARTS_MAX + 1];
  int fd;
  uint8_t *at;
  size_t length;
  uint32_t count;
  if (!begin_call(&call, env, info) || !take_int(&call, 0, &fd) || !take_span(&call, 1, &at, &length) ||
      !take_parts(&call, 4, vector + 1, &count)) {
    return NULL;
  }
  vector[0] = (struct iovec){.iov_base = at, .iov_len = length};
  return number_result(env, STATUS_RETRIED(writev(fd, vector, (int)count + 1)));
}

static napi_value ioctl_buffer(napi_env env, napi_callback_info info) {
  struct call call;
  int fd;
  uint32_t request;
  uint8_t *at;
  if (!begin_call(&call, env, info) || !take_int(&call, 0, &fd) || !take_word(&call, 1, &request) ||
      !take_fixed(&call, 2, _IOC_SIZE(request), &at)) {
    return NULL;
  }
  return number_result(env, STATUS(ioctl(fd, request, at)));
}

static napi_value ioctl_integer(napi_env env, napi_callback_info info) {
  struct call call;
  int fd;
  uint32_t request;
  int64_t argument;
  if (!begin_call(&call, env, info) || !take_int(&call, 0, &fd) || !take_word(&call, 1, &request) || !take_int64(&call, 2, &argument)) {
    return NULL;
  }
  return number_result(env, STATUS(ioctl(fd, request, (long)argument)));
}

static napi_value set_non_blocking(napi_env env, napi_callback_info info) {
  struct call call;
  int fd;
  bool non_blocking;
  if (!begin_call(&call, env, info) || !take_int(&call, 0, &fd) || !take_flag(&call, 1, &non_blocking)) return NULL;
  int64_t status = STATUS(fcntl(fd, F_GETFL));
  if (status >= 0) {
    int flags = non_blocking ? (int)status | O_NONBLOCK : (int)status & ~O_NONBLOCK;
    status = flags == (int)status ? 0 : STATUS(fcntl(fd, F_SETFL, flags));
  }
  return number_result(env, status);
}

static napi_value poll_one(napi_env env, napi_callback_info info) {
  struct call call;
  int fd, events, timeout_ms;
  if (!begin_call(&call, env, info) || !take_int(&call, 0, &fd) || !take_int(&call, 1, &events) || !take_int(&call, 2, &timeout_ms)) {
    return NULL;
  }
  struct pollfd entry = {.fd = fd, .events = (short)events};
  if (!enter_sleep(&call.self->blockable)) return number_result(env, -EINTR);
  int64_t status = STATUS(poll(&entry, 1, timeout_ms));
  leave_sleep(&call.self->blockable);
  /* Any signal ends a poll, so that a program that polls on its main thread gets to handle it. */
  if (status == -EINTR) consume_wake(&call.self->blockable);
  return number_result(env, status > 0 ? entry.revents : status);
}

const struct function_row device_functions[] = {
  {"receive", receive},
  {"reply", reply},
  {"replyReceive", reply_receive},
  {"replyParts", reply_parts},
  {"ioctlBuffer", ioctl_buffer},
  {"ioctlInteger", ioctl_integer},
  {"setNonBlocking", set_non_blocking},
  {"poll", poll_one},
  {NULL, NULL},
};
