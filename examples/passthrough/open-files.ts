/**
 * The descriptors that stand behind open files: one bit for each descriptor number, in memory that all workers share. A
 * file handle of the protocol is the host's descriptor itself, so the bit is what tells a handle from any other number,
 * and what is still open when a mount ends without RELEASE (after an abort) can be closed.
 */
import { type FileHandle, FuseError } from 'fusewire';
import { EBADF, ENFILE } from './linux.ts';

export class OpenFiles {
  readonly #bits: Int32Array;

  /** Memory for descriptors below `descriptorsMax`. */
  static reserve(descriptorsMax: number): SharedArrayBuffer {
    return new SharedArrayBuffer(Math.ceil(descriptorsMax / 32) * 4);
  }

  constructor(memory: SharedArrayBuffer) {
    this.#bits = new Int32Array(memory);
  }

  /** Makes a handle of a descriptor. Throws ENFILE when its number is beyond what was reserved; the caller closes it. */
  add(fd: number): FileHandle {
    if (fd >>> 5 >= this.#bits.length) throw FuseError.of(ENFILE);
    Atomics.or(this.#bits, fd >>> 5, 1 << (fd & 31));
    return fd as FileHandle;
  }

  /** The descriptor of a handle. Throws EBADF for a number that is no open handle. */
  fd(handle: FileHandle): number {
    const open = handle < this.#bits.length * 32 && (Atomics.load(this.#bits, handle >>> 5) & (1 << (handle & 31))) !== 0;
    if (!open) throw FuseError.of(EBADF);
    return handle;
  }

  /** Ends a handle; answers the descriptor, for the caller to close. Only one of two callers gets it. */
  remove(handle: FileHandle): number {
    const fd = this.fd(handle);
    const bit = 1 << (fd & 31);
    if ((Atomics.and(this.#bits, fd >>> 5, ~bit) & bit) === 0) throw FuseError.of(EBADF);
    return fd;
  }

  /** Takes a handle back that was never answered, if there is one. */
  drop(fd: number): void {
    if (fd >>> 5 < this.#bits.length) Atomics.and(this.#bits, fd >>> 5, ~(1 << (fd & 31)));
  }

  /** Descriptors of all open handles. */
  *descriptors(): Generator<number> {
    for (let word = 0; word < this.#bits.length; word++) {
      for (let bits = this.#bits[word]; bits !== 0; bits &= bits - 1) yield word * 32 + 31 - Math.clz32(bits & -bits);
    }
  }
}
