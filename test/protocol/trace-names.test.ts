/** Paths learned from traffic. */
import { expect, test } from 'vitest';
import { followTrace } from '../../src/trace/follow.ts';
import { Names } from '../../src/trace/names.ts';
import { Script } from './trace-support.ts';

async function namesOf(script: Script, options = {}): Promise<Names> {
  const names = new Names(options);
  for await (const event of followTrace(script.messages)) names.learn(event);
  return names;
}

const tree = () => new Script().init().lookup(4n, 1n, 'dir', 2n).lookup(6n, 2n, 'file', 3n);

test('lookups, and what nobody named', async () => {
  const names = await namesOf(tree());
  expect([1n, 2n, 3n, 9n].map((nodeid) => names.pathOf(nodeid))).toEqual(['/', '/dir', '/dir/file', '#9']);
  expect([names.join(1n, 'x'), names.join(2n, 'x'), names.join(9n, 'x')]).toEqual(['/x', '/dir/x', '#9/x']);
  expect(names.nodeOf(2n, 'file')).toBe(3n);
});

test('a rename moves all that is below', async () => {
  const script = tree().request('RENAME', { unique: 8n, names: ['dir', 'other'], value: { newdir: 1n } });
  expect((await namesOf(script)).pathOf(3n)).toBe('/dir/file');
  expect((await namesOf(script.error(8n, 0))).pathOf(3n)).toBe('/other/file');
});

test('a rename that fails changes nothing; one over another name takes it', async () => {
  const failing = tree()
    .request('RENAME', { unique: 8n, names: ['dir', 'x'], value: { newdir: 1n } })
    .error(8n, 13);
  expect((await namesOf(failing)).pathOf(3n)).toBe('/dir/file');
  const script = tree()
    .lookup(8n, 1n, 'x', 5n)
    .request('RENAME2', { unique: 10n, nodeid: 2n, names: ['file', 'x'], value: { newdir: 1n } });
  const names = await namesOf(script.error(10n, 0));
  expect(names.pathOf(3n)).toBe('/x');
  expect([names.nodeOf(1n, 'x'), names.nodeOf(2n, 'file')]).toEqual([3n, undefined]);
});

test('an exchange', async () => {
  const script = tree().lookup(8n, 1n, 'x', 5n);
  script.request('RENAME2', { unique: 10n, names: ['dir', 'x'], value: { newdir: 1n, flags: 2 } }).error(10n, 0);
  const names = await namesOf(script);
  expect([names.pathOf(2n), names.pathOf(3n), names.pathOf(5n)]).toEqual(['/x', '/x/file', '/dir']);
});

test('a file that is open keeps its name when it is unlinked, and the name is free', async () => {
  const script = tree()
    .request('UNLINK', { unique: 8n, nodeid: 2n, names: ['file'] })
    .error(8n, 0)
    .lookup(10n, 2n, 'file', 7n);
  const names = await namesOf(script);
  expect([names.pathOf(3n), names.pathOf(7n), names.nodeOf(2n, 'file')]).toEqual(['/dir/file', '/dir/file', 7n]);
});

test('hard links: the name that was seen last, and the other when that goes', async () => {
  const script = tree().request('LINK', { unique: 8n, names: ['second'], value: { oldnodeid: 3n } });
  script.reply(8n, ['fuse_entry_out', { nodeid: 3n }]);
  expect((await namesOf(script)).pathOf(3n)).toBe('/second');
  script.request('UNLINK', { unique: 10n, names: ['second'] }).error(10n, 0);
  expect((await namesOf(script)).pathOf(3n)).toBe('/dir/file');
});

test('forgotten when the last reference goes; another generation is another file', async () => {
  const script = tree()
    .lookup(8n, 2n, 'file', 3n)
    .request('FORGET', { unique: 10n, nodeid: 3n, value: { nlookup: 1n } });
  expect((await namesOf(script)).pathOf(3n)).toBe('/dir/file');
  script.request('BATCH_FORGET', { unique: 12n, nodeid: 0n, records: [{ nodeid: 3n, nlookup: 1n }] });
  expect((await namesOf(script)).pathOf(3n)).toBe('#3');
  const reused = tree().lookup(8n, 1n, 'new', 3n, { generation: 1n });
  expect((await namesOf(reused)).pathOf(3n)).toBe('/new');
  expect((await namesOf(reused)).nodeOf(2n, 'file')).toBeUndefined();
});

test('a name that is gone is no name, and a reply that was refused told nothing', async () => {
  const script = tree()
    .request('LOOKUP', { unique: 8n, nodeid: 2n, names: ['file'] })
    .reply(8n, ['fuse_entry_out', { nodeid: 0n }]);
  expect((await namesOf(script)).nodeOf(2n, 'file')).toBeUndefined();
  const { messages } = new Script().init().lookup(4n, 1n, 'dir', 2n);
  const names = new Names();
  for await (const event of followTrace(messages.map((message, index) => (index === 3 ? { ...message, errno: 2 } : message))))
    names.learn(event);
  expect(names.pathOf(2n)).toBe('#2');
});

test('parents that go in a circle end', async () => {
  const script = new Script().init().lookup(4n, 2n, 'a', 3n).lookup(6n, 3n, 'b', 2n);
  expect((await namesOf(script)).pathOf(2n).length).toBeLessThan(5000);
});

test('as many as were asked for, those not seen for longest go', async () => {
  const script = new Script().init();
  for (let at = 0n; at < 10n; at++) script.lookup(4n + 2n * at, 1n, `f${at}`, 10n + at);
  const names = await namesOf(script, { nodesMax: 3 });
  expect(names.size).toBe(3);
  expect([names.pathOf(10n), names.pathOf(19n)]).toEqual(['#10', '/f9']);
});
