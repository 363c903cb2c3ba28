/** Files of sources that only read and write whole files: their contents lie in memory while they are open. */
import { ERRNO, FuseError } from '../filesystem/index.ts';
import type { PathHandle } from './source.ts';

/** What the openings of one file share. */
export class Content {
  #bytes: Uint8Array;
  size: number;
  dirty = false;
  /** Counts changes, so that a save knows whether it saved the newest. */
  version = 0;
  openings = 0;
  readonly #limit: number;

  constructor(bytes: Uint8Array, limit: number) {
    if (bytes.byteLength > limit) throw FuseError.of(ERRNO.EFBIG);
    this.#bytes = bytes;
    this.size = bytes.byteLength;
    this.#limit = limit;
  }

  bytes(): Uint8Array {
    return this.#bytes.subarray(0, this.size);
  }

  read(buffer: Uint8Array, offset: number, length: number, position: number): number {
    const count = Math.max(0, Math.min(length, this.size - position));
    buffer.set(this.#bytes.subarray(position, position + count), offset);
    return count;
  }

  write(buffer: Uint8Array, offset: number, length: number, position: number): number {
    this.#reserve(position + length);
    this.#bytes.set(buffer.subarray(offset, offset + length), position);
    this.size = Math.max(this.size, position + length);
    this.#changed();
    return length;
  }

  truncate(length: number): void {
    this.#reserve(length);
    if (length < this.size) this.#bytes.fill(0, length, this.size);
    this.size = length;
    this.#changed();
  }

  #changed(): void {
    this.dirty = true;
    this.version++;
  }

  /** Room for `length` bytes, zeros beyond what was there. The source's own bytes are never written to. */
  #reserve(length: number): void {
    if (length > this.#limit) throw FuseError.of(ERRNO.EFBIG);
    if (this.version > 0 && length <= this.#bytes.byteLength) return;
    const room = new Uint8Array(Math.max(length, Math.min(this.#limit, this.size * 2), 4096));
    room.set(this.bytes());
    this.#bytes = room;
  }
}

/** One opening of a {@link Content}. */
export class BufferedHandle implements PathHandle {
  readonly content: Content;
  readonly #append: boolean;

  constructor(content: Content, append: boolean) {
    this.content = content;
    this.#append = append;
    content.openings++;
  }

  read(buffer: Uint8Array, offset: number, length: number, position: number): number {
    return this.content.read(buffer, offset, length, position);
  }

  write(buffer: Uint8Array, offset: number, length: number, position: number): number {
    return this.content.write(buffer, offset, length, this.#append ? this.content.size : position);
  }

  truncate(length: number): void {
    this.content.truncate(length);
  }

  close(): void {
    this.content.openings--;
  }
}
