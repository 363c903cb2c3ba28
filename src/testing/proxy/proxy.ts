/** A TCP proxy that puts distance between both ends: round-trip time, bandwidth, and what goes wrong on the way. */
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { Alarm } from './alarm.ts';
import { sharedNow } from './alarm-memory.ts';
import { ProxyError } from './errors.ts';
import { Link, Pipe } from './link.ts';

export interface LatencyProxySettings {
  /** Milliseconds from a request to its answer, half of them in each direction. Default 0. */
  roundTripMs?: number;
  /** Bytes a second of each direction, which all connections share. Default: as many as there are. */
  bytesPerSecond?: number;
}

export interface LatencyProxyOptions extends LatencyProxySettings {
  /** Where connections lead. */
  target: { port: number; host?: string };
  /** Default 127.0.0.1. */
  host?: string;
  /** Default 0: any that is free. */
  port?: number;
  /**
   * Bytes that one direction of a connection may hold; then its sender waits. Default: what is on its way at the given
   * bandwidth, and 256 KiB; 64 MiB without a bandwidth.
   */
  bufferBytes?: number;
}

export interface LatencyProxyCounters {
  /** Connections that were made, and those that are there now. */
  connections: number;
  connectionsNow: number;
  /** Bytes that arrived at the target, and at those who connected. */
  upBytes: number;
  downBytes: number;
  /** Deliveries, and how late they were together, milliseconds. */
  deliveries: number;
  lateMs: number;
  lateMsMax: number;
}

export interface LatencyProxy {
  readonly host: string;
  readonly port: number;
  readonly counters: LatencyProxyCounters;
  /** New settings, for what arrives from now on. */
  change(settings: LatencyProxySettings): void;
  /** Delivers nothing until {@link resume}; connections stay. */
  stall(): void;
  resume(): void;
  /** Breaks every connection now, with a reset. New ones are taken. */
  cut(): void;
  /** Ends all. Idempotent. */
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** Starts a proxy. It keeps its process alive until it is closed. */
export async function latencyProxy(options: LatencyProxyOptions): Promise<LatencyProxy> {
  assertSettings(options);
  const proxy = new RunningProxy(options);
  await proxy.listen();
  return proxy;
}

function assertSettings({ roundTripMs = 0, bytesPerSecond = Number.POSITIVE_INFINITY }: LatencyProxySettings): void {
  if (!(roundTripMs >= 0 && roundTripMs <= 60_000))
    throw new ProxyError(`roundTripMs is a number from 0 to 60,000, not ${roundTripMs}`);
  if (!(bytesPerSecond >= 1000)) throw new ProxyError(`bytesPerSecond is a number from 1,000, not ${bytesPerSecond}`);
}

class RunningProxy implements LatencyProxy {
  readonly counters: LatencyProxyCounters = {
    connections: 0,
    connectionsNow: 0,
    upBytes: 0,
    downBytes: 0,
    deliveries: 0,
    lateMs: 0,
    lateMsMax: 0,
  };
  readonly #options: LatencyProxyOptions;
  readonly #server: Server;
  readonly #up = new Link();
  readonly #down = new Link();
  readonly #pipes = new Set<Pipe>();
  readonly #sockets = new Set<Socket>();
  readonly #alarm = new Alarm(() => this.#deliver());
  #isStalled = false;
  #closing: Promise<void> | undefined;

  constructor(options: LatencyProxyOptions) {
    this.#options = options;
    this.change(options);
    this.#server = createServer({ noDelay: true, allowHalfOpen: true }, (near) => this.#connect(near));
  }

  get host(): string {
    return this.#options.host ?? '127.0.0.1';
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  async listen(): Promise<void> {
    await this.#alarm.ready;
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(this.#options.port ?? 0, this.host, () => {
        this.#server.off('error', reject);
        resolve();
      });
    });
  }

  change(settings: LatencyProxySettings): void {
    assertSettings(settings);
    for (const link of [this.#up, this.#down]) {
      if (settings.roundTripMs !== undefined) link.oneWayMs = settings.roundTripMs / 2;
      if (settings.bytesPerSecond !== undefined) link.bytesPerMs = settings.bytesPerSecond / 1000;
      link.bufferBytes = this.#options.bufferBytes ?? bufferFor(link);
    }
  }

  stall(): void {
    this.#isStalled = true;
  }

  resume(): void {
    this.#isStalled = false;
    this.#deliver();
  }

  cut(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  close(): Promise<void> {
    this.#closing ??= this.#end();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #end(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
    await this.#alarm.close();
  }

  #connect(near: Socket): void {
    const { port, host = '127.0.0.1' } = this.#options.target;
    const far = connect({ port, host, noDelay: true, allowHalfOpen: true });
    this.counters.connections++;
    this.counters.connectionsNow++;
    const hasNews = (pipe: Pipe): void => this.#onNews(pipe);
    const up = new Pipe(near, far, this.#up, hasNews);
    const down = new Pipe(far, near, this.#down, hasNews);
    this.#pipes.add(up).add(down);
    let open = 2;
    for (const socket of [near, far]) {
      this.#sockets.add(socket);
      // Who sees one end break sees the other end break; the reason is of no interest here.
      socket.on('error', () => {});
      socket.on('close', (hadError) => {
        this.#sockets.delete(socket);
        const other = socket === near ? far : near;
        if (hadError && !other.destroyed) other.resetAndDestroy();
        else if (!socket.writableFinished || !socket.readableEnded) other.destroy();
        if (--open > 0) return;
        this.#pipes.delete(up);
        this.#pipes.delete(down);
        this.counters.connectionsNow--;
      });
    }
  }

  #onNews(pipe: Pipe): void {
    if (this.#isStalled) return;
    if (pipe.due <= sharedNow()) this.#flush(pipe, sharedNow());
    this.#setAlarm();
  }

  #deliver(): void {
    if (this.#isStalled) return;
    const now = sharedNow();
    for (const pipe of this.#pipes) this.#flush(pipe, now);
    this.#setAlarm();
  }

  #flush(pipe: Pipe, now: number): void {
    if (pipe.due > now) return;
    const { counters } = this;
    const late = now - pipe.due;
    counters.deliveries++;
    counters.lateMs += late;
    if (late > counters.lateMsMax) counters.lateMsMax = late;
    const bytes = pipe.flush(now);
    if (pipe.link === this.#up) counters.upBytes += bytes;
    else counters.downBytes += bytes;
  }

  #setAlarm(): void {
    let next = Number.POSITIVE_INFINITY;
    for (const pipe of this.#pipes) if (pipe.due < next) next = pipe.due;
    if (next !== Number.POSITIVE_INFINITY) this.#alarm.set(next);
  }
}

function bufferFor({ bytesPerMs, oneWayMs }: Link): number {
  return bytesPerMs === Number.POSITIVE_INFINITY ? 64 << 20 : (256 << 10) + Math.ceil(bytesPerMs * oneWayMs * 2);
}
