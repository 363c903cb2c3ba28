/** The client of the block server: pipelined, over a few connections. */
import { connect, type Socket } from 'node:net';
import type { ByteRange, Bytes, StorageBackend } from 'fusewire/storage';
import { Frames, HEAD_BYTES, RANGE_BYTES, type ServerCounts } from './wire.ts';

export class BlockClient {
  readonly #sockets: Socket[];
  readonly #waiting = new Map<number, { resolve: (body: Buffer[]) => void; reject: (error: Error) => void }>();
  #number = 0;

  private constructor(sockets: Socket[]) {
    this.#sockets = sockets;
    for (const socket of sockets) {
      const frames = new Frames(
        (head) => head.readUInt32LE(4),
        (head, body) => {
          const number = head.readUInt32LE(0);
          this.#waiting.get(number)?.resolve(body);
          this.#waiting.delete(number);
        },
      );
      socket.on('data', (chunk: Buffer) => frames.push(chunk));
      socket.on('close', () => {
        for (const { reject } of this.#waiting.values()) reject(new Error('the connection to the block server is gone'));
        this.#waiting.clear();
      });
    }
  }

  static async connect(port: number, connections: number): Promise<BlockClient> {
    const sockets = await Promise.all(
      Array.from(
        { length: connections },
        () =>
          new Promise<Socket>((resolve, reject) => {
            const socket = connect({ port, host: '127.0.0.1', noDelay: true }, () => resolve(socket));
            socket.once('error', reject);
          }),
      ),
    );
    return new BlockClient(sockets);
  }

  #ask(ranges: readonly ByteRange[]): Promise<Buffer[]> {
    const number = ++this.#number;
    const request = Buffer.allocUnsafe(HEAD_BYTES + ranges.length * RANGE_BYTES);
    request.writeUInt32LE(number, 0);
    request.writeUInt32LE(ranges.length, 4);
    let at = HEAD_BYTES;
    for (const { offset, length } of ranges) {
      request.writeDoubleLE(offset, at);
      request.writeUInt32LE(length, at + 8);
      at += RANGE_BYTES;
    }
    return new Promise((resolve, reject) => {
      this.#waiting.set(number, { resolve, reject });
      this.#sockets[number % this.#sockets.length].write(request);
    });
  }

  read(offset: number, length: number): Promise<Buffer[]> {
    return this.#ask([{ offset, length }]);
  }

  async readRanges(ranges: readonly ByteRange[]): Promise<readonly Bytes[]> {
    const body = await this.#ask(ranges);
    if (ranges.length === 1) return [body];
    const whole = body.length === 1 ? body[0] : Buffer.concat(body);
    let at = 0;
    return ranges.map(({ length }) => {
      at += length;
      return whole.subarray(at - length, at);
    });
  }

  async counts(): Promise<ServerCounts> {
    return JSON.parse(Buffer.concat(await this.#ask([])).toString()) as ServerCounts;
  }

  backend(): StorageBackend {
    return { readRanges: (ranges) => this.readRanges(ranges) };
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy();
  }
}
