/** `node tree.mjs FOLDER FILE`: writes a line for everything in a folder: its name, all its metadata, and a checksum of its contents. */
import { createHash } from 'node:crypto';
import { closeSync, lstatSync, openSync, readdirSync, readlinkSync, readSync, writeFileSync } from 'node:fs';

const [, , root, output] = process.argv;
const buffer = Buffer.alloc(1 << 20);

function checksum(path) {
  const hash = createHash('sha1');
  const fd = openSync(path, 'r');
  try {
    for (let length = readSync(fd, buffer); length > 0; length = readSync(fd, buffer)) hash.update(buffer.subarray(0, length));
  } finally {
    closeSync(fd);
  }
  return hash.digest('hex');
}

/** Names are bytes, and fsstress makes all kinds of them. */
function contents(path, stat) {
  if (stat.isFile()) return checksum(path);
  if (stat.isSymbolicLink()) return readlinkSync(path, 'hex');
  return stat.isBlockDevice() || stat.isCharacterDevice() ? String(stat.rdev) : '-';
}

const lines = [];
function walk(path, shown) {
  const stat = lstatSync(path, { bigint: true });
  const { mode, nlink, uid, gid, size, blocks, ino, mtimeNs, ctimeNs } = stat;
  lines.push(
    [shown || '.', mode.toString(8), nlink, uid, gid, size, blocks, ino, mtimeNs, ctimeNs, contents(path, stat)].join(' '),
  );
  if (!stat.isDirectory()) return;
  for (const name of readdirSync(path, { encoding: 'buffer' })) {
    walk(Buffer.concat([path, Buffer.from('/'), name]), `${shown}/${name.toString('hex')}`);
  }
}

walk(Buffer.from(root), '');
writeFileSync(output, `${lines.sort().join('\n')}\n`);
