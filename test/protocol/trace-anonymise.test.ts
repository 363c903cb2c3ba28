/** An anonymised trace says nothing of the original, and is as good a trace. */
import { describe, expect, test, vi } from 'vitest';
import type { Message } from '../../src/protocol/index.ts';
import { anonymiseTrace } from '../../src/trace/anonymise.ts';
import { checkTrace } from '../../src/trace/check.ts';
import { followTrace, type TraceEvent } from '../../src/trace/follow.ts';
import type { TraceMessage } from '../../src/trace/message.ts';
import { TRACES } from './support.ts';
import { all, dataBytes, fixture, Script } from './trace-support.ts';

// Whole captures are read many times; on a busy machine that takes its time.
vi.setConfig({ testTimeout: 180_000 });

const KEPT = /^(?:user|security|system|trusted)\.?|posix_acl_(?:access|default)|capability|selinux/;

/** Texts of a trace that are long enough to be recognised. */
function textsOf(event: TraceEvent): string[] {
  if (event.kind === 'broken' || event.kind === 'opaque') return [];
  const { message } = event;
  const names = [...message.names, ...(message.entries ?? []).map(({ name }) => name)];
  return [...names, ...dataTexts(message)].filter((name) => name.length >= 5 && !KEPT.test(name));
}

function dataTexts({ data }: Message): string[] {
  if (data === undefined) return [];
  return (
    Buffer.from(data.buffer, data.byteOffset, Math.min(data.length, 400))
      .toString('latin1')
      .match(/[!-~]{8,40}/g) ?? []
  );
}

describe.each(TRACES)('%s', (name) => {
  test('keeps its shape, and nothing of its texts', async () => {
    const messages = fixture(name);
    const changed = await all(anonymiseTrace(messages, { seed: 7 }));
    expect(changed.map(({ t, dir, bytes }) => [t, dir, bytes.length])).toEqual(
      messages.map(({ t, dir, bytes }) => [t, dir, bytes.length]),
    );
    expect(await checkTrace(changed)).toMatchObject({ identical: messages.length, padding: 0, different: 0, undecodable: 0 });
    const texts = new Set((await all(followTrace(messages))).flatMap(textsOf));
    const all1 = Buffer.concat(changed.map(({ bytes }) => bytes)).toString('latin1');
    expect([...texts].filter((text) => all1.includes(text))).toEqual([]);
    const users = new Set(
      (await all(followTrace(changed))).flatMap((event) => (event.kind === 'request' ? [Number(event.message.header.pid)] : [])),
    );
    expect([...users].filter((pid) => pid !== 0 && pid < 300_000)).toEqual([]);
  });
});

const change = async (messages: readonly TraceMessage[], seed = 1) => all(followTrace(anonymiseTrace(messages, { seed })));
const bodyOf = (event: TraceEvent | undefined) => (event as { message: Message }).message;

test('the same name, user and process become the same ones; dots stay', async () => {
  const script = new Script()
    .init()
    .lookup(4n, 1n, 'secret', 2n)
    .request('UNLINK', { unique: 6n, names: ['secret'], uid: 0 })
    .error(6n, 0);
  script.request('LOOKUP', { unique: 8n, names: ['..'], uid: 65_534 }).error(8n, 2);
  script.request('SYMLINK', { unique: 10n, names: ['link', '../secret/./x'] }).error(10n, 17);
  const events = await change(script.messages);
  const [looked, unlinked, up, linked] = [2, 4, 6, 8].map((at) => bodyOf(events[at])) as [Message, Message, Message, Message];
  expect(looked.names).toEqual(unlinked.names);
  expect(looked.names[0]).toMatch(/^[a-z0-9]{6}$/);
  expect(up.names).toEqual(['..']);
  expect(linked.names[1]).toBe(`../${looked.names[0]}/./${linked.names[1]!.at(-1)}`);
  const headers = events.flatMap((event) => (event.kind === 'request' ? [event.message.header] : []));
  expect(headers.map(({ uid }) => uid)).toEqual([200_000, 200_000, 0, 65_534, 200_000]);
  expect(new Set(headers.map(({ pid }) => pid))).toEqual(new Set([300_000]));
});

test('what is read is what was written, holes included', async () => {
  const script = new Script()
    .init()
    .request('WRITE', { unique: 4n, value: { offset: 100n }, data: new TextEncoder().encode('private\0\0text') });
  script.reply(4n, ['fuse_write_out', { size: 13 }]).request('READ', { unique: 6n, value: { offset: 104n, size: 9 } });
  script.raw({ dir: 'out', bytes: dataBytes(6n, 'ate\0\0text') });
  const events = await change(script.messages);
  const [written, read] = [bodyOf(events[2]).data!, bodyOf(events[5]).data!];
  expect(Buffer.from(written.subarray(4)).equals(Buffer.from(read))).toBe(true);
  expect([written[7], written[8]]).toEqual([0, 0]);
  expect(Buffer.from(written).toString()).not.toContain('private');
});

test('attributes: prefixes and known names stay, access control lists stay valid', async () => {
  const acl = new Uint8Array(12);
  new DataView(acl.buffer).setUint32(0, 2, true);
  new DataView(acl.buffer).setUint32(8, 1234, true);
  const script = new Script()
    .init(45)
    .request('SETXATTR', { unique: 4n, size: 8, names: ['user.mine'], data: new TextEncoder().encode('value') });
  script
    .error(4n, 0)
    .request('SETXATTR', { unique: 6n, size: 8, names: ['system.posix_acl_access'], data: acl })
    .error(6n, 0);
  script.request('LISTXATTR', { unique: 8n, value: { size: 100 } }).data(8n, 'user.mine\0security.selinux\0');
  const events = await change(script.messages);
  const name = bodyOf(events[2]).names[0]!;
  expect(name).toMatch(/^user\.[a-z0-9]{4}$/);
  expect(name).not.toBe('user.mine');
  expect(bodyOf(events[4]).names).toEqual(['system.posix_acl_access']);
  const ids = new DataView(bodyOf(events[4]).data!.slice().buffer);
  expect([ids.getUint32(0, true), ids.getUint32(8, true)]).toEqual([2, 200_001]);
  expect(Buffer.from(bodyOf(events[7]).data!).toString()).toBe(`${name}\0security.selinux\0`);
});

test('names of one byte stay apart', async () => {
  const letters = Array.from({ length: 200 }, (_, at) => String.fromCharCode(at + 48)).filter((name) => name !== '/');
  const script = new Script().init();
  letters.forEach(
    (name, at) => void script.request('LOOKUP', { unique: BigInt(4 + 2 * at), names: [name] }).error(BigInt(4 + 2 * at), 2),
  );
  const names = (await change(script.messages)).flatMap((event) => (event.kind === 'request' ? event.message.names : []));
  expect(new Set(names).size).toBe(letters.length);
  expect(names.every((name) => name.length === 1 && name !== '/' && name !== '.')).toBe(true);
});

test('what does not decode is left out, and told; what stands as bytes becomes zeros', async () => {
  const dropped: number[] = [];
  const script = new Script().init().raw({ dir: 'in', bytes: new TextEncoder().encode('nothing that is a message') });
  script.raw({ dir: 'out', bytes: dataBytes(98n, 'to nobody') });
  const changed = await all(anonymiseTrace(script.messages, { onDropped: (index) => dropped.push(index) }));
  expect(dropped).toEqual([2]);
  expect(changed).toHaveLength(3);
  expect([...changed[2]!.bytes.subarray(16)].every((byte) => byte === 0)).toBe(true);
});

test('the same seed makes the same, another one another', async () => {
  const script = new Script().init().lookup(4n, 1n, 'a-longer-name', 2n);
  const name = async (seed?: number) =>
    bodyOf((await all(followTrace(anonymiseTrace(script.messages, seed === undefined ? {} : { seed }))))[2]).names[0];
  expect(await name(3)).toBe(await name(3));
  expect(await name(3)).not.toBe(await name(4));
  expect(await name()).not.toBe(await name());
});
