/**
 * Many users on one passthrough: each may do what the folder beneath would let it do, and nothing else. The callers are real users
 * (unprivileged ids without names); wherever it can be done, the same calls are made in a folder of the host, and compared.
 */
import { execFileSync } from 'node:child_process';
import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterEach, describe, expect, it } from 'vitest';
import { clientProgram, NO_COMPILER } from '../clients/build.ts';
import {
  CLI,
  daemon,
  mountHere,
  mountPoint,
  NO_MOUNTS,
  program,
  ROOT,
  run,
  runWell,
  skipLoudly,
  temporaryFolder,
  useLiveMounts,
} from './harness.ts';
import { openDevice } from './mount-support.ts';

const PYTHON =
  program('python3') && execFileSync('python3', ['-c', 'import sys; print(sys.executable)'], { encoding: 'utf8' }).trim();
const SEVERAL = join(ROOT, 'test/clients/users/several.py');
const skip = skipLoudly(
  'many users',
  NO_MOUNTS ?? NO_COMPILER ?? (PYTHON && program('setpriv') ? undefined : 'there is no python3 or no setpriv'),
);
const LIMIT_MS = 120_000;
const EVERYBODY = 'allow_other,default_permissions,suid,dev';

/** A command as an unprivileged user. */
const as = (uid: number, groups: number[], ...argv: string[]) => [
  'setpriv',
  `--reuid=${uid}`,
  `--regid=${uid}`,
  groups.length === 0 ? '--clear-groups' : `--groups=${groups.join(',')}`,
  ...argv,
];

/** What a shell script prints in a folder, run by an unprivileged user, with the folder's name taken out. */
async function script(folder: string, text: string, uid = 12345, groups: number[] = [], wrapper: string[] = []): Promise<string> {
  const argv = as(uid, groups, ...wrapper, 'env', '-C', '/', 'LC_ALL=C', `D=${folder}`, 'sh', '-c', `{ ${text}\n} 2>&1`);
  return (await run(argv, { timeoutMs: LIMIT_MS })).stdout.replaceAll(folder, 'D');
}

async function passthrough(options: string[] = [], mountOptions = EVERYBODY): Promise<{ source: string; path: string }> {
  const source = temporaryFolder('source');
  const path = mountPoint();
  await daemon(['passthrough', source, path, ...(mountOptions === '' ? [] : ['-o', mountOptions]), ...options], path);
  return { source, path };
}

/** The passthrough by the library, for settings that the command line does not have. */
async function passthroughHere(settings: Parameters<typeof mountHere>[1]): Promise<{ source: string; path: string }> {
  const source = temporaryFolder('source');
  const module = pathToFileURL(join(ROOT, 'dist/examples/passthrough/filesystem.js'));
  const options = { source, cache: 'auto', maxNodes: 4096, maxLockOwners: 1024, noAccessTimes: false };
  const { path } = await mountHere({ module, options }, { workers: 2, mountOptions: EVERYBODY, ...settings });
  return { source, path };
}

describe.skipIf(skip)('many users', { timeout: 300_000 }, () => {
  useLiveMounts();
  let closeDevice = () => {};
  afterEach(() => closeDevice());

  describe('random calls of six users have the outcomes that they have in the folder', () => {
    const several = (folder: string, ...rest: string[]) =>
      runWell([PYTHON!, SEVERAL, folder, ...rest], { timeoutMs: LIMIT_MS }).then((text) => text.split('\n'));

    it.each([
      ['event mode, 1 worker', ['--mode', 'event', '--workers', '1'], [1, 2]],
      ['blocking mode, 4 workers', ['--mode', 'blocking', '--workers', '4'], [3, 4]],
      ['no cache', ['--cache', 'none'], [5]],
      ['write-back cache', ['--writeback'], [6]],
    ] as const)('%s', async (_, options, seeds) => {
      for (const seed of seeds) {
        const native = temporaryFolder('native');
        const { source, path } = await passthrough([...options]);
        const calls = [String(seed), '1500'];
        const expected = await several(native, ...calls);
        expect(await several(path, ...calls)).toEqual(expected);
        const left = await several(native, 'tree');
        expect(await several(path, 'tree')).toEqual(left);
        expect(await several(source, 'tree')).toEqual(left);
        // Both what is granted and what is refused was met.
        for (const result of ['EACCES', 'EPERM', 'None', 'ENOENT', 'EEXIST']) {
          expect(expected.filter((line) => line.includes(`: ${result};`)).length, result).toBeGreaterThan(20);
        }
      }
    });
  });

  it('without allow_other nobody but the mounter gets in', async () => {
    const { source, path } = await passthrough([], 'default_permissions');
    chmodSync(source, 0o777);
    writeFileSync(join(source, 'f'), 'for all', { mode: 0o666 });
    const text = 'cat $D/f; ls $D; echo x > $D/new; stat $D; test -e $D/f; echo $?';
    expect(await script(path, text)).not.toContain('for all');
    expect(existsSync(join(source, 'new'))).toBe(false);
    expect(await runWell(['cat', join(path, 'f')], { timeoutMs: LIMIT_MS })).toBe('for all');
    // Of the same user, with another group: the kernel wants both to be the mounter's (fuse_permissible_uidgid).
    expect((await run(['setpriv', '--regid=5', '--clear-groups', 'cat', join(path, 'f')], { timeoutMs: LIMIT_MS })).code).toBe(1);
  });

  it('permissions are checked with allow_other alone: ACLs need them, so the passthrough has the kernel check', async () => {
    const { source, path } = await passthrough([], 'allow_other');
    writeFileSync(join(source, 'private'), 'secret', { mode: 0o600 });
    expect(await script(path, 'cat $D/private; echo x > $D/new; rm $D/private')).toMatch(/(Permission denied[\s\S]*){3}/);
    expect(readdirSync(source)).toEqual(['private']);
  });

  it.each([
    ['with HANDLE_KILLPRIV_V2', [], ['6777', '6767', '2766', '4711', '2777']],
    // There the kernel itself takes them away, but never set-group-id from a file that its group may not execute.
    ['without', ['FUSE_HANDLE_KILLPRIV_V2'], ['6777', '4711', '2777']],
  ] as const)('set-id bits go with a write, a truncation and a change of owner by others, %s', async (_, refuseFlags, modes) => {
    const { path } = await passthroughHere({ refuseFlags: [...refuseFlags] });
    const native = temporaryFolder('native');
    const outcomes: string[][] = [];
    for (const folder of [native, path]) {
      const lines: string[] = [];
      const steps = async (...list: string[]) => {
        const argv = [clientProgram('steps'), ...list.map((step) => step.replace('F', `${folder}/f`))];
        lines.push(await runWell(argv, { timeoutMs: LIMIT_MS }));
      };
      const tries = [
        ['open 0 F w', 'write 0 0 3 b'],
        ['truncate F 2'],
        ['open 0 F w,trunc'],
        ['open 0 F w', 'ftruncate 0 9'],
        ['open 0 F w', 'fallocate 0 0 0 50'],
        ['chown F 12345 5000'],
      ];
      for (const mode of modes) {
        for (const user of ['become 0 0', 'become 12345 12345 5000', 'become 12346 12346', 'become 12346 12346 5000']) {
          for (const attempt of tries) {
            await steps('umask 0', 'open 0 F w,creat 777', 'write 0 0 20 a', 'chown F 12345 5000', `chmod F ${mode}`);
            await steps(user, ...attempt);
            await steps('stat F');
          }
        }
      }
      outcomes.push(lines.map((line) => line.replace(/ino=\d+/g, '')));
    }
    expect(outcomes[1]).toEqual(outcomes[0]);
  });

  it('set-id bits of a file that one may not write stay, whatever one tries', async () => {
    const { path } = await passthrough();
    const native = temporaryFolder('native');
    for (const folder of [native, path]) {
      const steps = (...list: string[]) =>
        runWell([clientProgram('steps'), ...list.map((step) => step.replace('F', `${folder}/f`))], { timeoutMs: LIMIT_MS });
      await steps('open 0 F w,creat 755', 'chown F 0 5000', 'chmod F 6755');
      const tries = ['chown F -1 -1', 'truncate F 0', 'open 0 F w', 'open 0 F w,trunc', 'chmod F 755', 'chown F 12345 12345'];
      for (const user of ['become 12345 12345', 'become 12345 12345 5000']) {
        expect(
          (await steps(user, ...tries))
            .split('\n')
            .slice(1, -1)
            .map((line) => line.split(' ')[1]),
        ).toEqual([...['EPERM', 'EACCES', 'EACCES', 'EACCES', 'EPERM', 'EPERM']]);
      }
      expect(await steps('stat F')).toMatch(/^stat 106755 /);
    }
  });

  it.skipIf(skipLoudly('ACLs of several users', program('setfacl') ? undefined : 'there is no setfacl'))(
    'ACLs: a named user, a named group, the mask, inheritance, chmod over them',
    async () => {
      const text = `
        umask 027; mkdir $D/a; setfacl -m u:12346:rwx,g:5001:r-x,m::rwx $D/a; setfacl -d -m u:12347:rw-,g:5001:r--,o::--- $D/a
        echo one > $D/a/one; mkdir $D/a/sub; echo two > $D/a/sub/two; chmod 640 $D/a/one; chmod g-w $D/a/sub
        for f in a a/one a/sub a/sub/two; do stat -c '%a %u:%g' $D/$f; getfacl -n -p $D/$f; done`;
      const others =
        'cat $D/a/one $D/a/sub/two; echo more >> $D/a/one; echo y > $D/a/mine; ls $D/a; rm $D/a/one; getfacl -n -p $D/a/mine';
      const { source, path } = await passthrough();
      const native = temporaryFolder('native');
      const outcomes: string[][] = [];
      for (const [folder, beneath] of [
        [native, native],
        [path, source],
      ]) {
        chmodSync(beneath, 0o777);
        const lines = [await script(folder, text)];
        for (const [uid, groups] of [
          [12346, []],
          [12347, []],
          [12348, [5001]],
          [12348, []],
        ] as const) {
          lines.push(await script(folder, others, uid, [...groups]));
        }
        outcomes.push(lines);
      }
      expect(outcomes[1]).toEqual(outcomes[0]);
      expect(outcomes[0].join()).toContain('user:12347:rw-');
    },
  );

  describe('user namespaces', () => {
    const noSpaces = (() => {
      try {
        execFileSync('setpriv', ['--reuid=12345', '--regid=12345', '--clear-groups', 'unshare', '-Ur', 'true'], {
          stdio: 'pipe',
        });
        return undefined;
      } catch {
        return 'ordinary users may not make any here';
      }
    })();
    skipLoudly('user namespaces', noSpaces);
    const text = `
      umask 022; id -u; stat -c '%n %u:%g %a' $D/theirs $D/mine; cat $D/theirs $D/private; echo x >> $D/mine; echo y >> $D/theirs
      mkdir $D/new; stat -c '%u:%g' $D/new; chown 0:0 $D/new; chown 7 $D/new; chown 0 $D/theirs; chmod 4755 $D/mine; rm -f $D/theirs
      mknod $D/null c 1 3; ln $D/mine $D/second; stat -c '%a %h' $D/mine; setfacl -m u:7:r $D/mine; touch $D/theirs`;

    /** The same without what only the owner of the folder may do to files of others. */
    const ownText = text.replace('; rm -f $D/theirs', '');

    function fill(folder: string): void {
      chmodSync(folder, 0o1777);
      for (const [name, owner, mode] of [
        ['theirs', 12346, 0o644],
        ['private', 0, 0o600],
        ['mine', 12345, 0o640],
      ] as const) {
        writeFileSync(join(folder, name), `${name}\n`);
        chownSync(join(folder, name), owner, owner);
        chmodSync(join(folder, name), mode);
      }
    }

    it.skipIf(noSpaces !== undefined)('root of a namespace, calling from inside, is who it is outside', async () => {
      const { source, path } = await passthrough();
      const native = temporaryFolder('native');
      for (const folder of [native, source]) fill(folder);
      const inside = ['unshare', '-Ur'];
      const expected = await script(native, text, 12345, [], inside);
      expect(expected).toContain('65534:65534');
      expect(await script(path, text, 12345, [], inside)).toBe(expected);
      expect(statSync(join(source, 'new')).uid).toBe(12345);
    });

    it.skipIf(noSpaces !== undefined)('a passthrough that root of a namespace mounts inside it', async () => {
      closeDevice = openDevice();
      const source = temporaryFolder('source');
      const native = temporaryFolder('native');
      const path = mountPoint();
      for (const folder of [native, source]) {
        fill(folder);
        chownSync(folder, 12345, 12345);
        chmodSync(folder, 0o755);
      }
      chownSync(path, 12345, 12345);
      const log = join(temporaryFolder('log'), 'log');
      writeFileSync(log, '');
      chmodSync(log, 0o666);
      const daemonText = `"${process.execPath}" "${CLI}" passthrough ${source} $D > ${log} 2>&1 &
        for i in $(seq 600); do grep -q '^mounted' ${log} && break; sleep 0.1; done`;
      const inside = ['unshare', '-Urm'];
      const expected = await script(native, ownText, 12345, [], inside);
      const found = await script(path, `${daemonText}\n${ownText}\nkill $!; wait $!; echo ended $?`, 12345, [], inside);
      expect(readFileSync(log, 'utf8')).toContain('mounted');
      // An owner that the namespace does not know comes through the daemon as nobody, and the kernel then refuses a little more.
      const alike = (text: string) =>
        text.replaceAll('Value too large for defined data type', 'Operation not permitted').replace(/sh: \d+/g, 'sh');
      expect(alike(found)).toBe(`${alike(expected)}ended 0\n`);
    });
  });

  it('an idmapped view is refused: the passthrough would make files as the wrong users', async () => {
    const { path } = await passthrough();
    expect(await runWell([clientProgram('steps'), `idmap 1 ${path} 0 1000 100`], { timeoutMs: LIMIT_MS })).toBe('idmap EINVAL\n');
  });

  it.each([
    ['--read-only', ['--read-only'], EVERYBODY, false],
    ['-o ro', [], `${EVERYBODY},ro`, false],
    ['remounted read-only', [], EVERYBODY, true],
  ] as const)('%s: nobody changes anything', async (_, options, mountOptions, remount) => {
    const { source, path } = await passthrough([...options], mountOptions);
    writeFileSync(join(source, 'f'), 'contents');
    mkdirSync(join(source, 'd'));
    for (const name of ['', 'f', 'd']) chmodSync(join(source, name), 0o777);
    if (remount) await runWell(['mount', '-i', '-o', 'remount,ro', path], { timeoutMs: LIMIT_MS });
    const before = readdirSync(source).map((name) => [name, statSync(join(source, name), { bigint: true }).ctimeNs]);
    const text = `cat $D/f; echo; for c in 'touch $D/f' 'mkdir $D/e' 'rmdir $D/d' 'rm $D/f' 'mv $D/f $D/g' 'chmod 700 $D/f' 'ln $D/f $D/g' \\
      'ln -s f $D/g' 'truncate -s 1 $D/f' 'setfattr -n user.a -v b $D/f' 'mkfifo $D/p' 'chown 0 $D/f'; do sh -c "$c" 2>&1; done`;
    for (const uid of [0, 12345]) {
      const lines = (await script(path, text, uid)).trimEnd().split('\n');
      expect(lines[0]).toBe('contents');
      expect(lines.slice(1).filter((line) => !line.includes('Read-only file system'))).toEqual([]);
      expect(lines.length).toBeGreaterThanOrEqual(12);
    }
    expect(readdirSync(source).map((name) => [name, statSync(join(source, name), { bigint: true }).ctimeNs])).toEqual(before);
  });
});
