/*
 * Random operations on one file, each compared with a model of it in memory.
 *
 *     fsx FILE OPERATIONS SEED buffered|direct|aligned|mmap
 *
 * `direct` reads and writes any range with O_DIRECT, `aligned` whole pages alone, which is what most filesystems of disks want.
 *
 * Reads, writes, truncations, mappings, allocations, holes, copies within the file, reopenings and syncs, of random ranges.
 * After every operation the size has to be the model's, and whatever is read its bytes. Ends with 0 and a line of counts, or
 * with 1 and the operations that led to the difference.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SIZE_MAX_BYTES (512 * 1024)
#define LENGTH_MAX_BYTES (96 * 1024)
#define PAGE 4096
#define LOG_LINES 24

enum kind { READ, WRITE, TRUNCATE, MAPREAD, MAPWRITE, ALLOCATE, KEEP, PUNCH, ZERO, COPY, REOPEN, SYNC, SEEK, KINDS };
static const char *const NAMES[KINDS] = {"read", "write", "truncate", "mapread", "mapwrite", "allocate", "keep", "punch", "zero", "copy", "reopen", "sync", "seek"};

static const char *path;
static int fd = -1;
static int openFlags = O_RDWR | O_CLOEXEC;
static int isDirect, isAligned, isMapped;
static int unsupported[KINDS];
static long counts[KINDS];
static unsigned char model[SIZE_MAX_BYTES];
static long size;
static unsigned char *buffer; /* page aligned, as direct I/O may want it */
static uint64_t state;
static char lines[LOG_LINES][160];
static long operation;

static uint64_t next(void) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}

static long below(long limit) { return limit <= 0 ? 0 : (long)(next() % (uint64_t)limit); }

static void note(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(lines[operation % LOG_LINES], sizeof lines[0], format, arguments);
  va_end(arguments);
}

static void die(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  printf("operation %ld: ", operation);
  vprintf(format, arguments);
  va_end(arguments);
  printf("\n");
  for (long at = operation < LOG_LINES ? 0 : operation - LOG_LINES + 1; at <= operation; at++) printf("%6ld %s\n", at, lines[at % LOG_LINES]);
  exit(1);
}

static void compare(const unsigned char *bytes, long offset, long length, const char *what) {
  if (memcmp(bytes, model + offset, (size_t)length) == 0) return;
  long at = 0;
  while (bytes[at] == model[offset + at]) at++;
  die("%s: byte %#lx is %02x instead of %02x", what, offset + at, bytes[at], model[offset + at]);
}

/* A range: often aligned, sometimes a few bytes, sometimes long. */
static void pick(long limit, long *offset, long *length) {
  *length = 1 + below(next() % 4 == 0 ? 64 : LENGTH_MAX_BYTES);
  *offset = below(limit);
  if (next() % 3 == 0) *offset &= ~(long)(PAGE - 1);
  if (next() % 3 == 0) *length = (*length + PAGE - 1) & ~(long)(PAGE - 1);
  if (*offset + *length > limit) *length = limit - *offset;
}

/* A range that is read or written by a call. */
static void pickTransfer(long *offset, long *length) {
  pick(SIZE_MAX_BYTES, offset, length);
  if (!isAligned) return;
  *offset &= ~(long)(PAGE - 1);
  *length = (*length + PAGE - 1) & ~(long)(PAGE - 1);
}

static void grow(long end) {
  if (end <= size) return;
  memset(model + size, 0, (size_t)(end - size));
  size = end;
}

static void doRead(void) {
  long offset, length;
  pickTransfer(&offset, &length);
  note("read %#lx + %#lx of %#lx", offset, length, size);
  long there = offset >= size ? 0 : offset + length > size ? size - offset : length;
  ssize_t got = pread(fd, buffer, (size_t)length, offset);
  if (got != there) die("read answered %zd instead of %ld: %s", got, there, got < 0 ? strerror(errno) : "");
  compare(buffer, offset, there, "read");
}

static void fillBuffer(long length) {
  unsigned char stamp = (unsigned char)(1 + next() % 255);
  for (long at = 0; at < length; at++) buffer[at] = (unsigned char)(stamp + at * 7 + (at >> 8));
}

static void doWrite(void) {
  long offset, length;
  pickTransfer(&offset, &length);
  note("write %#lx + %#lx of %#lx", offset, length, size);
  fillBuffer(length);
  ssize_t put = pwrite(fd, buffer, (size_t)length, offset);
  if (put != length) die("write answered %zd: %s", put, put < 0 ? strerror(errno) : "");
  grow(offset + length);
  memcpy(model + offset, buffer, (size_t)length);
}

static void doTruncate(void) {
  long to = next() % 8 == 0 ? size : below(SIZE_MAX_BYTES);
  note("truncate %#lx to %#lx", size, to);
  if ((next() % 2 ? ftruncate(fd, to) : truncate(path, to)) != 0) die("truncate: %s", strerror(errno));
  if (to > size) grow(to);
  size = to;
}

static void doMap(int writes) {
  if (size == 0) return note("nothing to map");
  long offset, length;
  pick(size, &offset, &length);
  note("map%s %#lx + %#lx of %#lx", writes ? "write" : "read", offset, length, size);
  long start = offset & ~(long)(PAGE - 1);
  long end = (offset + length + PAGE - 1) & ~(long)(PAGE - 1);
  unsigned char *map = mmap(NULL, (size_t)(end - start), writes ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, start);
  if (map == MAP_FAILED) die("mmap: %s", strerror(errno));
  if (writes) {
    fillBuffer(length);
    memcpy(map + (offset - start), buffer, (size_t)length);
    memcpy(model + offset, buffer, (size_t)length);
    if (next() % 2 && msync(map, (size_t)(end - start), MS_SYNC) != 0) die("msync: %s", strerror(errno));
  } else {
    compare(map + (offset - start), offset, length, "map");
  }
  for (long at = size; at < end; at++)
    if (map[at - start] != 0) die("byte %#lx of the map, beyond the end, is %02x", at, map[at - start]);
  munmap(map, (size_t)(end - start));
}

static void doAllocate(enum kind kind) {
  static const int MODES[KINDS] = {[ALLOCATE] = 0, [KEEP] = FALLOC_FL_KEEP_SIZE, [PUNCH] = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, [ZERO] = FALLOC_FL_ZERO_RANGE};
  long offset, length;
  pick(SIZE_MAX_BYTES, &offset, &length);
  int mode = MODES[kind] | (kind == ZERO && next() % 2 ? FALLOC_FL_KEEP_SIZE : 0);
  note("fallocate %#x %#lx + %#lx of %#lx", mode, offset, length, size);
  if (fallocate(fd, mode, offset, length) != 0) {
    if (errno != EOPNOTSUPP || kind != ZERO) die("fallocate: %s", strerror(errno));
    unsupported[kind] = 1;
    return;
  }
  if ((mode & FALLOC_FL_KEEP_SIZE) == 0) grow(offset + length);
  long end = offset + length < size ? offset + length : size;
  if ((kind == PUNCH || kind == ZERO) && end > offset) memset(model + offset, 0, (size_t)(end - offset));
}

static void doCopy(void) {
  long from, to, length;
  if (size == 0) return note("nothing to copy");
  pick(size, &from, &length);
  to = below(SIZE_MAX_BYTES - length + 1);
  if (isAligned) {
    /* Never beyond the end, where the last page may be a part of one. */
    from &= ~(long)(PAGE - 1);
    to &= ~(long)(PAGE - 1);
    length &= ~(long)(PAGE - 1);
    if (length == 0) return note("less than a page to copy");
  }
  note("copy %#lx + %#lx to %#lx of %#lx", from, length, to, size);
  if (from < to + length && to < from + length) return;
  off_t in = from, out = to;
  for (long left = length; left > 0;) {
    ssize_t copied = copy_file_range(fd, &in, fd, &out, (size_t)left, 0);
    if (copied <= 0) die("copy_file_range answered %zd: %s", copied, copied < 0 ? strerror(errno) : "");
    left -= copied;
  }
  grow(to + length);
  memmove(model + to, model + from, (size_t)length);
}

/* What is called a hole must be zero, and the answers must lead through the file. */
static void doSeek(void) {
  long at = below(size);
  note("seek from %#lx of %#lx", at, size);
  if (size == 0) return;
  off_t data = lseek(fd, at, SEEK_DATA);
  if (data < 0 && errno != ENXIO) die("SEEK_DATA: %s", strerror(errno));
  long until = data < 0 ? size : data;
  if (until < at || until > size) die("SEEK_DATA answered %ld", until);
  for (; at < until; at++)
    if (model[at] != 0) die("byte %#lx is in a hole and should be %02x", at, model[at]);
  if (data < 0) return;
  off_t hole = lseek(fd, data, SEEK_HOLE);
  /* Memory that ran short, or drop_caches, may have taken a clean page off an allocated, unwritten place: data turns into a hole. */
  if (hole == data && lseek(fd, data, SEEK_DATA) != data) return;
  if (hole <= data || hole > size) die("SEEK_HOLE from %ld answered %ld", (long)data, (long)hole);
}

static void reopen(int flags) {
  if (fd >= 0 && close(fd) != 0) die("close: %s", strerror(errno));
  fd = open(path, openFlags | flags, 0644);
  if (fd < 0) die("open: %s", strerror(errno));
}

static enum kind choose(void) {
  for (;;) {
    enum kind kind = (enum kind)(next() % KINDS);
    if (next() % 3 == 0) kind = next() % 2 ? READ : WRITE;
    if (isMapped && kind == READ) kind = MAPREAD;
    if (isMapped && kind == WRITE && next() % 4 != 0) kind = MAPWRITE;
    if (isDirect && (kind == MAPREAD || kind == MAPWRITE)) continue;
    if ((kind == REOPEN || kind == SYNC || kind == TRUNCATE) && next() % 2) continue;
    if (!unsupported[kind]) return kind;
  }
}

static void run(enum kind kind) {
  switch (kind) {
    case READ: return doRead();
    case WRITE: return doWrite();
    case TRUNCATE: return doTruncate();
    case MAPREAD: return doMap(0);
    case MAPWRITE: return doMap(1);
    case ALLOCATE: case KEEP: case PUNCH: case ZERO: return doAllocate(kind);
    case COPY: return doCopy();
    case REOPEN: note("reopen"); return reopen(0);
    case SYNC: note("sync"); if (fsync(fd) != 0) die("fsync: %s", strerror(errno)); return;
    case SEEK: return doSeek();
    default: abort();
  }
}

int main(int argc, char **argv) {
  if (argc != 5) return fprintf(stderr, "fsx FILE OPERATIONS SEED buffered|direct|aligned|mmap\n"), 2;
  path = argv[1];
  long operations = atol(argv[2]);
  state = 0x9e3779b97f4a7c15u ^ (strtoull(argv[3], NULL, 0) * 0xbf58476d1ce4e5b9u);
  isAligned = strcmp(argv[4], "aligned") == 0;
  isDirect = isAligned || strcmp(argv[4], "direct") == 0;
  isMapped = strcmp(argv[4], "mmap") == 0;
  if (isDirect) openFlags |= O_DIRECT;
  buffer = aligned_alloc(PAGE, SIZE_MAX_BYTES + PAGE);
  reopen(O_CREAT | O_TRUNC);
  for (operation = 0; operation < operations; operation++) {
    enum kind kind = choose();
    counts[kind]++;
    run(kind);
    struct stat status;
    if ((next() % 2 ? fstat(fd, &status) : stat(path, &status)) != 0) die("stat: %s", strerror(errno));
    if (status.st_size != size) die("the size is %#lx instead of %#lx", (long)status.st_size, size);
  }
  openFlags &= ~O_DIRECT;
  reopen(0);
  if (pread(fd, buffer, SIZE_MAX_BYTES, 0) != size) die("the whole file is not %#lx bytes", size);
  compare(buffer, 0, size, "whole file");
  printf("%ld operations agree:", operations);
  for (int kind = 0; kind < KINDS; kind++) printf(" %s %ld", NAMES[kind], counts[kind]);
  printf("\n");
  return 0;
}
