/** The conformance map over the memory filesystem behind the storage layer, under the simulated kernel. */
import { describe, it } from 'vitest';
import memory, { shared } from '../../examples/memory/filesystem.ts';
import { type WithStorageOptions, withStorage } from '../../src/storage/index.ts';
import { simulate } from '../../src/testing/kernel/index.ts';
import { tellFigure } from '../live/harness.ts';
import { conforms } from './adapter.ts';

describe('memory behind the storage layer', () => {
  it.each<{ name: string; options: WithStorageOptions; seed?: number }>([
    { name: 'as it comes', options: {} },
    {
      name: 'with answers that overtake each other and one operation at a time',
      options: { limits: { operationsMax: 1 } },
      seed: 3,
    },
    { name: 'writing behind', options: { writeBehind: { restMs: 20 } } },
  ])(
    'conforms $name',
    async ({ name, options, seed }) => {
      const report = await conforms(() =>
        simulate(withStorage(memory({ workers: 1, options: {}, shared: shared() }), options), {
          name,
          ...(seed === undefined ? {} : { seed }),
        }),
      );
      tellFigure('cases', `${report.passed} passed, ${report.failed} failed, ${report.skipped} skipped`);
    },
    120_000,
  );
});
