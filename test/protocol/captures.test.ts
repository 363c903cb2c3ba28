/**
 * Our own passthrough as it was recorded under git, fio and sqlite (scripts/capture.ts): each message decodes, and encodes to
 * the same bytes. Replaying them through a session is test/unit's.
 */
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { Connection, checkMessage, encodeMessage } from '../../src/protocol/index.ts';
import { readTrace, type TraceSummary } from '../../src/trace/read.ts';
import { decoded, toHex } from './support.ts';

const FOLDER = fileURLToPath(new URL('./captures/', import.meta.url));
const CAPTURES = readdirSync(FOLDER).filter((name) => name.startsWith('passthrough-'));

test('there is a capture of git, of fio and of sqlite', () => {
  const programs = CAPTURES.map((name) => name.replace(/^passthrough-|\..*$/g, ''));
  expect(programs.sort()).toEqual(['fio', 'git', 'sqlite']);
});

describe.each(CAPTURES)('%s', (name) => {
  test('every message decodes, encodes to the same bytes, and is answered once', async () => {
    const connection = new Connection();
    const opcodes = new Map<string, number>();
    let messages = 0;
    let answers = 0;
    let summary: TraceSummary | undefined;
    for await (const { dir, bytes, command, errno, wholeBytes } of readTrace(`${FOLDER}${name}`, {
      onEnd: (end) => (summary = end),
    })) {
      messages++;
      expect(wholeBytes).toBeUndefined();
      const own = bytes.slice();
      const message = decoded(
        dir === 'in'
          ? connection.incoming(own)
          : dir === 'out'
            ? connection.outgoing(own, errno !== undefined)
            : connection.ioctl(command!, own),
      );
      if (message.kind === 'request') opcodes.set(message.opcode, (opcodes.get(message.opcode) ?? 0) + 1);
      if (message.kind === 'reply') answers++;
      expect(checkMessage(own, message), `${name}, message ${messages}`).toBe('identical');
      expect(toHex(encodeMessage(message))).toBe(toHex(own));
    }
    expect(summary).toMatchObject({ damaged: [], unordered: 0, messages });
    expect(summary?.truncated).toBeUndefined();
    expect(connection.pendingCount).toBe(opcodes.get('INTERRUPT') ?? 0);
    expect(opcodes.get('INIT')).toBe(1);
    expect(answers).toBeGreaterThan(100);
    for (const opcode of ['LOOKUP', 'OPEN', 'READ', 'WRITE', 'RELEASE']) expect(opcodes.get(opcode), opcode).toBeGreaterThan(0);
  });
});
