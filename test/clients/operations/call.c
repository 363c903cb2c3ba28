/*
 * Makes the system calls that a test asks for, one a line, and prints what each returned.
 *
 *   TAG NAME ARGUMENT...
 *
 * An argument is a number as C writes it, `s:HEX` a string (its bytes in hexadecimal; a NUL is added), `x:HEX` memory with these
 * bytes that the kernel may change. The answer is `TAG RESULT [HEX...]`: the result or the negative errno, then each `x:` memory
 * as it is afterwards. SIGINT interrupts a call (no SA_RESTART) when the first argument of the program is `interruptible`, and
 * does what it does to any program otherwise.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

struct row {
  const char *name;
  long number;
};

#define CALL(name) { #name, SYS_##name }

/* Calls that exist on every architecture: the `at` and `p` forms. */
static const struct row calls[] = {
  CALL(openat), CALL(close), CALL(dup), CALL(read), CALL(write), CALL(pread64), CALL(pwrite64), CALL(lseek), CALL(fsync),
  CALL(fdatasync), CALL(syncfs), CALL(ftruncate), CALL(fallocate), CALL(copy_file_range), CALL(ioctl), CALL(fcntl), CALL(flock),
  CALL(mkdirat), CALL(mknodat), CALL(unlinkat), CALL(symlinkat), CALL(readlinkat), CALL(linkat), CALL(renameat2), CALL(statx),
  CALL(statfs), CALL(fstatfs), CALL(faccessat), CALL(fchmodat), CALL(fchownat), CALL(utimensat), CALL(setxattr), CALL(getxattr), CALL(listxattr),
  CALL(removexattr), CALL(getdents64), CALL(ppoll), CALL(pselect6), CALL(epoll_create1), CALL(epoll_ctl), CALL(epoll_pwait),
  CALL(inotify_init1), CALL(inotify_add_watch), CALL(chdir), CALL(umask), CALL(clone), CALL(getpid), CALL(truncate),
};

#define ARGUMENTS 6

struct argument {
  uintptr_t value;
  unsigned char *memory;
  size_t length;
  int shown;
};

static void on_interrupt(int signal) { (void)signal; }

static int digit(char c) { return c <= '9' ? c - '0' : (c | 32) - 'a' + 10; }

static void take(struct argument *argument, const char *word)
{
  memset(argument, 0, sizeof *argument);
  if ((word[0] != 's' && word[0] != 'x') || word[1] != ':') {
    argument->value = (uintptr_t)(word[0] == '-' ? (unsigned long long)strtoll(word, NULL, 0) : strtoull(word, NULL, 0));
    return;
  }
  const char *hex = word + 2;
  argument->length = strlen(hex) / 2;
  argument->memory = calloc(argument->length + 1, 1);
  for (size_t i = 0; i < argument->length; i++)
    argument->memory[i] = (unsigned char)(digit(hex[2 * i]) << 4 | digit(hex[2 * i + 1]));
  argument->value = (uintptr_t)argument->memory;
  argument->shown = word[0] == 'x';
}

static long make(const char *name, const struct argument *a)
{
  for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
    if (strcmp(calls[i].name, name) != 0) continue;
    long result = syscall(calls[i].number, a[0].value, a[1].value, a[2].value, a[3].value, a[4].value, a[5].value);
    return result == -1 ? -errno : result;
  }
  fprintf(stderr, "no call %s\n", name);
  exit(2);
}

static void line(char *text)
{
  struct argument arguments[ARGUMENTS];
  memset(arguments, 0, sizeof arguments);
  char *rest = NULL;
  const char *tag = strtok_r(text, " \n", &rest);
  const char *name = strtok_r(NULL, " \n", &rest);
  if (tag == NULL || name == NULL) return;
  int count = 0;
  for (char *word; count < ARGUMENTS && (word = strtok_r(NULL, " \n", &rest)) != NULL; count++) take(&arguments[count], word);
  printf("%s %ld", tag, make(name, arguments));
  for (int i = 0; i < count; i++) {
    if (arguments[i].shown) {
      putchar(' ');
      for (size_t at = 0; at < arguments[i].length; at++) printf("%02x", arguments[i].memory[at]);
      if (arguments[i].length == 0) putchar('-');
    }
    free(arguments[i].memory);
  }
  putchar('\n');
  fflush(stdout);
}

int main(int argc, char **argv)
{
  if (argc > 1 && strcmp(argv[1], "interruptible") == 0) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_interrupt;
    sigaction(SIGINT, &action, NULL);
  }
  puts("ready");
  fflush(stdout);
  char *text = NULL;
  size_t room = 0;
  while (getline(&text, &room, stdin) != -1 || errno == EINTR) {
    if (feof(stdin)) break;
    if (ferror(stdin)) {
      clearerr(stdin);
      errno = 0;
      continue;
    }
    line(text);
    errno = 0;
  }
  free(text);
  return 0;
}
