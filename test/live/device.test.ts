import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { loadAddon } from '../../src/native/index.ts';
import { cloneDevice, DeviceChannel, receiveBytesFor } from '../../src/transport/index.ts';
import { client, isDevicePresent, type LiveMount, makeMount } from '../fixtures/live-mount.ts';
import { SmallFilesystem } from '../fixtures/small-filesystem.ts';

const OPCODE_GETATTR = 3;
const DAEMON = fileURLToPath(new URL('../fixtures/device-daemon.mjs', import.meta.url));

let mount: LiveMount;

function ended(filesystem: SmallFilesystem): Promise<void> {
  return new Promise((resolve) => {
    filesystem.onEnd = resolve;
  });
}

describe.skipIf(!isDevicePresent())('device channel in event mode', () => {
  beforeEach(() => {
    mount = makeMount();
  });
  afterEach(() => mount.clean());

  test('serves a client and ends as unmounted', async () => {
    const channel = new DeviceChannel({ fd: mount.fd });
    const filesystem = new SmallFilesystem(channel);
    const end = ended(filesystem);
    channel.open(filesystem);
    const stat = await client('stat', '-c', '%s %F', `${mount.path}/hello`);
    expect(stat).toEqual({ code: 0, stdout: `${filesystem.content.length} regular file\n`, stderr: '' });
    expect((await client('cat', `${mount.path}/hello`)).stdout).toBe(filesystem.content);
    expect((await client('stat', `${mount.path}/absent`)).code).toBe(1);
    expect(mount.unmount()).toBe(0);
    await end;
    expect(filesystem.closed?.reason).toBe('unmounted');
    expect(loadAddon().dup(mount.fd)).toBe(-9);
    expect(filesystem.refused).toEqual([]);
  });

  test('answers late while messages are kept, never more than buffersMax at a time', async () => {
    const channel = new DeviceChannel({ fd: mount.fd, buffersMax: 2 });
    const filesystem = new SmallFilesystem(channel);
    filesystem.delayMs = 20;
    const end = ended(filesystem);
    channel.open(filesystem);
    let kept = 0;
    let keptMax = 0;
    const keep = channel.keep.bind(channel);
    const release = channel.release.bind(channel);
    channel.keep = (buffer) => {
      kept++;
      keptMax = Math.max(keptMax, kept);
      keep(buffer);
    };
    channel.release = (buffer) => {
      kept--;
      release(buffer);
    };
    const clients = await Promise.all(Array.from({ length: 6 }, () => client('cat', `${mount.path}/hello`)));
    for (const { stdout } of clients) expect(stdout).toBe(filesystem.content);
    expect(keptMax).toBe(2);
    mount.unmount();
    await end;
  });

  test('notices the end of the connection while it is paused', async () => {
    const channel = new DeviceChannel({ fd: mount.fd, buffersMax: 1 });
    const filesystem = new SmallFilesystem(channel);
    const end = ended(filesystem);
    channel.open(filesystem);
    filesystem.delayMs = 3600_000;
    const waiting = client('stat', `${mount.path}/hello`);
    while (!filesystem.opcodes.some((opcode) => opcode !== 26)) await new Promise((resolve) => setTimeout(resolve, 5));
    mount.abort();
    await end;
    expect(filesystem.closed?.reason).toBe('unmounted');
    expect((await waiting).code).toBe(1);
  });

  test('close() within a handler sends the staged reply, then ends', async () => {
    const channel = new DeviceChannel({ fd: mount.fd });
    const filesystem = new SmallFilesystem(channel);
    const end = ended(filesystem);
    filesystem.onOpcode = (opcode) => {
      if (opcode !== OPCODE_GETATTR) return;
      channel.close();
    };
    channel.open(filesystem);
    // The root's attributes are answered by the reply that is staged after close().
    expect((await client('stat', '-c', '%F', mount.path)).stdout).toBe('directory\n');
    await end;
    expect(filesystem.closed).toEqual({ reason: 'closed', errno: 0 });
  });

  test('a handler that throws harms nobody else', async () => {
    const faults: unknown[] = [];
    const channel = new DeviceChannel({ fd: mount.fd, onFault: (error) => faults.push(error) });
    const filesystem = new SmallFilesystem(channel);
    const end = ended(filesystem);
    let left = 1;
    filesystem.onOpcode = (opcode) => {
      if (opcode === OPCODE_GETATTR && left-- > 0) throw new Error('a handler failed');
    };
    channel.open(filesystem);
    const first = client('stat', mount.path);
    while (faults.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    expect((await client('stat', '-c', '%F', `${mount.path}/hello`)).stdout).toBe('regular file\n');
    expect(faults).toEqual([new Error('a handler failed')]);
    mount.abort();
    await end;
    expect((await first).code).toBe(1);
  });

  test('reports a refused reply', async () => {
    const channel = new DeviceChannel({ fd: mount.fd });
    const filesystem = new SmallFilesystem(channel);
    const end = ended(filesystem);
    let sent = false;
    filesystem.onOpcode = (opcode) => {
      if (opcode !== OPCODE_GETATTR || sent) return;
      sent = true;
      // Nobody asked this. It is flushed by the reply that follows, and refused.
      const reply = channel.acquire(16);
      reply.words.set([16, 0, 0xabcdef0, 0]);
      expect(channel.send(reply, 16)).toBe(0);
    };
    channel.open(filesystem);
    expect((await client('stat', '-c', '%F', mount.path)).stdout).toBe('directory\n');
    expect(filesystem.refused).toEqual([2]);
    const late = channel.acquire(16);
    late.words.set([16, 0, 0xabcdef0, 0]);
    expect(channel.send(late, 16)).toBe(-2);
    mount.unmount();
    await end;
    expect(channel.send(channel.acquire(16), 16)).toBe(-19);
  });

  test('grows the receive buffers to what INIT negotiated', async () => {
    const channel = new DeviceChannel({ fd: mount.fd, receiveBytes: 8192 });
    const filesystem = new SmallFilesystem(channel);
    const end = ended(filesystem);
    channel.open(filesystem);
    expect((await client('cat', `${mount.path}/hello`)).stdout).toBe(filesystem.content);
    expect(channel.receiveBytesMax).toBe(2 * 1024 * 1024);
    mount.unmount();
    await end;
  });

  test('clones share the work, and each answers what it received', async () => {
    const first = new DeviceChannel({ fd: mount.fd });
    const filesystems = [new SmallFilesystem(first)];
    const ends = [ended(filesystems[0])];
    first.open(filesystems[0]);
    expect((await client('stat', mount.path)).code).toBe(0);
    for (let index = 0; index < 2; index++) {
      const clone = cloneDevice(mount.fd);
      expect(clone.isShared).toBe(false);
      const channel = new DeviceChannel({ fd: clone.fd });
      const filesystem = new SmallFilesystem(channel);
      filesystems.push(filesystem);
      ends.push(ended(filesystem));
      channel.open(filesystem);
    }
    const clients = await Promise.all(Array.from({ length: 8 }, () => client('cat', `${mount.path}/hello`)));
    for (const { stdout } of clients) expect(stdout).toBe(filesystems[0].content);
    mount.unmount();
    await Promise.all(ends);
    for (const filesystem of filesystems) expect(filesystem.closed?.reason).toBe('unmounted');
  });

  test('an unattached descriptor cannot be cloned', () => {
    const addon = loadAddon();
    const stranger = addon.openat(-100, '/dev/fuse', 2, 0);
    expect(() => cloneDevice(stranger)).toThrow(expect.objectContaining({ code: 'ERR_FUSEWIRE_CLONE', errno: 1 }));
    addon.close(stranger);
    mount.unmount();
    addon.close(mount.fd);
  });
});

test('receive buffers hold every message of what was negotiated', () => {
  expect(receiveBytesFor({ maxWriteBytes: 1 << 20, maxPages: 256 })).toBe((1 << 20) + 4096);
  expect(receiveBytesFor({ maxWriteBytes: 4096, maxPages: 512 })).toBe(512 * 4096 + 4096);
  expect(receiveBytesFor({ maxWriteBytes: 4096, maxPages: 1 })).toBe(69632);
});

interface Daemon {
  child: ChildProcessWithoutNullStreams;
  /** The next line of its output. */
  line(): Promise<string>;
  say(command: string): void;
  exitCode: Promise<number | null>;
}

function startDaemon(fd: number, ...args: string[]): Daemon {
  const child = spawn(process.execPath, [DAEMON, ...args], {
    stdio: ['pipe', 'pipe', 'pipe', fd],
  }) as unknown as ChildProcessWithoutNullStreams;
  let errors = '';
  child.stderr.setEncoding('utf8').on('data', (data: string) => {
    errors += data;
  });
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  const exitCode = new Promise<number | null>((resolve) => child.on('exit', resolve));
  return {
    child,
    line: async () => {
      const { value, done } = await lines.next();
      if (done) throw new Error(`the daemon ended: ${errors}`);
      return value;
    },
    say: (command) => child.stdin.write(`${command}\n`),
    exitCode,
  };
}

describe.skipIf(!isDevicePresent())('device channel in blocking mode on a worker thread', () => {
  let daemon: Daemon;

  function start(...args: string[]): void {
    mount = makeMount();
    daemon = startDaemon(mount.fd, ...args);
    // The daemon alone holds the connection, so that its end is the connection's.
    loadAddon().close(mount.fd);
  }

  afterEach(() => {
    daemon.child.kill('SIGKILL');
    mount.clean();
  });

  test.each([[[]], [['5']]])('serves, answers a control message while asleep, and ends as unmounted %j', async (delay) => {
    start('blocking', ...delay);
    expect(await daemon.line()).toMatch(/^ready \d+$/);
    for (let round = 0; round < 3; round++) {
      expect((await client('cat', `${mount.path}/hello`)).stdout).toBe('hello from the device\n');
      daemon.say('ping');
      expect(await daemon.line()).toBe('pong');
    }
    const clients = await Promise.all(Array.from({ length: 4 }, () => client('stat', `${mount.path}/hello`)));
    for (const { code } of clients) expect(code).toBe(0);
    expect(mount.unmount()).toBe(0);
    expect(await daemon.line()).toBe('closed unmounted');
    expect(await daemon.exitCode).toBe(0);
  });

  test('close() asked for from another thread ends a sleeping channel', async () => {
    start('blocking');
    await daemon.line();
    expect((await client('stat', `${mount.path}/hello`)).code).toBe(0);
    daemon.say('close');
    expect(await daemon.line()).toBe('closed closed');
    expect(await daemon.exitCode).toBe(0);
    expect((await client('stat', `${mount.path}/hello`)).code).toBe(1);
  });

  test('process.exit() does not wait for a thread that sleeps in the kernel', async () => {
    start('blocking');
    await daemon.line();
    expect((await client('stat', `${mount.path}/hello`)).code).toBe(0);
    const asked = Date.now();
    daemon.say('exit');
    expect(await daemon.exitCode).toBe(7);
    expect(Date.now() - asked).toBeLessThan(2000);
  });
});
