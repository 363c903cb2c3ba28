/** The caller of a mount that a test drives step by step: test/clients/aio/client.c. */
import { clientProgram } from '../clients/build.ts';
import { LineProcess } from './harness.ts';

/** What one system call returned. */
export interface CallResult {
  /** Its result, or the negative errno. */
  result: number;
  /** Of a read: `same` when every byte is the pattern of its offset, else `differs@OFFSET`. Empty for other calls. */
  data: string;
  /** Microseconds since the client began. */
  at: number;
}

const LIMIT_MS = 8000;

export class Client extends LineProcess {
  #tags = 0;

  static async start(options: { uid?: number; gid?: number } = {}): Promise<Client> {
    const client = new Client([clientProgram('client')], options);
    await client.line((line) => line.includes(' ready '), LIMIT_MS, 'the line `ready`');
    return client;
  }

  /** Opens and expects success. */
  async open(slot: number, path: string, flags: string): Promise<void> {
    const { result } = await this.opening(slot, path, flags).wait();
    if (result !== 0) throw new Error(`open ${path} ${flags} failed with errno ${-result}`);
  }

  opening(slot: number, path: string, flags: string): Call {
    this.send(`open ${slot} ${path} ${flags}`);
    return this.#call('open', String(slot));
  }

  pread(slot: number, offset: number, length: number, shift = 0): Call {
    return this.#start('pread', slot, offset, length, shift);
  }

  pwrite(slot: number, offset: number, length: number, shift = 0): Call {
    return this.#start('pwrite', slot, offset, length, shift);
  }

  /** Queues an asynchronous read for the next submit; the call is its completion, printed by events(). */
  aread(slot: number, offset: number, length: number, shift = 0): Call {
    return this.#start('aread', slot, offset, length, shift, 'event');
  }

  awrite(slot: number, offset: number, length: number, shift = 0): Call {
    return this.#start('awrite', slot, offset, length, shift, 'event');
  }

  submit(): Call {
    return this.#start('submit');
  }

  /** Collects completions until there are `minimum`, or the time is over; its result is how many came. */
  events(minimum: number, timeoutMs: number): Call {
    return this.#start('events', minimum, timeoutMs);
  }

  fstat(slot: number): Call {
    return this.#start('fstat', slot);
  }

  /** The words of a command are `command tag arguments…`. */
  #start(command: string, ...rest: (number | string)[]): Call {
    const word = rest.at(-1) === 'event' ? (rest.pop() as string) : command;
    const tag = `t${++this.#tags}`;
    this.send(`${command} ${tag} ${rest.join(' ')}`);
    return this.#call(word, tag);
  }

  #call(word: string, tag: string): Call {
    return new Call(this, word, tag, this.lines.length);
  }
}

/** One system call of a client, under way or done. */
export class Call {
  readonly #client: Client;
  readonly #start: string;
  readonly #from: number;

  constructor(client: Client, word: string, tag: string, from: number) {
    this.#client = client;
    this.#start = ` ${word} ${tag} `;
    this.#from = from;
  }

  /** Whether its result was printed. */
  get done(): boolean {
    return this.#client.lines.slice(this.#from).some((line) => line.includes(this.#start));
  }

  /** Its result, within the time limit. */
  async wait(timeoutMs = LIMIT_MS): Promise<CallResult> {
    const mine = (line: string) => line.includes(this.#start) && this.#client.lines.indexOf(line) >= this.#from;
    const line = await this.#client.line(mine, timeoutMs, `the result of${this.#start}`);
    const [at, , , result, data] = line.split(' ');
    return { at: Number(at), result: Number(result), data: data ?? '' };
  }
}
