/** What the tests of backing files share: a client that takes steps, and what went over the device. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { MountSettings } from '../../src/mount/mount.ts';
import { FUSE_DEV_IOC_BACKING_CLOSE, FUSE_DEV_IOC_BACKING_OPEN, opcodeRow } from '../../src/protocol/index.ts';
import { checkTrace, readTrace } from '../../src/trace/index.ts';
import { LineProcess, type LiveMount, mountHere, NO_MOUNTS, onCleanUp, program, ROOT, temporaryFolder } from './harness.ts';

export const PYTHON =
  program('python3') && execFileSync('python3', ['-c', 'import sys; print(sys.executable)'], { encoding: 'utf8' }).trim();

function kernelHasBackingFiles(): boolean {
  const [major, minor] = execFileSync('uname', ['-r'], { encoding: 'utf8' }).split('.').map(Number);
  return major > 6 || (major === 6 && minor >= 9);
}

/** Why the tests cannot run here, or undefined. */
export const WITHOUT_BACKING =
  NO_MOUNTS ??
  (PYTHON === undefined ? 'there is no python3' : undefined) ??
  (kernelHasBackingFiles() ? undefined : 'backing files come with Linux 6.9');

/** On a loaded machine a step can take long. */
const STEP_MS = 60_000;

/** A process that makes system calls on a mount, one after the other (test/clients/backing/steps.py). */
export class Steps extends LineProcess {
  #answers = 1;

  static async start(): Promise<Steps> {
    const steps = new Steps([PYTHON!, join(ROOT, 'test/clients/backing/steps.py')]);
    await steps.line((line) => line === 'ready', STEP_MS, 'the line `ready`');
    return steps;
  }

  /** Makes a step; answers its value or `{ errno }`. */
  async begin(name: string, ...rest: unknown[]): Promise<unknown> {
    const index = this.#answers++;
    this.send(JSON.stringify([name, ...rest]));
    await this.line(() => this.lines.length > index, STEP_MS, `an answer to ${name}`);
    return JSON.parse(this.lines[index]);
  }

  /** Makes a step that must not fail; answers its value. */
  async step<T = unknown>(name: string, ...rest: unknown[]): Promise<T> {
    const answer = await this.begin(name, ...rest);
    if (typeof answer === 'object' && answer !== null && 'errno' in answer) {
      throw new Error(`${name} ${JSON.stringify(rest)}: ${(answer as unknown as { text: string }).text}`);
    }
    return answer as T;
  }

  /** Makes a step that must fail; answers the errno. */
  async failure(name: string, ...rest: unknown[]): Promise<number> {
    const answer = (await this.begin(name, ...rest)) as { errno?: number };
    if (answer?.errno === undefined) throw new Error(`${name} ${JSON.stringify(rest)} did not fail: ${JSON.stringify(answer)}`);
    return answer.errno;
  }
}

/** What went over the device. */
export interface Traffic {
  /** Requests by opcode. */
  readonly requests: Readonly<Record<string, number>>;
  /** Backing ids that were given out, and given back. */
  readonly opened: number;
  readonly closed: number;
  /** Open flags of the answers to OPEN, in order. */
  readonly openFlags: readonly number[];
}

/** A folder below `place` that goes away with the test. */
export function folderIn(place: string): string {
  const path = mkdtempSync(join(existsSync(place) ? place : tmpdir(), 'fusewire-backing-'));
  onCleanUp({ after: () => rmSync(path, { recursive: true, force: true }) });
  return path;
}

/** A recorded mount. `traffic` unmounts it. */
export interface Recorded extends LiveMount {
  traffic(): Promise<Traffic>;
}

export async function recordedMount(
  filesystem: Parameters<typeof mountHere>[0],
  settings: MountSettings = {},
): Promise<Recorded> {
  const trace = join(temporaryFolder('trace'), 'trace');
  const live = await mountHere(filesystem, { ...settings, trace });
  return {
    ...live,
    async traffic() {
      await live.mount.unmount();
      const report = await checkTrace(readTrace(trace));
      if (report.findings.length > 0) throw new Error(`trace check: ${JSON.stringify(report.findings[0])}`);
      return trafficOf(trace);
    },
  };
}

async function trafficOf(trace: string): Promise<Traffic> {
  const requests: Record<string, number> = {};
  const openFlags: number[] = [];
  const opens = new Set<number>();
  let opened = 0;
  let closed = 0;
  for await (const { dir, bytes, command, result } of readTrace(trace)) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    if (dir === 'ioctl') {
      if (command === FUSE_DEV_IOC_BACKING_OPEN && result! > 0) opened++;
      if (command === FUSE_DEV_IOC_BACKING_CLOSE && result === 0) closed++;
    } else if (dir === 'in') {
      const name = opcodeRow(view.getUint32(4, true))?.name ?? '';
      requests[name] = (requests[name] ?? 0) + 1;
      if (name === 'OPEN') opens.add(view.getUint32(8, true));
    } else if (opens.delete(view.getUint32(8, true)) && view.getInt32(4, true) === 0) {
      openFlags.push(view.getUint32(24, true));
    }
  }
  return { requests, opened, closed, openFlags };
}

/** The passthrough of a folder, served by workers that are compiled. */
export function passthroughHere(source: string, settings: MountSettings = {}, options: object = {}): Promise<Recorded> {
  const module = join(ROOT, 'dist/examples/passthrough/filesystem.js');
  return recordedMount({ module, options: { source, ...options } }, { workers: 2, mode: 'blocking', ...settings });
}
