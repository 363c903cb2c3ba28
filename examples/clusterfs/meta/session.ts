/** The session of a mount: a lease that is renewed, and a new one when it was lost. */
import { hostname } from 'node:os';
import type { Argument } from '../redis/connection.ts';
import type { Meta } from './meta.ts';

export interface SessionSettings {
  /** How long others wait for a mount that is silent before they take what it holds, milliseconds. */
  readonly leaseMs: number;
  /** What `clusterfs status` shows of it. */
  readonly info?: Readonly<Record<string, unknown>>;
  /** There is a new session: what the old one had open has to be opened again, its locks are gone. */
  readonly onRenewed: () => Promise<void>;
  readonly onFault: (error: Error) => void;
}

export class Session {
  readonly #meta: Meta;
  readonly #settings: SessionSettings;
  #timer: NodeJS.Timeout | undefined;
  #renewing: Promise<void> | undefined;
  #ended = false;

  private constructor(meta: Meta, settings: SessionSettings) {
    this.#meta = meta;
    this.#settings = settings;
  }

  static async begin(meta: Meta, settings: SessionSettings): Promise<Session> {
    const session = new Session(meta, settings);
    await session.#begin();
    meta.renew = () => session.renew();
    session.#schedule(settings.leaseMs / 3);
    return session;
  }

  /** Lets go of everything. Without it the others wait for the lease to run out. */
  async end(): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    clearTimeout(this.#timer);
    this.#meta.renew = undefined;
    for (let more = true; more; ) {
      const [left] = await this.#meta.administer('session_end', [this.#meta.session]);
      more = String(left) === '1';
    }
  }

  /** As a killed process ends: for tests. */
  abandon(): void {
    this.#ended = true;
    clearTimeout(this.#timer);
    this.#meta.renew = undefined;
  }

  /** The lease ran out: begins another. Many may ask at a time. */
  renew(): Promise<void> {
    this.#renewing ??= this.#begin()
      .then(() => this.#settings.onRenewed())
      .finally(() => {
        this.#renewing = undefined;
      });
    return this.#renewing;
  }

  async #begin(): Promise<void> {
    const { leaseMs, info } = this.#settings;
    const words: Argument[] = [String(leaseMs), JSON.stringify({ host: hostname(), pid: process.pid, ...info })];
    const [sid] = await this.#meta.administer('session_begin', words);
    this.#meta.session = String(sid);
  }

  #schedule(ms: number): void {
    if (this.#ended) return;
    this.#timer = setTimeout(() => void this.#beat(), Math.max(20, ms));
    this.#timer.unref();
  }

  async #beat(): Promise<void> {
    const { leaseMs, onFault } = this.#settings;
    const session = this.#meta.session;
    let next = leaseMs / 3;
    try {
      const [otherEndsMs, dying] = await this.#meta.administer('heartbeat', [session, String(leaseMs)]);
      // Who is next to die is buried in time, for those who wait for its locks.
      if (String(otherEndsMs) !== '') next = Math.min(next, Number(otherEndsMs) + 20);
      if (String(dying) === '1') next = 20;
    } catch (error) {
      if (String((error as Error).message).includes('ESESSION')) await this.#meta.lost(session).catch(onFault);
      else onFault(error as Error);
      next = leaseMs / 10;
    }
    this.#schedule(next);
  }
}
