/**
 * Paths of the nodes of a connection, learned from its traffic: from LOOKUP and the requests that create, READDIRPLUS, RENAME,
 * UNLINK and FORGET. Names have one character a byte; {@link displayText} makes them readable.
 */
import { decodeUtf8, encodeBinary, type StructValue } from '../protocol/index.ts';
import type { ReplyEvent, RequestEvent, TraceEvent } from './follow.ts';

const ROOT = 1n;
/** Deeper than a path of PATH_MAX bytes can be. A cycle, which renames seen out of order could make, ends here. */
const DEPTH_MAX = 2048;
const RENAME_EXCHANGE = 2;

interface Link {
  readonly parent: bigint;
  readonly name: string;
}

interface Node {
  generation: bigint;
  /** References that the kernel holds, as far as the trace shows. */
  lookups: number;
  /** Names under which it was seen, the latest last; more than one for hard links. */
  links: Link[];
}

export interface NamesOptions {
  /** Nodes that are remembered; beyond, the one not seen for longest is forgotten. Default 1,000,000. */
  readonly nodesMax?: number;
}

/** Feed it the events of {@link followTrace}, and ask for paths. One for each connection; {@link TraceNames} keeps them apart. */
export class Names {
  readonly #nodes = new Map<bigint, Node>();
  /** Which node a name in a directory stands for. */
  readonly #entries = new Map<string, bigint>();
  readonly #nodesMax: number;

  constructor(options: NamesOptions = {}) {
    this.#nodesMax = options.nodesMax ?? 1_000_000;
  }

  /** Nodes that have a name at present. */
  get size(): number {
    return this.#nodes.size;
  }

  /** Learns from a message. Ask for the paths of a request's nodes before, of what a reply made after. */
  learn(event: TraceEvent): void {
    if (event.kind === 'request') this.#forget(event);
    else if (event.kind === 'reply' && event.message.malformed === undefined && event.message.header.error === 0)
      this.#reply(event);
  }

  /** The path of a node: `/dir/file`; `#12` when nobody named it, `#12/file` when only the end is known. */
  pathOf(nodeid: bigint): string {
    const parts: string[] = [];
    let at = nodeid;
    for (let depth = 0; at !== ROOT && depth < DEPTH_MAX; depth++) {
      const link = this.#nodes.get(at)?.links.at(-1);
      if (link === undefined) return [`#${at}`, ...parts.reverse()].join('/');
      parts.push(link.name);
      at = link.parent;
    }
    return `/${parts.reverse().join('/')}`;
  }

  /** The path of a name in a directory. */
  join(parent: bigint, name: string): string {
    const path = this.pathOf(parent);
    return path === '/' ? `/${name}` : `${path}/${name}`;
  }

  /** The node that a name in a directory stands for, as far as is known. */
  nodeOf(parent: bigint, name: string): bigint | undefined {
    return this.#entries.get(keyOf(parent, name));
  }

  #reply({ message, request, trace }: ReplyEvent): void {
    const asked = request.message;
    const parent = asked.header.nodeid as bigint;
    const refused = (trace.errno ?? 0) !== 0;
    if (refused) return;
    switch (asked.opcode) {
      case 'LOOKUP':
        this.#granted(message.structs[0]?.value, isSelf(asked.names[0]!) ? undefined : { parent, name: asked.names[0]! });
        break;
      case 'CREATE':
      case 'MKNOD':
      case 'MKDIR':
      case 'SYMLINK':
      case 'LINK':
        this.#granted(message.structs[0]?.value, { parent, name: asked.names[0]! });
        break;
      case 'TMPFILE':
        this.#granted(message.structs[0]?.value, undefined);
        break;
      case 'READDIRPLUS':
        for (const { entry, name } of message.entries ?? []) if (!isSelf(name)) this.#granted(entry, { parent, name });
        break;
      case 'UNLINK':
      case 'RMDIR':
        this.#unlink(parent, asked.names[0]!);
        break;
      case 'RENAME':
      case 'RENAME2':
        this.#rename(asked);
        break;
      default:
    }
  }

  /** An entry that grants a reference. */
  #granted(entry: StructValue | undefined, link: Link | undefined): void {
    const nodeid = (entry?.nodeid ?? 0n) as bigint;
    if (nodeid === 0n) {
      // The name does not exist.
      if (link !== undefined) this.#unlink(link.parent, link.name);
      return;
    }
    if (nodeid === ROOT) return;
    const generation = (entry?.generation ?? 0n) as bigint;
    let node = this.#nodes.get(nodeid);
    // Another generation is another file: what was known of the node is not about it.
    if (node !== undefined && node.generation !== generation) {
      this.#drop(nodeid, node);
      node = undefined;
    }
    node ??= { generation, lookups: 0, links: [] };
    node.lookups += 1;
    this.#nodes.delete(nodeid);
    this.#nodes.set(nodeid, node);
    if (link !== undefined) this.#link(nodeid, node, link);
    if (this.#nodes.size > this.#nodesMax) {
      const [oldest, old] = this.#nodes.entries().next().value!;
      this.#drop(oldest, old);
    }
  }

  #link(nodeid: bigint, node: Node, link: Link): void {
    const key = keyOf(link.parent, link.name);
    const before = this.#entries.get(key);
    if (before !== undefined && before !== nodeid) this.#unlink(link.parent, link.name);
    node.links = [...node.links.filter((other) => other.parent !== link.parent || other.name !== link.name), link];
    this.#entries.set(key, nodeid);
  }

  #unlink(parent: bigint, name: string): void {
    const key = keyOf(parent, name);
    const nodeid = this.#entries.get(key);
    if (nodeid === undefined) return;
    this.#entries.delete(key);
    const node = this.#nodes.get(nodeid);
    if (node === undefined) return;
    // An open file outlives its last name: it keeps the name to be recognised by, and the name is free for others.
    if (node.links.length > 1) node.links = node.links.filter((link) => link.parent !== parent || link.name !== name);
  }

  #rename({ header, structs, names }: RequestEvent['message']): void {
    const from: Link = { parent: header.nodeid as bigint, name: names[0]! };
    const to: Link = { parent: structs[0]!.value.newdir as bigint, name: names[1]! };
    const moved = this.nodeOf(from.parent, from.name);
    const exchanged = ((structs[0]!.value.flags ?? 0) as number) & RENAME_EXCHANGE;
    const target = this.nodeOf(to.parent, to.name);
    this.#take(moved, from);
    if (exchanged !== 0) this.#take(target, to);
    else this.#unlink(to.parent, to.name);
    this.#give(moved, to);
    if (exchanged !== 0) this.#give(target, from);
  }

  #take(nodeid: bigint | undefined, { parent, name }: Link): void {
    this.#entries.delete(keyOf(parent, name));
    const node = nodeid === undefined ? undefined : this.#nodes.get(nodeid);
    if (node !== undefined) node.links = node.links.filter((link) => link.parent !== parent || link.name !== name);
  }

  #give(nodeid: bigint | undefined, link: Link): void {
    const node = nodeid === undefined ? undefined : this.#nodes.get(nodeid);
    if (nodeid !== undefined && node !== undefined) this.#link(nodeid, node, link);
  }

  #forget({ message }: RequestEvent): void {
    if (message.opcode === 'FORGET') this.#release(message.header.nodeid as bigint, message.structs[0]?.value);
    else if (message.opcode === 'BATCH_FORGET')
      for (const record of message.records ?? []) this.#release(record.nodeid as bigint, record);
  }

  #release(nodeid: bigint, counted: StructValue | undefined): void {
    const node = this.#nodes.get(nodeid);
    if (node === undefined) return;
    node.lookups -= Number(counted?.nlookup ?? 0n);
    if (node.lookups <= 0) this.#drop(nodeid, node);
  }

  #drop(nodeid: bigint, node: Node): void {
    for (const { parent, name } of node.links) {
      const key = keyOf(parent, name);
      if (this.#entries.get(key) === nodeid) this.#entries.delete(key);
    }
    this.#nodes.delete(nodeid);
  }
}

/** {@link Names} for each connection of a trace. */
export class TraceNames {
  readonly #options: NamesOptions;
  #connection = -1;
  #names: Names | undefined;
  readonly #earlier = new Map<number, Names>();

  constructor(options: NamesOptions = {}) {
    this.#options = options;
  }

  /** The names of the connection of an event. */
  of({ connection }: TraceEvent): Names {
    if (this.#names === undefined || connection !== this.#connection) {
      this.#names = this.#earlier.get(connection) ?? new Names(this.#options);
      this.#connection = connection;
      this.#earlier.set(connection, this.#names);
    }
    return this.#names;
  }
}

/** Listings have them, and LOOKUP when the mount is exported. They name nothing new. */
function isSelf(name: string): boolean {
  return name === '.' || name === '..';
}

function keyOf(parent: bigint, name: string): string {
  return `${parent}/${name}`;
}

/** Text of one character a byte as people read it: UTF-8 where it is valid. */
export function utf8Text(binary: string): string | undefined {
  const bytes = new Uint8Array(binary.length);
  encodeBinary(bytes, 0, binary);
  return decodeUtf8(bytes, 0, bytes.length);
}

const ESCAPES: Readonly<Record<string, string>> = { '\n': '\\n', '\t': '\\t', '\r': '\\r', '"': '\\"', '\\': '\\\\' };
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must not reach a terminal
const UNSHOWN = /[\x00-\x1f"\\\x7f-\x9f\u2028-\u202e\u2066-\u2069]/g;
// biome-ignore lint/suspicious/noControlCharactersInRegex: as above, for text that is not UTF-8
const UNSHOWN_BYTE = /[\x00-\x1f"\\\x7f-\xff]/g;

/** A name or data in quotes: UTF-8 where it is valid, else escaped byte by byte; control characters always. */
export function displayText(binary: string): string {
  const text = utf8Text(binary);
  return `"${(text ?? binary).replaceAll(text === undefined ? UNSHOWN_BYTE : UNSHOWN, (char) => ESCAPES[char] ?? escaped(char))}"`;
}

function escaped(char: string): string {
  const code = char.charCodeAt(0);
  return code > 0xff ? `\\u${code.toString(16)}` : `\\x${code.toString(16).padStart(2, '0')}`;
}
