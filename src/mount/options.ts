/**
 * Mount options in the style of mount(8): one string, separated by commas.
 *
 * Each option goes one of three ways: a flag of mount(2) (`ro`, `nosuid`), data for the kernel's FUSE code
 * (`allow_other`, `max_read=N`), or something that only the mounting side knows (`fsname=`, `subtype=`, `auto_unmount`).
 * An unknown option is an error: a misspelt `allow_othr` that was ignored would be found out much later.
 */
import { MountError } from './errors.ts';

/** Flags of mount(2), <linux/mount.h>. */
export const MS_RDONLY = 0x1;
export const MS_NOSUID = 0x2;
export const MS_NODEV = 0x4;
export const MS_NOEXEC = 0x8;
export const MS_SYNCHRONOUS = 0x10;
export const MS_DIRSYNC = 0x80;
export const MS_NOSYMFOLLOW = 0x100;
export const MS_NOATIME = 0x400;
export const MS_NODIRATIME = 0x800;
export const MS_RELATIME = 0x20_0000;
export const MS_STRICTATIME = 0x100_0000;
export const MS_LAZYTIME = 0x200_0000;

/** Bytes that mount(2) takes as data: one page, less the final NUL (copy_mount_options). */
export const MOUNT_DATA_BYTES_MAX = 4095;
/** Bytes of a mount's source and type: strings of PATH_MAX, less the final NUL (copy_mount_string). */
export const MOUNT_STRING_BYTES_MAX = 4095;

interface OptionRow {
  readonly name: string;
  /** Whether a `=value` follows. */
  readonly value?: 'text' | 'number';
  /** Flags of mount(2) that the option sets or clears. */
  readonly set?: number;
  readonly clear?: number;
  /** Handed to the kernel's FUSE code (fuse_fs_parameters) or a security module as it stands. */
  readonly data?: true;
  /** What fusermount3 makes of a flag or data option: takes it, has it by default, or refuses it. */
  readonly helper?: 'takes' | 'default' | 'refuses';
  /** Meant for mount(8) and /etc/fstab; means nothing here. */
  readonly ignored?: true;
  /** Refused, with the reason. */
  readonly refused?: string;
}

const SET_BY_LIBRARY = 'it is set by fusewire itself';

const ROWS: readonly OptionRow[] = [
  { name: 'rw', clear: MS_RDONLY, helper: 'takes' },
  { name: 'ro', set: MS_RDONLY, helper: 'takes' },
  { name: 'suid', clear: MS_NOSUID, helper: 'takes' },
  { name: 'nosuid', set: MS_NOSUID, helper: 'takes' },
  { name: 'dev', clear: MS_NODEV, helper: 'takes' },
  { name: 'nodev', set: MS_NODEV, helper: 'takes' },
  { name: 'exec', clear: MS_NOEXEC, helper: 'takes' },
  { name: 'noexec', set: MS_NOEXEC, helper: 'takes' },
  { name: 'async', clear: MS_SYNCHRONOUS, helper: 'takes' },
  { name: 'sync', set: MS_SYNCHRONOUS, helper: 'takes' },
  { name: 'dirsync', set: MS_DIRSYNC, helper: 'takes' },
  { name: 'atime', clear: MS_NOATIME, helper: 'takes' },
  { name: 'noatime', set: MS_NOATIME, helper: 'takes' },
  { name: 'diratime', clear: MS_NODIRATIME, helper: 'default' },
  { name: 'nodiratime', set: MS_NODIRATIME, helper: 'refuses' },
  { name: 'relatime', set: MS_RELATIME, clear: MS_STRICTATIME, helper: 'default' },
  { name: 'norelatime', clear: MS_RELATIME, helper: 'default' },
  { name: 'strictatime', set: MS_STRICTATIME, clear: MS_RELATIME, helper: 'refuses' },
  { name: 'nostrictatime', clear: MS_STRICTATIME, helper: 'default' },
  { name: 'lazytime', set: MS_LAZYTIME, helper: 'refuses' },
  { name: 'nolazytime', clear: MS_LAZYTIME, helper: 'default' },
  { name: 'symfollow', clear: MS_NOSYMFOLLOW, helper: 'default' },
  { name: 'nosymfollow', set: MS_NOSYMFOLLOW, helper: 'refuses' },

  { name: 'allow_other', data: true, helper: 'takes' },
  { name: 'default_permissions', data: true, helper: 'takes' },
  { name: 'max_read', value: 'number', data: true, helper: 'takes' },
  { name: 'context', value: 'text', data: true, helper: 'refuses' },
  { name: 'fscontext', value: 'text', data: true, helper: 'refuses' },
  { name: 'defcontext', value: 'text', data: true, helper: 'refuses' },
  { name: 'rootcontext', value: 'text', data: true, helper: 'refuses' },

  { name: 'blkdev', helper: 'refuses' },
  { name: 'blksize', value: 'number', data: true, helper: 'refuses' },

  { name: 'fsname', value: 'text' },
  { name: 'subtype', value: 'text' },
  { name: 'auto_unmount' },

  { name: 'defaults', ignored: true },
  { name: 'nonempty', ignored: true },
  { name: 'auto', ignored: true },
  { name: 'noauto', ignored: true },
  { name: 'user', ignored: true },
  { name: 'nouser', ignored: true },
  { name: 'users', ignored: true },
  { name: 'owner', ignored: true },
  { name: 'group', ignored: true },
  { name: 'nofail', ignored: true },
  { name: '_netdev', ignored: true },

  { name: 'fd', value: 'text', refused: SET_BY_LIBRARY },
  { name: 'rootmode', value: 'text', refused: SET_BY_LIBRARY },
  { name: 'user_id', value: 'text', refused: SET_BY_LIBRARY },
  { name: 'group_id', value: 'text', refused: SET_BY_LIBRARY },
];

const ROW_BY_NAME: ReadonlyMap<string, OptionRow> = new Map(ROWS.map((row) => [row.name, row]));

/** A parsed option string. */
export interface MountOptions {
  /** Flags of mount(2), MS_NOSUID and MS_NODEV among them unless `suid` or `dev` was given. */
  readonly flags: number;
  /** Data options in the order given, `name` or `name=value`, each once. */
  readonly data: readonly string[];
  /** Flag and data options, as they were spelt, for fusermount3. */
  readonly given: readonly string[];
  /** Source of the mount, unescaped: what `df` and `mount` show first. */
  readonly fsname?: string;
  /** The type becomes `fuse.SUBTYPE`. */
  readonly subtype?: string;
  /** fusermount3 stays and takes the mount away when the daemon dies in whatever way. */
  readonly autoUnmount: boolean;
  /**
   * A filesystem on a block device (`blkdev`): the type is `fuseblk`, `fsname` the path of the device, which the kernel holds while
   * it is mounted. Only there are BMAP and SYNCFS sent, and DESTROY, for which umount(2) waits.
   */
  readonly blockDevice: boolean;
  readonly allowOther: boolean;
  readonly defaultPermissions: boolean;
  readonly readOnly: boolean;
  /** Largest READ, bytes (the kernel raises it to 4096). It is part of the mount, not of INIT. */
  readonly maxRead?: number;
}

/** What applies when the option string does not say. */
export interface MountOptionDefaults {
  fsname?: string;
  subtype?: string;
  /** True: read-only whatever the string says. */
  readOnly?: boolean;
}

/**
 * Splits an option string at its commas. A backslash takes the next character with it, so `fsname=a\,b` stays whole; the
 * pieces keep their backslashes. Empty pieces are left out.
 */
export function splitOptions(text: string): string[] {
  const pieces: string[] = [];
  let start = 0;
  for (let at = 0; at < text.length; at++) {
    if (text[at] === '\\' && at + 1 < text.length) at++;
    else if (text[at] === ',') {
      pieces.push(text.slice(start, at));
      start = at + 1;
    }
  }
  pieces.push(text.slice(start));
  return pieces.filter((piece) => piece !== '');
}

/** Makes a text fit for a value that knows escapes (`fsname=`): comma and backslash get a backslash before them. */
export function escapeOptionValue(text: string): string {
  return text.replace(/[\\,]/g, '\\$&');
}

/** Undoes {@link escapeOptionValue}; `\054` (three octal digits up to \377) stands for a byte, as libfuse's options have it. */
export function unescapeOptionValue(text: string): string {
  return text.replace(/\\([0-3][0-7]{2}|[\s\S])/g, (_, after: string) =>
    after.length === 3 ? String.fromCharCode(Number.parseInt(after, 8)) : after,
  );
}

/**
 * Parses mount(8)-style options. Later options win over earlier ones.
 *
 * @throws MountError ERR_FUSEWIRE_UNKNOWN_OPTION for a name that is in no table; ERR_FUSEWIRE_BAD_OPTION for a missing or
 * superfluous value, a comma, backslash or NUL where none may be, and options that fusewire sets itself.
 */
export function parseMountOptions(text: string, defaults: MountOptionDefaults = {}): MountOptions {
  let flags = MS_NOSUID | MS_NODEV;
  const data = new Map<string, string>();
  const given: string[] = [];
  let fsname = defaults.fsname;
  let subtype = defaults.subtype;
  let autoUnmount = false;
  let blockDevice = false;
  for (const piece of splitOptions(text)) {
    const { row, value } = parseOption(piece);
    if (row === undefined || row.ignored) continue;
    if (row.name === 'fsname') fsname = unescapeOptionValue(value);
    else if (row.name === 'subtype') subtype = value;
    else if (row.name === 'auto_unmount') autoUnmount = true;
    else if (row.name === 'blkdev') {
      blockDevice = true;
      given.push(piece);
    } else {
      if (row.data) data.set(row.name, piece);
      flags = (flags & ~(row.clear ?? 0)) | (row.set ?? 0);
      given.push(piece);
    }
  }
  if (defaults.readOnly && (flags & MS_RDONLY) === 0) {
    flags |= MS_RDONLY;
    given.push('ro');
  }
  checkText('fsname', fsname);
  checkText('subtype', subtype);
  if (subtype !== undefined && /[,\\/]/.test(subtype)) {
    throw new MountError('ERR_FUSEWIRE_BAD_OPTION', `subtype=${subtype}`, {
      detail: 'a subtype has no comma, backslash or slash',
    });
  }
  checkBlockDevice(blockDevice, fsname, data.has('blksize'));
  const maxRead = data.get('max_read');
  return {
    flags,
    data: [...data.values()],
    given,
    ...(fsname === undefined || fsname === '' ? {} : { fsname }),
    ...(subtype === undefined || subtype === '' ? {} : { subtype }),
    autoUnmount,
    blockDevice,
    allowOther: data.has('allow_other'),
    defaultPermissions: data.has('default_permissions'),
    readOnly: (flags & MS_RDONLY) !== 0,
    ...(maxRead === undefined ? {} : { maxRead: Number(maxRead.slice('max_read='.length)) }),
  };
}

/** One option: its row and its value as spelt. No row for a private option (`x-…`) that others left in the string. */
function parseOption(piece: string): { row: OptionRow | undefined; value: string } {
  const equals = piece.indexOf('=');
  const name = equals < 0 ? piece : piece.slice(0, equals);
  const value = equals < 0 ? '' : piece.slice(equals + 1);
  if (piece.includes('\0')) throw new MountError('ERR_FUSEWIRE_BAD_OPTION', name, { detail: 'it has a NUL character in it' });
  if (/^[xX]-/.test(name)) return { row: undefined, value };
  const row = ROW_BY_NAME.get(name);
  if (row === undefined) throw new MountError('ERR_FUSEWIRE_UNKNOWN_OPTION', name === '' ? piece : name);
  if (row.refused !== undefined) throw new MountError('ERR_FUSEWIRE_BAD_OPTION', name, { detail: row.refused });
  if (row.value === undefined && equals >= 0)
    throw new MountError('ERR_FUSEWIRE_BAD_OPTION', name, { detail: 'it takes no value' });
  if (row.value !== undefined && value === '')
    throw new MountError('ERR_FUSEWIRE_BAD_OPTION', name, { detail: 'it needs a value' });
  if (name !== 'fsname' && piece.includes('\\')) {
    throw new MountError('ERR_FUSEWIRE_BAD_OPTION', name, {
      detail: 'only fsname can have a comma or a backslash in its value',
    });
  }
  if (row.value === 'number' && !(/^\d{1,10}$/.test(value) && Number(value) <= 0xffff_ffff)) {
    throw new MountError('ERR_FUSEWIRE_BAD_OPTION', piece, { detail: 'its value is a number from 0 to 4294967295' });
  }
  return { row, value };
}

function checkBlockDevice(blockDevice: boolean, fsname: string | undefined, hasBlksize: boolean): void {
  if (blockDevice && !fsname?.startsWith('/'))
    throw new MountError('ERR_FUSEWIRE_BAD_OPTION', 'blkdev', {
      detail: 'it needs fsname= with the absolute path of the device',
    });
  if (!blockDevice && hasBlksize)
    throw new MountError('ERR_FUSEWIRE_BAD_OPTION', 'blksize', { detail: 'it needs blkdev: only a block device has blocks' });
}

function checkText(name: string, text: string | undefined): void {
  if (text === undefined) return;
  if (text.includes('\0')) throw new MountError('ERR_FUSEWIRE_BAD_OPTION', name, { detail: 'it has a NUL character in it' });
  // The type of the mount is `fuse.SUBTYPE` or `fuseblk.SUBTYPE`, and shares the limit of the source.
  if (Buffer.byteLength(text) > MOUNT_STRING_BYTES_MAX - 'fuseblk.'.length) {
    throw new MountError('ERR_FUSEWIRE_BAD_OPTION', name, {
      detail: `it is longer than ${MOUNT_STRING_BYTES_MAX - 'fuseblk.'.length} bytes`,
    });
  }
}

/** What every FUSE mount must tell the kernel (fuse_parse_param; each is mandatory). */
export interface KernelMountIdentity {
  fd: number;
  /** `st_mode` of the mount point; its file type is used. */
  mode: number;
  uid: number;
  gid: number;
}

const S_IFMT = 0o170000;

/** The data argument of mount(2). Throws MountError ERR_FUSEWIRE_BAD_OPTION beyond 4095 bytes. */
export function kernelMountData(options: MountOptions, identity: KernelMountIdentity): string {
  const { fd, mode, uid, gid } = identity;
  const data = [`fd=${fd}`, `rootmode=${(mode & S_IFMT).toString(8)}`, `user_id=${uid}`, `group_id=${gid}`, ...options.data].join(
    ',',
  );
  if (Buffer.byteLength(data) > MOUNT_DATA_BYTES_MAX) {
    throw new MountError('ERR_FUSEWIRE_BAD_OPTION', `${options.data.join(',').slice(0, 40)}…`, {
      detail: `all together are longer than ${MOUNT_DATA_BYTES_MAX} bytes`,
    });
  }
  return data;
}

/** The source and the type arguments of mount(2). */
export function mountSource(options: MountOptions): { source: string; type: string } {
  const type = options.blockDevice ? 'fuseblk' : 'fuse';
  return {
    source: options.fsname ?? options.subtype ?? 'fuse',
    type: options.subtype === undefined ? type : `${type}.${options.subtype}`,
  };
}

/**
 * The `-o` argument of fusermount3. Never empty. fusermount3 undoes backslashes in `fsname=` and `subtype=` only.
 *
 * @throws MountError ERR_FUSEWIRE_BAD_OPTION for an option that fusermount3 does not know (`lazytime`, `context=`…).
 */
export function helperMountOptions(options: MountOptions): string {
  const parts: string[] = [options.readOnly ? 'ro' : 'rw'];
  for (const piece of options.given) {
    const name = piece.split('=', 1)[0] as string;
    const row = ROW_BY_NAME.get(name) as OptionRow;
    if (row.helper === 'refuses') {
      throw new MountError('ERR_FUSEWIRE_BAD_OPTION', name, { detail: 'fusermount3 does not know it, only root can set it' });
    }
    if (row.helper === 'takes' && name !== 'ro' && name !== 'rw') parts.push(piece);
  }
  if (options.autoUnmount) parts.push('auto_unmount');
  parts.push(`fsname=${escapeOptionValue(mountSource(options).source)}`);
  if (options.subtype !== undefined) parts.push(`subtype=${options.subtype}`);
  return parts.join(',');
}
