/** The conformance map over clusterfs on a real cluster, under the simulated kernel. */
import { describe, it } from 'vitest';
import { conforms } from '../conformance/adapter.ts';
import { skipLoudly, tellFigure } from '../live/harness.ts';
import { freshVolume, NO_REDIS, simulated, useCluster } from './harness.ts';

/** Each case has a volume and connections of its own, so that all of them take minutes: with FUSEWIRE_CLUSTERFS_WHOLE=1. */
const WHOLE = Boolean(process.env.FUSEWIRE_CLUSTERFS_WHOLE);
const SHARE = 4;

describe.skipIf(skipLoudly('conformance of clusterfs', NO_REDIS))('clusterfs under the simulated kernel', () => {
  const cluster = useCluster();

  it('conforms', async () => {
    const makeTree = async () => simulated(cluster.local, await freshVolume(cluster.local), { collectMs: 0 });
    const except = { 'fallocate: takes space': 'space cannot be set aside in a cluster' };
    let nth = 0;
    const report = await conforms(makeTree, { except, only: () => WHOLE || nth++ % SHARE === 0 });
    tellFigure('cases', `${report.passed} passed, ${report.failed} failed, ${report.skipped} skipped`);
  }, 600_000);
});
