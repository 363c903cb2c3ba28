/** The latency proxy: how long, how much, and what goes wrong on the way. */
import { connect, createServer, type Server, type Socket } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { type LatencyProxy, type LatencyProxyOptions, latencyProxy } from '../../src/testing/proxy/index.ts';

const ends: (() => Promise<unknown> | unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

async function server(onConnection: (socket: Socket) => void): Promise<number> {
  const listening: Server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => {});
    ends.push(() => socket.destroy());
    onConnection(socket);
  });
  await new Promise<void>((resolve) => listening.listen(0, '127.0.0.1', resolve));
  ends.push(() => listening.close());
  return (listening.address() as { port: number }).port;
}

const echo = () => server((socket) => socket.pipe(socket));

async function through(port: number, options: Omit<LatencyProxyOptions, 'target'> = {}): Promise<LatencyProxy> {
  const proxy = await latencyProxy({ target: { port }, ...options });
  ends.push(() => proxy.close());
  return proxy;
}

async function client(proxy: LatencyProxy): Promise<Socket> {
  const socket = connect({ host: proxy.host, port: proxy.port, noDelay: true, allowHalfOpen: true });
  socket.on('error', () => {});
  ends.push(() => socket.destroy());
  await new Promise((resolve) => socket.once('connect', resolve));
  return socket;
}

/** Sends and waits for as many bytes, milliseconds. */
function roundTrip(socket: Socket, bytes = 16): Promise<number> {
  const start = performance.now();
  return new Promise((resolve) => {
    let left = bytes;
    const onData = (chunk: Buffer) => {
      left -= chunk.length;
      if (left > 0) return;
      socket.off('data', onData);
      resolve(performance.now() - start);
    };
    socket.on('data', onData);
    socket.write(Buffer.alloc(bytes, 7));
  });
}

describe('the latency proxy', () => {
  it.each([1, 5, 20])('adds a round-trip of %d ms, never less', async (roundTripMs) => {
    const socket = await client(await through(await echo(), { roundTripMs }));
    await roundTrip(socket);
    const times: number[] = [];
    for (let round = 0; round < 25; round++) times.push(await roundTrip(socket));
    expect(Math.min(...times)).toBeGreaterThanOrEqual(roundTripMs);
    // The best of many: the others say how busy the machine is.
    expect(Math.min(...times)).toBeLessThan(roundTripMs + 5);
  });

  it('keeps what is sent together together: 64 requests cost one round-trip', async () => {
    const proxy = await through(await echo(), { roundTripMs: 40 });
    const sockets = await Promise.all(Array.from({ length: 4 }, () => client(proxy)));
    const times: number[] = [];
    for (let round = 0; round < 5; round++) {
      const start = performance.now();
      await Promise.all(sockets.map((socket) => roundTrip(socket, 16 * 4096)));
      times.push(performance.now() - start);
    }
    expect(Math.min(...times)).toBeGreaterThanOrEqual(40);
    expect(Math.min(...times)).toBeLessThan(80);
  });

  it('limits the bandwidth of all connections together', async () => {
    const proxy = await through(await echo(), { bytesPerSecond: 4_000_000 });
    const sockets = await Promise.all([client(proxy), client(proxy)]);
    const start = performance.now();
    await Promise.all(sockets.map((socket) => roundTrip(socket, 500_000)));
    // A million bytes at 4 MB/s are 250 ms in each direction, and both directions run at a time.
    expect(performance.now() - start).toBeGreaterThanOrEqual(249);
  });

  it('delivers every byte in order, and holds back a sender that is too fast', async () => {
    const received: Buffer[] = [];
    const port = await server((socket) => {
      socket.on('data', (chunk: Buffer) => received.push(chunk));
      socket.on('end', () => socket.end('done'));
    });
    const proxy = await through(port, { roundTripMs: 4, bytesPerSecond: 20_000_000, bufferBytes: 64 << 10 });
    const socket = await client(proxy);
    const sent = Buffer.from(Array.from({ length: 2_000_000 }, (_, index) => (index * 31 + (index >> 8)) & 255));
    const answer = new Promise<string>((resolve) => {
      let text = '';
      socket.on('data', (chunk) => {
        text += chunk;
      });
      socket.on('end', () => resolve(text));
    });
    socket.end(sent);
    expect(await answer).toBe('done');
    expect(Buffer.concat(received).equals(sent)).toBe(true);
    expect(proxy.counters).toMatchObject({ connections: 1, upBytes: 2_000_000, downBytes: 4 });
  });

  it('stalls and resumes, and connections stay', async () => {
    const proxy = await through(await echo());
    const socket = await client(proxy);
    await roundTrip(socket);
    proxy.stall();
    let answered = false;
    const answer = roundTrip(socket).then((took) => {
      answered = true;
      return took;
    });
    await new Promise((resolve) => setTimeout(resolve, 60));
    expect(answered).toBe(false);
    proxy.resume();
    expect(await answer).toBeGreaterThanOrEqual(55);
  });

  it('cuts connections with a reset, and takes new ones', async () => {
    const proxy = await through(await echo());
    const socket = await client(proxy);
    await roundTrip(socket);
    const failed = new Promise<NodeJS.ErrnoException>((resolve) => socket.once('error', resolve));
    proxy.cut();
    expect((await failed).code).toBe('ECONNRESET');
    expect(await roundTrip(await client(proxy))).toBeGreaterThan(0);
  });

  it('breaks the connection when the target cannot be reached', async () => {
    const port = await echo();
    await ends.splice(0)[0]();
    const proxy = await through(port);
    const socket = connect({ host: proxy.host, port: proxy.port });
    ends.push(() => socket.destroy());
    socket.on('error', () => {});
    await new Promise((resolve) => socket.once('close', resolve));
    expect(proxy.counters.connectionsNow).toBeLessThanOrEqual(1);
  });

  it('changes its settings while connections are there', async () => {
    const proxy = await through(await echo(), { roundTripMs: 60 });
    const socket = await client(proxy);
    expect(await roundTrip(socket)).toBeGreaterThanOrEqual(60);
    proxy.change({ roundTripMs: 0 });
    const times: number[] = [];
    for (let round = 0; round < 5; round++) times.push(await roundTrip(socket));
    expect(Math.min(...times)).toBeLessThan(30);
  });

  it('refuses settings out of their range', async () => {
    const refusal = { code: 'ERR_FUSEWIRE_PROXY_OPTION' };
    await expect(latencyProxy({ target: { port: 1 }, roundTripMs: -1 })).rejects.toMatchObject(refusal);
    await expect(latencyProxy({ target: { port: 1 }, bytesPerSecond: Number.NaN })).rejects.toMatchObject(refusal);
  });
});
