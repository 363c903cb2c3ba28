/** Where a suite works: a fresh filesystem, and a mount of a folder of it. Made within the namespaces of isolation.ts. */
import { type ChildProcessByStdio, execFile, spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { ConformanceError } from './failure.ts';
import type { Storage } from './settings.ts';

const execute = promisify(execFile);
const COMMAND_LIMIT_MS = 60_000;
const MOUNT_LIMIT_MS = 30_000;

export async function command(...argv: string[]): Promise<string> {
  try {
    return (await execute(argv[0], argv.slice(1), { timeout: COMMAND_LIMIT_MS, killSignal: 'SIGKILL' })).stdout;
  } catch (error) {
    const { stderr, message } = error as Error & { stderr?: string };
    throw new ConformanceError(`${argv.join(' ')}: ${stderr?.trim() || message}`);
  }
}

/**
 * A loop device of a new sparse file of so many bytes, which has no name any more. Both go with this process: detached while it
 * is open here, the device stays until its last user lets go.
 */
export async function loopDevice(folder: string, name: string, size: string): Promise<string> {
  const file = join(folder, `${name}.image`);
  await command('truncate', '-s', size, file);
  const device = (await command('losetup', '--find', '--show', file)).trim();
  unlinkSync(file);
  openSync(device, 'r');
  await command('losetup', '--detach', device);
  return device;
}

/** A fresh filesystem, mounted. */
export class Scratch {
  readonly folder: string;

  private constructor(folder: string) {
    this.folder = folder;
  }

  static async make(storage: Storage, base: string, name: string, size: string): Promise<Scratch> {
    const folder = join(base, name);
    mkdirSync(folder);
    if (storage === 'tmpfs') {
      await command('mount', '-t', 'tmpfs', '-o', `size=${size},mode=755`, name, folder);
      return new Scratch(folder);
    }
    if (!readFileSync('/proc/filesystems', 'latin1').includes(`\t${storage}\n`)) {
      await command('modprobe', storage).catch(() => {
        throw new ConformanceError(`this kernel has no ${storage}: choose another filesystem with --over`);
      });
    }
    const device = await loopDevice(base, name, size);
    await command(`mkfs.${storage}`, '-q', device);
    await command('mount', '-t', storage, device, folder);
    return new Scratch(folder);
  }

  async end(): Promise<void> {
    await command('umount', this.folder);
  }
}

type DaemonProcess = ChildProcessByStdio<null, Readable, null>;

/** A mount of the passthrough, in a process of its own. */
export class PassthroughMount {
  readonly folder: string;
  readonly #child: DaemonProcess;
  readonly #log: string;
  readonly #ended: Promise<number | null>;
  #code: number | null | undefined;

  private constructor(folder: string, child: DaemonProcess, log: string) {
    this.folder = folder;
    this.#child = child;
    this.#log = log;
    this.#ended = new Promise((resolve) => {
      child.once('exit', (code) => {
        this.#code = code;
        resolve(code);
      });
    });
  }

  static async make(daemon: readonly string[], source: string, folder: string, log: string): Promise<PassthroughMount> {
    mkdirSync(folder, { recursive: true });
    const stderr = openSync(log, 'w');
    const argv = [...daemon, source, folder, '-o', 'allow_other,default_permissions,dev,suid'];
    const child = spawn(argv[0], argv.slice(1), { stdio: ['ignore', 'pipe', stderr], cwd: '/' }) as DaemonProcess;
    closeSync(stderr);
    const made = new PassthroughMount(folder, child, log);
    const mounted = new Promise<boolean>((resolve) => {
      child.stdout.setEncoding('utf8').on('data', (text: string) => {
        writeFileSync(log, text, { flag: 'a' });
        if (text.includes('mounted ')) resolve(true);
      });
    });
    const late = sleep(MOUNT_LIMIT_MS, false, { ref: false });
    if (await Promise.race([mounted, made.#ended.then(() => false), late])) return made;
    child.kill('SIGKILL');
    throw new ConformanceError(`the passthrough did not mount: ${readFileSync(log, 'utf8').trim() || 'it says nothing'}`);
  }

  /** Unmounts. Answers what was wrong with the daemon: that it had ended before, say; nothing when all is well. */
  async end(): Promise<string | undefined> {
    const early = this.#code;
    if (early === undefined) this.#child.kill('SIGTERM');
    const code = await Promise.race([this.#ended, sleep(MOUNT_LIMIT_MS, 'late' as const, { ref: false })]);
    const said = readFileSync(this.#log, 'utf8').trim().split('\n').slice(-5).join('\n');
    if (early !== undefined) return `the daemon ended while the suite ran, with code ${early}: ${said}`;
    if (code === 'late') this.#child.kill('SIGKILL');
    return code === 0 ? undefined : `the daemon ended with ${code === 'late' ? 'nothing but SIGKILL' : `code ${code}`}: ${said}`;
  }
}
