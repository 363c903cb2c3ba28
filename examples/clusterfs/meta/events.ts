/** What other mounts changed, as they change it: read from the volume's stream, over a connection of its own. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Connection, Reply } from '../redis/connection.ts';
import type { Meta } from './meta.ts';

export type Change =
  | { readonly kind: 'contents' | 'attributes' | 'lock'; readonly ino: number }
  | { readonly kind: 'name'; readonly parent: number; readonly name: string };

export interface EventHandlers {
  /** Changes of other sessions, in order. */
  readonly onChanges: (changes: readonly Change[]) => void;
  /** Nothing is heard any more: what is remembered may be old from now on. */
  readonly onSilence: () => void;
  /** It is heard again, and something may have been missed. */
  readonly onRestored: () => void;
}

const BLOCK_MS = 2000;
const COUNT = 512;
const PAUSE_MS = 50;

export class Events {
  readonly #meta: Meta;
  readonly #handlers: EventHandlers;
  #connection: Connection | undefined;
  /** The node that it leads to. */
  #owner: string | undefined;
  #place = '$';
  #number = -1;
  #live = false;
  #ended = false;

  private constructor(meta: Meta, handlers: EventHandlers) {
    this.#meta = meta;
    this.#handlers = handlers;
  }

  /** Resolves when it listens. */
  static async begin(meta: Meta, handlers: EventHandlers): Promise<Events> {
    const events = new Events(meta, handlers);
    await events.#connect();
    void events.#run();
    return events;
  }

  /** Whether changes are heard: only then may anything be believed for longer than a moment. */
  get live(): boolean {
    return this.#live;
  }

  end(): void {
    this.#ended = true;
    this.#live = false;
    this.#connection?.destroy();
  }

  get #key(): string {
    return `${this.#meta.tag}:events`;
  }

  /** Starts at the newest event: what was before it has to be asked for anyway. */
  async #connect(): Promise<void> {
    this.#owner = this.#meta.cluster.ownerOf(this.#meta.slot);
    const connection = await this.#meta.cluster.dedicated(this.#meta.slot, BLOCK_MS * 2);
    try {
      const newest = (await connection.send(['XREVRANGE', this.#key, '+', '-', 'COUNT', '1'])) as readonly Reply[];
      const entry = newest[0] as readonly [Buffer, readonly Buffer[]] | undefined;
      this.#place = entry === undefined ? '0-0' : String(entry[0]);
      this.#number = entry === undefined ? -1 : Number(String(entry[1][1]));
    } catch (error) {
      connection.destroy();
      throw error;
    }
    this.#connection = connection;
    this.#live = true;
  }

  async #run(): Promise<void> {
    while (!this.#ended) {
      try {
        if (this.#connection === undefined || this.#connection.ended) {
          await this.#connect();
          this.#handlers.onRestored();
        }
        await this.#read(this.#connection as unknown as Connection);
      } catch {
        if (this.#ended) return;
        this.#connection?.destroy();
        if (this.#live) {
          this.#live = false;
          this.#handlers.onSilence();
        }
        await sleep(PAUSE_MS, undefined, { ref: false });
        await this.#meta.cluster.refresh().catch(() => {});
      }
    }
  }

  async #read(connection: Connection): Promise<void> {
    const words = ['XREAD', 'COUNT', String(COUNT), 'BLOCK', String(BLOCK_MS), 'STREAMS', this.#key, this.#place];
    const reply = (await connection.send(words)) as readonly (readonly [Buffer, readonly Reply[]])[] | null;
    if (reply === null) return await this.#assertMaster(connection);
    const changes: Change[] = [];
    let missed = false;
    for (const entry of reply[0][1] as readonly (readonly [Buffer, readonly Buffer[]])[]) {
      const [place, [, number, , session, ...rest]] = entry;
      this.#place = String(place);
      // Numbers have no gaps but where the stream was cut before we came to it.
      missed ||= this.#number >= 0 && Number(String(number)) !== this.#number + 1;
      this.#number = Number(String(number));
      if (String(session) === this.#meta.session) continue;
      for (let at = 1; at < rest.length; at += 2) changes.push(decode(rest[at]));
    }
    if (missed) this.#handlers.onRestored();
    if (changes.length > 0) this.#handlers.onChanges(changes);
  }

  /** A node that lost its office tells nothing more: better to ask than to listen to it for ever. */
  async #assertMaster(connection: Connection): Promise<void> {
    const owner = this.#meta.cluster.ownerOf(this.#meta.slot);
    const [role] = (await connection.send(['ROLE'])) as readonly Reply[];
    if (String(role) !== 'master' || owner !== this.#owner) connection.destroy();
  }
}

function decode(event: Buffer): Change {
  const kind = String.fromCharCode(event[0]);
  if (kind === 'n') {
    const space = event.indexOf(' ', 2);
    return { kind: 'name', parent: Number(event.toString('latin1', 2, space)), name: event.toString('latin1', space + 1) };
  }
  const ino = Number(event.toString('latin1', 2));
  return { kind: kind === 'c' ? 'contents' : kind === 'a' ? 'attributes' : 'lock', ino };
}
