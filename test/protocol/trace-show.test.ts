/** A trace in words: one line a message for every opcode, notification and ioctl, and the same as JSON. */
import { describe, expect, test, vi } from 'vitest';
import { decodeIoctl, NOTIFICATIONS, OPCODES, type OpcodeName } from '../../src/protocol/index.ts';
import { explainLine, explainMessage } from '../../src/trace/explain.ts';
import type { JsonValue } from '../../src/trace/show.ts';
import { showTrace, showTraceJson } from '../../src/trace/show.ts';
import { fromHex, TRACES } from './support.ts';
import { all, dataBytes, fixture, replyBytes, Script } from './trace-support.ts';

// Whole captures are read many times; on a busy machine that takes its time.
vi.setConfig({ testTimeout: 180_000 });

const show = (script: Script, options = {}) => all(showTrace(script.messages, options));
/** Without time and caller. */
const calls = async (script: Script, options = {}) => (await show(script, options)).map((line) => line.slice(24));
const OPCODE_OF = /^\s*[\d.]+ \S+\s+(?:<\.\.\. )?([A-Z_0-9]+)/;

/** What the captured traces do not hold, or hold in one way only: the request, the answer, and the line. */
const ANSWERED: readonly (readonly [
  OpcodeName,
  Omit<Parameters<Script['request']>[1], 'unique'>,
  Parameters<Script['reply']>[1] | undefined,
  string,
])[] = [
  [
    'CREATE',
    { names: ['new'], value: { flags: 0o100102, mode: 0o100644, umask: 0o22 } },
    undefined,
    'CREATE("/new", flags=O_RDWR|O_CREAT, mode=S_IFREG|0644, umask=0022) = EPERM <0.001000>',
  ],
  [
    'OPEN',
    { nodeid: 2n, value: { flags: 0o40000, open_flags: 1 } },
    ['fuse_open_out', { fh: 7n, open_flags: 3 }],
    'OPEN("/a", flags=O_RDONLY|O_DIRECT, open_flags=FUSE_OPEN_KILL_SUIDGID) = {fh=7, open_flags=FOPEN_DIRECT_IO|FOPEN_KEEP_CACHE} <0.001000>',
  ],
  [
    'SETATTR',
    { nodeid: 2n, value: { valid: 0x89, mode: 0o104755, size: 5n, uid: 9 } },
    ['fuse_attr_out', { attr_valid: 1n, attr_valid_nsec: 500_000_000, attr: { ino: 2n, mode: 0o104755, uid: 0 } }],
    'SETATTR("/a", valid=FATTR_MODE|FATTR_SIZE|FATTR_ATIME_NOW, size=5, mode=S_IFREG|04755) = {attr_valid=1.5s, ino=2, size=0, mode=S_IFREG|04755} <0.001000>',
  ],
  [
    'SETATTR',
    { nodeid: 2n, value: { valid: 0x12, uid: 0, atime: 1n, atimensec: 5 } },
    undefined,
    'SETATTR("/a", valid=FATTR_UID|FATTR_ATIME, atime=1970-01-01T00:00:01.000000005Z, uid=0) = EPERM <0.001000>',
  ],
  [
    'RENAME2',
    { names: ['a', 'b'], value: { newdir: 1n, flags: 2 } },
    undefined,
    'RENAME2("/a", "/b", flags=RENAME_EXCHANGE) = 0 <0.001000>',
  ],
  [
    'LINK',
    { names: ['c'], value: { oldnodeid: 2n } },
    ['fuse_entry_out', { nodeid: 2n, generation: 1n, attr: { ino: 2n } }],
    'LINK("/a", "/c") = #2 {ino=2, size=0, mode=0000} <0.001000>',
  ],
  [
    'LOOKUP',
    { names: ['none'] },
    ['fuse_entry_out', { nodeid: 0n, entry_valid: 3n }],
    'LOOKUP("/none") = no such name {entry_valid=3s} <0.001000>',
  ],
  [
    'BMAP',
    { nodeid: 2n, value: { block: 3n, blocksize: 512 } },
    ['fuse_bmap_out', { block: 9n }],
    'BMAP("/a", block=3, blocksize=512) = 9 <0.001000>',
  ],
  [
    'GETLK',
    { nodeid: 2n, value: { fh: 1n, owner: 0xabn, lk: { start: 5n, end: (1n << 63n) - 1n, type: 1, pid: 0 } } },
    ['fuse_lk_out', { lk: { start: 0n, end: 9n, type: 2, pid: 0 } }],
    'GETLK("/a", fh=1, owner=0xab, start=5, end=EOF, type=F_WRLCK) = {start=0, end=9, type=F_UNLCK} <0.001000>',
  ],
  ['ACCESS', { value: { mask: 0 } }, undefined, 'ACCESS("/", mask=F_OK) = 0 <0.001000>'],
  ['DESTROY', { nodeid: 0n }, undefined, 'DESTROY() = 0 <0.001000>'],
  ['SYNCFS', {}, undefined, 'SYNCFS("/") = 0 <0.001000>'],
  [
    'FALLOCATE',
    { nodeid: 2n, value: { fh: 1n, length: 10n, mode: 3 } },
    undefined,
    'FALLOCATE("/a", fh=1, offset=0, length=10, mode=FALLOC_FL_KEEP_SIZE|FALLOC_FL_PUNCH_HOLE) = 0 <0.001000>',
  ],
  [
    'COPY_FILE_RANGE',
    { nodeid: 2n, value: { fh_in: 1n, nodeid_out: 2n, fh_out: 3n, len: 10n } },
    ['fuse_write_out', { size: 8 }],
    'COPY_FILE_RANGE("/a", fh_in=1, off_in=0, nodeid_out="/a", fh_out=3, off_out=0, len=10) = 8 <0.001000>',
  ],
  [
    'COPY_FILE_RANGE_64',
    { nodeid: 2n, value: { len: 10n } },
    ['fuse_copy_file_range_out', { bytes_copied: 8n }],
    'COPY_FILE_RANGE_64("/a", fh_in=0, off_in=0, fh_out=0, off_out=0, len=10) = 8 <0.001000>',
  ],
  [
    'SETUPMAPPING',
    { nodeid: 2n, value: { len: 4096n, flags: 3n } },
    undefined,
    'SETUPMAPPING("/a", fh=0, len=4096, flags=FUSE_SETUPMAPPING_FLAG_WRITE|FUSE_SETUPMAPPING_FLAG_READ) = 0 <0.001000>',
  ],
  [
    'REMOVEMAPPING',
    { nodeid: 2n, records: [{ moffset: 1n, len: 2n }] },
    undefined,
    'REMOVEMAPPING("/a", count=1, {moffset=1, len=2}) = 0 <0.001000>',
  ],
  [
    'STATX',
    { nodeid: 2n, value: { sx_flags: 0x2000, sx_mask: 0xfff } },
    ['fuse_statx_out', { stat: { mask: 0x800, mode: 0o100600, attributes: 16n, btime: { tv_sec: 1n, tv_nsec: 0 } } }],
    'STATX("/a", sx_flags=AT_STATX_FORCE_SYNC, sx_mask=STATX_BASIC_STATS|STATX_BTIME) = {mask=STATX_BTIME, attributes=STATX_ATTR_IMMUTABLE, mode=S_IFREG|0600, size=0, btime=1970-01-01T00:00:01Z} <0.001000>',
  ],
  [
    'POLL',
    { nodeid: 2n, value: { kh: 5n, flags: 1, events: 5 } },
    ['fuse_poll_out', { revents: 4 }],
    'POLL("/a", fh=0, kh=0x5, flags=FUSE_POLL_SCHEDULE_NOTIFY, events=POLLIN|POLLOUT) = {revents=POLLOUT} <0.001000>',
  ],
  [
    'LSEEK',
    { nodeid: 2n, value: { offset: 5n, whence: 4 } },
    ['fuse_lseek_out', { offset: 9n }],
    'LSEEK("/a", fh=0, offset=5, whence=SEEK_HOLE) = 9 <0.001000>',
  ],
  [
    'IOCTL',
    { nodeid: 2n, value: { cmd: 0x80086601, arg: 0x10n, out_size: 8 }, data: new Uint8Array(0) },
    ['fuse_ioctl_out', { flags: 4, out_iovs: 1 }],
    'IOCTL("/a", fh=0, cmd=FS_IOC_GETFLAGS, arg=0x10, out_size=8) = 0 {result=0, flags=FUSE_IOCTL_RETRY, out_iovs=1} <0.001000>',
  ],
  [
    'MKNOD',
    {
      names: ['dev'],
      value: { mode: 0o20600, rdev: 0x1_0103 & 0xffff },
      extensions: [{ kind: 'groups', size: 16, groups: [7] }],
    },
    undefined,
    'MKNOD("/dev", mode=S_IFCHR|0600, rdev=1:3, groups=[7]) = EPERM <0.001000>',
  ],
  [
    'TMPFILE',
    { names: ['/'], value: { flags: 0o20200002, mode: 0o100600 } },
    undefined,
    'TMPFILE("/", flags=O_RDWR|O_TMPFILE, mode=S_IFREG|0600) = EPERM <0.001000>',
  ],
  [
    'CUSE_INIT',
    { nodeid: 0n, value: { major: 7, minor: 45, flags: 1 } },
    undefined,
    'CUSE_INIT(major=7, minor=45, flags=CUSE_UNRESTRICTED_IOCTL) = EPERM <0.001000>',
  ],
];

describe('one message', () => {
  test.each(ANSWERED)('%s', async (opcode, parts, reply, line) => {
    const script = opcode === 'CUSE_INIT' ? new Script() : new Script().init().lookup(4n, 1n, 'a', 2n);
    script.request(opcode, { unique: 6n, ...parts });
    if (reply === undefined) script.error(6n, line.includes('= EPERM') ? 1 : 0);
    else script.reply(6n, reply);
    expect((await calls(script)).at(-1)).toBe(line);
  });

  test('notifications', async () => {
    const script = new Script().init().lookup(4n, 1n, 'dir', 2n);
    const put = (hex: string) => script.raw({ dir: 'out', bytes: fromHex(hex) });
    put('18000000 01000000 0000000000000000 0807060504030201');
    put('28000000 02000000 0000000000000000 0200000000000000 ffffffffffffffff 0000000000000000');
    put('23000000 03000000 0000000000000000 0200000000000000 02000000 01000000 666f00');
    put('2a000000 04000000 0000000000000000 0200000000000000 0010000000000000 02000000 00000000 6869');
    put('30000000 05000000 0000000000000000 0100000000000080 0200000000000000 0000000000000000 00100000 00000000');
    put('2b000000 06000000 0000000000000000 0100000000000000 0500000000000000 02000000 00000000 666f00');
    put('10000000 07000000 0000000000000000');
    put('10000000 08000000 0000000000000000');
    put('30000000 09000000 0000000000000000 02000000 00000000 0000000000000000 0200000000000000 0800000000000000');
    const lines = (await calls(script)).slice(2);
    expect(lines).toEqual([
      'NOTIFY_POLL(kh=0x102030405060708)',
      'NOTIFY_INVAL_INODE(ino="/dir", off=-1, len=0)',
      'NOTIFY_INVAL_ENTRY("/dir/fo", flags=FUSE_EXPIRE_ONLY)',
      'NOTIFY_STORE(nodeid="/dir", offset=4096, "hi")',
      'NOTIFY_RETRIEVE(notify_unique=0x8000000000000001, nodeid="/dir", offset=0, size=4096)',
      'NOTIFY_DELETE("/fo", child="#5")',
      'NOTIFY_RESEND()',
      'NOTIFY_INC_EPOCH()',
      'NOTIFY_PRUNE(count=2, "/dir", "#8")',
    ]);
    expect(lines.map((line) => /^NOTIFY_([A-Z_]+)/.exec(line)![1])).toEqual(NOTIFICATIONS.map(({ name }) => name));
  });

  test('ioctls of the device', async () => {
    const script = new Script().init();
    script.raw({ dir: 'ioctl', bytes: Uint8Array.of(7, 0, 0, 0), command: 0x8004e500, result: 0 });
    script.raw({ dir: 'ioctl', bytes: fromHex('0500000000000000 0000000000000000'), command: 0x4010e501, result: -1 });
    script.raw({ dir: 'ioctl', bytes: new Uint8Array(0), command: 0x5421, result: 0 });
    expect((await calls(script)).slice(1)).toEqual([
      'FUSE_DEV_IOC_CLONE(7) = 0',
      'FUSE_DEV_IOC_BACKING_OPEN(fd=5) = -1',
      'ioctl 0x5421("") = 0',
    ]);
    const message = decodeIoctl(0x8004e500, Uint8Array.of(7, 0, 0, 0));
    expect(message.kind === 'ioctl' && explainLine(explainMessage(message))).toBe('FUSE_DEV_IOC_CLONE(7)');
  });

  test('an O_* means what it means on the machine of the trace', async () => {
    const script = new Script()
      .init()
      .request('OPEN', { unique: 4n, value: { flags: 0o200000 } })
      .error(4n, 2);
    expect((await calls(script))[1]).toBe('OPEN("/", flags=O_RDONLY|O_DIRECTORY) = ENOENT <0.001000>');
    expect((await calls(script, { machine: 'arm' }))[1]).toBe('OPEN("/", flags=O_RDONLY|O_DIRECT) = ENOENT <0.001000>');
  });

  test('names and data that are no text', async () => {
    const script = new Script()
      .init()
      .request('LOOKUP', { unique: 4n, names: ['k\xc5\xaf\xc5\x88'] })
      .error(4n, 2);
    script.request('LOOKUP', { unique: 6n, names: ['\xff\n"'] }).error(6n, 2);
    script.request('LOOKUP', { unique: 8n, names: ['\x1b[31m\xe2\x80\xae'] }).error(8n, 2);
    script.request('READ', { unique: 10n, value: { size: 100 } }).data(10n, 'x'.repeat(40));
    expect((await calls(script)).slice(1)).toEqual([
      'LOOKUP("/kůň") = ENOENT <0.001000>',
      'LOOKUP("/\\xff\\n\\"") = ENOENT <0.001000>',
      'LOOKUP("/\\x1b[31m\\u202e") = ENOENT <0.001000>',
      `READ("/", fh=0, offset=0, size=100) = 40 "${'x'.repeat(32)}"... <0.001000>`,
    ]);
    expect((await calls(script, { dataMax: 3 })).at(-1)).toContain('= 40 "xxx"...');
  });

  test('all of it', async () => {
    const script = new Script().init().request('GETATTR', { unique: 4n, value: {} });
    script.reply(4n, ['fuse_attr_out', { attr: { ino: 1n, atime: -1n } }]);
    const line = (await calls(script, { all: true })).at(-1);
    expect(line).toContain('GETATTR("/", getattr_flags=0, fh=0)');
    expect(line).toContain('atime=1969-12-31T23:59:59Z, mtime=1970-01-01T00:00:00Z');
    expect(line).toContain('uid=0, gid=0, rdev=0:0, blksize=0');
  });
});

describe('a trace', () => {
  const talk = () => {
    const script = new Script().init();
    script.request('READ', { unique: 4n, value: { size: 10 } }).request('ACCESS', { unique: 6n, value: { mask: 4 } });
    return script.error(6n, 13).data(4n, 'data').request('SETLKW', { unique: 8n });
  };

  test('answers stand on the line of their request, and what is unanswered says so', async () => {
    expect((await show(talk())).slice(1)).toEqual([
      '    0.003000 77/1000    READ("/", fh=0, offset=0, size=10) = 4 "data" <0.003000>',
      '    0.004000 77/1000    ACCESS("/", mask=R_OK) = EACCES <0.001000>',
      '    0.007000 77/1000    SETLKW("/", fh=0, start=0, end=0, type=F_RDLCK) <unanswered at the end of the trace>',
    ]);
  });

  test('one line a message in order', async () => {
    expect((await show(talk(), { pairs: false })).slice(2)).toEqual([
      '    0.003000 77/1000    READ("/", fh=0, offset=0, size=10)',
      '    0.004000 77/1000    ACCESS("/", mask=R_OK)',
      '    0.005000 77/1000    <... ACCESS of 0.004000> = EACCES <0.001000>',
      '    0.006000 77/1000    <... READ of 0.003000> = 4 "data" <0.003000>',
      '    0.007000 77/1000    SETLKW("/", fh=0, start=0, end=0, type=F_RDLCK)',
    ]);
  });

  test('an answer that is far away has its own line', async () => {
    expect((await show(talk(), { near: 2 })).slice(1, 4)).toEqual([
      '    0.003000 77/1000    READ("/", fh=0, offset=0, size=10) <answered below, if at all>',
      '    0.004000 77/1000    ACCESS("/", mask=R_OK) = EACCES <0.001000>',
      '    0.006000 77/1000    <... READ of 0.003000> = 4 "data" <0.003000>',
    ]);
  });

  test('a part of it', async () => {
    expect(await calls(talk(), { from: 4000, to: 6000 })).toEqual([
      'ACCESS("/", mask=R_OK) = EACCES <0.001000>',
      // Its request was before.
      '<... READ of 0.003000> = 4 "data" <0.003000>',
    ]);
    expect(await show(talk(), { limit: 2 })).toHaveLength(2);
    expect(await show(talk(), { limit: 0 })).toEqual([]);
    expect(await calls(talk(), { only: (index: number) => index === 3 })).toEqual(['ACCESS("/", mask=R_OK) = EACCES <0.001000>']);
  });

  test('what the kernel refused, what is padding, what does not decode', async () => {
    const script = new Script().init().request('WRITE', { unique: 4n, data: new Uint8Array(1) });
    const padded = replyBytes(4n, [['fuse_write_out', { size: 1 }]]);
    padded[20] = 1;
    script.raw({ dir: 'out', bytes: padded });
    script.request('READLINK', { unique: 6n }).raw({ dir: 'out', bytes: dataBytes(6n, 'late'), errno: 2 });
    script.error(99n, 5).raw({ dir: 'in', bytes: new Uint8Array(3) });
    expect((await calls(script)).slice(1)).toEqual([
      'WRITE("/", fh=0, offset=0, "\\x00") = 1 [padding is not zero at byte 20] <0.001000>',
      'READLINK("/") = "late" [the kernel refused it with ENOENT: nobody waits for it any more] <0.001000>',
      'reply = EIO [to 99, which nobody asks here]',
      '???("\\x00\\x00\\x00") [TRUNCATED: fuse_in_header needs 40 bytes, 3 are left.]',
    ]);
  });

  test('colour only when it is asked for', async () => {
    expect((await show(talk())).join('')).not.toContain('\u001b');
    expect((await show(talk(), { colour: true })).join('')).toContain('\u001b[31mEACCES\u001b[0m');
  });

  test('as JSON: complete, in order, with 64 bits as text', async () => {
    const lines = (await all(showTraceJson(talk().messages))) as Record<string, JsonValue>[];
    expect(lines.map(({ index, kind }) => [index, kind])).toEqual(
      ['request', 'reply', 'request', 'request', 'reply', 'reply', 'request'].map((kind, index) => [index, kind]),
    );
    expect(lines[5]).toEqual({
      index: 5,
      t: 6000,
      dir: 'out',
      kind: 'reply',
      connection: 0,
      opcode: 'READ',
      unique: '4',
      nodeid: '1',
      path: '/',
      uid: 1000,
      gid: 1000,
      pid: 77,
      request: 2,
      duration: 3000,
      error: null,
      errno: 0,
      structs: {},
      data: { bytes: 4, hex: '64617461' },
    });
    expect(lines[4]).toMatchObject({ error: 'EACCES', errno: 13, request: 3 });
  });
});

describe('captured traces', () => {
  test('representative lines of everything that they hold', async () => {
    const kept: string[] = [];
    const seen = new Map<string, number>();
    for (const name of TRACES) {
      for (const line of await all(showTrace(fixture(name)))) {
        const opcode = OPCODE_OF.exec(line)?.[1] ?? '?';
        // The shape of a line: numbers and texts that differ make no other.
        const shape = `${opcode} ${line.slice(24).replace(/"[^"]*"|0x[0-9a-f]+|\d+/g, '').length % 5}`;
        if ((seen.get(shape) ?? 0) > 0 || line.length > 1200) continue;
        seen.set(shape, 1);
        kept.push(line.replace(/^\s*[\d.]+ /, '').replace(/<\d+\.\d+>/, '<time>'));
      }
    }
    await expect(`${kept.join('\n')}\n`).toMatchFileSnapshot('./fixtures/trace-show.txt');
    const opcodes = new Set([...seen.keys()].map((shape) => shape.split(' ')[0]!));
    const byHand = new Set<string>(ANSWERED.map(([opcode]) => opcode));
    expect(OPCODES.map(({ name }) => name).filter((name) => !opcodes.has(name) && !byHand.has(name))).toEqual([]);
  });

  test.each(TRACES)('%s: every message is shown once, and as JSON', async (name) => {
    const messages = fixture(name);
    expect(await all(showTrace(messages, { pairs: false }))).toHaveLength(messages.length);
    const json = (await all(showTraceJson(messages))) as Record<string, JsonValue>[];
    expect(json.map(({ index }) => index)).toEqual(messages.map((_, index) => index));
    expect(JSON.parse(JSON.stringify(json))).toEqual(json);
  });
});
