/** From the bytes of struct statx to attributes. */
import { type AttributesInit, makeDevice, type Timespec } from 'fusewire';
import type { Addon } from 'fusewire/native';
import type { FileIdentity } from './inode-table.ts';
import { STATX_BASIC_STATS, STATX_BTIME } from './linux.ts';

const WORD = 0x1_0000_0000;

// Where the fields of struct statx lie, in words. See <linux/stat.h>.
const BLKSIZE = 1;
const NLINK = 4;
const UID = 5;
const GID = 6;
const MODE = 7;
const INO = 8;
const SIZE = 10;
const BLOCKS = 12;
const ATIME = 16;
const BTIME = 20;
const CTIME = 24;
const MTIME = 28;
const RDEV_MAJOR = 32;
const RDEV_MINOR = 33;
const DEV_MAJOR = 34;
const DEV_MINOR = 35;

/** Attributes that are filled anew for every answer: the library copies them before the handler's next call. */
class ReusedAttributes implements AttributesInit {
  mode = 0;
  ino: number | bigint = 0;
  size = 0;
  blocks = 0;
  readonly atime: Timespec = { seconds: 0, nanoseconds: 0 };
  readonly mtime: Timespec = { seconds: 0, nanoseconds: 0 };
  readonly ctime: Timespec = { seconds: 0, nanoseconds: 0 };
  nlink = 0;
  uid = 0;
  gid = 0;
  rdev = 0;
  blksize = 0;
}

class ReusedBirthAttributes extends ReusedAttributes {
  readonly btime: Timespec = { seconds: 0, nanoseconds: 0 };
}

/**
 * The last file that was asked about. One object for each worker, overwritten by each question: read what you need
 * before you ask the next.
 */
export class Stat implements FileIdentity {
  readonly #addon: Addon;
  readonly #words: Uint32Array;
  readonly #attributes = new ReusedAttributes();
  readonly #withBirth = new ReusedBirthAttributes();

  constructor(addon: Addon) {
    this.#addon = addon;
    this.#words = new Uint32Array(addon.scratch, 0, 64);
  }

  /** statx(2). Returns 0 or the negative errno. `flags` are AT_*. */
  ask(dirfd: number, path: string, flags: number, mask = STATX_BASIC_STATS): number {
    return this.#addon.statx(dirfd, path, flags, mask, 0, 0);
  }

  get device(): number {
    return makeDevice(this.#words[DEV_MAJOR], this.#words[DEV_MINOR]);
  }

  get inoLow(): number {
    return this.#words[INO];
  }

  get inoHigh(): number {
    return this.#words[INO + 1];
  }

  /** What stat(2) shows. */
  attributes(): AttributesInit {
    this.#fill(this.#attributes);
    return this.#attributes;
  }

  /** What statx(2) shows: with the time of birth, where the host's filesystem records one. */
  attributesWithBirth(): AttributesInit {
    if ((this.#words[0] & STATX_BTIME) === 0) return this.attributes();
    this.#fill(this.#withBirth);
    this.#time(BTIME, this.#withBirth.btime);
    return this.#withBirth;
  }

  #fill(out: ReusedAttributes): void {
    const words = this.#words;
    // The upper half of the word is padding.
    out.mode = words[MODE] & 0xffff;
    out.ino =
      words[INO + 1] < 0x20_0000 ? words[INO + 1] * WORD + words[INO] : (BigInt(words[INO + 1]) << 32n) | BigInt(words[INO]);
    out.size = words[SIZE + 1] * WORD + words[SIZE];
    out.blocks = words[BLOCKS + 1] * WORD + words[BLOCKS];
    out.nlink = words[NLINK];
    out.uid = words[UID];
    out.gid = words[GID];
    out.rdev = makeDevice(words[RDEV_MAJOR], words[RDEV_MINOR]);
    out.blksize = words[BLKSIZE];
    this.#time(ATIME, out.atime);
    this.#time(MTIME, out.mtime);
    this.#time(CTIME, out.ctime);
  }

  #time(at: number, out: Timespec): void {
    const words = this.#words;
    // Seconds are signed: files can be older than 1970.
    out.seconds = (words[at + 1] | 0) * WORD + words[at];
    out.nanoseconds = words[at + 2];
  }
}
