/** Backing files as an author offers them, from a filesystem of one file in this process: mixed opens, refusals, ends. */
import { closeSync, mkdirSync, constants as O, openSync, readFileSync, readSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Entry, Filesystem, OpenReply } from '../../src/filesystem/filesystem.ts';
import type { OpenRequest } from '../../src/filesystem/requests.ts';
import { ERRNO, FuseError } from '../../src/session/index.ts';
import { folderIn, type Recorded, recordedMount, Steps, WITHOUT_BACKING } from './backing-support.ts';
import { abortConnection, eventually, faultsSeen, onCleanUp, skipLoudly, useLiveMounts } from './harness.ts';
import { prove } from './proof.ts';

const TEST_MS = 240_000;
const FILE = 2;
const [NONE, BACKED, BACKED_DIRECT] = [0, 0x80, 0x81];

/** How the next opens are answered. */
interface OneFile extends Recorded {
  readonly file: string;
  /** Of the host, behind the file. */
  readonly host: string;
  readonly fd: number;
  answer(reply: (request: OpenRequest) => OpenReply | Promise<OpenReply>): void;
  readonly released: number[];
}

/** A mount with one file, `/file`, whose contents are those of a file of the host. */
async function oneFile(): Promise<OneFile> {
  const host = join(folderIn('/dev/shm'), 'host');
  writeFileSync(host, 'from the host');
  const fd = openSync(host, 'r+');
  onCleanUp({ after: () => closeSync(fd) });
  const released: number[] = [];
  let reply: (request: OpenRequest) => OpenReply | Promise<OpenReply> = () => ({ backing: fd });
  let handle = 0;
  const attributes = (node: number) =>
    node === FILE ? { mode: 0o100666, size: readFileSync(host).length } : { mode: 0o040755, nlink: 2 };
  const entry = (): Entry => ({ node: FILE, attributes: attributes(FILE), entryTtl: 60, attributeTtl: 0 });
  const filesystem: Filesystem = {
    settings: { capabilities: ['FUSE_PASSTHROUGH', 'FUSE_HANDLE_KILLPRIV_V2'] },
    lookup(_parent, name) {
      if (name !== 'file') throw FuseError.of(ERRNO.ENOENT);
      return entry();
    },
    getattr: (node) => ({ attributes: attributes(node), attributeTtl: 0 }),
    setattr: (node) => ({ attributes: attributes(node), attributeTtl: 0 }),
    async open(_node, request) {
      const own = ++handle;
      return { handle: own, ...(await reply(request)) };
    },
    read: (_node, request) => readSync(fd, request.payload(), 0, request.size, request.offset),
    write: (_node, data, request) => writeSync(fd, data, 0, data.length, request.offset),
    release(_node, request) {
      released.push(request.handle);
    },
  };
  const live = await recordedMount(filesystem);
  expect(live.mount.negotiated.flags.has('FUSE_PASSTHROUGH')).toBe(true);
  return { ...live, file: join(live.path, 'file'), host, fd, released, answer: (next) => (reply = next) };
}

describe.skipIf(skipLoudly('backing files that authors offer', WITHOUT_BACKING))('an author who offers backing files', () => {
  useLiveMounts();

  test('a file without one keeps later opens from having one, until the last is closed', { timeout: TEST_MS }, async () => {
    const mounted = await oneFile();
    const { file, fd } = mounted;
    const steps = await Steps.start();
    mounted.answer(() => ({ keepCache: true }));
    await steps.step('open', 'plain', file, 'O_RDWR');
    mounted.answer(() => ({ backing: fd }));
    await steps.step('open', 'late', file, 'O_RDWR');
    await steps.step('close', 'plain');
    await steps.step('open', 'later', file, 'O_RDONLY');
    expect(await steps.step('pread', 'later', 100, 0)).toBe('from the host');
    await steps.step('close', 'late');
    await steps.step('close', 'later');
    await eventually(
      () => mounted.released.length === 3,
      60_000,
      () => `${mounted.released.length} releases`,
    );
    await steps.step('open', 'free', file, 'O_RDWR');
    expect(await steps.step('pread', 'free', 4, 0)).toBe('from');
    const { openFlags, opened, requests } = await mounted.traffic();
    expect(openFlags).toEqual([NONE, NONE, NONE, BACKED]);
    expect(opened).toBe(1);
    expect(requests.READ).toBe(1);
  });

  test('beside a backing file everybody shares it, or is served past the cache', { timeout: TEST_MS }, async () => {
    const mounted = await oneFile();
    const { file, fd } = mounted;
    const [one, two] = await Promise.all([Steps.start(), Steps.start()]);
    await one.step('open', 'backed', file, 'O_RDWR');
    // Another descriptor of the same file: the id stays the first.
    const other = openSync(mounted.host, 'r');
    mounted.answer(() => ({ backing: other, keepCache: true, directIo: true }));
    await two.step('open', 'same', file, 'O_RDWR');
    closeSync(other);
    mounted.answer(() => ({ keepCache: true }));
    await two.step('open', 'served', file, 'O_RDWR');
    await one.step('pwrite', 'backed', 'FROM', 0);
    expect(await two.step('pread', 'served', 100, 0)).toBe('FROM the host');
    await two.step('pwrite', 'served', 'THE', 5);
    expect(await one.step('pread', 'backed', 100, 0)).toBe('FROM THE host');
    expect(await two.step('pread', 'same', 100, 0)).toBe('FROM THE host');
    await two.step('map', 'm', 'served', 13, 'w');
    await two.step('poke', 'm', 'HOST', 9);
    expect(await one.step('pread', 'backed', 100, 0)).toBe('FROM THE HOST');
    // The last file of the inode needs the id no less than the first.
    await one.step('close', 'backed');
    await two.step('close', 'same');
    await one.step('open', 'again', file, 'O_RDONLY');
    expect(await one.step('pread', 'again', 4, 0)).toBe('FROM');
    await two.step('unmap', 'm');
    await two.step('close', 'served');
    await one.step('close', 'again');
    await eventually(
      () => mounted.released.length === 4,
      60_000,
      () => `${mounted.released.length} releases`,
    );
    const { openFlags, opened, closed, requests } = await mounted.traffic();
    expect(openFlags).toEqual([BACKED, BACKED, BACKED_DIRECT, BACKED_DIRECT]);
    expect([opened, closed]).toEqual([1, 1]);
    expect(requests).toMatchObject({ WRITE: 1 });
    expect(fd).toBeGreaterThan(0);
    prove('flag', 'FUSE_PASSTHROUGH');
  });

  test('what cannot back a file is told once, and the caller is served', { timeout: TEST_MS }, async () => {
    const mounted = await oneFile();
    mkdirSync(join(mounted.host, '..', 'folder'));
    const folder = openSync(join(mounted.host, '..', 'folder'), O.O_RDONLY);
    onCleanUp({ after: () => closeSync(folder) });
    const steps = await Steps.start();
    mounted.answer(() => ({ backing: folder }));
    for (const slot of ['one', 'two']) {
      await steps.step('open', slot, mounted.file, 'O_RDONLY');
      expect(await steps.step('pread', slot, 4, 0)).toBe('from');
      await steps.step('close', slot);
    }
    await eventually(
      () => mounted.released.length === 2,
      60_000,
      () => `${mounted.released.length} releases`,
    );
    expect(faultsSeen().filter(({ kind }) => kind === 'backing-refused')).toHaveLength(1);
    expect((await mounted.mount.counters()).backedOpens).toBe(0);
    expect((await mounted.traffic()).opened).toBe(0);
  });

  test('an answer with a descriptor that is none fails that open alone', { timeout: TEST_MS }, async () => {
    const mounted = await oneFile();
    const steps = await Steps.start();
    mounted.answer(() => ({ backing: -1 }));
    expect(await steps.failure('open', 'bad', mounted.file, 'O_RDONLY')).toBe(ERRNO.EIO);
    mounted.answer(() => ({ backing: mounted.fd }));
    await steps.step('open', 'good', mounted.file, 'O_RDONLY');
    expect(await steps.step('pread', 'good', 4, 0)).toBe('from');
    expect(faultsSeen().map(({ kind }) => kind)).toEqual(['invalid-answer']);
    expect((await mounted.traffic()).openFlags).toEqual([BACKED]);
  });

  test('a caller that is killed while it opens leaves no id behind', { timeout: TEST_MS }, async () => {
    const mounted = await oneFile();
    const steps = await Steps.start();
    let go: () => void = () => {};
    const asked = new Promise<void>((resolve) => {
      mounted.answer(
        () =>
          new Promise((answer) => {
            go = () => answer({ backing: mounted.fd });
            resolve();
          }),
      );
    });
    steps.send(JSON.stringify(['open', 'f', mounted.file, 'O_RDONLY']));
    await asked;
    steps.kill('SIGKILL');
    go();
    await steps.end(60_000);
    await eventually(
      () => mounted.released.length === 1,
      60_000,
      () => `${mounted.released.length} releases`,
    );
    const { opened, closed } = await mounted.traffic();
    expect([opened, closed]).toEqual([1, 1]);
  });

  test('an answer that nobody waits for any more gives its id back', { timeout: TEST_MS }, async () => {
    const mounted = await oneFile();
    const steps = await Steps.start();
    let go: () => void = () => {};
    const asked = new Promise<void>((resolve) => {
      mounted.answer(
        () =>
          new Promise((answer) => {
            go = () => answer({ backing: mounted.fd });
            resolve();
          }),
      );
    });
    const failure = steps.failure('open', 'f', mounted.file, 'O_RDONLY');
    await asked;
    await abortConnection(mounted.connection);
    expect(await failure).toBe(ERRNO.ECONNABORTED);
    go();
    await mounted.mount.closed;
    // The connection is gone and with it every id of it; what is left is to end well.
    expect(faultsSeen().filter(({ kind }) => kind !== 'unanswered')).toEqual([]);
  });
});
