/*
 * The identity under which this thread touches files. Raw system calls, because the C library's wrappers change every
 * thread of the process.
 */
#include "addon.h"

#include <grp.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#define GROUPS_MAX 65536

/* 32-bit machines keep 16-bit variants under the plain names. */
#ifdef SYS_setfsuid32
#define RAW_SETFSUID SYS_setfsuid32
#define RAW_SETFSGID SYS_setfsgid32
#define RAW_SETGROUPS SYS_setgroups32
#define RAW_GETGROUPS SYS_getgroups32
#else
#define RAW_SETFSUID SYS_setfsuid
#define RAW_SETFSGID SYS_setfsgid
#define RAW_SETGROUPS SYS_setgroups
#define RAW_GETGROUPS SYS_getgroups
#endif

struct identity {
  uid_t uid;
  gid_t gid;
  int group_count;
  gid_t *groups;
};

static pthread_once_t start_once = PTHREAD_ONCE_INIT;
static struct identity at_start;

/* setfsuid and setfsgid report no errors; asking for -1, which is never valid, gives the value in force. */
static uid_t current_fsuid(void) { return (uid_t)syscall(RAW_SETFSUID, (uid_t)-1); }
static gid_t current_fsgid(void) { return (gid_t)syscall(RAW_SETFSGID, (gid_t)-1); }

/* False when there is no memory; otherwise the list is the caller's to free. */
static bool read_identity(struct identity *out) {
  *out = (struct identity){.uid = current_fsuid(), .gid = current_fsgid()};
  out->group_count = (int)syscall(RAW_GETGROUPS, 0, NULL);
  if (out->group_count <= 0) {
    out->group_count = 0;
    return true;
  }
  out->groups = malloc((size_t)out->group_count * sizeof *out->groups);
  if (out->groups == NULL) return false;
  if (syscall(RAW_GETGROUPS, out->group_count, out->groups) == out->group_count) return true;
  free(out->groups);
  return false;
}

static void read_start(void) { read_identity(&at_start); }

void identity_begin(void) { pthread_once(&start_once, read_start); }

static bool same_groups(const struct identity *one, const struct identity *other) {
  return one->group_count == other->group_count &&
         (one->group_count == 0 || memcmp(one->groups, other->groups, (size_t)one->group_count * sizeof *one->groups) == 0);
}

/* Only what differs is set: each change copies the thread's credentials in the kernel, and without CAP_SETGID one may
 * still keep what one has. */
static int64_t change_identity(const struct identity *from, const struct identity *to) {
  if (!same_groups(from, to)) {
    int64_t status = STATUS(syscall(RAW_SETGROUPS, to->group_count, to->groups));
    if (status < 0) return status;
  }
  if (from->gid != to->gid) {
    syscall(RAW_SETFSGID, to->gid);
    if (current_fsgid() != to->gid) return -EPERM;
  }
  if (from->uid == to->uid) return 0;
  syscall(RAW_SETFSUID, to->uid);
  return current_fsuid() == to->uid ? 0 : -EPERM;
}

/* Changes this thread's identity, wholly or not at all. */
static int64_t assume_identity(const struct identity *wanted) {
  struct identity former, halfway;
  if (!read_identity(&former)) return -ENOMEM;
  int64_t status = change_identity(&former, wanted);
  if (status < 0 && read_identity(&halfway)) {
    change_identity(&halfway, &former);
    free(halfway.groups);
  }
  free(former.groups);
  return status;
}

static bool take_groups(struct call *call, int index, struct identity *out) {
  napi_env env = call->env;
  bool is_array = false;
  uint32_t count;
  if (napi_is_array(env, call->argument[index], &is_array) != napi_ok || !is_array ||
      napi_get_array_length(env, call->argument[index], &count) != napi_ok || count > GROUPS_MAX) {
    return fail_argument(call, index, "an array of at most 65,536 group ids");
  }
  out->group_count = (int)count;
  out->groups = count == 0 ? NULL : malloc(count * sizeof *out->groups);
  for (uint32_t at = 0; at < count; at++) {
    napi_value element;
    double id;
    if (out->groups == NULL || napi_get_element(env, call->argument[index], at, &element) != napi_ok ||
        napi_get_value_double(env, element, &id) != napi_ok || !(id >= 0 && id < 4294967295.0)) {
      free(out->groups);
      return fail_argument(call, index, "an array of group ids");
    }
    out->groups[at] = (gid_t)id;
  }
  return true;
}

static napi_value become_user(napi_env env, napi_callback_info info) {
  struct call call;
  struct identity wanted;
  int64_t uid, gid;
  if (!begin_call(&call, env, info) || !take_wide(&call, 0, 0, 4294967294.0, &uid) || !take_wide(&call, 1, 0, 4294967294.0, &gid) ||
      !take_groups(&call, 2, &wanted)) {
    return NULL;
  }
  wanted.uid = (uid_t)uid;
  wanted.gid = (gid_t)gid;
  int64_t status = assume_identity(&wanted);
  free(wanted.groups);
  return number_result(env, status);
}

static napi_value become_self(napi_env env, napi_callback_info info) {
  (void)info;
  return number_result(env, assume_identity(&at_start));
}

static napi_value set_umask(napi_env env, napi_callback_info info) {
  struct call call;
  uint32_t mask;
  if (!begin_call(&call, env, info) || !take_word(&call, 0, &mask)) return NULL;
  return number_result(env, umask((mode_t)mask));
}

static napi_value raise_open_file_limit(napi_env env, napi_callback_info info) {
  struct call call;
  int64_t wanted;
  struct rlimit limit;
  if (!begin_call(&call, env, info) || !take_wide(&call, 0, 0, 9007199254740991.0, &wanted)) return NULL;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return number_result(env, -errno);
  if (limit.rlim_cur < (rlim_t)wanted) {
    struct rlimit raised = {.rlim_cur = (rlim_t)wanted, .rlim_max = limit.rlim_max < (rlim_t)wanted ? (rlim_t)wanted : limit.rlim_max};
    if (setrlimit(RLIMIT_NOFILE, &raised) != 0) {
      raised.rlim_max = limit.rlim_max;
      if (raised.rlim_cur > raised.rlim_max) raised.rlim_cur = raised.rlim_max;
      setrlimit(RLIMIT_NOFILE, &raised);
    }
    getrlimit(RLIMIT_NOFILE, &limit);
  }
  return number_result(env, limit.rlim_cur > (rlim_t)9007199254740991LL ? 9007199254740991LL : (int64_t)limit.rlim_cur);
}

static napi_value process_cpu_micros(napi_env env, napi_callback_info info) {
  (void)info;
  struct timespec used;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return number_result(env, (int64_t)used.tv_sec * 1000000 + used.tv_nsec / 1000);
}

const struct function_row identity_functions[] = {
  {"becomeUser", become_user},
  {"becomeSelf", become_self},
  {"umask", set_umask},
  {"raiseOpenFileLimit", raise_open_file_limit},
  {"processCpuMicros", process_cpu_micros},
  {NULL, NULL},
};
