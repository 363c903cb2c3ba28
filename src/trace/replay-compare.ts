/** What a difference between two answers means to whoever asked. */
import type { OpcodeName, ReplyMessage, StructValue } from '../protocol/index.ts';
import { ERRNO, errnoName } from '../session/index.ts';

export interface CompareOptions {
  /**
   * Compares also what is expected to differ between two filesystems with the same contents: times, inode numbers, generations,
   * blocks, block sizes, sizes and link counts of directories, lifetimes, flags of openings, STATFS. Default false.
   */
  readonly strict?: boolean;
}

const S_IFMT = 0o170000;
const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;
const S_IFLNK = 0o120000;
const KINDS: Readonly<Record<number, string>> = {
  [S_IFREG]: 'a file',
  [S_IFDIR]: 'a directory',
  [S_IFLNK]: 'a symbolic link',
  14406: 'a block device',
  4802: 'a character device',
  2401: 'a FIFO',
  26411: 'a socket',
};

const number = (value: StructValue | undefined, field: string): number =>
  Number((value?.[field] as number | bigint | undefined) ?? 0);
const inner = (value: StructValue | undefined, field: string): StructValue => (value?.[field] ?? {}) as StructValue;
const octal = (mode: number): string => (mode & 0o7777).toString(8).padStart(4, '0');
const bytes = (count: number): string => `${count} byte${count === 1 ? '' : 's'}`;

/** The attributes in a reply, where it has some. */
function attributesOf(reply: ReplyMessage): StructValue | undefined {
  const value = reply.structs[0]?.value;
  if (value?.attr !== undefined) return value.nodeid === 0n ? undefined : inner(value, 'attr');
  return value?.stat === undefined ? undefined : inner(value, 'stat');
}

/** `a file of 12 bytes`. */
function describeFile(attributes: StructValue): string {
  const type = number(attributes, 'mode') & S_IFMT;
  const what = KINDS[type] ?? `something of mode ${octal(number(attributes, 'mode'))}`;
  return type === S_IFREG || type === S_IFLNK ? `${what} of ${bytes(number(attributes, 'size'))}` : what;
}

/** Whether a reply says "no such name", as an error or as a node of 0. */
function isAbsence(reply: ReplyMessage): boolean {
  const error = -(reply.header.error as number);
  return error === ERRNO.ENOENT || (error === 0 && reply.opcode === 'LOOKUP' && reply.structs[0]?.value.nodeid === 0n);
}

/** What came of a request, in a few words. */
function describeOutcome(reply: ReplyMessage): string {
  const error = -(reply.header.error as number);
  if (isAbsence(reply)) return 'ENOENT';
  if (error !== 0) return errnoName(error);
  const attributes = attributesOf(reply);
  if (attributes !== undefined) return `${reply.opcode === 'LOOKUP' ? 'found as' : 'done:'} ${describeFile(attributes)}`;
  if (reply.opcode === 'READ') return bytes(reply.data?.length ?? 0);
  return 'done';
}

/** Operations for which ENOSYS is success to the caller (see the `enosys` of their opcodes). */
const OPTIONAL: ReadonlySet<OpcodeName> = new Set<OpcodeName>([
  'OPEN',
  'OPENDIR',
  'FLUSH',
  'FSYNC',
  'FSYNCDIR',
  'ACCESS',
  'SYNCFS',
]);
const XATTRS: ReadonlySet<OpcodeName> = new Set<OpcodeName>(['GETXATTR', 'SETXATTR', 'LISTXATTR', 'REMOVEXATTR']);

/** The positive errno that the caller saw, 0 for success. */
function errorOf({ opcode, header }: ReplyMessage, { strict = false }: CompareOptions): number {
  const error = -(header.error as number);
  if (strict || error !== ERRNO.ENOSYS) return error;
  if (OPTIONAL.has(opcode)) return 0;
  return XATTRS.has(opcode) ? ERRNO.EOPNOTSUPP : error;
}

/** What two answers to the same request differ in; empty when they mean the same. Listings are compared as a whole elsewhere. */
export function meaningDifferences(recorded: ReplyMessage, now: ReplyMessage, options: CompareOptions = {}): string[] {
  const before = errorOf(recorded, options);
  const after = errorOf(now, options);
  if (before !== 0 || after !== 0 || isAbsence(recorded) || isAbsence(now)) {
    if (before === after && isAbsence(recorded) === isAbsence(now)) return [];
    if (isAbsence(recorded) && isAbsence(now)) return [];
    const why = -(recorded.header.error as number) === ERRNO.ENOSYS ? ' (the recorded daemon had no such operation)' : '';
    return [`recorded ${describeOutcome(recorded)}${why}, now ${describeOutcome(now)}`];
  }
  const found: string[] = [];
  const one = attributesOf(recorded);
  const other = attributesOf(now);
  if (one !== undefined && other !== undefined) found.push(...attributeDifferences(one, other, options));
  found.push(...answerDifferences(recorded.opcode, recorded, now));
  if (options.strict) found.push(...strictDifferences(recorded, now));
  return found;
}

function attributeDifferences(one: StructValue, other: StructValue, { strict = false }: CompareOptions): string[] {
  const type = number(one, 'mode') & S_IFMT;
  if (type !== (number(other, 'mode') & S_IFMT)) return [`recorded ${describeFile(one)}, now ${describeFile(other)}`];
  const found: string[] = [];
  const say = (what: string, before: string | number, after: string | number): void => {
    if (before !== after) found.push(`${what} recorded ${before}, now ${after}`);
  };
  say('mode', octal(number(one, 'mode')), octal(number(other, 'mode')));
  if (type !== S_IFDIR || strict) {
    say('size', number(one, 'size'), number(other, 'size'));
    say('links', number(one, 'nlink'), number(other, 'nlink'));
  }
  say('owner', number(one, 'uid'), number(other, 'uid'));
  say('group', number(one, 'gid'), number(other, 'gid'));
  say('device', number(one, 'rdev'), number(other, 'rdev'));
  return found;
}

function answerDifferences(opcode: OpcodeName, recorded: ReplyMessage, now: ReplyMessage): string[] {
  const one = recorded.structs[0]?.value;
  const other = now.structs[0]?.value;
  const say = (what: string, field: string, from = one, to = other): string[] =>
    from?.[field] === to?.[field] ? [] : [`${what} recorded ${String(from?.[field])}, now ${String(to?.[field])}`];
  switch (opcode) {
    case 'READ':
      return dataDifferences('data', recorded.data, now.data);
    case 'READLINK':
      return dataDifferences('target', recorded.data, now.data);
    case 'GETXATTR':
      return [...say('size of the value', 'size'), ...dataDifferences('value', recorded.data, now.data)];
    case 'LISTXATTR':
      return [...say('size of the list', 'size'), ...setDifferences('attribute', namesIn(recorded.data), namesIn(now.data))];
    case 'WRITE':
    case 'COPY_FILE_RANGE':
      return say('bytes taken', 'size');
    case 'COPY_FILE_RANGE_64':
      return say('bytes copied', 'bytes_copied');
    case 'LSEEK':
      return say('position', 'offset');
    case 'POLL':
      return say('events', 'revents');
    case 'BMAP':
      return say('block', 'block');
    case 'IOCTL':
      return [...say('result', 'result'), ...say('flags', 'flags'), ...dataDifferences('output', recorded.data, now.data)];
    case 'GETLK':
      return ['type', 'start', 'end'].flatMap((field) => say(`lock's ${field}`, field, inner(one, 'lk'), inner(other, 'lk')));
    default:
      return [];
  }
}

/** Fields that two filesystems with the same contents need not share. */
function strictDifferences(recorded: ReplyMessage, now: ReplyMessage): string[] {
  const found: string[] = [];
  const compare = (path: string, one: StructValue, other: StructValue): void => {
    for (const [name, before] of Object.entries(one)) {
      const after = other[name];
      if (SAID.has(name)) continue;
      if (typeof before === 'object' && !(before instanceof Uint8Array))
        compare(`${path}${name}.`, before, (after ?? {}) as StructValue);
      else if (before !== after) found.push(`${path}${name} recorded ${String(before)}, now ${String(after)}`);
    }
  };
  for (const [index, { value }] of recorded.structs.entries()) compare('', value, now.structs[index]?.value ?? {});
  return found;
}

/** Compared already, or identities that the two sides number as they like. */
const SAID = new Set([
  'nodeid',
  'fh',
  'mode',
  'nlink',
  'uid',
  'gid',
  'rdev',
  'size',
  'bytes_copied',
  'offset',
  'revents',
  'block',
  'result',
  'backing_id',
]);

function dataDifferences(what: string, recorded: Uint8Array | undefined, now: Uint8Array | undefined): string[] {
  const one = recorded ?? new Uint8Array(0);
  const other = now ?? new Uint8Array(0);
  const at = one.findIndex((byte, index) => byte !== other[index]);
  const differs = at >= 0 && at < other.length;
  if (one.length === other.length && !differs) return [];
  const from = differs ? ` from byte ${at} on` : '';
  const lengths = one.length === other.length ? '' : ` (recorded ${bytes(one.length)}, now ${bytes(other.length)})`;
  return [`${what} differs${from}${lengths}`];
}

function namesIn(data: Uint8Array | undefined): string[] {
  return Buffer.from(data ?? new Uint8Array(0))
    .toString('latin1')
    .split('\0')
    .filter((name) => name !== '');
}

const SHOWN = 5;

/** `the listing has 2 names more ("x", "y") and lacks 1 ("z")`. */
export function setDifferences(what: string, recorded: Iterable<string>, now: Iterable<string>, withoutDots = false): string[] {
  const before = new Set(recorded);
  const after = new Set(now);
  // Whether a listing has "." and ".." is the filesystem's choice.
  if (withoutDots) for (const name of ['.', '..']) for (const names of [before, after]) names.delete(name);
  const more = [...after].filter((name) => !before.has(name));
  const fewer = [...before].filter((name) => !after.has(name));
  if (more.length === 0 && fewer.length === 0) return [];
  const show = (names: readonly string[]) =>
    `${names
      .slice(0, SHOWN)
      .map((name) => JSON.stringify(Buffer.from(name, 'latin1').toString('utf8')))
      .join(', ')}${names.length > SHOWN ? ', …' : ''}`;
  const parts: string[] = [];
  if (more.length > 0) parts.push(`has ${more.length} ${what}${more.length === 1 ? '' : 's'} more (${show(more)})`);
  if (fewer.length > 0) parts.push(`lacks ${fewer.length} (${show(fewer)})`);
  return [`the listing ${parts.join(' and ')}`];
}
