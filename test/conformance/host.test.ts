/** The conformance map over this machine's own filesystems: that is how the cases themselves are tested. */
import { chmodSync, existsSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe } from 'vitest';
import { endIdleProcesses, hostTree } from '../../src/testing/host/index.ts';
import { skipLoudly } from '../live/harness.ts';
import { conformanceTests } from './adapter.ts';

const TMPFS = '/dev/shm';

describe.skipIf(skipLoudly('conformance of tmpfs', existsSync(TMPFS) ? undefined : `there is no ${TMPFS}`))('tmpfs', () => {
  let folder = '';

  beforeAll(() => {
    folder = mkdtempSync(join(TMPFS, 'fusewire-conformance-'));
    // Processes of other users have to reach their trees.
    chmodSync(folder, 0o755);
  });

  afterAll(async () => {
    await endIdleProcesses();
    rmSync(folder, { recursive: true, force: true });
  });

  conformanceTests(() => hostTree(folder, { name: 'tmpfs' }));
});
