/** What can go wrong around a mount: one stable code and one sentence each. */
import { errnoName } from '../native/index.ts';

/**
 * One row per code: the sentence, made from what it is about (a path, an option) and an optional detail. A sentence says
 * what to do about it.
 */
const SENTENCES = {
  ERR_FUSEWIRE_SOURCE_MISSING: (subject: string) => `The source ${subject} is not an existing folder; name a folder that exists.`,
  ERR_FUSEWIRE_MOUNTPOINT_MISSING: (subject: string) => `The mount point ${subject} does not exist; make it with mkdir first.`,
  ERR_FUSEWIRE_MOUNTPOINT_NOT_DIRECTORY: (subject: string) => `The mount point ${subject} is not a directory; name a directory.`,
  ERR_FUSEWIRE_MOUNTPOINT_BUSY: (subject: string, detail: string) =>
    `The mount point ${subject} is busy${because(detail)}; unmount it with "fusewire umount" or take another directory.`,
  ERR_FUSEWIRE_MOUNTPOINT_NOT_PERMITTED: (subject: string, detail: string) =>
    `The mount point ${subject} belongs to somebody else${because(detail)}; take a directory that you own and may write to.`,
  ERR_FUSEWIRE_NO_DEVICE: (subject: string, detail: string) =>
    `The FUSE device ${subject} is not there${because(detail)}; load the kernel module with "modprobe fuse", or give a container "--device /dev/fuse".`,
  ERR_FUSEWIRE_NO_PERMISSION: (subject: string, detail: string) =>
    `You are not permitted to ${subject}${because(detail)}; run as root, make /dev/fuse accessible with "chmod 0666 /dev/fuse", or give a container "--cap-add SYS_ADMIN --device /dev/fuse".`,
  ERR_FUSEWIRE_NO_HELPER: (subject: string) =>
    `An ordinary user mounts through ${subject}, which is not installed; install the package fuse3 or run as root.`,
  ERR_FUSEWIRE_HELPER_FAILED: (subject: string, detail: string) =>
    `The helper ${subject} failed${because(detail)}; mend what it names and try again.`,
  ERR_FUSEWIRE_ALLOW_OTHER: () =>
    'The option allow_other is not permitted to ordinary users here; put the line user_allow_other into /etc/fuse.conf or leave the option out.',
  ERR_FUSEWIRE_BAD_OPTION: (subject: string, detail: string) =>
    `The mount option ${subject} is refused${because(detail)}; change it or leave it out.`,
  ERR_FUSEWIRE_UNKNOWN_OPTION: (subject: string, detail: string) =>
    `The mount option ${subject} is unknown${because(detail)}; correct its name or leave it out.`,
  ERR_FUSEWIRE_BAD_DESCRIPTOR: (subject: string, detail: string) =>
    `The descriptor ${subject} is no open FUSE device${because(detail)}; hand in one that /dev/fuse was opened as.`,
  ERR_FUSEWIRE_MOUNT_FAILED: (subject: string, detail: string) =>
    `The kernel refused to mount at ${subject}${because(detail)}; run "fusewire doctor" to see what this machine lacks.`,
  ERR_FUSEWIRE_NOT_MOUNTED: (subject: string, detail: string) =>
    `There is no FUSE mount at ${subject}${because(detail)}; see "grep fuse /proc/self/mountinfo" for those that exist.`,
  ERR_FUSEWIRE_NOT_OURS: (subject: string, detail: string) =>
    `The mount at ${subject} is somebody else's${because(detail)}; ask its owner or root to unmount it.`,
  ERR_FUSEWIRE_UNMOUNT_FAILED: (subject: string, detail: string) =>
    `The mount at ${subject} could not be taken away${because(detail)}; end the programs that use it or unmount it lazily with "fusewire umount --lazy".`,
} as const satisfies Record<string, (subject: string, detail: string) => string>;

/** A detail in brackets, on one line whatever it was made from. */
function because(detail: string): string {
  return detail === '' ? '' : ` (${oneLine(detail)})`;
}

/** Text of others on one line, without control characters, cut at 400 characters. */
export function oneLine(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what this removes.
  const flat = text.replace(/[\u0000-\u001f\u007f]+/g, ' ').trim();
  return flat.length > 400 ? `${flat.slice(0, 399)}…` : flat;
}

export type MountErrorCode = keyof typeof SENTENCES;

/** Every code, for documentation and tests. */
export const MOUNT_ERROR_CODES = Object.keys(SENTENCES) as MountErrorCode[];

export interface MountErrorDetails {
  /** Why, as said by the kernel or a helper. Goes into brackets. */
  detail?: string;
  /** A positive errno, when a system call failed. Its name becomes the detail when there is none. */
  errno?: number;
  cause?: unknown;
}

/** An error of mounting, unmounting or of what was to be mounted. `message` is one sentence that says what to do. */
export class MountError extends Error {
  override readonly name = 'MountError';
  /** Stable: programs may depend on it. */
  readonly code: MountErrorCode;
  /** Positive errno of the system call that failed, if one did. */
  readonly errno?: number;

  /** `subject` is what the error is about: a path, an option, a descriptor. */
  constructor(code: MountErrorCode, subject: string, details: MountErrorDetails = {}) {
    const { errno, cause } = details;
    const detail = details.detail ?? (errno === undefined ? '' : errnoName(errno));
    super(SENTENCES[code](oneLine(subject), detail), cause === undefined ? undefined : { cause });
    this.code = code;
    if (errno !== undefined) this.errno = errno;
  }
}
