/** The processes that make system calls for a test: identities, limits, ends. */
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, expect, test } from 'vitest';
import { endIdleProcesses, hostTree } from '../../src/testing/host/index.ts';
import type { PosixTree } from '../../src/testing/posix.ts';

const folder = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'fusewire-processes-'));
// mkdtemp makes it private, and processes of other users have to reach their trees.
chmodSync(folder, 0o755);
const IS_ROOT = process.getuid?.() === 0;
const O_RDONLY = 0;
const O_WRONLY = 1;
const S_IFIFO = 0o010000;

let tree: PosixTree | undefined;

async function fresh(options: Parameters<typeof hostTree>[1] = {}): Promise<PosixTree> {
  tree = await hostTree(folder, options);
  return tree;
}

afterEach(async () => {
  await tree?.end();
  tree = undefined;
});

afterAll(async () => {
  await endIdleProcesses();
  rmSync(folder, { recursive: true, force: true });
});

test('a failed call has the code, the errno and the call', async () => {
  const p = await (await fresh()).process();
  await expect(p.stat('/missing')).rejects.toMatchObject({
    code: 'ENOENT',
    errno: -2,
    syscall: 'stat',
    message: 'ENOENT: stat("/missing")',
  });
});

test('a call that hangs kills its process, says which call it was, and tells who serves', async () => {
  let hung = 0;
  const made = await fresh({ callTimeoutMs: 1500, onHang: () => hung++ });
  const p = await made.process();
  await p.mknod('/pipe', S_IFIFO | 0o600);
  const opened = p.open('/pipe', O_WRONLY);
  await expect(opened).rejects.toMatchObject({
    code: 'ERR_FUSEWIRE_CALL_HUNG',
    message: 'open("/pipe", 1, 438) did not return within 1500 ms, so its process was killed',
  });
  expect(hung).toBe(1);
  await expect(p.stat('/')).rejects.toMatchObject({ code: 'ERR_FUSEWIRE_PROCESS_ENDED' });
  const next = await made.process();
  expect((await next.stat('/pipe')).mode & 0o170000).toBe(S_IFIFO);
});

test('trees are apart, and gone after their end', async () => {
  const one = await fresh();
  const other = await hostTree(folder);
  const p = await one.process();
  await p.mkdir('/only-here');
  const q = await other.process();
  await expect(q.stat('/only-here')).rejects.toMatchObject({ code: 'ENOENT' });
  expect(readdirSync(folder)).toHaveLength(2);
  await other.end();
  expect(readdirSync(folder)).toHaveLength(1);
});

test('the end removes whatever names and modes are there', async () => {
  const made = await fresh();
  const p = await made.process();
  await p.mkdir('/\xff\xfe', 0o700);
  await p.mkdir('/\xff\xfe/\xc3(');
  await p.symlink('..', '/\xff\xfe/link');
  await p.chmod('/\xff\xfe/\xc3(', 0);
  await p.chmod('/\xff\xfe', 0);
  await made.end();
  tree = undefined;
  expect(readdirSync(folder)).toEqual([]);
});

test('nothing of a test is left in a process that serves the next one', async () => {
  const one = await hostTree(folder);
  const p = await one.process();
  const fd = await p.open('/', O_RDONLY);
  await p.umask(0o077);
  await one.end();
  const q = await (await fresh()).process();
  await expect(q.fstat(fd)).rejects.toMatchObject({ code: 'EBADF' });
  expect(await q.umask(0o022)).toBe(0o022);
});

test.runIf(IS_ROOT)('a process has the identity that was asked for', async () => {
  const made = await fresh();
  const p = await made.process();
  await p.chmod('/', 0o777);
  const alice = await made.process({ uid: 65_501, gid: 65_511, groups: [65_520], umask: 0o027 });
  await alice.mkdir('/mine', 0o777);
  const { uid, gid, mode } = await p.stat('/mine');
  expect([uid, gid, mode & 0o777]).toEqual([65_501, 65_511, 0o750]);
  await expect(alice.chown('/mine', 0, -1)).rejects.toMatchObject({ code: 'EPERM' });
  await alice.chown('/mine', -1, 65_520);
});

test.runIf(IS_ROOT)('a tree that another user cannot reach says what is missing', async () => {
  mkdirSync(join(folder, 'closed'), 0o700);
  const made = await hostTree(join(folder, 'closed'));
  await expect(made.process({ uid: 65_501, gid: 65_511 })).rejects.toMatchObject({
    code: 'ERR_FUSEWIRE_IDENTITY',
    message: expect.stringContaining('a FUSE mount the option allow_other'),
  });
  await made.end();
  rmSync(join(folder, 'closed'), { recursive: true });
});

test('calls of one process are made one after the other, of two side by side', async () => {
  const made = await fresh();
  const [p, q] = [await made.process(), await made.process()];
  await p.mknod('/pipe', S_IFIFO | 0o600);
  const order: string[] = [];
  const reading = p.open('/pipe', O_RDONLY).then(() => order.push('opened'));
  const after = p.stat('/').then(() => order.push('stat'));
  await q.stat('/');
  expect(order).toEqual([]);
  await q.open('/pipe', O_WRONLY);
  await Promise.all([reading, after]);
  expect(order).toEqual(['opened', 'stat']);
});
