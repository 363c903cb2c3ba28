/* The sleeper's side of wake.c, inline because it stands around every receive. */
#ifndef FUSEWIRE_WAKE_H
#define FUSEWIRE_WAKE_H

#include "addon.h"

static inline void consume_wake(struct blockable *self) {
  int once = WAKE_ONCE;
  atomic_compare_exchange_strong(&self->wake, &once, 0);
}

/* False when a wake is waiting: the caller returns -EINTR instead of sleeping. */
static inline bool enter_sleep(struct blockable *self) {
  atomic_store(&self->blocked, 1);
  if (atomic_load(&self->wake) == 0) return true;
  atomic_store(&self->blocked, 0);
  consume_wake(self);
  return false;
}

/* `status` is what the system call gave. A wake is used up only by -EINTR: otherwise it ends the next sleep. */
static inline int64_t leave_sleep(struct blockable *self, int64_t status) {
  atomic_store_explicit(&self->blocked, 0, memory_order_release);
  if (status == -EINTR) consume_wake(self);
  return status;
}

#endif
