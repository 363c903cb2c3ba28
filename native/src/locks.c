/*
 * File locks. Waiting for one takes a thread of its own: it may take for ever, and there is no call that waits for a
 * lock beside other things. The threads are detached and may outlive the environment, so what they share with it (the
 * desk) is counted, and the function that reaches the event loop is called only under the desk's mutex while it is open.
 */
#include "addon.h"

#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <time.h>

#ifndef F_OFD_GETLK
#define F_OFD_GETLK 36
#define F_OFD_SETLK 37
#define F_OFD_SETLKW 38
#endif
#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

#define WAITS_MAX 4096
#define WAIT_STACK_BYTES (64 * 1024)
/* A cancelled waiter is signalled this often, in case a signal fell between its look at `cancelled` and its call. */
#define CANCEL_INTERVAL_NS 2000000

struct lock_wait {
  struct lock_desk *desk;
  struct lock_wait *next;        /* of this environment's waits; the event loop's thread only */
  struct lock_wait *next_result; /* under the desk's mutex */
  napi_ref callback;             /* the event loop's thread only */
  int id;
  int fd; /* a duplicate, so that closing and reuse of the number do no harm */
  bool is_flock;
  int type;
  int64_t start;
  int64_t length;
  _Atomic bool cancelled;
  bool has_timer; /* under the desk's mutex, as `timer` */
  int timer;
  int64_t result;
};

struct lock_desk {
  pthread_mutex_t mutex;
  unsigned owners; /* the environment and every thread */
  bool open;
  struct lock_wait *results;
  napi_threadsafe_function function;
  /* The event loop's thread only: */
  struct lock_wait *waits;
  unsigned wait_count;
  int last_id;
};

static void release_desk(struct lock_desk *desk) {
  pthread_mutex_lock(&desk->mutex);
  unsigned owners = --desk->owners;
  pthread_mutex_unlock(&desk->mutex);
  if (owners > 0) return;
  pthread_mutex_destroy(&desk->mutex);
  free(desk);
}

/* --- the waiting thread --------------------------------------------------------------------------------------------- */

/* A timer that signals this thread alone; raw, because older C libraries keep timer_create in a library of its own. */
static int64_t make_timer(int *timer) {
  struct sigevent event;
  memset(&event, 0, sizeof event);
  event.sigev_notify = SIGEV_THREAD_ID;
  event.sigev_signo = wake_signal();
  event.sigev_notify_thread_id = (int)syscall(SYS_gettid);
  return STATUS(syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, timer));
}

static void arm_timer(int timer) {
  const struct itimerspec often = {.it_value = {.tv_nsec = 1}, .it_interval = {.tv_nsec = CANCEL_INTERVAL_NS}};
#ifdef SYS_timer_settime64
  struct { int64_t interval[2], value[2]; } often64 = {{0, CANCEL_INTERVAL_NS}, {0, 1}};
  if (syscall(SYS_timer_settime64, timer, 0, &often64, NULL) == 0) return;
#endif
  syscall(SYS_timer_settime, timer, 0, &often, NULL);
}

static int64_t wait_for_lock(struct lock_wait *wait) {
  struct flock lock = {
    .l_type = (short)wait->type,
    .l_whence = SEEK_SET,
    .l_start = (off_t)wait->start,
    .l_len = (off_t)wait->length,
  };
  for (;;) {
    if (atomic_load(&wait->cancelled)) return -EINTR;
    int64_t status = STATUS(wait->is_flock ? flock(wait->fd, wait->type) : fcntl(wait->fd, F_OFD_SETLKW, &lock));
    if (status != -EINTR) return status;
  }
}

static void *run_wait(void *data) {
  struct lock_wait *wait = data;
  struct lock_desk *desk = wait->desk;
  int timer;
  int64_t status = make_timer(&timer);
  if (status == 0) {
    pthread_mutex_lock(&desk->mutex);
    wait->timer = timer;
    wait->has_timer = true;
    pthread_mutex_unlock(&desk->mutex);
    status = wait_for_lock(wait);
  }
  close(wait->fd);
  pthread_mutex_lock(&desk->mutex);
  if (wait->has_timer) syscall(SYS_timer_delete, wait->timer);
  wait->has_timer = false;
  wait->result = status;
  if (desk->open) {
    wait->next_result = desk->results;
    desk->results = wait;
    if (napi_call_threadsafe_function(desk->function, NULL, napi_tsfn_nonblocking) == napi_closing) desk->open = false;
    wait = NULL;
  }
  pthread_mutex_unlock(&desk->mutex);
  /* The environment has gone and nobody else knows the wait. */
  if (wait != NULL) free(wait);
  release_desk(desk);
  return NULL;
}

/* Only the wake signal may reach the thread: the others belong to the program. */
static int64_t start_thread(struct lock_wait *wait) {
  pthread_t thread;
  pthread_attr_t attributes;
  sigset_t mask, former;
  sigfillset(&mask);
  sigdelset(&mask, wake_signal());
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, WAIT_STACK_BYTES);
  pthread_sigmask(SIG_SETMASK, &mask, &former);
  int error = pthread_create(&thread, &attributes, run_wait, wait);
  pthread_sigmask(SIG_SETMASK, &former, NULL);
  pthread_attr_destroy(&attributes);
  return -error;
}

/* --- the event loop's side ------------------------------------------------------------------------------------------ */

static void forget_wait(struct lock_desk *desk, struct lock_wait *wait) {
  for (struct lock_wait **link = &desk->waits; *link != NULL; link = &(*link)->next) {
    if (*link != wait) continue;
    *link = wait->next;
    desk->wait_count--;
    return;
  }
}

static void report(napi_env env, struct lock_desk *desk, struct lock_wait *wait) {
  napi_handle_scope scope;
  napi_value callback, global, result;
  if (napi_open_handle_scope(env, &scope) != napi_ok) return;
  napi_get_reference_value(env, wait->callback, &callback);
  napi_delete_reference(env, wait->callback);
  napi_get_global(env, &global);
  result = number_result(env, wait->result);
  forget_wait(desk, wait);
  free(wait);
  if (desk->wait_count == 0) napi_unref_threadsafe_function(env, desk->function);
  if (napi_call_function(env, global, callback, 1, &result, NULL) != napi_ok) raise_pending_exception(env);
  napi_close_handle_scope(env, scope);
}

/* Takes every result there is, so that some calls find none. */
static void take_results(napi_env env, napi_value function, void *context, void *data) {
  (void)function;
  (void)data;
  struct lock_desk *desk = context;
  if (env == NULL) return;
  pthread_mutex_lock(&desk->mutex);
  struct lock_wait *results = desk->results;
  desk->results = NULL;
  pthread_mutex_unlock(&desk->mutex);
  while (results != NULL) {
    struct lock_wait *wait = results;
    results = wait->next_result;
    report(env, desk, wait);
  }
}

static struct lock_desk *desk_of(struct environment *self) {
  if (self->locks != NULL) return self->locks;
  struct lock_desk *desk = calloc(1, sizeof *desk);
  napi_value name;
  if (desk == NULL) return NULL;
  pthread_mutex_init(&desk->mutex, NULL);
  desk->owners = 1;
  desk->open = true;
  if (napi_create_string_utf8(self->env, "fusewire.lock", NAPI_AUTO_LENGTH, &name) != napi_ok ||
      napi_create_threadsafe_function(self->env, NULL, NULL, name, 0, 1, NULL, NULL, desk, take_results, &desk->function) != napi_ok) {
    release_desk(desk);
    return NULL;
  }
  napi_unref_threadsafe_function(self->env, desk->function);
  self->locks = desk;
  return desk;
}

static int64_t begin_wait(struct call *call, struct lock_wait *wait, int fd) {
  struct lock_desk *desk = desk_of(call->self);
  if (desk == NULL) return -ENOMEM;
  if (desk->wait_count >= WAITS_MAX) return -EAGAIN;
  int64_t duplicate = STATUS(fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (duplicate < 0) return duplicate;
  wait->desk = desk;
  wait->fd = (int)duplicate;
  wait->id = desk->last_id = desk->last_id % INT_MAX + 1;
  if (napi_create_reference(call->env, call->argument[5], 1, &wait->callback) != napi_ok) {
    close(wait->fd);
    return -ENOMEM;
  }
  int id = wait->id;
  wait->next = desk->waits;
  desk->waits = wait;
  if (desk->wait_count++ == 0) napi_ref_threadsafe_function(call->env, desk->function);
  pthread_mutex_lock(&desk->mutex);
  desk->owners++;
  pthread_mutex_unlock(&desk->mutex);
  int64_t status = start_thread(wait);
  if (status == 0) return id;
  release_desk(desk);
  forget_wait(desk, wait);
  if (desk->wait_count == 0) napi_unref_threadsafe_function(call->env, desk->function);
  napi_delete_reference(call->env, wait->callback);
  close(wait->fd);
  return status;
}

static napi_value lock_wait(napi_env env, napi_callback_info info) {
  struct call call;
  char kind[8];
  size_t kind_length;
  int fd, type;
  int64_t start, length;
  if (!begin_call(&call, env, info)) return NULL;
  if (napi_get_value_string_latin1(env, call.argument[0], kind, sizeof kind, &kind_length) != napi_ok ||
      (strcmp(kind, "ofd") != 0 && strcmp(kind, "flock") != 0)) {
    fail_argument(&call, 0, "'ofd' or 'flock'");
    return NULL;
  }
  if (!take_int(&call, 1, &fd) || !take_int(&call, 2, &type) || !take_int64(&call, 3, &start) || !take_int64(&call, 4, &length) ||
      !take_function(&call, 5)) {
    return NULL;
  }
  struct lock_wait *wait = calloc(1, sizeof *wait);
  if (wait == NULL) return number_result(env, -ENOMEM);
  wait->is_flock = kind[0] == 'f';
  wait->type = type;
  wait->start = start;
  wait->length = length;
  int64_t status = begin_wait(&call, wait, fd);
  if (status < 0) free(wait);
  return number_result(env, status);
}

/* `desk->mutex` keeps the timer from being deleted, and its number reused, in between. */
static void cancel_wait(struct lock_desk *desk, struct lock_wait *wait) {
  atomic_store(&wait->cancelled, true);
  pthread_mutex_lock(&desk->mutex);
  if (wait->has_timer) arm_timer(wait->timer);
  pthread_mutex_unlock(&desk->mutex);
}

static napi_value lock_cancel(napi_env env, napi_callback_info info) {
  struct call call;
  int id;
  if (!begin_call(&call, env, info) || !take_int(&call, 0, &id)) return NULL;
  struct lock_desk *desk = call.self->locks;
  if (desk == NULL) return NULL;
  for (struct lock_wait *wait = desk->waits; wait != NULL; wait = wait->next) {
    if (wait->id != id) continue;
    cancel_wait(desk, wait);
    break;
  }
  return NULL;
}

/* The environment goes: no result is reported any more, and every thread is sent home. */
void locks_end(struct environment *self) {
  struct lock_desk *desk = self->locks;
  if (desk == NULL) return;
  self->locks = NULL;
  pthread_mutex_lock(&desk->mutex);
  desk->open = false;
  struct lock_wait *done = desk->results;
  desk->results = NULL;
  for (struct lock_wait *wait = done; wait != NULL; wait = wait->next_result) forget_wait(desk, wait);
  /* Threads that are still waiting free their wait themselves, so each is cancelled before the mutex is left. */
  for (struct lock_wait *wait = desk->waits; wait != NULL; wait = wait->next) {
    atomic_store(&wait->cancelled, true);
    if (wait->has_timer) arm_timer(wait->timer);
  }
  desk->waits = NULL;
  pthread_mutex_unlock(&desk->mutex);
  while (done != NULL) {
    struct lock_wait *wait = done;
    done = wait->next_result;
    free(wait);
  }
  release_desk(desk);
}

/* --- locks without waiting ------------------------------------------------------------------------------------------ */

static napi_value flock_fd(napi_env env, napi_callback_info info) {
  struct call call;
  int fd, operation;
  if (!begin_call(&call, env, info) || !take_int(&call, 0, &fd) || !take_int(&call, 1, &operation)) return NULL;
  return number_result(env, STATUS_RETRIED(flock(fd, operation)));
}

/* One fcntl(2) with a struct flock. `get` is the command that answers with a lock; `commands` names those that are allowed. */
static napi_value fcntl_lock(napi_env env, napi_callback_info info, const int allowed[3], int get, const char *commands) {
  struct call call;
  int fd, command, type;
  int64_t start, length;
  if (!begin_call(&call, env, info) || !take_int(&call, 0, &fd) || !take_int(&call, 1, &command) || !take_int(&call, 2, &type) ||
      !take_int64(&call, 3, &start) || !take_int64(&call, 4, &length)) {
    return NULL;
  }
  if (command != allowed[0] && command != allowed[1] && command != allowed[2]) {
    fail_argument(&call, 1, commands);
    return NULL;
  }
  struct flock lock = {.l_type = (short)type, .l_whence = SEEK_SET, .l_start = (off_t)start, .l_len = (off_t)length};
  int64_t status = STATUS_RETRIED(fcntl(fd, command, &lock));
  if (status >= 0 && command == get) {
    struct {
      uint32_t type;
      int32_t pid;
      uint64_t start, length;
    } found = {(uint32_t)lock.l_type, (int32_t)lock.l_pid, (uint64_t)lock.l_start, (uint64_t)lock.l_len};
    memcpy(call.self->buffers[0].data, &found, sizeof found);
  }
  return number_result(env, status);
}

static napi_value ofd_lock(napi_env env, napi_callback_info info) {
  static const int allowed[3] = {F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLK};
  return fcntl_lock(env, info, allowed, F_OFD_GETLK, "F_OFD_GETLK (36) or F_OFD_SETLK (37)");
}

/* Unlike the others these locks belong to the process, and F_SETLKW blocks the thread. */
static napi_value record_lock(napi_env env, napi_callback_info info) {
  static const int allowed[3] = {F_GETLK, F_SETLK, F_SETLKW};
  return fcntl_lock(env, info, allowed, F_GETLK, "F_GETLK, F_SETLK or F_SETLKW");
}

const struct function_row lock_functions[] = {
  {"flock", flock_fd},
  {"ofdLock", ofd_lock},
  {"recordLock", record_lock},
  {"lockWait", lock_wait},
  {"lockCancel", lock_cancel},
  {NULL, NULL},
};
