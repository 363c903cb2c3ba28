/** The filesystem under a simulated kernel: no mount, no root. `end` also checks that every lookup was forgotten. */
import assert from 'node:assert/strict';
import { constants } from 'node:fs';
import { test } from 'node:test';
import { simulate } from 'fusewire/testing';
import filesystem from './filesystem.ts';

test('lists its files', async () => {
  const kernel = await simulate(filesystem);
  const user = await kernel.process();
  const folder = await user.open('/', constants.O_RDONLY | constants.O_DIRECTORY);
  const entries = await user.getdents(folder);
  assert.deepEqual(
    entries.map(({ name }) => name),
    ['hello.txt'],
  );
  await user.close(folder);
  await kernel.end();
});

test('reads a file to its end', async () => {
  const kernel = await simulate(filesystem);
  const user = await kernel.process();
  const file = await user.open('/hello.txt', constants.O_RDONLY);
  assert.equal(Buffer.from(await user.read(file, 4096)).toString(), 'Hello from my filesystem!\n');
  assert.equal((await user.read(file, 4096)).length, 0);
  await user.close(file);
  await kernel.end();
});

test('has nothing else', async () => {
  const kernel = await simulate(filesystem);
  const user = await kernel.process();
  await assert.rejects(user.stat('/other'), { code: 'ENOENT' });
  await kernel.end();
});
