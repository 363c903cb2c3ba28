/** One file, `data`, whose bytes a block server has: bare, or with the storage layer before it. */
import type { Filesystem, FilesystemFactory } from 'fusewire';
import { type StorageOptions, withStorage } from 'fusewire/storage';
import { BlockClient } from './client.ts';

/** `bare`: each request is an operation. `memory`: the same bytes from this process, to see what the layer itself costs. */
export interface StoreOptions {
  bytes: number;
  layer: 'bare' | 'unmerged' | 'merged';
  port: number;
  connections: number;
}

const FILE = 2;

export default (async ({ options }) => {
  const { bytes, layer, port, connections } = parse(options);
  const client = port === 0 ? undefined : await BlockClient.connect(port, connections);
  const content = client === undefined ? Buffer.alloc(bytes, 'fusewire') : Buffer.alloc(0);
  const read = async (offset: number, length: number) =>
    client?.read(offset, length) ?? content.subarray(offset, offset + length);
  const filesystem: Filesystem = {
    lookup(_parent, name) {
      return name === 'data'
        ? { node: FILE, attributes: { mode: 0o100444, size: bytes }, entryTtl: 3600, attributeTtl: 3600 }
        : { node: 0 };
    },
    getattr(node) {
      return node === FILE
        ? { attributes: { mode: 0o100444, size: bytes }, attributeTtl: 3600 }
        : { attributes: { mode: 0o040555, nlink: 2 }, attributeTtl: 3600 };
    },
    open: () => ({ handle: 1 }),
    release() {},
    read: (_node, { offset, size }) => read(offset, Math.min(size, Math.max(0, bytes - offset))),
    destroy: () => client?.close(),
  };
  if (layer === 'bare') return filesystem;
  const chosen: StorageOptions = layer === 'merged' ? {} : { merge: false, readAhead: false };
  return withStorage(filesystem, { ...chosen, backend: () => client?.backend() ?? { read } });
}) satisfies FilesystemFactory;

/** Words of the command line: `layer=merged port=1234`. */
function parse(options: unknown): StoreOptions {
  const words = Object.fromEntries(
    ((options as { arguments?: string[] }).arguments ?? []).map((word) => word.split('=') as [string, string]),
  );
  return {
    bytes: Number(words.bytes),
    layer: words.layer as StoreOptions['layer'],
    port: Number(words.port ?? 0),
    connections: Number(words.connections ?? 2),
  };
}
