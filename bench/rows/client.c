/*
 * Callers of a filesystem's metadata, with the time that each call took.
 *
 *   client stat FILE PROCESSES SECONDS     attributes asked of the daemon each time, whatever the kernel remembers
 *   client open FILE PROCESSES SECONDS     open and close
 *   client cat FILE PROCESSES SECONDS      open, read 4 KiB, close
 *   client list FOLDER PROCESSES SECONDS   whole listings; counted are entries
 *   client create|names|unlink FOLDER COUNT   files f0, f1, … made, looked at by name, removed
 *   client walk FOLDER 0                   attributes of everything below, as find(1) asks for them
 *
 * Prints {"operations", "seconds", "p50", "p99"}, the last two in microseconds. Ends with 1 at the first call that fails.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PROCESSES_MAX 64
/* Sixteen buckets for each power of two of nanoseconds. */
#define BUCKETS (61 * 16)

struct result {
  uint64_t operations;
  uint64_t latencies[BUCKETS];
};

static const char *path;
static int target = -1;

static long must(long result, const char *what)
{
  if (result >= 0)
    return result;
  fprintf(stderr, "%s: %s\n", what, strerror(errno));
  exit(1);
}

static uint64_t now(void)
{
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000000u + time.tv_nsec;
}

static unsigned bucket_of(uint64_t nanoseconds)
{
  if (nanoseconds < 16)
    return nanoseconds;
  unsigned exponent = 63 - __builtin_clzll(nanoseconds);
  return (exponent - 3) * 16 + ((nanoseconds >> (exponent - 4)) & 15);
}

/* The middle of a bucket, in nanoseconds. */
static double value_of(unsigned bucket)
{
  if (bucket < 16)
    return bucket;
  return (16.5 + bucket % 16) * (double)(1ull << (bucket / 16 - 1));
}

static double percentile(const struct result *results, int count, double share)
{
  uint64_t all = 0, seen = 0;
  for (int i = 0; i < count; i++)
    for (unsigned b = 0; b < BUCKETS; b++)
      all += results[i].latencies[b];
  for (unsigned b = 0; b < BUCKETS; b++) {
    for (int i = 0; i < count; i++)
      seen += results[i].latencies[b];
    if (seen > 0 && seen >= share * all)
      return value_of(b);
  }
  return 0;
}

static uint64_t one_stat(void)
{
  struct statx status;
  must(statx(target, "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &status), "statx");
  return 1;
}

static uint64_t one_open(void)
{
  close(must(open(path, O_RDONLY | O_CLOEXEC), "open"));
  return 1;
}

static uint64_t one_cat(void)
{
  char bytes[4096];
  int fd = must(open(path, O_RDONLY | O_CLOEXEC), "open");
  must(read(fd, bytes, sizeof bytes), "read");
  close(fd);
  return 1;
}

static uint64_t one_list(void)
{
  static char records[32 << 10];
  uint64_t entries = 0;
  int fd = must(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), "open");
  for (long got; (got = must(syscall(SYS_getdents64, fd, records, sizeof records), "getdents64")) > 0;)
    for (long at = 0; at < got; at += ((struct dirent64 *)(records + at))->d_reclen)
      entries++;
  close(fd);
  return entries;
}

static void for_seconds(uint64_t (*one)(void), struct result *result, double seconds)
{
  uint64_t before = now();
  uint64_t end = before + (uint64_t)(seconds * 1e9);
  while (before < end) {
    uint64_t done = one();
    uint64_t after = now();
    result->operations += done;
    result->latencies[bucket_of(after - before)]++;
    before = after;
  }
}

static void name_of(char *name, size_t bytes, long index)
{
  snprintf(name, bytes, "f%ld", index);
}

static void for_names(const char *what, struct result *result, long count)
{
  char name[32];
  struct stat status;
  uint64_t before = now();
  for (long i = 0; i < count; i++) {
    name_of(name, sizeof name, i);
    if (what[0] == 'c')
      close(must(openat(target, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644), "create"));
    else if (what[0] == 'n')
      must(fstatat(target, name, &status, AT_SYMLINK_NOFOLLOW), "stat");
    else
      must(unlinkat(target, name, 0), "unlink");
    uint64_t after = now();
    result->operations++;
    result->latencies[bucket_of(after - before)]++;
    before = after;
  }
}

static uint64_t walked;

static int step(const char *each, const struct stat *status, int type, struct FTW *state)
{
  (void)status, (void)state;
  if (type == FTW_NS || type == FTW_DNR) {
    fprintf(stderr, "%s cannot be looked at\n", each);
    exit(1);
  }
  walked++;
  return 0;
}

static void print(const struct result *results, int count, double seconds)
{
  uint64_t operations = 0;
  for (int i = 0; i < count; i++)
    operations += results[i].operations;
  printf("{\"operations\": %lu, \"seconds\": %.9f, \"p50\": %.3f, \"p99\": %.3f}\n", operations, seconds,
         percentile(results, count, 0.5) / 1e3, percentile(results, count, 0.99) / 1e3);
}

/* Every process waits until all are there. */
static void in_processes(uint64_t (*one)(void), struct result *results, int processes, double seconds)
{
  int gate[2];
  must(pipe2(gate, O_CLOEXEC), "pipe");
  for (int i = 0; i < processes; i++) {
    pid_t pid = must(fork(), "fork");
    if (pid != 0)
      continue;
    char nothing;
    close(gate[1]);
    must(read(gate[0], &nothing, 1), "wait");
    for_seconds(one, &results[i], seconds);
    exit(0);
  }
  close(gate[0]);
  close(gate[1]);
  for (int i = 0; i < processes; i++) {
    int status;
    must(wait(&status), "wait");
    if (status != 0)
      exit(1);
  }
}

int main(int argc, char **argv)
{
  static const struct {
    const char *name;
    uint64_t (*one)(void);
  } repeated[] = {{"stat", one_stat}, {"open", one_open}, {"cat", one_cat}, {"list", one_list}};
  if (argc < 4)
    return 2;
  const char *what = argv[1];
  path = argv[2];
  long count = atol(argv[3]);
  size_t bytes = PROCESSES_MAX * sizeof(struct result);
  struct result *results = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (results == MAP_FAILED)
    must(-1, "mmap");
  target = must(open(path, O_PATH | O_CLOEXEC), path);
  uint64_t begun = now();
  for (unsigned i = 0; i < sizeof repeated / sizeof repeated[0]; i++) {
    if (strcmp(what, repeated[i].name) != 0)
      continue;
    if (argc < 5 || count < 1 || count > PROCESSES_MAX)
      return 2;
    double seconds = atof(argv[4]);
    in_processes(repeated[i].one, results, count, seconds);
    print(results, count, seconds);
    return 0;
  }
  if (strcmp(what, "walk") == 0) {
    must(nftw(path, step, 64, FTW_PHYS), "nftw");
    results[0].operations = walked;
  } else {
    for_names(what, &results[0], count);
  }
  print(results, 1, (now() - begun) / 1e9);
  return 0;
}
