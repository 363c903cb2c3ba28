/** The conformance map over real mounts of the overlay, where all is made in the upper folder. */
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, it } from 'vitest';
import { endIdleProcesses, mountedTree } from '../../src/testing/host/index.ts';
import type { PosixFeature } from '../../src/testing/posix.ts';
import { abortConnection, daemon, mountPoint, NO_MOUNTS, ROOT, skipLoudly, tellFigure, useLiveMounts } from '../live/harness.ts';
import { conforms } from './adapter.ts';

const MODULE = join(ROOT, 'dist/examples/overlay/filesystem.js');
const PLACE = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();

/** What the overlay leaves out, as it says itself. */
const LACKS: readonly (readonly [PosixFeature, string])[] = [
  ['xattrs', 'the overlay has no extended attributes'],
  ['acls', 'the overlay has no extended attributes'],
  ['tmpfile', 'the overlay has no O_TMPFILE'],
  ['seek-hole', 'the overlay calls everything data'],
  ['birth-time', 'the path level answers no STATX'],
  ['binary-names', 'names of the overlay are UTF-8'],
];

describe.skipIf(skipLoudly('conformance of mounts of the overlay', NO_MOUNTS))('the overlay', () => {
  useLiveMounts();
  let folder = '';

  afterAll(async () => {
    await endIdleProcesses();
    if (folder !== '') rmSync(folder, { recursive: true, force: true });
  });

  it('conforms', async () => {
    folder = mkdtempSync(join(PLACE, 'fusewire-overlay-'));
    const layers = ['lower', 'upper'].map((name) => join(folder, name));
    // The upper one is the root of the mount, which other users have to enter.
    for (const layer of layers) mkdirSync(layer);
    for (const path of [folder, ...layers]) chmodSync(path, 0o755);
    const path = mountPoint();
    const { connection } = await daemon(
      ['mount', MODULE, path, '-o', 'allow_other,default_permissions,dev,suid', '--', ...layers],
      path,
    );
    const abort = () => {
      abortConnection(connection);
      return true;
    };
    const unsupported = new Map(LACKS);
    const report = await conforms(() => mountedTree({ mountpoint: path, abort }, { unsupported }));
    await endIdleProcesses();
    tellFigure('cases', `${report.passed} passed, ${report.skipped} skipped for what is lacking`);
  }, 60_000);
});
