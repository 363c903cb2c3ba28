/** Real programs on mounts of path-level filesystems: the host's own files by node:fs/promises, and memfs. */
import { promises } from 'node:fs';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { createFsFromVolume, Volume } from 'memfs';
import { describe, expect, test } from 'vitest';
import { fromNodeFs } from '../../src/adapters/index.ts';
import { type PathFilesystem, type PathOptions, type PathSource, pathFilesystem } from '../../src/paths/index.ts';
import { eventually, mountHere, NO_MOUNTS, program, runWell, skipLoudly, temporaryFolder, useLiveMounts } from './harness.ts';

const LIMIT_MS = 60_000;

const identity = {
  GIT_AUTHOR_NAME: 'a',
  GIT_AUTHOR_EMAIL: 'a@example.org',
  GIT_COMMITTER_NAME: 'a',
  GIT_COMMITTER_EMAIL: 'a@example.org',
};

function script(text: string, cwd: string): Promise<string> {
  const env = { PATH: process.env.PATH, HOME: cwd, LC_ALL: 'C', TZ: 'UTC', GIT_CONFIG_NOSYSTEM: '1', ...identity };
  return runWell(['bash', '--norc', '-ec', text], { cwd, timeoutMs: LIMIT_MS, env });
}

async function mounted(filesystem: PathFilesystem): Promise<string> {
  const { path } = await mountHere(filesystem, { mountOptions: 'default_permissions,allow_other' });
  return path;
}

const sources: [string, (options: PathOptions) => PathFilesystem][] = [
  ['memfs', (options) => fromNodeFs(createFsFromVolume(new Volume()), options)],
  ['the host by node:fs/promises', (options) => fromNodeFs(promises, { root: temporaryFolder('source'), ...options })],
];

useLiveMounts();

describe.skipIf(skipLoudly('path-level mounts', NO_MOUNTS))('a mount of', () => {
  describe.each(sources)('%s', (what, make) => {
    test.skipIf(skipLoudly('git on path-level mounts', program('git') ? undefined : 'no git'))('git commits', async () => {
      const path = await mounted(make({}));
      const out = await script(
        [
          'mkdir repo; cd repo; git init -q -b main .',
          'for i in $(seq 1 30); do mkdir -p d$((i % 4)); echo "line $i" > d$((i % 4))/f$i; done',
          'git add -A; git commit -qm one',
          'git mv d1 moved; echo more >> moved/f1; git commit -qam two',
          'git fsck --strict --no-progress; git gc -q; git status --porcelain',
          'git log --format=%s; git ls-files | wc -l',
        ].join('\n'),
        path,
      );
      expect(out.trim().split('\n').slice(-3)).toEqual(['two', 'one', '30']);
    });

    test('tar packs and unpacks a tree, and it is the same', async () => {
      const path = await mounted(make({}));
      const out = await script(
        [
          'mkdir -p a/b/c; for i in $(seq 1 300); do printf "%0$((i * 7))d" $i > a/b/f$i; done',
          'ln -s ../f1 a/b/c/link; ln a/b/f1 a/b/c/hard; chmod 750 a/b; chmod 4711 a/b/f2',
          'touch -d @1600000000 a/b/f3; tar -C a --format=posix -cf all.tar .',
          'mkdir x; tar -C x -xpf all.tar',
          'describe() { (cd $1; find . ! -type d -printf "%y %m %s $TIME %n %p %l\\n" | sort; find . -type f -print0 | sort -z | xargs -0 sha256sum); }',
          // memfs sets the time of change when the mode changes, which tar does last.
          `TIME=${what === 'memfs' ? '' : '%T@'}`,
          'diff <(describe a) <(describe x) && echo same',
          'test $(stat -c %i x/b/f1) = $(stat -c %i x/b/c/hard) && find x | wc -l',
        ].join('\n'),
        path,
      );
      expect(out.trim().split('\n')).toEqual(['same', '305']);
    });

    test('a tree moves while files in it are open', async () => {
      const path = await mounted(make({}));
      const out = await script(
        [
          'mkdir -p tree/in; echo one > tree/in/file; exec 3<>tree/in/file; cd tree/in',
          'mv ../../tree ../../other; pwd -P | grep -o "other/in"',
          'cat <&3; echo two >&3; cat file; cat ../../other/in/file | wc -l; test ! -e ../../tree',
        ].join('\n'),
        path,
      );
      expect(out.trim().split('\n')).toEqual(['other/in', 'one', 'one', 'two', '2']);
    });

    test.each(['source', 'hide'] as const)('an open file lives on without a name (unlinkOpen %s)', async (unlinkOpen) => {
      const filesystem = make({ unlinkOpen });
      const path = await mounted(filesystem);
      const out = await script(
        [
          'mkdir d; echo first > d/f; exec 3<>d/f; rm d/f; ls -A d | wc -l',
          'cat <&3; echo second >&3; stat -L -c "%h %s" /proc/self/fd/3; truncate -s 3 /proc/self/fd/3; stat -L -c %s /proc/self/fd/3',
          'echo new > d/f; cat d/f; rm d/f; rmdir d; cat /proc/self/fd/3; ls -A . | wc -l',
        ].join('\n'),
        path,
      );
      expect(out.split('\n')).toEqual(['0', 'first', '0 13', '3', 'new', 'fir0', '']);
      await eventually(
        () => filesystem.paths.counters.openings === 0,
        2000,
        () => JSON.stringify(filesystem.paths.counters),
      );
      expect(await script('ls -A | wc -l', path)).toBe('0\n');
    });

    test('find sees what many writers make and take away', async () => {
      const path = await mounted(make({ maxIdleNodes: 8 }));
      const out = await script(
        [
          'for w in 1 2 3 4; do (mkdir w$w; for i in $(seq 1 60); do echo $i > w$w/t$i; mv w$w/t$i w$w/f$i; done; rm w$w/f*[05]) & done',
          'for i in $(seq 1 10); do find . > /dev/null 2>&1 || true; done; wait',
          "find . -type f | wc -l; cat w*/f* | sort -n | uniq -c | awk '{print $1}' | sort -u",
        ].join('\n'),
        path,
      );
      expect(out.trim().split('\n')).toEqual(['192', '4']);
    });
  });

  test('files belong to who makes them', async () => {
    const path = await mounted(fromNodeFs(createFsFromVolume(new Volume())));
    const out = await script(
      [
        'mkdir -m 1777 open; mkdir -m 2775 team; chgrp 50 team; chmod g+s team',
        'setpriv --reuid 1000 --regid 1000 --clear-groups sh -c "umask 027; echo x > open/mine; mkdir open/dir"',
        'stat -c "%u %g %a %n" open/mine open/dir; mkdir team/sub; touch team/file; stat -c "%g %a" team/sub team/file',
      ].join('\n'),
      path,
    );
    expect(out.trim().split('\n')).toEqual(['1000 1000 640 open/mine', '1000 1000 750 open/dir', '50 2755', '50 644']);
  });

  test('no symbolic link made behind the mount leads out of the root', async () => {
    const source = temporaryFolder('source');
    const outside = temporaryFolder('outside');
    await mkdir(join(source, 'a'));
    await mkdir(join(source, 'a/b'));
    await writeFile(join(source, 'a/b/f'), 'inside');
    await writeFile(join(outside, 'f'), 'outside');
    const filesystem = fromNodeFs(promises, { root: source, entryTtl: 3600, attributeTtl: 3600 });
    const path = await mounted(filesystem);
    expect(await script('cat a/b/f', path)).toBe('inside');
    await promises.rename(join(source, 'a/b'), join(source, 'a/was'));
    // Relative, so that it leads there on the host, and nowhere for a caller of the mount.
    await promises.symlink(relative(join(source, 'a'), outside), join(source, 'a/b'));
    // The kernel still believes in the directory a/b, so it asks for names in it.
    expect(await script('cat a/b/f 2>/dev/null || true; echo new > a/b/made 2>/dev/null || true', path)).not.toContain('outside');
    expect(await readdir(outside)).toEqual(['f']);
    expect(await readFile(join(outside, 'f'), 'utf8')).toBe('outside');
  });

  test('a filesystem of a few lines, without open', async () => {
    const files = new Map<string, Uint8Array>([['/hello', Buffer.from('hello\n')]]);
    const need = (path: string): Uint8Array => {
      const data = files.get(path);
      if (data === undefined) throw Object.assign(new Error(), { code: 'ENOENT' });
      return data;
    };
    const source: PathSource = {
      lstat: (path) => (path === '/' ? { type: 'directory' } : { type: 'file', size: need(path).byteLength }),
      readdir: () => [...files.keys()].map((path) => path.slice(1)),
      readFile: need,
      writeFile: (path, data) => void files.set(path, data.slice()),
      unlink: (path) => void files.delete(path),
      rename: (from, to) => {
        files.set(to, need(from));
        files.delete(from);
      },
    };
    const path = await mounted(pathFilesystem(source));
    const out = await script(
      'cat hello; echo more >> hello; cp hello copy; sed -i s/more/less/ copy; cat copy; exec 3<copy; rm copy; cat <&3; ls; wc -c < hello',
      path,
    );
    expect(out).toBe('hello\nhello\nless\nhello\nless\nhello\n11\n');
    expect(Buffer.from(files.get('/hello')!).toString()).toBe('hello\nmore\n');
    expect([...files.keys()]).toEqual(['/hello']);
  });

  test('more nodes than wanted: the kernel is asked to forget', async () => {
    const names: string[] = [];
    const onPressure: PathOptions['onPressure'] = (pressure) => {
      names.push(...pressure.oldest(10).map(({ name }) => name));
    };
    const filesystem = fromNodeFs(createFsFromVolume(new Volume()), { maxNodes: 200, maxIdleNodes: 50, onPressure });
    const path = await mounted(filesystem);
    await script('for i in $(seq 1 300); do echo > f$i; done', path);
    expect(names.slice(0, 3)).toEqual(['f1', 'f2', 'f3']);
    // What is removed is let go at once; the rest the kernel keeps until it is told otherwise.
    await script('rm f1 f2 f3', path);
    await eventually(
      () => filesystem.paths.counters.nodes === 298,
      2000,
      () => JSON.stringify(filesystem.paths.counters),
    );
  });
});
