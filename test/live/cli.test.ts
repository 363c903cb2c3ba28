/** The command `fusewire` as users run it: from dist/, as a process of its own. */

import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { PASSTHROUGH_WORKERS } from '../../src/cli/arguments.ts';
import { findHelper } from '../../src/mount/helper.ts';
import {
  asUser,
  CLI,
  canMount,
  cli,
  makeWorkspace,
  mountsBelow,
  ORDINARY_USER,
  openDevice,
  run,
  start,
  type Workspace,
} from './mount-support.ts';

const available = canMount() && existsSync(CLI);
if (!available) process.stderr.write('SKIPPED: cli needs root, /dev/fuse and a build in dist/\n');

const lines = (text: string) => text.split('\n').filter((line) => line !== '');

describe.skipIf(!existsSync(CLI))('fusewire without a mount', () => {
  it('prints its version and help', async () => {
    expect((await cli(['--version'])).stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
    const { status, stdout } = await cli(['passthrough', '--help']);
    expect(status).toBe(0);
    expect(stdout).toContain('Examples');
  });

  it('refuses a wrong command line with one sentence, a code and 64', async () => {
    const { status, stdout, stderr } = await cli(['passthrough', '--workers', 'many']);
    expect(status).toBe(64);
    expect(stdout).toBe('');
    expect(stderr).toMatch(/^fusewire: --workers is [^\n]+\. \[ERR_FUSEWIRE_USAGE\]\n$/);
  });

  it('doctor reports in JSON', async () => {
    const { status, stdout } = await cli(['doctor', '--json']);
    const report = JSON.parse(stdout);
    expect(status).toBe(report.canMount ? 0 : 69);
    expect(report.checks.map((check: { name: string }) => check.name)).toEqual(
      expect.arrayContaining(['kernel', 'device', 'fusermount3']),
    );
  });
});

describe.skipIf(!available)('fusewire', () => {
  let workspace: Workspace;
  let source: string;
  let mountpoint: string;
  let restoreDevice = () => {};

  beforeEach(() => {
    workspace = makeWorkspace();
    source = join(workspace.folder, 'source');
    mountpoint = join(workspace.folder, 'mount');
    mkdirSync(source);
    mkdirSync(mountpoint);
    writeFileSync(join(source, 'hello.txt'), 'hello\n');
  });

  afterEach(() => {
    workspace.cleanUp();
    restoreDevice();
    restoreDevice = () => {};
  });

  const serve = (...args: string[]) => start(workspace, process.execPath, [CLI, ...args]);
  const write = (name: string, text: string) => {
    const path = join(workspace.folder, name);
    writeFileSync(path, text);
    return path;
  };

  it.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)('passthrough serves, and %s ends it with 0 within 2 s', async (signal) => {
    const server = serve('passthrough', source, mountpoint, '--workers', '2');
    expect(await server.line(/^mounted /)).toContain(`mounted ${source} at ${mountpoint} (2 workers, blocking`);
    expect((await run('cat', [join(mountpoint, 'hello.txt')])).stdout).toBe('hello\n');
    const began = Date.now();
    server.child.kill(signal);
    expect(await server.ended).toMatchObject({ status: 0 });
    expect(Date.now() - began).toBeLessThan(2000);
    expect(mountsBelow(workspace.folder)).toEqual([]);
  });

  it('ends within 2 s while a program keeps the mount in use', async () => {
    const server = serve('passthrough', source, mountpoint);
    await server.line(/^mounted /);
    const user = start(workspace, 'sh', ['-c', `exec 3<${mountpoint}/hello.txt; echo open; sleep 60`]);
    await user.line(/open/);
    const began = Date.now();
    server.child.kill('SIGTERM');
    expect(await server.ended).toMatchObject({ status: 0 });
    expect(Date.now() - began).toBeLessThan(2000);
    expect(mountsBelow(workspace.folder)).toEqual([]);
  });

  it('ends with 0 when it is unmounted from outside, by "fusewire umount"', async () => {
    const server = serve('passthrough', source, mountpoint, '--json');
    const event = JSON.parse(await server.line(/"mounted"/));
    expect(event).toMatchObject({
      event: 'mounted',
      source,
      mountpoint,
      workers: PASSTHROUGH_WORKERS,
      mode: 'blocking',
      pid: server.child.pid,
    });
    expect(await cli(['umount', mountpoint])).toMatchObject({ status: 0, stdout: `unmounted ${mountpoint}\n` });
    expect(await server.ended).toMatchObject({ status: 0 });
    expect(lines(server.output()).map((line) => JSON.parse(line).event)).toEqual(['mounted', 'unmounted']);
    expect(await cli(['umount', mountpoint])).toMatchObject({ status: 66 });
  });

  it('mounts again over what a killed daemon left', async () => {
    const first = serve('passthrough', source, mountpoint);
    await first.line(/^mounted /);
    first.child.kill('SIGKILL');
    await first.ended;
    expect(mountsBelow(workspace.folder)).toHaveLength(1);
    const second = serve('passthrough', source, mountpoint);
    await second.line(/^mounted /);
    expect(mountsBelow(workspace.folder)).toHaveLength(1);
    expect((await run('cat', [join(mountpoint, 'hello.txt')])).stdout).toBe('hello\n');
    const third = await cli(['passthrough', source, mountpoint]);
    expect(third).toMatchObject({ status: 75, stdout: '' });
    expect(third.stderr).toContain('[ERR_FUSEWIRE_MOUNTPOINT_BUSY]');
    expect((await run('cat', [join(mountpoint, 'hello.txt')])).stdout).toBe('hello\n');
  });

  it('makes a playground of its own, says what to try, and removes it', async () => {
    const server = serve('passthrough');
    const where = /^mounted (\S+)\/source at (\S+) /.exec(await server.line(/^mounted /));
    const base = where?.[1] as string;
    expect(base.startsWith(tmpdir())).toBe(true);
    expect((await run('cat', [join(where?.[2] as string, 'hello.txt')])).stdout).toContain('fusewire');
    await server.line(/another terminal/);
    server.child.kill('SIGINT');
    expect(await server.ended).toMatchObject({ status: 0 });
    expect(existsSync(base)).toBe(false);
  });

  it('passes mount options and read-only', async () => {
    const server = serve(
      'passthrough',
      source,
      mountpoint,
      '--read-only',
      '-o',
      'noexec,allow_other',
      '-o',
      String.raw`fsname=x\,y`,
    );
    await server.line(/^mounted /);
    const [mount] = mountsBelow(workspace.folder);
    expect(mount.options.split(',')).toEqual(expect.arrayContaining(['ro', 'noexec', 'nosuid', 'nodev']));
    expect(mount).toMatchObject({ source: 'x,y', type: 'fuse.fusewire' });
    expect((await run('touch', [join(mountpoint, 'new')])).stderr).toContain('Read-only');
  });

  it('mounts a module, hands it its arguments, and refuses those without a filesystem', async () => {
    const module = write(
      'empty.mjs',
      `export default ({ options }) => {
        if (options.arguments[0] !== 'one') throw new Error('no argument');
        return { getattr: () => ({ attributes: { mode: 0o040755, nlink: 2, ino: 1 } }) };
      };`,
    );
    const server = serve('mount', module, mountpoint, '--workers', '1', '--', 'one');
    await server.line(/^mounted /);
    expect((await run('stat', ['-c', '%F', mountpoint])).stdout).toBe('directory\n');
    server.child.kill('SIGTERM');
    expect(await server.ended).toMatchObject({ status: 0 });
  });

  it('ends although a handler never answers, and at once at the second signal', async () => {
    const module = write('stuck.mjs', 'export default { getattr: () => new Promise(() => {}) };');
    for (const signals of [1, 2]) {
      const server = serve('mount', module, mountpoint, '--mode', 'event');
      await server.line(/^mounted /);
      const caller = start(workspace, 'stat', [mountpoint]);
      await run('sleep', ['0.2']);
      const began = Date.now();
      server.child.kill('SIGTERM');
      if (signals === 2) {
        await run('sleep', ['0.1']);
        server.child.kill('SIGINT');
      }
      const { status } = await server.ended;
      // One signal leaves a pending answer its time; two do not.
      if (signals === 1) expect(status).toBe(0);
      expect(Date.now() - began).toBeLessThan(signals === 1 ? 2000 : 800);
      expect(await caller.ended).toMatchObject({ status: 1 });
      expect(mountsBelow(workspace.folder)).toEqual([]);
    }
  });

  const failing: readonly [string, () => string[], string, number][] = [
    ['a missing source', () => ['passthrough', join(source, 'none'), mountpoint], 'SOURCE_MISSING', 66],
    ['a source that is a file', () => ['passthrough', join(source, 'hello.txt'), mountpoint], 'SOURCE_MISSING', 66],
    ['a missing mount point', () => ['passthrough', source, join(mountpoint, 'none')], 'MOUNTPOINT_MISSING', 66],
    ['a mount point that is a file', () => ['passthrough', source, join(source, 'hello.txt')], 'MOUNTPOINT_NOT_DIRECTORY', 66],
    ['an option with a comma in it', () => ['passthrough', source, mountpoint, '-o', String.raw`subtype=a\,b`], 'BAD_OPTION', 64],
    ['an option cut by its comma', () => ['passthrough', source, mountpoint, '-o', 'fsname=a,b'], 'UNKNOWN_OPTION', 64],
    ['a module that is not there', () => ['mount', join(source, 'none.mjs'), mountpoint], 'MODULE_MISSING', 66],
    [
      'a module without a filesystem',
      () => ['mount', write('none.mjs', 'export const x = 1;'), mountpoint],
      'MODULE_INVALID',
      66,
    ],
    [
      'a worker that throws',
      () => ['mount', write('bad.mjs', 'export default () => { throw new Error("out of\\nluck"); };'), mountpoint],
      'WORKER_LOAD',
      70,
    ],
  ];

  it.each(failing)('says one sentence about %s and leaves nothing mounted', async (_, args, code, status) => {
    const result = await cli(args());
    expect(result.stderr).toMatch(new RegExp(`^fusewire: [^\\n]+ \\[ERR_FUSEWIRE_${code}\\]\\n$`));
    expect(result).toMatchObject({ status, stdout: '' });
    expect(mountsBelow(workspace.folder)).toEqual([]);
  });

  it('a module that throws at its top level is refused, too', async () => {
    const result = await cli(['mount', write('top.mjs', 'throw new Error("top");'), mountpoint]);
    expect(result.status).toBe(70);
    expect(lines(result.stderr)).toHaveLength(1);
    expect(mountsBelow(workspace.folder)).toEqual([]);
  });

  describe.skipIf(findHelper() === undefined)('as an ordinary user', () => {
    const user = (...args: string[]) => asUser(process.execPath, [CLI, ...args]);

    it('mounts through fusermount3, serves, and unmounts on SIGTERM', async () => {
      restoreDevice = openDevice();
      for (const path of [source, mountpoint]) chownSync(path, ORDINARY_USER, ORDINARY_USER);
      const server = start(workspace, ...user('passthrough', source, mountpoint, '--workers', '1'));
      await server.line(/^mounted /);
      expect(mountsBelow(workspace.folder)[0].superOptions).toContain(`user_id=${ORDINARY_USER}`);
      expect((await run(...asUser('cat', [join(mountpoint, 'hello.txt')]))).stdout).toBe('hello\n');
      const began = Date.now();
      server.child.kill('SIGTERM');
      expect(await server.ended).toMatchObject({ status: 0 });
      expect(Date.now() - began).toBeLessThan(2000);
      expect(mountsBelow(workspace.folder)).toEqual([]);
    });

    it('recovers its own dead mount, and unmounts it by command', async () => {
      restoreDevice = openDevice();
      for (const path of [source, mountpoint]) chownSync(path, ORDINARY_USER, ORDINARY_USER);
      for (let round = 0; round < 2; round++) {
        const server = start(workspace, ...user('passthrough', source, mountpoint, '--workers', '1'));
        await server.line(/^mounted /);
        server.child.kill('SIGKILL');
        await server.ended;
        expect(mountsBelow(workspace.folder)).toHaveLength(1);
      }
      expect(await run(...user('umount', mountpoint))).toMatchObject({ status: 0 });
      expect(mountsBelow(workspace.folder)).toEqual([]);
    });

    it('is told about a closed device, a foreign mount point, allow_other and a foreign mount', async () => {
      chmodSync('/dev/fuse', 0o600);
      chownSync(source, ORDINARY_USER, ORDINARY_USER);
      const own = join(source, 'own');
      mkdirSync(own);
      chownSync(own, ORDINARY_USER, ORDINARY_USER);
      const closed = await run(...user('passthrough', source, own));
      expect(closed).toMatchObject({ status: 77 });
      expect(closed.stderr).toContain('[ERR_FUSEWIRE_NO_PERMISSION]');
      restoreDevice = openDevice();
      const foreign = await run(...user('passthrough', source, mountpoint));
      expect(foreign.stderr).toContain('[ERR_FUSEWIRE_MOUNTPOINT_NOT_PERMITTED]');
      const other = await run(...user('passthrough', source, own, '-o', 'allow_other'));
      if (!/^\s*user_allow_other/m.test((await run('cat', ['/etc/fuse.conf'])).stdout)) {
        expect(other.stderr).toContain('[ERR_FUSEWIRE_ALLOW_OTHER]');
      }
      const server = serve('passthrough', source, mountpoint);
      await server.line(/^mounted /);
      const umount = await run(...user('umount', mountpoint));
      expect(umount).toMatchObject({ status: 77 });
      expect(umount.stderr).toContain('[ERR_FUSEWIRE_NOT_OURS]');
      expect(mountsBelow(workspace.folder)).toHaveLength(1);
    });

    it('is told where fusermount3 is missing', async () => {
      // A mount namespace in which the helper is hidden; PATH alone would not hide it from its usual folder.
      chownSync(mountpoint, ORDINARY_USER, ORDINARY_USER);
      const helper = findHelper() as string;
      const [file, args] = user('passthrough', source, mountpoint);
      const hide = `for p in /usr/bin /bin /usr/local/bin /sbin /usr/sbin; do for n in fusermount3 fusermount; do [ -e $p/$n ] && mount --bind /dev/null $p/$n; done; done; exec "$@"`;
      const result = await run('unshare', ['-m', 'sh', '-c', hide, 'sh', file, ...args]);
      expect(existsSync(helper)).toBe(true);
      expect(result.stderr).toContain('[ERR_FUSEWIRE_NO_HELPER]');
      expect(result.status).toBe(69);
    });
  });

  it('without /dev/fuse says so', async () => {
    const result = await run('unshare', [
      '-m',
      'sh',
      '-c',
      'mount -t tmpfs none /dev && exec "$@"',
      'sh',
      process.execPath,
      CLI,
      'passthrough',
      source,
      mountpoint,
    ]);
    expect(result.status).toBe(69);
    expect(result.stderr).toContain('[ERR_FUSEWIRE_NO_DEVICE]');
    expect(readdirSync(mountpoint)).toEqual([]);
  });
});
