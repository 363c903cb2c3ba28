/*
 * Runs a program in the foreground of a terminal of its own. What is written to standard input is typed into it, and the line
 * `interrupt` stands for Ctrl-C. Says `exit N` or `signal N` when the program ended; what it prints comes out as it is.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

static void run(char **argv, int terminal, const char *name)
{
  setsid();
  int tty = open(name, O_RDWR);
  if (tty < 0 || ioctl(tty, TIOCSCTTY, 0) != 0) _exit(126);
  struct termios settings;
  tcgetattr(tty, &settings);
  settings.c_lflag &= ~(tcflag_t)ECHO;
  tcsetattr(tty, TCSANOW, &settings);
  dup2(tty, 0);
  dup2(tty, 1);
  dup2(tty, 2);
  close(terminal);
  execvp(argv[0], argv);
  _exit(127);
}

static int type(int terminal)
{
  static const char interrupt[] = "interrupt\n";
  char text[4096];
  ssize_t got = read(0, text, sizeof text);
  if (got <= 0) return 0;
  if ((size_t)got == sizeof interrupt - 1 && memcmp(text, interrupt, (size_t)got) == 0) return write(terminal, "\003", 1) == 1;
  return write(terminal, text, (size_t)got) == got;
}

int main(int argc, char **argv)
{
  int terminal = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (argc < 2 || terminal < 0 || grantpt(terminal) != 0 || unlockpt(terminal) != 0) return 2;
  pid_t child = fork();
  if (child == 0) run(argv + 1, terminal, ptsname(terminal));
  struct pollfd fds[2] = { { 0, POLLIN, 0 }, { terminal, POLLIN, 0 } };
  for (;;) {
    poll(fds, 2, -1);
    if (fds[0].revents != 0 && !type(terminal)) fds[0].fd = -1;
    if ((fds[1].revents & POLLIN) != 0) {
      char text[4096];
      ssize_t got = read(terminal, text, sizeof text);
      if (got > 0 && write(1, text, (size_t)got) != got) return 2;
    } else if (fds[1].revents != 0) {
      break;
    }
  }
  int status = 0;
  waitpid(child, &status, 0);
  if (WIFSIGNALED(status)) printf("signal %d\n", WTERMSIG(status));
  else printf("exit %d\n", WEXITSTATUS(status));
  return 0;
}
