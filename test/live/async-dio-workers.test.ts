import { describe } from 'vitest';
import { NO_COMPILER } from '../clients/build.ts';
import { asyncDioAssertions } from './async-dio-cases.ts';
import { NO_MOUNTS, skipLoudly, useLiveMounts } from './harness.ts';

const skip = skipLoudly('asynchronous direct I/O served by workers', NO_MOUNTS ?? NO_COMPILER);

describe.skipIf(skip)('asynchronous direct I/O, served by workers', () => {
  useLiveMounts();
  describe('2 workers on their event loops', () => asyncDioAssertions({ workers: 2, mode: 'event' }));
  describe('1 worker that sleeps in the kernel', () => asyncDioAssertions({ workers: 1, mode: 'blocking' }));
});
