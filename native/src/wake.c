/*
 * Waking threads that sleep in a system call.
 *
 * A sleeper publishes `blocked`, then looks at `wake`, then sleeps. A waker sets `wake`, then looks at `blocked`. Both
 * orders are sequentially consistent, so one of them sees the other. What is left is the gap between the sleeper's
 * look and its system call: a signal that falls there interrupts nothing, so the waker repeats it until the sleeper
 * is out.
 */
#include "wake.h"

#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>

#define WAKE_TIMEOUT_MS 1000

static pthread_mutex_t registry_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct blockable *registry;
static bool stopped;
static pthread_once_t signal_once = PTHREAD_ONCE_INIT;
static int signal_number;

static void on_wake_signal(int number) { (void)number; }

/* Takes the first realtime signal nobody handles. Without SA_RESTART, because the interruption is the purpose. */
static void install_signal(void) {
  for (int number = SIGRTMIN + 3; number <= SIGRTMAX; number++) {
    struct sigaction action;
    if (sigaction(number, NULL, &action) != 0 || (action.sa_flags & SA_SIGINFO) || action.sa_handler != SIG_DFL) continue;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_wake_signal;
    sigemptyset(&action.sa_mask);
    if (sigaction(number, &action, NULL) != 0) continue;
    signal_number = number;
    return;
  }
}

int wake_signal(void) {
  pthread_once(&signal_once, install_signal);
  return signal_number;
}

void wake_begin(struct environment *self) {
  int number = wake_signal();
  if (number != 0) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, number);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
  }
  self->blockable.thread = (pid_t)syscall(SYS_gettid);
  pthread_mutex_lock(&registry_mutex);
  atomic_store(&self->blockable.wake, stopped ? WAKE_FOREVER : 0);
  self->blockable.next = registry;
  registry = &self->blockable;
  pthread_mutex_unlock(&registry_mutex);
}

void wake_end(struct environment *self) {
  pthread_mutex_lock(&registry_mutex);
  for (struct blockable **link = &registry; *link != NULL; link = &(*link)->next) {
    if (*link != &self->blockable) continue;
    *link = self->blockable.next;
    break;
  }
  pthread_mutex_unlock(&registry_mutex);
}

static int64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static bool still_sleeps(struct blockable *thread) {
  return atomic_load(&thread->blocked) != 0 && atomic_load(&thread->wake) != 0;
}

/* Signals the sleepers in the registry (all of them, or one) until none is left or the time is over; returns how many are. */
static int rouse(struct blockable *only, int timeout_ms) {
  int64_t deadline = now_ms() + timeout_ms;
  long pause_ns = 20000;
  for (;;) {
    int sleeping = 0;
    for (struct blockable *thread = registry; thread != NULL; thread = thread->next) {
      if ((only != NULL && thread != only) || !still_sleeps(thread)) continue;
      sleeping++;
      if (signal_number != 0) syscall(SYS_tgkill, getpid(), thread->thread, signal_number);
    }
    if (sleeping == 0 || now_ms() >= deadline) return sleeping;
    nanosleep(&(struct timespec){.tv_nsec = pause_ns}, NULL);
    if (pause_ns < 1000000) pause_ns *= 2;
  }
}

static napi_value thread_id(napi_env env, napi_callback_info info) {
  (void)info;
  return number_result(env, syscall(SYS_gettid));
}

static napi_value is_own_thread(napi_env env, napi_callback_info info) {
  struct call call;
  int thread;
  napi_value result;
  if (!begin_call(&call, env, info) || !take_int(&call, 0, &thread)) return NULL;
  bool own = thread > 0 && syscall(SYS_tgkill, getpid(), thread, 0) == 0;
  napi_get_boolean(env, own, &result);
  return result;
}

static napi_value wake_blocked_thread(napi_env env, napi_callback_info info) {
  struct call call;
  int thread;
  if (!begin_call(&call, env, info) || !take_int(&call, 0, &thread)) return NULL;
  int64_t status = -ESRCH;
  pthread_mutex_lock(&registry_mutex);
  for (struct blockable *sleeper = registry; sleeper != NULL; sleeper = sleeper->next) {
    if (sleeper->thread != thread) continue;
    int nothing = 0;
    atomic_compare_exchange_strong(&sleeper->wake, &nothing, WAKE_ONCE);
    rouse(sleeper, WAKE_TIMEOUT_MS);
    status = 0;
  }
  pthread_mutex_unlock(&registry_mutex);
  return number_result(env, status);
}

static napi_value stop_blocked_threads(napi_env env, napi_callback_info info) {
  struct call call;
  int timeout_ms;
  if (!begin_call(&call, env, info) || !take_int(&call, 0, &timeout_ms)) return NULL;
  pthread_mutex_lock(&registry_mutex);
  stopped = true;
  for (struct blockable *thread = registry; thread != NULL; thread = thread->next) atomic_store(&thread->wake, WAKE_FOREVER);
  int sleeping = rouse(NULL, timeout_ms);
  pthread_mutex_unlock(&registry_mutex);
  return number_result(env, sleeping);
}

const struct function_row wake_functions[] = {
  {"threadId", thread_id},
  {"isOwnThread", is_own_thread},
  {"wakeBlockedThread", wake_blocked_thread},
  {"stopBlockedThreads", stop_blocked_threads},
  {NULL, NULL},
};
