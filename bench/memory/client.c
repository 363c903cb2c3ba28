/*
 * Requests by the million, one caller: works in the folder of a mount until the daemon was asked at least COUNT times.
 *
 *   client FOLDER reads COUNT      4 KiB direct reads of reads.dat at scattered offsets: one READ each
 *   client FOLDER names COUNT      files made, written, looked at, renamed and removed under ever new names
 *
 * Prints how many requests it is sure to have caused: calls that the kernel cannot answer by itself. Ends with 1 at the
 * first failure and says which call it was.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK 4096

static int folder;

static long must(long result, const char *what)
{
  if (result >= 0)
    return result;
  fprintf(stderr, "%s: %s\n", what, strerror(errno));
  exit(1);
}

static void *block(void)
{
  void *memory = mmap(NULL, BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED)
    must(-1, "mmap");
  return memory;
}

static long reads(long count)
{
  void *buffer = block();
  int fd = must(openat(folder, "reads.dat", O_RDONLY | O_DIRECT | O_CLOEXEC), "open reads.dat");
  long blocks = must(lseek(fd, 0, SEEK_END), "lseek") / BLOCK;
  unsigned long state = 88172645463325252ul;
  for (long done = 0; done < count; done++) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    if (must(pread(fd, buffer, BLOCK, (off_t)(state % (unsigned long)blocks) * BLOCK), "pread") != BLOCK) {
      fprintf(stderr, "a read was short\n");
      exit(1);
    }
  }
  close(fd);
  return count;
}

/* CREATE, WRITE, FLUSH, RELEASE, RENAME2 or RENAME, LOOKUP of the new name, UNLINK: at least seven. */
#define REQUESTS_PER_NAME 7

static long names(long count)
{
  void *buffer = block();
  long caused = 0;
  for (long turn = 0; caused < count; turn++, caused += REQUESTS_PER_NAME) {
    char first[64], second[64];
    struct stat status;
    snprintf(first, sizeof first, "made-%d-%ld", getpid(), turn);
    snprintf(second, sizeof second, "renamed-%d-%ld", getpid(), turn);
    int fd = must(openat(folder, first, O_RDWR | O_CREAT | O_EXCL | O_DIRECT | O_CLOEXEC, 0644), "create");
    must(pwrite(fd, buffer, BLOCK, 0), "pwrite");
    must(close(fd), "close");
    must(renameat(folder, first, folder, second), "rename");
    must(fstatat(folder, second, &status, 0), "stat");
    must(unlinkat(folder, second, 0), "unlink");
  }
  return caused;
}

int main(int argc, char **argv)
{
  if (argc != 4)
    return 2;
  folder = must(open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC), "open the folder");
  long count = atol(argv[3]);
  printf("%ld\n", strcmp(argv[2], "reads") == 0 ? reads(count) : names(count));
  return 0;
}
