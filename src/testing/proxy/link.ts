/** What is between both ends: a direction with its delay and bandwidth, and the bytes of a connection that are on their way in it. */
import type { Socket } from 'node:net';
import { sharedNow } from './alarm-memory.ts';

/** One direction, which all connections share. */
export class Link {
  oneWayMs = 0;
  bytesPerMs = Number.POSITIVE_INFINITY;
  bufferBytes = 0;
  /** When the last byte of what was sent so far has left. */
  #freeAt = 0;

  /** When the last of `bytes`, sent now, arrive. */
  arrivalOf(bytes: number, now: number): number {
    const start = Math.max(this.#freeAt, now);
    this.#freeAt = start + bytes / this.bytesPerMs;
    return this.#freeAt + this.oneWayMs;
  }
}

/** Bytes on their way, or the end of the stream. */
interface Parcel {
  readonly due: number;
  readonly bytes: Buffer | undefined;
}

/** One direction of one connection: nothing overtakes anything in it. */
export class Pipe {
  readonly link: Link;
  readonly #from: Socket;
  readonly #to: Socket;
  #parcels: Parcel[] = [];
  #first = 0;
  #bytes = 0;
  #lastDue = 0;

  constructor(from: Socket, to: Socket, link: Link, hasNews: (pipe: Pipe) => void) {
    this.#from = from;
    this.#to = to;
    this.link = link;
    from.on('data', (bytes: Buffer) => {
      this.#push(bytes, link.arrivalOf(bytes.length, sharedNow()));
      hasNews(this);
      this.#regulate();
    });
    from.on('end', () => {
      this.#push(undefined, link.arrivalOf(0, sharedNow()));
      hasNews(this);
    });
    to.on('drain', () => this.#regulate());
  }

  /** When something is to be delivered next; Infinity when nothing is on its way. */
  get due(): number {
    return this.#first < this.#parcels.length ? this.#parcels[this.#first].due : Number.POSITIVE_INFINITY;
  }

  #push(bytes: Buffer | undefined, arrival: number): void {
    // A delay that was made shorter lets nothing overtake.
    this.#lastDue = Math.max(this.#lastDue, arrival);
    this.#parcels.push({ due: this.#lastDue, bytes });
    this.#bytes += bytes?.length ?? 0;
  }

  /** Delivers what has arrived by `now`; answers the bytes. */
  flush(now: number): number {
    let delivered = 0;
    this.#to.cork();
    while (this.due <= now) {
      const { bytes } = this.#parcels[this.#first++];
      if (bytes === undefined) {
        this.#to.end();
        continue;
      }
      delivered += bytes.length;
      if (!this.#to.destroyed) this.#to.write(bytes);
    }
    this.#to.uncork();
    this.#bytes -= delivered;
    if (this.#first === this.#parcels.length || this.#first > 1024) {
      this.#parcels = this.#parcels.slice(this.#first);
      this.#first = 0;
    }
    this.#regulate();
    return delivered;
  }

  /** The sender waits while too much is on its way, or the receiver does not take it. */
  #regulate(): void {
    const isFull = this.#bytes + this.#to.writableLength > this.link.bufferBytes;
    if (isFull === this.#from.isPaused()) return;
    if (isFull) this.#from.pause();
    else this.#from.resume();
  }
}
