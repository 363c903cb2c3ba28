import { describe } from 'vitest';
import { NO_COMPILER } from '../clients/build.ts';
import { asyncDioAssertions } from './async-dio-cases.ts';
import { NO_MOUNTS, skipLoudly, useLiveMounts } from './harness.ts';

const skip = skipLoudly('asynchronous direct I/O on live mounts', NO_MOUNTS ?? NO_COMPILER);

describe.skipIf(skip)('asynchronous direct I/O, served on this thread', () => {
  useLiveMounts();
  asyncDioAssertions({ workers: 0, mode: 'event' });
});
