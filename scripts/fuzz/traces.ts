/** The readers of trace files, with files that are broken. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { readTrace, TraceError, type TraceMessage, writeTrace } from '../../src/trace/index.ts';
import { FRAME_NOTIFICATION, type Frame, messageOf, newFrame } from './frame.ts';
import type { Seeds } from './seeds.ts';
import { allSeeds, Finding, mutations, type Target } from './target.ts';

/** A file has no more messages than bytes. */
async function readAll(path: string, fileBytes: number, damage: 'throw' | 'skip'): Promise<void> {
  let last = Number.NEGATIVE_INFINITY;
  let count = 0;
  let isOrdered = true;
  let unordered = 0;
  const onEnd = (summary: { unordered: number; damaged: readonly unknown[] }): void => {
    unordered = summary.unordered + summary.damaged.length;
  };
  for await (const { t, bytes, dir } of readTrace(path, { damage, onEnd })) {
    isOrdered &&= t >= last;
    last = t;
    if (!(bytes instanceof Uint8Array) || !['in', 'out', 'ioctl'].includes(dir))
      throw new Finding('message', 'a message is none');
    // A gzip'ed file of a few kilobytes may hold a thousand times as much.
    if (++count > fileBytes * 1100 + 16) throw new Finding('endless', 'a file has more messages than bytes');
  }
  if (!isOrdered && unordered === 0) throw new Finding('order', 'messages came out of order, and the summary does not say so');
}

/** Whole files in each format, small. */
async function traceSeeds(folder: string, seeds: Seeds): Promise<Frame[]> {
  const messages: TraceMessage[] = allSeeds(seeds)
    .filter((frame) => frame.length < 120)
    .slice(0, 24)
    .map((frame, index) => ({ dir: frame[0] === 0 ? 'in' : 'out', t: index * 10, bytes: messageOf(frame) }));
  const files: Frame[] = [];
  for (const name of ['a.trace', 'b.jsonl', 'c.jsonl.gz']) {
    const path = join(folder, name);
    await writeTrace(path, messages);
    const bytes = readFileSync(path);
    files.push(newFrame(FRAME_NOTIFICATION, bytes), newFrame(FRAME_NOTIFICATION, bytes, { variant: 1 }));
    if (name === 'a.trace') files.push(newFrame(FRAME_NOTIFICATION, gzipSync(bytes)));
  }
  return files;
}

export function tracesTarget(seeds: Seeds): Target {
  let starts: Frame[] | undefined;
  return {
    name: 'traces',
    about: 'A broken trace file is read as far as it is whole, in order, or refused with a TraceError.',
    caseFrames: 50,
    async prepare() {
      const folder = mkdtempSync(join(tmpdir(), 'fusewire-fuzz-'));
      starts = await traceSeeds(folder, seeds);
      rmSync(folder, { recursive: true });
    },
    generate(random, count) {
      return mutations(random, count, starts ?? [newFrame(FRAME_NOTIFICATION, new Uint8Array(100))], FRAME_NOTIFICATION);
    },
    async check(frames) {
      const folder = mkdtempSync(join(tmpdir(), 'fusewire-fuzz-'));
      try {
        for (const [index, frame] of frames.entries()) {
          const path = join(folder, String(index));
          const bytes = messageOf(frame);
          writeFileSync(path, bytes);
          await readAll(path, bytes.length, frame[2]! % 2 === 0 ? 'throw' : 'skip').catch((error: unknown) => {
            if (!(error instanceof TraceError)) throw error;
          });
        }
      } finally {
        rmSync(folder, { recursive: true });
      }
    },
  };
}
