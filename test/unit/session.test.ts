/** A session over the in-memory channel: who is answered what, exactly once, whatever the filesystem does. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { constants } from 'node:os';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Filesystem, FuseError, type ReadRequest, type Request } from '../../src/filesystem/index.ts';
import { FAULT_CHANNEL, type Fault } from '../../src/session/index.ts';
import { body, long, opcode, TestKernel, word } from './wire.ts';

const { EIO, ENOSYS, ENOENT, EINTR, EDEADLK, EILSEQ, ENAMETOOLONG, EOVERFLOW, EFBIG } = constants.errno;
const turn = () => new Promise((resolve) => setImmediate(resolve));

const faults: Fault[] = [];
const listen = (message: unknown) => {
  faults.push(message as Fault);
};
beforeEach(() => {
  faults.length = 0;
  subscribe(FAULT_CHANNEL, listen);
});
afterEach(() => {
  unsubscribe(FAULT_CHANNEL, listen);
});

const directory = { attributes: { mode: 0o040755, nlink: 2 } };

async function started(filesystem: Filesystem, options = {}): Promise<TestKernel> {
  const kernel = new TestKernel(filesystem, options);
  const reply = await kernel.init();
  expect(reply.errno).toBe(0);
  return kernel;
}

const readBody = (offset: number, size: number, fh = 0n) => body(fh, BigInt(offset), size, 0, 0n, 0, 0);
const interruptBody = (unique: number) => body(BigInt(unique));

describe('INIT', () => {
  test('is answered with 64 bytes of what was agreed', async () => {
    const kernel = new TestKernel({});
    const { body: reply } = await kernel.init();
    expect(reply.byteLength).toBe(64);
    expect(word(reply, 0)).toBe(7);
    expect(word(reply, 4)).toBe(45);
    expect(word(reply, 20)).toBe(1 << 20);
    expect(kernel.session.negotiated.flags.has('FUSE_ASYNC_DIO')).toBe(true);
  });

  test('a newer major is answered with ours, and INIT comes again', async () => {
    const kernel = new TestKernel({});
    await kernel.serve();
    kernel.send(opcode('INIT'), body(8, 3, new Uint8Array(56)), { nodeid: 0 });
    expect(word(kernel.last().body, 0)).toBe(7);
    expect(word((await kernel.init()).body, 4)).toBe(45);
  });

  test('an older major and an older kernel are refused', async () => {
    const kernel = new TestKernel({});
    await kernel.serve();
    kernel.send(opcode('INIT'), body(6, 1, new Uint8Array(56)), { nodeid: 0 });
    expect(kernel.last().errno).toBe(constants.errno.EPROTO);
    const old = new TestKernel({});
    expect((await old.init(26)).errno).toBe(constants.errno.EPROTO);
  });

  test('before it everything is answered EIO, a second one too', async () => {
    const kernel = new TestKernel({ getattr: () => directory });
    await kernel.serve();
    kernel.request('GETATTR', body(0, 0, 0n));
    expect(kernel.last().errno).toBe(EIO);
    await kernel.init();
    kernel.send(opcode('INIT'), body(7, 45, new Uint8Array(56)), { nodeid: 0 });
    expect(kernel.last().errno).toBe(EIO);
  });

  test('waits for an init that takes its time, and nothing is answered in between', async () => {
    let ready!: () => void;
    const kernel = new TestKernel({ init: () => new Promise<void>((resolve) => (ready = resolve)), getattr: () => directory });
    await kernel.init().catch(() => {});
    expect(kernel.replies).toEqual([]);
    ready();
    await turn();
    expect(kernel.last().errno).toBe(0);
  });
});

describe('answers', () => {
  test('a plain value is answered before the call returns', async () => {
    const kernel = await started({ getattr: () => directory });
    const unique = kernel.request('GETATTR', body(0, 0, 0n));
    expect(kernel.of(unique)).toMatchObject({ errno: 0 });
    expect(kernel.of(unique)!.body.byteLength).toBe(104);
  });

  test('a promise is answered when it settles, in any order', async () => {
    const waiting: ((bytes: Uint8Array) => void)[] = [];
    const kernel = await started({ read: () => new Promise<Uint8Array>((resolve) => waiting.push(resolve)) });
    const first = kernel.request('READ', readBody(0, 10));
    const second = kernel.request('READ', readBody(10, 10));
    expect(kernel.session.counters.pending).toBe(2);
    waiting[1](Buffer.from('second'));
    waiting[0](Buffer.from('first'));
    await turn();
    expect(Buffer.from(kernel.of(second)!.body).toString()).toBe('second');
    expect(Buffer.from(kernel.of(first)!.body).toString()).toBe('first');
    expect(kernel.replies.findIndex((reply) => reply.unique === second)).toBeLessThan(
      kernel.replies.findIndex((reply) => reply.unique === first),
    );
    expect(kernel.session.counters).toMatchObject({ pending: 0, pendingMax: 2 });
  });

  test.each([
    ['FuseError', () => new FuseError('ENOENT'), ENOENT],
    ['a shared FuseError', () => FuseError.of(ENOENT), ENOENT],
    ['an error of node:fs', () => Object.assign(new Error(), { errno: -ENOENT, code: 'ENOENT' }), ENOENT],
    ['a code alone', () => Object.assign(new Error(), { code: 'EXDEV' }), constants.errno.EXDEV],
    ['an AbortError', () => new DOMException('stop', 'AbortError'), EINTR],
    ['an errno out of range', () => Object.assign(new Error(), { errno: -4096 }), EIO],
    ['a code that is none', () => Object.assign(new Error(), { code: 'ERR_INVALID_ARG_TYPE' }), EIO],
    ['a string', () => 'no', EIO],
    ['undefined', () => undefined, EIO],
  ])('%s thrown or rejected', async (_what, make, errno) => {
    const kernel = await started({
      getattr: () => {
        throw make();
      },
      statfs: () => Promise.reject(make()),
    });
    const now = kernel.request('GETATTR', body(0, 0, 0n));
    const later = kernel.request('STATFS');
    await turn();
    expect(kernel.of(now)!.errno).toBe(errno);
    expect(kernel.of(later)!.errno).toBe(errno);
    expect(faults.filter((fault) => fault.kind === 'handler-error')).toHaveLength(errno === EIO ? 2 : 0);
  });

  test('an answer that cannot be encoded is EIO, now or later', async () => {
    const kernel = await started({
      getattr: () => ({}) as never,
      readlink: () => Promise.resolve('x'.repeat(5000)),
      read: (_node, request) => request.size + 1,
    });
    expect(kernel.of(kernel.request('GETATTR', body(0, 0, 0n)))!.errno).toBe(EIO);
    const link = kernel.request('READLINK');
    await turn();
    expect(kernel.of(link)!.errno).toBe(ENAMETOOLONG);
    expect(kernel.of(kernel.request('READ', readBody(0, 10)))!.errno).toBe(EIO);
    expect(kernel.session.counters.pending).toBe(0);
  });

  test('methods that are missing', async () => {
    const kernel = await started({});
    expect(kernel.of(kernel.request('LOOKUP', body('name\0')))!.errno).toBe(ENOSYS);
    expect(kernel.of(kernel.request('OPENDIR', body(0, 0)))!.errno).toBe(0);
    expect(kernel.of(kernel.request('RELEASE', body(0n, 0, 0, 0n)))!.errno).toBe(0);
    expect(word(kernel.of(kernel.request('STATFS'))!.body, 44)).toBe(255);
  });

  test('an unknown opcode', async () => {
    const kernel = await started({});
    expect(kernel.of(kernel.send(9999))!.errno).toBe(ENOSYS);
    expect(kernel.of(kernel.send(7))!.errno).toBe(ENOSYS);
  });

  test('FORGET and BATCH_FORGET take no answer', async () => {
    const forgotten: [number, number][] = [];
    const kernel = await started({ forget: (node, count) => void forgotten.push([node, count]) });
    const before = kernel.replies.length;
    kernel.request('FORGET', body(3n), { nodeid: 5 });
    kernel.request('BATCH_FORGET', body(2, 0, 6n, 1n, 7n, 2n));
    expect(forgotten).toEqual([
      [5, 3],
      [6, 1],
      [7, 2],
    ]);
    expect(kernel.replies).toHaveLength(before);
  });

  test('a batch that claims more than it carries is read to its end only', async () => {
    const forgotten: number[] = [];
    const kernel = await started({ forget: (node) => void forgotten.push(node) });
    kernel.request('BATCH_FORGET', body(1000, 0, 6n, 1n));
    expect(forgotten).toEqual([6]);
  });
});

describe('what does not decode', () => {
  test('is answered EIO and ends nothing', async () => {
    const kernel = await started({ getattr: () => directory, lookup: () => ({ node: 0 }) });
    expect(kernel.of(kernel.request('GETATTR', body(0)))!.errno).toBe(EIO);
    expect(kernel.of(kernel.request('GETATTR', body(0, 0, 0n), { claimedLength: 500 }))!.errno).toBe(EIO);
    expect(kernel.of(kernel.request('LOOKUP', body('name')))!.errno).toBe(EIO);
    expect(kernel.of(kernel.request('LOOKUP'))!.errno).toBe(EIO);
    expect(kernel.of(kernel.request('LOOKUP', body('n\0'), { extensionBytes: 800 }))!.errno).toBe(EIO);
    expect(faults.filter((fault) => fault.kind === 'malformed-message').length).toBeGreaterThan(2);
    expect(kernel.of(kernel.request('GETATTR', body(0, 0, 0n)))!.errno).toBe(0);
  });

  test('a WRITE that claims more than it carries', async () => {
    const kernel = await started({ write: () => {} });
    const claim = body(0n, 0n, 100, 0, 0n, 0, 0, 'short');
    expect(kernel.of(kernel.request('WRITE', claim))!.errno).toBe(EIO);
  });

  test('names: not UTF-8, too long', async () => {
    const seen: string[] = [];
    const lookup = (_parent: number, name: string) => {
      seen.push(name);
      return { node: 0 as const };
    };
    const kernel = await started({ lookup });
    expect(kernel.of(kernel.request('LOOKUP', body('caf\xe9\0')))!.errno).toBe(EILSEQ);
    expect(kernel.of(kernel.request('LOOKUP', body(`${'x'.repeat(256)}\0`)))!.errno).toBe(ENAMETOOLONG);
    expect(kernel.of(kernel.request('LOOKUP', body(`${'x'.repeat(255)}\0`)))!.errno).toBe(0);
    expect(kernel.of(kernel.request('LOOKUP', new Uint8Array([...Buffer.from('café'), 0])))!.errno).toBe(0);
    const binary = await started({ settings: { nameEncoding: 'binary' }, lookup });
    expect(binary.of(binary.request('LOOKUP', body('caf\xe9\0')))!.errno).toBe(0);
    expect(seen).toEqual(['x'.repeat(255), 'café', 'caf\xe9']);
  });

  test('names of the author that cannot be encoded', async () => {
    const kernel = await started({
      readlink: () => 'half \ud800',
      readdir: (_node, _request, reply) => void reply.add({ name: 'half \udc00', ino: 1, offset: 1 }),
    });
    expect(kernel.of(kernel.request('READLINK'))!.errno).toBe(EILSEQ);
    expect(kernel.of(kernel.request('READDIR', readBody(0, 4096)))!.errno).toBe(EILSEQ);
    const binary = await started({ settings: { nameEncoding: 'binary' }, readlink: () => '\u0100' });
    expect(binary.of(binary.request('READLINK'))!.errno).toBe(EILSEQ);
  });

  test('offsets that a number cannot hold', async () => {
    const kernel = await started({ read: () => new Uint8Array(1), write: () => {} });
    const huge = body(0n, 1n << 60n, 1, 0, 0n, 0, 0);
    expect(kernel.of(kernel.request('READ', huge))!.errno).toBe(EOVERFLOW);
    expect(kernel.of(kernel.request('WRITE', body(huge, 'x')))!.errno).toBe(EFBIG);
  });
});

describe('interrupts', () => {
  const slow = (seen: Request[]): Filesystem => ({
    read: (_node, request) => {
      seen.push(request);
      const { signal } = request;
      return new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
    },
  });

  test('abort the signal, and the request is answered EINTR', async () => {
    const kernel = await started(slow([]));
    const unique = kernel.request('READ', readBody(0, 10));
    kernel.request('INTERRUPT', interruptBody(unique), { unique: unique + 1, nodeid: 0 });
    await turn();
    expect(kernel.of(unique)!.errno).toBe(EINTR);
    expect(kernel.of(unique + 1)).toBeUndefined();
  });

  test('that come before their request are remembered', async () => {
    const kernel = await started({
      read: (_node, { signal }) => (signal.aborted ? Promise.reject(signal.reason) : new Uint8Array(1)),
    });
    kernel.request('INTERRUPT', interruptBody(4711), { unique: 4712, nodeid: 0 });
    kernel.request('READ', readBody(0, 10), { unique: 4711 });
    await turn();
    expect(kernel.of(4711)!.errno).toBe(EINTR);
  });

  test('of a request that looks at its signal only later', async () => {
    let go!: () => void;
    const gate = new Promise<void>((resolve) => (go = resolve));
    const kernel = await started({
      read: async (_node, request) => {
        await gate;
        request.signal.throwIfAborted();
        return new Uint8Array(1);
      },
    });
    const unique = kernel.request('READ', readBody(0, 10));
    kernel.request('INTERRUPT', interruptBody(unique), { unique: unique + 1, nodeid: 0 });
    go();
    await turn();
    expect(kernel.of(unique)!.errno).toBe(EINTR);
  });

  test('of a request of another session are passed on, those of answered ones forgotten', async () => {
    const foreign: number[] = [];
    const kernel = await started({ getattr: () => directory }, { onForeignInterrupt: (low: number) => foreign.push(low) });
    const unique = kernel.request('GETATTR', body(0, 0, 0n));
    kernel.request('INTERRUPT', interruptBody(unique), { unique: unique + 1, nodeid: 0 });
    expect(foreign).toEqual([unique]);
    expect(kernel.of(unique)!.errno).toBe(0);
  });

  test('more early ones than the limit: the oldest are forgotten', async () => {
    const kernel = await started(
      { read: (_node, { signal }) => Buffer.from(String(signal.aborted)) },
      { limits: { earlyInterruptsMax: 2 } },
    );
    for (const unique of [1001, 1003, 1005])
      kernel.request('INTERRUPT', interruptBody(unique), { unique: unique + 1, nodeid: 0 });
    for (const unique of [1001, 1003, 1005]) kernel.request('READ', readBody(0, 10), { unique });
    expect([1001, 1003, 1005].map((unique) => Buffer.from(kernel.of(unique)!.body).toString())).toEqual([
      'false',
      'true',
      'true',
    ]);
  });
});

describe('replies that the kernel refuses', () => {
  const entry = { node: 9, attributes: { mode: 0o100644 } };

  test('a lookup that nobody waits for is taken back', async () => {
    const forgotten: [number, number][] = [];
    const kernel = await started({ lookup: () => entry, forget: (node, count) => void forgotten.push([node, count]) });
    kernel.refuse = [-ENOENT];
    kernel.request('LOOKUP', body('x\0'));
    expect(forgotten).toEqual([[9, 1]]);
    expect(faults).toEqual([]);
  });

  test('created files are closed, listings forgotten', async () => {
    const log: string[] = [];
    const kernel = await started({
      create: () => ({ entry, open: { handle: 77 } }),
      release: (node, { handle }) => void log.push(`release ${node} ${handle}`),
      forget: (node, count) => void log.push(`forget ${node} ${count}`),
      readdirplus: (_node, _request, reply) => {
        reply.addPlus({ name: '.', ino: 1, offset: 1 }, { node: 1, attributes: { mode: 0o040755 } });
        reply.addPlus({ name: 'file', ino: 9, offset: 2 }, entry);
        reply.addPlus({ name: 'plain', ino: 10, offset: 3 }, undefined);
      },
    });
    kernel.refuse = [-ENOENT, -ENOENT];
    kernel.request('CREATE', body(0, 0, 0, 0, 'x\0'));
    kernel.request('READDIRPLUS', readBody(0, 4096));
    await turn();
    expect(log.sort()).toEqual(['forget 9 1', 'forget 9 1', 'release 9 77']);
  });

  test('a refused error grants nothing, and a refusal for another reason is a fault', async () => {
    const forgotten: number[] = [];
    const kernel = await started({
      lookup: (_parent, name) => {
        if (name === 'none') throw FuseError.of(ENOENT);
        return entry;
      },
      forget: (node) => void forgotten.push(node),
    });
    kernel.refuse = [-ENOENT, -constants.errno.EINVAL];
    kernel.request('LOOKUP', body('none\0'));
    kernel.request('LOOKUP', body('some\0'));
    expect(forgotten).toEqual([9]);
    expect(faults.map((fault) => fault.kind)).toEqual(['reply-refused']);
  });
});

describe('payloads', () => {
  test('a write keeps its bytes until its answer', async () => {
    let finish!: () => void;
    let held!: Uint8Array;
    const kernel = await started({
      write: (_node, data) => {
        held = data;
        return new Promise<void>((resolve) => (finish = resolve));
      },
    });
    const write = (text: string) => kernel.request('WRITE', body(0n, 0n, text.length, 0, 0n, 0, 0, text));
    const unique = write('first');
    const kept = held;
    const finishFirst = finish;
    write('other');
    expect(Buffer.from(kept).toString()).toBe('first');
    finishFirst();
    await turn();
    expect(word(kernel.of(unique)!.body, 0)).toBe(5);
  });

  test('read answers bytes, parts, a filled payload or too much', async () => {
    const answers: ((request: ReadRequest) => never)[] = [
      () => Buffer.from('bytes') as never,
      () => [Buffer.from('pa'), Buffer.from('rts')] as never,
      (request) => {
        request.payload().set(Buffer.from('filled'));
        return 6 as never;
      },
      () => Buffer.alloc(100, 'x') as never,
      () => [Buffer.alloc(15, 'y'), Buffer.alloc(15, 'z')] as never,
      () => 0 as never,
    ];
    const kernel = await started({ read: (_node, request) => answers.shift()!(request) });
    const texts = Array.from({ length: 6 }, () =>
      Buffer.from(kernel.of(kernel.request('READ', readBody(0, 20)))!.body).toString(),
    );
    expect(texts).toEqual(['bytes', 'parts', 'filled', 'x'.repeat(20), 'y'.repeat(15) + 'z'.repeat(5), '']);
  });
});

describe('attributes', () => {
  test('times to the nanosecond, before 1970 too, and inode numbers of 64 bits', async () => {
    const kernel = await started({
      getattr: () => ({
        attributes: {
          mode: 0o100644,
          ino: 0xfedc_ba98_7654_3210n,
          size: 2 ** 40 + 1,
          atime: { seconds: -2, nanoseconds: 999_999_999 },
          mtime: 1_500_000_000_123_456_789n,
          ctime: new Date(-1),
        },
        attributeTtl: 1.5,
      }),
    });
    const { body: reply } = kernel.of(kernel.request('GETATTR', body(0, 0, 0n)))!;
    expect([long(reply, 0), word(reply, 8)]).toEqual([1n, 500_000_000]);
    expect(long(reply, 16)).toBe(0xfedc_ba98_7654_3210n);
    expect(long(reply, 24)).toBe(2n ** 40n + 1n);
    expect([BigInt.asIntN(64, long(reply, 40)), word(reply, 64)]).toEqual([-2n, 999_999_999]);
    expect([long(reply, 48), word(reply, 68)]).toEqual([1_500_000_000n, 123_456_789]);
    expect([BigInt.asIntN(64, long(reply, 56)), word(reply, 72)]).toEqual([-1n, 999_000_000]);
  });

  test('setattr says only what shall change', async () => {
    const seen: unknown[] = [];
    const kernel = await started({
      setattr: (_node, { mode, size, atime, mtime, newUid, newGid, handle }) => {
        seen.push({ mode, size, atime, mtime, newUid, newGid, handle });
        return directory;
      },
    });
    const setattr = (valid: number) =>
      kernel.request('SETATTR', body(valid, 0, 3n, 4096n, 0n, -5n, 6n, 0n, 7, 8, 0, 0o100600, 0, 1, 2, 0));
    setattr(1);
    setattr(8 | 64);
    setattr(16 | 32);
    setattr(16 | 128 | 2 | 4);
    const nothing = {
      mode: undefined,
      size: undefined,
      atime: undefined,
      mtime: undefined,
      newUid: undefined,
      newGid: undefined,
      handle: undefined,
    };
    expect(seen).toEqual([
      { ...nothing, mode: 0o100600 },
      { ...nothing, size: 4096, handle: 3 },
      { ...nothing, atime: { seconds: -5, nanoseconds: 7 }, mtime: { seconds: 6, nanoseconds: 8 } },
      { ...nothing, atime: 'now', newUid: 1, newGid: 2 },
    ]);
  });
});

describe('cache presets', () => {
  const HOUR = 3600n;
  const FOREVER = BigInt(Number.MAX_SAFE_INTEGER);
  test.each([
    ['none', 0n, 0, 0],
    ['shared', 1n, 0, 0],
    [undefined, 1n, 0, 0],
    ['exclusive', HOUR, 2, 2 | 8],
    ['immutable', FOREVER, 2, 2 | 8],
  ] as const)('%s', async (cache, ttl, fileFlags, directoryFlags) => {
    const settings = cache === undefined ? {} : { cache };
    const kernel = await started({
      settings,
      lookup: (_parent, name) => ({
        node: 2,
        attributes: { mode: 0o100644 },
        ...(name === 'own' ? { entryTtl: 7, attributeTtl: 8 } : {}),
      }),
      open: (node) => (node === 5 ? { keepCache: false } : node === 6 ? { directIo: true } : {}),
    });
    const lookup = (name: string) => {
      const { body: entry } = kernel.of(kernel.request('LOOKUP', body(`${name}\0`)))!;
      return [long(entry, 16), long(entry, 24)];
    };
    expect(lookup('x')).toEqual([ttl, ttl]);
    expect(lookup('own')).toEqual([7n, 8n]);
    const flags = (name: 'OPEN' | 'OPENDIR', nodeid: number) =>
      word(kernel.of(kernel.request(name, body(0, 0), { nodeid }))!.body, 8);
    expect([flags('OPEN', 2), flags('OPEN', 5), flags('OPEN', 6), flags('OPENDIR', 1)]).toEqual([
      fileFlags,
      0,
      1,
      directoryFlags,
    ]);
    expect(kernel.session.negotiated.flags.has('FUSE_CACHE_SYMLINKS')).toBe(cache === 'immutable');
  });

  test('a preset that is none', () => {
    expect(() => new TestKernel({ settings: { cache: 'forever' as never } })).toThrow(
      'the cache preset is none, shared, exclusive, immutable, not forever',
    );
  });
});

describe('directories', () => {
  test('entries that do not fit are not added, and a failed listing takes its counts back', async () => {
    const added: boolean[] = [];
    const forgotten: number[] = [];
    const kernel = await started({
      readdir: (_node, _request, reply) => {
        for (let i = 1; i <= 5; i++) added.push(reply.add({ name: `n${i}`, ino: i, offset: BigInt(i) << 60n }));
      },
      readdirplus: (_node, _request, reply) => {
        reply.addPlus({ name: 'x', ino: 4, offset: 1 }, { node: 4, attributes: { mode: 0o100644 } });
        throw new FuseError('EACCES');
      },
      forget: (node) => void forgotten.push(node),
    });
    const { body: listing } = kernel.of(kernel.request('READDIR', readBody(0, 70)))!;
    expect(added).toEqual([true, true, false, false, false]);
    expect(listing.byteLength).toBe(64);
    expect(long(listing, 8)).toBe(1n << 60n);
    expect(kernel.of(kernel.request('READDIRPLUS', readBody(0, 4096)))!.errno).toBe(constants.errno.EACCES);
    expect(forgotten).toEqual([4]);
  });
});

describe('listings that are answered whole', () => {
  /** Reads a directory page by page; answers the names in order. */
  async function list(kernel: TestKernel, name: 'READDIR' | 'READDIRPLUS', size: number, between = () => {}): Promise<string[]> {
    const names: string[] = [];
    for (let offset = 0n; ; ) {
      const unique = kernel.request(name, body(7n, offset, size, 0, 0n, 0, 0));
      await turn();
      const { errno, body: page } = kernel.of(unique)!;
      expect(errno).toBe(0);
      if (page.byteLength === 0) return names;
      for (let at = 0; at < page.byteLength; ) {
        if (name === 'READDIRPLUS') at += 128;
        const length = word(page, at + 16);
        names.push(Buffer.from(page.subarray(at + 24, at + 24 + length)).toString());
        offset = long(page, at + 8);
        at += (24 + length + 7) & ~7;
      }
      between();
    }
  }
  const names = Array.from({ length: 500 }, (_, index) => `entry ${index}`);

  test.each([
    ['an array', () => names],
    ['an iterable of entries', () => new Set(names.map((name) => ({ name, ino: 5 })))],
    ['a promise', () => Promise.resolve(names)],
    [
      'an async iterable',
      async function* () {
        yield* names;
      },
    ],
  ])('%s comes whole, in pages', async (_what, readdir) => {
    let asked = 0;
    const kernel = await started({
      readdir: () => {
        asked++;
        return readdir() as never;
      },
    });
    expect((await list(kernel, 'READDIR', 1024)).sort()).toEqual([...names].sort());
    expect(asked).toBe(1);
  });

  test('entries that stay are listed exactly once, on whichever thread, while others come and go', async () => {
    const present = new Set(names);
    let next = 0;
    // Two kernels of the same object stand for two workers: neither knows what the other remembers.
    const workers = [await started({ readdir: () => [...present] }), await started({ readdir: () => [...present] })];
    const seen: string[] = [];
    for (let offset = 0n, page = 0; ; page++) {
      const kernel = workers[page % 2];
      const { body: records } = kernel.of(kernel.request('READDIR', body(BigInt(page), offset, 512, 0, 0n, 0, 0)))!;
      if (records.byteLength === 0) break;
      for (let at = 0; at < records.byteLength; ) {
        const length = word(records, at + 16);
        seen.push(Buffer.from(records.subarray(at + 24, at + 24 + length)).toString());
        offset = long(records, at + 8);
        at += (24 + length + 7) & ~7;
      }
      present.delete(`entry ${next}`);
      present.add(`new ${next}`);
      next++;
    }
    const stayed = names.slice(next);
    expect(stayed.length).toBeGreaterThan(400);
    expect(seen.filter((name) => stayed.includes(name)).sort()).toEqual([...stayed].sort());
  });

  test('with attributes each entry counts; what does not fit does not', async () => {
    const kernel = await started({
      readdirplus: () => names.map((name, index) => ({ name, entry: { node: index + 2, attributes: { mode: 0o100644 } } })),
    });
    expect((await list(kernel, 'READDIRPLUS', 4096)).sort()).toEqual([...names].sort());
  });
});

describe('requests of this very process', () => {
  test('are answered EDEADLK, closing is served', async () => {
    const kernel = await started(
      { getattr: () => directory, flush: () => {} },
      { isOwnThread: (thread: number) => thread === 42 },
    );
    expect(kernel.of(kernel.request('GETATTR', body(0, 0, 0n), { pid: 42 }))!.errno).toBe(EDEADLK);
    expect(kernel.of(kernel.request('GETATTR', body(0, 0, 0n), { pid: 43 }))!.errno).toBe(0);
    expect(kernel.of(kernel.request('FLUSH', body(0n, 0, 0, 0n), { pid: 42 }))!.errno).toBe(0);
    expect(faults.map((fault) => fault.kind)).toEqual(['own-request']);
  });
});

describe('the end', () => {
  test('draining waits for answers, then answers what is left', async () => {
    const aborted: boolean[] = [];
    let finish!: (bytes: Uint8Array) => void;
    const kernel = await started({
      read: (_node, { signal, offset }) => {
        signal.addEventListener('abort', () => aborted.push(true));
        return new Promise<Uint8Array>((resolve) => {
          if (offset === 0) finish = resolve;
        });
      },
    });
    const first = kernel.request('READ', readBody(0, 10));
    const never = kernel.request('READ', readBody(10, 10));
    const drained = kernel.session.drain(50);
    finish(Buffer.from('late'));
    await drained;
    expect(kernel.of(first)!.errno).toBe(0);
    expect(kernel.of(never)!.errno).toBe(EIO);
    expect(aborted).toEqual([true]);
    expect(faults.map((fault) => fault.kind)).toEqual(['unanswered']);
    expect(kernel.session.counters.pending).toBe(0);
  });

  test('an unmount ends the session, aborts signals, calls destroy once, and late answers are dropped', async () => {
    let destroyed = 0;
    let finish!: (bytes: Uint8Array) => void;
    const signals: AbortSignal[] = [];
    const kernel = await started({
      read: (_node, { signal }) => {
        signals.push(signal);
        return new Promise<Uint8Array>((resolve) => (finish = resolve));
      },
      destroy: () => void destroyed++,
    });
    kernel.request('READ', readBody(0, 10));
    const before = kernel.replies.length;
    kernel.pair.kernel.close('unmounted');
    expect(await kernel.session.ended).toEqual({ reason: 'unmounted', errno: constants.errno.ENODEV });
    expect(signals[0].aborted).toBe(true);
    finish(Buffer.from('late'));
    await turn();
    expect(kernel.replies).toHaveLength(before);
    expect(destroyed).toBe(1);
    expect(faults).toEqual([]);
  });
});

describe('wrong use is answered well', () => {
  const why = () => faults.map(({ kind, message }) => `${kind}: ${message}`);

  test.each<[string, object, string]>([
    ['another case', { readDir: () => [] }, 'the filesystem has a method readDir, which nothing calls; did you mean readdir?'],
    ['an underscore', { read_dir: () => [] }, 'the filesystem has a method read_dir, which nothing calls; did you mean readdir?'],
    ['a letter', { getatr: () => {} }, 'the filesystem has a method getatr, which nothing calls; did you mean getattr?'],
    [
      'a name of node:fs',
      { truncate: () => {} },
      'the filesystem has a method truncate, which nothing calls; did you mean setattr?',
    ],
    ['a helper', { help: () => {} }, 'the filesystem has a method help, which nothing calls; put helpers outside of the object'],
    [
      'a misspelt method of a class',
      new (class {
        GetAttr() {}
        helper() {}
      })(),
      'the filesystem has a method GetAttr, which nothing calls; did you mean getattr?',
    ],
  ])('a method that nothing calls: %s', (_what, filesystem, message) => {
    expect(() => new TestKernel(filesystem)).toThrow(expect.objectContaining({ code: 'ERR_FUSEWIRE_UNKNOWN_METHOD', message }));
  });

  test('helpers of a class are its own', () => {
    new TestKernel(
      new (class {
        helper() {}
        getattr() {
          return directory;
        }
      })(),
    );
  });

  test.each<[string, unknown, string]>([
    ['no attributes', {}, 'an answer has no attributes'],
    [
      'no type',
      { attributes: { mode: 0o644 } },
      "attributes need a mode with the file's type, like 0o100644 for a file or 0o040755 for a directory, not 420",
    ],
    [
      'no mode',
      { attributes: {} },
      "attributes need a mode with the file's type, like 0o100644 for a file or 0o040755 for a directory, not undefined",
    ],
    ['a negative size', { attributes: { mode: 0o100644, size: -1 } }, 'a size is a number from 0 to 2^53-1, not -1'],
    ['a size that is none', { attributes: { mode: 0o100644, size: Number.NaN } }, 'a size is a number from 0 to 2^53-1, not NaN'],
  ])('attributes: %s', async (_what, answer, message) => {
    const kernel = await started({ getattr: () => answer as never });
    expect(kernel.of(kernel.request('GETATTR', body(0, 0, 0n)))!.errno).toBe(EIO);
    expect(why()).toEqual([`invalid-answer: ${message}; the caller got EIO`]);
  });

  test('a node id that is none', async () => {
    const kernel = await started({ lookup: () => ({ attributes: { mode: 0o100644 } }) as never });
    expect(kernel.of(kernel.request('LOOKUP', body('x\0')))!.errno).toBe(EIO);
    expect(why()).toEqual([
      'invalid-answer: an entry needs a node id from 1 to 2^53-1, or 0 for a name that does not exist, not undefined; the caller got EIO',
    ]);
  });

  test('more bytes than asked', async () => {
    const kernel = await started({ read: () => 11, write: () => 100 });
    expect(kernel.of(kernel.request('READ', readBody(0, 10)))!.errno).toBe(EIO);
    expect(kernel.of(kernel.request('WRITE', body(0n, 0n, 1, 0, 0n, 0, 0, 'x')))!.errno).toBe(EIO);
    expect(why()).toEqual([
      'invalid-answer: read answered 11 bytes of 10, none of them in its payload; the caller got EIO',
      'invalid-answer: write took 100 bytes of 1; the caller got EIO',
    ]);
  });

  test('a directory position that does not move', async () => {
    const offsets = [5, 5];
    const kernel = await started({
      readdir: (_node, _request, reply) => {
        for (const offset of offsets) reply.add({ name: `n${offset}`, ino: 1, offset });
      },
    });
    expect(kernel.of(kernel.request('READDIR', readBody(0, 4096)))!.errno).toBe(EIO);
    offsets.splice(0, 2, 7);
    expect(kernel.of(kernel.request('READDIR', readBody(7, 4096)))!.errno).toBe(EIO);
    offsets.splice(0, 1, 0);
    expect(kernel.of(kernel.request('READDIR', readBody(7, 4096)))!.errno).toBe(EIO);
    const each = 'it is the position after the entry, its own for each; the caller got EIO';
    expect(why()).toEqual([
      `invalid-answer: the offset of entry "n5" is that of the entry before it; ${each}`,
      `invalid-answer: the offset of entry "n7" is that of the entry before it; ${each}`,
      `invalid-answer: the offset of entry "n0" is 0, which is the start; ${each}`,
    ]);
  });

  test('a name that is none', async () => {
    const kernel = await started({ readdir: () => ['a/b'] });
    expect(kernel.of(kernel.request('READDIR', readBody(0, 4096)))!.errno).toBe(EIO);
    expect(why()).toEqual(['invalid-answer: "a/b" is no name of a directory entry; the caller got EIO']);
  });

  test('throwing what is no error', async () => {
    const kernel = await started({
      getattr: () => {
        throw 'no';
      },
    });
    expect(kernel.of(kernel.request('GETATTR', body(0, 0, 0n)))!.errno).toBe(EIO);
    expect(why()).toEqual(['handler-error: a handler failed without an errno (no); the caller got EIO']);
  });

  test('replying twice', async () => {
    const kernel = await started({ getattr: () => directory });
    const { session } = kernel;
    // Only code beside the handlers can: they answer by returning.
    const take = session.answerError.bind(session);
    const { answer } = session;
    session.answer = (exchange, buffer, bytes) => {
      answer.call(session, exchange, buffer, bytes);
      take(exchange, EIO);
    };
    const unique = kernel.request('GETATTR', body(0, 0, 0n));
    expect(kernel.replies.filter((reply) => reply.unique === unique)).toMatchObject([{ errno: 0 }]);
    expect(why()).toEqual(['double-answer: a request was answered twice; the second answer was ignored']);
  });

  test('never answering', async () => {
    const kernel = await started({ read: () => new Promise<never>(() => {}) }, { limits: { slowMs: 40 } });
    kernel.request('READ', readBody(0, 10));
    await new Promise((resolve) => setTimeout(resolve, 150));
    expect(why()).toEqual(['slow-request: a request has waited for its answer for more than 40 ms; its caller waits too']);
    kernel.pair.kernel.close();
  });
});
