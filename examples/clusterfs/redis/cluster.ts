/**
 * A Redis Cluster as clusterfs needs it: which node owns a slot, a connection to it, and commands that are sent again until
 * they were answered or their time is over.
 *
 * The cluster client of @redis/client hides the connection, but WAIT speaks about the writes of one connection, and a
 * blocking XREAD needs one of its own. So this is built from the single-node client.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { ErrorReply } from '@redis/client';
import { ClusterfsError } from '../errors.ts';
import { type Argument, Connection, ConnectionLost, type ConnectionOptions, type Reply } from './connection.ts';
import { SLOTS } from './slot.ts';

export interface ClusterOptions extends Partial<ConnectionOptions> {
  /** `host:port` of one or more nodes; the others are found through them. */
  readonly nodes: readonly string[];
  /**
   * Where nodes are reached from here, when that is not where they say they are (behind address translation, through a tunnel):
   * `host:port` as announced → `host:port`.
   */
  readonly nodeAddressMap?: Readonly<Record<string, string>>;
  /** How long a command is tried, over failovers and all, before it fails, milliseconds. Default 30,000. */
  readonly commandMs?: number;
}

/**
 * `plain`: for what is answered at once. `durable`: for commands with a WAIT behind them, which holds up what comes after.
 * Neither is for commands that block on purpose: see {@link RedisCluster.dedicated}.
 */
export type Lane = 'plain' | 'durable';

export interface SendOptions {
  readonly lane?: Lane;
  readonly signal?: AbortSignal;
  /** Default: the cluster's `commandMs`. */
  readonly commandMs?: number;
  /** Told each time before everything is sent once more. */
  readonly onRetry?: (reason: Error) => void;
}

export interface ClusterNode {
  readonly host: string;
  readonly port: number;
}

interface Node extends ClusterNode {
  readonly address: string;
  readonly lanes: Map<Lane, Connection | Promise<Connection>>;
}

const COMMAND_MS = 30_000;
const CONNECT_MS = 2000;
const SILENCE_MS = 4000;
const BACKOFF_MS = 20;
const BACKOFF_MAX_MS = 250;

/** Answers that mean "not now" or "not here": by them the cluster says that it is moving. */
const TRANSIENT = new Set(['MOVED', 'ASK', 'TRYAGAIN', 'CLUSTERDOWN', 'LOADING', 'MASTERDOWN', 'READONLY', 'BUSY', 'NOREPLICAS']);

function wordOf(error: Error): string {
  const space = error.message.indexOf(' ');
  return space < 0 ? error.message : error.message.slice(0, space);
}

export class RedisCluster {
  readonly #options: ConnectionOptions & { commandMs: number };
  readonly #addressMap: Readonly<Record<string, string>>;
  readonly #seeds: readonly ClusterNode[];
  readonly #nodes = new Map<string, Node>();
  readonly #owners: (Node | undefined)[] = new Array(SLOTS);
  #masters: Node[] = [];
  #discovering: Promise<void> | undefined;
  #closed = false;

  private constructor(options: ClusterOptions) {
    const {
      nodes,
      commandMs = COMMAND_MS,
      connectMs = CONNECT_MS,
      silenceMs = SILENCE_MS,
      nodeAddressMap = {},
      ...rest
    } = options;
    this.#addressMap = nodeAddressMap;
    this.#options = { ...rest, commandMs, connectMs, silenceMs };
    this.#seeds = nodes.map(parseNode);
    if (nodes.length === 0) throw new ClusterfsError('ERR_CLUSTERFS_OPTION', 'no node of the cluster is named');
  }

  /** Rejects with {@link ClusterfsError} when the cluster cannot be used, within `commandMs`. */
  static async connect(options: ClusterOptions): Promise<RedisCluster> {
    const cluster = new RedisCluster(options);
    const until = performance.now() + cluster.#options.commandMs;
    for (let attempt = 0; ; attempt++) {
      try {
        await cluster.#discover();
        await cluster.#assertUsable();
        return cluster;
      } catch (error) {
        const left = until - performance.now();
        const hopeless = error instanceof ClusterfsError && error.code !== 'ERR_CLUSTERFS_UNREACHABLE';
        if (hopeless || left <= 0) {
          cluster.close();
          throw error;
        }
        await sleep(Math.min(left, backoff(attempt)));
      }
    }
  }

  /** Masters that own slots, in the order of those. */
  get masters(): readonly ClusterNode[] {
    return this.#masters;
  }

  /** `host:port` of the node that owns a slot, as far as known. */
  ownerOf(slot: number): string | undefined {
    return this.#owners[slot]?.address;
  }

  /**
   * Names the plain connection by which commands of a slot travel now. What was written by another one may be lost: its server
   * died, or gave its office to a replica that did not have it yet.
   */
  wayOf(slot: number): string | undefined {
    const held = this.#owners[slot]?.lanes.get('plain');
    return held instanceof Connection && !held.ended ? held.id : undefined;
  }

  /**
   * Sends commands to the node that owns a slot, all over the same connection, in order. Answers their replies. When one is
   * lost or refused for now, all are sent once more: they must mean the same the second time.
   *
   * @throws ClusterfsError when the time is over or the server refuses for good; the signal's reason.
   */
  async send(slot: number, commands: readonly (readonly Argument[])[], options: SendOptions = {}): Promise<Reply[]> {
    const { lane = 'plain', signal, commandMs = this.#options.commandMs } = options;
    const until = performance.now() + commandMs;
    for (let attempt = 0; ; attempt++) {
      signal?.throwIfAborted();
      if (this.#closed) throw new ClusterfsError('ERR_CLUSTERFS_UNREACHABLE', 'it was closed');
      let failure: Error;
      try {
        const node = this.#owners[slot];
        if (node !== undefined) return await this.#sendTo(node, lane, commands);
        failure = new Error(`nobody owns slot ${slot}`);
      } catch (error) {
        failure = error as Error;
      }
      if (!isTransient(failure)) throw fatal(failure);
      if (performance.now() >= until) throw gaveUp(failure, commandMs);
      options.onRetry?.(failure);
      // A moved slot is known to its new owner already; everything else takes a while.
      if (attempt > 0 || !failure.message.startsWith('MOVED ')) {
        const pause = Math.min(backoff(attempt), Math.max(1, until - performance.now()));
        await sleep(pause, undefined, signal === undefined ? {} : { signal }).catch(() => signal?.throwIfAborted());
      }
      await this.#discover(failure).catch(() => {});
    }
  }

  /** A connection to the owner of a slot for commands that block. It is the caller's, who destroys it. */
  async dedicated(slot: number, silenceMs: number): Promise<Connection> {
    const node = this.#owners[slot];
    if (node === undefined) {
      await this.#discover();
      throw new ConnectionLost(`nobody owns slot ${slot}`);
    }
    return await this.#open(node, silenceMs);
  }

  /** Asks for the map of slots again: after a connection of one's own was lost. */
  async refresh(): Promise<void> {
    await this.#discover();
  }

  /** Runs commands on one node, whatever it owns: for what concerns nodes and not keys. No second try. */
  async on(node: ClusterNode, words: readonly Argument[]): Promise<Reply> {
    try {
      const [reply] = await this.#sendTo(this.#node(node.host, node.port), 'plain', [words]);
      return reply;
    } catch (error) {
      throw isTransient(error as Error) ? gaveUp(error as Error, 0) : fatal(error as Error);
    }
  }

  close(): void {
    this.#closed = true;
    for (const node of this.#nodes.values()) this.#drop(node);
    this.#nodes.clear();
  }

  // --- sending -----------------------------------------------------------------------------------------------------------

  async #sendTo(node: Node, lane: Lane, commands: readonly (readonly Argument[])[]): Promise<Reply[]> {
    const held = node.lanes.get(lane);
    const connection = held instanceof Connection && !held.ended ? held : await this.#connection(node, lane);
    if (commands.length === 1) return [await connection.send(commands[0])];
    const outcomes = await Promise.allSettled(commands.map((words) => connection.send(words)));
    const replies: Reply[] = [];
    for (const outcome of outcomes) {
      if (outcome.status === 'rejected') throw outcome.reason;
      replies.push(outcome.value);
    }
    return replies;
  }

  /** One at a time is opened for each lane, however many ask. */
  #connection(node: Node, lane: Lane): Promise<Connection> {
    const held = node.lanes.get(lane);
    if (held instanceof Promise) return held;
    if (held !== undefined && !held.ended) return Promise.resolve(held);
    const opening = this.#open(node, this.#options.silenceMs).then(
      (connection) => {
        if (this.#closed) connection.destroy();
        else node.lanes.set(lane, connection);
        return connection;
      },
      (error) => {
        node.lanes.delete(lane);
        throw error;
      },
    );
    node.lanes.set(lane, opening);
    return opening;
  }

  #open(node: ClusterNode, silenceMs: number): Promise<Connection> {
    const mapped = this.#addressMap[`${node.host}:${node.port}`];
    const { host, port } = mapped === undefined ? node : parseNode(mapped);
    return Connection.open(host, port, { ...this.#options, silenceMs });
  }

  #drop(node: Node): void {
    for (const held of node.lanes.values()) {
      if (held instanceof Connection) held.destroy();
      else held.then((connection) => connection.destroy()).catch(() => {});
    }
    node.lanes.clear();
  }

  #node(host: string, port: number): Node {
    const address = `${host}:${port}`;
    let node = this.#nodes.get(address);
    if (node === undefined) {
      node = { host, port, address, lanes: new Map() };
      this.#nodes.set(address, node);
    }
    return node;
  }

  // --- who owns what ---------------------------------------------------------------------------------------------------

  /** Several callers share one round of questions. */
  #discover(because?: Error): Promise<void> {
    this.#discovering ??= this.#ask(because).finally(() => {
      this.#discovering = undefined;
    });
    return this.#discovering;
  }

  async #ask(because?: Error): Promise<void> {
    const hint = because?.message.startsWith('MOVED ') ? parseNode(because.message.split(' ')[2]) : undefined;
    const known = [...this.#nodes.values()].filter((node) => [...node.lanes.values()].some((held) => !isEnded(held)));
    const candidates: ClusterNode[] = [...(hint ? [hint] : []), ...known, ...this.#nodes.values(), ...this.#seeds];
    const asked = new Set<string>();
    let failure: Error | undefined;
    for (const { host, port } of candidates) {
      const node = this.#node(host, port);
      if (asked.has(node.address)) continue;
      asked.add(node.address);
      try {
        const [reply] = await this.#sendTo(node, 'plain', [['CLUSTER', 'SLOTS']]);
        this.#learn(reply as readonly Reply[], node.host);
        return;
      } catch (error) {
        // What a server says itself tells more than the silence of another.
        if (failure === undefined || error instanceof ErrorReply) failure = error as Error;
      }
    }
    if (failure instanceof ErrorReply) throw fatal(failure);
    throw new ClusterfsError('ERR_CLUSTERFS_UNREACHABLE', failure?.message, failure);
  }

  #learn(ranges: readonly Reply[], askedHost: string): void {
    this.#owners.fill(undefined);
    const masters = new Set<Node>();
    const seen = new Set<string>(this.#seeds.map(({ host, port }) => `${host}:${port}`));
    for (const range of ranges) {
      const [first, last, ...members] = range as unknown as [number, number, ...(readonly [Buffer | null, number])[]];
      const nodes = members.map(([host, port]) =>
        this.#node(host === null || host.length === 0 ? askedHost : String(host), port),
      );
      for (const node of nodes) seen.add(node.address);
      masters.add(nodes[0]);
      this.#owners.fill(nodes[0], first, last + 1);
    }
    this.#masters = [...masters];
    for (const node of this.#nodes.values()) {
      if (seen.has(node.address)) continue;
      this.#drop(node);
      this.#nodes.delete(node.address);
    }
  }

  async #assertUsable(): Promise<void> {
    const node = this.#masters[0];
    if (node === undefined) throw new ClusterfsError('ERR_CLUSTERFS_UNREACHABLE', 'no node owns any slot');
    const [info] = await this.#sendTo(node, 'plain', [['INFO', 'server']]).catch((error: Error) => {
      if (error instanceof ErrorReply) throw fatal(error);
      throw new ClusterfsError('ERR_CLUSTERFS_UNREACHABLE', error.message, error);
    });
    const version = /redis_version:(\d+)/.exec(String(info))?.[1];
    if (Number(version) < 7) throw new ClusterfsError('ERR_CLUSTERFS_OLD_SERVER', `version ${version}`);
  }
}

function isEnded(held: Connection | Promise<Connection>): boolean {
  return held instanceof Connection && held.ended;
}

function parseNode(address: string): ClusterNode {
  const match = /^(?:redis:\/\/)?(.+):(\d{1,5})$/.exec(address);
  if (match === null) throw new ClusterfsError('ERR_CLUSTERFS_OPTION', `${address} is no host:port`);
  return { host: match[1], port: Number(match[2]) };
}

/** Grows to a quarter of a second, and differs from caller to caller. */
function backoff(attempt: number): number {
  return Math.min(BACKOFF_MAX_MS, BACKOFF_MS * 2 ** Math.min(attempt, 8)) * (0.5 + Math.random() / 2);
}

function isTransient(error: Error): boolean {
  return !(error instanceof ErrorReply) ? !(error instanceof ClusterfsError) : TRANSIENT.has(wordOf(error));
}

/** What an answer of a server means for good. */
function fatal(error: Error): Error {
  if (!(error instanceof ErrorReply)) return error;
  const { message } = error;
  if (/^(WRONGPASS|NOAUTH|NOPERM)\b|without any password configured/.test(message)) {
    return new ClusterfsError('ERR_CLUSTERFS_AUTH', message, error);
  }
  if (message.startsWith('OOM ') || message.includes('-OOM')) return new ClusterfsError('ERR_CLUSTERFS_FULL', message, error);
  if (message.includes('cluster support disabled')) return new ClusterfsError('ERR_CLUSTERFS_NOT_CLUSTER', message, error);
  if (message.startsWith('MISCONF ')) return new ClusterfsError('ERR_CLUSTERFS_READ_ONLY', message, error);
  return new ClusterfsError('ERR_CLUSTERFS_SERVER', message, error);
}

function gaveUp(failure: Error, commandMs: number): ClusterfsError {
  const word = failure instanceof ErrorReply ? wordOf(failure) : '';
  const code = word === 'READONLY' || word === 'NOREPLICAS' ? 'ERR_CLUSTERFS_READ_ONLY' : 'ERR_CLUSTERFS_UNREACHABLE';
  return new ClusterfsError(code, `${failure.message}, for ${commandMs} ms`, failure);
}
