/*
 * Load on a folder until something fails: opens, reads, writes, stats, creates and removes files in a loop. Usage:
 *
 *   hammer FOLDER NAME SECONDS
 *
 * Prints `running` after the first whole round, then `error ERRNO OPERATION ROUNDS` at the first failure, or
 * `done ROUNDS` when the time is over. Ends with 0 in both cases: what a failure means is the test's to say.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static long rounds;
/* The folder stays open, so that names are still looked up on the mount when it was detached meanwhile. */
static int folder;

static void failed(const char *operation)
{
  printf("error %d %s %ld\n", errno, operation, rounds);
  exit(0);
}

static void round_of(const char *path, const char *other)
{
  static char buffer[65536];
  struct stat status;
  int fd = openat(folder, path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0)
    failed("open");
  if (pwrite(fd, buffer, sizeof buffer, 0) < 0)
    failed("pwrite");
  if (pread(fd, buffer, sizeof buffer, 0) < 0)
    failed("pread");
  if (fstat(fd, &status) < 0)
    failed("fstat");
  if (close(fd) < 0)
    failed("close");
  if (renameat(folder, path, folder, other) < 0)
    failed("rename");
  if (fstatat(folder, other, &status, 0) < 0)
    failed("stat");
  if (unlinkat(folder, other, 0) < 0)
    failed("unlink");
  rounds++;
}

int main(int argc, char **argv)
{
  char other[4096];
  if (argc != 4)
    return 2;
  setvbuf(stdout, NULL, _IOLBF, 0);
  snprintf(other, sizeof other, "%s.renamed", argv[2]);
  folder = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0)
    failed("open");
  time_t end = time(NULL) + atol(argv[3]);
  while (time(NULL) < end) {
    round_of(argv[2], other);
    if (rounds == 1)
      printf("running\n");
  }
  printf("done %ld\n", rounds);
  return 0;
}
