/** The processes of the storage benchmark: a block server, proxies before it, daemons over these, and sshfs beside them. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { program } from '../harness/children.ts';
import { Daemon } from '../harness/daemon.ts';
import { BenchError } from '../harness/failure.ts';
import { forgetChild, guardChild } from '../harness/guard.ts';
import { packageRoot } from '../harness/machine.ts';
import { BlockClient } from './client.ts';

/** Bytes of the file that is read: more than the fastest reader has read before its time is over. */
export const FILE_BYTES = 256 << 20;
const START_MS = 20_000;

export interface Plan {
  readonly roundTrips: readonly number[];
  readonly flights: readonly number[];
  readonly rounds: number;
  readonly warmup: number;
  /** Of each load. */
  readonly seconds: number;
  /** The program. */
  readonly fio: string;
}

function script(name: string): string {
  return fileURLToPath(new URL(`./${name}${extname(import.meta.url)}`, import.meta.url));
}

/** A child of this benchmark that prints the port on which it listens. */
export class Listener {
  readonly port: number;
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess, port: number) {
    this.#child = child;
    this.port = port;
  }

  static async start(name: string, args: readonly (string | number)[]): Promise<Listener> {
    const argv = [...process.execArgv, script(name), ...args.map(String)];
    const child = spawn(process.execPath, argv, { stdio: ['ignore', 'pipe', 'inherit'], detached: true });
    if (child.pid !== undefined) guardChild(child.pid);
    const ended = new Promise<undefined>((resolve) => child.once('exit', () => resolve(undefined)));
    const late = new Promise<undefined>((resolve) => setTimeout(() => resolve(undefined), START_MS).unref());
    const first = await Promise.race([once(child.stdout!, 'data'), ended, late]);
    if (first === undefined) {
      child.kill('SIGKILL');
      throw BenchError.daemon(`${name} did not start`);
    }
    return new Listener(child, Number(String(first[0])));
  }

  async stop(): Promise<void> {
    const { pid } = this.#child;
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      const ended = once(this.#child, 'exit');
      this.#child.kill('SIGKILL');
      await ended;
    }
    if (pid !== undefined) forgetChild(pid);
  }
}

export interface Subject {
  readonly name: string;
  readonly roundTripMs: number;
  readonly daemon: Daemon;
  readonly file: string;
  /** Whether the block server counts what it does. */
  readonly isCounted: boolean;
}

export type Layer = 'bare' | 'unmerged' | 'merged';

export interface OurDaemon {
  readonly layer: Layer;
  readonly asyncDio: boolean;
  readonly mount: string;
  readonly bytes: number;
  /** 0: from memory. */
  readonly port: number;
}

/** A daemon of ours, on one thread. */
export async function ourDaemon({ layer, asyncDio, mount, bytes, port }: OurDaemon): Promise<Daemon> {
  const cli = join(packageRoot(), 'dist/src/cli/main.js');
  if (!existsSync(cli)) throw BenchError.machine('dist/src/cli/main.js is missing: run npm run build');
  const module = join(packageRoot(), 'dist/bench/storage/filesystem.js');
  const words = [`layer=${layer}`, `bytes=${bytes}`, `port=${port}`];
  const options = ['--workers', '1', '--mode', 'event', asyncDio ? '--async-dio' : '--no-async-dio'];
  return Daemon.start([process.execPath, cli, 'mount', module, mount, ...options, '--', ...words], mount, join(mount, 'data'));
}

/** sshfs without ssh: it speaks to the sftp server through the same proxy, and nothing is encrypted on either side. */
export async function sshfsDaemon(sshfs: string, folder: string, mount: string, port: number): Promise<Daemon> {
  const options = `directport=${port},ro,dir_cache=yes`;
  return Daemon.start([sshfs, '-f', '-o', options, `localhost:${folder}`, mount], mount, join(mount, 'data'));
}

/** Where Debian and others have the sftp server of OpenSSH. */
export function sftpServer(): string | undefined {
  return ['/usr/lib/openssh/sftp-server', '/usr/libexec/openssh/sftp-server', '/usr/lib/ssh/sftp-server'].find(existsSync);
}

export function findSshfs(): string | undefined {
  return sftpServer() === undefined ? undefined : program('sshfs');
}

/** The file that the block server has, for the sftp server. */
export async function copyOfFile(folder: string, bytes: number, port: number): Promise<void> {
  mkdirSync(folder, { recursive: true });
  const client = await BlockClient.connect(port, 1);
  try {
    writeFileSync(join(folder, 'data'), Buffer.concat(await client.read(0, bytes)));
  } finally {
    client.close();
  }
  if (readFileSync(join(folder, 'data')).length !== bytes) throw BenchError.daemon('the block server sent too little');
}
