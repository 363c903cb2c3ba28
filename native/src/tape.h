/*
 * A tape: the block of a trace that a thread fills (src/transport/record-format.ts has the layout), into which the calls that receive
 * and reply put what passes. So a recorded message costs a copy and a look at the clock, not a way through JavaScript.
 *
 * The memory is shared with JavaScript, on one thread: `words` and `times`, then the block's bytes, then its index.
 */
#ifndef FUSEWIRE_TAPE_H
#define FUSEWIRE_TAPE_H

#include "addon.h"

#include <time.h>

enum { TAPE_DATA_AT, TAPE_INDEX_AT, TAPE_COUNT, TAPE_KEEP, TAPE_HELD, TAPE_TOOK, TAPE_WORDS = 8 };
enum { TAPE_FIRST, TAPE_LAST, TAPE_TIMES = 4 };
enum { TAPE_IN = 0, TAPE_OUT = 1, TAPE_HAS_ERRNO = 4, TAPE_IS_CUT = 8 };
/* Room that an entry may need, as JavaScript reckons it. */
#define TAPE_ENTRY_BYTES 45

struct tape {
  int fd;
  int32_t *words;
  double *times;
  uint8_t *data;
  uint8_t *index;
  size_t data_bytes;
  size_t index_bytes;
  /* CLOCK_MONOTONIC in microseconds when the recording began. */
  double started;
  struct tape *next;
};

static inline struct tape *tape_of(struct environment *self, int fd) {
  struct tape *tape = self->tapes;
  while (tape != NULL && tape->fd != fd) tape = tape->next;
  return tape;
}

static inline double tape_now(struct tape *tape) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  int64_t micros = (int64_t)((double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3 - tape->started);
  double last = tape->times[TAPE_LAST];
  return (double)micros > last ? (double)micros : last;
}

static inline size_t tape_varint(uint8_t *index, size_t at, uint64_t value) {
  while (value >= 128) {
    index[at++] = (uint8_t)(value | 128);
    value >>= 7;
  }
  index[at++] = (uint8_t)value;
  return at;
}

static inline bool tape_put(struct tape *tape, int direction, double time, const uint8_t *message, size_t whole, size_t kept,
                            int error) {
  int32_t *words = tape->words;
  size_t data_at = (size_t)words[TAPE_DATA_AT], at = (size_t)words[TAPE_INDEX_AT];
  size_t end = data_at + ((kept + 7) & ~(size_t)7), index_end = at + TAPE_ENTRY_BYTES;
  if (index_end > tape->index_bytes || end + ((index_end + 7) & ~(size_t)7) > tape->data_bytes) return false;
  /* What lies between messages is zero. */
  if (end != data_at) memset(tape->data + end - 8, 0, 8);
  memcpy(tape->data + data_at, message, kept);
  if (words[TAPE_COUNT]++ == 0) tape->times[TAPE_FIRST] = tape->times[TAPE_LAST] = time;
  tape->index[at++] = (uint8_t)(direction | (error == 0 ? 0 : TAPE_HAS_ERRNO) | (kept == whole ? 0 : TAPE_IS_CUT));
  if (error != 0) {
    tape->index[at++] = (uint8_t)error;
    tape->index[at++] = (uint8_t)(error >> 8);
  }
  at = tape_varint(tape->index, at, (uint64_t)(time - tape->times[TAPE_LAST]));
  at = tape_varint(tape->index, at, kept);
  if (kept != whole) at = tape_varint(tape->index, at, whole);
  tape->times[TAPE_LAST] = time;
  words[TAPE_DATA_AT] = (int32_t)end;
  words[TAPE_INDEX_AT] = (int32_t)at;
  return true;
}

/* A message has come. Where it has no room, or JavaScript holds the tape, TAPE_TOOK stays 0. */
static inline void tape_received(struct tape *tape, const uint8_t *message, int64_t length) {
  if (tape == NULL || length <= 0 || tape->words[TAPE_HELD] != 0) return;
  tape->words[TAPE_TOOK] = tape_put(tape, TAPE_IN, tape_now(tape), message, (size_t)length, (size_t)length, 0);
}

/* When a reply is about to leave that JavaScript wants on the tape; negative for none. */
static inline double tape_sends(struct tape *tape) {
  return tape == NULL || tape->words[TAPE_KEEP] < 0 || tape->words[TAPE_HELD] != 0 ? -1 : tape_now(tape);
}

/* What became of it. JavaScript has seen to the room. */
static inline void tape_sent(struct tape *tape, double time, const uint8_t *message, size_t length, int64_t status) {
  if (time < 0) return;
  size_t kept = (size_t)tape->words[TAPE_KEEP];
  tape->words[TAPE_KEEP] = -1;
  tape_put(tape, TAPE_OUT, time, message, length, kept < length ? kept : length, status < 0 ? (int)-status : 0);
}

#endif
