import { type Filesystem, FuseError } from 'fusewire';

const text = Buffer.from('Hello, world!\n');

export default {
  lookup(parent, name) {
    if (parent !== 1 || name !== 'hello') throw new FuseError('ENOENT');
    return { node: 2, attributes: { mode: 0o100444, size: text.length } };
  },
  getattr(node) {
    return { attributes: node === 1 ? { mode: 0o040755, nlink: 2 } : { mode: 0o100444, size: text.length } };
  },
  readdir() {
    return [{ name: 'hello', ino: 2 }];
  },
  read(_node, { offset, size }) {
    return text.subarray(offset, offset + size);
  },
} satisfies Filesystem;
