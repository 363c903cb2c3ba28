/** The conformance map over the memory filesystem: under the simulated kernel, and on real mounts. */
import { join } from 'node:path';
import { describe, it } from 'vitest';
import memory, { shared } from '../../examples/memory/filesystem.ts';
import type { SessionSettings } from '../../src/session/index.ts';
import { endIdleProcesses, mountedTree } from '../../src/testing/host/index.ts';
import { simulate } from '../../src/testing/kernel/index.ts';
import { abortConnection, daemon, mountPoint, NO_MOUNTS, ROOT, skipLoudly, tellFigure, useLiveMounts } from '../live/harness.ts';
import { conforms } from './adapter.ts';

/** The kernel does not write back before it asks for data and holes; all is data then, which is allowed. And reads stay in it. */
const CACHED = {
  'SEEK_DATA and SEEK_HOLE: find a hole between data': 'the memory filesystem calls everything data with the write-back cache',
  'SEEK_DATA and SEEK_HOLE: after a hole was punched': 'the memory filesystem calls everything data with the write-back cache',
  'times: read': 'what is read from the cache of the kernel never reaches the filesystem',
};

describe('memory under the simulated kernel', () => {
  const simulations: { name: string; seed?: number; settings?: SessionSettings }[] = [
    { name: 'in order' },
    { name: 'with answers that overtake each other, seed 1', seed: 1 },
    { name: 'with answers that overtake each other, seed 2', seed: 2 },
  ];

  it.each(simulations)(
    'conforms $name',
    async ({ name, ...options }) => {
      const report = await conforms(() => simulate(memory({ workers: 1, options: {}, shared: shared() }), { name, ...options }));
      tellFigure('cases', `${report.passed} passed, ${report.failed} failed, ${report.skipped} skipped`);
    },
    120_000,
  );
});

describe.skipIf(skipLoudly('conformance of mounts of memory', NO_MOUNTS))('memory on a mount', () => {
  useLiveMounts();

  it.each([
    { name: 'in event mode', options: [], except: {} },
    { name: 'in blocking mode', options: ['--mode', 'blocking'], except: {} },
    { name: 'with the write-back cache', options: ['--writeback'], except: CACHED },
  ])(
    'conforms $name',
    async ({ options, except }) => {
      const path = mountPoint();
      const module = join(ROOT, 'dist/examples/memory/filesystem.js');
      const limits = ['--workers', '1', '-o', 'allow_other,default_permissions'];
      const { connection } = await daemon(['mount', module, path, ...limits, ...options], path);
      const abort = () => {
        abortConnection(connection);
        return true;
      };
      const report = await conforms(() => mountedTree({ mountpoint: path, abort }), { except });
      await endIdleProcesses();
      tellFigure('cases', `${report.passed} passed, ${report.failed} failed, ${report.skipped} skipped`);
    },
    120_000,
  );
});
