"""Takes one step after the other on a mount, as a test tells it: a JSON array a line, an answer a line.

Each step is [name, argument...]; the answer is its value, or {"errno": N}.
"""

import json
import mmap
import os
import subprocess
import sys

files = {}
maps = {}
# O_DIRECT asks for memory that begins at a page.
page = mmap.mmap(-1, 1 << 20)


def flags_of(text):
    value = 0
    for name in text.split("|"):
        value |= getattr(os, name)
    return value


def open_(slot, path, flags, mode=0o644):
    files[slot] = os.open(path, flags_of(flags) | os.O_CLOEXEC, mode)
    return 0


def close(slot):
    os.close(files.pop(slot))
    return 0


def pread(slot, length, offset):
    return os.pread(files[slot], length, offset).decode("latin1")


def pwrite(slot, text, offset):
    return os.pwrite(files[slot], text.encode("latin1"), offset)


def fill(slot, byte, length, offset):
    """An aligned write of `length` equal bytes."""
    page[:length] = byte.encode("latin1") * length
    return os.pwritev(files[slot], [memoryview(page)[:length]], offset)


def aligned(slot, length, offset):
    """An aligned read; the bytes that occur in it."""
    count = os.preadv(files[slot], [memoryview(page)[:length]], offset)
    return [count, "".join(sorted(set(page[:count].decode("latin1"))))]


def map_(slot, file, length, how):
    access = {"r": mmap.ACCESS_READ, "w": mmap.ACCESS_WRITE}[how]
    maps[slot] = mmap.mmap(files[file], length, access=access)
    return 0


def peek(slot, length, offset):
    return maps[slot][offset : offset + length].decode("latin1")


def poke(slot, text, offset):
    maps[slot][offset : offset + len(text)] = text.encode("latin1")
    return 0


def unmap(slot):
    maps.pop(slot).close()
    return 0


def stat(path):
    found = os.stat(path)
    return {"size": found.st_size, "mtime": str(found.st_mtime_ns), "mode": oct(found.st_mode & 0o7777), "blocks": found.st_blocks}


def fstat(slot):
    found = os.fstat(files[slot])
    return {"size": found.st_size, "mtime": str(found.st_mtime_ns), "mode": oct(found.st_mode & 0o7777), "nlink": found.st_nlink}


def fallocate(slot, offset, length):
    os.posix_fallocate(files[slot], offset, length)
    return 0


def copy(source, target, length):
    return os.copy_file_range(files[source], files[target], length, 0, 0)


def churn(path, count, flags):
    """Opens, uses and closes a file so many times."""
    wanted = flags_of(flags)
    for _ in range(count):
        descriptor = os.open(path, wanted)
        os.pread(descriptor, 1, 0)
        os.close(descriptor)
    return count


def become(uid):
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    return 0


def execute(*argv):
    done = subprocess.run(argv, capture_output=True, timeout=60, check=False)
    return [done.returncode, done.stdout.decode("latin1"), done.stderr.decode("latin1")]


STEPS = {
    "open": open_,
    "close": close,
    "pread": pread,
    "pwrite": pwrite,
    "fill": fill,
    "aligned": aligned,
    "map": map_,
    "peek": peek,
    "poke": poke,
    "unmap": unmap,
    "stat": stat,
    "fstat": fstat,
    "fallocate": fallocate,
    "copy": copy,
    "churn": churn,
    "become": become,
    "execute": execute,
    "truncate": lambda slot, size: os.ftruncate(files[slot], size) or 0,
    "fsync": lambda slot: os.fsync(files[slot]) or 0,
    "unlink": lambda path: os.unlink(path) or 0,
    "chmod": lambda path, mode: os.chmod(path, mode) or 0,
}

print("ready", flush=True)
for line in sys.stdin:
    name, *arguments = json.loads(line)
    try:
        answer = STEPS[name](*arguments)
    except OSError as error:
        answer = {"errno": error.errno, "text": str(error)}
    print(json.dumps(answer), flush=True)
