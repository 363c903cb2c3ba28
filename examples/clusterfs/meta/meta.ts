/** Calls of the server-side functions of one volume. */
import { ERRNO, FuseError } from 'fusewire';
import { ClusterfsError } from '../errors.ts';
import type { RedisCluster } from '../redis/cluster.ts';
import type { Argument, Reply } from '../redis/connection.ts';
import { slotOf } from '../redis/slot.ts';
import { library } from './library.ts';

/** How many replicas have to confirm, and how long that may take. */
export interface Durability {
  readonly replicas: number;
  readonly waitMs: number;
}

export interface ChangeOptions {
  /** Ask for a confirmation by replicas before it counts as done. */
  readonly durability?: Durability;
  /** Fail with {@link SessionLost} where the session is gone, instead of going on with the next one. */
  readonly sameSession?: boolean;
}

/** The lease ran out, and what the session had is no longer its own. */
export class SessionLost extends Error {
  override readonly name = 'SessionLost';
}

/** The map has changed since: `answer` is what the function found. */
export class Conflict extends Error {
  override readonly name = 'Conflict';
  readonly answer: readonly Reply[];

  constructor(answer: readonly Reply[]) {
    super('the file was changed by somebody else');
    this.answer = answer;
  }
}

/** What makes room, or needs next to none: runs also when memory is full. */
const FREEING = new Set([
  ...[
    'unlink',
    'rmdir',
    'rename',
    'setattr',
    'open',
    'close',
    'sync',
    'removexattr',
    'unlock',
    'unwait',
    'heartbeat',
    'accessed',
  ],
  ...['session_begin', 'session_end', 'collect', 'collected'],
  ...['repair_name', 'repair_field', 'repair_counter', 'repair_orphan'],
]);

/** Calls of one session that may be under way at a time; the others wait for their turn. */
const SLOTS_MAX = 256;

export class Meta {
  readonly cluster: RedisCluster;
  readonly volume: string;
  /** What all keys of the volume begin with. */
  readonly tag: string;
  readonly slot: number;
  /** Makes a new session when this one is lost. Set by whoever has one. */
  renew: ((lost: string) => Promise<void>) | undefined;
  #session = '';
  readonly #numbers: number[] = new Array(SLOTS_MAX).fill(0);
  readonly #free = [...new Array(SLOTS_MAX).keys()];
  readonly #queue: ((slot: number) => void)[] = [];

  constructor(cluster: RedisCluster, volume: string) {
    this.cluster = cluster;
    this.volume = volume;
    this.tag = `{${volume}}`;
    this.slot = slotOf(this.tag);
  }

  get session(): string {
    return this.#session;
  }

  set session(session: string) {
    this.#session = session;
  }

  /** Puts the functions on the server that owns the volume; should it move to another, that one is asked to take them too. */
  async load(): Promise<void> {
    await this.cluster.send(this.slot, [['FUNCTION', 'LOAD', 'REPLACE', library().code]]);
  }

  /** Looks something up. Rejects with a FuseError for what the function refuses. */
  async read(operation: string, words: readonly Argument[], signal?: AbortSignal): Promise<readonly Reply[]> {
    return answerOf(await this.#call('read', [operation, ...words], { ...(signal === undefined ? {} : { signal }) }));
  }

  /** Changes something, exactly once, however often it has to be sent. */
  async change(operation: string, words: readonly Argument[], options: ChangeOptions = {}): Promise<readonly Reply[]> {
    const slot = this.#free.pop() ?? (await new Promise<number>((resolve) => this.#queue.push(resolve)));
    const number = String(++this.#numbers[slot]);
    try {
      for (;;) {
        const session = this.#session;
        const reply = await this.#change(operation, [session, String(slot), number, ...words], options);
        if (String((reply as readonly Reply[])[0]) !== 'ESESSION') return answerOf(reply);
        await this.lost(session);
        if (options.sameSession) throw new SessionLost();
      }
    } finally {
      const next = this.#queue.shift();
      if (next === undefined) this.#free.push(slot);
      else next(slot);
    }
  }

  /** A session was found to be gone. Resolves when there is another. */
  async lost(session: string): Promise<void> {
    if (session !== this.#session) return;
    if (this.renew === undefined) throw new ClusterfsError('ERR_CLUSTERFS_SESSION_LOST');
    await this.renew(session);
  }

  /** The same for what belongs to no session. */
  async administer(operation: string, words: readonly Argument[]): Promise<readonly Reply[]> {
    return answerOf(await this.#change(operation, ['', '', '', ...words], {}));
  }

  #change(operation: string, words: readonly Argument[], { durability }: ChangeOptions): Promise<Reply> {
    const kind = FREEING.has(operation) ? 'free' : 'write';
    return this.#call(kind, [operation, ...words], durability === undefined || durability.replicas === 0 ? {} : { durability });
  }

  async #call(
    kind: string,
    words: readonly Argument[],
    options: { signal?: AbortSignal; durability?: Durability },
  ): Promise<Reply> {
    const { durability, ...rest } = options;
    const command = [kind === 'read' ? 'FCALL_RO' : 'FCALL', `${library().name}_${kind}`, '1', this.tag, ...words];
    const commands = [command];
    if (durability !== undefined) commands.push(['WAIT', String(durability.replicas), String(durability.waitMs)]);
    for (let loads = 0; ; loads++) {
      try {
        const [reply, confirmed] = await this.cluster.send(this.slot, commands, {
          ...rest,
          lane: durability === undefined ? 'plain' : 'durable',
        });
        if (durability !== undefined && (confirmed as number) < durability.replicas) {
          throw new ClusterfsError('ERR_CLUSTERFS_NOT_REPLICATED', `${confirmed} of ${durability.replicas}`);
        }
        return reply;
      } catch (error) {
        // A master that was made anew has no functions.
        if (loads >= 3 || !(error as Error).message.includes('Function not found')) throw error;
        await this.load();
      }
    }
  }
}

function answerOf(reply: Reply): readonly Reply[] {
  const [word, ...rest] = reply as readonly Reply[];
  const status = String(word);
  if (status === 'ok') return rest;
  if (status === 'ECONFLICT') throw new Conflict(rest);
  if (status === 'EAGAIN' || status === 'EDEADLK' || status === 'EEXIST') throw new Refusal(status, rest);
  const errno = ERRNO[status];
  if (errno === undefined) throw new ClusterfsError('ERR_CLUSTERFS_SERVER', status);
  throw FuseError.of(errno);
}

/** A refusal with something to know beside it. */
export class Refusal extends FuseError {
  readonly answer: readonly Reply[];

  constructor(errno: string, answer: readonly Reply[]) {
    super(errno);
    this.answer = answer;
  }
}
