/* Where a tape begins and ends. */
#include "tape.h"

static void remove_tape(struct environment *self, int fd) {
  for (struct tape **link = &self->tapes; *link != NULL; link = &(*link)->next) {
    if ((*link)->fd != fd) continue;
    struct tape *gone = *link;
    *link = gone->next;
    free(gone);
    return;
  }
}

void tapes_end(struct environment *self) {
  while (self->tapes != NULL) remove_tape(self, self->tapes->fd);
}

static napi_value tape_begin(napi_env env, napi_callback_info info) {
  struct call call;
  int fd;
  uint8_t *at;
  size_t room;
  int64_t data_bytes, index_bytes, started;
  size_t head = TAPE_WORDS * sizeof(int32_t) + TAPE_TIMES * sizeof(double);
  if (!begin_call(&call, env, info) || !take_int(&call, 0, &fd) || !take_place(&call, 1, &at, &room) ||
      !take_wide(&call, 3, 0, 0x40000000, &data_bytes) || !take_wide(&call, 4, 0, 0x40000000, &index_bytes) ||
      !take_int64(&call, 5, &started)) {
    return NULL;
  }
  if (head + (size_t)data_bytes + (size_t)index_bytes > room) {
    fail_argument(&call, 3, "sizes that the buffer has room for");
    return NULL;
  }
  struct tape *tape = calloc(1, sizeof *tape);
  if (tape == NULL) return number_result(env, -ENOMEM);
  remove_tape(call.self, fd);
  *tape = (struct tape){
    .fd = fd,
    .words = (int32_t *)at,
    .times = (double *)(at + TAPE_WORDS * sizeof(int32_t)),
    .data = at + head,
    .index = at + head + data_bytes,
    .data_bytes = (size_t)data_bytes,
    .index_bytes = (size_t)index_bytes,
    .started = (double)started,
    .next = call.self->tapes,
  };
  call.self->tapes = tape;
  return number_result(env, 0);
}

static napi_value tape_end(napi_env env, napi_callback_info info) {
  struct call call;
  int fd;
  if (!begin_call(&call, env, info) || !take_int(&call, 0, &fd)) return NULL;
  remove_tape(call.self, fd);
  return number_result(env, 0);
}

const struct function_row tape_functions[] = {
  {"tapeBegin", tape_begin},
  {"tapeEnd", tape_end},
  {NULL, NULL},
};
