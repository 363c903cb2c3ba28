/** The examples live, http and zip on real mounts, each under programs that know nothing of it. */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import {
  CLI,
  daemon,
  eventually,
  LineProcess,
  mountPoint,
  NO_MOUNTS,
  program,
  ROOT,
  run,
  runWell,
  skipLoudly,
  temporaryFolder,
  useLiveMounts,
} from './harness.ts';

const PYTHON = program('python3');
const NO_CLIENT = NO_MOUNTS ?? (PYTHON === undefined ? 'there is no python3' : undefined);

const moduleOf = (name: string) => join(ROOT, `dist/examples/${name}/filesystem.js`);

/** Mounts an example with arguments; answers the mount point. */
async function mounted(name: string, ...words: string[]): Promise<string> {
  const path = mountPoint();
  await daemon(['mount', moduleOf(name), path, ...(name === 'live' ? [] : ['--read-only']), '--', ...words], path);
  return path;
}

const text = (argv: readonly string[]) => runWell(argv, { timeoutMs: 10_000 });
const python = (source: string, ...words: string[]) => text([PYTHON!, '-c', source, ...words]);

// --- what is refused -------------------------------------------------------------------------------------------------

describe.skipIf(skipLoudly('what the examples refuse', NO_MOUNTS))('an example', () => {
  useLiveMounts();

  it.each([
    ['live', ['--', 'interval=soon'], 'interval=soon is no argument of live; write interval=MILLISECONDS'],
    ['live', ['--mode', 'blocking'], 'mount it with --mode event'],
    ['http', [], 'http needs the URL of an index'],
    ['http', ['--', 'http://127.0.0.1:9/index', 'speed=9'], 'speed=9 is no argument of http'],
    ['zip', [], 'zip needs the path of an archive'],
    ['zip', ['--', CLI], 'main.js cannot be read as a zip archive'],
    ['zip', ['--', 'a.zip', 'cache=lots'], 'cache=lots is no argument of zip; write cache=BYTES'],
  ])('%s refuses %j before anything is mounted', async (name, words, message) => {
    const path = mountPoint();
    const { code, stderr } = await run([process.execPath, CLI, 'mount', moduleOf(name), path, ...words], { timeoutMs: 10_000 });
    expect(code).not.toBe(0);
    expect(stderr).toContain(message);
  });
});

// --- live ------------------------------------------------------------------------------------------------------------

describe.skipIf(skipLoudly('live', NO_CLIENT))('live', () => {
  useLiveMounts();

  it('makes content when it is read, once for a pass of small reads', async () => {
    const path = await mounted('live', 'interval=1000000');
    expect(await text(['ls', path])).toBe('clock\ncounter\nlatest\nticks\nuptime\n');
    expect(await text(['cat', join(path, 'counter'), join(path, 'counter')])).toBe('1\n2\n');
    expect(await text(['dd', 'bs=1', 'status=none', `if=${join(path, 'counter')}`])).toBe('3\n');
    expect(await text(['stat', '-c', '%s %a', join(path, 'counter')])).toBe('0 444\n');
    const before = Date.now();
    const clock = Date.parse((await text(['cat', join(path, 'clock')])).trim());
    expect(clock).toBeGreaterThanOrEqual(before);
    expect(clock).toBeLessThanOrEqual(Date.now());
    const uptime = () => text(['cat', join(path, 'uptime')]);
    expect(Number(await uptime())).toBeLessThan(Number(await uptime()));
  });

  it('wakes who polls when there is a new value, and not before', async () => {
    const path = await mounted('live', 'interval=300');
    // A read takes the value; then poll sleeps until the next one. Nothing is ready in the short wait right after a read.
    const source = [
      'import os, select, sys, time',
      'fd = os.open(sys.argv[1], os.O_RDONLY)',
      'poll = select.poll(); poll.register(fd, select.POLLIN)',
      'values, early = [], 0',
      'for _ in range(5):',
      '    assert poll.poll(5000) == [(fd, select.POLLIN)]',
      '    values.append(int(os.pread(fd, 100, 0)))',
      '    early += len(poll.poll(10))',
      'print(values[-1] - values[0], early <= 1, values == sorted(set(values)))',
      // Two sleepers on descriptors of their own hear of one tick.
      'other = os.open(sys.argv[1], os.O_RDONLY); both = [fd, other]',
      'for f in both: os.pread(f, 100, 0)',
      'for f in both:',
      '    p = select.poll(); p.register(f, select.POLLIN); assert len(p.poll(5000)) == 1',
      'print("both")',
    ].join('\n');
    expect(await python(source, join(path, 'ticks'))).toMatch(/^\d+ True True\nboth\n$/);
  });

  it('never says ready while nothing is new', async () => {
    const path = await mounted('live', 'interval=1000000');
    const source = [
      'import os, select, sys',
      'fd = os.open(sys.argv[1], os.O_RDONLY); print(os.read(fd, 100))',
      'poll = select.poll(); poll.register(fd, select.POLLIN); print(poll.poll(200))',
    ].join('\n');
    expect(await python(source, join(path, 'ticks'))).toBe("b'0\\n'\n[]\n");
  });

  it('tells the kernel when a cached file changed', async () => {
    const path = await mounted('live', 'interval=50');
    const latest = async () => Number(await text(['cat', join(path, 'latest')]));
    // Names, attributes and pages live an hour: only the notification can make a second value appear.
    const first = await latest();
    await eventually(
      async () => (await latest()) >= first + 3,
      5000,
      () => 'the page cache kept an old value',
    );
    await eventually(
      async () => (await latest()) >= 10,
      5000,
      () => 'the size stayed that of one digit',
    );
  });
});

// --- http ------------------------------------------------------------------------------------------------------------

const BIG_BYTES = 3_000_000;
const big = Buffer.from(Uint32Array.from({ length: BIG_BYTES / 4 }, (_, at) => Math.imul(at, 0x9e3779b1)).buffer);
const FILES: Readonly<Record<string, Buffer>> = {
  'big.bin': big,
  empty: Buffer.alloc(0),
  'docs/a b/ü%.txt': Buffer.from('reached\n'),
  'docs/one.txt': Buffer.from('1\n'),
};

type Answer = (request: IncomingMessage, response: ServerResponse, next: () => void) => void;

/** A server of FILES; `answer` comes before it for all but the index. */
class TestServer {
  readonly ranges: string[] = [];
  inFlight = 0;
  inFlightMax = 0;
  cut = 0;
  readonly #server: Server;

  constructor(answer: Answer) {
    this.#server = createServer((request, response) => {
      if (request.url === '/tree/index.json') {
        const sizes = Object.entries(FILES).map(([path, { length }]) => [path, length]);
        response.end(JSON.stringify({ files: { ...Object.fromEntries(sizes), gone: 5 } }));
        return;
      }
      this.ranges.push(request.headers.range ?? 'none');
      this.inFlightMax = Math.max(this.inFlightMax, ++this.inFlight);
      response.once('close', () => {
        this.inFlight--;
        if (!response.writableFinished) this.cut++;
      });
      answer(request, response, () => serve(request, response));
    });
  }

  async start(): Promise<string> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/tree/index.json`;
  }

  stop(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }
}

function serve(request: IncomingMessage, response: ServerResponse): void {
  const file = FILES[decodeURIComponent(request.url!.slice('/tree/'.length))];
  const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '') ?? [];
  if (file === undefined || from === undefined) {
    response.writeHead(file === undefined ? 404 : 200).end(file);
    return;
  }
  const part = file.subarray(Number(from), Number(to) + 1);
  response.writeHead(206, { 'content-range': `bytes ${from}-${to}/${file.length}` }).end(part);
}

describe.skipIf(skipLoudly('http', NO_CLIENT))('http', () => {
  useLiveMounts();
  const servers: TestServer[] = [];
  afterEach(() => {
    for (const server of servers.splice(0)) server.stop();
  });

  async function remote(answer: Answer, ...words: string[]): Promise<{ path: string; server: TestServer }> {
    const server = new TestServer(answer);
    servers.push(server);
    return { server, path: await mounted('http', await server.start(), ...words) };
  }

  const digest = 'import hashlib, sys\nprint(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest())';

  it('shows the tree of the index and reads whole files, with several ranges in flight', async () => {
    const { path, server } = await remote((_request, _response, next) => setTimeout(next, 20));
    expect(await text(['find', path, '-mindepth', '1', '-printf', '%y %s %P\\n'])).toSatisfy((listing: string) => {
      const lines = listing.trimEnd().split('\n').sort();
      expect(lines).toEqual(
        [
          'd 0 docs',
          'd 0 docs/a b',
          'f 0 empty',
          'f 2 docs/one.txt',
          'f 3000000 big.bin',
          'f 5 gone',
          'f 8 docs/a b/ü%.txt',
        ].sort(),
      );
      return true;
    });
    expect(await text(['cat', join(path, 'docs/a b/ü%.txt'), join(path, 'empty')])).toBe('reached\n');
    const whole = (await import('node:crypto')).createHash('sha256').update(big).digest('hex');
    expect(await python(digest, join(path, 'big.bin'))).toBe(`${whole}\n`);
    expect(server.inFlightMax).toBeGreaterThan(1);
    const asked = server.ranges.length;
    expect(await python(digest, join(path, 'big.bin'))).toBe(`${whole}\n`);
    expect(server.ranges.length, 'the page cache answers the second reader').toBe(asked);
  });

  it('reads only what is asked for', async () => {
    const { path, server } = await remote((_request, _response, next) => next());
    const source = [
      'import os, sys',
      'fd = os.open(sys.argv[1], os.O_RDONLY); os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)',
      'for at in [2999000, 17, 1500000]: print(os.pread(fd, 8, at).hex())',
      'print(os.pread(fd, 8, 3000000), len(os.pread(fd, 4096, 2999999)))',
    ].join('\n');
    const pieces = [2999000, 17, 1500000].map((at) => big.subarray(at, at + 8).toString('hex'));
    expect(await python(source, join(path, 'big.bin'))).toBe(`${pieces.join('\n')}\nb'' 1\n`);
    const bytes = server.ranges
      .map((range) => /(\d+)-(\d+)/.exec(range)!)
      .reduce((sum, [, from, to]) => sum + Number(to) - Number(from) + 1, 0);
    expect(bytes).toBeLessThan(100_000);
  });

  it('ends the transfer when a direct reader is killed or interrupted, and serves the next one', async () => {
    let isSilent = true;
    const answer: Answer = (_request, _response, next) => {
      if (!isSilent) next();
    };
    const { path, server } = await remote(answer, 'direct');
    for (const signal of ['SIGKILL', 'SIGINT'] as const) {
      const cutBefore = server.cut;
      const reader = new LineProcess(['head', '-c', '10', join(path, 'big.bin')]);
      await eventually(
        () => server.inFlight > 0,
        5000,
        () => 'no range was asked for',
      );
      reader.kill(signal);
      expect(await reader.end(2000)).toMatchObject({ signal });
      await eventually(
        () => server.inFlight === 0,
        2000,
        () => `${server.inFlight} transfers go on without a reader`,
      );
      expect(server.cut).toBeGreaterThan(cutBefore);
    }
    isSilent = false;
    expect(await text(['cat', join(path, 'docs/one.txt')])).toBe('1\n');
  });

  it('lets a reader through the page cache end at once, and its transfers after their time', async () => {
    let isSilent = true;
    const answer: Answer = (_request, _response, next) => {
      if (!isSilent) next();
    };
    const { path, server } = await remote(answer, 'timeout=1500', 'retries=0');
    const reader = new LineProcess(['head', '-c', '10', join(path, 'big.bin')]);
    await eventually(
      () => server.inFlight > 0,
      5000,
      () => 'no range was asked for',
    );
    reader.kill('SIGINT');
    expect(await reader.end(1000)).toMatchObject({ signal: 'SIGINT' });
    await eventually(
      () => server.inFlight === 0,
      4000,
      () => `${server.inFlight} transfers go on without a reader`,
    );
    isSilent = false;
    expect(await text(['head', '-c', '4', join(path, 'big.bin')])).not.toBe('');
  });

  it('tries again what may pass, and a bounded number of times', async () => {
    let failures = 2;
    const { path, server } = await remote((_request, response, next) => {
      if (failures-- > 0) response.writeHead(503).end();
      else next();
    }, 'retries=2');
    expect(await text(['cat', join(path, 'docs/one.txt')])).toBe('1\n');
    expect(server.ranges.length).toBe(3);
    failures = 1000;
    const { code, stderr } = await run(['cat', join(path, 'docs/a b/ü%.txt')], { timeoutMs: 10_000 });
    expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringContaining('Input/output error') });
    expect(1000 - failures).toBeLessThan(10);
  });

  it.each([
    ['no ranges', (_: IncomingMessage, response: ServerResponse) => response.writeHead(200).end('1\n'), 'Input/output error'],
    ['too few bytes', (_: IncomingMessage, response: ServerResponse) => response.writeHead(206).end('1'), 'Input/output error'],
    [
      'too many bytes',
      (_: IncomingMessage, response: ServerResponse) => response.writeHead(206).end('12345'),
      'Input/output error',
    ],
    ['no permission', (_: IncomingMessage, response: ServerResponse) => response.writeHead(403).end(), 'Permission denied'],
    ['silence', () => {}, 'Input/output error'],
  ])('answers an error to a reader when the server answers %s', async (_what, answer, message) => {
    const { path, server } = await remote(answer, 'timeout=1000', 'retries=0');
    const { code, stderr } = await run(['cat', join(path, 'docs/one.txt')], { timeoutMs: 10_000 });
    expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringContaining(message) });
    expect(server.ranges.length).toBeLessThan(5);
    await eventually(
      () => server.inFlight === 0,
      2000,
      () => 'a transfer goes on',
    );
  });
});

// --- zip -------------------------------------------------------------------------------------------------------------

/** Makes the archive with an implementation that is not ours, and says what is in it. */
const MAKE_ARCHIVE = `
import hashlib, stat, sys, zipfile
def info(name, mode, how, time=(2021, 3, 4, 5, 6, 8)):
    entry = zipfile.ZipInfo(name, time); entry.create_system = 3
    entry.external_attr = mode << 16; entry.compress_type = how
    return entry
text = b"".join(b"line %d\\n" % i for i in range(400000))
noise = hashlib.shake_256(b"seed").digest(1500000)
with zipfile.ZipFile(sys.argv[1], "w") as z:
    z.writestr(info("stored.bin", stat.S_IFREG | 0o640, zipfile.ZIP_STORED), noise)
    z.writestr(info("deep/er/deflated.txt", stat.S_IFREG | 0o755, zipfile.ZIP_DEFLATED), text)
    z.writestr(info("deep/noise.bin", stat.S_IFREG | 0o444, zipfile.ZIP_DEFLATED), noise)
    z.writestr(info("private/", stat.S_IFDIR | 0o700, zipfile.ZIP_STORED), b"")
    z.writestr(info("link", stat.S_IFLNK | 0o777, zipfile.ZIP_STORED), b"deep/er/deflated.txt")
    z.writestr(info("deep/up", stat.S_IFLNK | 0o777, zipfile.ZIP_DEFLATED), b"../stored.bin")
    z.writestr(info("empty", stat.S_IFREG | 0o644, zipfile.ZIP_DEFLATED), b"")
    z.writestr(info("../outside", stat.S_IFREG | 0o644, zipfile.ZIP_STORED), b"out")
    z.writestr(info("/rooted", stat.S_IFREG | 0o644, zipfile.ZIP_STORED), b"in")
    z.writestr(info("stored.bin/below", stat.S_IFREG | 0o644, zipfile.ZIP_STORED), b"nowhere")
    z.writestr(info("na\\u00efve", stat.S_IFREG | 0o644, zipfile.ZIP_STORED), b"name")
    z.writestr(info("damaged", stat.S_IFREG | 0o644, zipfile.ZIP_DEFLATED), text)
    offset = z.getinfo("damaged").header_offset + 5000
with open(sys.argv[1], "r+b") as f:
    f.seek(offset); f.write(bytes(64))
print(hashlib.sha256(noise).hexdigest()); print(hashlib.sha256(text).hexdigest())
`;

describe.skipIf(skipLoudly('zip', NO_CLIENT))('zip', () => {
  useLiveMounts();

  async function archive(...words: string[]): Promise<{ path: string; noise: string; text: string }> {
    const file = join(temporaryFolder('zip'), 'a.zip');
    const [noise, whole] = (await python(MAKE_ARCHIVE, file)).split('\n');
    return { path: await mounted('zip', file, ...words), noise, text: whole };
  }

  const sum = async (...path: string[]) => (await text(['sha256sum', join(...path)])).slice(0, 64);

  it('shows entries, directories that paths imply, links, modes and times', async () => {
    const { path } = await archive();
    const listing = await runWell(['find', path, '-mindepth', '1', '-printf', '%y %m %n %s %P|%l\\n'], { timeoutMs: 10_000 });
    expect(listing.trimEnd().split('\n').sort()).toEqual(
      [
        'd 500 2 0 private|',
        'd 555 2 0 deep/er|',
        'd 555 3 0 deep|',
        'f 444 1 0 empty|',
        'f 444 1 1500000 deep/noise.bin|',
        'f 444 1 2 rooted|',
        'f 444 1 4 naïve|',
        'f 440 1 1500000 stored.bin|',
        'f 444 1 4688890 damaged|',
        'f 555 1 4688890 deep/er/deflated.txt|',
        'l 777 1 13 deep/up|../stored.bin',
        'l 777 1 20 link|deep/er/deflated.txt',
      ].sort(),
    );
    const [time] = (await text(['date', '-d', '2021-03-04 05:06:08', '+%s'])).split('\n');
    expect(await text(['stat', '-c', '%Y', join(path, 'stored.bin')])).toBe(`${time}\n`);
  });

  it.each(['cache=64m', 'cache=0'])('reads stored and deflated entries, also through links, with %s', async (cache) => {
    const { path, noise, text: whole } = await archive(cache);
    expect(await sum(path, 'stored.bin')).toBe(noise);
    expect(await sum(path, 'deep/up')).toBe(noise);
    expect(await sum(path, 'deep/noise.bin')).toBe(noise);
    expect(await sum(path, 'link')).toBe(whole);
    expect(await text(['cat', join(path, 'empty'), join(path, 'rooted')])).toBe('in');
  });

  it.each(['cache=64m', 'cache=600k'])('reads at random places, by several readers at a time, with %s', async (cache) => {
    const { path } = await archive(cache);
    // Compares with the same text made anew; O_DIRECT goes past the page cache, so each read reaches the example.
    const source = [
      'import mmap, os, random, sys',
      'text = b"".join(b"line %d\\n" % i for i in range(400000))',
      'fd = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT); m = mmap.mmap(-1, 8192)',
      'random.seed(int(sys.argv[2]))',
      'for _ in range(25):',
      '    at = random.randrange(0, len(text) // 4096 + 2) * 4096',
      '    n = os.preadv(fd, [m], at); assert m[:n] == text[at:at + 8192], at',
      'print("same")',
    ].join('\n');
    const file = join(path, 'deep/er/deflated.txt');
    expect(await Promise.all(['1', '2', '3'].map((seed) => python(source, file, seed)))).toEqual(Array(3).fill('same\n'));
  });

  it('answers EIO for what is damaged, EROFS to writers, and goes on', async () => {
    const { path, noise } = await archive();
    const failing = async (argv: string[]) => (await run(argv, { timeoutMs: 10_000 })).stderr;
    expect(await failing(['cat', join(path, 'damaged')])).toContain('Input/output error');
    expect(await failing(['cat', join(path, 'damaged')])).toContain('Input/output error');
    expect(await failing(['touch', join(path, 'new')])).toContain('Read-only file system');
    expect(await sum(path, 'deep/noise.bin')).toBe(noise);
  });
});
