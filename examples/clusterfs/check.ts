/** `clusterfs fsck`: looks at every name, file, map and block of a volume, and mends what has only one right answer. */
import { decodeInode, type Inode } from './meta/attributes.ts';
import { Session } from './meta/session.ts';
import type { Argument, Reply } from './redis/connection.ts';
import type { BlockStore } from './store/store.ts';
import { keysOf, type Volume, volumeStatus } from './volume.ts';

export interface CheckOptions {
  /** Mend: names without files go, counts become right, files that nothing names and nobody has open go. Default false. */
  readonly repair?: boolean;
  /** Ask the store for every block. Default true. */
  readonly blocks?: boolean;
}

export interface Problem {
  /** Stable: what kind of damage it is. */
  readonly kind:
    | 'name-without-file'
    | 'wrong-type'
    | 'file-without-name'
    | 'wrong-link-count'
    | 'wrong-parent'
    | 'directory-with-two-names'
    | 'block-missing'
    | 'block-short'
    | 'block-twice'
    | 'block-in-garbage'
    | 'block-behind-end'
    | 'wrong-space'
    | 'held-by-nobody'
    | 'wrong-count';
  readonly message: string;
  readonly repaired: boolean;
}

export interface CheckReport {
  readonly directories: number;
  readonly files: number;
  readonly blocks: number;
  readonly problems: readonly Problem[];
}

interface Found {
  readonly kind: Problem['kind'];
  readonly message: string;
  /** The operation that mends it, with its words. */
  readonly repair?: readonly [operation: string, ...words: Argument[]];
}

interface Tree {
  readonly inodes: Map<number, Inode>;
  /** Directory → its names. */
  readonly names: Map<number, { name: string; ino: number; type: number }[]>;
  readonly parents: Map<number, number>;
}

const S_IFMT = 0o170000;
const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;
const ROOT = 1;
const PAGE = 512;
const LEASE_MS = 30_000;

/**
 * Checks a volume, also one that is in use: then what it finds counts only if it is found a second time, since changes go on
 * between one question and the next.
 */
export async function checkVolume(volume: Volume, store: BlockStore, options: CheckOptions = {}): Promise<CheckReport> {
  const { repair = false } = options;
  const { sessions } = await volumeStatus(volume);
  const first = await check(volume, store, options);
  let { found } = first;
  if (found.length > 0 && sessions.length > 0) {
    const again = new Set((await check(volume, store, options)).found.map(({ message }) => message));
    found = found.filter(({ message }) => again.has(message));
  }
  const problems: Problem[] = [];
  const mendable = found.some((one) => one.repair !== undefined);
  const session = repair && mendable ? await beginSession(volume) : undefined;
  try {
    for (const { kind, message, repair: words } of found) {
      let repaired = false;
      if (session !== undefined && words !== undefined) {
        const [operation, ...rest] = words;
        repaired = String((await volume.meta.change(operation, rest))[0]) === '1';
      }
      problems.push({ kind, message, repaired });
    }
  } finally {
    await session?.end();
  }
  return { directories: first.directories, files: first.files, blocks: first.blocks, problems };
}

function beginSession({ meta }: Volume): Promise<Session> {
  return Session.begin(meta, { leaseMs: LEASE_MS, info: { purpose: 'fsck' }, onRenewed: async () => {}, onFault: () => {} });
}

async function check(volume: Volume, store: BlockStore, options: CheckOptions) {
  const found: Found[] = [];
  const tree = await readTree(volume);
  const held = await heldFiles(volume, found);
  checkNames(tree, held, found);
  const { blocks, bytes } = await checkMaps(volume, tree, options.blocks === false ? undefined : store, found);
  await checkCounters(volume, tree, bytes, found);
  const directories = [...tree.inodes.values()].filter(isDirectory).length;
  return { found, directories, files: tree.inodes.size - directories, blocks };
}

const isDirectory = ({ mode }: Inode) => (mode & S_IFMT) === S_IFDIR;

async function readTree({ cluster, meta }: Volume): Promise<Tree> {
  const tree: Tree = { inodes: new Map(), names: new Map(), parents: new Map() };
  const inos = new Set<string>();
  for await (const key of keysOf(cluster, meta.slot, `${meta.tag}:i:*`)) inos.add(lastPart(key));
  const all = [...inos];
  for (let at = 0; at < all.length; at += PAGE) {
    const [inodes] = await meta.read('attributes', all.slice(at, at + PAGE));
    for (const reply of inodes as readonly Reply[]) {
      if (reply === null) continue;
      const inode = decodeInode(reply);
      tree.inodes.set(inode.ino, inode);
    }
  }
  for (const inode of tree.inodes.values()) {
    if (!isDirectory(inode)) continue;
    const listed = await meta.read('list', [String(inode.ino), '0']).catch(() => undefined);
    if (listed === undefined) continue;
    const [parent, names] = listed as readonly [Buffer, readonly Buffer[]];
    tree.parents.set(inode.ino, Number(String(parent)));
    const found: { name: string; ino: number; type: number }[] = [];
    for (let at = 0; at < names.length; at += 2) {
      const [ino, type] = String(names[at + 1])
        .split(' ')
        .map(Number);
      found.push({ name: names[at].toString('latin1'), ino, type });
    }
    tree.names.set(inode.ino, found);
  }
  return tree;
}

function lastPart(key: Buffer): string {
  const text = String(key);
  return text.slice(text.lastIndexOf(':') + 1);
}

/** Files that a living session has open; that a dead one has is a problem. */
async function heldFiles({ cluster, meta }: Volume, found: Found[]): Promise<Set<number>> {
  const held = new Set<number>();
  const known = new Set<string>();
  for (const key of ['sessions', 'dying']) {
    const [sids] = await cluster.send(meta.slot, [['ZRANGE', `${meta.tag}:${key}`, '0', '-1']]);
    for (const sid of sids as readonly Buffer[]) known.add(String(sid));
  }
  for await (const key of keysOf(cluster, meta.slot, `${meta.tag}:h:*`)) {
    const ino = Number(lastPart(key));
    held.add(ino);
    const [sids] = await cluster.send(meta.slot, [['SMEMBERS', key]]);
    for (const sid of (sids as readonly Buffer[]).map(String)) {
      if (known.has(sid)) continue;
      found.push({ kind: 'held-by-nobody', message: `file ${ino} is held open by session ${sid}, which is gone` });
    }
  }
  return held;
}

function checkNames(tree: Tree, held: ReadonlySet<number>, found: Found[]): void {
  const { inodes, names, parents } = tree;
  const links = new Map<number, number>();
  const subdirectories = new Map<number, number>();
  for (const [parent, entries] of names) {
    for (const { name, ino, type } of entries) {
      const where = `${JSON.stringify(name)} in directory ${parent}`;
      const inode = inodes.get(ino);
      if (inode === undefined) {
        const repair = ['repair_name', String(parent), Buffer.from(name, 'latin1'), String(ino)] as const;
        found.push({ kind: 'name-without-file', message: `${where} names file ${ino}, which is not there`, repair });
        continue;
      }
      links.set(ino, (links.get(ino) ?? 0) + 1);
      if ((inode.mode & S_IFMT) !== type)
        found.push({ kind: 'wrong-type', message: `${where} has another type than its file ${ino}` });
      if (!isDirectory(inode)) continue;
      subdirectories.set(parent, (subdirectories.get(parent) ?? 0) + 1);
      if ((links.get(ino) ?? 0) > 1)
        found.push({ kind: 'directory-with-two-names', message: `directory ${ino} has more than one name` });
      if (parents.get(ino) !== parent) {
        const repair = ['repair_field', String(ino), 'parent', String(parents.get(ino)), String(parent)] as const;
        found.push({ kind: 'wrong-parent', message: `directory ${ino} lies in ${parent} and says ${parents.get(ino)}`, repair });
      }
    }
  }
  const reached = reach(names);
  for (const inode of inodes.values()) {
    const { ino, nlink } = inode;
    const count = links.get(ino) ?? 0;
    if (!reached.has(ino)) {
      if (held.has(ino) && count === 0) continue;
      const repair = ['repair_orphan', String(ino)] as const;
      found.push({ kind: 'file-without-name', message: `no path leads to file ${ino}`, ...(count === 0 ? { repair } : {}) });
      continue;
    }
    const right = isDirectory(inode) ? 2 + (subdirectories.get(ino) ?? 0) : count;
    if (nlink === right) continue;
    const repair = ['repair_field', String(ino), 'nlink', String(nlink), String(right)] as const;
    found.push({ kind: 'wrong-link-count', message: `file ${ino} has ${right} links and says ${nlink}`, repair });
  }
}

function reach(names: Tree['names']): Set<number> {
  const reached = new Set([ROOT]);
  const queue = [ROOT];
  for (let ino = queue.pop(); ino !== undefined; ino = queue.pop()) {
    for (const { ino: child } of names.get(ino) ?? []) {
      if (reached.has(child)) continue;
      reached.add(child);
      queue.push(child);
    }
  }
  return reached;
}

/** Maps against sizes, against each other, and against the store. */
async function checkMaps(volume: Volume, { inodes }: Tree, store: BlockStore | undefined, found: Found[]) {
  const { meta, cluster, description } = volume;
  const [list] = await cluster.send(meta.slot, [['LRANGE', `${meta.tag}:garbage`, '0', '-1']]);
  const garbage = new Set((list as readonly Buffer[]).map(String).map((entry) => entry.slice(entry.indexOf(' ') + 1)));
  const users = new Map<string, number>();
  let blocks = 0;
  let bytes = 0;
  for (const { ino, mode } of inodes.values()) {
    if ((mode & S_IFMT) !== S_IFREG) continue;
    const reply = await meta.read('whole_map', [String(ino)]).catch(() => undefined);
    if (reply === undefined) continue;
    const inode = decodeInode(reply[0]);
    const words = (reply[1] as readonly Buffer[]).map(String);
    let space = 0;
    const wanted: { id: string; length: number }[] = [];
    for (let at = 0; at < words.length; at += 2) {
      const index = Number(words[at]);
      const colon = words[at + 1].lastIndexOf(':');
      const id = words[at + 1].slice(0, colon);
      const length = Number(words[at + 1].slice(colon + 1));
      space += length;
      wanted.push({ id, length });
      const user = users.get(id);
      if (user !== undefined) found.push({ kind: 'block-twice', message: `block ${id} is in file ${ino} and in file ${user}` });
      users.set(id, ino);
      if (garbage.has(id))
        found.push({ kind: 'block-in-garbage', message: `block ${id} of file ${ino} is about to be collected` });
      const room = Math.min(description.blockBytes, inode.size - index * description.blockBytes);
      if (length > room) found.push({ kind: 'block-behind-end', message: `block ${index} of file ${ino} holds more than fits` });
    }
    blocks += wanted.length;
    bytes += space;
    if (space !== inode.alloc) {
      const repair = ['repair_field', String(ino), 'alloc', String(inode.alloc), String(space)] as const;
      found.push({ kind: 'wrong-space', message: `file ${ino} takes ${space} bytes and says ${inode.alloc}`, repair });
    }
    if (store !== undefined) await checkBlocks(store, ino, wanted, found);
  }
  return { blocks, bytes };
}

async function checkBlocks(
  store: BlockStore,
  ino: number,
  wanted: readonly { id: string; length: number }[],
  found: Found[],
): Promise<void> {
  for (let at = 0; at < wanted.length; at += PAGE) {
    await Promise.all(
      wanted.slice(at, at + PAGE).map(async ({ id, length }) => {
        const size = await store.size(id);
        if (size === undefined) found.push({ kind: 'block-missing', message: `block ${id} of file ${ino} is not in the store` });
        else if (size < length)
          found.push({ kind: 'block-short', message: `block ${id} of file ${ino} has ${size} of ${length} bytes` });
      }),
    );
  }
}

async function checkCounters(volume: Volume, { inodes }: Tree, bytes: number, found: Found[]): Promise<void> {
  const status = await volumeStatus(volume);
  const compare = (counter: 'inodes' | 'bytes', right: number) => {
    const says = status[counter];
    if (says === right) return;
    const repair = ['repair_counter', counter, String(right - says)] as const;
    found.push({ kind: 'wrong-count', message: `the volume has ${right} ${counter} and says ${says}`, repair });
  };
  compare('inodes', inodes.size);
  compare('bytes', bytes);
}
