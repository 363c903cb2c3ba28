/*
 * Random operations on a tree of files, as fsstress does them. Usage:
 *
 *     stress FOLDER SECONDS SEED
 *
 * Makes, fills, cuts, renames, links, lists and removes files, directories, symbolic links and attributes below FOLDER, with
 * names that meet. Errors that follow from that (ENOENT, EEXIST, ENOTEMPTY and the like) are counted; any other one ends it
 * with 1 and a line. Prints the counts of what succeeded and failed.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define NAMES 24
#define DEPTH_MAX 3
#define BYTES_MAX (192 * 1024)

static uint64_t state;
static long done, refused;
static char buffer[BYTES_MAX];

static uint32_t below(uint32_t limit)
{
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return (uint32_t)((state >> 16) % limit);
}

/* A path of up to DEPTH_MAX components; the directories among them may or may not be there. */
static void somePath(char *path, size_t bytes, const char *folder)
{
  int length = snprintf(path, bytes, "%s", folder);
  uint32_t depth = below(DEPTH_MAX);
  for (uint32_t i = 0; i < depth; i++)
    length += snprintf(path + length, bytes - (size_t)length, "/d%u", below(4));
  snprintf(path + length, bytes - (size_t)length, "/%c%u", "fffdl"[below(5)], below(NAMES));
}

static int isExpected(int error)
{
  switch (error) {
  case ENOENT: case EEXIST: case ENOTEMPTY: case ENOTDIR: case EISDIR: case ELOOP: case EINVAL: case EPERM: case EMLINK:
  case ENODATA: case EBUSY: case ENOSPC: case EXDEV: case EOPNOTSUPP: case ENXIO: case EBADF:
    return 1;
  default:
    return 0;
  }
}

static void check(long result, const char *operation, const char *path)
{
  if (result >= 0) {
    done++;
    return;
  }
  refused++;
  if (isExpected(errno))
    return;
  printf("%s %s: %s\n", operation, path, strerror(errno));
  exit(1);
}

static void fill(const char *path)
{
  static const int FLAGS[] = {0, O_TRUNC, O_APPEND, O_EXCL};
  int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | FLAGS[below(4)], 0644);
  check(fd, "open", path);
  if (fd < 0)
    return;
  uint32_t length = below(BYTES_MAX);
  memset(buffer, (int)below(256), length);
  check(pwrite(fd, buffer, length, below(BYTES_MAX)), "pwrite", path);
  check(pread(fd, buffer, length, below(BYTES_MAX)), "pread", path);
  if (below(4) == 0)
    check(ftruncate(fd, below(BYTES_MAX)), "ftruncate", path);
  if (below(4) == 0)
    check(fallocate(fd, (int)below(2), below(BYTES_MAX), 1 + below(BYTES_MAX)), "fallocate", path);
  if (below(8) == 0)
    check(fsync(fd), "fsync", path);
  check(close(fd), "close", path);
}

static void list(const char *path)
{
  DIR *directory = opendir(path);
  check(directory == NULL ? -1 : 0, "opendir", path);
  if (directory == NULL)
    return;
  errno = 0;
  while (readdir(directory) != NULL)
    continue;
  check(errno == 0 ? 0 : -1, "readdir", path);
  closedir(directory);
}

static void step(const char *folder)
{
  char path[512], other[512];
  struct stat status;
  somePath(path, sizeof path, folder);
  somePath(other, sizeof other, folder);
  switch (below(20)) {
  case 0: case 1: case 2: case 3: fill(path); break;
  case 4: check(mkdir(path, 0755), "mkdir", path); break;
  case 5: check(rmdir(path), "rmdir", path); break;
  case 6: case 7: check(unlink(path), "unlink", path); break;
  case 8: case 9: check(rename(path, other), "rename", path); break;
  case 10: check(renameat2(AT_FDCWD, path, AT_FDCWD, other, 1 + below(2)), "renameat2", path); break;
  case 11: check(link(path, other), "link", path); break;
  case 12: check(symlink("f1", path), "symlink", path); break;
  case 13: check(readlink(path, buffer, sizeof buffer), "readlink", path); break;
  case 14: case 15: check(lstat(path, &status), "lstat", path); break;
  case 16: check(chmod(path, 0600 + below(64)), "chmod", path); break;
  case 17: check(setxattr(path, "user.stress", buffer, below(256), 0), "setxattr", path); break;
  case 18: check(getxattr(path, "user.stress", buffer, sizeof buffer), "getxattr", path); break;
  case 19: list(below(2) ? folder : path); break;
  }
}

int main(int argc, char **argv)
{
  if (argc != 4)
    return 64;
  state = strtoull(argv[3], NULL, 10) * 2654435761u + 88172645463325252u;
  time_t end = time(NULL) + atoi(argv[2]);
  char path[512];
  for (int i = 0; i < 4; i++) {
    snprintf(path, sizeof path, "%s/d%d", argv[1], i);
    mkdir(path, 0755);
  }
  while (time(NULL) < end)
    for (int i = 0; i < 64; i++)
      step(argv[1]);
  printf("%ld done, %ld refused\n", done, refused);
  return 0;
}
