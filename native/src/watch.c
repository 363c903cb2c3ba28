/*
 * Watches: a callback on this thread's event loop whenever a descriptor is readable.
 *
 * The addon is not linked against libuv. Where the process offers it (Node), its poll handles are used, found by name
 * at run time; elsewhere a helper thread polls and a threadsafe function carries the news. Setting the environment
 * variable FUSEWIRE_WATCH=thread chooses the helper thread, for its tests.
 */
#include "addon.h"

#include <dlfcn.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>

/* Values of libuv's public ABI, unchanged throughout 1.x. */
enum { UV_POLL_TYPE = 8, UV_READABLE_EVENT = 1, UV_DISCONNECT_EVENT = 4 };

typedef void (*uv_poll_callback)(void *handle, int status, int events);
typedef void (*uv_close_callback)(void *handle);

static struct {
  bool present;
  napi_status (*loop_of)(napi_env env, void **loop);
  size_t (*handle_size)(int type);
  int (*poll_init)(void *loop, void *handle, int fd);
  int (*poll_start)(void *handle, int events, uv_poll_callback callback);
  int (*poll_stop)(void *handle);
  void (*close)(void *handle, uv_close_callback callback);
} uv;

static pthread_once_t uv_once = PTHREAD_ONCE_INIT;

struct watch {
  struct environment *self;
  struct watch *next;
  int id;
  int fd;
  int events; /* POLLIN, or 0 for errors alone */
  bool ended;
  napi_ref callback;
  /* The helper thread's: */
  pthread_t thread;
  int wake_fd; /* -1 on libuv */
  bool joined;
  napi_threadsafe_function function;
  _Atomic int wanted;   /* events, as the thread sees them */
  _Atomic int reported; /* revents not yet delivered; the thread rests until they are */
  _Atomic bool quit;
  /* libuv's handle stands here: */
  _Alignas(16) unsigned char handle[];
};

static struct watch *watch_of(void *handle) { return (struct watch *)((char *)handle - offsetof(struct watch, handle)); }

static void find_uv(void) {
  const char *choice = getenv("FUSEWIRE_WATCH");
  if (choice != NULL && strcmp(choice, "thread") == 0) return;
  *(void **)&uv.loop_of = dlsym(RTLD_DEFAULT, "napi_get_uv_event_loop");
  *(void **)&uv.handle_size = dlsym(RTLD_DEFAULT, "uv_handle_size");
  *(void **)&uv.poll_init = dlsym(RTLD_DEFAULT, "uv_poll_init");
  *(void **)&uv.poll_start = dlsym(RTLD_DEFAULT, "uv_poll_start");
  *(void **)&uv.poll_stop = dlsym(RTLD_DEFAULT, "uv_poll_stop");
  *(void **)&uv.close = dlsym(RTLD_DEFAULT, "uv_close");
  uv.present = uv.loop_of && uv.handle_size && uv.poll_init && uv.poll_start && uv.poll_stop && uv.close;
}

static void unlink_watch(struct watch *watch) {
  for (struct watch **link = &watch->self->watches; *link != NULL; link = &(*link)->next) {
    if (*link != watch) continue;
    *link = watch->next;
    return;
  }
}

static int revents_now(struct watch *watch) {
  struct pollfd entry = {.fd = watch->fd, .events = (short)watch->events};
  return poll(&entry, 1, 0) > 0 ? entry.revents : 0;
}

/* --- on libuv ------------------------------------------------------------------------------------------------------- */

static void on_uv_poll(void *handle, int status, int events);

static int start_uv(struct watch *watch) {
  return uv.poll_start(watch->handle, watch->events != 0 ? UV_READABLE_EVENT : UV_DISCONNECT_EVENT, on_uv_poll);
}

static void on_uv_poll(void *handle, int status, int events) {
  struct watch *watch = watch_of(handle);
  napi_env env = watch->self->env;
  napi_handle_scope scope;
  napi_value callback, global, argument;
  /* libuv stops a handle on POLLERR and does not say what it saw. */
  int revents = status < 0 || events != UV_READABLE_EVENT ? revents_now(watch) : POLLIN;
  if (status < 0) start_uv(watch);
  if (revents == 0 || napi_open_handle_scope(env, &scope) != napi_ok) return;
  if (napi_get_reference_value(env, watch->callback, &callback) == napi_ok && napi_get_global(env, &global) == napi_ok) {
    argument = number_result(env, revents);
    /* Runs the next-tick queue and the microtasks afterwards, which a plain call would not. */
    if (napi_make_callback(env, NULL, global, callback, 1, &argument, NULL) != napi_ok) raise_pending_exception(env);
  }
  napi_close_handle_scope(env, scope);
}

static void on_uv_closed(void *handle) {
  struct watch *watch = watch_of(handle);
  struct environment *self = watch->self;
  free(watch);
  self->watches_closing--;
  environment_maybe_free(self);
}

static int64_t begin_uv(struct watch *watch) {
  void *loop;
  watch->wake_fd = -1;
  if (uv.loop_of(watch->self->env, &loop) != napi_ok) return -ENOTSUP;
  int64_t status = uv.poll_init(loop, watch->handle, watch->fd);
  if (status < 0) return status;
  status = start_uv(watch);
  if (status == 0) return 0;
  /* An initialised handle must be closed by the loop, which frees it. */
  watch->ended = true;
  watch->self->watches_closing++;
  uv.close(watch->handle, on_uv_closed);
  return status;
}

/* --- on a helper thread --------------------------------------------------------------------------------------------- */

static void nudge(struct watch *watch) {
  const uint64_t one = 1;
  while (write(watch->wake_fd, &one, sizeof one) < 0 && errno == EINTR) continue;
}

static void *run_helper(void *data) {
  struct watch *watch = data;
  while (!atomic_load(&watch->quit)) {
    bool rests = atomic_load(&watch->reported) != 0;
    struct pollfd entries[2] = {
      {.fd = watch->wake_fd, .events = POLLIN},
      {.fd = rests ? -1 : watch->fd, .events = (short)atomic_load(&watch->wanted)},
    };
    if (poll(entries, 2, -1) < 0) continue;
    uint64_t count;
    if (entries[0].revents != 0 && read(watch->wake_fd, &count, sizeof count) < 0) continue;
    if (entries[1].revents == 0) continue;
    atomic_store(&watch->reported, entries[1].revents);
    if (napi_call_threadsafe_function(watch->function, NULL, napi_tsfn_nonblocking) != napi_ok) break;
  }
  return NULL;
}

static void join_helper(struct watch *watch) {
  if (watch->joined) return;
  watch->joined = true;
  atomic_store(&watch->quit, true);
  nudge(watch);
  pthread_join(watch->thread, NULL);
  close(watch->wake_fd);
}

/* Comes last, whether the watch was ended or the environment goes. */
static void on_helper_final(napi_env env, void *data, void *hint) {
  (void)env;
  (void)hint;
  struct watch *watch = data;
  join_helper(watch);
  if (!watch->ended) unlink_watch(watch);
  free(watch);
}

static void on_helper_news(napi_env env, napi_value function, void *context, void *data) {
  (void)function;
  (void)data;
  struct watch *watch = context;
  napi_value callback, global, argument;
  if (env == NULL || watch->ended) return;
  /* The state may have changed since; a spurious call would break level triggering the other way. */
  int revents = revents_now(watch);
  if (revents != 0 && napi_get_reference_value(env, watch->callback, &callback) == napi_ok && napi_get_global(env, &global) == napi_ok) {
    argument = number_result(env, revents);
    if (napi_call_function(env, global, callback, 1, &argument, NULL) != napi_ok) raise_pending_exception(env);
  }
  if (watch->ended) return;
  atomic_store(&watch->reported, 0);
  nudge(watch);
}

static int64_t begin_helper(struct watch *watch) {
  napi_env env = watch->self->env;
  napi_value name;
  watch->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (watch->wake_fd < 0) return -errno;
  atomic_store(&watch->wanted, watch->events);
  watch->joined = true;
  if (napi_create_string_utf8(env, "fusewire.watch", NAPI_AUTO_LENGTH, &name) != napi_ok ||
      napi_create_threadsafe_function(env, NULL, NULL, name, 0, 1, watch, on_helper_final, watch, on_helper_news, &watch->function) != napi_ok) {
    close(watch->wake_fd);
    return -ENOMEM;
  }
  sigset_t mask, former;
  sigfillset(&mask);
  pthread_sigmask(SIG_SETMASK, &mask, &former);
  int error = pthread_create(&watch->thread, NULL, run_helper, watch);
  pthread_sigmask(SIG_SETMASK, &former, NULL);
  if (error == 0) {
    watch->joined = false;
    return 0;
  }
  close(watch->wake_fd);
  watch->ended = true;
  napi_release_threadsafe_function(watch->function, napi_tsfn_abort);
  return -error;
}

/* --- both ----------------------------------------------------------------------------------------------------------- */

static void end_watch(struct watch *watch) {
  struct environment *self = watch->self;
  unlink_watch(watch);
  watch->ended = true;
  napi_delete_reference(self->env, watch->callback);
  if (watch->wake_fd < 0) {
    self->watches_closing++;
    uv.close(watch->handle, on_uv_closed);
  } else {
    join_helper(watch);
    napi_release_threadsafe_function(watch->function, napi_tsfn_abort);
  }
}

void watches_end(struct environment *self) {
  while (self->watches != NULL) end_watch(self->watches);
}

/* The second argument of `watch` and `watchFor`: POLLIN, or 0 for errors alone. */
static bool take_events(struct call *call, int index, int *events) {
  if (!take_int(call, index, events)) return false;
  return *events == POLLIN || *events == 0 || fail_argument(call, index, "POLLIN (1) or 0");
}

static napi_value begin_watch(napi_env env, napi_callback_info info) {
  struct call call;
  int fd;
  if (!begin_call(&call, env, info) || !take_int(&call, 0, &fd) || !take_function(&call, 1)) return NULL;
  pthread_once(&uv_once, find_uv);
  struct watch *watch = calloc(1, sizeof *watch + (uv.present ? uv.handle_size(UV_POLL_TYPE) : 0));
  if (watch == NULL) return number_result(env, -ENOMEM);
  watch->self = call.self;
  watch->fd = fd;
  watch->events = POLLIN;
  if (napi_create_reference(env, call.argument[1], 1, &watch->callback) != napi_ok) {
    free(watch);
    return number_result(env, -ENOMEM);
  }
  int64_t status = uv.present ? begin_uv(watch) : begin_helper(watch);
  if (status < 0) {
    napi_delete_reference(env, watch->callback);
    if (!watch->ended) free(watch);
    return number_result(env, status);
  }
  watch->id = call.self->watch_last_id = call.self->watch_last_id % INT_MAX + 1;
  watch->next = call.self->watches;
  call.self->watches = watch;
  return number_result(env, watch->id);
}

static struct watch *find_watch(struct environment *self, int id) {
  struct watch *watch = self->watches;
  while (watch != NULL && watch->id != id) watch = watch->next;
  return watch;
}

static napi_value watch_for(napi_env env, napi_callback_info info) {
  struct call call;
  int id, events;
  if (!begin_call(&call, env, info) || !take_int(&call, 0, &id) || !take_events(&call, 1, &events)) return NULL;
  struct watch *watch = find_watch(call.self, id);
  if (watch == NULL) return number_result(env, -ENOENT);
  watch->events = events;
  if (watch->wake_fd < 0) return number_result(env, start_uv(watch));
  atomic_store(&watch->wanted, events);
  nudge(watch);
  return number_result(env, 0);
}

static napi_value unwatch(napi_env env, napi_callback_info info) {
  struct call call;
  int id;
  if (!begin_call(&call, env, info) || !take_int(&call, 0, &id)) return NULL;
  struct watch *watch = find_watch(call.self, id);
  if (watch != NULL) end_watch(watch);
  return NULL;
}

const struct function_row watch_functions[] = {
  {"watch", begin_watch},
  {"watchFor", watch_for},
  {"unwatch", unwatch},
  {NULL, NULL},
};
