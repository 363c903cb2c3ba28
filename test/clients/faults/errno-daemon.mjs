/**
 * Mounts a filesystem where everything succeeds and nothing is remembered, and answers the errno that the control file names
 * (see errnos.c). Arguments: MOUNTPOINT CONTROL [METHOD], the last one a method to do without. Unmounts when standard input ends.
 */
import { openSync, readSync, writeSync } from 'node:fs';
import { FuseError, mount } from '../../../dist/src/index.js';
import { faultCounts, faultPlan, withFaults } from '../../../dist/src/testing/index.js';

const [path, controlPath, without] = process.argv.slice(2);
const control = openSync(controlPath, 'r+');

const DIRECTORY = 0o040755;
const FILE = 0o100644;
const NODES = { file: [2, FILE], link: [3, 0o120777], dir: [4, DIRECTORY], old: [5, FILE], olddir: [6, DIRECTORY] };
const modes = new Map([[1, DIRECTORY], ...Object.values(NODES)]);
let lastNode = 6;

const attributes = (node) => ({ attributes: { mode: modes.get(node), size: 1 << 20, ino: node, nlink: 1 } });
const entry = (node) => ({ node, ...attributes(node) });
function made(mode) {
  modes.set(++lastNode, mode);
  return entry(lastNode);
}
function fill(_node, request, reply) {
  for (let offset = request.offset + 1; offset <= 40; offset++) {
    if (!reply.add({ name: `entry-${offset}`, ino: offset + 100, offset })) return;
  }
}

const base = {
  settings: { cache: 'none' },
  lookup(_parent, name) {
    if (NODES[name] === undefined) throw FuseError.of(2);
    return entry(NODES[name][0]);
  },
  forget(node) {
    if (node > 6) modes.delete(node);
  },
  getattr: attributes,
  statx: attributes,
  setattr: attributes,
  readlink: () => 'file',
  mknod: (_parent, _name, { mode }) => made(mode),
  mkdir: () => made(DIRECTORY),
  symlink: () => made(0o120777),
  unlink() {},
  rmdir() {},
  rename() {},
  link: (node) => entry(node),
  open: () => ({}),
  create: () => ({ entry: made(FILE), open: {} }),
  tmpfile: () => ({ entry: made(FILE), open: {} }),
  read: (_node, request) => request.payload().fill(1).length,
  write: (_node, data) => data.length,
  flush() {},
  release() {},
  fsync() {},
  opendir: () => ({}),
  readdir: fill,
  readdirplus: fill,
  releasedir() {},
  fsyncdir() {},
  statfs: () => ({}),
  access() {},
  setxattr() {},
  getxattr: () => 5,
  listxattr: () => 0,
  removexattr() {},
  getlk() {},
  setlk() {},
  fallocate() {},
  lseek: () => 1 << 20,
  copyFileRange: (_node, { length }) => length,
  ioctl: () => ({}),
  poll: () => 1,
  bmap: () => 0,
  syncfs() {},
};
base.getxattr = (_node, _name, { size }) => (size === 0 ? 5 : Buffer.from('value'));
base.listxattr = (_node, { size }) => (size === 0 ? 10 : ['user.name']);

const armed = Buffer.alloc(28);
const hits = Buffer.alloc(4);
let faulty = base;
let plan;
let before = '';

/** The filesystem with the fault that the control file names now. */
function current() {
  readSync(control, armed, 0, 28, 0);
  const now = armed.toString('latin1');
  if (now === before) return faulty;
  before = now;
  const errno = armed.readUInt32LE(0);
  const operation = armed.toString('latin1', 4).replace(/\0.*$/s, '');
  plan = errno === 0 ? undefined : faultPlan([{ operation, times: Number.POSITIVE_INFINITY, effect: { kind: 'errno', errno } }]);
  faulty = plan === undefined ? base : withFaults(base, plan);
  return faulty;
}

const filesystem = { settings: base.settings, forget: base.forget };
for (const name of Object.keys(base)) {
  if (name in filesystem || name === without) continue;
  filesystem[name] = (...args) => {
    const target = current();
    try {
      return target[name](...args);
    } finally {
      if (plan !== undefined && faultCounts(plan)[0].hit > 0) {
        hits.writeUInt32LE(faultCounts(plan)[0].hit);
        writeSync(control, hits, 0, 4, 64);
      }
    }
  };
}

const mounted = await mount(filesystem, path);
console.log(`mounted ${path}`);
process.stdin.on('end', () => mounted.unmount()).resume();
