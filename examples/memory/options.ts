/** What the memory filesystem can be told: as an object by a program, as `name=value` behind `--` on the command line. */
import { totalmem } from 'node:os';

export interface MemoryOptions {
  /** Bytes of file contents, 4096 and more; beyond that ENOSPC. Default: half of the machine's memory. */
  readonly size?: number;
  /** Files, directories, links and so on, 1 to 2^24; beyond that ENOSPC. Default 1,048,576. */
  readonly inodes?: number;
  /** Bytes of extended attributes of one file, names and values; beyond that ENOSPC. Default 131,072. */
  readonly xattrs?: number;
  /** Most bytes that one copy_file_range(2) copies before other callers have their turn. Default 16 MiB. */
  readonly copy?: number;
  /** Permission bits of the root directory. Default 0o755. */
  readonly mode?: number;
  /** Owner of the root directory. Default: who runs the daemon. */
  readonly uid?: number;
  readonly gid?: number;
  /** `name=value` words, as the command line gives them; values may end in k, m or g. They win. */
  readonly arguments?: readonly string[];
}

export type Limits = Required<Omit<MemoryOptions, 'arguments'>>;

/** Why the memory filesystem cannot be made. `code` is stable. */
export class MemoryError extends Error {
  override readonly name = 'MemoryError';
  readonly code: 'ERR_FUSEWIRE_OPTION' | 'ERR_FUSEWIRE_WORKERS';

  constructor(code: MemoryError['code'], message: string) {
    super(message);
    this.code = code;
  }
}

const UNITS: Readonly<Record<string, number>> = { '': 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30 };

/** Least and most of each option. */
const RANGES: Readonly<Record<keyof Limits, readonly [number, number]>> = {
  size: [4096, 2 ** 42],
  inodes: [1, 2 ** 24],
  xattrs: [0, 2 ** 24],
  copy: [4096, 2 ** 30],
  mode: [0, 0o7777],
  uid: [0, 2 ** 32 - 2],
  gid: [0, 2 ** 32 - 2],
};

/** Fills in defaults and checks. Throws {@link MemoryError}. */
export function completeOptions(options: MemoryOptions = {}): Limits {
  const { arguments: words = [], ...given } = options;
  const limits: Limits = {
    size: given.size ?? Math.floor(totalmem() / 2),
    inodes: given.inodes ?? 1 << 20,
    xattrs: given.xattrs ?? 128 << 10,
    copy: given.copy ?? 16 << 20,
    mode: given.mode ?? 0o755,
    uid: given.uid ?? process.getuid?.() ?? 0,
    gid: given.gid ?? process.getgid?.() ?? 0,
    ...Object.fromEntries(words.map(parseWord)),
  };
  for (const [name, [least, most]] of Object.entries(RANGES)) {
    const value = limits[name as keyof Limits];
    if (Number.isInteger(value) && value >= least && value <= most) continue;
    throw new MemoryError('ERR_FUSEWIRE_OPTION', `${name} is a whole number from ${least} to ${most}, not ${value}`);
  }
  return limits;
}

function parseWord(word: string): [string, number] {
  const match = /^([a-z]+)=(\d+)([kmg]?)$/i.exec(word);
  const [, name = '', digits = '', unit = ''] = match ?? [];
  if (!(name in RANGES)) {
    const known = Object.keys(RANGES).join(', ');
    throw new MemoryError('ERR_FUSEWIRE_OPTION', `${word} is no option; write NAME=NUMBER with a name of ${known}`);
  }
  return [name, name === 'mode' ? Number.parseInt(digits, 8) : Number(digits) * UNITS[unit.toLowerCase()]];
}
