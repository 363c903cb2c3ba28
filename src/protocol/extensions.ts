/**
 * The extension area at the end of creating requests: security contexts (FUSE_SECURITY_CTX) and the supplementary groups
 * that count (FUSE_CREATE_SUPP_GROUP). Records are padded to 8 bytes and say their own size. Up to FUSE_MAX_NR_SECCTX the
 * second word of a record is a count of security contexts, above it is a type.
 */
import { alignRecord } from './dirents.ts';
import { type DecodeFailure, EncodeError, failure } from './failure.ts';
import { FUSE_EXT_GROUPS, FUSE_MAX_NR_SECCTX } from './generated/constants.ts';
import { EXT_HEADER_SIZE, SECCTX_HEADER_SIZE, SECCTX_SIZE, SUPP_GROUPS_SIZE } from './generated/structs.ts';
import { decodeBinary, encodeBinary, findNul } from './names.ts';

export interface SecurityContext {
  /** Name of the extended attribute, as in `security.selinux`; one character a byte. */
  name: string;
  /** The label, a copy. */
  value: Uint8Array;
}

export interface Extensions {
  /** Supplementary groups of the caller that count for the request. */
  groups: number[];
  securityContexts: SecurityContext[];
}

/**
 * Decodes the extension area `bytes[from..to)`. Records of unknown types are passed over. Never throws, never reads
 * outside; the result has `kind: 'failure'` when the area is malformed.
 */
export function decodeExtensions(bytes: Uint8Array, from: number, to: number): Extensions | DecodeFailure {
  const end = Math.min(to, bytes.length);
  const found: Extensions = { groups: [], securityContexts: [] };
  if (from >= end) return found;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = from; at < end; ) {
    if (end - at < EXT_HEADER_SIZE) return failure('BAD_EXTENSION', at, 'The extension area ends inside the head of a record.');
    const size = view.getUint32(at, true);
    const type = view.getUint32(at + 4, true);
    if (size < EXT_HEADER_SIZE || size > end - at)
      return failure('BAD_EXTENSION', at, `A record of the extension area says it has ${size} bytes.`);
    const refused =
      type <= FUSE_MAX_NR_SECCTX
        ? securityContexts(view, bytes, at, at + size, type, found)
        : type === FUSE_EXT_GROUPS
          ? supplementaryGroups(view, at, at + size, found)
          : undefined;
    if (refused !== undefined) return refused;
    at += alignRecord(size);
  }
  return found;
}

function securityContexts(
  view: DataView,
  bytes: Uint8Array,
  record: number,
  end: number,
  count: number,
  found: Extensions,
): DecodeFailure | undefined {
  let at = record + SECCTX_HEADER_SIZE;
  for (let index = 0; index < count; index++) {
    if (end - at < SECCTX_SIZE) return failure('BAD_EXTENSION', at, 'A security context ends inside its head.');
    const valueBytes = view.getUint32(at, true);
    const nameAt = at + SECCTX_SIZE;
    const nul = findNul(bytes, nameAt, end);
    if (nul < 0) return failure('BAD_EXTENSION', nameAt, 'The name of a security context has no NUL.');
    if (valueBytes > end - nul - 1) return failure('BAD_EXTENSION', at, `A security context says it has ${valueBytes} bytes.`);
    const valueEnd = nul + 1 + valueBytes;
    found.securityContexts.push({ name: decodeBinary(bytes, nameAt, nul), value: bytes.slice(nul + 1, valueEnd) });
    at += alignRecord(valueEnd - at);
  }
  return undefined;
}

function supplementaryGroups(view: DataView, record: number, end: number, found: Extensions): DecodeFailure | undefined {
  const at = record + EXT_HEADER_SIZE;
  if (end - at < SUPP_GROUPS_SIZE)
    return failure('BAD_EXTENSION', at, 'The record of supplementary groups ends inside its head.');
  const count = view.getUint32(at, true);
  if (count > (end - at - SUPP_GROUPS_SIZE) / 4)
    return failure('BAD_EXTENSION', at, `The record of supplementary groups says it has ${count}.`);
  for (let index = 0; index < count; index++) found.groups.push(view.getUint32(at + SUPP_GROUPS_SIZE + index * 4, true));
  return undefined;
}

/** What {@link encodeExtensions} writes: a part that is undefined has no record at all. */
export interface ExtensionsInit {
  groups?: readonly number[] | undefined;
  /** An empty list still makes a record, as the kernel sends it when no security module has a label. */
  securityContexts?: readonly SecurityContext[] | undefined;
}

/** Bytes of the extension area, a multiple of 8. */
export function extensionsBytes(extensions: ExtensionsInit): number {
  const { groups, securityContexts: contexts } = extensions;
  let bytes = 0;
  if (contexts !== undefined) {
    bytes += SECCTX_HEADER_SIZE;
    for (const context of contexts) bytes += alignRecord(SECCTX_SIZE + context.name.length + 1 + context.value.length);
  }
  if (groups !== undefined) bytes += alignRecord(EXT_HEADER_SIZE + SUPP_GROUPS_SIZE + groups.length * 4);
  return bytes;
}

/** The extension area, in the order and with the padding of the kernel (fs/fuse/dir.c, get_create_ext). */
export function encodeExtensions(extensions: ExtensionsInit): Uint8Array {
  const bytes = new Uint8Array(extensionsBytes(extensions));
  const view = new DataView(bytes.buffer);
  const { groups, securityContexts: contexts } = extensions;
  let at = 0;
  if (contexts !== undefined) {
    if (contexts.length > FUSE_MAX_NR_SECCTX) {
      throw new EncodeError(
        'VALUE_OUT_OF_RANGE',
        `a request brings at most ${FUSE_MAX_NR_SECCTX} security contexts, not ${contexts.length}`,
      );
    }
    view.setUint32(4, contexts.length, true);
    at = SECCTX_HEADER_SIZE;
    for (const context of contexts) {
      view.setUint32(at, context.value.length, true);
      if (encodeBinary(bytes, at + SECCTX_SIZE, context.name) < 0 || context.name.includes('\0')) {
        throw new EncodeError('BAD_NAME', 'the name of a security context is one character a byte, without NUL');
      }
      const valueAt = at + SECCTX_SIZE + context.name.length + 1;
      bytes.set(context.value, valueAt);
      at += alignRecord(valueAt + context.value.length - at);
    }
    view.setUint32(0, at, true);
  }
  if (groups !== undefined) {
    view.setUint32(at, bytes.length - at, true);
    view.setUint32(at + 4, FUSE_EXT_GROUPS, true);
    view.setUint32(at + 8, groups.length, true);
    groups.forEach((group, index) => {
      view.setUint32(at + EXT_HEADER_SIZE + SUPP_GROUPS_SIZE + index * 4, group, true);
    });
  }
  return bytes;
}
