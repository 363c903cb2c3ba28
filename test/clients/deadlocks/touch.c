/*
 * A library that, when it is loaded, uses the file that FUSEWIRE_TOUCHED names: opens it, reads it, touches a page of it in
 * memory, closes it, and prints what each came to. A daemon that loads it makes these calls itself.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static sigjmp_buf back;

static void on_bus_error(int signal)
{
    (void)signal;
    siglongjmp(back, 1);
}

static const char *touch(int fd)
{
    struct sigaction bus = { .sa_handler = on_bus_error }, before;
    volatile char *at = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    const char *outcome = "SIGBUS";
    if (at == MAP_FAILED) return strerrorname_np(errno);
    sigaction(SIGBUS, &bus, &before);
    if (sigsetjmp(back, 1) == 0) {
        (void)*at;
        outcome = "0";
    }
    sigaction(SIGBUS, &before, NULL);
    munmap((void *)at, 4096);
    return outcome;
}

__attribute__((constructor)) static void use(void)
{
    const char *path = getenv("FUSEWIRE_TOUCHED");
    char line[256], byte;
    if (!path) return;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    const char *opened = fd < 0 ? strerrorname_np(errno) : "0";
    const char *mapped = touch(fd);
    const char *got = read(fd, &byte, 1) < 0 ? strerrorname_np(errno) : "0";
    const char *closed = close(fd) < 0 ? strerrorname_np(errno) : "0";
    int length = snprintf(line, sizeof line, "touched open=%s mmap=%s read=%s close=%s\n", opened, mapped, got, closed);
    if (write(1, line, length) < 0) _exit(9);
}
