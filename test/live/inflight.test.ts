import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { describe, expect, test } from 'vitest';
import { NO_COMPILER } from '../clients/build.ts';
import { Client } from './client.ts';
import { eventually, FIXTURES, mountHere, NO_MOUNTS, onCleanUp, skipLoudly, tellFigure, useLiveMounts } from './harness.ts';

const READS = 64;
const BYTES = 4096;
const WORKERS_MAX = 4;

const skip = skipLoudly('requests in flight inside the filesystem', NO_MOUNTS ?? NO_COMPILER);

describe.skipIf(skip)('64 asynchronous reads of one file are in flight at once inside the filesystem', () => {
  useLiveMounts();

  for (const workers of [1, WORKERS_MAX]) {
    for (const mode of ['event', 'blocking'] as const) {
      for (const file of ['plain', 'direct']) {
        const opened = file === 'direct' ? 'opened with FOPEN_DIRECT_IO' : 'opened with O_DIRECT';
        test(`over ${workers} worker${workers > 1 ? 's' : ''} in ${mode} mode, ${opened}`, async () => {
          const counters = new Int32Array(new SharedArrayBuffer(4 * (3 + WORKERS_MAX)));
          onCleanUp({ before: () => Atomics.store(counters, 2, 1) });
          const module = pathToFileURL(join(FIXTURES, 'inflight.mjs'));
          const options = { counters: counters.buffer };
          const { path } = await mountHere({ module, options }, { workers, mode, maxBackground: READS });
          const client = await Client.start();
          await client.open(0, join(path, file), file === 'direct' ? 'rdonly' : 'rdonly,direct');
          const reads = Array.from({ length: READS }, (_, index) => client.aread(0, index * BYTES, BYTES));
          const submit = client.submit();

          await eventually(
            () => Atomics.load(counters, 0) === READS,
            5000,
            () => `${Atomics.load(counters, 0)} reads in flight`,
          );
          expect(await submit.wait(1000)).toMatchObject({ result: READS });
          await sleep(50);
          expect(Atomics.load(counters, 0)).toBe(READS);

          Atomics.store(counters, 2, 1);
          expect(await client.events(READS, 5000).wait()).toMatchObject({ result: READS });
          for (const read of reads) expect(await read.wait()).toMatchObject({ result: BYTES, data: 'same' });
          expect(Atomics.load(counters, 1)).toBe(READS);
          const shares = [...counters.slice(3, 3 + workers)];
          expect(shares.reduce((sum, share) => sum + share, 0)).toBe(READS);
          tellFigure('reads per worker:', shares.join(' '));
        });
      }
    }
  }
});
