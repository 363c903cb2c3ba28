/** An ordinary user mounts through fusermount3 and works on the mount as on the folder. */
import { chownSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import {
  CLI,
  Daemon,
  fuseMountAt,
  mountPoint,
  NO_MOUNTS,
  program,
  ROOT,
  runWell,
  skipLoudly,
  temporaryFolder,
  useLiveMounts,
} from './harness.ts';
import { openDevice } from './mount-support.ts';

/** nobody: fusermount3 wants a user that has a name. */
const USER = 65534;
const reason = NO_MOUNTS ?? (program('fusermount3') ? undefined : 'fusermount3 is missing: install the package fuse3');
const skip = skipLoudly('an ordinary user', reason);

describe.skipIf(skip)('an ordinary user', () => {
  useLiveMounts();
  let closeDevice = () => {};
  afterEach(() => closeDevice());

  const asUser = (...argv: string[]) => [
    'setpriv',
    `--reuid=${USER}`,
    `--regid=${USER}`,
    '--clear-groups',
    'env',
    'HOME=/nonexistent',
    ...argv,
  ];
  const own = (path: string) => {
    chownSync(path, USER, USER);
    return path;
  };

  test.each([
    ['blocking', 2],
    ['event', 1],
  ] as const)('mounts, works and unmounts: %s, %i workers', { timeout: 60_000 }, async (mode, workers) => {
    closeDevice = openDevice();
    const native = own(temporaryFolder('native'));
    const source = own(temporaryFolder('source'));
    const path = own(mountPoint());
    const script = join(ROOT, 'test/clients/ordinary.sh');
    const expected = await runWell(asUser('bash', script, native), { timeoutMs: 20_000 });
    const daemon = new Daemon(
      asUser(process.execPath, CLI, 'passthrough', source, path, '--mode', mode, '--workers', String(workers), '--backing'),
      path,
    );
    const line = await daemon.line((line) => line.startsWith('mounted'), 10_000, 'the line `mounted`');
    // The kernel gives them to nobody else than root: the daemon serves, and says why.
    expect(line).toMatch(/without backing files: (backing files need CAP_SYS_ADMIN|this kernel has none)/);
    expect(fuseMountAt(path)).toBeDefined();
    const onMount = await runWell(asUser('bash', script, path), { timeoutMs: 20_000 });
    expect(onMount).toBe(expected);
    expect(expected).toMatch(/^stat: 0$/m);
    daemon.kill('SIGTERM');
    expect(await daemon.end(3000)).toMatchObject({ code: 0 });
    expect(fuseMountAt(path)).toBeUndefined();
  });
});
