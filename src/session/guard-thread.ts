/**
 * The guard of threads that serve: finds requests of this process that nobody is left to answer, because who should do so sleeps
 * in the very system call that made them, and answers them EDEADLK.
 *
 * It looks now and then. While requests wait in a connection's queue, and a thread of this process or a child sleeps in a call
 * of FUSE, three times in a row, it receives in place of the sleeping thread and by its descriptor. Requests of this process,
 * and of children that it waits for, are refused; all others are handed to the thread, which serves them when it goes on.
 */
import { fstatSync, readdirSync, readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { parentPort } from 'node:worker_threads';
import { type Addon, loadAddon } from '../native/index.ts';
import {
  decodeInHeader,
  encodeOutHeader,
  type InHeader,
  newInHeader,
  OPCODES,
  OUT_HEADER_SIZE,
  opcodeRow,
} from '../protocol/index.ts';
import { CLAIM_OPEN, CLAIM_REFUSED, type Claim } from './claim.ts';
import type { FromGuard, ToGuard } from './guard.ts';

const { EDEADLK } = constants.errno;
const POLLIN = 1;
/** st_rdev of /dev/fuse: character device 10:229. */
const DEVICE = (10 << 8) | 229;
/** Looks in a row that must find the same before anything is done. */
const LOOKS = 3;
/** Messages, and bytes of them, that may be handed on until the queue was found empty. */
const MESSAGES_MAX = 1024;
const BYTES_MAX = 16 << 20;
/** How long the next request of who was refused is waited for, milliseconds. */
const NEXT_MS = 20;
/** PF_FORKNOEXEC of <linux/sched.h>: a child that has not started its program yet. */
const PF_FORKNOEXEC = 0x40;

/** Closing waits for none of these, so the thread may serve them later. */
const LATER = new Set(
  ['RELEASE', 'RELEASEDIR', 'INTERRUPT', 'DESTROY'].map((name) => OPCODES.find((row) => row.name === name)?.value),
);

interface Guarded {
  readonly key: number;
  readonly threadId: number;
  readonly fd: number;
  readonly receiveBytes: number;
  /** How often in a row requests were found waiting. */
  looks: number;
  /** Whether the thread's event loop runs. */
  answers: boolean;
  /** How often the thread was put to sleep or displaced, at the first look. Where it changes, the thread gets on. */
  switches: string;
  /** What was handed to the thread, and it has not begun with. */
  handed: Handed[];
  handedBytes: number;
}

interface Handed extends InHeader {
  readonly claim: Claim;
  /** Nobody sleeps for it. */
  readonly isLater: boolean;
}

const addon: Addon = loadAddon();
const port = parentPort!;
const threads = new Map<number, Guarded>();
let timer: NodeJS.Timeout | undefined;
let memory = new ArrayBuffer(0);
let memoryId = -1;
const reply = new ArrayBuffer(OUT_HEADER_SIZE);
const replyId = addon.registerBuffer(reply);

const tell = (message: FromGuard): void => port.postMessage(message);

port.on('message', (message: ToGuard) => {
  if (message.type === 'add') {
    const { key, threadId, fd, receiveBytes, intervalMs } = message;
    threads.set(key, { key, threadId, fd, receiveBytes, looks: 0, answers: false, switches: '', handed: [], handedBytes: 0 });
    timer ??= setInterval(look, intervalMs);
  } else if (message.type === 'remove') {
    threads.delete(message.key);
    if (threads.size > 0) return;
    clearInterval(timer);
    timer = undefined;
  } else {
    const thread = threads.get(message.key);
    if (thread !== undefined) thread.answers = true;
  }
});

function look(): void {
  let sleeping: boolean | undefined;
  for (const thread of threads.values()) {
    thread.handed = thread.handed.filter(({ claim }) => Atomics.load(claim, 0) === CLAIM_OPEN);
    if (thread.handed.length === 0 && (addon.poll(thread.fd, POLLIN, 0) & POLLIN) === 0) {
      thread.looks = 0;
      thread.handedBytes = 0;
      continue;
    }
    sleeping ??= somebodySleeps();
    if (sleeping) lookAgain(thread);
    else thread.looks = 0;
  }
}

function lookAgain(thread: Guarded): void {
  if (thread.looks === LOOKS - 1) {
    thread.looks = 0;
    receive(thread);
    return;
  }
  const switches = /^voluntary_ctxt_switches.*\n.*$/m.exec(read(`/proc/self/task/${thread.threadId}/status`))?.[0] ?? '';
  const getsOn = thread.looks > 0 && switches !== thread.switches;
  thread.switches = switches;
  thread.looks = getsOn ? 1 : thread.looks + 1;
  if (thread.looks < LOOKS - 1) return;
  thread.answers = false;
  tell({ type: 'ping', key: thread.key });
}

// --- who waits -----------------------------------------------------------------------------------------------------------

function read(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}

/** The function of the kernel that a thread sleeps in; empty where the kernel does not tell. */
function sleepsIn(threadId: number | string): string {
  const found = read(`/proc/${threadId}/wchan`);
  return found === '0' ? '' : found;
}

/** An answer of FUSE, or a page that a request of FUSE brings. */
const WAITS_FOR_ANSWER = /request_wait_answer|fuse|folio|page/;

function isWaiting(threadId: number | string): boolean {
  return WAITS_FOR_ANSWER.test(sleepsIn(threadId));
}

function* childrenOf(pid: number): Generator<number> {
  let tasks: string[] = [];
  try {
    tasks = readdirSync(`/proc/${pid}/task`);
  } catch {
    // It has ended.
  }
  for (const task of tasks) {
    for (const child of read(`/proc/${pid}/task/${task}/children`).split(' ').filter(Boolean)) {
      yield Number(child);
      yield* childrenOf(Number(child));
    }
  }
}

/** Whether a thread of this process, or of a process that it started, waits for an answer of FUSE. */
function somebodySleeps(): boolean {
  if (readdirSync('/proc/self/task').some(isWaiting)) return true;
  for (const child of childrenOf(process.pid)) if (isWaiting(child)) return true;
  return false;
}

interface Caller {
  parent: number;
  /** It is still a copy of its parent. */
  beforeExec: boolean;
}

function callerOf(threadId: number): Caller | undefined {
  const group = /^Tgid:\s*(\d+)$/m.exec(read(`/proc/${threadId}/status`))?.[1];
  const stat = read(`/proc/${group}/stat`);
  if (group === undefined || stat === '') return undefined;
  // Behind the name, which is the second field: state, parent, group, session, terminal, its group, flags.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return { parent: Number(fields[1]), beforeExec: (Number(fields[6]) & PF_FORKNOEXEC) !== 0 };
}

/**
 * Whether this thread can only go on when the caller has its answer: the caller is this process, or a child before its exec, for
 * whose outcome uv_spawn waits at a pipe, or somebody below a child that is waited for synchronously, in an inner event loop.
 */
function waitsFor(thread: Guarded, pid: number): string | undefined {
  if (addon.isOwnThread(pid)) return 'the daemon used its own mount';
  if (thread.answers) return undefined;
  const sleeps = sleepsIn(thread.threadId);
  let caller = callerOf(pid);
  if (caller?.beforeExec && caller.parent === process.pid) {
    return /pipe/.test(sleeps) ? 'the daemon started a child on its own mount' : undefined;
  }
  if (!/poll/.test(sleeps)) return undefined;
  for (let depth = 0; caller !== undefined && depth < 64; depth++) {
    if (caller.parent === process.pid) return 'the daemon waits synchronously for a child that uses its mount';
    caller = caller.parent > 1 ? callerOf(caller.parent) : undefined;
  }
  return undefined;
}

// --- in its place --------------------------------------------------------------------------------------------------------

function receive(thread: Guarded): void {
  // A duplicate stays what it is while it is used, should the thread end and its number become another file's.
  const fd = addon.dup(thread.fd);
  if (fd < 0) return;
  try {
    if (fstatSync(fd).rdev !== DEVICE) return;
    // What the thread has not even begun can still be refused: it may have fallen asleep only after it was handed on.
    for (const handed of thread.handed) {
      const why = waitsFor(thread, handed.pid);
      if (why === undefined || handed.isLater) continue;
      if (Atomics.compareExchange(handed.claim, 0, CLAIM_OPEN, CLAIM_REFUSED) === CLAIM_OPEN) refuse(fd, handed, why);
    }
    drain(thread, fd);
  } finally {
    addon.close(fd);
  }
}

function drain(thread: Guarded, fd: number): void {
  if (memory.byteLength < thread.receiveBytes) {
    if (memoryId >= 0) addon.unregisterBuffer(memoryId);
    memory = new ArrayBuffer(thread.receiveBytes);
    memoryId = addon.registerBuffer(memory);
  }
  const { handed } = thread;
  // Who was refused often asks again at once, as the second try of a page fault does, which holds a lock of the whole process: so
  // that is waited for here, where nothing more is allocated.
  let waitMs = 0;
  while (handed.length < MESSAGES_MAX && thread.handedBytes < BYTES_MAX && (addon.poll(fd, POLLIN, waitMs) & POLLIN) !== 0) {
    const got = addon.receive(fd, memoryId, 0, thread.receiveBytes);
    if (got <= 0) return;
    waitMs = settle(thread, fd, got) ? NEXT_MS : 0;
  }
}

/** True when the message was refused; else the thread has it. */
function settle(thread: Guarded, fd: number, length: number): boolean {
  const header = newInHeader();
  decodeInHeader(new Uint32Array(memory), 0, header);
  const isLater = header.pid === 0 || opcodeRow(header.opcode)?.hasReply === false || LATER.has(header.opcode);
  const why = isLater ? undefined : waitsFor(thread, header.pid);
  if (why !== undefined) {
    refuse(fd, header, why);
    return true;
  }
  const claim = new Int32Array(new SharedArrayBuffer(4));
  thread.handed.push({ ...header, claim, isLater });
  thread.handedBytes += length;
  tell({ type: 'take', key: thread.key, message: new Uint8Array(memory.slice(0, length)), claim });
  return false;
}

function refuse(fd: number, { opcode, nodeid, pid, unique_lo, unique_hi }: InHeader, why: string): void {
  encodeOutHeader(new Uint32Array(reply), 0, { len: OUT_HEADER_SIZE, error: -EDEADLK, unique_lo, unique_hi });
  addon.reply(fd, replyId, 0, OUT_HEADER_SIZE);
  const operation = opcodeRow(opcode)?.name ?? `opcode ${opcode}`;
  const message = `${why}, and nobody was left to serve it; the request was answered EDEADLK by the guard`;
  tell({ type: 'fault', fault: { kind: 'own-request', operation, nodeid, pid, message } });
}
