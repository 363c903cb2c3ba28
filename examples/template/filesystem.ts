import { type Filesystem, FuseError, ROOT_NODE } from 'fusewire';

/** What the folder shows: put your own files here. The node of a file is its place in the list, after the root's. */
const files = [{ name: 'hello.txt', content: Buffer.from('Hello from my filesystem!\n') }];
const nodeAt = (index: number) => ROOT_NODE + 1 + index;
const fileOf = (node: number) => files[node - ROOT_NODE - 1];

function attributes(node: number) {
  if (node === ROOT_NODE) return { mode: 0o040555, nlink: 2 };
  return { mode: 0o100444, size: fileOf(node).content.length };
}

export default {
  lookup(_parent, name) {
    const index = files.findIndex((file) => file.name === name);
    if (index < 0) throw new FuseError('ENOENT');
    return { node: nodeAt(index), attributes: attributes(nodeAt(index)) };
  },
  getattr(node) {
    return { attributes: attributes(node) };
  },
  readdir() {
    return files.map(({ name }, index) => ({ name, ino: nodeAt(index), mode: 0o100000 }));
  },
  read(node, { offset, size }) {
    return fileOf(node).content.subarray(offset, offset + size);
  },
} satisfies Filesystem;
