/* Files by descriptor: what node:fs lacks, or offers only through its thread pool. */
#include "addon.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#ifndef AT_EMPTY_PATH
#define AT_EMPTY_PATH 0x1000
#endif
#define STATX_BYTES 256
#define STATFS_FIELDS 11

/* --- opening and closing -------------------------------------------------------------------------------------------- */

static napi_value open_at(napi_env env, napi_callback_info info) {
  struct call call;
  char path[TEXT_BYTES];
  int dirfd;
  uint32_t flags, mode;
  if (!begin_call(&call, env, info) || !take_int(&call, 0, &dirfd) || !take_text(&call, 1, path) || !take_word(&call, 2, &flags) ||
      !take_word(&call, 3, &mode)) {
    return call.outcome;
  }
  return number_result(env, STATUS_RETRIED(openat(dirfd, path, (int)flags | O_CLOEXEC, (mode_t)mode)));
}

/* Never retried: Linux has closed the descriptor even when it reports EINTR. */
static napi_value close_fd(napi_env env, napi_callback_info info) {
  struct call call;
  int fd;
  if (!begin_call(&call, env, info) || !take_int(&call, 0, &fd)) return NULL;
  return number_result(env, STATUS(close(fd)));
}

static napi_value dup_fd(napi_env env, napi_callback_info info) {
  struct call call;
  int fd;
  if (!begin_call(&call, env, info) || !take_int(&call, 0, &fd)) return NULL;
  return number_result(env, STATUS(fcntl(fd, F_DUPFD_CLOEXEC, 0)));
}

/* --- data ----------------------------------------------------------------------------------------------------------- */

static napi_value pread_buffer(napi_env env, napi_callback_info info) {
  struct call call;
  int fd;
  uint8_t *at;
  size_t length;
  int64_t position;
  if (!begin_call(&call, env, info) || !take_int(&call, 0, &fd) || !take_span(&call, 1, &at, &length) || !take_int64(&call, 4, &position)) {
    return NULL;
  }
  return number_result(env, STATUS_RETRIED(pread(fd, at, length, (off_t)position)));
}

static napi_value pwrite_buffer(napi_env env, napi_callback_info info) {
  struct call call;
  int fd;
  uint8_t *at;
  size_t length;
  int64_t position;
  if (!begin_call(&call, env, info) || !take_int(&call, 0, &fd) || !take_span(&call, 1, &at, &length) || !take_int64(&call, 4, &position)) {
    return NULL;
  }
  return number_result(env, STATUS_RETRIED(pwrite(fd, at, length, (off_t)position)));
}

static napi_value copy_range(napi_env env, napi_callback_info info) {
  struct call call;
  int from, to;
  int64_t from_position, to_position, length;
  uint32_t flags;
  if (!begin_call(&call, env, info) || !take_int(&call, 0, &from) || !take_int64(&call, 1, &from_position) || !take_int(&call, 2, &to) ||
      !take_int64(&call, 3, &to_position) || !take_wide(&call, 4, 0, 9007199254740991.0, &length) || !take_word(&call, 5, &flags)) {
    return NULL;
  }
  return number_result(env, STATUS_RETRIED(syscall(SYS_copy_file_range, from, &from_position, to, &to_position, (size_t)length, flags)));
}

static napi_value seek(napi_env env, napi_callback_info info) {
  struct call call;
  int fd, whence;
  int64_t position;
  if (!begin_call(&call, env, info) || !take_int(&call, 0, &fd) || !take_int64(&call, 1, &position) || !take_int(&call, 2, &whence)) return NULL;
  return number_result(env, STATUS(lseek(fd, (off_t)position, whence)));
}

static napi_value seek_words(napi_env env, napi_callback_info info) {
  struct call call;
  int fd;
  uint32_t low, high;
  if (!begin_call(&call, env, info) || !take_int(&call, 0, &fd) || !take_word(&call, 1, &low) || !take_word(&call, 2, &high)) return NULL;
  off_t position = (off_t)((uint64_t)high << 32 | low);
  return number_result(env, lseek(fd, position, SEEK_SET) == (off_t)-1 ? -errno : 0);
}

static napi_value allocate(napi_env env, napi_callback_info info) {
  struct call call;
  int fd, mode;
  int64_t position, length;
  if (!begin_call(&call, env, info) || !take_int(&call, 0, &fd) || !take_int(&call, 1, &mode) || !take_int64(&call, 2, &position) ||
      !take_int64(&call, 3, &length)) {
    return NULL;
  }
  return number_result(env, STATUS_RETRIED(fallocate(fd, mode, (off_t)position, (off_t)length)));
}

static napi_value truncate_fd(napi_env env, napi_callback_info info) {
  struct call call;
  int fd;
  int64_t length;
  if (!begin_call(&call, env, info) || !take_int(&call, 0, &fd) || !take_int64(&call, 1, &length)) return NULL;
  return number_result(env, STATUS_RETRIED(ftruncate(fd, (off_t)length)));
}

static napi_value truncate_path(napi_env env, napi_callback_info info) {
  struct call call;
  char path[TEXT_BYTES];
  int64_t length;
  if (!begin_call(&call, env, info) || !take_text(&call, 0, path) || !take_int64(&call, 1, &length)) return call.outcome;
  return number_result(env, STATUS_RETRIED(truncate(path, (off_t)length)));
}

static napi_value sync_fd(napi_env env, napi_callback_info info) {
  struct call call;
  int fd;
  if (!begin_call(&call, env, info) || !take_int(&call, 0, &fd)) return NULL;
  return number_result(env, STATUS_RETRIED(fsync(fd)));
}

static napi_value sync_data(napi_env env, napi_callback_info info) {
  struct call call;
  int fd;
  if (!begin_call(&call, env, info) || !take_int(&call, 0, &fd)) return NULL;
  return number_result(env, STATUS_RETRIED(fdatasync(fd)));
}

static napi_value sync_filesystem(napi_env env, napi_callback_info info) {
  struct call call;
  int fd;
  if (!begin_call(&call, env, info) || !take_int(&call, 0, &fd)) return NULL;
  return number_result(env, STATUS_RETRIED(syncfs(fd)));
}

/* --- attributes ----------------------------------------------------------------------------------------------------- */

static napi_value stat_extended(napi_env env, napi_callback_info info) {
  struct call call;
  char path[TEXT_BYTES];
  int dirfd, flags;
  uint32_t mask;
  uint8_t *at;
  if (!begin_call(&call, env, info) || !take_int(&call, 0, &dirfd) || !take_text(&call, 1, path) || !take_int(&call, 2, &flags) ||
      !take_word(&call, 3, &mask) || !take_fixed(&call, 4, STATX_BYTES, &at)) {
    return call.outcome;
  }
  return number_result(env, STATUS_RETRIED(syscall(SYS_statx, dirfd, path, flags, mask, at)));
}

static napi_value stat_filesystem(napi_env env, napi_callback_info info) {
  struct call call;
  int fd;
  uint8_t *at;
  struct statfs found;
  if (!begin_call(&call, env, info) || !take_int(&call, 0, &fd) || !take_fixed(&call, 1, STATFS_FIELDS * sizeof(uint64_t), &at)) return NULL;
  int64_t status = STATUS_RETRIED(fstatfs(fd, &found));
  if (status == 0) {
    const uint64_t fields[STATFS_FIELDS] = {
      (uint64_t)found.f_type,  (uint64_t)found.f_bsize, found.f_blocks,
      found.f_bfree,           found.f_bavail,          found.f_files,
      found.f_ffree,           0,                       (uint64_t)found.f_namelen,
      (uint64_t)found.f_frsize, (uint64_t)found.f_flags,
    };
    memcpy(at, fields, sizeof fields);
  }
  return number_result(env, status);
}

static napi_value change_mode_fd(napi_env env, napi_callback_info info) {
  struct call call;
  int fd;
  uint32_t mode;
  if (!begin_call(&call, env, info) || !take_int(&call, 0, &fd) || !take_word(&call, 1, &mode)) return NULL;
  return number_result(env, STATUS_RETRIED(fchmod(fd, (mode_t)mode)));
}

static napi_value change_mode_at(napi_env env, napi_callback_info info) {
  struct call call;
  char path[TEXT_BYTES];
  int dirfd;
  uint32_t mode;
  if (!begin_call(&call, env, info) || !take_int(&call, 0, &dirfd) || !take_text(&call, 1, path) || !take_word(&call, 2, &mode)) {
    return call.outcome;
  }
  return number_result(env, STATUS_RETRIED(fchmodat(dirfd, path, (mode_t)mode, 0)));
}

static napi_value change_owner_at(napi_env env, napi_callback_info info) {
  struct call call;
  char path[TEXT_BYTES];
  int dirfd, flags;
  uint32_t uid, gid;
  if (!begin_call(&call, env, info) || !take_int(&call, 0, &dirfd) || !take_text(&call, 1, path) || !take_word(&call, 2, &uid) ||
      !take_word(&call, 3, &gid) || !take_int(&call, 4, &flags)) {
    return call.outcome;
  }
  return number_result(env, STATUS_RETRIED(fchownat(dirfd, path, (uid_t)uid, (gid_t)gid, flags)));
}

static bool take_time(struct call *call, int index, struct timespec *time) {
  int64_t seconds, nanoseconds;
  if (!take_int64(call, index, &seconds) || !take_wide(call, index + 1, 0, 0x3fffffff, &nanoseconds)) return false;
  time->tv_sec = (time_t)seconds;
  time->tv_nsec = (long)nanoseconds;
  return true;
}

static napi_value set_times_at(napi_env env, napi_callback_info info) {
  struct call call;
  char path[TEXT_BYTES];
  int dirfd, flags;
  struct timespec times[2];
  if (!begin_call(&call, env, info) || !take_int(&call, 0, &dirfd) || !take_text(&call, 1, path) || !take_time(&call, 2, &times[0]) ||
      !take_time(&call, 4, &times[1]) || !take_int(&call, 6, &flags)) {
    return call.outcome;
  }
  int64_t status = STATUS_RETRIED(utimensat(dirfd, path, times, flags));
  if (status == -EINVAL && path[0] == 0 && (flags & AT_EMPTY_PATH)) {
    /* Kernels before 5.8 do not know AT_EMPTY_PATH here; the descriptor's own link does the same. */
    char link[32];
    snprintf(link, sizeof link, "/proc/self/fd/%d", dirfd);
    status = STATUS_RETRIED(utimensat(AT_FDCWD, link, times, 0));
  }
  return number_result(env, status);
}

/* --- locks of the process -------------------------------------------------------------------------------------------- */

/* --- directories ---------------------------------------------------------------------------------------------------- */

static napi_value make_directory_at(napi_env env, napi_callback_info info) {
  struct call call;
  char name[TEXT_BYTES];
  int dirfd;
  uint32_t mode;
  if (!begin_call(&call, env, info) || !take_int(&call, 0, &dirfd) || !take_text(&call, 1, name) || !take_word(&call, 2, &mode)) {
    return call.outcome;
  }
  return number_result(env, STATUS_RETRIED(mkdirat(dirfd, name, (mode_t)mode)));
}

static napi_value make_node_at(napi_env env, napi_callback_info info) {
  struct call call;
  char name[TEXT_BYTES];
  int dirfd;
  uint32_t mode, device_major, device_minor;
  if (!begin_call(&call, env, info) || !take_int(&call, 0, &dirfd) || !take_text(&call, 1, name) || !take_word(&call, 2, &mode) ||
      !take_word(&call, 3, &device_major) || !take_word(&call, 4, &device_minor)) {
    return call.outcome;
  }
  return number_result(env, STATUS_RETRIED(mknodat(dirfd, name, (mode_t)mode, makedev(device_major, device_minor))));
}

static napi_value symlink_at(napi_env env, napi_callback_info info) {
  struct call call;
  char target[TEXT_BYTES], name[TEXT_BYTES];
  int dirfd;
  if (!begin_call(&call, env, info) || !take_text(&call, 0, target) || !take_int(&call, 1, &dirfd) || !take_text(&call, 2, name)) {
    return call.outcome;
  }
  return number_result(env, STATUS_RETRIED(symlinkat(target, dirfd, name)));
}

static napi_value link_at(napi_env env, napi_callback_info info) {
  struct call call;
  char from[TEXT_BYTES], to[TEXT_BYTES];
  int from_dirfd, to_dirfd, flags;
  if (!begin_call(&call, env, info) || !take_int(&call, 0, &from_dirfd) || !take_text(&call, 1, from) || !take_int(&call, 2, &to_dirfd) ||
      !take_text(&call, 3, to) || !take_int(&call, 4, &flags)) {
    return call.outcome;
  }
  return number_result(env, STATUS_RETRIED(linkat(from_dirfd, from, to_dirfd, to, flags)));
}

static napi_value unlink_at(napi_env env, napi_callback_info info) {
  struct call call;
  char name[TEXT_BYTES];
  int dirfd, flags;
  if (!begin_call(&call, env, info) || !take_int(&call, 0, &dirfd) || !take_text(&call, 1, name) || !take_int(&call, 2, &flags)) {
    return call.outcome;
  }
  return number_result(env, STATUS_RETRIED(unlinkat(dirfd, name, flags)));
}

static napi_value rename_at(napi_env env, napi_callback_info info) {
  struct call call;
  char from[TEXT_BYTES], to[TEXT_BYTES];
  int from_dirfd, to_dirfd;
  uint32_t flags;
  if (!begin_call(&call, env, info) || !take_int(&call, 0, &from_dirfd) || !take_text(&call, 1, from) || !take_int(&call, 2, &to_dirfd) ||
      !take_text(&call, 3, to) || !take_word(&call, 4, &flags)) {
    return call.outcome;
  }
  return number_result(env, STATUS_RETRIED(syscall(SYS_renameat2, from_dirfd, from, to_dirfd, to, flags)));
}

static napi_value read_link_at(napi_env env, napi_callback_info info) {
  struct call call;
  char path[TEXT_BYTES];
  int dirfd;
  uint8_t *at;
  size_t length;
  if (!begin_call(&call, env, info) || !take_int(&call, 0, &dirfd) || !take_text(&call, 1, path) || !take_span(&call, 2, &at, &length)) {
    return call.outcome;
  }
  return number_result(env, STATUS_RETRIED(readlinkat(dirfd, path, (char *)at, length)));
}

static napi_value read_entries(napi_env env, napi_callback_info info) {
  struct call call;
  int fd;
  uint8_t *at;
  size_t length;
  if (!begin_call(&call, env, info) || !take_int(&call, 0, &fd) || !take_span(&call, 1, &at, &length)) return NULL;
  return number_result(env, STATUS_RETRIED(syscall(SYS_getdents64, fd, at, length)));
}

/* --- extended attributes -------------------------------------------------------------------------------------------- */

static napi_value set_attribute(napi_env env, napi_callback_info info) {
  struct call call;
  char path[TEXT_BYTES], name[TEXT_BYTES];
  uint8_t *at;
  size_t length;
  int flags;
  if (!begin_call(&call, env, info) || !take_text(&call, 0, path) || !take_text(&call, 1, name) || !take_span(&call, 2, &at, &length) ||
      !take_int(&call, 5, &flags)) {
    return call.outcome;
  }
  return number_result(env, STATUS_RETRIED(setxattr(path, name, at, length, flags)));
}

static napi_value get_attribute(napi_env env, napi_callback_info info) {
  struct call call;
  char path[TEXT_BYTES], name[TEXT_BYTES];
  uint8_t *at;
  size_t length;
  if (!begin_call(&call, env, info) || !take_text(&call, 0, path) || !take_text(&call, 1, name) || !take_span(&call, 2, &at, &length)) {
    return call.outcome;
  }
  return number_result(env, STATUS_RETRIED(getxattr(path, name, at, length)));
}

static napi_value list_attributes(napi_env env, napi_callback_info info) {
  struct call call;
  char path[TEXT_BYTES];
  uint8_t *at;
  size_t length;
  if (!begin_call(&call, env, info) || !take_text(&call, 0, path) || !take_span(&call, 1, &at, &length)) return call.outcome;
  return number_result(env, STATUS_RETRIED(listxattr(path, (char *)at, length)));
}

static napi_value remove_attribute(napi_env env, napi_callback_info info) {
  struct call call;
  char path[TEXT_BYTES], name[TEXT_BYTES];
  if (!begin_call(&call, env, info) || !take_text(&call, 0, path) || !take_text(&call, 1, name)) return call.outcome;
  return number_result(env, STATUS_RETRIED(removexattr(path, name)));
}

const struct function_row file_functions[] = {
  {"openat", open_at},
  {"close", close_fd},
  {"dup", dup_fd},
  {"pread", pread_buffer},
  {"pwrite", pwrite_buffer},
  {"copyFileRange", copy_range},
  {"lseek", seek},
  {"lseekWords", seek_words},
  {"fallocate", allocate},
  {"ftruncate", truncate_fd},
  {"truncate", truncate_path},
  {"fsync", sync_fd},
  {"fdatasync", sync_data},
  {"syncfs", sync_filesystem},
  {"statx", stat_extended},
  {"fstatfs", stat_filesystem},
  {"fchmod", change_mode_fd},
  {"fchmodat", change_mode_at},
  {"fchownat", change_owner_at},
  {"utimensat", set_times_at},
  {"mkdirat", make_directory_at},
  {"mknodat", make_node_at},
  {"symlinkat", symlink_at},
  {"linkat", link_at},
  {"unlinkat", unlink_at},
  {"renameat2", rename_at},
  {"readlinkat", read_link_at},
  {"getdents64", read_entries},
  {"setxattr", set_attribute},
  {"getxattr", get_attribute},
  {"listxattr", list_attributes},
  {"removexattr", remove_attribute},
  {NULL, NULL},
};
