/*
 * A writer that says what was promised to it. Usage:
 *
 *     writer FOLDER NAME fsync|fdatasync|dsync|direct|msync|rename SEED
 *
 * It writes ranges of FOLDER/NAME, one after the other, and says on standard output
 *
 *     begin SEQUENCE OFFSET LENGTH     before a range is written: from now on it may be there in part
 *     kept SEQUENCE                    when the system has promised that it is kept
 *     named SEQUENCE LENGTH            (rename) FOLDER/NAME-SEQUENCE was written, synced, renamed to its name and the folder synced
 *
 * until a call fails. Byte i of a file, written by a range of sequence s, is pattern(s, i). The file has FILE_BYTES from the
 * beginning; the bytes of sequence 0 are zeros.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define FILE_BYTES (1 << 20)
#define LENGTH_MAX (96 * 1024)
#define PAGE 4096

static uint64_t state;

static uint32_t below(uint32_t limit)
{
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return (uint32_t)(state % limit);
}

static unsigned char pattern(uint32_t sequence, uint32_t i)
{
  return (unsigned char)(sequence * 167 + i * 31 + (i >> 8) * 17 + (i >> 16) * 101);
}

/* One write, so that lines are never torn. */
static void say(const char *text, long a, long b, long c, int numbers)
{
  char line[96];
  int length = numbers == 1 ? snprintf(line, sizeof line, "%s %ld\n", text, a)
             : numbers == 2 ? snprintf(line, sizeof line, "%s %ld %ld\n", text, a, b)
                            : snprintf(line, sizeof line, "%s %ld %ld %ld\n", text, a, b, c);
  if (write(1, line, (size_t)length) != length)
    _exit(2);
}

static void failed(void)
{
  say("failed", errno, 0, 0, 1);
  _exit(0);
}

static void onFault(int signal)
{
  (void)signal;
  /* A page of the mapping that the daemon no longer gives. */
  _exit(0);
}

static void writeAll(int fd, const unsigned char *bytes, size_t length, off_t offset)
{
  while (length > 0) {
    ssize_t count = pwrite(fd, bytes, length, offset);
    if (count < 0)
      failed();
    bytes += count;
    offset += count;
    length -= (size_t)count;
  }
}

static void renames(const char *folder, const char *name, unsigned char *buffer)
{
  char temporary[512], final[512];
  int directory = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0)
    failed();
  for (uint32_t sequence = 1;; sequence++) {
    uint32_t length = 1 + below(LENGTH_MAX);
    snprintf(temporary, sizeof temporary, "%s.tmp", name);
    snprintf(final, sizeof final, "%s-%u", name, sequence);
    int fd = openat(directory, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0)
      failed();
    for (uint32_t i = 0; i < length; i++)
      buffer[i] = pattern(sequence, i);
    writeAll(fd, buffer, length, 0);
    if (fsync(fd) < 0 || close(fd) < 0 || renameat(directory, temporary, directory, final) < 0 || fsync(directory) < 0)
      failed();
    say("named", sequence, length, 0, 2);
  }
}

int main(int argc, char **argv)
{
  if (argc != 5)
    return 64;
  const char *how = argv[3];
  state = strtoull(argv[4], NULL, 10) * 2654435761u + 88172645463325252u;
  unsigned char *buffer = aligned_alloc(PAGE, LENGTH_MAX + PAGE);
  if (buffer == NULL)
    return 71;
  if (strcmp(how, "rename") == 0)
    renames(argv[1], argv[2], buffer);
  char path[512];
  snprintf(path, sizeof path, "%s/%s", argv[1], argv[2]);
  int isDirect = strcmp(how, "direct") == 0;
  int flags = strcmp(how, "dsync") == 0 ? O_DSYNC : isDirect ? O_DIRECT | O_DSYNC : 0;
  int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | flags, 0644);
  if (fd < 0 || ftruncate(fd, FILE_BYTES) < 0 || fsync(fd) < 0)
    failed();
  unsigned char *map = NULL;
  if (strcmp(how, "msync") == 0) {
    signal(SIGBUS, onFault);
    map = mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
      failed();
  }
  for (uint32_t sequence = 1;; sequence++) {
    uint32_t length = 1 + below(LENGTH_MAX);
    uint32_t offset = below(FILE_BYTES - LENGTH_MAX);
    if (isDirect) {
      length = (length + PAGE - 1) / PAGE * PAGE;
      offset = offset / PAGE * PAGE;
    }
    for (uint32_t i = 0; i < length; i++)
      buffer[i] = pattern(sequence, offset + i);
    say("begin", sequence, offset, length, 3);
    if (map != NULL) {
      memcpy(map + offset, buffer, length);
      uint32_t start = offset / PAGE * PAGE;
      if (msync(map + start, offset + length - start, MS_SYNC) < 0)
        failed();
    } else {
      writeAll(fd, buffer, length, offset);
      if (strcmp(how, "fsync") == 0 && fsync(fd) < 0)
        failed();
      if (strcmp(how, "fdatasync") == 0 && fdatasync(fd) < 0)
        failed();
    }
    say("kept", sequence, 0, 0, 1);
  }
}
