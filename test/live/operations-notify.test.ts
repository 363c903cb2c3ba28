/** Each notification, and what the running kernel did about it, as other programs and the filesystem itself see it. */
import { constants, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import type { CreateReply, NodeId, ReadReply, ReadRequest } from '../../src/index.ts';
import { eventually, negative, skipLoudly, useLiveMounts } from './harness.ts';
import { AskedMemory, AT_FDCWD, Caller, liveFilesystem, NO_OPERATIONS, needsMinor } from './operations-live.ts';
import { prove, proveOpcodes } from './proof.ts';

const { O_CREAT, O_RDONLY, O_WRONLY } = constants;
const STATX_BASIC_STATS = 0x7ff;
const IN_DELETE_SELF = 0x400;
const IN_IGNORED = 0x8000;
const IN_NONBLOCK = constants.O_NONBLOCK;
const ROOT = 1;
const LIMIT_MS = 15_000;

/** The kernel believes what it was told for an hour, contents as well: only notifications make it ask again. */
class Believed extends AskedMemory {
  constructor() {
    super({ cache: 'exclusive' });
  }
}

/** The events that a read of an inotify descriptor brought. */
function inotifyEvents(bytes: Buffer): { watch: number; mask: number; name: string }[] {
  const events = [];
  for (let at = 0; at + 16 <= bytes.length; at += 16 + bytes.readUInt32LE(at + 12)) {
    const length = bytes.readUInt32LE(at + 12);
    const name = bytes.toString('latin1', at + 16, at + 16 + length).replace(/\0+$/, '');
    events.push({ watch: bytes.readInt32LE(at), mask: bytes.readUInt32LE(at + 4), name });
  }
  return events;
}

/** How often somebody on this machine had caches dropped. */
function cacheDrops(): string {
  return (readFileSync('/proc/vmstat', 'latin1').match(/^drop_.*$/gm) ?? []).join();
}

/** Does it again as long as somebody else drops the caches meanwhile. Answers what the last round answered. */
async function undisturbed<T>(round: () => Promise<T>): Promise<T> {
  for (let left = 100; ; left--) {
    const before = cacheDrops();
    const answer = await round();
    if (cacheDrops() === before || left === 0) return answer;
  }
}

describe.skipIf(skipLoudly('notifications', NO_OPERATIONS))('notifications', () => {
  useLiveMounts();

  async function believed(memory: AskedMemory = new Believed()) {
    const live = await liveFilesystem(memory);
    const { caller, at, calls } = live;
    /** Descriptors that keep names and nodes where they are: memory may be short, and the kernel then drops what nobody uses. */
    const pins = new Map<string, number>();
    const make = async (name: string, text = '') => {
      const fd = await caller.open(at(name), O_CREAT | O_WRONLY);
      if (text !== '') await caller.ok('write', fd, Buffer.from(text), text.length);
      const { memory: bytes } = await caller.ok('statx', fd, '', 0x1000, STATX_BASIC_STATS, Buffer.alloc(256));
      pins.set(name, fd);
      return Number(bytes[0].readBigUInt64LE(32));
    };
    const unpin = async (name: string) => {
      await caller.ok('close', pins.get(name)!);
    };
    /** Where the kernel says that a pinned file is: a name that it dropped is called deleted. */
    const placeOf = async (name: string) => {
      const { result, memory: bytes } = await caller.ok(
        'readlinkat',
        AT_FDCWD,
        `/proc/self/fd/${pins.get(name)}`,
        Buffer.alloc(512),
        512,
      );
      return bytes[0].toString('latin1', 0, result).slice(at('/').length);
    };
    const stat = async (name: string) => {
      const { result, memory: bytes } = await caller.make('statx', AT_FDCWD, at(name), 0, STATX_BASIC_STATS, Buffer.alloc(256));
      return { result, mode: bytes[0].readUInt16LE(28), size: Number(bytes[0].readBigUInt64LE(40)) };
    };
    const read = async (name: string) => {
      const fd = await caller.open(at(name), O_RDONLY);
      const { result, memory: bytes } = await caller.ok('read', fd, Buffer.alloc(64), 64);
      await caller.ok('close', fd);
      return bytes[0].toString('latin1', 0, result);
    };
    /** How many requests of a kind an action causes. */
    const counted = async (operation: string, action: () => Promise<unknown>) => {
      const before = calls(operation).length;
      await action();
      return calls(operation).length - before;
    };
    const forgotten = (node: number) => live.log.some((one) => one.method === 'forget' && (one.words as number[])[0] === node);
    return { ...live, kernel: live.mount.kernel, make, unpin, placeOf, stat, read, counted, forgotten };
  }

  test('INVAL_INODE: contents are read again, of the whole file or from a range on', async () => {
    const { kernel, make, read, counted } = await believed();
    const node = await make('file', 'contents');
    const rounds = await undisturbed(async () => {
      await read('file');
      const cached = await counted('READ', () => read('file'));
      await kernel.invalidateData(node, 1 << 20, 4096);
      const besides = await counted('READ', () => read('file'));
      await kernel.invalidateData(node);
      const dropped = await counted('READ', () => read('file'));
      await kernel.invalidateData(node, 0, 4096);
      return { cached, besides, dropped, range: await counted('READ', () => read('file')) };
    });
    expect(rounds).toMatchObject({ cached: 0, besides: 0 });
    expect([rounds.dropped > 0, rounds.range > 0]).toEqual([true, true]);
    expect(await read('file')).toBe('contents');
    prove('notification', 'INVAL_INODE');
  });

  test('INVAL_INODE of the attributes alone: they are asked for, the contents are not', async () => {
    const { kernel, make, stat, read, counted } = await believed();
    const node = await make('file', 'contents');
    const rounds = await undisturbed(async () => {
      await read('file');
      await stat('file');
      const believedStill = await counted('GETATTR', () => stat('file'));
      await kernel.invalidateAttributes(node);
      const asked = await counted('GETATTR', () => stat('file'));
      return [believedStill, asked, await counted('READ', () => read('file'))];
    });
    expect(rounds).toEqual([0, 1, 0]);
    prove('notification', 'INVAL_INODE');
  });

  test('INVAL_ENTRY drops a name: it is looked up, and its node forgotten when nobody has it open', async () => {
    const { kernel, make, stat, counted, placeOf, unpin, forgotten } = await believed();
    const node = await make('file');
    expect([await counted('LOOKUP', () => stat('file')), await placeOf('file')]).toEqual([0, 'file']);
    await kernel.invalidateEntry(ROOT, 'file');
    expect(await placeOf('file')).toBe('file (deleted)');
    expect(await counted('LOOKUP', () => stat('file'))).toBe(1);
    await kernel.invalidateEntry(ROOT, 'file');
    await unpin('file');
    await eventually(
      () => forgotten(node),
      LIMIT_MS,
      () => 'the node was not forgotten',
    );
    prove('notification', 'INVAL_ENTRY');
  });

  test('INVAL_ENTRY that only expires a name: it is looked up at its next use, and stays', async (context) => {
    const live = await believed();
    needsMinor(context, live, 38);
    const { kernel, make, stat, counted, placeOf, forgotten } = live;
    const node = await make('file');
    await kernel.invalidateEntry(ROOT, 'file', true);
    expect(await placeOf('file')).toBe('file');
    expect(await counted('LOOKUP', () => stat('file'))).toBe(1);
    expect(await counted('LOOKUP', () => stat('file'))).toBe(0);
    expect([await placeOf('file'), forgotten(node)]).toEqual(['file', false]);
    prove('notification', 'INVAL_ENTRY', 'EXPIRE_ONLY');
    prove('flag', 'FUSE_HAS_EXPIRE_ONLY');
  });

  test('STORE puts bytes into the page cache, where callers find them; RETRIEVE brings them back', async () => {
    const { kernel, make, read, counted } = await believed();
    const node = await make('file', 'from below');
    const rounds = await undisturbed(async () => {
      await kernel.invalidateData(node);
      const before = await read('file');
      await kernel.store(node, 5, Buffer.from('above'));
      let after = '';
      const reads = await counted('READ', async () => {
        after = await read('file');
      });
      return [before, after, reads, Buffer.from(await kernel.retrieve(node, 5, 5)).toString()];
    });
    expect(rounds).toEqual(['from below', 'from above', 0, 'above']);
    expect(await kernel.retrieve(node, 1 << 20, 4096)).toHaveLength(0);
    prove('notification', 'STORE');
    prove('notification', 'RETRIEVE');
    proveOpcodes('NOTIFY_REPLY');
  });

  test('DELETE is seen by inotify: who watches the file hears that it is gone', async () => {
    const { kernel, caller, at, make, unpin, stat, forgotten } = await believed();
    const node = await make('doomed', 'x');
    await make('spared');
    const watcher = await Caller.start();
    const inotify = (await watcher.ok('inotify_init1', IN_NONBLOCK)).result;
    const watch = (await watcher.ok('inotify_add_watch', inotify, at('doomed'), IN_DELETE_SELF)).result;
    await watcher.ok('inotify_add_watch', inotify, at('spared'), IN_DELETE_SELF);
    const events = async () => {
      const { result, memory } = await watcher.make('read', inotify, Buffer.alloc(4096), 4096);
      return result < 0 ? [] : inotifyEvents(memory[0].subarray(0, result));
    };
    await unpin('doomed');
    expect(await events()).toEqual([]);
    // Gone below: the kernel cannot know. Nothing is told of a name that it does not have in its memory.
    const seen: Awaited<ReturnType<typeof events>> = [];
    await undisturbed(async () => {
      if (seen.length === 0) await stat('doomed');
      await kernel.removed(ROOT, 'doomed', node);
      seen.push(...(await events()));
    });
    expect(seen).toEqual([
      { watch, mask: IN_DELETE_SELF, name: '' },
      { watch, mask: IN_IGNORED, name: '' },
    ]);
    await eventually(
      () => forgotten(node),
      LIMIT_MS,
      () => 'the node was not forgotten',
    );
    expect((await stat('spared')).result).toBe(0);
    expect(await caller.result('unlinkat', AT_FDCWD, at('spared'), 0)).toBe(0);
    prove('notification', 'DELETE');
  });

  test('DELETE of a wrong node drops the name alone, of a full directory with its errno', async () => {
    const { kernel, caller, at, make, stat, counted, placeOf } = await believed();
    const node = await make('file');
    await caller.ok('mkdirat', AT_FDCWD, at('dir'), 0o755);
    await kernel.removed(ROOT, 'file', node + 1000);
    // The name was dropped, which harms nobody: it is looked up again.
    expect(await placeOf('file')).toBe('file (deleted)');
    expect(await counted('LOOKUP', () => stat('file'))).toBe(1);
    await make('dir/inside');
    const folder = (await caller.ok('statx', AT_FDCWD, at('dir'), 0, STATX_BASIC_STATS, Buffer.alloc(256))).memory[0];
    await expect(kernel.removed(ROOT, 'dir', Number(folder.readBigUInt64LE(32)))).rejects.toMatchObject({ code: 'ENOTEMPTY' });
  });

  test('RESEND: a request that was read and never answered comes again, and its caller gets the answer', async (context) => {
    class Absent extends AskedMemory {
      readonly reads: boolean[] = [];

      override open(...args: Parameters<AskedMemory['open']>) {
        return { ...super.open(...args), directIo: true };
      }

      override read(_node: NodeId, request: ReadRequest): never {
        this.reads.push(request.resent);
        const answer = this.reads.length === 1 ? new Promise<ReadReply>(() => {}) : Buffer.from('at last');
        return answer as never;
      }
    }
    const memory = new Absent();
    const live = await believed(memory);
    needsMinor(context, live, 40);
    const { kernel, caller, at, make } = live;
    await make('file', 'x');
    const fd = await caller.open(at('file'), O_RDONLY);
    const reading = caller.begin('read', fd, Buffer.alloc(16), 16);
    await eventually(
      () => memory.reads.length === 1,
      LIMIT_MS,
      () => 'no READ came',
    );
    await kernel.resend();
    const { result, memory: bytes } = await reading.wait();
    expect(bytes[0].toString('latin1', 0, result)).toBe('at last');
    expect(memory.reads).toEqual([false, true]);
    prove('notification', 'RESEND');
  });

  test('INC_EPOCH: every name is looked up again, once', async (context) => {
    const live = await believed();
    needsMinor(context, live, 44);
    const { kernel, make, stat, counted } = live;
    for (const name of ['one', 'two', 'three']) await make(name);
    const all = async () => {
      for (const name of ['one', 'two', 'three']) await stat(name);
    };
    expect(await counted('LOOKUP', all)).toBe(0);
    await kernel.expireAll();
    expect(await counted('LOOKUP', all)).toBe(3);
    expect(await counted('LOOKUP', all)).toBe(0);
    prove('notification', 'INC_EPOCH');
  });

  test('PRUNE: unused nodes are forgotten, those in use are not', async (context) => {
    const live = await believed();
    needsMinor(context, live, 45);
    const { kernel, make, unpin, stat, counted, forgotten } = live;
    const nodes = [await make('idle'), await make('open'), await make('other')];
    await unpin('idle');
    await kernel.prune(nodes.slice(0, 2));
    await eventually(
      () => forgotten(nodes[0]),
      LIMIT_MS,
      () => 'the node was not forgotten',
    );
    expect([forgotten(nodes[1]), forgotten(nodes[2])]).toEqual([false, false]);
    expect(await counted('LOOKUP', () => stat('idle'))).toBe(1);
    prove('notification', 'PRUNE');
  });

  test('one that must wait for a request in flight keeps neither that nor any other from its answer', async () => {
    let go!: () => void;
    const gate = new Promise<void>((resolve) => {
      go = resolve;
    });
    let told: Promise<void> | undefined;
    class Slow extends Believed {
      override create(...args: Parameters<AskedMemory['create']>): CreateReply {
        if (args[1] !== 'slow') return super.create(...args);
        // The kernel holds the directory's lock until this is answered, and the notification needs it.
        told = live.mount.kernel.invalidateEntry(ROOT, 'file');
        return gate.then(() => super.create(...args)) as never;
      }
    }
    const live = await believed(new Slow());
    const { caller, at, make, stat } = live;
    await make('file', 'x');
    const other = await Caller.start();
    const fd = await other.open(at('file'), O_RDONLY);
    const creating = caller.begin('openat', AT_FDCWD, at('slow'), O_CREAT | O_WRONLY, 0o644);
    await eventually(
      () => told !== undefined,
      LIMIT_MS,
      () => 'no CREATE came',
    );
    let settled = false;
    void told?.then(() => {
      settled = true;
    });
    expect(await other.result('fstatfs', fd, Buffer.alloc(120))).toBe(0);
    expect([creating.done, settled]).toEqual([false, false]);
    go();
    expect((await creating.wait()).result).toBeGreaterThan(0);
    await told;
    expect((await stat('file')).result).toBe(0);
    expect((await stat('absent')).result).toBe(negative('ENOENT'));
    prove('notification', 'INVAL_ENTRY');
  });
});
