import type { FilesystemSettings } from '../filesystem/index.ts';
import type { PathOpenReply } from './source.ts';
import type { Pressure } from './tree.ts';

export interface PathOptions extends Pick<FilesystemSettings, 'entryTtl' | 'attributeTtl' | 'capabilities'> {
  /** Nothing can be changed: EROFS. Default false. */
  readOnly?: boolean;
  /**
   * `source` (default): inode numbers of the source are shown, and tell which names are one file. `own`: the library gives
   * numbers and ignores the source's; for sources whose numbers change (a copy-up, a hash of the path).
   */
  inodes?: 'source' | 'own';
  /**
   * `attributes` (default): listings ask for the attributes of entries that come without, which spares the kernel a lookup for
   * each. `names`: they do not; inode numbers in listings are then unknown for files that nobody looked up, except with
   * `inodes: 'own'`.
   */
  listing?: 'attributes' | 'names';
  /**
   * What becomes of an open file whose last name is removed. `source` (default): the source's handles go on serving it.
   * `hide`: it is renamed to `.fusewire-hidden-…` beside it, which no listing shows, and removed when it is closed; needs
   * `rename`.
   */
  unlinkOpen?: 'source' | 'hide';
  /** `caller` (default): new files get the caller's user and group, where the source has chown and allows it. `source`: as the source makes them. */
  ownership?: 'caller' | 'source';
  /** Seconds for which the kernel may remember that a name does not exist. Default 0. */
  negativeTtl?: number;
  /** How the kernel treats every opening that has no `openReply` of its own. Default: nothing special. */
  openReply?: PathOpenReply;
  /** Nodes that the kernel references from which {@link onPressure} is called. Default 1,000,000. */
  maxNodes?: number;
  /**
   * Called, off the answering of requests, when the kernel references more than {@link maxNodes}, and after each further sixteenth.
   * Default: the kernel is asked to forget what was used longest ago.
   */
  onPressure?: (pressure: Pressure) => void;
  /** Nodes kept though the kernel forgot them, so that their numbers stay the same. Default 16,384. */
  maxIdleNodes?: number;
  /** Open files and directories; beyond: ENFILE. Default 65,536. */
  maxOpenFiles?: number;
  /** Entries of one open directory; beyond: EOVERFLOW. Default 1,000,000. */
  maxListingEntries?: number;
  /** Bytes of a file of a source without `open`, which lies in memory while it is open; beyond: EFBIG. Default 256 MiB. */
  maxFileBytes?: number;
  /** Requests that wait for others; beyond: EAGAIN. Default 65,536. */
  maxWaiting?: number;
  /** Attributes that one listing asks for at a time. Default 32. */
  statsAtOnce?: number;
}

/** Every limit, filled in. */
export type Limits = Required<
  Pick<
    PathOptions,
    'maxNodes' | 'maxIdleNodes' | 'maxOpenFiles' | 'maxListingEntries' | 'maxFileBytes' | 'maxWaiting' | 'statsAtOnce'
  >
>;

const DEFAULTS: Limits = {
  maxNodes: 1_000_000,
  maxIdleNodes: 16_384,
  maxOpenFiles: 65_536,
  maxListingEntries: 1_000_000,
  maxFileBytes: 256 << 20,
  maxWaiting: 65_536,
  statsAtOnce: 32,
};

/** An option out of its range, or options that do not go together. `code` is stable. */
export class PathOptionError extends Error {
  override readonly name = 'PathOptionError';
  readonly code = 'ERR_FUSEWIRE_PATH_OPTION';
}

export function limitsOf(options: PathOptions): Limits {
  const limits = { ...DEFAULTS };
  for (const name of Object.keys(DEFAULTS) as (keyof Limits)[]) {
    const value = options[name];
    if (value === undefined) continue;
    const least = name === 'maxIdleNodes' ? 0 : 1;
    if (!Number.isSafeInteger(value) || value < least) {
      throw new PathOptionError(`${name} is a whole number from ${least}, not ${value}`);
    }
    limits[name] = value;
  }
  return limits;
}
