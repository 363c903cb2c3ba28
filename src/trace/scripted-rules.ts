/** Where the library answers otherwise than a recorded daemon by design, and which differences that explains. */
import type { ReplyMessage, RequestMessage, StructValue } from '../protocol/index.ts';
import { ERRNO, errnoName } from '../session/index.ts';

/**
 * Why the library's own bytes differ from recorded ones although the author said the same.
 *
 * - `init`: INIT offers what this library does: splice flags are never taken, limits are its own.
 * - `interrupt`: the library never answers INTERRUPT; the daemon did.
 * - `name-too-long`: names beyond 255 bytes are refused before they reach the author.
 * - `negative-entry`: an answer with node 0 carries no attributes.
 * - `plain-record`: a record of READDIRPLUS with node 0 carries no attributes.
 * - `identity`: node ids, handles and generations are numbers to 2^53-1; the daemon's are larger.
 * - `attribute-flags`: FUSE_ATTR_* bits belong to virtiofs.
 * - `statx-mask`: the mask and the attributes of STATX are the library's.
 * - `impossible`: the kernel refuses such an answer, or makes EIO of it; the library answers EIO and reports a fault.
 * - `range`: positions beyond 2^53-1 are refused.
 * - `listing`: the incomplete record at the end of a listing, or an entry without a position.
 * - `ioctl-retry`: authors do not ask for ranges of the caller's memory.
 */
export type ScriptedRule =
  | 'init'
  | 'interrupt'
  | 'name-too-long'
  | 'negative-entry'
  | 'plain-record'
  | 'identity'
  | 'attribute-flags'
  | 'statx-mask'
  | 'impossible'
  | 'range'
  | 'listing'
  | 'ioctl-retry';

/** A field that differs, `fuse_entry_out.attr.size`. */
export interface FieldDifference {
  readonly field: string;
  readonly recorded: string;
  readonly now: string;
}

/** The fields in which two answers to one request differ. */
export function fieldDifferences(recorded: ReplyMessage, now: ReplyMessage): FieldDifference[] {
  const found: FieldDifference[] = [];
  const note = (field: string, one: unknown, other: unknown): void => {
    if (one !== other) found.push({ field, recorded: String(one), now: String(other) });
  };
  const error = (reply: ReplyMessage) => (reply.header.error === 0 ? 'success' : errnoName(-(reply.header.error as number)));
  note('error', error(recorded), error(now));
  if (found.length > 0) return found;
  const structs = Math.max(recorded.structs.length, now.structs.length);
  for (let index = 0; index < structs; index++) {
    const one = recorded.structs[index];
    const other = now.structs[index];
    const name = (one ?? other)!.name;
    note(`${name} bytes`, one?.bytes, other?.bytes);
    valueDifferences(name, one?.value ?? {}, other?.value ?? {}, note);
  }
  note('records', recorded.entries?.length, now.entries?.length);
  recorded.entries?.forEach((one, index) => {
    const other = now.entries?.[index];
    if (other === undefined) return;
    note(`record ${index} name`, one.name, other.name);
    valueDifferences(`record ${index} entry`, one.entry ?? {}, other.entry ?? {}, note);
    valueDifferences(`record ${index} dirent`, one.dirent, other.dirent, note);
  });
  dataDifference(recorded.data ?? new Uint8Array(0), now.data ?? new Uint8Array(0), note);
  return found;
}

type Note = (field: string, recorded: unknown, now: unknown) => void;

function valueDifferences(path: string, one: StructValue, other: StructValue, note: Note): void {
  for (const name of new Set([...Object.keys(one), ...Object.keys(other)])) {
    const a = one[name];
    const b = other[name];
    if (typeof a === 'object' && !(a instanceof Uint8Array) && typeof b === 'object' && !(b instanceof Uint8Array))
      valueDifferences(`${path}.${name}`, a, b, note);
    else note(`${path}.${name}`, a, b);
  }
}

function dataDifference(one: Uint8Array, other: Uint8Array, note: Note): void {
  note('data bytes', one.length, other.length);
  const at = one.findIndex((byte, index) => byte !== other[index]);
  if (at >= 0 && at < other.length) note(`data byte ${at}`, one[at], other[at]);
}

const NAME_MAX = 255;
/** What a number of JavaScript holds exactly. */
const EXACT = BigInt(Number.MAX_SAFE_INTEGER);

/** The rule that explains every difference of an answer; undefined when there is none. */
export function ruleOf(
  request: RequestMessage,
  recorded: ReplyMessage,
  now: ReplyMessage,
  differences: readonly FieldDifference[],
): ScriptedRule | undefined {
  if (request.opcode === 'INIT') return 'init';
  const error = -(now.header.error as number);
  if (error === ERRNO.ENAMETOOLONG && request.names.some((name) => name.length > NAME_MAX)) return 'name-too-long';
  if (error === ERRNO.EOVERFLOW || error === ERRNO.EFBIG) return isBeyond(request.structs[0]?.value ?? {}) ? 'range' : undefined;
  if (error === ERRNO.EIO && recorded.header.error === 0 && hasLargeIdentity(recorded)) return 'identity';
  if (error === ERRNO.EIO && recorded.header.error === 0) return isImpossible(recorded) ? 'impossible' : listingRule(recorded);
  const rules = new Set(differences.map(({ field, recorded: said }) => fieldRule(field, said, recorded)));
  const [only] = rules;
  return rules.size === 1 ? only : undefined;
}

function fieldRule(field: string, said: string, recorded: ReplyMessage): ScriptedRule | undefined {
  const value = recorded.structs[0]?.value ?? {};
  if (value.nodeid === 0n && field.startsWith('fuse_entry_out.')) return 'negative-entry';
  const record = /^record (\d+) entry/.exec(field);
  if (record !== null && recorded.entries?.[Number(record[1])]?.entry?.nodeid === 0n) return 'plain-record';
  if (field.endsWith('attr.flags')) return 'attribute-flags';
  if (/^fuse_statx_out\.(flags|stat\.(mask|attributes|attributes_mask|dev_major|dev_minor|btime\..*))$/.test(field))
    return 'statx-mask';
  if (/\.(nodeid|fh|generation|ino)$/.test(field) && BigInt(said) > EXACT) return 'identity';
  if (field.startsWith('fuse_ioctl_out.')) return 'ioctl-retry';
  if (recorded.entries !== undefined && field.startsWith('data')) return 'listing';
  return undefined;
}

function isBeyond(value: StructValue): boolean {
  return Object.values(value).some((field) => typeof field === 'bigint' && (field > EXACT || field < 0n));
}

const S_IFMT = 0o170000;
const MODE_MAX = 0xffff;

/** Whether the kernel would make an error of an answer (fuse_invalid_attr and its like). */
function isImpossible(recorded: ReplyMessage): boolean {
  const value = recorded.structs[0]?.value ?? {};
  const attr = (value.attr ?? value.stat) as StructValue | undefined;
  if (attr === undefined) return false;
  const mode = attr.mode as number;
  return (mode & S_IFMT) === 0 || mode > MODE_MAX || (attr.size as bigint) > EXACT;
}

/** An author cannot give such a number, and the library refuses it. */
function hasLargeIdentity(recorded: ReplyMessage): boolean {
  return recorded.structs.some(({ value }) => [value.nodeid, value.fh].some((id) => typeof id === 'bigint' && id > EXACT));
}

function listingRule(recorded: ReplyMessage): ScriptedRule | undefined {
  if (recorded.entries?.some(({ entry }) => entry !== undefined && (entry.nodeid as bigint) > EXACT)) return 'identity';
  return recorded.entries === undefined ? undefined : 'listing';
}

/** `LOOKUP in node 1 of "a"`, for the text of a difference. */
export function describeRequest(request: RequestMessage): string {
  const names = request.names.map((name) => JSON.stringify(name)).join(' ');
  return `${request.opcode} node ${String(request.header.nodeid)}${names === '' ? '' : ` ${names}`}`;
}
