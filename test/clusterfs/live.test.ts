/** clusterfs on real mounts: each daemon a process of its own, over a real cluster. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { checkVolume, formatVolume, openVolume } from '../../examples/clusterfs/index.ts';
import { storeOf } from '../../examples/clusterfs/stores.ts';
import { NO_COMPILER } from '../clients/build.ts';
import { compileFsx } from '../live/differential.ts';
import {
  type Daemon,
  daemonOf,
  LineProcess,
  mountPoint,
  NO_MOUNTS,
  ROOT,
  run,
  runWell,
  skipLoudly,
  tellFigure,
  useLiveMounts,
} from '../live/harness.ts';
import { NO_REDIS, useCluster } from './harness.ts';

const CLI = join(ROOT, 'examples/clusterfs/dist/cli.js');
const NOT_BUILT = existsSync(CLI) ? undefined : 'clusterfs is not built (npm run build:clusterfs)';

/** Takes a lock, says so, and keeps it. */
const LOCKER = `
import fcntl, sys, time
f = open(sys.argv[1], 'r+')
fcntl.lockf(f, fcntl.LOCK_EX)
print('locked', flush=True)
time.sleep(1000)
`;

/** Writes, closes, and says when; or reads until it sees something, and says when. */
const RACE = `
import os, random, sys
folder, seed = sys.argv[1], int(sys.argv[2])
random.seed(seed)
paths = ['a', 'b', 'c', 'a/x', 'b/x', 'a/y', 'b/y', 'a/x/z', 'b/x/z']
path = lambda: os.path.join(folder, random.choice(paths))
for _ in range(150):
    try:
        step, one, other = random.randrange(9), path(), path()
        if step < 3: os.mkdir(one)
        elif step < 4: open(one, 'w').write(one)
        elif step < 5: os.rmdir(one)
        elif step < 6: os.unlink(one)
        elif step < 7: os.link(one, other)
        else: os.rename(one, other)
    except OSError as error:
        if error.errno == 5: raise
`;

describe.skipIf(skipLoudly('clusterfs on real mounts', NO_REDIS ?? NO_MOUNTS ?? NOT_BUILT))('clusterfs on real mounts', () => {
  useLiveMounts();
  const cluster = useCluster();
  let volumes = 0;

  async function volume(): Promise<string> {
    const name = `live${++volumes}`;
    await formatVolume({ nodes: cluster.local.addresses }, name);
    return name;
  }

  async function mounted(name: string, ...options: string[]): Promise<Daemon> {
    const path = mountPoint();
    return await daemonOf(CLI, ['mount', name, path, '--nodes', cluster.local.addresses.join(','), ...options], path, 30_000);
  }

  async function clean(name: string): Promise<void> {
    const opened = await openVolume({ nodes: cluster.local.addresses }, name);
    const { problems } = await checkVolume(opened, storeOf(opened, { replicas: 0, waitMs: 0 })).finally(() =>
      opened.cluster.close(),
    );
    expect(problems).toEqual([]);
  }

  it('what one mount closes another reads, through caches of both kernels', async () => {
    const name = await volume();
    const [a, b] = [await mounted(name), await mounted(name)];
    const script = [
      'import os, sys, time',
      'a, b = sys.argv[1] + "/f", sys.argv[2] + "/f"',
      'open(a, "w").write("0"); open(b).read()',
      'late = []',
      'for n in range(1, 31):',
      '    text = str(n) * (n * 50)',
      '    open(b).read()',
      '    with open(a, "w") as f: f.write(text)',
      '    begin = time.monotonic()',
      '    while open(b).read() != text:',
      '        assert time.monotonic() - begin < 5',
      '    late.append((time.monotonic() - begin) * 1000)',
      'late.sort()',
      'print("median %.1f ms, max %.1f ms" % (late[15], late[29]))',
    ].join('\n');
    tellFigure('seen after close', (await runWell(['python3', '-c', script, a.path, b.path], { timeoutMs: 30_000 })).trim());
  }, 90_000);

  it('kill -9 frees the locks of a mount within its lease', async () => {
    const name = await volume();
    const [a, b] = [await mounted(name, '--lease', '2s'), await mounted(name, '--lease', '2s')];
    await runWell(['touch', join(a.path, 'f')], { timeoutMs: 10_000 });
    const holder = new LineProcess(['python3', '-c', LOCKER, join(a.path, 'f')]);
    await holder.line((line) => line === 'locked', 10_000, 'the lock');
    const waiter = new LineProcess(['python3', '-c', LOCKER, join(b.path, 'f')]);
    a.kill('SIGKILL');
    const begin = performance.now();
    await waiter.line((line) => line === 'locked', 20_000, 'the lock of a dead mount');
    const tookMs = performance.now() - begin;
    tellFigure('the lock of a killed mount is had', `${Math.round(tookMs)} ms later, with a lease of 2000 ms`);
    expect(tookMs).toBeLessThan(6000);
    holder.kill('SIGKILL');
    waiter.kill('SIGKILL');
  }, 90_000);

  it('what a killed mount had open and unlinked goes with its lease', async () => {
    const name = await volume();
    const [a, b] = [await mounted(name, '--lease', '1s'), await mounted(name, '--lease', '1s')];
    const script = 'f = open(sys.argv[1], "w"); f.write("x" * 100000); f.flush(); os.fsync(f.fileno()); os.unlink(sys.argv[1])';
    const holder = new LineProcess([
      'python3',
      '-c',
      `import os, sys, time; ${script}; print("gone", flush=True); time.sleep(1000)`,
      join(a.path, 'f'),
    ]);
    await holder.line((line) => line === 'gone', 10_000, 'the file');
    a.kill('SIGKILL');
    const opened = await openVolume({ nodes: cluster.local.addresses }, name);
    const status = async () => String((await opened.meta.read('volume', []))[1]);
    for (const begin = performance.now(); (await status()).split(',')[0] !== '1'; ) {
      expect(performance.now() - begin).toBeLessThan(15_000);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    opened.cluster.close();
    holder.kill('SIGKILL');
    await runWell(['ls', b.path], { timeoutMs: 10_000 });
    await clean(name);
  }, 90_000);

  it('rename races of two kernels keep the tree whole', async () => {
    const name = await volume();
    const [a, b] = [await mounted(name), await mounted(name)];
    const paths = [a.path, b.path, a.path, b.path];
    const racers = paths.map((path, seed) => run(['python3', '-c', RACE, path, String(seed)], { timeoutMs: 60_000 }));
    for (const { code, stderr } of await Promise.all(racers)) expect([code, stderr]).toEqual([0, '']);
    await clean(name);
  }, 120_000);

  it.skipIf(skipLoudly('fsx over clusterfs', NO_COMPILER))(
    'fsx finds no difference',
    async () => {
      const name = await volume();
      const { path } = await mounted(name);
      const fsx = compileFsx();
      for (const [how, seed] of [
        ['buffered', '7'],
        ['mmap', '8'],
        ['direct', '9'],
      ]) {
        const output = await runWell([fsx, join(path, how), '500', seed, how], { timeoutMs: 60_000 });
        tellFigure(`fsx ${how}`, output.trim());
      }
      await clean(name);
    },
    200_000,
  );
});
