/** The decoders against every case that ever broke one, and a short run of the fuzzer with a seed that never changes. */
import { afterAll, describe, expect, test } from 'vitest';
import { checkCase, watchStrays } from '../../scripts/fuzz/check.ts';
import { readCorpus } from '../../scripts/fuzz/corpus.ts';
import { decoderTargets } from '../../scripts/fuzz/decoders.ts';
import { FRAME_REQUEST, type Frame, newFrame } from '../../scripts/fuzz/frame.ts';
import { run } from '../../scripts/fuzz/run.ts';
import { loadSeeds } from '../../scripts/fuzz/seeds.ts';
import { shrink } from '../../scripts/fuzz/shrink.ts';
import { Finding, type Target } from '../../scripts/fuzz/target.ts';

const targets = decoderTargets(loadSeeds());
const corpus = readCorpus();

afterAll(watchStrays());

describe.each(targets)('$name', (target) => {
  const cases = corpus.filter((one) => one.target === target.name);

  test.skipIf(cases.length === 0)(`${cases.length} cases of the corpus`, async () => {
    for (const { name, frames } of cases) {
      const outcome = await checkCase(target, frames).then(
        () => 'right',
        (error: unknown) => String(error),
      );
      expect(`${name}: ${outcome}`).toBe(`${name}: right`);
    }
  });

  test('4,000 frames', async () => {
    const lines: string[] = [];
    const outcome = await run([target], { frames: 4000, seed: 20_261_122, print: (line) => void lines.push(line) });
    expect(outcome.findings, lines.join('\n')).toBe(0);
    expect(outcome.frames).toBeGreaterThanOrEqual(4000);
  });
});

test('the seeds are messages of every opcode', () => {
  const { requests, replies, notifications } = loadSeeds();
  expect(new Set(requests.map((frame) => frame[12]! | (frame[13]! << 8))).size).toBeGreaterThan(50);
  expect(replies.length).toBeGreaterThan(50);
  expect(notifications.length).toBeGreaterThan(5);
});

/** A target with a planted fault: a frame that holds 0x99 anywhere. */
const planted: Target = {
  name: 'planted',
  about: 'No byte is 0x99.',
  caseFrames: 10,
  generate: (random, count) =>
    Array.from({ length: count }, () =>
      newFrame(
        FRAME_REQUEST,
        Uint8Array.from({ length: 60 }, () => random.below(256)),
      ),
    ),
  check(frames: readonly Frame[]) {
    if (frames.some((frame) => frame.subarray(8).includes(0x99))) throw new Finding('planted', 'a byte is 0x99');
  },
};

test('a finding is reported with the smallest case that shows it', async () => {
  const lines: string[] = [];
  const outcome = await run([planted], { frames: 100, seed: 5, print: (line) => void lines.push(line) });
  expect(outcome.findings).toBe(1);
  const report = JSON.parse(lines.find((line) => line.startsWith('{'))!) as { target: string; about: string; frames: string[] };
  expect(report).toMatchObject({ target: 'planted', about: 'planted' });
  expect(report.frames).toHaveLength(1);
  expect(report.frames[0]!.length).toBeLessThanOrEqual(2 * (8 + 60));
  expect(
    report.frames[0]!.slice(16)
      .match(/../g)!
      .filter((byte) => byte !== '00').length,
  ).toBeLessThanOrEqual(5);
});

test('shrinking leaves out what the fault does not need', async () => {
  const quiet = newFrame(FRAME_REQUEST, new Uint8Array(30));
  const loud = newFrame(FRAME_REQUEST, new Uint8Array(30).fill(0x99, 7, 8));
  const smallest = await shrink(planted, [quiet, quiet, loud, quiet, loud, quiet], 'planted');
  expect(smallest).toHaveLength(1);
  expect(smallest[0]!.length).toBeLessThanOrEqual(8 + 8);
});
