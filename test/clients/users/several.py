"""Several users make random system calls in a folder, one call at a time; prints a line for each, what came of it.

    several.py FOLDER SEED COUNT

Run it as root. The same seed makes the same calls, so the lines of a folder of the host and of a mount that shows such a folder
have to be the same. Afterwards `several.py FOLDER tree` prints what is there, as root sees it.
"""
import errno
import os
import random
import stat
import struct
import sys

ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
TEAM, OTHER_TEAM = 5000, 5001
# Who: uid, gid, supplementary groups, umask.
USERS = {
    "root": (0, 0, [], 0o022),
    "anna": (12345, 12345, [], 0o022),
    "bert": (12346, 12346, [TEAM], 0o002),
    "cleo": (12347, 12347, [OTHER_TEAM, TEAM], 0o077),
    "dora": (12348, TEAM, [12345], 0o000),
    # More than the kernel keeps in one place, the one that counts last.
    "emil": (12349, 12349, list(range(6000, 6060)) + [TEAM], 0o027),
}


def acl(*entries):
    """Entries (tag, permissions, id) as the extended attribute."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


NO_ID = 0xFFFFFFFF
ACLS = [
    acl((1, 6, NO_ID), (2, 7, 12345), (4, 4, NO_ID), (16, 7, NO_ID), (32, 0, NO_ID)),
    acl((1, 7, NO_ID), (2, 6, 12346), (4, 5, NO_ID), (8, 7, TEAM), (16, 5, NO_ID), (32, 4, NO_ID)),
    acl((1, 7, NO_ID), (2, 0, 12347), (4, 7, NO_ID), (8, 2, OTHER_TEAM), (16, 7, NO_ID), (32, 7, NO_ID)),
    acl((1, 6, NO_ID), (4, 6, NO_ID), (32, 0, NO_ID)),
]


def prepare(folder):
    os.umask(0)
    os.chmod(folder, 0o755)
    for name, mode, uid, gid in [
        ("sticky", 0o1777, 0, 0),
        ("team", 0o2775, 12345, TEAM),
        ("private", 0o700, 12345, 12345),
        ("drop", 0o733, 12346, TEAM),
        ("open", 0o777, 0, 0),
        ("inherits", 0o777, 0, TEAM),
        ("sgid-others", 0o2777, 12346, OTHER_TEAM),
    ]:
        os.mkdir(f"{folder}/{name}")
        os.chown(f"{folder}/{name}", uid, gid)
        os.chmod(f"{folder}/{name}", mode)
        for at, (user, (uid, gid, _, _)) in enumerate(USERS.items()):
            path = f"{folder}/{name}/{'abcdef'[at]}"
            with open(path, "wb") as file:
                file.write(user.encode() * 10)
            os.chown(path, uid, [gid, TEAM, OTHER_TEAM][at % 3])
            os.chmod(path, [0o6777, 0o640, 0o4755, 0o664, 0o2775, 0o600][(at + len(name)) % 6])
    os.setxattr(f"{folder}/inherits", DEFAULT, ACLS[1])


def describe(path):
    """The file as its owner is told of it, through this very user's eyes."""
    at = os.lstat(path)
    links = at.st_nlink if not stat.S_ISDIR(at.st_mode) else "-"
    size = at.st_size if stat.S_ISREG(at.st_mode) else "-"
    return f"{at.st_mode:o} {at.st_uid}:{at.st_gid} {links} {size}"


def opened(path, flags, mode, action):
    # A FIFO shall let nobody wait.
    fd = os.open(path, flags | os.O_NONBLOCK, mode)
    try:
        return action(fd)
    finally:
        os.close(fd)


def calls(folder, rnd):
    """One random call: its description and what makes it."""
    folders = ["sticky", "team", "private", "drop", "open", "inherits", "sgid-others", "open/sub", "sticky/sub", "inherits/sub"]
    place = rnd.choice(folders)
    name = f"{place}/{rnd.choice('abcdefgh')}"
    path = f"{folder}/{name}"
    second = f"{rnd.choice(folders)}/{rnd.choice('abcdefgh')}"
    other = f"{folder}/{second}"
    mode = rnd.choice([0o777, 0o666, 0o644, 0o600, 0o6755, 0o4711, 0o2770, 0o1777, 0o2644, 0o000, 0o444])
    uid = rnd.choice([-1, -1] + [user[0] for user in USERS.values()])
    gid = rnd.choice([-1, -1, TEAM, OTHER_TEAM, 12345, 12346, 0])
    # chown(-1, -1) takes set-id bits away; a mount cannot tell it from a write that is about to do so (docs/guide/permissions.md).
    gid = TEAM if uid == gid == -1 else gid
    size = rnd.choice([0, 3, 100])
    flags = rnd.choice([os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC, os.O_WRONLY | os.O_APPEND])
    times = rnd.choice([None, (1, 2)])
    how = rnd.choice([os.R_OK, os.W_OK, os.X_OK, os.F_OK])
    which, value = rnd.choice([ACCESS, DEFAULT]), rnd.choice(ACLS)
    create = os.O_CREAT | rnd.choice([0, os.O_EXCL, os.O_TRUNC]) | os.O_WRONLY
    folder_of = f"{folder}/{place}"
    choices = [
        (f"create {name} {create:o} {mode:o}", lambda: opened(path, create, mode, lambda fd: os.write(fd, b"new"))),
        (f"create {name} {create:o} {mode:o}", lambda: opened(path, create, mode, lambda fd: os.write(fd, b"new"))),
        (f"open {name} {flags:o}", lambda: opened(path, flags, 0, lambda fd: oct(os.fstat(fd).st_mode))),
        (f"write {name}", lambda: opened(path, os.O_WRONLY, 0, lambda fd: os.write(fd, b"x" * size))),
        (f"read {name}", lambda: opened(path, os.O_RDONLY, 0, lambda fd: os.read(fd, 8))),
        (f"ftruncate {name}", lambda: opened(path, os.O_WRONLY, 0, lambda fd: os.ftruncate(fd, size))),
        (f"fallocate {name}", lambda: opened(path, os.O_WRONLY, 0, lambda fd: os.posix_fallocate(fd, 0, 200))),
        (f"tmpfile {place} {mode:o}", lambda: opened(folder_of, os.O_TMPFILE | os.O_RDWR, mode, lambda fd: f"{os.fstat(fd).st_mode:o} {os.fstat(fd).st_gid}")),
        (f"mkdir {place}/sub {mode:o}", lambda: os.mkdir(f"{folder_of}/sub", mode)),
        (f"mkdir {name} {mode:o}", lambda: os.mkdir(path, mode)),
        (f"rmdir {name}", lambda: os.rmdir(path)),
        (f"unlink {name}", lambda: os.unlink(path)),
        (f"rename {name} {second}", lambda: os.rename(path, other)),
        (f"link {name} {second}", lambda: os.link(path, other, follow_symlinks=False)),
        (f"symlink {name}", lambda: os.symlink("a", path)),
        (f"mkfifo {name} {mode:o}", lambda: os.mkfifo(path, mode)),
        (f"mknod {name}", lambda: os.mknod(path, 0o020000 | mode, os.makedev(1, 3))),
        (f"chmod {name} {mode:o}", lambda: os.chmod(path, mode)),
        (f"chmod {place} {mode:o}", lambda: os.chmod(folder_of, mode | 0o111)),
        (f"chown {name} {uid} {gid}", lambda: os.lchown(path, uid, gid)),
        (f"truncate {name} {size}", lambda: os.truncate(path, size)),
        (f"utime {name} {times}", lambda: os.utime(path, times)),
        (f"access {name} {how}", lambda: os.access(path, how)),
        (f"list {place}", lambda: sorted(os.listdir(folder_of))),
        (f"stat {name}", lambda: describe(path)),
        (f"chdir {place}", lambda: (os.chdir(folder_of), os.chdir("/"))[1]),
        (f"setxattr {name}", lambda: os.setxattr(path, "user.test", b"value")),
        (f"getxattr {name}", lambda: os.getxattr(path, "user.test")),
        (f"trusted {name}", lambda: os.setxattr(path, "trusted.test", b"value")),
        (f"listxattr {name}", lambda: sorted(os.listxattr(path))),
        (f"setacl {name} {which} {len(value)}", lambda: os.setxattr(path, which, value)),
        (f"setacl {place} {which} {len(value)}", lambda: os.setxattr(folder_of, which, value)),
        (f"removeacl {name}", lambda: os.removexattr(path, which)),
    ]
    what, call = rnd.choice(choices)
    return what, call, path


def outcome(call):
    try:
        return repr(call())
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error.errno))


def serve(user, folder, requests, answers):
    """A process that makes the calls of one user: it is sent the state of the dice."""
    uid, gid, groups, umask = USERS[user]
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    os.umask(umask)
    for line in requests:
        what, call, path = calls(folder, random.Random(line.strip()))
        answers.write(f"{what}: {outcome(call)}; {outcome(lambda: describe(path))}\n")
        answers.flush()
    os._exit(0)


def start(user, folder):
    there, from_here = os.pipe()
    here, from_there = os.pipe()
    if os.fork() == 0:
        os.close(from_here)
        serve(user, folder, open(there, "r"), open(from_there, "w"))
    os.close(there)
    os.close(from_there)
    return open(from_here, "w"), open(here, "r")


def tree(folder):
    for at, folders, files in sorted(os.walk(folder)):
        for name in sorted(folders + files) + ["."]:
            path = f"{at}/{name}"
            attributes = [] if os.path.islink(path) else sorted(os.listxattr(path))
            values = [f"{key}={os.getxattr(path, key).hex()}" for key in attributes if key.startswith(("system.posix", "user."))]
            print(os.path.relpath(path, folder), describe(path), *values)


def main():
    folder = sys.argv[1]
    if sys.argv[2] == "tree":
        tree(folder)
        return
    seed, count = int(sys.argv[2]), int(sys.argv[3])
    prepare(folder)
    users = {user: start(user, folder) for user in USERS}
    rnd = random.Random(seed)
    for step in range(count):
        user = rnd.choice(list(USERS))
        requests, answers = users[user]
        requests.write(f"{seed} {step}\n")
        requests.flush()
        print(step, user, answers.readline().strip())
    for requests, _ in users.values():
        requests.close()


main()
