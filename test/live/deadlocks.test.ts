/**
 * A daemon that uses its own mount, in every way that one falls into: refused with EDEADLK and a fault, or served, and never a
 * hang. The daemon is a process of its own (test/fixtures/self/), so that a hang would be seen and cleaned up.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { clientLibrary, NO_COMPILER } from '../clients/build.ts';
import { type Daemon, daemonOf, FIXTURES, LineProcess, mountPoint, NO_MOUNTS, skipLoudly, useLiveMounts } from './harness.ts';

const ENABLED = '/sys/module/fuse/parameters/enable_uring';
const NO_RINGS =
  existsSync(ENABLED) && readFileSync(ENABLED, 'latin1').startsWith('Y')
    ? undefined
    : `${ENABLED} is not Y: root may write it there`;

/** What refuses or serves is a matter of seconds; this is how long a busy machine may take. */
const LIMIT_MS = 30_000;

/** Made by the daemon itself: always refused. */
const OWN = ['stat', 'read', 'write', 'list', 'statfs', 'realpath', 'dlopen', 'promises.stat', 'promises.open', 'promises x 16'];
/** Made by a child of the daemon: served where another thread can. */
const CHILD = ['spawn with cwd', 'spawn of a program', 'spawnSync with cwd', 'execFileSync'];

async function start(workers: number, mode: string, transport = 'device'): Promise<Daemon> {
  const path = mountPoint();
  return daemonOf(join(FIXTURES, 'self/daemon.mjs'), [path, String(workers), mode, transport], path, 30_000);
}

async function outcome(daemon: Daemon, name: string): Promise<string> {
  const line = await daemon.line((found) => found.startsWith(`done ${name}: `), LIMIT_MS, `the outcome of ${name}`);
  return line.slice(`done ${name}: `.length).replace(/ after \d+ ms$/, '');
}

/** What each attempt of the main thread came to. */
async function mainTries(daemon: Daemon, names: readonly string[]): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const name of names) {
    daemon.send(name);
    found[name] = await outcome(daemon, name);
  }
  return found;
}

/** What each attempt of a worker came to: it is asked by looking up a name. */
async function workerTries(daemon: Daemon, names: readonly string[]): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const name of names) {
    const asker = new LineProcess(['stat', '-c', '%s', `${daemon.path}/do ${name}`]);
    found[name] = await outcome(daemon, name);
    // Who asked for it is served as if nothing had been.
    expect(await asker.end(LIMIT_MS)).toMatchObject({ code: 0 });
  }
  return found;
}

const all = (names: readonly string[], result: string) => Object.fromEntries(names.map((name) => [name, result]));

/** After all that the mount serves everybody else. */
async function servesOthers(daemon: Daemon): Promise<void> {
  const reader = new LineProcess(['cat', `${daemon.path}/f`]);
  expect(await reader.end(LIMIT_MS)).toMatchObject({ code: 0 });
  expect(reader.lines).toEqual(['contents of f']);
}

const faultsOf = (daemon: Daemon) => daemon.lines.filter((line) => line.startsWith('fault '));

describe.skipIf(skipLoudly('a daemon that uses its own mount', NO_MOUNTS))(
  'requests of the daemon itself',
  { timeout: 300_000 },
  () => {
    useLiveMounts();

    it('to an object, by the only thread that serves it: the guard refuses, also its children', async () => {
      const daemon = await start(0, 'event');
      const names = [...OWN, 'create', 'chdir', ...CHILD];
      expect(await mainTries(daemon, names)).toEqual(all(names, 'EDEADLK'));
      for (const why of ['used its own mount', 'started a child on its own mount', 'waits synchronously for a child']) {
        await daemon.line((line) => line.startsWith('fault own-request') && line.includes(why), LIMIT_MS, `the fault: ${why}`);
      }
      expect(faultsOf(daemon).filter((line) => !line.startsWith('fault own-request'))).toEqual([]);
      await servesOthers(daemon);
    });

    it.each([
      ['event', 1],
      ['blocking', 1],
      ['blocking', 2],
    ])('to a module, by the main thread, %s mode, %i workers: refused; its children are served', async (mode, workers) => {
      const daemon = await start(workers, mode);
      const own = [...OWN, 'create', 'chdir'];
      expect(await mainTries(daemon, [...own, ...CHILD])).toEqual({ ...all(own, 'EDEADLK'), ...all(CHILD, 'exit 0') });
      expect(faultsOf(daemon).every((line) => line.startsWith('fault own-request'))).toBe(true);
      await servesOthers(daemon);
    });

    it.skipIf(skipLoudly('own requests over rings', NO_RINGS))(
      'over rings, by the main thread: refused; its children are served',
      async () => {
        const daemon = await start(2, 'event', 'uring');
        const own = [...OWN, 'create', 'chdir'];
        expect(await mainTries(daemon, [...own, ...CHILD])).toEqual({ ...all(own, 'EDEADLK'), ...all(CHILD, 'exit 0') });
        await servesOthers(daemon);
      },
    );

    it.each(['event', 'blocking'])(
      'to a module, by its only worker, %s mode: the guard refuses, also its children',
      async (mode) => {
        const daemon = await start(1, mode);
        const names = [...OWN, ...CHILD];
        expect(await workerTries(daemon, names)).toEqual(all(names, 'EDEADLK'));
        expect(faultsOf(daemon).some((line) => line.startsWith('fault own-request'))).toBe(true);
        await servesOthers(daemon);
      },
    );

    it.each(['event', 'blocking'])(
      'to a module, by one worker of three, %s mode: refused; its children are served',
      async (mode) => {
        const daemon = await start(3, mode);
        expect(await workerTries(daemon, [...OWN, ...CHILD])).toEqual({ ...all(OWN, 'EDEADLK'), ...all(CHILD, 'exit 0') });
        await servesOthers(daemon);
      },
    );

    it.skipIf(NO_COMPILER !== undefined)(
      'a page fault, a read and a close of a file that is open: refused, never waited for',
      async () => {
        process.env.FUSEWIRE_LIBRARY = clientLibrary('touch');
        const daemon = await start(0, 'event').finally(() => delete process.env.FUSEWIRE_LIBRARY);
        // Now the kernel knows the file, and that files of this mount are opened without asking.
        const opener = new LineProcess(['sh', '-c', ': < "$1"; : < "$1"', 'sh', `${daemon.path}/f`]);
        expect(await opener.end(LIMIT_MS)).toMatchObject({ code: 0 });
        // The library makes its calls while the loader's lock is held, which the guard needs once, to load the addon.
        expect(await mainTries(daemon, ['list'])).toEqual({ list: 'EDEADLK' });
        daemon.send('touch');
        const line = await daemon.line((found) => found.startsWith('touched '), LIMIT_MS, 'the outcome of touching');
        // The flush of the close is one that the only serving thread waits for; the descriptor is closed all the same.
        expect(line).toBe('touched open=0 mmap=SIGBUS read=EDEADLK close=EDEADLK');
        await servesOthers(daemon);
      },
    );
  },
);
