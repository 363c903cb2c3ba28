/**
 * Cleans up after a test process that ended in whatever way. It reads from standard input what the process has made and
 * taken away again; when that ends, it kills the children that are left, aborts the connections, unmounts and removes the
 * folders.
 *
 *   + child PID STARTTIME | + mount PATH CONNECTION | + control PATH | + folder PATH        and the same with "-" when it is gone
 *   fusectl PATH                                                                 where the control files are
 */
import { spawnSync } from 'node:child_process';
import { readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';

const kept = { child: new Map(), mount: new Map(), control: new Map(), folder: new Map() };
let fusectl = '';

/** The number of a connection: st_dev as the kernel has it, 20 bits of it the minor. */
function numberOf(device) {
  const [major, minor] = device.split(':').map(Number);
  return String(major * 2 ** 20 + minor);
}

/** The paths of all mounts below `folder` or on it, innermost last, with the numbers of their connections. */
function mountsUnder(folder) {
  const rows = [];
  for (const line of readFileSync('/proc/self/mountinfo', 'utf8').split('\n')) {
    const fields = line.split(' ');
    if (fields.length < 10) continue;
    const path = fields[4].replace(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8)));
    const type = fields[fields.indexOf('-') + 1];
    if (path === folder || path.startsWith(`${folder}/`)) rows.push({ path, type, connection: numberOf(fields[2]) });
  }
  return rows;
}

function runs(pid, started) {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] === started;
  } catch {
    return false;
  }
}

function killChild(pid, started) {
  if (!runs(pid, started)) return;
  try {
    process.kill(Number(pid), 'SIGKILL');
  } catch {
    // It has ended meanwhile.
  }
}

function abort(connection) {
  if (fusectl === '' || connection === '') return;
  try {
    writeFileSync(`${fusectl}/${connection}/abort`, '1');
  } catch {
    // The connection has ended already.
  }
}

/** Ends the connection of each FUSE mount on or below `path`, then takes all mounts there away, topmost first. */
function clear(path) {
  const rows = mountsUnder(path);
  for (const row of rows) if (row.type.startsWith('fuse')) abort(row.connection);
  for (const row of rows.reverse()) spawnSync('umount', ['-l', '-c', row.path], { timeout: 5000, killSignal: 'SIGKILL' });
}

function cleanUp() {
  for (const [pid, started] of kept.child) killChild(pid, started);
  for (const path of kept.mount.keys()) clear(path);
  for (const path of kept.folder.keys()) clear(path);
  spawnSync('sleep', ['0.3']);
  // A killed child that stays waits in a detached mount; so its connection's number still means that connection.
  const stuck = [...kept.child].some(([pid, started]) => runs(pid, started));
  for (const connection of kept.mount.values()) if (stuck) abort(connection);
  for (const path of kept.control.keys()) {
    spawnSync('umount', ['-l', '-c', path], { timeout: 5000, killSignal: 'SIGKILL' });
    try {
      rmdirSync(path);
    } catch {
      // Still in use; nothing more can be done from here.
    }
  }
  for (const path of kept.folder.keys()) {
    // Never remove through a mount that refused to go.
    if (mountsUnder(path).length === 0) rmSync(path, { recursive: true, force: true });
  }
}

// Only the end of standard input ends this process: a Ctrl-C reaches the whole process group.
process.on('SIGINT', () => {});
process.on('SIGTERM', () => {});
process.on('SIGHUP', () => {});

createInterface({ input: process.stdin })
  .on('line', (line) => {
    const [sign, kind, ...rest] = line.split('\t');
    if (sign === 'fusectl') fusectl = kind;
    else if (sign === '+') kept[kind].set(rest[0], rest[1] ?? '');
    else if (sign === '-') kept[kind].delete(rest[0]);
  })
  .on('close', cleanUp);
