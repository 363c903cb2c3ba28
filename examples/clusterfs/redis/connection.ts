/** One connection to one node. It never reconnects: who needs another asks the cluster for one. */
import { createClient, ErrorReply, RESP_TYPES } from '@redis/client';

/** A word of a command. */
export type Argument = string | Buffer;

/** What a server answers: text and numbers come as bytes, but for statuses (`OK`) and integers. */
export type Reply = string | number | Buffer | null | Error | readonly Reply[];

export interface ConnectionOptions {
  readonly username?: string;
  readonly password?: string;
  /** TLS, with what node:tls takes (ca, cert, key); `true` for the defaults. */
  readonly tls?: boolean | Readonly<Record<string, unknown>>;
  /** How long connecting may take, milliseconds. */
  readonly connectMs: number;
  /** How long a server may stay silent while commands wait, milliseconds; then the connection counts as dead. */
  readonly silenceMs: number;
}

/** The connection ended before the answer came: whether the command was executed is not known. */
export class ConnectionLost extends Error {
  override readonly name = 'ConnectionLost';
}

const TYPE_MAPPING = { [RESP_TYPES.BLOB_STRING]: Buffer } as const;

function makeClient(host: string, port: number, options: ConnectionOptions) {
  const { username, password, tls, connectMs } = options;
  const secure = tls === undefined || tls === false ? {} : { tls: true as const, ...(tls === true ? {} : tls) };
  return createClient({
    RESP: 2,
    socket: { host, port, connectTimeout: connectMs, reconnectStrategy: false, keepAlive: true, noDelay: true, ...secure },
    disableOfflineQueue: true,
    disableClientInfo: true,
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password }),
  });
}

let connections = 0;

export class Connection {
  /** Unlike that of any other connection of this process. */
  readonly id = String(++connections);
  readonly host: string;
  readonly port: number;
  readonly #client: ReturnType<typeof makeClient>;
  readonly #silenceMs: number;
  #waiting = 0;
  #heardAt = 0;
  #watch: NodeJS.Timeout | undefined;
  #ended = false;

  private constructor(host: string, port: number, options: ConnectionOptions) {
    this.host = host;
    this.port = port;
    this.#silenceMs = options.silenceMs;
    this.#client = makeClient(host, port, options);
    // Errors reach whoever waits for a command; without a listener they would end the process.
    this.#client.on('error', () => this.destroy());
    this.#client.on('end', () => this.destroy());
  }

  /** Rejects with an ErrorReply when the server refuses (a wrong password), else with {@link ConnectionLost}. */
  static async open(host: string, port: number, options: ConnectionOptions): Promise<Connection> {
    const connection = new Connection(host, port, options);
    const timer = setTimeout(() => connection.destroy(), options.connectMs);
    try {
      await connection.#client.connect();
      if (connection.#ended) throw new ConnectionLost(`${host}:${port} closed the connection`);
    } catch (error) {
      connection.destroy();
      if (error instanceof ErrorReply) throw error;
      throw new ConnectionLost(`${host}:${port} does not answer: ${(error as Error).message}`, { cause: error });
    } finally {
      clearTimeout(timer);
    }
    return connection;
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** Sends a command at once; commands of one turn of the event loop leave together, and are answered in order. */
  async send(words: readonly Argument[]): Promise<Reply> {
    if (this.#ended) throw new ConnectionLost(`${this.host}:${this.port} closed the connection`);
    if (this.#waiting++ === 0) this.#listen();
    try {
      return (await this.#client.sendCommand(words as Argument[], { typeMapping: TYPE_MAPPING })) as Reply;
    } catch (error) {
      if (error instanceof ErrorReply) throw error;
      this.destroy();
      throw new ConnectionLost(`${this.host}:${this.port} closed the connection`, { cause: error });
    } finally {
      this.#heardAt = performance.now();
      if (--this.#waiting === 0) this.#unlisten();
    }
  }

  destroy(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#unlisten();
    try {
      this.#client.destroy();
    } catch {
      // It was not open any more.
    }
  }

  #listen(): void {
    this.#heardAt = performance.now();
    this.#watch = setInterval(
      () => {
        if (performance.now() - this.#heardAt > this.#silenceMs) this.destroy();
      },
      Math.max(50, this.#silenceMs / 4),
    );
  }

  #unlisten(): void {
    clearInterval(this.#watch);
    this.#watch = undefined;
  }
}
