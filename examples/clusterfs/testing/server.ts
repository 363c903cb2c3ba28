/**
 * A real Redis Cluster on the loopback interface, for tests and to try clusterfs out: own ports, own folder, and an end that
 * comes whatever happens to the process that started it.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { accessSync, constants, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type Server as NetServer } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ClusterfsError } from '../errors.ts';
import { Connection, type Reply } from '../redis/connection.ts';
import { SLOTS } from '../redis/slot.ts';

export interface LocalClusterOptions {
  /** Default 3, the least that can elect. */
  readonly masters?: number;
  /** Replicas of each master. Default 1. */
  readonly replicas?: number;
  /** Bytes of memory that each node may use; then it refuses writes. Default: no limit. */
  readonly maxmemory?: number;
  readonly password?: string;
  /** After how many milliseconds of silence a node counts as dead. Default 5000, so that a busy machine has no failovers. */
  readonly nodeTimeoutMs?: number;
  /** Default: the redis-server in PATH. */
  readonly program?: string;
  /** More words for each server's command line. */
  readonly arguments?: readonly string[];
}

export interface LocalNode {
  readonly host: string;
  readonly port: number;
  readonly address: string;
  readonly pid: number;
  readonly alive: boolean;
}

/** Path of redis-server, or undefined where it is not installed. */
export function findRedisServer(): string | undefined {
  for (const folder of (process.env.PATH ?? '').split(delimiter)) {
    const path = join(folder, 'redis-server');
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Not in this folder.
    }
  }
  return undefined;
}

const HOST = '127.0.0.1';
const CONNECTION = { connectMs: 10_000, silenceMs: 10_000 };
const READY_MS = 30_000;

class Server implements LocalNode {
  readonly host = HOST;
  readonly port: number;
  readonly #argv: readonly string[];
  readonly #folder: string;
  #child: ChildProcess | undefined;

  constructor(port: number, argv: readonly string[], folder: string) {
    this.port = port;
    this.#argv = argv;
    this.#folder = folder;
  }

  get address(): string {
    return `${HOST}:${this.port}`;
  }

  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  get alive(): boolean {
    return this.#child !== undefined && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  get log(): string {
    return readFileSync(join(this.#folder, 'log'), 'utf8');
  }

  start(onPid: (pid: number) => void): void {
    const log = openSync(join(this.#folder, 'log'), 'a');
    this.#child = spawn(this.#argv[0], this.#argv.slice(1), { stdio: ['ignore', log, log], cwd: this.#folder, detached: true });
    this.#child.on('error', () => {});
    this.#child.unref();
    if (this.#child.pid !== undefined) onPid(this.#child.pid);
  }

  async end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child;
    if (child === undefined || !this.alive) return;
    const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()));
    child.ref();
    child.kill(signal);
    await gone;
  }

  /** For tests of a server that hangs: SIGSTOP, SIGCONT. */
  signal(signal: NodeJS.Signals): void {
    if (this.alive) this.#child?.kill(signal);
  }
}

/** Kills the servers and removes the folder when the process that started them ends without doing so. */
const WATCHER = `
const { rmSync } = require('node:fs');
const pids = new Set();
let folder = '';
require('node:readline').createInterface({ input: process.stdin }).on('line', (line) => {
  const [word, rest] = [line.slice(0, 1), line.slice(2)];
  if (word === '+') pids.add(Number(rest));
  if (word === '=') folder = rest;
  if (word === '.') { pids.clear(); folder = ''; }
}).on('close', () => {
  for (const pid of pids) try { process.kill(pid, 'SIGKILL'); } catch {}
  if (folder !== '') rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
});
`;

export class LocalCluster {
  readonly #options: LocalClusterOptions;
  readonly #folder: string;
  readonly #servers: Server[];
  readonly #watcher: ChildProcess;

  private constructor(options: LocalClusterOptions, folder: string, servers: Server[]) {
    this.#options = options;
    this.#folder = folder;
    this.#servers = servers;
    this.#watcher = spawn(process.execPath, ['-e', WATCHER], { stdio: ['pipe', 'ignore', 'ignore'], detached: true, cwd: '/' });
    this.#watcher.unref();
    (this.#watcher.stdin as unknown as { unref?(): void }).unref?.();
    this.#watcher.stdin?.on('error', () => {});
    this.#tell(`= ${folder}`);
  }

  /** Starts one and waits until it can be used. Rejects with ERR_CLUSTERFS_NO_REDIS where there is no redis-server. */
  static async start(options: LocalClusterOptions = {}): Promise<LocalCluster> {
    const { masters = 3, replicas = 1, program = findRedisServer() } = options;
    if (program === undefined) throw new ClusterfsError('ERR_CLUSTERFS_NO_REDIS');
    const count = masters * (1 + replicas);
    const ports = await freePorts(2 * count);
    const folder = mkdtempSync(join(tmpdir(), 'clusterfs-redis-'));
    const servers = Array.from({ length: count }, (_, index) => {
      const place = join(folder, String(ports[index]));
      mkdirSync(place);
      return new Server(ports[index], [program, ...serverWords(options, ports[index], ports[count + index], place)], place);
    });
    const cluster = new LocalCluster(options, folder, servers);
    try {
      for (const server of servers) server.start((pid) => cluster.#tell(`+ ${pid}`));
      await cluster.#join(masters);
    } catch (error) {
      await cluster.stop();
      throw error;
    }
    return cluster;
  }

  /** All nodes, masters of the beginning first. */
  get nodes(): readonly LocalNode[] {
    return this.#servers;
  }

  /** What to hand to clusterfs. */
  get addresses(): string[] {
    return this.#servers.map((server) => server.address);
  }

  /** The node that owns a slot now, asked of a living one. */
  async masterOf(slot: number): Promise<LocalNode> {
    for (const server of this.#servers) {
      if (!server.alive) continue;
      const ranges = await this.command(server, 'CLUSTER', 'SLOTS').catch(() => undefined);
      for (const range of (ranges ?? []) as readonly (readonly [number, number, readonly [Buffer, number]])[]) {
        const [first, last, [, port]] = range;
        if (first <= slot && slot <= last) return this.#servers.find((one) => one.port === port) as Server;
      }
    }
    throw new Error(`nobody owns slot ${slot}`);
  }

  /** Sends one command to one node. */
  async command(node: LocalNode, ...words: readonly string[]): Promise<Reply> {
    const { password } = this.#options;
    const connection = await Connection.open(HOST, node.port, { ...CONNECTION, ...(password === undefined ? {} : { password }) });
    try {
      return await connection.send(words);
    } finally {
      connection.destroy();
    }
  }

  /** SIGKILL. */
  async kill(node: LocalNode): Promise<void> {
    await (node as Server).end('SIGKILL');
  }

  signal(node: LocalNode, signal: NodeJS.Signals): void {
    (node as Server).signal(signal);
  }

  /** Starts a killed node again, with what it had on its disk. */
  restart(node: LocalNode): void {
    (node as Server).start((pid) => this.#tell(`+ ${pid}`));
  }

  /** Waits until every living node says that all slots are served, and each living replica follows its master. */
  async ready(timeoutMs = READY_MS): Promise<void> {
    const until = performance.now() + timeoutMs;
    for (const server of this.#servers) {
      if (!server.alive) continue;
      for (let last = ''; ; await sleep(20)) {
        const [state, role] = await Promise.all([
          this.command(server, 'CLUSTER', 'INFO'),
          this.command(server, 'INFO', 'replication'),
        ]).catch((error: Error) => [error.message, '']);
        last = `${state}\n${role}`;
        const follows = /role:master/.test(String(role)) || /master_link_status:up/.test(String(role));
        if (/cluster_state:ok/.test(String(state)) && follows) break;
        if (performance.now() > until) throw new Error(`the cluster is not ready after ${timeoutMs} ms: ${last}\n${server.log}`);
      }
    }
  }

  /** Ends all nodes and removes what they wrote. */
  async stop(): Promise<void> {
    await Promise.all(this.#servers.map((server) => server.end('SIGKILL')));
    rmSync(this.#folder, { recursive: true, force: true, maxRetries: 5 });
    this.#tell('.');
    this.#watcher.stdin?.end();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  #tell(line: string): void {
    this.#watcher.stdin?.write(`${line}\n`);
  }

  async #join(masters: number): Promise<void> {
    const servers = this.#servers;
    await Promise.all(servers.map((server) => this.#answers(server)));
    const ids = await Promise.all(servers.map(async (server) => String(await this.command(server, 'CLUSTER', 'MYID'))));
    for (let index = 0; index < masters; index++) {
      const first = Math.ceil((SLOTS * index) / masters);
      const last = Math.ceil((SLOTS * (index + 1)) / masters) - 1;
      await this.command(servers[index], 'CLUSTER', 'ADDSLOTSRANGE', String(first), String(last));
      // Each needs an epoch of its own, or they would have to sort out a conflict first.
      await this.command(servers[index], 'CLUSTER', 'SET-CONFIG-EPOCH', String(index + 1));
    }
    for (const server of servers.slice(1))
      await this.command(servers[0], 'CLUSTER', 'MEET', HOST, String(server.port), String(await this.#busPort(server)));
    for (const [index, server] of servers.entries()) {
      if (index >= masters) await this.#replicate(server, ids[index % masters]);
    }
    await this.ready();
  }

  async #busPort(server: Server): Promise<number> {
    const reply = (await this.command(server, 'CONFIG', 'GET', 'cluster-port')) as readonly Reply[];
    return Number(reply[1]);
  }

  async #replicate(server: Server, master: string): Promise<void> {
    const until = performance.now() + READY_MS;
    // The node that is to be followed must have heard of itself first.
    for (;;) {
      try {
        await this.command(server, 'CLUSTER', 'REPLICATE', master);
        return;
      } catch (error) {
        if (performance.now() > until) throw error;
        await sleep(20);
      }
    }
  }

  async #answers(server: Server): Promise<void> {
    const until = performance.now() + READY_MS;
    for (;;) {
      try {
        await this.command(server, 'PING');
        return;
      } catch (error) {
        if (!server.alive || performance.now() > until)
          throw new Error(`redis-server does not start: ${server.log}`, { cause: error });
        await sleep(20);
      }
    }
  }
}

function serverWords(options: LocalClusterOptions, port: number, busPort: number, folder: string): string[] {
  const { password, maxmemory = 0, nodeTimeoutMs = 5000 } = options;
  const settings: Record<string, string> = {
    port: String(port),
    'cluster-enabled': 'yes',
    'cluster-port': String(busPort),
    'cluster-node-timeout': String(nodeTimeoutMs),
    'cluster-replica-validity-factor': '0',
    bind: HOST,
    dir: folder,
    // What a restarted node had must still be there, or its replicas would copy an empty one.
    appendonly: 'yes',
    save: '',
    'repl-diskless-sync-delay': '0',
    maxmemory: String(maxmemory),
    'maxmemory-policy': 'noeviction',
  };
  if (password !== undefined) Object.assign(settings, { requirepass: password, masterauth: password });
  return [...Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value]), ...(options.arguments ?? [])];
}

/** Below the range from which Linux takes the ports of outgoing connections. */
const PORT_MIN = 20_000;
const PORT_MAX = 32_000;

/** Ports that nobody listens on now; all are held until the last one was found. */
async function freePorts(count: number): Promise<number[]> {
  const servers: NetServer[] = [];
  while (servers.length < count) {
    const server = createServer();
    const port = PORT_MIN + Math.floor(Math.random() * (PORT_MAX - PORT_MIN));
    const free = await new Promise<boolean>((resolve) => {
      server.once('error', () => resolve(false)).listen(port, HOST, () => resolve(true));
    });
    if (free) servers.push(server);
  }
  const ports = servers.map((server) => (server.address() as { port: number }).port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}
