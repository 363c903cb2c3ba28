/** read(2) and write(2) through the page cache. */
import { decodeWriteOut, FUSE_WRITE_KILL_SUIDGID, newWriteOut } from '../../protocol/index.ts';
import { hasSetId, refresh, removePrivileges } from './attributes.ts';
import { O_LARGEFILE, PAGE_BYTES, STATX_MODE, STATX_MODSIZE, STATX_SIZE } from './constants.ts';
import { accessed, type Call, type Core, has, isPrivileged, requestBytesMax } from './core.ts';
import { ERRNO, fail } from './errors.ts';
import type { OpenFile } from './files.ts';
import { assertGood, type Inode } from './inodes.ts';
import type { Reply } from './wire.ts';
import { touch } from './writeback.ts';

const { EIO } = ERRNO;

const pageOf = (offset: number): number => Math.floor(offset / PAGE_BYTES);

// --- reading -------------------------------------------------------------------------------------------------------------------

/** fuse_cache_read_iter. Fewer bytes than asked: end of file. */
export async function readBuffered(core: Core, call: Call, file: OpenFile, offset: number, length: number): Promise<Uint8Array> {
  const { inode } = file;
  assertGood(inode);
  if (has(core, 'FUSE_AUTO_INVAL_DATA') || offset + length > inode.size) await refresh(core, call, inode, STATX_SIZE, file);
  const parts: Uint8Array[] = [];
  let at = offset;
  while (at < offset + length && at < inode.size) {
    const index = pageOf(at);
    const page =
      inode.pages.get(index) ?? (await loadPage(core, call, file, index, pageOf(Math.min(offset + length, inode.size) - 1)));
    const end = Math.min(offset + length, inode.size, (index + 1) * PAGE_BYTES);
    if (end > at) parts.push(page.slice(at - index * PAGE_BYTES, end - index * PAGE_BYTES));
    at = Math.max(end, at + 1);
  }
  return join(parts);
}

function join(parts: readonly Uint8Array[]): Uint8Array {
  if (parts.length === 1) return parts[0]!;
  const whole = new Uint8Array(parts.reduce((total, part) => total + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** A page that is not cached: read with its neighbours ahead of it, and alone when that failed. */
async function loadPage(core: Core, call: Call, file: OpenFile, index: number, lastWanted: number): Promise<Uint8Array> {
  const { pages } = file.inode;
  const underWay = pages.loading.get(index);
  if (underWay !== undefined) await underWay;
  else await readAhead(core, call, file, index, lastWanted);
  const cached = pages.get(index);
  if (cached !== undefined) return cached;
  const reply = await sendRead(core, call, file, index * PAGE_BYTES, PAGE_BYTES);
  if (reply.errno !== 0) fail(reply.errno);
  const page = new Uint8Array(PAGE_BYTES);
  page.set(reply.bytes);
  pages.fill(index, page);
  return page;
}

/** How far a read at `index` reads ahead: doubled for each sequential read, up to what INIT agreed on. */
function window(core: Core, inode: Inode, index: number, wantedPages: number): number {
  const { pages } = inode;
  const pagesMax = Math.max(1, Math.floor(core.wire.agreed.maxReadahead / PAGE_BYTES));
  const isSequential = index === 0 || index === pages.nextPage;
  if (!isSequential) pages.windowPages = wantedPages;
  else if (index === 0 || pages.windowPages === 0) pages.windowPages = Math.min(pagesMax, wantedPages <= 1 ? 4 : wantedPages * 2);
  else pages.windowPages = Math.min(pagesMax, pages.windowPages * 2);
  return Math.max(wantedPages, pages.windowPages);
}

async function readAhead(core: Core, call: Call, file: OpenFile, index: number, lastWanted: number): Promise<void> {
  const { inode } = file;
  const { pages } = inode;
  const count = window(core, inode, index, lastWanted - index + 1);
  const last = Math.min(index + count - 1, pageOf(inode.size - 1));
  pages.nextPage = last + 1;
  const pagesMax = Math.max(1, pageOf(Math.min(requestBytesMax(core), core.mount.maxRead)));
  const reads: Promise<void>[] = [];
  for (let at = index; at <= last; ) {
    if (pages.has(at) || pages.loading.has(at)) {
      at++;
      continue;
    }
    let end = at;
    while (end < last && end - at + 1 < pagesMax && !pages.has(end + 1) && !pages.loading.has(end + 1)) end++;
    const read = readPages(core, call, file, at, end - at + 1);
    reads.push(read);
    // Without FUSE_ASYNC_READ one READ is under way at a time.
    if (!has(core, 'FUSE_ASYNC_READ')) await read;
    at = end + 1;
  }
  await Promise.all(reads);
}

async function readPages(core: Core, call: Call, file: OpenFile, index: number, count: number): Promise<void> {
  const { inode } = file;
  const { pages } = inode;
  let loaded!: () => void;
  const loading = new Promise<void>((resolve) => {
    loaded = resolve;
  });
  for (let at = index; at < index + count; at++) pages.loading.set(at, loading);
  const version = core.attrVersion;
  const reply = await sendReadAhead(core, call, file, index * PAGE_BYTES, count * PAGE_BYTES);
  const isCurrent = (at: number) => pages.loading.get(at) === loading;
  if (reply.errno === 0) {
    const { bytes } = reply;
    for (let at = 0; at < count; at++)
      if (isCurrent(index + at)) pages.fill(index + at, bytes.subarray(at * PAGE_BYTES, (at + 1) * PAGE_BYTES));
    if (bytes.length < count * PAGE_BYTES) shortRead(core, inode, index * PAGE_BYTES + bytes.length, version);
  }
  for (let at = index; at < index + count; at++) if (isCurrent(at)) pages.loading.delete(at);
  loaded();
}

/** fuse_read_update_size: a short answer means end of file, unless the kernel owns the size or it changed meanwhile. */
function shortRead(core: Core, inode: Inode, end: number, version: number): void {
  if (has(core, 'FUSE_WRITEBACK_CACHE') || inode.attrVersion > version || end >= inode.size || inode.isSizeUnstable) return;
  inode.attrVersion = ++core.attrVersion;
  inode.attr.size = end;
}

/** Read-ahead is a background request where FUSE_ASYNC_READ was agreed on: no signal reaches it, and max_background bounds it. */
async function sendReadAhead(core: Core, call: Call, file: OpenFile, offset: number, size: number): Promise<Reply> {
  if (!has(core, 'FUSE_ASYNC_READ')) return sendRead(core, call, file, offset, size);
  const args = { fh: file.handle, offset, size, flags: file.flags | O_LARGEFILE };
  const outgoing = { op: 'READ', nodeid: file.inode.nodeid, args, caller: call, isForced: true } as const;
  const reply = await new Promise<Reply>((resolve) => void core.wire.background(outgoing, resolve));
  if (reply.errno === 0) accessed(core, file.inode);
  return reply;
}

async function sendRead(core: Core, call: Call, file: OpenFile, offset: number, size: number): Promise<Reply> {
  const args = { fh: file.handle, offset, size, flags: file.flags | O_LARGEFILE };
  const reply = await core.wire.request({ op: 'READ', nodeid: file.inode.nodeid, args, caller: call });
  if (reply.errno === 0) accessed(core, file.inode);
  return reply;
}

// --- writing -------------------------------------------------------------------------------------------------------------------

/** fuse_cache_write_iter for a file that is not direct. The caller holds the inode's lock. */
export async function writeBuffered(core: Core, call: Call, file: OpenFile, offset: number, data: Uint8Array): Promise<number> {
  const { inode } = file;
  if (has(core, 'FUSE_WRITEBACK_CACHE')) {
    await refresh(core, call, inode, STATX_SIZE | STATX_MODE, file);
    // Set-id bits that the daemon takes away must not wait for the write-back.
    const killsByDaemon = has(core, 'FUSE_HANDLE_KILLPRIV_V2') && hasSetId(inode.mode) && !isPrivileged(call.caller);
    if (killsByDaemon) return writeThrough(core, call, file, offset, data);
    const at = file.appends ? inode.size : offset;
    await removePrivileges(core, call, inode);
    return writeToCache(core, call, file, at, data);
  }
  await removePrivileges(core, call, inode);
  return writeThrough(core, call, file, offset, data);
}

/** fuse_write_update_attr. */
export function noteWritten(core: Core, inode: Inode, end: number, written: number): void {
  inode.attrVersion = ++core.attrVersion;
  if (written > 0 && end > inode.size) inode.attr.size = end;
  inode.invalidate(STATX_MODSIZE);
}

/** fuse_perform_write: up to the page boundary first, then as much as one request takes; a short answer ends it. */
export async function writeThrough(core: Core, call: Call, file: OpenFile, offset: number, data: Uint8Array): Promise<number> {
  const { inode } = file;
  const pageBytes = has(core, 'FUSE_BIG_WRITES') ? requestBytesMax(core) : PAGE_BYTES;
  const bytesMax = Math.min(core.wire.agreed.maxWrite, pageBytes);
  let done = 0;
  let errno = 0;
  while (done < data.length && errno === 0) {
    const at = offset + done;
    const intoPage = at % PAGE_BYTES;
    const room = intoPage === 0 ? bytesMax : PAGE_BYTES - intoPage;
    const part = data.subarray(done, done + Math.min(room, data.length - done));
    const written = await sendWrite(core, call, file, at, part);
    if (written < 0) {
      errno = -written;
      inode.pages.dropRange(at, at + part.length);
      break;
    }
    if (written === part.length) inode.pages.write(at, part, false);
    else {
      inode.pages.dropRange(at, at + part.length);
      errno = EIO;
    }
    done += written;
  }
  noteWritten(core, inode, offset + done, done);
  if (done === 0 && errno !== 0) fail(errno);
  return done;
}

/** One WRITE of the cache; the bytes written or a negative errno. */
async function sendWrite(core: Core, call: Call, file: OpenFile, offset: number, data: Uint8Array): Promise<number> {
  const kills = has(core, 'FUSE_HANDLE_KILLPRIV_V2') && !isPrivileged(call.caller);
  const write_flags = kills ? FUSE_WRITE_KILL_SUIDGID : 0;
  const args = { fh: file.handle, offset, size: data.length, write_flags, flags: file.flags | O_LARGEFILE };
  const reply = await core.wire.request({ op: 'WRITE', nodeid: file.inode.nodeid, args, data, caller: call });
  if (reply.errno !== 0) return -reply.errno;
  const out = newWriteOut();
  decodeWriteOut(reply.words, 0, out);
  return out.size > data.length ? -EIO : out.size;
}

/** Write-back: pages become dirty; those that are written in part are read first where the file has bytes. */
async function writeToCache(core: Core, call: Call, file: OpenFile, offset: number, data: Uint8Array): Promise<number> {
  const { inode } = file;
  const end = offset + data.length;
  for (const edge of new Set([pageOf(offset), pageOf(end - 1)])) {
    const start = edge * PAGE_BYTES;
    const isWhole = offset <= start && end >= Math.min(start + PAGE_BYTES, Math.max(inode.size, start + 1));
    if (isWhole || inode.pages.has(edge) || start >= inode.size) continue;
    const reply = await sendRead(core, call, file, start, PAGE_BYTES);
    if (reply.errno !== 0) fail(reply.errno);
    inode.pages.fill(edge, reply.bytes);
  }
  inode.pages.write(offset, data, true, true);
  if (end > inode.size) {
    inode.attr.size = end;
    inode.attrVersion = ++core.attrVersion;
  }
  touch(core, inode);
  return data.length;
}
