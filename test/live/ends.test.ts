/**
 * Every way in which a mount ends, once: what it leaves, within 5 s. The table is scripts/ends/table.ts; `npm run ends` goes
 * through it as often as one likes.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ENDS } from '../../scripts/ends/table.ts';
import { BOUND_MS, Control, type Serving, World } from '../../scripts/ends/world.ts';
import { NO_MOUNTS, program, skipLoudly, tellFigure } from './harness.ts';

const SERVINGS: readonly Serving[] = [
  { workers: 1, mode: 'event' },
  { workers: 4, mode: 'blocking' },
  { workers: 4, mode: 'event' },
];

const skip = skipLoudly(
  'the ends of a mount',
  NO_MOUNTS ?? (program('unshare') === undefined ? 'there is no unshare' : undefined),
);

describe.skipIf(skip)('an end of a mount leaves nothing, or what the next start recovers, within 5 s', () => {
  let control: Control;
  beforeAll(() => {
    control = new Control();
  });
  afterAll(() => control.end());

  ENDS.forEach((end, index) => {
    const serving = SERVINGS[index % SERVINGS.length];
    const threads = `${serving.workers} worker${serving.workers > 1 ? 's' : ''} in ${serving.mode} mode`;
    // Another program of this machine may abort a connection whose number was once its own: then the end is another one.
    test.skipIf(skipLoudly(end.name, end.missing))(`${end.name}, ${threads}: ${end.leaves}`, { retry: 1 }, async () => {
      const world = new World(control, serving);
      let left: string[] = [];
      try {
        const elapsed = await end.run(world);
        tellFigure('ms:', Math.round(elapsed));
        expect(elapsed).toBeLessThan(BOUND_MS);
      } finally {
        left = await world.clear();
      }
      expect(left).toEqual([]);
    });
  });
});
