/*
 * A caller that makes one system call after the other and prints, a line each, what came of it.
 *
 *     steps 'open 0 /mnt/f rw,creat 644' 'write 0 0 4096 x' 'stat /mnt/f'
 *
 * Each argument is a step: a verb and its words. A line is the verb and a result: text, a number, or the name of an errno.
 * `wait` prints its line, then goes on when a line arrives on standard input. Slots 0 to 15 hold descriptors.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/mount.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#define WORDS 8
#define SLOTS 16
#ifndef AT_HANDLE_FID
#define AT_HANDLE_FID 0x200
#endif

static int slots[SLOTS];
static char *words[WORDS];
static char text[65536];

static int slot(int word) { return slots[atoi(words[word]) % SLOTS]; }
static long number(int word) { return words[word] ? strtol(words[word], NULL, 0) : 0; }
static long octal(int word) { return words[word] ? strtol(words[word], NULL, 8) : 0; }

static void say(long result)
{
    if (result < 0)
        printf("%s %s\n", words[0], strerrorname_np(errno));
    else
        printf("%s %ld\n", words[0], result);
}

static void say_text(const char *what) { printf("%s %s\n", words[0], what); }

static int flags_of(const char *names)
{
    static const struct { const char *name; int flag; } table[] = {
        { "r", O_RDONLY }, { "w", O_WRONLY }, { "rw", O_RDWR }, { "creat", O_CREAT }, { "trunc", O_TRUNC },
        { "excl", O_EXCL }, { "append", O_APPEND }, { "direct", O_DIRECT }, { "dir", O_DIRECTORY }, { "path", O_PATH },
    };
    char copy[128];
    int flags = O_CLOEXEC;
    snprintf(copy, sizeof copy, "%s", names);
    for (char *rest = copy, *name; (name = strsep(&rest, ","));)
        for (size_t row = 0; row < sizeof table / sizeof *table; row++)
            if (strcmp(name, table[row].name) == 0) flags |= table[row].flag;
    return flags;
}

static void keep(int word, int fd)
{
    if (fd >= 0) slots[atoi(words[word]) % SLOTS] = fd;
    say(fd < 0 ? -1 : 0);
}

static void say_stat(int result, const struct stat *at)
{
    if (result < 0) { say(-1); return; }
    snprintf(text, sizeof text, "%o %u:%u %lld ino=%llu", at->st_mode, at->st_uid, at->st_gid, (long long)at->st_size,
             (unsigned long long)at->st_ino);
    say_text(text);
}

static size_t unhex(const char *hex, unsigned char *out)
{
    size_t length = strlen(hex) / 2;
    for (size_t at = 0; at < length; at++) sscanf(hex + 2 * at, "%2hhx", &out[at]);
    return length;
}

static char *hex(char *out, const unsigned char *bytes, size_t length)
{
    *out = 0;
    for (size_t at = 0; at < length; at++) sprintf(out + 2 * at, "%02x", bytes[at]);
    return out;
}

static void *memory(size_t length)
{
    void *found = NULL;
    if (posix_memalign(&found, 1 << 21, length ? length : 1) != 0) exit(9);
    return found;
}

/* read SLOT OFFSET LENGTH: how many bytes came, and the first of them. */
static void step_read(void)
{
    char *bytes = memory(number(3));
    ssize_t got = pread(slot(1), bytes, number(3), number(2));
    if (got < 0) { say(-1); return; }
    snprintf(text, sizeof text, "%zd %.*s", got, got < 12 ? (int)got : 12, bytes);
    say_text(text);
    free(bytes);
}

/* write SLOT OFFSET LENGTH CHARACTER; offset -1: at the position. */
static void step_write(void)
{
    char *bytes = memory(number(3));
    memset(bytes, words[4] ? words[4][0] : 'x', number(3));
    say(number(2) < 0 ? write(slot(1), bytes, number(3)) : pwrite(slot(1), bytes, number(3), number(2)));
    free(bytes);
}

/* mmap SLOT LENGTH shared|private CHARACTER: maps, reads a byte, writes one, gives it to the file. */
static void step_mmap(void)
{
    int shared = strcmp(words[3], "shared") == 0;
    char *at = mmap(NULL, number(2), PROT_READ | PROT_WRITE, shared ? MAP_SHARED : MAP_PRIVATE, slot(1), 0);
    if (at == MAP_FAILED) { say(-1); return; }
    snprintf(text, sizeof text, "saw %c", at[0]);
    at[0] = words[4][0];
    if (shared && msync(at, number(2), MS_SYNC) < 0) { say(-1); return; }
    munmap(at, number(2));
    say_text(text);
}

static void step_lock(void)
{
    struct flock lock = { .l_whence = SEEK_SET, .l_start = number(3), .l_len = number(4) };
    int get = strcmp(words[2], "get") == 0;
    lock.l_type = strcmp(words[2], "un") == 0 ? F_UNLCK : strcmp(words[2], "rd") == 0 ? F_RDLCK : F_WRLCK;
    if (fcntl(slot(1), get ? F_GETLK : F_SETLK, &lock) < 0) say(-1);
    else say_text(!get ? "0" : lock.l_type == F_UNLCK ? "free" : "held");
}

static void step_flock(void)
{
    int how = strcmp(words[2], "un") == 0 ? LOCK_UN : strcmp(words[2], "sh") == 0 ? LOCK_SH : LOCK_EX;
    say(flock(slot(1), how | LOCK_NB));
}

static void step_list(void)
{
    DIR *directory = opendir(words[1]);
    if (!directory) { say(-1); return; }
    long count = 0;
    errno = 0;
    while (readdir(directory)) count++;
    say(errno ? -1 : count);
    closedir(directory);
}

struct handle { struct file_handle head; unsigned char bytes[MAX_HANDLE_SZ]; };

/* handle PATH [fid]: the type and the bytes of a file handle. */
static void step_handle(void)
{
    struct handle handle = { .head.handle_bytes = MAX_HANDLE_SZ };
    int mount, flags = words[2] ? AT_HANDLE_FID : 0;
    if (name_to_handle_at(AT_FDCWD, words[1], &handle.head, &mount, flags) < 0) { say(-1); return; }
    int length = sprintf(text, "%d:", handle.head.handle_type);
    hex(text + length, handle.head.f_handle, handle.head.handle_bytes);
    say_text(text);
}

/* byhandle SLOT MOUNT TYPE:HEX FLAGS */
static void step_byhandle(void)
{
    struct handle handle = { 0 };
    int mount = open(words[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (mount < 0) { say(-1); return; }
    char *bytes = strchr(words[3], ':') + 1;
    handle.head.handle_type = atoi(words[3]);
    handle.head.handle_bytes = unhex(bytes, handle.head.f_handle);
    int fd = open_by_handle_at(mount, &handle.head, flags_of(words[4]));
    int error = errno;
    close(mount);
    errno = error;
    keep(1, fd);
}

static void put_file(const char *path, const char *line)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, line, strlen(line)) < 0) exit(8);
    close(fd);
}

static int sleeper(void *unused) { (void)unused; for (;;) pause(); return 0; }

/* idmap SLOT PATH ON_DISK SEEN COUNT: a detached copy of the mount on which the ids on disk are seen as others. */
static void step_idmap(void)
{
    static char stack[65536];
    char path[64], line[64];
    int tree = syscall(SYS_open_tree, AT_FDCWD, words[2], OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (tree < 0) { say(-1); return; }
    pid_t child = clone(sleeper, stack + sizeof stack, CLONE_NEWUSER | SIGCHLD, NULL);
    if (child < 0) { say(-1); return; }
    snprintf(line, sizeof line, "%s %s %s", words[3], words[4], words[5]);
    snprintf(path, sizeof path, "/proc/%d/uid_map", child);
    put_file(path, line);
    snprintf(path, sizeof path, "/proc/%d/gid_map", child);
    put_file(path, line);
    snprintf(path, sizeof path, "/proc/%d/ns/user", child);
    int space = open(path, O_RDONLY | O_CLOEXEC);
    struct mount_attr attr = { .attr_set = MOUNT_ATTR_IDMAP, .userns_fd = space };
    int result = syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attr, sizeof attr);
    int error = errno;
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    close(space);
    errno = error;
    keep(1, result < 0 ? -1 : tree);
}

/* become UID GID [GROUP,GROUP…] */
static void step_become(void)
{
    gid_t groups[16];
    size_t count = 0;
    char *rest = words[3];
    for (char *name; rest && (name = strsep(&rest, ","));) groups[count++] = atoi(name);
    if (setgroups(count, groups) < 0 || setresgid(number(2), number(2), number(2)) < 0) say(-1);
    else say(setresuid(number(1), number(1), number(1)));
}

static void step_wait(void)
{
    say_text("here");
    fflush(stdout);
    if (!fgets(text, sizeof text, stdin)) exit(7);
}

static void step_link(void)
{
    char target[4096];
    ssize_t length = strcmp(words[0], "path") == 0 ? (sprintf(text, "/proc/self/fd/%d", slot(1)), readlink(text, target, 4095))
                                                   : readlink(words[1], target, 4095);
    if (length < 0) { say(-1); return; }
    target[length] = 0;
    say_text(target);
}

static void step_getxattr(void)
{
    unsigned char value[4096];
    ssize_t length = getxattr(words[1], words[2], value, sizeof value);
    if (length < 0) say(-1);
    else say_text(hex(text, value, length));
}

static void step_setxattr(void)
{
    unsigned char value[4096];
    say(setxattr(words[1], words[2], value, unhex(words[3], value), 0));
}

static void step_stat(void)
{
    struct stat at;
    if (strcmp(words[0], "fstat") == 0) say_stat(fstat(slot(1), &at), &at);
    else if (strcmp(words[0], "statat") == 0) say_stat(fstatat(slot(1), words[2], &at, AT_SYMLINK_NOFOLLOW), &at);
    else say_stat(lstat(words[1], &at), &at);
}

static void step_open(void)
{
    int isAt = strcmp(words[0], "openat") == 0;
    keep(1, openat(isAt ? slot(2) : AT_FDCWD, words[2 + isAt], flags_of(words[3 + isAt]), (mode_t)octal(4 + isAt)));
}

static void step_umask(void) { umask(octal(1)); say(0); }
static void step_close(void) { say(close(slot(1))); }
static void step_fsync(void) { say(fsync(slot(1))); }
static void step_ftruncate(void) { say(ftruncate(slot(1), number(2))); }
static void step_truncate(void) { say(truncate(words[1], number(2))); }
static void step_fallocate(void) { say(fallocate(slot(1), number(2), number(3), number(4))); }
static void step_mkdir(void) { say(mkdir(words[1], octal(2))); }
static void step_mkdirat(void) { say(mkdirat(slot(1), words[2], octal(3))); }
static void step_symlink(void) { say(symlink(words[1], words[2])); }
static void step_unlink(void) { say(unlink(words[1])); }
static void step_rename(void) { say(rename(words[1], words[2])); }
static void step_chmod(void) { say(chmod(words[1], octal(2))); }
static void step_chown(void) { say(chown(words[1], number(2), number(3))); }
static void step_chdir(void) { say(chdir(words[1])); }
static void step_access(void) { say(access(words[1], (int)number(2))); }
static void step_removexattr(void) { say(removexattr(words[1], words[2])); }
static void step_ioctl(void) { int value = 0; say(ioctl(slot(1), number(2), &value)); }

static const struct { const char *verb; int least; void (*run)(void); } verbs[] = {
    { "open", 3, step_open }, { "openat", 4, step_open }, { "close", 1, step_close }, { "read", 3, step_read },
    { "write", 4, step_write }, { "fsync", 1, step_fsync }, { "ftruncate", 2, step_ftruncate },
    { "truncate", 2, step_truncate }, { "fallocate", 4, step_fallocate }, { "mmap", 4, step_mmap }, { "stat", 1, step_stat },
    { "fstat", 1, step_stat }, { "statat", 2, step_stat }, { "mkdir", 2, step_mkdir }, { "mkdirat", 3, step_mkdirat },
    { "symlink", 2, step_symlink }, { "unlink", 1, step_unlink }, { "rename", 2, step_rename }, { "chmod", 2, step_chmod },
    { "chown", 3, step_chown }, { "umask", 1, step_umask }, { "setxattr", 3, step_setxattr }, { "getxattr", 2, step_getxattr },
    { "removexattr", 2, step_removexattr }, { "lock", 4, step_lock }, { "flock", 2, step_flock }, { "list", 1, step_list },
    { "ioctl", 2, step_ioctl }, { "readlink", 1, step_link }, { "path", 1, step_link }, { "handle", 1, step_handle },
    { "byhandle", 4, step_byhandle }, { "idmap", 5, step_idmap }, { "become", 2, step_become }, { "chdir", 1, step_chdir },
    { "access", 2, step_access }, { "wait", 0, step_wait },
};

int main(int count, char **arguments)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int at = 0; at < SLOTS; at++) slots[at] = -1;
    for (int at = 1; at < count; at++) {
        memset(words, 0, sizeof words);
        size_t row = 0;
        int found = 0;
        char *rest = arguments[at];
        for (char *word; found < WORDS && (word = strsep(&rest, " "));) words[found++] = word;
        while (row < sizeof verbs / sizeof *verbs && strcmp(verbs[row].verb, words[0]) != 0) row++;
        if (row == sizeof verbs / sizeof *verbs || found <= verbs[row].least) {
            fprintf(stderr, "no such step: %s\n", words[0]);
            return 2;
        }
        verbs[row].run();
    }
    return 0;
}
