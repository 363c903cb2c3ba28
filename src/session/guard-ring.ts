/**
 * The guard of threads that serve by rings (FUSE-over-io_uring).
 *
 * The kernel binds a request to an entry of one thread when it is made, and copies it in that very thread's context (task work), the
 * next time it enters its ring. When that thread sleeps in the call that made the request, nobody else can have it: it is in
 * no queue, and no thread may enter another one's ring (IORING_SETUP_SINGLE_ISSUER). Not even an abort of the connection ends it, nor
 * a SIGKILL: the process would stay until the machine is started again. So when it is certain that threads wait for themselves,
 * their rings are taken away. That ends what waits there, with ECANCELED, and the threads go on, with new rings. A thread that waits
 * for a child instead sleeps where signals reach it: it is made to enter its ring, and the child's request is answered EDEADLK.
 */
import { closeSync, openSync, writeSync } from 'node:fs';
import { constants } from 'node:os';
import type { Addon } from '../native/index.ts';
import { ringQueues } from '../transport/index.ts';
import { type Mounts, mountsOf } from './guard-mounts.ts';
import { callerOf, callNames, childrenOf, isWaiting, sleepsIn, switchesOf } from './guard-proc.ts';
import { nudgeQueues } from './nudge.ts';

const { EDEADLK } = constants.errno;
const POLLERR = 8;
const MNT_FORCE = 1;
const UMOUNT_NOFOLLOW = 8;
/** Looks in a row that must find the same; at the second one all threads are asked for a sign of life, and have the others for it. */
const LOOKS = 4;
const LOOKS_BEFORE_ASKING = 2;

/** One thread that serves by a ring, between looks. */
export interface RingThread {
  readonly key: number;
  readonly threadId: number;
  readonly fd: number;
  readonly ringKey: number;
  /** Number of its connection, from /proc/self/fdinfo. */
  readonly connection: string;
  looks: number;
  switches: string;
  /** Whether its event loop ran since it was asked. */
  answers: boolean;
  /** Whether something was done about it, or could not be. */
  isTold: boolean;
}

/** A thread that waits for itself: by a call of its own, or by a child that makes one. */
interface Stuck {
  readonly thread: RingThread;
  readonly child: number | undefined;
  readonly why: string;
}

/** What a look at the threads of a connection came to. */
export interface RingVerdict {
  readonly threadId: number;
  readonly why: string;
}

/** Looks at connections whose threads serve by rings. */
export class RingWatch {
  readonly #addon: Addon;
  /** Asks for a sign of life, which sets {@link RingThread.answers}; key 0 is the main thread. */
  readonly #ask: (key: number) => void;
  /** Those that lost their rings, until they have others. */
  readonly #released = new Set<number>();
  /** Whether the main thread, by which the signs of life come, gave one. */
  mainAnswers = false;

  constructor(addon: Addon, ask: (key: number) => void) {
    this.#addon = addon;
    this.#ask = ask;
  }

  /** Answers what was done, if something was. */
  look(threads: readonly RingThread[]): RingVerdict | undefined {
    this.#nudge(threads);
    const waiting = threads.filter((thread) => this.#mayWait(thread));
    if (waiting.length === 0) return undefined;
    for (const connection of new Set(waiting.map((thread) => thread.connection))) {
      const verdict = this.#lookAt(threads.filter((thread) => thread.connection === connection));
      if (verdict !== undefined) return verdict;
    }
    return undefined;
  }

  #nudge(threads: readonly RingThread[]): void {
    for (const ringKey of this.#released) {
      if (this.#addon.ringIsBroken(ringKey)) continue;
      this.#released.delete(ringKey);
      const thread = threads.find((one) => one.ringKey === ringKey);
      if (thread !== undefined) nudgeQueues(this.#addon, thread.fd, ringQueues());
    }
  }

  /** A cheap look: it sleeps in a call of FUSE, or where one waits for a child; and nothing happened since the last look. */
  #mayWait(thread: RingThread): boolean {
    const sleeps = sleepsIn(thread.threadId);
    if (isWaiting(thread.threadId) || (/pipe|poll/.test(sleeps) && someChildWaits())) {
      const switches = switchesOf(thread.threadId);
      const isSame = thread.looks > 0 && switches === thread.switches;
      thread.looks = isSame ? thread.looks + 1 : 1;
      thread.isTold &&= isSame;
      thread.switches = switches;
    } else {
      thread.looks = 0;
      thread.isTold = false;
    }
    return thread.looks > 0;
  }

  #lookAt(group: readonly RingThread[]): RingVerdict | undefined {
    const longest = Math.max(...group.map((thread) => thread.looks));
    if (longest === LOOKS_BEFORE_ASKING) {
      this.mainAnswers = false;
      this.#ask(0);
      for (const thread of group) {
        thread.answers = false;
        this.#ask(thread.key);
      }
    }
    if (longest < LOOKS) return undefined;
    const mounts = mountsOf(group[0].connection);
    // Another thread that gets on would have refused a request for a path, which went to one of its own entries.
    const isAlone = group.every((thread) => thread.looks >= LOOKS);
    const others = group.filter((thread) => thread.looks < LOOKS);
    if (!others.every((thread) => thread.answers)) return undefined;
    const found: Stuck[] = [];
    for (const thread of group) {
      if (thread.looks < LOOKS) continue;
      const stuck = this.#waitsForItself(thread, mounts, isAlone);
      // Where all of them wait, one that waits for something else will get on some day, and serve.
      if (stuck === undefined && isAlone) return undefined;
      if (stuck !== undefined) found.push(stuck);
    }
    return found.length === 0 ? undefined : this.#end(found, mounts, isAlone);
  }

  #waitsForItself(thread: RingThread, mounts: Mounts, isAlone: boolean): Stuck | undefined {
    const { threadId, answers } = thread;
    if (isWaiting(threadId)) {
      if (!isOn(threadId, mounts, isAlone)) return undefined;
      return { thread, child: undefined, why: 'the daemon used its own mount' };
    }
    // Without the main thread nobody's sign of life arrives. While it waits itself, it gives none, but then it is that thread.
    if (answers || !(this.mainAnswers || threadId === process.pid)) return undefined;
    const isInPipe = /pipe/.test(sleepsIn(threadId));
    for (const child of childrenOf(process.pid)) {
      if (!isWaiting(child) || !isOn(child, mounts, true)) continue;
      const isBefore = callerOf(child)?.beforeExec ?? false;
      if (isInPipe && isBefore) return { thread, child, why: 'the daemon started a child on its own mount' };
      if (!isInPipe && !isBefore) return { thread, child, why: 'the daemon waits synchronously for a child that uses its mount' };
    }
    return undefined;
  }

  #end(found: readonly Stuck[], mounts: Mounts, isAlone: boolean): RingVerdict | undefined {
    const [{ thread, why }] = found;
    if (thread.isTold || !this.#isConnected(thread)) return undefined;
    const isReleased = found.every((stuck) => this.#release(stuck, found));
    // What a child waits for may lie with another thread, which serves it some day.
    if (!isReleased && !isAlone) {
      for (const { thread: one } of found) one.looks = 0;
      return undefined;
    }
    for (const { thread: one } of found) one.isTold = true;
    const said = `${why}, and over io_uring nobody else can serve it`;
    const { threadId } = thread;
    if (isReleased) return { threadId, why: `${said}; the guard ended the request` };
    // It sleeps again, and has not come to its ring in between: its request is in a queue that has no entries.
    if (this.#abort(thread, mounts)) return { threadId, why: `${said}; the connection was aborted` };
    return { threadId, why: `${said}; it hangs, since aborting the connection needs privileges or a mounted fusectl` };
  }

  /** The own call of a thread loses its ring, a child has an answer. */
  #release({ thread, child }: Stuck, found: readonly Stuck[]): boolean {
    if (child === undefined) {
      this.#released.add(thread.ringKey);
      return this.#addon.ringBreak(thread.ringKey) === 0;
    }
    // The kernel may have given the child's request to the ring of any of them.
    return found.some((one) => this.#addon.ringRefuseCaller(one.thread.ringKey, child, EDEADLK) > 0);
  }

  #isConnected({ fd }: RingThread): boolean {
    return (this.#addon.poll(fd, 0, 0) & POLLERR) === 0;
  }

  #abort(thread: RingThread, { places, control }: Mounts): boolean {
    const isStill = () => this.#isConnected(thread);
    if (control !== undefined && writeAbort(`${control}/${thread.connection}/abort`, isStill)) return true;
    // FUSE aborts the connection before it is looked whether the mount is busy.
    return places.some(({ path }) => this.#addon.umount(path, MNT_FORCE | UMOUNT_NOFOLLOW) === 0 || !isStill());
  }
}

function someChildWaits(): boolean {
  for (const child of childrenOf(process.pid)) if (isWaiting(child)) return true;
  return false;
}

/** Closing is served by others, and slowly at times: so only where nobody else could serve do descriptors count. */
function isOn(threadId: number, { places, isOnly }: Mounts, isAlone: boolean): boolean {
  const namings = places.map((place) => callNames(threadId, place));
  return namings.includes('path') || (isAlone && (isOnly || namings.includes('descriptor')));
}

/** The control file is opened before it is asked whether its connection lives, which may have lost its number by then. */
function writeAbort(path: string, isStill: () => boolean): boolean {
  try {
    const file = openSync(path, 'r+');
    try {
      if (isStill()) writeSync(file, '1');
      return true;
    } finally {
      closeSync(file);
    }
  } catch {
    return false;
  }
}
