/*
 * Preloaded into a daemon on libfuse, so that it takes or refuses asynchronous direct I/O whatever it was built to do:
 * sets or clears FUSE_ASYNC_DIO in the flags of its INIT reply, the first message that it writes to /dev/fuse.
 *
 *   FUSEWIRE_BENCH_ASYNC_DIO=0|1 FUSEWIRE_BENCH_ASYNC_DIO_MARK=FILE LD_PRELOAD=async-dio.so DAEMON …
 *
 * FILE is made when that was done: in a daemon that does not write by the C library's writev, nothing happens.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

#define FUSE_ASYNC_DIO (1u << 15)

struct out_header {
  uint32_t length;
  int32_t error;
  uint64_t unique;
};

/* fuse_init_out up to the word that matters. */
struct init_out {
  uint32_t major, minor, max_readahead, flags;
};

static int changed;

static int is_fuse_device(int fd)
{
  struct stat status;
  return fstat(fd, &status) == 0 && S_ISCHR(status.st_mode) && status.st_rdev == makedev(10, 229);
}

static int is_init_reply(const struct iovec *parts, int count)
{
  struct init_out init;
  if (count < 2 || parts[0].iov_len != sizeof(struct out_header) || parts[1].iov_len < sizeof init)
    return 0;
  memcpy(&init, parts[1].iov_base, sizeof init);
  return ((const struct out_header *)parts[0].iov_base)->error == 0 && init.major == 7;
}

static void leave_mark(void)
{
  const char *path = getenv("FUSEWIRE_BENCH_ASYNC_DIO_MARK");
  int fd = path == NULL ? -1 : open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
  if (fd >= 0)
    close(fd);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
  static ssize_t (*next)(int, const struct iovec *, int);
  if (next == NULL)
    next = (ssize_t(*)(int, const struct iovec *, int))dlsym(RTLD_NEXT, "writev");
  const char *wish = getenv("FUSEWIRE_BENCH_ASYNC_DIO");
  if (wish == NULL || changed || !is_fuse_device(fd) || !is_init_reply(parts, count))
    return next(fd, parts, count);
  changed = 1;
  struct init_out *init = parts[1].iov_base;
  if (*wish == '0')
    init->flags &= ~FUSE_ASYNC_DIO;
  else
    init->flags |= FUSE_ASYNC_DIO;
  leave_mark();
  return next(fd, parts, count);
}
