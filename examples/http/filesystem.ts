/**
 * A remote tree, read by HTTP range requests.
 *
 *     fusewire mount dist/examples/http/filesystem.js /mnt --read-only -- https://example.org/tree/index.json
 *
 * The index lists what there is, a path relative to the index with its size: {"files": {"a/b.txt": 12, "big.iso": 4700000000}}.
 *
 * Each read is one range request, as many at a time as the kernel asks. A request that failed for a passing reason is tried
 * again `retries` times, then the reader sees EIO.
 *
 * Reads go through the page cache, whose read-ahead keeps several requests under way. What it has begun belongs to no reader any
 * more: Ctrl-C ends the reader at once, and the transfer when it is done or after `timeout`. With `direct` there is no page cache,
 * each read carries its reader's signal, and Ctrl-C ends the transfer too.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type AttributesInit,
  type Entry,
  type Filesystem,
  FuseError,
  type NodeId,
  ROOT_NODE,
  type WorkerContext,
} from 'fusewire';

export interface HttpOptions {
  /** What stands after `--`: the URL of the index, then `retries=N`, `timeout=MILLISECONDS`, `direct`. */
  readonly arguments?: readonly string[];
}

/** fetch has many transfers under way in one thread; a second one would only load the index again. */
export const workers = 1;

interface Node {
  /** Node id and inode number. */
  readonly id: number;
  readonly attributes: AttributesInit;
  /** Of a file. */
  readonly url?: URL;
  /** Of a directory, by name. */
  readonly children?: Map<string, Node>;
}

export default async function http({ options, mode }: Pick<WorkerContext<HttpOptions>, 'options' | 'mode'>): Promise<Filesystem> {
  if (mode === 'blocking') throw new Error('http waits for the network, so it needs an event loop; mount it with --mode event');
  const { index, retries, timeout, direct } = settingsOf(options.arguments ?? []);
  const nodes = await load(index, AbortSignal.timeout(timeout));
  const entry = ({ id, attributes }: Node): Entry => ({ node: id, attributes });

  /** A node id that the kernel holds is one that was given out, and none is ever taken back. */
  const nodeOf = (id: NodeId) => nodes[id];

  return {
    // The index is read once, so a mount shows one state of the tree.
    settings: { cache: 'immutable' },
    lookup(parent, name) {
      const child = nodeOf(parent).children?.get(name);
      // An absence is as final as everything else here: the kernel may remember it.
      return child === undefined ? { node: 0 } : entry(child);
    },
    getattr(node) {
      return { attributes: nodeOf(node).attributes };
    },
    readdir(node) {
      return [...nodeOf(node).children!].map(([name, { id, attributes }]) => ({ name, ino: id, mode: attributes.mode }));
    },
    open() {
      return { directIo: direct };
    },
    async read(node, request) {
      const { offset, signal } = request;
      const { url, attributes } = nodeOf(node);
      const length = Math.min(request.size, attributes.size! - offset);
      if (length <= 0) return 0;
      const target = request.payload().subarray(0, length);
      await retrying(retries, signal, () =>
        fetchRange(url!, offset, target, AbortSignal.any([signal, AbortSignal.timeout(timeout)])),
      );
      return length;
    },
  };
}

/** Fills `target` with the bytes of a file from `from` on. */
async function fetchRange(url: URL, from: number, target: Uint8Array, signal: AbortSignal): Promise<void> {
  // Compressed on the way, the range would be one of the compressed bytes.
  const headers = { range: `bytes=${from}-${from + target.length - 1}`, 'accept-encoding': 'identity' };
  const response = await fetch(url, { headers, signal });
  let filled = 0;
  // A server that does not know ranges answers 200 with the whole file, which may be anything long: refused, not read.
  if (response.status === 206 && response.body !== null) {
    for await (const chunk of response.body) {
      filled += chunk.length;
      if (filled > target.length) break;
      target.set(chunk, filled - chunk.length);
    }
  } else await response.body?.cancel();
  // Less than asked for would look like the end of the file.
  if (filled !== target.length) throw new HttpError(response.status, url);
}

class HttpError extends FuseError {
  /** Worth another try: the server is busy, or was restarted. */
  readonly passing: boolean;

  constructor(status: number, url: URL) {
    super(status === 401 || status === 403 ? 'EACCES' : 'EIO', `the server answered ${status} for a range of ${url}`);
    this.passing = status === 429 || status >= 500;
  }
}

/** Tries again after 100 ms, 200 ms, 400 ms …, `retries` times at most, unless the reader went away. */
async function retrying<T>(retries: number, signal: AbortSignal, attempt: () => Promise<T>): Promise<T> {
  for (let failed = 0; ; failed++) {
    try {
      return await attempt();
    } catch (error) {
      signal.throwIfAborted();
      const isFinal = error instanceof HttpError && !error.passing;
      if (isFinal) throw error;
      if (failed === retries) throw new FuseError('EIO', { cause: error });
      await sleep(100 * 2 ** failed, undefined, { signal });
    }
  }
}

/** All nodes by their id. */
async function load(index: URL, signal: AbortSignal): Promise<Node[]> {
  const response = await fetch(index, { signal });
  if (!response.ok) throw new Error(`${index} answered ${response.status}; give the URL of an index`);
  const { files } = (await response.json()) as { files: Record<string, number> };
  const root: Node = { id: ROOT_NODE, attributes: { mode: 0o040555, nlink: 2 }, children: new Map() };
  const nodes: Node[] = [];
  nodes[ROOT_NODE] = root;
  for (const [path, size] of Object.entries(files)) {
    const names = path.split('/');
    // Names are what a directory can hold; anything else would lead out of the tree, or to no name at all.
    if (names.some((name) => /^\.{0,2}$|\0/.test(name)) || !Number.isSafeInteger(size) || size < 0) {
      throw new Error(`${index} has an entry that is no file: ${JSON.stringify(path)}, ${size}`);
    }
    const last = names.pop()!;
    let directory = root;
    for (const name of names)
      directory = addChild(nodes, directory, name, { attributes: { mode: 0o040555, nlink: 2 }, children: new Map() });
    const url = new URL([...names, last].map(encodeURIComponent).join('/'), index);
    addChild(nodes, directory, last, { attributes: { mode: 0o100444, size }, url });
  }
  return nodes;
}

/** Adds a child, or finds the directory that is there already. Throws when the name is a file's and a directory's. */
function addChild(nodes: Node[], { children }: Node, name: string, made: Omit<Node, 'id'>): Node {
  const standing = children!.get(name);
  if (standing?.children !== undefined && made.children !== undefined) return standing;
  if (standing !== undefined) throw new Error(`the index has ${name} as a file and as a directory`);
  const child = { ...made, id: nodes.length };
  nodes.push(child);
  children!.set(name, child);
  return child;
}

function settingsOf(words: readonly string[]): { index: URL; retries: number; timeout: number; direct: boolean } {
  const [first, ...rest] = words;
  if (first === undefined || !URL.canParse(first))
    throw new Error('http needs the URL of an index: -- https://example.org/tree/index.json');
  const settings = { index: new URL(first), retries: 3, timeout: 30_000, direct: false };
  for (const word of rest) {
    if (word === 'direct') {
      settings.direct = true;
      continue;
    }
    const [, key, digits] = /^(retries|timeout)=(\d{1,9})$/.exec(word) ?? [];
    if (key === undefined) throw new Error(`${word} is no argument of http; write retries=N, timeout=MILLISECONDS or direct`);
    settings[key as 'retries' | 'timeout'] = Number(digits);
  }
  return settings;
}
