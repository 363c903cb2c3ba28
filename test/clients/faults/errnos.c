/*
 * Performs each operation once for each errno that the daemon is told to answer it with. Usage:
 *
 *     errnos MOUNTPOINT CONTROL [OPERATION]
 *
 * CONTROL is a file that the daemon (errno-daemon.mjs) looks at before each request: a little-endian u32 errno, then the method's
 * name, 24 bytes; 0 for none. At byte 64 it writes how often it answered so. For each call a line on standard output:
 *
 *     OPERATION ERRNO HITS RESULT         RESULT: `ok`, `SIGBUS`, `POLLERR`, or the errno that the caller got
 *
 * ENOSYS comes last, because the kernel remembers it.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#define ERRNO_LAST 133
#define PAGE 4096

/* Besides errnos: what else a call may end with. */
#define ENDED_SIGBUS 100000
#define ENDED_POLLERR 100001

static unsigned char *control;
static int directory;             /* the mount point */
static int file = -1, other = -1; /* opened for the operation before the fault is there */
static unsigned char *page;
static jmp_buf onBus;

static void die(const char *what)
{
  fprintf(stderr, "%s: %s\n", what, strerror(errno));
  exit(1);
}

static void arm(uint32_t number, const char *method)
{
  memset(control, 0, 128);
  strcpy((char *)control + 4, method);
  __atomic_store_n((uint32_t *)(void *)control, number, __ATOMIC_SEQ_CST);
}

static uint32_t hits(void)
{
  return __atomic_load_n((uint32_t *)(void *)(control + 64), __ATOMIC_SEQ_CST);
}

/* --- what is there before ------------------------------------------------------------------------------------------ */

static void nothing(void) {}

static void openAs(int flags)
{
  file = openat(directory, "file", flags | O_CLOEXEC);
  if (file < 0)
    die("open");
}

static void reading(void) { openAs(O_RDWR); }
static void direct(void) { openAs(O_RDWR | O_DIRECT); }
static void listing(void)
{
  file = openat(directory, "dir", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (file < 0)
    die("opendir");
}
static void mapped(void)
{
  reading();
  /* Another page each time: what was read once stays. */
  posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
}
static void two(void)
{
  reading();
  other = openat(directory, "file", O_RDWR | O_CLOEXEC);
}
static void cold(void)
{
  reading();
  posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
}

/* --- the operations ------------------------------------------------------------------------------------------------ */

static struct stat status;

static int doLookup(void) { return fstatat(directory, "file", &status, AT_SYMLINK_NOFOLLOW); }
static int doGetattr(void) { return fstat(file, &status); }
static int doStatx(void)
{
  static struct statx wide;
  return (int)syscall(SYS_statx, file, "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC, STATX_BASIC_STATS | STATX_BTIME, &wide);
}
static int doChmod(void) { return fchmod(file, 0600); }
static int doChown(void) { return fchown(file, 1, 1); }
static int doTruncate(void) { return ftruncate(file, 1 << 20); }
static int doUtimes(void) { return futimens(file, NULL); }
static int doReadlink(void) { return (int)readlinkat(directory, "link", (char *)page, PAGE); }
static int doMknod(void) { return mknodat(directory, "new", S_IFIFO | 0600, 0); }
static int doMkdir(void) { return mkdirat(directory, "new", 0700); }
static int doUnlink(void) { return unlinkat(directory, "old", 0); }
static int doRmdir(void) { return unlinkat(directory, "olddir", AT_REMOVEDIR); }
static int doSymlink(void) { return symlinkat("target", directory, "new"); }
static int doRename(void) { return renameat(directory, "old", directory, "new"); }
static int doRenameFlags(void) { return renameat2(directory, "old", directory, "new", RENAME_NOREPLACE); }
static int doLink(void) { return linkat(directory, "file", directory, "new", 0); }
static int doOpen(void) { return file = openat(directory, "file", O_RDONLY | O_CLOEXEC); }
static int doCreate(void) { return file = openat(directory, "new", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600); }
static int doTmpfile(void) { return file = openat(directory, ".", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600); }
static int doRead(void) { return (int)pread(file, page, PAGE, 0); }
static int doWrite(void) { return (int)pwrite(file, page, PAGE, 0); }
static int doMapped(void)
{
  if (setjmp(onBus) != 0) {
    errno = ENDED_SIGBUS;
    return -1;
  }
  volatile unsigned char *map = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, file, 0);
  if (map == MAP_FAILED)
    die("mmap");
  (void)map[0];
  return munmap((void *)map, PAGE);
}
static int doClose(void)
{
  int result = close(file);
  file = -1;
  return result;
}
static int doFsync(void) { return fsync(file); }
static int doFdatasync(void) { return fdatasync(file); }
static int doOpendir(void) { return file = openat(directory, "dir", O_RDONLY | O_DIRECTORY | O_CLOEXEC); }
static int doGetdents(void) { return (int)syscall(SYS_getdents64, file, page, PAGE); }
static int doGetdentsOn(void)
{
  if (lseek(file, 3, SEEK_SET) < 0)
    die("lseek");
  return doGetdents();
}
static int doStatfs(void)
{
  static struct statfs room;
  return fstatfs(directory, &room);
}
static int doAccess(void) { return faccessat(directory, "file", R_OK, 0); }
static int doSetxattr(void) { return fsetxattr(file, "user.name", "value", 5, 0); }
static int doGetxattr(void) { return (int)fgetxattr(file, "user.name", page, PAGE); }
static int doListxattr(void) { return (int)flistxattr(file, (char *)page, PAGE); }
static int doRemovexattr(void) { return fremovexattr(file, "user.name"); }
static int record(int command)
{
  struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 10};
  return fcntl(file, command, &lock);
}
static int doGetlk(void) { return record(F_GETLK); }
static int doSetlk(void) { return record(F_SETLK); }
static int doSetlkw(void) { return record(F_SETLKW); }
static int doFlock(void) { return flock(file, LOCK_EX | LOCK_NB); }
static int doFlockWait(void) { return flock(file, LOCK_EX); }
static int doFallocate(void) { return fallocate(file, FALLOC_FL_KEEP_SIZE, 0, PAGE); }
static int doLseek(void) { return (int)lseek(file, 0, SEEK_HOLE); }
static int doCopy(void)
{
  loff_t from = 0, to = 65536;
  return (int)copy_file_range(file, &from, other, &to, PAGE, 0);
}
static int doIoctl(void)
{
  long value = 0;
  return ioctl(file, _IOR('s', 1, long), &value);
}
static int doPoll(void)
{
  struct pollfd asked = {.fd = file, .events = POLLIN};
  if (poll(&asked, 1, 0) < 0)
    return -1;
  if ((asked.revents & POLLERR) == 0)
    return 0;
  errno = ENDED_POLLERR;
  return -1;
}
static int doBmap(void)
{
  int block = 0;
  return ioctl(file, FIBMAP, &block);
}
static int doSyncfs(void) { return syncfs(directory); }

struct operation {
  const char *name;   /* of the line */
  const char *method; /* of the filesystem, that fails */
  void (*before)(void);
  int (*call)(void);
};

/* Those that the rest needs for its preparation stand last: ENOSYS is remembered. */
static const struct operation OPERATIONS[] = {
  {"lookup", "lookup", nothing, doLookup},
  {"getattr", "getattr", reading, doGetattr},
  {"statx", "statx", reading, doStatx},
  {"setattr:chmod", "setattr", reading, doChmod},
  {"setattr:chown", "setattr", reading, doChown},
  {"setattr:truncate", "setattr", reading, doTruncate},
  {"setattr:utimes", "setattr", reading, doUtimes},
  {"readlink", "readlink", nothing, doReadlink},
  {"mknod", "mknod", nothing, doMknod},
  {"mkdir", "mkdir", nothing, doMkdir},
  {"unlink", "unlink", nothing, doUnlink},
  {"rmdir", "rmdir", nothing, doRmdir},
  {"symlink", "symlink", nothing, doSymlink},
  {"rename", "rename", nothing, doRename},
  {"rename:flags", "rename", nothing, doRenameFlags},
  {"link", "link", nothing, doLink},
  {"read", "read", cold, doRead},
  {"read:direct", "read", direct, doRead},
  {"read:mmap", "read", mapped, doMapped},
  {"write", "write", reading, doWrite},
  {"write:direct", "write", direct, doWrite},
  {"flush", "flush", reading, doClose},
  {"release", "release", reading, doClose},
  {"fsync", "fsync", reading, doFsync},
  {"fsync:data", "fsync", reading, doFdatasync},
  {"readdirplus", "readdirplus", listing, doGetdents},
  {"readdir", "readdir", listing, doGetdentsOn},
  {"releasedir", "releasedir", listing, doClose},
  {"fsyncdir", "fsyncdir", listing, doFsync},
  {"statfs", "statfs", nothing, doStatfs},
  {"access", "access", nothing, doAccess},
  {"setxattr", "setxattr", reading, doSetxattr},
  {"getxattr", "getxattr", reading, doGetxattr},
  {"listxattr", "listxattr", reading, doListxattr},
  {"removexattr", "removexattr", reading, doRemovexattr},
  {"getlk", "getlk", reading, doGetlk},
  {"setlk", "setlk", reading, doSetlk},
  {"setlk:wait", "setlk", reading, doSetlkw},
  {"setlk:flock", "setlk", reading, doFlock},
  {"setlk:flock-wait", "setlk", reading, doFlockWait},
  {"fallocate", "fallocate", reading, doFallocate},
  {"lseek", "lseek", reading, doLseek},
  {"copyFileRange", "copyFileRange", two, doCopy},
  {"ioctl", "ioctl", reading, doIoctl},
  {"ioctl:directory", "ioctl", listing, doIoctl},
  {"poll", "poll", reading, doPoll},
  {"bmap", "bmap", reading, doBmap},
  {"syncfs", "syncfs", nothing, doSyncfs},
  {"tmpfile", "tmpfile", nothing, doTmpfile},
  {"create", "create", nothing, doCreate},
  {"opendir", "opendir", nothing, doOpendir},
  {"open", "open", nothing, doOpen},
};

static void onSignal(int signal)
{
  (void)signal;
  longjmp(onBus, 1);
}

static void try(const struct operation *operation, uint32_t number, const char *only)
{
  if (only != NULL && strcmp(only, operation->name) != 0)
    return;
  operation->before();
  arm(number, operation->method);
  errno = 0;
  int result = operation->call();
  int error = result < 0 ? errno : 0;
  uint32_t hit = hits();
  arm(0, "");
  if (file >= 0)
    close(file);
  if (other >= 0)
    close(other);
  file = other = -1;
  printf("%s %u %u ", operation->name, number, hit);
  if (error == 0)
    printf("ok\n");
  else if (error == ENDED_SIGBUS)
    printf("SIGBUS\n");
  else if (error == ENDED_POLLERR)
    printf("POLLERR\n");
  else
    printf("%d\n", error);
}

int main(int argc, char **argv)
{
  if (argc != 3 && argc != 4)
    return 64;
  const char *only = argc == 4 ? argv[3] : NULL;
  int fd = open(argv[2], O_RDWR | O_CLOEXEC);
  control = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  directory = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  page = aligned_alloc(PAGE, PAGE);
  if (fd < 0 || control == MAP_FAILED || directory < 0 || page == NULL)
    die("start");
  memset(page, 1, PAGE);
  struct sigaction action = {.sa_handler = onSignal, .sa_flags = SA_NODEFER};
  sigaction(SIGBUS, &action, NULL);
  size_t count = sizeof OPERATIONS / sizeof OPERATIONS[0];
  for (uint32_t number = 0; number <= ERRNO_LAST; number++)
    for (size_t i = 0; number != ENOSYS && i < count; i++)
      try(&OPERATIONS[i], number, only);
  for (size_t i = 0; i < count; i++)
    try(&OPERATIONS[i], ENOSYS, only);
  return 0;
}
