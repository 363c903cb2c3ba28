import type { CommandName } from './arguments.ts';
import { EXIT_HELP } from './exit.ts';
import { EXPORT_HELP } from './trace-export.ts';
import { REPLAY_HELP } from './trace-replay.ts';

const GENERAL = `fusewire: filesystems in TypeScript, spoken straight at /dev/fuse

Usage
  fusewire passthrough [SRC MNT] [options]   show the folder SRC at MNT
  fusewire mount MODULE MNT [options]        mount the filesystem that a module exports
  fusewire umount MNT                        unmount
  fusewire doctor                            what this machine offers, and how to mend what is missing
  fusewire trace ACTION FILE                 recorded traffic: show, stat, check, grep, replay, export and more
  fusewire COMMAND --help                    options and examples
  fusewire --version

Examples
  fusewire passthrough                       makes two folders of its own and says what to try
  fusewire passthrough ~/data /mnt/data
  fusewire passthrough ~/data /mnt/data --trace session.trace
  fusewire trace show session.trace
  fusewire umount /mnt/data

${EXIT_HELP}`;

const SERVE = `Options
  --workers N               threads that serve, 1 to 64 (passthrough: one a core, 2 to 4; mount: 1)
  --mode event|blocking     event: many requests in flight per worker; blocking: lowest latency
                            (passthrough: blocking; mount: event)
  --transport auto|device|uring
                            how requests travel: /dev/fuse, or FUSE-over-io_uring (auto: device)
  --async-dio, --no-async-dio
                            direct I/O in parallel pieces (default: on)
  --max-background N        background requests in flight, 1 to 65535
  --max-write BYTES         largest write request, 4096 to 16777216 (passthrough: 262144; mount: 1048576)
  --cache none|auto|always  how long the kernel may believe what it was told (default: auto)
  --writeback               the kernel gathers writes in its page cache
  --backing, --no-backing   files that the kernel reads and writes itself (passthrough: on where the process has
                            CAP_SYS_ADMIN; not with --writeback)
  --trace FILE              record the traffic; "fusewire trace show FILE" reads it (.jsonl: lines of JSON)
  --read-only               mount read-only
  -o, --options LIST        mount(8)-style, may be repeated: allow_other,default_permissions,ro,nosuid,
                            noatime,max_read=N,fsname=NAME,subtype=NAME,auto_unmount
                            (a comma or backslash in fsname: \\, and \\\\)
  --json                    events as JSON, one a line
  -h, --help

It stays in the foreground and prints a line that starts with "mounted" when the mount can be used. SIGINT, SIGTERM and
SIGHUP unmount and exit with 0; a second signal exits at once. An unmount from outside ends it with 0.`;

const TOPICS: Readonly<Record<CommandName, string>> = {
  passthrough: `Usage: fusewire passthrough [SRC MNT] [options]

Shows the folder SRC at MNT. Without both, makes a source folder with a few files and a mount point, says what to try,
and removes both at the end.

${SERVE}

Examples
  fusewire passthrough
  fusewire passthrough ~/data /mnt/data
  fusewire passthrough ~/data /mnt/data --workers 2 --mode event
  fusewire passthrough ~/data /mnt/data --cache always -o allow_other,default_permissions
  fusewire passthrough ~/data /mnt/data --read-only --json

${EXIT_HELP}`,
  mount: `Usage: fusewire mount MODULE MNT [options] [-- ARGUMENTS]

Mounts the filesystem that MODULE exports by default, or that the function it exports makes. MODULE is a path or the name
of an installed package. Its function receives, as context.options, { arguments, cache, writeback, readOnly }; arguments
are those after "--".

${SERVE}

Examples
  fusewire mount ./memory.js /mnt/memory
  fusewire mount ./remote.js /mnt/remote --workers 4 -- https://example.org/files

${EXIT_HELP}`,
  umount: `Usage: fusewire umount MNT [options]

Unmounts the FUSE mount at MNT. Works on dead mounts too, whatever program made them, if they are yours or you are root.

Options
  -z, --lazy    detach at once, even when programs use it
  -f, --force   abort the connection first: programs that wait for the daemon get an error now
  -h, --help

Examples
  fusewire umount /mnt/data
  fusewire umount --lazy /mnt/data

${EXIT_HELP}`,
  doctor: `Usage: fusewire doctor [--json]

Looks at what this machine offers to FUSE: kernel, device, permissions, fusermount3, fusectl, limits, io_uring, dead
mounts. Prints what was found and the command that mends what is missing. Changes nothing. Exits with 0 when you can
mount here, else with 69.

Examples
  fusewire doctor
  fusewire doctor --json | jq '.checks[] | select(.state != "ok")'

${EXIT_HELP}`,
  trace: `Usage: fusewire trace ACTION FILE [options]

FILE is what --trace recorded, or lines of JSON made by others; either may be gzip'ed.

Actions
  show FILE            one line a message: caller, opcode, decoded arguments, paths, the answer and how long it took
  stat FILE            counts, errors, bytes, latencies, requests in flight, the busiest files
  check FILE...        decodes and encodes every message again and compares; 65 when one differs or does not decode
  grep FILE            shows the messages that match
  anonymise IN OUT     replaces names, data, users and processes; lengths and structure stay
  convert IN OUT       from one format to the other: lines of JSON when OUT ends with .jsonl, else compact; .gz packs
  replay FILE          sends the requests to a filesystem again and compares the answers
  export FILE          for Wireshark
  dissector [OUT]      the Wireshark dissector, to stdout or to a file

Options of show and grep
  --pairs yes|no       whether an answer stands on the line of its request when it came soon (default: yes)
  --json               one object a message, complete; 64-bit numbers are strings
  --from T, --to T     only this part: seconds since the recording began, or with a unit (250ms, 90us)
  --limit N            lines at most
  --all                every field, also zeros and times
  --data N             bytes of data shown (default: 32)
  --machine x64|arm    where it was recorded: some of the O_* differ (default: x64)
  --colour auto|always|never
                       default: auto, on a terminal unless NO_COLOR is set

Options of grep: all that are given must match
  --opcode LIST        READ,WRITE or notifications as NOTIFY_INVAL_ENTRY
  --errno LIST         ENOENT,EIO or any
  --path PATTERN       the path or a name in the message; * is anything but a slash, ** anything, ? one character
  --node N, --pid N, --uid N
  --min-duration T     answers that took at least this long
  --output OUT         writes the messages to a trace, together with INIT, instead of showing them

Options of others
  --json               stat, check: as JSON
  --top N              stat: files that are listed (default: 10)
  --seed N             anonymise: the same seed makes the same replacements (default: random)

${REPLAY_HELP}

${EXPORT_HELP}

Examples
  fusewire passthrough ~/data /mnt/data --trace session.trace
  fusewire trace show session.trace | less -R
  fusewire trace show session.trace --from 1.5 --to 2 --json
  fusewire trace grep session.trace --errno any --path '**/*.db' --output errors.jsonl
  fusewire trace stat session.trace
  fusewire trace check *.jsonl.gz

${EXIT_HELP}`,
};

/** What --help prints. */
export function helpText(topic?: CommandName): string {
  return topic === undefined ? GENERAL : TOPICS[topic];
}
