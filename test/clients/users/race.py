"""Tries to get out of a passthrough while names change under it: race.py MOUNT SOURCE SECONDS.

In SOURCE, `x` is a folder and `y` a symbolic link to `../outside`, which exists beside SOURCE and not beside MOUNT: the callers' own
kernel finds nothing there, so whoever reaches it was led there by the daemon. `x` and `y` are exchanged all the time, in SOURCE
and through MOUNT, while walkers use every call that takes a path. Prints what they found of the outside: nothing, it should be.
"""
import ctypes
import os
import sys
import threading
import time

mount, source, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
libc = ctypes.CDLL(None, use_errno=True)
EXCHANGE, AT_FDCWD = 2, -100
end = time.monotonic() + seconds
counts = {}
found = []


def exchange(folder):
    while time.monotonic() < end:
        if libc.renameat2(AT_FDCWD, f"{folder}/x".encode(), AT_FDCWD, f"{folder}/y".encode(), EXCHANGE) == 0:
            counts["exchanges"] = counts.get("exchanges", 0) + 1
        time.sleep(0.0003)


def look(fd):
    try:
        if b"SECRET" in os.read(fd, 64):
            found.append("content")
    finally:
        os.close(fd)


def create(path):
    fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o644)
    os.close(fd)
    os.unlink(path)


def below(path):
    folder = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        look(os.open("f", os.O_RDONLY, dir_fd=folder))
        os.mkdir("made", dir_fd=folder)
        os.rmdir("made", dir_fd=folder)
        for up in ("../../outside/f", "../../../outside/f", "../outside/f"):
            try:
                look(os.open(up, os.O_RDONLY, dir_fd=folder))
                found.append(up)
            except FileNotFoundError:
                pass
    finally:
        os.close(folder)


x = f"{mount}/x"
calls = [
    lambda n: look(os.open(f"{x}/f", os.O_RDONLY)),
    lambda n: create(f"{x}/new{n}"),
    lambda n: below(x),
    lambda n: "only-outside" in os.listdir(x) and found.append("listing"),
    lambda n: os.stat(f"{x}/only-outside") and found.append("stat"),
    lambda n: os.chmod(f"{x}/only-outside", 0o777) or found.append("chmod"),
    lambda n: os.unlink(f"{x}/only-outside") or found.append("unlink"),
    lambda n: os.rename(f"{x}/only-outside", f"{mount}/stolen") or found.append("rename"),
    lambda n: os.link(f"{x}/only-outside", f"{mount}/linked") or found.append("link"),
    lambda n: os.truncate(f"{x}/only-outside", 0) or found.append("truncate"),
    lambda n: os.setxattr(f"{x}/only-outside", "user.a", b"b") or found.append("setxattr"),
    lambda n: os.symlink("a", f"{x}/s{n}") or os.unlink(f"{x}/s{n}"),
]


def walk(at):
    n = at * 1_000_000
    while time.monotonic() < end:
        for call in calls:
            n += 1
            try:
                call(n)
                counts["served"] = counts.get("served", 0) + 1
            except OSError as error:
                name = os.strerror(error.errno)
                counts[name] = counts.get(name, 0) + 1


threads = [threading.Thread(target=exchange, args=(folder,)) for folder in (source, mount)]
threads += [threading.Thread(target=walk, args=(at,)) for at in (1, 2, 3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(counts.get("exchanges", 0), counts.get("served", 0), sorted(set(found)))
print(counts, file=sys.stderr)
