"""Runs one section of system calls in a folder and prints, a line each, what came of them.

    differential.py FOLDER SECTION

The same lines have to come out of the host's own folder and of a mount that shows it. So nothing is printed that differs
between two folders anyway: inode and device numbers and the clock show only through comparisons.
"""
import ctypes
import errno
import fcntl
import mmap
import os
import select
import signal
import socket
import stat
import struct
import subprocess
import sys
import time

libc = ctypes.CDLL(None, use_errno=True)
libc.readdir.restype = ctypes.c_void_p
libc.opendir.restype = ctypes.c_void_p
libc.opendir.argtypes = [ctypes.c_char_p]
libc.readdir.argtypes = [ctypes.c_void_p]
libc.telldir.restype = ctypes.c_long
libc.telldir.argtypes = [ctypes.c_void_p]
libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
libc.rewinddir.argtypes = [ctypes.c_void_p]
libc.closedir.argtypes = [ctypes.c_void_p]
libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_longlong, ctypes.c_longlong]

AT_FDCWD = -100
NOREPLACE, EXCHANGE, WHITEOUT = 1, 2, 4
SEEK_DATA, SEEK_HOLE = 3, 4
CREATE = os.O_RDWR | os.O_CREAT


def show(value):
    if isinstance(value, bytes) and len(value) > 60:
        return f"{len(value)} bytes, sum {sum(value)}"
    return repr(value)


def t(what, call):
    """Makes one call and prints its outcome."""
    try:
        outcome = show(call())
    except OSError as error:
        outcome = errno.errorcode.get(error.errno, str(error.errno))
    except ValueError as error:
        outcome = f"ValueError {error}"
    print(f"{what}: {outcome}", flush=True)


def c(result):
    """The result of a C call, or its errno as an OSError."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def renameat2(old, new, flags):
    return c(libc.renameat2(AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), flags))


def write(name, data=b"", mode=0o644):
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    os.write(fd, data)
    os.close(fd)


def read(name):
    with open(name, "rb") as file:
        return file.read()


def st(name, follow=False):
    s = os.stat(name, follow_symlinks=follow)
    size = s.st_size if not stat.S_ISDIR(s.st_mode) else "-"
    rdev = f" rdev {os.major(s.st_rdev)}:{os.minor(s.st_rdev)}" if stat.S_ISCHR(s.st_mode) or stat.S_ISBLK(s.st_mode) else ""
    return f"{oct(s.st_mode)} nlink {s.st_nlink} {s.st_uid}:{s.st_gid} size {size}{rdev}"


def times(name):
    s = os.lstat(name)
    return s.st_atime_ns, s.st_mtime_ns


def child(call):
    """Runs `call` in another process; answers what it prints as its value."""
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(r)
        try:
            outcome = repr(call())
        except OSError as error:
            outcome = errno.errorcode.get(error.errno, str(error.errno))
        except BaseException as error:  # a child never goes on as the parent
            outcome = repr(error)
        os.write(w, outcome.encode())
        os._exit(0)
    os.close(w)
    outcome = b""
    while chunk := os.read(r, 4096):
        outcome += chunk
    os.close(r)
    os.waitpid(pid, 0)
    return outcome.decode()


# --- sections ---------------------------------------------------------------------------------------------------------


def names():
    t("mkdir", lambda: os.mkdir("d"))
    t("mkdir again", lambda: os.mkdir("d"))
    t("mkdir below nothing", lambda: os.mkdir("no/d"))
    write("f", b"hello")
    t("mkdir below file", lambda: os.mkdir("f/d"))
    t("open absent", lambda: os.open("absent", os.O_RDONLY))
    t("open dir for writing", lambda: os.open("d", os.O_WRONLY))
    t("create over dir", lambda: os.open("d", os.O_WRONLY | os.O_CREAT))
    t("exclusive", lambda: os.open("f", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    t("O_DIRECTORY", lambda: os.open("f", os.O_DIRECTORY))
    os.symlink("f", "l")
    os.symlink("absent", "dangling")
    os.symlink("loop", "loop")
    t("O_NOFOLLOW", lambda: os.open("l", os.O_NOFOLLOW))
    t("loop", lambda: os.open("loop", os.O_RDONLY))
    t("dangling exclusive", lambda: os.open("dangling", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    t("create through dangling", lambda: os.close(os.open("dangling", os.O_CREAT | os.O_WRONLY)))
    t("made it", lambda: st("absent"))
    t("readlink", lambda: os.readlink("dangling"))
    t("readlink of a file", lambda: os.readlink("f"))
    t("unlink dir", lambda: os.unlink("d"))
    t("rmdir file", lambda: os.rmdir("f"))
    write("d/x")
    t("rmdir full", lambda: os.rmdir("d"))
    t("rmdir dot", lambda: os.rmdir("d/."))
    t("link", lambda: os.link("f", "f2"))
    t("linked", lambda: (st("f"), os.stat("f").st_ino == os.stat("f2").st_ino))
    t("link dir", lambda: os.link("d", "d2"))
    t("link over", lambda: os.link("f", "f2"))
    t("link symlink", lambda: os.link("l", "l2", follow_symlinks=False))
    t("linked symlink", lambda: (st("l2"), os.readlink("l2"), os.lstat("l").st_ino == os.lstat("l2").st_ino))
    t("unlink one", lambda: os.unlink("f"))
    t("the other", lambda: (st("f2"), read("f2")))
    for length in (254, 255, 256, 1024, 4000):
        t(f"name of {length}", lambda: write("n" * length))
        t(f"mkdir of {length}", lambda: os.mkdir("m" * length))
        t(f"lookup of {length}", lambda: os.stat("q" * length).st_size)
    t("rename to 256", lambda: os.rename("f2", "r" * 256))
    for name in (b"\xff\xfe", b"new\nline", b"tab\t", b" ", b"\xe2\x28\xa1", b"\x01", b"back\\slash", b"...", b"-rf", "ünïcödé".encode()):
        t(f"name {name!r}", lambda: write(name, name))
        t(f"again {name!r}", lambda: read(name))
    t("long symlink", lambda: os.symlink("t" * 4000, "long"))
    t("read long symlink", lambda: len(os.readlink("long")))
    t("too long symlink", lambda: os.symlink("t" * 4096, "longer"))
    t("empty symlink", lambda: os.symlink("", "empty"))
    t("list", lambda: sorted(os.listdir(b".")))
    t("types", lambda: sorted((e.name, e.is_dir(follow_symlinks=False), e.is_symlink(), e.inode() == e.stat(follow_symlinks=False).st_ino) for e in os.scandir(b".")))


def attributes():
    write("f", b"x" * 1000)
    os.mkdir("d")
    os.symlink("f", "l")
    for mode in (0o0, 0o7777, 0o4755, 0o2755, 0o1777, 0o644):
        t(f"chmod {oct(mode)}", lambda: (os.chmod("f", mode), st("f"))[1])
        t(f"chmod dir {oct(mode)}", lambda: (os.chmod("d", mode), st("d"))[1])
    t("lchmod", lambda: c(libc.fchmodat(AT_FDCWD, b"l", 0o600, 0x100)))
    for ns in ((1, 2), (-1, -999_999_999), (1_234_567_890_123_456_789, 987_654_321), (-86400 * 365 * 50 * 10**9 + 5, 7)):
        t(f"utimens {ns}", lambda: (os.utime("f", ns=ns), times("f"))[1])
        t(f"lutimens {ns}", lambda: (os.utime("l", ns=ns, follow_symlinks=False), times("l"))[1])
        t(f"dir utimens {ns}", lambda: (os.utime("d", ns=ns), times("d"))[1])
    os.utime("f", ns=(5, 6))
    fd = os.open("f", os.O_RDWR)
    omit = (1 << 30) - 2
    now = (1 << 30) - 1

    def utimensat(path, a, m, flags=0x100):
        spec = struct.pack("qqqq", *a, *m)
        return c(libc.utimensat(AT_FDCWD, path, spec, flags))

    t("omit atime", lambda: (utimensat(b"f", (0, omit), (7, 8)), times("f"))[1])
    t("omit mtime", lambda: (utimensat(b"f", (9, 10), (0, omit)), times("f"))[1])
    t("omit both", lambda: (utimensat(b"f", (0, omit), (0, omit)), times("f"))[1])
    before = time.time_ns() - 50_000_000
    t("atime now", lambda: (utimensat(b"f", (0, now), (3, 4)), times("f")[0] >= before, times("f")[1])[1:])
    t("now both", lambda: (utimensat(b"f", (0, now), (0, now)), [x >= before for x in times("f")])[1])
    t("bad nanoseconds", lambda: utimensat(b"f", (0, 10**9), (0, 0)))
    t("futimens", lambda: (os.utime(fd, ns=(11, 12)), times("f"))[1])
    os.close(fd)
    s = os.stat("f")
    t("write moves mtime and ctime", lambda: (time.sleep(0.02), write("f", b"y"), os.stat("f").st_mtime_ns > s.st_mtime_ns, os.stat("f").st_ctime_ns > s.st_ctime_ns)[2:])
    t("blocks", lambda: (write("g", b"z" * 10000), os.sync(), os.stat("g").st_blocks)[2])
    t("blksize", lambda: os.stat("g").st_blksize)
    t("dir nlink", lambda: (os.mkdir("d/e"), os.stat("d").st_nlink)[1])
    t("statvfs", lambda: (os.statvfs(".").f_bsize, os.statvfs(".").f_frsize, os.statvfs(".").f_namemax, os.statvfs("f").f_blocks > 0))
    for kind, name in ((stat.S_IFIFO, "fifo"), (stat.S_IFSOCK, "sock"), (stat.S_IFREG, "reg"), (stat.S_IFCHR, "chr"), (stat.S_IFBLK, "blk")):
        t(f"mknod {name}", lambda: (os.mknod(name, kind | 0o640, os.makedev(4095, 1048575)), st(name))[1])
    t("mknod dir", lambda: os.mknod("dir", stat.S_IFDIR | 0o755))
    t("chown special", lambda: (os.chown("chr", 3, 4), st("chr"))[1])
    t("utime special", lambda: (os.utime("fifo", ns=(1, 2)), times("fifo"))[1])
    t("chmod special", lambda: (os.chmod("sock", 0o777), st("sock"))[1])


def owners():
    write("f")
    os.symlink("f", "l")
    os.mkdir("d")
    t("chown", lambda: (os.chown("f", 12, 34), st("f"))[1])
    t("chown uid", lambda: (os.chown("f", 13, -1), st("f"))[1])
    t("chown gid", lambda: (os.chown("f", -1, 35), st("f"))[1])
    t("lchown", lambda: (os.lchown("l", 1, 2), st("l"), st("f"))[1:])
    t("chown large", lambda: (os.chown("f", 2**32 - 2, 2**31), st("f"))[1])
    for mode in (0o6755, 0o6745, 0o6666):
        os.chmod("f", mode)
        t(f"chown of {oct(mode)}", lambda: (os.chown("f", 5, 5), st("f"))[1])
        os.chmod("f", mode)
        t(f"chown nothing of {oct(mode)}", lambda: (os.chown("f", -1, -1), st("f"))[1])
        os.chmod("f", mode)
        t(f"root write to {oct(mode)}", lambda: (os.truncate("f", 3), write_into("f"), st("f"))[2])
    t("setgid dir", lambda: (os.chown("d", 0, 77), os.chmod("d", 0o2775), write("d/f"), os.mkdir("d/e"), os.symlink("x", "d/l"), os.mkfifo("d/p"), [st(f"d/{n}") for n in "felp"])[6])
    for mask in (0, 0o22, 0o77, 0o777):
        os.umask(mask)
        t(f"umask {oct(mask)} file", lambda: (write(f"u{mask}", b"", 0o666), st(f"u{mask}"))[1])
        t(f"umask {oct(mask)} dir", lambda: (os.mkdir(f"v{mask}", 0o7777), st(f"v{mask}"))[1])
        t(f"umask {oct(mask)} fifo", lambda: (os.mkfifo(f"w{mask}", 0o666), st(f"w{mask}"))[1])
        t(f"umask {oct(mask)} suid", lambda: (os.close(os.open(f"x{mask}", CREATE, 0o6777)), st(f"x{mask}"))[1])
    os.umask(0o22)


def write_into(name, data=b"!"):
    fd = os.open(name, os.O_WRONLY)
    os.write(fd, data)
    os.close(fd)


def data():
    fd = os.open("f", CREATE, 0o644)
    t("pwrite", lambda: os.pwrite(fd, b"abc", 10))
    t("hole", lambda: os.pread(fd, 100, 0))
    t("read past end", lambda: os.pread(fd, 10, 13))
    t("large", lambda: os.pwrite(fd, bytes(range(256)) * 8192, 12345))
    t("large back", lambda: os.pread(fd, 3_000_000, 0))
    t("far", lambda: os.pwrite(fd, b"end", 1 << 40))
    t("far size", lambda: os.fstat(fd).st_size)
    t("far back", lambda: os.pread(fd, 10, (1 << 40) - 2))
    t("data", lambda: [os.lseek(fd, at, SEEK_DATA) for at in (0, 10, 1 << 22)])
    t("hole after data", lambda: os.lseek(fd, (1 << 40), SEEK_HOLE) - (1 << 40))
    t("no data", lambda: os.lseek(fd, (1 << 40) + 10, SEEK_DATA))
    t("ftruncate", lambda: (os.ftruncate(fd, 5), os.pread(fd, 10, 0), os.fstat(fd).st_size)[1:])
    t("extend", lambda: (os.ftruncate(fd, 20), os.pread(fd, 100, 0))[1])
    t("truncate", lambda: (os.truncate("f", 3), os.fstat(fd).st_size)[1])
    t("truncate negative", lambda: os.truncate("f", -1))
    t("truncate dir", lambda: os.truncate(".", 0))
    t("write negative", lambda: os.pwrite(fd, b"x", -1))
    os.close(fd)
    fd = os.open("f", os.O_RDONLY)
    t("write to a reader", lambda: os.write(fd, b"x"))
    t("ftruncate of a reader", lambda: os.ftruncate(fd, 0))
    os.close(fd)
    fd = os.open("f", os.O_WRONLY | os.O_TRUNC)
    t("O_TRUNC", lambda: os.fstat(fd).st_size)
    t("read from a writer", lambda: os.read(fd, 1))
    t("writev", lambda: os.writev(fd, [b"one", b"two", b"", b"three"]))
    t("fsync", lambda: (os.fsync(fd), os.fdatasync(fd)))
    os.close(fd)
    a = os.open("f", os.O_RDWR | os.O_APPEND)
    b = os.open("f", os.O_RDWR | os.O_APPEND)
    t("append", lambda: [os.write(x, y) for x, y in ((a, b"A"), (b, b"B"), (a, b"C"))])
    t("pwrite appends", lambda: (os.pwrite(a, b"D", 0), read("f"))[1])
    t("position", lambda: os.lseek(b, 0, os.SEEK_CUR))
    os.close(a)
    os.close(b)
    fd = os.open("m", CREATE, 0o644)
    os.ftruncate(fd, 3 * 4096 + 100)
    with mmap.mmap(fd, 3 * 4096 + 100) as m:
        m[0:5] = b"hello"
        m[8190:8195] = b"world"
        m[12380:12388] = b"tailtail"
        t("mmap flush", lambda: m.flush())
        t("mmap through read", lambda: (os.pread(fd, 5, 0), os.pread(fd, 5, 8190), os.pread(fd, 100, 12380)))
        os.pwrite(fd, b"PWRITE", 100)
        t("pwrite through mmap", lambda: m[100:106])
    os.close(fd)
    t("mmap result", lambda: read("m"))
    fd = os.open("o", CREATE | os.O_DIRECT, 0o644)
    buffer = mmap.mmap(-1, 1 << 20)
    buffer.write(bytes(range(256)) * 4096)
    t("direct write", lambda: os.pwritev(fd, [buffer], 0))
    t("direct write on", lambda: os.pwritev(fd, [buffer], 1 << 20))
    back = mmap.mmap(-1, 1 << 20)
    t("direct read", lambda: (os.preadv(fd, [back], 1 << 20), back[:] == buffer[:]))
    t("direct read at the end", lambda: os.preadv(fd, [back], 2 << 20))
    t("direct size", lambda: os.fstat(fd).st_size)
    os.close(fd)
    fd = os.open("s", CREATE | os.O_SYNC, 0o644)
    t("O_SYNC", lambda: os.write(fd, b"sync"))
    out = os.open("copy", CREATE, 0o644)
    source = os.open("m", os.O_RDONLY)
    t("copy_file_range", lambda: (os.copy_file_range(source, out, 10000, 100, 50), read("copy")))
    t("copy past end", lambda: os.copy_file_range(source, out, 1000, 1 << 20, 0))
    t("copy onto itself", lambda: os.copy_file_range(out, out, 5000, 0, 2500))
    t("sendfile", lambda: os.sendfile(fd, source, 0, 5000))
    t("posix_fallocate", lambda: (os.posix_fallocate(out, 0, 20000), os.fstat(out).st_size)[1])
    for mode, what in ((0, "plain"), (1, "keep size"), (3, "punch"), (0x10, "zero"), (0x11, "zero keep"), (2, "punch without keep"), (8, "collapse"), (0x20, "insert")):
        t(f"fallocate {what}", lambda: (c(libc.fallocate(out, mode, 4096, 30000)) if mode in (0, 1, 3, 0x10, 0x11, 2) else "-", os.fstat(out).st_size, os.pread(out, 60000, 0)))
    os.close(out)
    os.close(source)
    os.close(fd)


def appenders():
    """Many processes append lines to one file; every line has to arrive whole."""
    write("log")
    pids = []
    for i in range(6):
        pid = os.fork()
        if pid == 0:
            fd = os.open("log", os.O_WRONLY | os.O_APPEND)
            for j in range(100):
                os.write(fd, f"{i}:{j}:{'x' * (j % 50)}\n".encode())
            os._exit(0)
        pids.append(pid)
    for pid in pids:
        os.waitpid(pid, 0)
    lines = read("log").decode().splitlines()
    t("lines", lambda: len(lines))
    t("whole", lambda: sorted(lines) == sorted(f"{i}:{j}:{'x' * (j % 50)}" for i in range(6) for j in range(100)))
    t("in order", lambda: all([int(l.split(":")[1]) for l in lines if l.startswith(f"{i}:")] == list(range(100)) for i in range(6)))


def renames():
    for n in "abc":
        write(n, n.encode())
    os.mkdir("d")
    os.mkdir("e")
    write("e/x")
    t("rename", lambda: (os.rename("a", "z"), read("z"))[1])
    t("rename over", lambda: (os.rename("b", "z"), read("z"))[1])
    t("rename absent", lambda: os.rename("absent", "y"))
    t("file over dir", lambda: os.rename("z", "d"))
    t("dir over file", lambda: os.rename("d", "z"))
    t("dir over full dir", lambda: os.rename("d", "e"))
    t("full dir over empty dir", lambda: os.rename("e", "d"))
    t("into itself", lambda: os.rename("d", "d/d"))
    t("onto itself", lambda: os.rename("z", "z"))
    os.link("z", "zz")
    t("onto its link", lambda: (os.rename("z", "zz"), sorted(os.listdir("."))))
    t("noreplace existing", lambda: renameat2("c", "z", NOREPLACE))
    t("noreplace", lambda: renameat2("c", "new", NOREPLACE))
    os.mkdir("full")
    write("full/f", b"full")
    t("exchange", lambda: (renameat2("new", "full", EXCHANGE), st("new")[:7], read("full"), read("new/f")))
    t("exchange absent", lambda: renameat2("new", "absent", EXCHANGE))
    t("both", lambda: renameat2("new", "full", EXCHANGE | NOREPLACE))
    t("unknown flag", lambda: renameat2("new", "full", 64))
    write("w", b"w")
    t("whiteout", lambda: (renameat2("w", "w2", WHITEOUT), st("w"), read("w2")))
    t("exchange whiteout", lambda: renameat2("w2", "z", EXCHANGE | WHITEOUT))
    fd = os.open("z", os.O_RDWR)
    ino = os.fstat(fd).st_ino
    os.rename("z", "moved")
    t("open across rename", lambda: (os.pwrite(fd, b"OPEN", 0), read("moved"), os.stat("moved").st_ino == ino))
    write("victim", b"victim")
    victim = os.open("victim", os.O_RDWR)
    os.rename("moved", "victim")
    t("open but replaced", lambda: (os.pread(victim, 10, 0), os.fstat(victim).st_nlink))
    t("dots", lambda: os.rename("d/..", "x"))
    os.close(fd)
    os.close(victim)
    t("tree", lambda: sorted((r, sorted(d), sorted(f)) for r, d, f in os.walk(".")))


def unlinked():
    fd = os.open("f", CREATE, 0o644)
    os.write(fd, b"contents")
    os.unlink("f")
    t("nlink", lambda: os.fstat(fd).st_nlink)
    t("read", lambda: os.pread(fd, 100, 0))
    t("write", lambda: (os.pwrite(fd, b"more", 8), os.pread(fd, 100, 0))[1])
    t("truncate", lambda: (os.ftruncate(fd, 2), os.fstat(fd).st_size)[1])
    t("chmod", lambda: (os.fchmod(fd, 0o600), oct(os.fstat(fd).st_mode))[1])
    t("chown", lambda: (os.fchown(fd, os.getuid(), os.getgid()), os.fstat(fd).st_uid == os.getuid())[1])
    t("utime", lambda: (os.utime(fd, ns=(1, 2)), os.fstat(fd).st_mtime_ns)[1])
    t("fsync", lambda: os.fsync(fd))
    t("again", lambda: os.stat("f"))
    t("link it back", lambda: os.link(f"/proc/self/fd/{fd}", "back", follow_symlinks=True))
    write("f", b"another")
    t("not the same", lambda: (read("f"), os.pread(fd, 10, 0), os.stat("f").st_ino == os.fstat(fd).st_ino))
    t("reopen", lambda: read(f"/proc/self/fd/{fd}"))
    os.close(fd)
    os.mkdir("d")
    here = os.open("d", os.O_RDONLY)
    os.rmdir("d")
    t("make in a removed dir", lambda: os.open("x", CREATE, dir_fd=here))
    t("list a removed dir", lambda: os.listdir(here))
    t("stat a removed dir", lambda: os.fstat(here).st_nlink)
    os.close(here)


def tmpfiles():
    fd = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o640)
    t("stat", lambda: (oct(os.fstat(fd).st_mode), os.fstat(fd).st_nlink))
    t("write", lambda: (os.write(fd, b"temporary"), os.pread(fd, 100, 0)))
    t("link", lambda: os.link(f"/proc/self/fd/{fd}", "named", follow_symlinks=True))
    t("named", lambda: (read("named"), st("named"), os.stat("named").st_ino == os.fstat(fd).st_ino))
    t("through both", lambda: (os.pwrite(fd, b"T", 0), read("named"))[1])
    os.close(fd)
    fd = os.open(".", os.O_TMPFILE | os.O_WRONLY | os.O_EXCL, 0o640)
    t("exclusive cannot be linked", lambda: os.link(f"/proc/self/fd/{fd}", "refused", follow_symlinks=True))
    os.close(fd)
    t("read only", lambda: os.open(".", os.O_TMPFILE | os.O_RDONLY))
    t("list", lambda: sorted(os.listdir(".")))


def xattrs():
    write("f")
    os.mkdir("d")
    os.symlink("f", "l")
    os.mkfifo("p")
    for name in ("f", "d"):
        t(f"set {name}", lambda: os.setxattr(name, "user.a", b"value"))
        t(f"get {name}", lambda: os.getxattr(name, "user.a"))
        t(f"binary {name}", lambda: (os.setxattr(name, "user.b", b"\0\xff\0"), os.getxattr(name, "user.b"))[1])
        t(f"empty {name}", lambda: (os.setxattr(name, "user.e", b""), os.getxattr(name, "user.e"))[1])
        t(f"list {name}", lambda: sorted(x for x in os.listxattr(name) if not x.startswith("security.selinux")))
        t(f"create {name}", lambda: os.setxattr(name, "user.a", b"x", os.XATTR_CREATE))
        t(f"replace {name}", lambda: (os.setxattr(name, "user.a", b"y", os.XATTR_REPLACE), os.getxattr(name, "user.a"))[1])
        t(f"replace absent {name}", lambda: os.setxattr(name, "user.absent", b"x", os.XATTR_REPLACE))
        t(f"absent {name}", lambda: os.getxattr(name, "user.absent"))
        t(f"remove {name}", lambda: (os.removexattr(name, "user.a"), sorted(os.listxattr(name)))[1])
        t(f"remove absent {name}", lambda: os.removexattr(name, "user.a"))
    t("user on a link", lambda: os.setxattr("l", "user.a", b"x", follow_symlinks=False))
    t("user on a fifo", lambda: os.setxattr("p", "user.a", b"x"))
    t("trusted", lambda: (os.setxattr("f", "trusted.a", b"t"), os.getxattr("f", "trusted.a"))[1])
    t("trusted on a link", lambda: (os.setxattr("l", "trusted.a", b"t", follow_symlinks=False), os.getxattr("l", "trusted.a", follow_symlinks=False), os.listxattr("l", follow_symlinks=False))[1:])
    t("trusted on a fifo", lambda: (os.setxattr("p", "trusted.a", b"t"), os.getxattr("p", "trusted.a"))[1])
    t("unknown namespace", lambda: os.setxattr("f", "nonsense.a", b"x"))
    t("long name", lambda: os.setxattr("f", "user." + "n" * 251, b"x"))
    t("not UTF-8", lambda: (os.setxattr("f", b"user.\xff\xfe", b"x"), os.getxattr("f", b"user.\xff\xfe"))[1])
    t("large", lambda: (os.setxattr("f", "user.large", b"L" * 2000), os.getxattr("f", "user.large"))[1])
    t("too large", lambda: os.setxattr("f", "user.huge", b"L" * 65537))
    t("small buffer", lambda: c(libc.getxattr(b"f", b"user.large", ctypes.create_string_buffer(10), 10)))
    t("small list", lambda: c(libc.listxattr(b"f", ctypes.create_string_buffer(3), 3)))
    fd = os.open("f", os.O_RDONLY)
    t("by descriptor", lambda: (os.setxattr(fd, "user.fd", b"1"), os.getxattr(fd, "user.fd"))[1])
    os.close(fd)
    cap = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
    t("capability", lambda: (os.setxattr("f", "security.capability", cap), os.getxattr("f", "security.capability") == cap)[1])
    t("a write takes it away", lambda: (write_into("f"), os.getxattr("f", "security.capability"))[1])


def acls():
    """ACLs: what they grant is tried as another user by the section acl_user."""
    acl = lambda *args: subprocess.run(["setfacl", *args], check=False, capture_output=True).returncode
    get = lambda name: subprocess.run(["getfacl", "-cn", name], check=False, capture_output=True).stdout.decode().split()
    os.umask(0o27)
    for name in ("granted", "denied", "plain", "private"):
        write(name, name.encode(), 0o660)
        os.chmod(name, 0o660)
    os.mkdir("inherit")
    os.mkdir("writable")
    os.mkdir("by-group")
    acl("-m", "g:2000:rwx", "by-group")
    t("set", lambda: [acl("-m", "u:1000:rw", "granted"), acl("-m", "g:1000:-,u:1000:-", "denied"), acl("-m", "u:1000:rwx", "writable"), acl("-m", "g::-,m::rw,g:55:rw", "private")])
    os.chown("private", 0, 1000)
    t("get", lambda: [get(n) for n in ("granted", "denied", "writable", "private")])
    t("mode shows the mask", lambda: [st(n) for n in ("granted", "denied", "private")])
    t("chmod moves the mask", lambda: (os.chmod("granted", 0o640), get("granted"), os.chmod("granted", 0o660))[1])
    t("default", lambda: acl("-d", "-m", "u::rwx,g::rwx,g:55:r,o::-", "inherit"))
    os.umask(0o77)
    t("inherited", lambda: (write("inherit/f", b"", 0o666), os.mkdir("inherit/d"), get("inherit/f"), get("inherit/d"), st("inherit/f"))[2:])
    os.umask(0o22)
    t("remove", lambda: (acl("-b", "plain"), get("plain"))[1])
    t("listed", lambda: sorted(os.listxattr("granted")))


def acl_user():
    """As user 1000, in what acls made."""
    become_user()
    for name in ("granted", "denied", "plain", "private"):
        t(f"read {name}", lambda: read(name))
        t(f"write {name}", lambda: write_into(name))
    t("make", lambda: (write("writable/mine"), st("writable/mine"))[1])
    t("make by group", lambda: (write("by-group/mine"), os.mkdir("by-group/dir"), st("by-group/mine"))[2])
    t("make elsewhere", lambda: write("inherit/mine"))


def posix_lock(fd, kind, start=0, length=0, wait=False):
    flag = {"r": fcntl.LOCK_SH, "w": fcntl.LOCK_EX, "u": fcntl.LOCK_UN}[kind]
    return fcntl.lockf(fd, flag | (0 if wait or kind == "u" else fcntl.LOCK_NB), length, start)


def getlk(fd, kind, start=0, length=0):
    kinds = {"r": fcntl.F_RDLCK, "w": fcntl.F_WRLCK}
    packed = struct.pack("hhqqi4x", kinds[kind], 0, start, length, 0)
    kind, _, start, length, pid = struct.unpack("hhqqi4x", fcntl.fcntl(fd, fcntl.F_GETLK, packed))
    return {0: "r", 1: "w", 2: "free"}[kind], start, length, pid


def locks():
    write("f", b"x" * 100)
    fd = os.open("f", os.O_RDWR)
    me = os.getpid()

    def other(kind, start=0, length=0):
        return child(lambda: posix_lock(os.open("f", os.O_RDWR), kind, start, length))

    def seen(kind, start=0, length=0):
        def look():
            found = getlk(os.open("f", os.O_RDWR), kind, start, length)
            return found[:3] + (found[3] == me,)

        return child(look)

    t("lock", lambda: posix_lock(fd, "w", 10, 10))
    t("other inside", lambda: other("r", 15, 1))
    t("other outside", lambda: other("w", 20, 10))
    t("seen", lambda: seen("r"))
    t("seen outside", lambda: seen("w", 0, 10)[:20])
    t("own is no conflict", lambda: getlk(fd, "w")[0])
    t("split", lambda: (posix_lock(fd, "u", 13, 2), other("w", 13, 2), other("w", 12, 2)))
    t("downgrade", lambda: (posix_lock(fd, "r", 10, 10), other("r", 10, 10), other("w", 10, 1)))
    t("merge", lambda: (posix_lock(fd, "r", 20, 5), seen("w")))
    t("to the end", lambda: (posix_lock(fd, "w", 50, 0), seen("r", 1 << 40, 1)))
    second = os.open("f", os.O_RDONLY)
    t("read lock on a reader", lambda: posix_lock(second, "r", 0, 5))
    t("write lock on a reader", lambda: posix_lock(second, "w", 0, 5))
    os.close(second)
    t("closing any drops all", lambda: other("w"))
    t("not inherited", lambda: (posix_lock(fd, "w"), child(lambda: posix_lock(fd, "w")))[1])
    t("kept after a child closed", lambda: (child(lambda: os.close(fd)), other("r"))[1])
    posix_lock(fd, "u")

    # A lock that another process holds until it ends.
    def holder(kind, seconds=None):
        r, w = os.pipe()
        pid = os.fork()
        if pid == 0:
            mine = os.open("f", os.O_RDWR)
            posix_lock(mine, kind)
            os.write(w, b"x")
            time.sleep(seconds if seconds is not None else 60)
            os._exit(0)
        os.read(r, 1)
        os.close(r)
        os.close(w)
        return pid

    pid = holder("w", 0.3)
    t("holder seen", lambda: (getlk(fd, "r")[:3], getlk(fd, "r")[3] == pid))
    start = time.monotonic()
    t("wait", lambda: (posix_lock(fd, "w", wait=True), 0.1 < time.monotonic() - start < 5))
    os.waitpid(pid, 0)
    posix_lock(fd, "u")
    pid = holder("w")

    class Alarm(OSError):
        pass

    def on_alarm(*_):
        raise Alarm(errno.EINTR, "alarm")

    signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    start = time.monotonic()
    t("interrupted", lambda: posix_lock(fd, "w", wait=True))
    t("in time", lambda: time.monotonic() - start < 3)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    t("killed holder", lambda: posix_lock(fd, "w"))
    # A waiter that is killed does not get the lock afterwards.
    waiter = os.fork()
    if waiter == 0:
        posix_lock(os.open("f", os.O_RDWR), "w", wait=True)
        time.sleep(60)
    time.sleep(0.1)
    os.kill(waiter, signal.SIGKILL)
    t("killed waiter", lambda: os.waitpid(waiter, 0)[1])
    posix_lock(fd, "u")
    t("has nothing", lambda: other("w"))
    posix_lock(fd, "w")
    # Several wait at once; each gets its turn.
    pids = []
    for _ in range(5):
        pid = os.fork()
        if pid == 0:
            mine = os.open("f", os.O_RDWR)
            posix_lock(mine, "w", wait=True)
            count = int(os.pread(mine, 10, 200) or b"0")
            time.sleep(0.01)
            os.pwrite(mine, str(count + 1).encode(), 200)
            os._exit(0)
        pids.append(pid)
    time.sleep(0.2)
    posix_lock(fd, "u")
    for pid in pids:
        os.waitpid(pid, 0)
    t("turns", lambda: os.pread(fd, 10, 200))

    # Two who wait for each other: the second one is told.
    def circle():
        r, w = os.pipe()
        posix_lock(fd, "w", 0, 10)
        pid = os.fork()
        if pid == 0:
            mine = os.open("f", os.O_RDWR)
            posix_lock(mine, "w", 10, 10)
            os.write(w, b"x")
            posix_lock(mine, "w", 0, 10, wait=True)
            os._exit(0)
        os.read(r, 1)
        time.sleep(0.5)
        try:
            posix_lock(fd, "w", 10, 10, wait=True)
        finally:
            posix_lock(fd, "u")
            os.waitpid(pid, 0)

    t("deadlock", circle)
    os.close(fd)

    a = os.open("f", os.O_RDWR)
    b = os.open("f", os.O_RDONLY)
    t("flock", lambda: fcntl.flock(a, fcntl.LOCK_EX | fcntl.LOCK_NB))
    t("flock again", lambda: fcntl.flock(b, fcntl.LOCK_SH | fcntl.LOCK_NB))
    t("flock and posix", lambda: posix_lock(a, "w"))
    t("flock down", lambda: (fcntl.flock(a, fcntl.LOCK_SH), fcntl.flock(b, fcntl.LOCK_SH | fcntl.LOCK_NB)))
    t("flock up", lambda: fcntl.flock(a, fcntl.LOCK_EX | fcntl.LOCK_NB))
    # Failing to convert a flock loses it (flock(2)), so both start anew.
    fcntl.flock(b, fcntl.LOCK_UN)
    fcntl.flock(a, fcntl.LOCK_EX)
    t("flock shared by a child", lambda: child(lambda: fcntl.flock(a, fcntl.LOCK_EX | fcntl.LOCK_NB)))
    pid = os.fork()
    if pid == 0:
        os.close(a)
        os.close(b)
        mine = os.open("f", os.O_RDWR)
        fcntl.flock(mine, fcntl.LOCK_EX)
        os._exit(7)
    time.sleep(0.1)
    os.close(a)
    t("flock waiter", lambda: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    t("flock after the end", lambda: fcntl.flock(b, fcntl.LOCK_EX | fcntl.LOCK_NB))
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    d = os.open("f", os.O_RDWR)
    t("flock interrupted", lambda: fcntl.flock(d, fcntl.LOCK_EX))
    os.close(b)
    os.close(d)

    # Open-file-description locks.
    def ofd(fd, kind, start=0, length=0):
        kinds = {"r": fcntl.F_RDLCK, "w": fcntl.F_WRLCK, "u": fcntl.F_UNLCK}
        fcntl.fcntl(fd, 37, struct.pack("hhqqi4x", kinds[kind], 0, start, length, 0))

    a = os.open("f", os.O_RDWR)
    b = os.open("f", os.O_RDWR)
    t("ofd", lambda: ofd(a, "w", 0, 10))
    t("ofd other", lambda: ofd(b, "r", 5, 1))
    t("ofd against posix", lambda: other("r", 5, 1))
    t("ofd kept over another close", lambda: (os.close(os.open("f", os.O_RDWR)), ofd(b, "r", 5, 1))[1])
    os.close(a)
    time.sleep(0.1)
    t("ofd ends with its opening", lambda: ofd(b, "w", 0, 10))
    os.close(b)


def directories():
    os.mkdir("big")
    count = 2500
    for i in range(count):
        write(f"big/{'n' * (i % 90)}{i}")
    t("listed", lambda: sorted(os.listdir("big")) == sorted(f"{'n' * (i % 90)}{i}" for i in range(count)))
    dirent = lambda entry: ctypes.string_at(entry + 19)
    d = libc.opendir(b"big")
    order, cookies = [], [libc.telldir(d)]
    while entry := libc.readdir(d):
        order.append(dirent(entry))
        cookies.append(libc.telldir(d))
    t("entries", lambda: (len(order), len(set(order)), b"." in order, b".." in order))
    t("cookies differ", lambda: len(set(cookies[1:-1])))
    wrong = 0
    for at in list(range(0, count, 37)) + [count + 1, 5, 1, 0]:
        libc.seekdir(d, cookies[at])
        entry = libc.readdir(d)
        wrong += not entry or dirent(entry) != order[at]
    t("seekdir", lambda: wrong)
    libc.seekdir(d, cookies[-1])
    t("seekdir to the end", lambda: bool(libc.readdir(d)))
    libc.rewinddir(d)
    write("big/added")
    names = set()
    while entry := libc.readdir(d):
        names.add(dirent(entry))
    t("rewinddir sees new ones", lambda: b"added" in names and len(names) == count + 3)
    libc.rewinddir(d)
    removed = 0
    for _ in range(100):
        name = dirent(libc.readdir(d))
        if name not in (b".", b".."):
            os.unlink(b"big/" + name)
            removed += 1
    left = 0
    while libc.readdir(d):
        left += 1
    t("removing while reading", lambda: left + 100 == count + 3 and len(os.listdir("big")) == count + 1 - removed)
    libc.closedir(d)
    # Two descriptors and a shared one.
    fd = os.open("big", os.O_RDONLY)
    t("scandir by descriptor", lambda: len(os.listdir(fd)) == len(os.listdir("big")))
    t("twice", lambda: len(os.listdir(fd)) == len(os.listdir(fd)))
    t("fsync", lambda: os.fsync(fd))
    t("read", lambda: os.read(fd, 10))
    os.close(fd)
    t("find", lambda: sum(len(files) for _, _, files in os.walk(".")) == len(os.listdir("big")))
    t("types", lambda: all(e.is_file(follow_symlinks=False) for e in os.scandir("big")))
    t("ino of dot", lambda: [e for e in subprocess.run(["ls", "-aid", "big/.", "big"], capture_output=True, check=True).stdout.split()][0::2][0] == str(os.stat("big").st_ino).encode())
    subprocess.run(["rm", "-rf", "big"], check=True)
    t("removed", lambda: os.listdir("."))


def special():
    os.mkfifo("p")
    pid = os.fork()
    if pid == 0:
        with open("p", "wb") as file:
            file.write(b"through the fifo")
        os._exit(0)
    t("fifo", lambda: read("p"))
    os.waitpid(pid, 0)
    t("fifo without a partner", lambda: os.open("p", os.O_WRONLY | os.O_NONBLOCK))
    s = socket.socket(socket.AF_UNIX)
    t("bind", lambda: s.bind("s"))
    t("bind again", lambda: socket.socket(socket.AF_UNIX).bind("s"))
    s.listen()
    client = socket.socket(socket.AF_UNIX)
    t("connect", lambda: client.connect("s"))
    t("socket", lambda: st("s"))
    t("open a socket", lambda: os.open("s", os.O_RDONLY))
    os.mknod("null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    t("device", lambda: (os.write(os.open("null", os.O_WRONLY), b"gone"), read("null")))
    write("script", b"#!/bin/sh\necho it runs $1\n", 0o755)
    t("execute", lambda: subprocess.run(["./script", "well"], capture_output=True, check=True).stdout)
    subprocess.run(["cp", "/bin/sleep", "sleeper"], check=True)
    sleeper = subprocess.Popen(["./sleeper", "5"])
    t("text busy", lambda: os.open("sleeper", os.O_WRONLY))
    sleeper.kill()
    sleeper.wait()
    t("text free", lambda: os.close(os.open("sleeper", os.O_WRONLY)))
    write("f")
    fd = os.open("f", os.O_RDWR)
    flags = lambda: struct.unpack("i", fcntl.ioctl(fd, 0x80086601, struct.pack("i", 0)))[0]
    t("flags", flags)

    def chattr():
        before = os.fstat(fd).st_ctime_ns
        time.sleep(0.05)
        fcntl.ioctl(fd, 0x40086602, struct.pack("i", flags() | 0x40))
        moved = os.fstat(fd).st_ctime_ns != before
        fcntl.ioctl(fd, 0x40086602, struct.pack("i", flags() & ~0x40))
        return moved

    t("flags move the change time", chattr)
    t("set append only", lambda: (fcntl.ioctl(fd, 0x40086602, struct.pack("i", flags() | 0x20)), flags() & 0x20))
    t("truncate append only", lambda: os.truncate("f", 0))
    t("unlink append only", lambda: os.unlink("f"))
    t("clear it", lambda: (fcntl.ioctl(fd, 0x40086602, struct.pack("i", flags() & ~0x20)), flags() & 0x20))
    t("extended flags", lambda: len(fcntl.ioctl(fd, 0x801C581F, bytes(28))))
    t("unknown ioctl", lambda: fcntl.ioctl(fd, 0x5401, bytes(64)))
    t("dir flags", lambda: len(fcntl.ioctl(os.open(".", os.O_RDONLY), 0x80086601, bytes(4))))
    os.close(fd)
    t("poll", lambda: select.select([os.open("f", os.O_RDONLY)], [], [], 0)[0] != [])
    t("access", lambda: [os.access("f", mode) for mode in (os.R_OK, os.W_OK, os.X_OK)])
    t("chdir", lambda: os.chdir("f"))
    outside = os.path.realpath("..")
    os.symlink("../..", "up")
    os.symlink(outside, "absolute")
    t("escape by symlink is the caller's own", lambda: (os.path.samefile("absolute", outside), os.path.isdir("up")))
    t("dotdot", lambda: os.path.samefile("..", outside))
    os.unlink("absolute")


def become_user():
    os.setgroups([1000, 2000])
    os.setresgid(1000, 1000, 1000)
    os.setresuid(1000, 1000, 1000)


def user():
    """As user 1000 with groups 1000 and 2000, in folders that root prepared."""
    become_user()
    t("who", lambda: (os.getuid(), os.getgid(), sorted(os.getgroups())))
    os.umask(0o002)
    for folder in ("open", "sticky", "setgid", "group", "closed"):
        t(f"make in {folder}", lambda: (write(f"{folder}/mine", b"m", 0o666), st(f"{folder}/mine"))[1])
        t(f"mkdir in {folder}", lambda: (os.mkdir(f"{folder}/dir"), st(f"{folder}/dir"))[1])
        t(f"symlink in {folder}", lambda: (os.symlink("x", f"{folder}/link"), st(f"{folder}/link"))[1])
        t(f"fifo in {folder}", lambda: (os.mkfifo(f"{folder}/fifo"), st(f"{folder}/fifo"))[1])
        t(f"tmpfile in {folder}", lambda: (lambda fd: (os.fstat(fd).st_uid, os.fstat(fd).st_gid))(os.open(folder, os.O_TMPFILE | os.O_RDWR)))
        t(f"list {folder}", lambda: sorted(os.listdir(folder)))
        t(f"root's file in {folder}", lambda: read(f"{folder}/root"))
        t(f"append to root's in {folder}", lambda: write_into(f"{folder}/root"))
        t(f"unlink root's in {folder}", lambda: os.unlink(f"{folder}/root"))
        t(f"rename root's in {folder}", lambda: os.rename(f"{folder}/root2", f"{folder}/renamed"))
        t(f"link root's in {folder}", lambda: os.link(f"{folder}/root3", f"{folder}/linked"))
        t(f"chmod root's in {folder}", lambda: os.chmod(f"{folder}/root3", 0o777))
        t(f"utime root's in {folder}", lambda: os.utime(f"{folder}/root3", ns=(1, 1)))
        t(f"touch root's in {folder}", lambda: os.utime(f"{folder}/root3"))
    t("device", lambda: os.mknod("open/device", stat.S_IFCHR | 0o666, os.makedev(1, 3)))
    t("setgid of a foreign group", lambda: (os.close(os.open("open/sg", CREATE, 0o2755)), st("open/sg"))[1])
    t("setgid in the setgid folder", lambda: (os.close(os.open("setgid/sg", CREATE, 0o2755)), st("setgid/sg"))[1])
    write("open/f", b"text")
    t("chgrp to a group of mine", lambda: (os.chown("open/f", -1, 2000), st("open/f"))[1])
    t("chgrp to another", lambda: os.chown("open/f", -1, 3000))
    t("give away", lambda: os.chown("open/f", 1001, -1))
    t("setgid chmod", lambda: (os.chmod("open/f", 0o6755), st("open/f"))[1])
    t("write clears", lambda: (write_into("open/f"), st("open/f"))[1])
    os.chmod("open/f", 0o6755)
    t("truncate clears", lambda: (os.truncate("open/f", 1), st("open/f"))[1])
    os.chmod("open/f", 0o6755)
    t("O_TRUNC clears", lambda: (os.close(os.open("open/f", os.O_WRONLY | os.O_TRUNC)), st("open/f"))[1])
    os.chmod("open/f", 0o6755)
    t("chgrp clears", lambda: (os.chown("open/f", -1, 1000), st("open/f"))[1])
    os.chmod("open/f", 0o6755)
    fd = os.open("open/f", os.O_RDWR)
    t("fallocate clears", lambda: (c(libc.fallocate(fd, 0, 0, 100)), st("open/f"))[1])
    os.fchmod(fd, 0o6755)
    source = os.open("open/mine", os.O_RDONLY)
    t("copy clears", lambda: (os.copy_file_range(source, fd, 1), st("open/f")))
    os.fchmod(fd, 0o2745)
    t("write keeps setgid without execute", lambda: (os.pwrite(fd, b"x", 0), st("open/f"))[1])
    os.fchmod(fd, 0o000)
    t("open descriptor outlives permission", lambda: (os.pwrite(fd, b"y", 0), os.pread(fd, 1, 0), os.ftruncate(fd, 5)))
    t("truncate without permission", lambda: os.truncate("open/f", 0))
    t("open without permission", lambda: os.open("open/f", os.O_RDONLY))
    os.close(fd)
    write("open/ro", b"", 0o444)
    t("owner's readonly", lambda: os.open("open/ro", os.O_WRONLY))
    t("create readonly but write", lambda: os.write(os.open("open/ro2", CREATE | os.O_EXCL, 0o400), b"ok"))
    t("trusted xattr", lambda: os.setxattr("open/f", "trusted.x", b"x"))
    t("trusted list", lambda: [n for n in os.listxattr("open/trusted") if n.startswith("trusted")])
    t("trusted get", lambda: os.getxattr("open/trusted", "trusted.x"))
    t("user xattr of root's", lambda: os.setxattr("open/trusted", "user.x", b"x"))
    t("sticky foreign rename", lambda: os.rename("sticky/root3", "open/stolen"))
    t("protected hardlink", lambda: os.link("open/suid", "open/suid2"))
    t("whiteout", lambda: renameat2("open/ro", "open/ro3", WHITEOUT))
    t("whiteout is mine", lambda: st("open/ro"))
    t("lock", lambda: posix_lock(os.open("open/mine", os.O_RDWR), "w"))
    t("search only", lambda: (read("search/known"), os.listdir("search")))
    t("list search only", lambda: os.listdir("search"))
    t("read only folder", lambda: (sorted(os.listdir("readable")), os.stat("readable/f")))
    t("stat in readable", lambda: os.stat("readable/f").st_size)


def prepare_user():
    """As root, before the section user."""
    os.umask(0)
    for folder, mode, gid in (("open", 0o777, 0), ("sticky", 0o1777, 0), ("setgid", 0o2777, 2000), ("group", 0o2770, 2000), ("closed", 0o700, 0)):
        os.mkdir(folder)
        for name in ("root", "root2", "root3"):
            write(f"{folder}/{name}", b"root's", 0o644)
        os.chown(folder, 0, gid)
        os.chmod(folder, mode)
    write("open/trusted", b"", 0o644)
    t("trusted", lambda: os.setxattr("open/trusted", "trusted.x", b"secret"))
    write("open/suid", b"", 0o644)
    os.chmod("open/suid", 0o4755)
    os.mkdir("search", 0o711)
    write("search/known", b"known", 0o644)
    os.mkdir("readable", 0o744)
    write("readable/f", b"f", 0o644)


def tree():
    """What other sections left: the host's own view of it."""
    lines = []
    for root, folders, files in os.walk(b"."):
        for name in folders + files:
            path = os.path.join(root, name)
            s = os.lstat(path)
            contents = read(path) if stat.S_ISREG(s.st_mode) and s.st_size < 1 << 30 else os.readlink(path) if stat.S_ISLNK(s.st_mode) else b""
            lines.append(f"{path} {st(path)} {show(contents)} {sorted(os.listxattr(path, follow_symlinks=False))}")
    print("\n".join(sorted(lines)))


os.chdir(sys.argv[1])
globals()[sys.argv[2]]()
