/*
 * A caller of the mount that a test drives line by line: it reads commands from standard input and prints one line for
 * each result, so that the test sees what has returned and what still waits. System calls are made one after the other;
 * a test that wants several callers starts several of these.
 *
 *   open SLOT PATH FLAGS            FLAGS: rdonly|wronly|rdwr and any of ,direct ,append ,creat ,trunc ,sync
 *   close SLOT
 *   pread TAG SLOT OFFSET LENGTH [SHIFT]     SHIFT moves the buffer off its page boundary by that many bytes
 *   pwrite TAG SLOT OFFSET LENGTH [SHIFT]
 *   aread TAG SLOT OFFSET LENGTH [SHIFT]     queues an iocb for the next submit
 *   awrite TAG SLOT OFFSET LENGTH [SHIFT]
 *   submit TAG                      one io_submit of everything queued, repeated until all are taken
 *   events TAG MINIMUM TIMEOUT_MS   io_getevents until MINIMUM events came or the time is over
 *   fstat TAG SLOT
 *   stat TAG PATH
 *   quit
 *
 * Output: MICROSECONDS WORD TAG RESULT [DATA]. RESULT is what the call returned, or the negative errno. DATA is `same`
 * when every byte read is the pattern of its file offset, else `differs@OFFSET`; writes carry the same pattern. A
 * completion prints `event TAG RESULT DATA`, and `events TAG COUNT` follows the last.
 *
 * The raw system calls 206 to 209 are used so that no library stands between the test and the kernel.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SLOTS 16
#define OPERATIONS_MAX 1024
#define TAG_BYTES 32
#define PAGE 4096

struct operation {
  struct iocb iocb;
  char tag[TAG_BYTES];
  unsigned char *buffer;
  size_t mapped;
  int busy;
};

static int slots[SLOTS];
static struct operation operations[OPERATIONS_MAX];
static struct iocb *queued[OPERATIONS_MAX];
static int queued_count;
static aio_context_t context;
static struct timespec start;

static long long micros(void)
{
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (now.tv_sec - start.tv_sec) * 1000000LL + (now.tv_nsec - start.tv_nsec) / 1000;
}

static void fail(const char *message)
{
  fprintf(stderr, "client: %s\n", message);
  exit(2);
}

/* The byte that stands at a file offset: the same function is in test/live/pattern.ts. */
static unsigned char pattern_byte(uint64_t offset)
{
  uint32_t word = (uint32_t)(offset >> 2) * 0x9e3779b1u + 0x7f4a7c15u;
  return (unsigned char)(word >> (8 * (offset & 3)));
}

static void fill(unsigned char *buffer, uint64_t offset, size_t length)
{
  for (size_t i = 0; i < length; i++)
    buffer[i] = pattern_byte(offset + i);
}

static void print_data(const unsigned char *buffer, uint64_t offset, long result)
{
  for (long i = 0; i < result; i++) {
    if (buffer[i] != pattern_byte(offset + (uint64_t)i)) {
      printf(" differs@%lld\n", (long long)(offset + (uint64_t)i));
      return;
    }
  }
  printf(" same\n");
}

static unsigned char *map_buffer(size_t bytes)
{
  void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (memory == MAP_FAILED)
    fail("no memory for a buffer");
  return memory;
}

static int slot_of(const char *word)
{
  int slot = word ? atoi(word) : -1;
  if (slot < 0 || slot >= SLOTS)
    fail("a slot is a number from 0 to 15");
  return slot;
}

static int parse_flags(char *text)
{
  static const struct { const char *name; int bits; } names[] = {
    {"rdonly", O_RDONLY}, {"wronly", O_WRONLY}, {"rdwr", O_RDWR}, {"direct", O_DIRECT},
    {"append", O_APPEND}, {"creat", O_CREAT}, {"trunc", O_TRUNC}, {"sync", O_SYNC},
  };
  int flags = O_CLOEXEC;
  char *rest = NULL;
  for (char *word = strtok_r(text, ",", &rest); word; word = strtok_r(NULL, ",", &rest)) {
    size_t i = 0;
    while (i < sizeof names / sizeof *names && strcmp(names[i].name, word))
      i++;
    if (i == sizeof names / sizeof *names)
      fail("unknown open flag");
    flags |= names[i].bits;
  }
  return flags;
}

struct transfer {
  const char *tag;
  int fd;
  uint64_t offset;
  size_t length;
  size_t shift;
};

static struct transfer parse_transfer(char **words)
{
  if (!words[1] || !words[2] || !words[3] || !words[4])
    fail("a transfer needs TAG SLOT OFFSET LENGTH");
  struct transfer transfer = {
    .tag = words[1],
    .fd = slots[slot_of(words[2])],
    .offset = strtoull(words[3], NULL, 10),
    .length = strtoull(words[4], NULL, 10),
    .shift = words[5] ? strtoull(words[5], NULL, 10) : 0,
  };
  if (transfer.shift >= PAGE)
    fail("a shift stays below one page");
  return transfer;
}

static void run_transfer(char **words, int writing)
{
  struct transfer transfer = parse_transfer(words);
  size_t mapped = transfer.length + 2 * PAGE;
  unsigned char *base = map_buffer(mapped);
  unsigned char *buffer = base + transfer.shift;
  if (writing)
    fill(buffer, transfer.offset, transfer.length);
  ssize_t result = writing ? pwrite(transfer.fd, buffer, transfer.length, (off_t)transfer.offset)
                           : pread(transfer.fd, buffer, transfer.length, (off_t)transfer.offset);
  if (result < 0)
    result = -errno;
  printf("%lld %s %s %zd", micros(), words[0], transfer.tag, result);
  if (writing)
    printf("\n");
  else
    print_data(buffer, transfer.offset, result);
  munmap(base, mapped);
}

static void queue_transfer(char **words, int writing)
{
  struct transfer transfer = parse_transfer(words);
  int index = 0;
  while (index < OPERATIONS_MAX && operations[index].busy)
    index++;
  if (index == OPERATIONS_MAX)
    fail("too many operations at once");
  struct operation *operation = &operations[index];
  memset(operation, 0, sizeof *operation);
  operation->busy = 1;
  snprintf(operation->tag, sizeof operation->tag, "%s", transfer.tag);
  operation->mapped = transfer.length + 2 * PAGE;
  operation->buffer = map_buffer(operation->mapped);
  unsigned char *buffer = operation->buffer + transfer.shift;
  if (writing)
    fill(buffer, transfer.offset, transfer.length);
  operation->iocb.aio_data = (uint64_t)index;
  operation->iocb.aio_lio_opcode = writing ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD;
  operation->iocb.aio_fildes = (uint32_t)transfer.fd;
  operation->iocb.aio_buf = (uint64_t)(uintptr_t)buffer;
  operation->iocb.aio_nbytes = transfer.length;
  operation->iocb.aio_offset = (int64_t)transfer.offset;
  queued[queued_count++] = &operation->iocb;
}

static void submit(const char *tag)
{
  int taken = 0;
  while (taken < queued_count) {
    long result = syscall(SYS_io_submit, context, (long)(queued_count - taken), queued + taken);
    if (result < 0) {
      printf("%lld submit %s %d\n", micros(), tag, -errno);
      queued_count = 0;
      return;
    }
    taken += (int)result;
  }
  queued_count = 0;
  printf("%lld submit %s %d\n", micros(), tag, taken);
}

static void print_event(const struct io_event *event)
{
  struct operation *operation = &operations[event->data];
  printf("%lld event %s %lld", micros(), operation->tag, (long long)event->res);
  if (operation->iocb.aio_lio_opcode == IOCB_CMD_PREAD)
    print_data((unsigned char *)(uintptr_t)operation->iocb.aio_buf, (uint64_t)operation->iocb.aio_offset, (long)event->res);
  else
    printf("\n");
  munmap(operation->buffer, operation->mapped);
  operation->busy = 0;
}

static void collect(const char *tag, long minimum, long timeout_ms)
{
  struct io_event events[64];
  long long end = micros() + timeout_ms * 1000LL;
  long count = 0;
  for (;;) {
    long long left = end - micros();
    if (left < 0)
      left = 0;
    struct timespec wait = {.tv_sec = left / 1000000, .tv_nsec = left % 1000000 * 1000};
    long wanted = count < minimum ? 1 : 0;
    long result = syscall(SYS_io_getevents, context, wanted, 64L, events, &wait);
    if (result < 0) {
      printf("%lld events %s %d\n", micros(), tag, -errno);
      return;
    }
    for (long i = 0; i < result; i++)
      print_event(&events[i]);
    count += result;
    if (result == 0 && (count >= minimum || micros() >= end))
      break;
  }
  printf("%lld events %s %ld\n", micros(), tag, count);
}

static void print_size(const char *word, const char *tag, int result, const struct stat *status)
{
  printf("%lld %s %s %lld\n", micros(), word, tag, result < 0 ? (long long)-errno : (long long)status->st_size);
}

static int run(char **words)
{
  struct stat status;
  const char *word = words[0];
  if (!strcmp(word, "open") && words[3]) {
    int slot = slot_of(words[1]);
    int fd = open(words[2], parse_flags(words[3]), 0666);
    slots[slot] = fd;
    printf("%lld open %s %d\n", micros(), words[1], fd < 0 ? -errno : 0);
  } else if (!strcmp(word, "close")) {
    int result = close(slots[slot_of(words[1])]);
    printf("%lld close %s %d\n", micros(), words[1], result < 0 ? -errno : 0);
  } else if (!strcmp(word, "pread")) {
    run_transfer(words, 0);
  } else if (!strcmp(word, "pwrite")) {
    run_transfer(words, 1);
  } else if (!strcmp(word, "aread")) {
    queue_transfer(words, 0);
  } else if (!strcmp(word, "awrite")) {
    queue_transfer(words, 1);
  } else if (!strcmp(word, "submit") && words[1]) {
    submit(words[1]);
  } else if (!strcmp(word, "events") && words[3]) {
    collect(words[1], atol(words[2]), atol(words[3]));
  } else if (!strcmp(word, "fstat") && words[2]) {
    int result = fstat(slots[slot_of(words[2])], &status);
    print_size(word, words[1], result, &status);
  } else if (!strcmp(word, "stat") && words[2]) {
    int result = stat(words[2], &status);
    print_size(word, words[1], result, &status);
  } else if (!strcmp(word, "quit")) {
    return 0;
  } else {
    fail("unknown command");
  }
  return 1;
}

int main(void)
{
  char line[4096];
  setvbuf(stdout, NULL, _IOLBF, 0);
  clock_gettime(CLOCK_MONOTONIC, &start);
  for (int i = 0; i < SLOTS; i++)
    slots[i] = -1;
  if (syscall(SYS_io_setup, OPERATIONS_MAX, &context) < 0) {
    perror("client: io_setup");
    return 2;
  }
  printf("%lld ready - %d\n", micros(), (int)getpid());
  while (fgets(line, sizeof line, stdin)) {
    char *words[8] = {0};
    char *rest = NULL;
    int count = 0;
    for (char *word = strtok_r(line, " \n", &rest); word && count < 7; word = strtok_r(NULL, " \n", &rest))
      words[count++] = word;
    if (count && !run(words))
      break;
  }
  return 0;
}
