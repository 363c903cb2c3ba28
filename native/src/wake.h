/* The sleeper's side of wake.c, inline because it stands around every receive. */
#ifndef FUSEWIRE_WAKE_H
#define FUSEWIRE_WAKE_H

#include "addon.h"

/* Whether a wake was waiting. One that is for ever stays. */
static inline bool consume_wake(struct blockable *self) {
  int found = WAKE_ONCE;
  return atomic_compare_exchange_strong(&self->wake, &found, 0) || found == WAKE_FOREVER;
}

/* False when a wake is waiting: the caller returns -EINTR instead of sleeping. */
static inline bool enter_sleep(struct blockable *self) {
  atomic_store(&self->blocked, 1);
  if (atomic_load(&self->wake) == 0) return true;
  atomic_store(&self->blocked, 0);
  consume_wake(self);
  return false;
}

static inline void leave_sleep(struct blockable *self) { atomic_store_explicit(&self->blocked, 0, memory_order_release); }

#endif
