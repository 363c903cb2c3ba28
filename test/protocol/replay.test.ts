/**
 * Captured traffic through the session and its codecs: the recorded replies, said by an author's methods, become the recorded bytes
 * again. Our own captures to the last byte; those of other daemons but for what the library does otherwise by design, named by rule.
 */
import { existsSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import type { TraceMessage } from '../../src/trace/message.ts';
import { readTrace } from '../../src/trace/read.ts';
import { replayScripted, type ScriptedReport } from '../../src/trace/scripted.ts';

const fixtures = fileURLToPath(new URL('./fixtures/', import.meta.url));
const captures = fileURLToPath(new URL('./captures/', import.meta.url));
const isTrace = (name: string): boolean => /\.(jsonl|trace)(\.gz)?$/.test(name);
const tracesIn = (folder: string): string[] => (existsSync(folder) ? readdirSync(folder).filter(isTrace).sort() : []);

/**
 * What differs in the captures of other daemons, by rule; every rule stands in src/trace/scripted-rules.ts. INIT differs in all:
 * none of these daemons set max_background, and some take splice flags or old minors.
 */
const RULES: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  'bindfs-1.14.7.jsonl.gz': { init: 1 },
  'fuse-overlayfs-1.10.jsonl.gz': { init: 1, 'name-too-long': 1, 'negative-entry': 154 },
  'gofuse-2.9-hello.jsonl.gz': { identity: 2, init: 1, 'name-too-long': 1 },
  'libfuse-2.3.0-fusexmp.jsonl.gz': { init: 1 },
  'libfuse-2.6.5-hello_ll.jsonl.gz': { init: 1, 'name-too-long': 1 },
  'libfuse-2.9.5-fsel.jsonl.gz': { init: 1 },
  'libfuse-3.19-hello_ll.jsonl.gz': { init: 1, 'name-too-long': 1 },
  'libfuse-3.19-ioctl_ll.jsonl.gz': { init: 1 },
  'libfuse-3.19-notify_inval_entry-epoch.jsonl.gz': { init: 1 },
  'libfuse-3.19-notify_inval_entry-expire.jsonl.gz': { init: 1 },
  'libfuse-3.19-notify_inval_entry.jsonl.gz': { init: 1 },
  'libfuse-3.19-notify_inval_inode.jsonl.gz': { init: 1 },
  'libfuse-3.19-notify_prune.jsonl.gz': { init: 1 },
  'libfuse-3.19-notify_store_retrieve.jsonl.gz': { init: 1 },
  'libfuse-3.19-passthrough_ll-never.jsonl.gz': { init: 1, interrupt: 1, 'plain-record': 31, 'statx-mask': 4 },
  'libfuse-3.19-poll.jsonl.gz': { init: 1 },
  'libfuse-3.9.4-passthrough_ll.jsonl.gz': { init: 1, 'plain-record': 30 },
  'rclone-1.60.jsonl.gz': { init: 1, 'name-too-long': 1 },
};

const texts = (report: ScriptedReport, only: (rule: string | undefined) => boolean): string[] =>
  report.differences.filter(({ rule }) => only(rule)).map(({ text }) => text);

function assertWhole(report: ScriptedReport): void {
  expect(report.same + report.different + report.skippedCount).toBe(report.requests);
  expect(report.identical + report.padding + report.modernised).toBe(report.same);
  expect(report.notificationsSame).toBe(report.notifications);
}

describe('captures of other daemons', () => {
  test('each has its row of rules', () => {
    expect(tracesIn(fixtures)).toEqual(Object.keys(RULES).sort());
  });

  test.each(tracesIn(fixtures))('%s', async (name) => {
    const report = await replayScripted(readTrace(fixtures + name));
    expect(texts(report, (rule) => rule === undefined)).toEqual([]);
    expect(Object.fromEntries([...report.rules].sort())).toEqual(RULES[name]);
    assertWhole(report);
    expect(report.same).toBeGreaterThan(20);
  });
});

describe.runIf(tracesIn(captures).length > 0)('our own captures', () => {
  test.each(tracesIn(captures))('%s: byte for byte', async (name) => {
    const report = await replayScripted(readTrace(captures + name));
    expect(texts(report, () => true)).toEqual([]);
    expect(report.identical).toBe(report.same);
    expect(report.same).toBeGreaterThan(100);
    assertWhole(report);
  });
});

test('a wrong byte is found, and said by its field', async () => {
  const name = 'libfuse-3.9.4-passthrough_ll.jsonl.gz';
  const messages: TraceMessage[] = [];
  for await (const message of readTrace(fixtures + name)) messages.push({ ...message, bytes: message.bytes.slice() });
  // The codec cannot say this: bits in fuse_entry_out that no attribute has.
  const reply = messages.findIndex(({ dir, bytes }) => dir === 'out' && bytes.length === 16 + 128);
  messages[reply]!.bytes[16 + 40 + 84] = 1;
  const report = await replayScripted(messages);
  expect(report.differences.map(({ text }) => text).filter((text) => /attr\.flags recorded 1, now 0/.test(text))).toHaveLength(1);
  expect(report.rules.get('attribute-flags')).toBe(1);
});

test('a trace without INIT, cut in the middle, is replayed as far as it goes', async () => {
  const messages: TraceMessage[] = [];
  for await (const message of readTrace(`${fixtures}libfuse-3.19-hello_ll.jsonl.gz`))
    messages.push({ ...message, bytes: message.bytes.slice() });
  const report = await replayScripted(messages.slice(6, 61));
  expect(report.unexplained).toBe(0);
  expect(report.same).toBeGreaterThan(20);
  expect(report.skipped.get('never answered in the trace')).toBe(1);
});
