/** What was acknowledged is there after the daemon of a passthrough was killed: a few rounds of `npm run durability`. */
import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { describe, expect, test } from 'vitest';
import { compileClient } from '../../scripts/compile.ts';
import { CONFIGURATIONS, Stage } from '../../scripts/durability/trial.ts';
import { NO_COMPILER } from '../clients/build.ts';
import { NO_MOUNTS, skipLoudly, tellFigure } from './harness.ts';

const KILLS_AFTER_MS = [0, 70, 200];

describe.skipIf(skipLoudly('durability', NO_MOUNTS ?? NO_COMPILER))(
  'after kill -9 every byte that was acknowledged is there',
  () => {
    test.each(CONFIGURATIONS.map((configuration, index) => ({ configuration, index, name: configuration.name })))(
      '$name',
      { timeout: 300_000 },
      async ({ configuration, index }) => {
        const over = index % 2 === 1 && existsSync('/dev/shm') ? '/dev/shm' : tmpdir();
        const stage = new Stage(over, (folder) => compileClient('faults/writer.c', folder));
        try {
          let promises = 0;
          for (const killAfterMs of KILLS_AFTER_MS) {
            const { promised, lost } = await stage.trial(configuration, killAfterMs, killAfterMs + index + 1);
            expect(lost).toEqual([]);
            promises += promised;
          }
          tellFigure('promises:', promises);
          expect(promises).toBeGreaterThan(KILLS_AFTER_MS.length);
        } finally {
          stage.end();
        }
      },
    );
  },
);
