/** The conformance map over real mounts of the passthrough, and what it shows of tmpfs that way. */
import { chmodSync, existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, it } from 'vitest';
import { endIdleProcesses, mountedTree } from '../../src/testing/host/index.ts';
import { abortConnection, daemon, mountPoint, NO_MOUNTS, skipLoudly, tellFigure, useLiveMounts } from '../live/harness.ts';
import { conforms } from './adapter.ts';

/** Where the kernel caches, it announces the write with a SETATTR of nothing. */
/** The kernel does not write back before it asks for data and holes; all is data then, which is allowed. And reads stay in it. */
const CACHED = {
  'SEEK_DATA and SEEK_HOLE: find a hole between data': 'the passthrough calls everything data with the write-back cache',
  'SEEK_DATA and SEEK_HOLE: after a hole was punched': 'the passthrough calls everything data with the write-back cache',
  'times: read': 'what is read from the cache of the kernel never reaches the host',
};

const CONFIGURATIONS: { name: string; options: string[]; failing: Record<string, string>; except?: Record<string, string> }[] = [
  { name: 'blocking mode', options: ['--mode', 'blocking', '--workers', '2'], failing: {} },
  { name: 'event mode, without caches', options: ['--mode', 'event', '--workers', '2', '--cache', 'none'], failing: {} },
  {
    name: 'write-back cache, everything cached',
    options: ['--writeback', '--cache', 'always'],
    failing: {},
    except: CACHED,
  },
];

const PLACE = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();

describe.skipIf(skipLoudly('conformance of the passthrough', NO_MOUNTS))('the passthrough', () => {
  useLiveMounts();
  const folders: string[] = [];

  afterAll(async () => {
    await endIdleProcesses();
    for (const folder of folders) rmSync(folder, { recursive: true, force: true });
  });

  it.each(CONFIGURATIONS)(
    'conforms in $name',
    async ({ name, options, failing, except }) => {
      const source = mkdtempSync(join(PLACE, 'fusewire-conformance-'));
      folders.push(source);
      // It is the root of the mount, which other users have to enter.
      chmodSync(source, 0o755);
      const path = mountPoint();
      const { connection } = await daemon(['passthrough', source, path, '-o', 'allow_other', ...options], path);
      const abort = () => {
        abortConnection(connection);
        return true;
      };
      const report = await conforms(() => mountedTree({ mountpoint: path, abort }, { name: `the passthrough, ${name}` }), {
        failing,
        ...(except === undefined ? {} : { except }),
      });
      await endIdleProcesses();
      tellFigure('cases', `${report.passed} passed, ${report.failed} failed, ${report.skipped} skipped`);
    },
    120_000,
  );
});
