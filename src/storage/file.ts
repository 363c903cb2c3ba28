/**
 * One file of a store: the order of its requests, and which of them become one operation.
 *
 * Requests have the order in which they came. One waits for an earlier one that is not done if their bytes overlap and one of them
 * writes; everything else goes at once and is merged freely. A read that meets a write which was answered and not written yet has
 * the bytes of that write.
 */
import type { GatheredWrite, StorageBackend } from './backend.ts';
import { Handle, type WriteHints } from './handle.ts';
import type { Asker, StoredFile } from './interface.ts';
import type { Layer } from './layer.ts';
import { TICK_MS } from './layer.ts';
import { type Operation, ReadOperation, SyncOperation, WriteOperation } from './operation.ts';
import { cut, lengthOf, type Span, subtract, united } from './pieces.ts';
import { ReadyRanges } from './ready.ts';
import { ReadRequest, Segment, type Task, WriteRequest, WriteTask } from './tasks.ts';

/** Ticks after which the signal of who still waits is watched. */
const WATCH_TICKS = 2;

/** A change that nothing of the file may be in flight beside. */
interface Fence {
  readonly seq: number;
  readonly run: () => void;
  isRunning: boolean;
}

/** A contiguous range that grows while what waits touches it. */
interface Extent {
  start: number;
  end: number;
}

export class File implements StoredFile {
  readonly layer: Layer;
  readonly backend: StorageBackend;
  /** Changes with every write that is answered: what was begun before serves nobody who comes after. */
  epoch = 0;
  /** The layer's timer looks at it. */
  isWatched = false;
  /** The errors of writes that were answered before, which some handle has reported. */
  errorsSeen = 0;
  #errors = 0;
  #lastError: unknown;
  #seq = 0;
  /** Segments that wait, in no order. */
  readonly #waiting: Segment[] = [];
  readonly #running: ReadOperation[] = [];
  /** Writes that are not written, in their order. */
  #writes: WriteTask[] = [];
  #fences: Fence[] = [];
  #blocked: Task[] = [];
  #barriers: { seq: number; resolve: () => void }[] = [];
  readonly #ready: ReadyRanges;
  readonly #handles = new Set<Handle>();
  #unwrittenBytes = 0;
  #restingBytes = 0;
  #restingSince = 0;

  constructor(layer: Layer, backend: StorageBackend) {
    this.layer = layer;
    this.backend = backend;
    this.#ready = new ReadyRanges((bytes, wasted) => {
      layer.counters.readAheadNow += bytes;
      layer.counters.readAheadWastedBytes += wasted;
    });
  }

  open(handle = 0, flags = 0): Handle {
    const opened = new Handle(this, handle, flags);
    this.#handles.add(opened);
    return opened;
  }

  closed(handle: Handle): void {
    this.#handles.delete(handle);
    if (this.#handles.size === 0) this.#ready.clear();
  }

  get isOpen(): boolean {
    return this.#handles.size > 0;
  }

  get isActive(): boolean {
    return (
      this.#waiting.length > 0 ||
      this.#running.length > 0 ||
      this.#writes.length > 0 ||
      this.#fences.length > 0 ||
      !this.#ready.isEmpty
    );
  }

  /** Whether writes are answered that are not written. */
  get hasUnwritten(): boolean {
    return this.#unwrittenBytes > 0;
  }

  /** Where the file ends at least, because of writes that are answered and not written; 0: nothing is known. */
  get unwrittenEnd(): number {
    let end = 0;
    const fenceSeq = this.#lastFenceSeq;
    for (const write of this.#writes) if (write.isBuffered && write.seq > fenceSeq && write.end > end) end = write.end;
    return end;
  }

  get #lastFenceSeq(): number {
    return this.#fences.length === 0 ? 0 : this.#fences[this.#fences.length - 1].seq;
  }

  #watch(): void {
    if (this.isWatched) return;
    this.isWatched = true;
    this.layer.activate(this);
  }

  // --- reads -----------------------------------------------------------------------------------------------------------------

  read(handle: Handle, offset: number, length: number, asker: Asker | undefined): Promise<Uint8Array | readonly Uint8Array[]> {
    const { layer } = this;
    layer.counters.reads++;
    layer.counters.readBytes += length;
    if (length === 0) return Promise.resolve(new Uint8Array(0));
    return new Promise((resolve, reject) => {
      layer.admit();
      this.#watch();
      const seq = ++this.#seq;
      const knownEnd = this.#unwrittenBytes > 0 ? this.unwrittenEnd : 0;
      const request = new ReadRequest(this, offset, length, knownEnd, asker, resolve, reject);
      if (this.#writes.length === 0 && this.#ready.isEmpty) {
        this.#addSegments(handle, offset, offset + length, seq, request);
        return;
      }
      for (const { start, end } of this.#takeBuffered([{ start: offset, end: offset + length }], request))
        this.#addSegments(handle, start, end, seq, request);
      request.finishIfWhole();
    });
  }

  /** Long ranges are read by several operations. */
  #addSegments(handle: Handle, start: number, end: number, seq: number, request: ReadRequest | undefined): void {
    const { rangeBytesMax } = this.layer.settings;
    for (let at = start; at < end; at += rangeBytesMax) {
      const segment = new Segment(this, handle, at, Math.min(end, at + rangeBytesMax), seq, request);
      this.#wait(segment);
      if (request === undefined) this.layer.submitAhead(segment);
      else this.layer.submit(segment);
    }
  }

  /** What was not written yet, and what was read ahead. Answers what is in neither. */
  #takeBuffered(spans: readonly Span[], request: ReadRequest): readonly Span[] {
    let found = false;
    const add = ({ start, end }: Span, bytes: readonly Uint8Array[]): void => {
      found = true;
      request.add(start, end, bytes);
    };
    let left = spans;
    const fenceSeq = this.#lastFenceSeq;
    // What a write that nobody was answered for will change has to be waited for, whatever lies below it.
    const waiting: Span[] = [];
    for (let index = this.#writes.length - 1; index >= 0 && left.length > 0; index--) {
      const { start, end, isBuffered, bytes, seq } = this.#writes[index];
      // What comes before a truncation says nothing of what will be after it.
      if (seq < fenceSeq) break;
      left = subtract(left, start, end, (inside) => {
        if (isBuffered) add(inside, cut([bytes], inside.start - start, inside.end - inside.start));
        else waiting.push(inside);
      });
    }
    if (fenceSeq === 0) left = this.#ready.take(left, this.#handles.size > 1, add);
    if (found) this.layer.counters.buffered++;
    // One operation for all of it, later, is better than one now and another then.
    return waiting.length === 0 ? left : united([...left, ...waiting]);
  }

  #wait(segment: Segment): void {
    segment.index = this.#waiting.length;
    segment.isWaiting = true;
    this.#waiting.push(segment);
  }

  /** Takes a segment out of those that wait. */
  remove(segment: Segment): void {
    segment.isWaiting = false;
    const last = this.#waiting.pop()!;
    if (last === segment) return;
    this.#waiting[segment.index] = last;
    last.index = segment.index;
  }

  /** Whether any of it may be on its way already. */
  canJoin({ start, end, isAlone }: Segment): boolean {
    if (isAlone || !this.layer.settings.merge) return false;
    for (const operation of this.#running) if (operation.start < end && start < operation.end) return true;
    return false;
  }

  /** Lets a segment wait for what is being read already. Answers what of it nobody reads. */
  join(segment: Segment): readonly Segment[] {
    let spans: readonly Span[] = [segment];
    const joined: { span: Span; operation: ReadOperation }[] = [];
    for (const operation of this.#running) {
      if (operation.isAborted || operation.isEnded || operation.epoch !== this.epoch) continue;
      for (const { offset, length } of operation.ranges)
        spans = subtract(spans, offset, offset + length, (span) => joined.push({ span, operation }));
    }
    if (joined.length === 0) return [segment];
    const { request, handle, seq } = segment;
    this.remove(segment);
    segment.done();
    const part = ({ start, end }: Span): Segment => new Segment(this, handle, start, end, seq, request);
    if (request !== undefined) {
      this.layer.counters.joined++;
      for (const { span, operation } of joined) {
        const waits = part(span);
        waits.isWaiting = false;
        waits.operation = operation;
        operation.tasks.push(waits);
      }
    }
    return spans.map((span) => {
      const rest = part(span);
      this.#wait(rest);
      return rest;
    });
  }

  // --- reading ahead -----------------------------------------------------------------------------------------------------------

  /** Reads ahead what is neither there nor on its way; answers up to where. */
  readAhead(handle: Handle, start: number, end: number): number {
    const { settings, counters } = this.layer;
    const room = settings.readAhead!.bytesMax - counters.readAheadNow;
    const target = Math.min(end, start + room);
    if (target <= start || this.#fences.length > 0) return start;
    this.#watch();
    const seq = ++this.#seq;
    for (const span of this.#ready.missing([{ start, end: target }]))
      this.#addSegments(handle, span.start, span.end, seq, undefined);
    return target;
  }

  /** Keeps what was read ahead, except for what was asked for while it was on its way. */
  keepReadAhead(segment: Segment, bytes: readonly Uint8Array[], together: readonly Segment[]): void {
    const length = lengthOf(bytes);
    const end = segment.start + length;
    let unused = length;
    for (const { request, start, end: to } of together)
      if (request !== undefined) unused -= Math.max(0, Math.min(to, end) - Math.max(start, segment.start));
    if (end < segment.end) segment.handle.metEnd(end);
    this.layer.counters.readAheads++;
    this.layer.counters.readAheadBytes += length;
    if (unused <= 0 && this.#handles.size <= 1) return;
    this.#ready.add(segment.handle, { start: segment.start, end }, bytes, unused, this.layer.tick);
    this.#watch();
  }

  /** What a handle reads ahead, or has read ahead, is not wanted any more. */
  stopReadAhead(handle: Handle): void {
    this.#cancelAhead((segment) => segment.handle === handle);
    this.#ready.dropOf(handle);
  }

  #cancelAhead(concerns: (segment: Segment) => boolean): void {
    for (const segment of [...this.#waiting]) if (segment.request === undefined && concerns(segment)) segment.giveUp();
    for (const operation of this.#running)
      for (const segment of operation.tasks)
        if (segment.request === undefined && !segment.isCancelled && concerns(segment)) segment.giveUp();
  }

  invalidate(): void {
    this.#cancelAhead(() => true);
    this.#ready.clear();
    this.epoch++;
  }

  // --- writes ------------------------------------------------------------------------------------------------------------------

  write(handle: Handle, offset: number, data: Uint8Array, asker: Asker | undefined, hints: WriteHints): Promise<void> {
    const { layer } = this;
    layer.counters.writes++;
    layer.counters.writeBytes += data.byteLength;
    if (data.byteLength === 0) return Promise.resolve();
    const end = offset + data.byteLength;
    this.#ready.dropOverlapping(offset, end);
    this.#cancelAhead((segment) => segment.start < end && offset < segment.end);
    this.#watch();
    const range = { start: offset, end, seq: ++this.#seq };
    if (layer.settings.writeBehind !== undefined && !handle.writesThrough) return this.#buffer(handle, range, data, hints);
    if (this.#restingBytes > 0) this.#release();
    return new Promise((resolve, reject) => {
      layer.admit();
      const request = new WriteRequest(this, asker, { resolve, reject });
      const task = new WriteTask(this, handle, range, { bytes: data, request, ...hints });
      request.task = task;
      this.#writes.push(task);
      layer.submit(task);
    });
  }

  /** Answers a write before it is written, at once or as soon as there is room. */
  #buffer(handle: Handle, range: Span & { seq: number }, data: Uint8Array, hints: WriteHints): Promise<void> {
    const { layer } = this;
    const { bytesMax, fileBytesMax } = layer.settings.writeBehind!;
    const bytes = Buffer.allocUnsafe(data.byteLength);
    bytes.set(data);
    this.#dropCovered(range);
    const task = new WriteTask(this, handle, range, { bytes, request: undefined, ...hints });
    this.#writes.push(task);
    if (this.#restingBytes === 0) this.#restingSince = layer.tick;
    this.#restingBytes += bytes.byteLength;
    this.#countUnwritten(bytes.byteLength);
    this.epoch++;
    const isRoom = (): boolean => layer.counters.unwrittenNow <= bytesMax && this.#unwrittenBytes <= fileBytesMax;
    if (isRoom() && this.#restingBytes < layer.settings.rangeBytesMax) return Promise.resolve();
    this.#release();
    return isRoom() ? Promise.resolve() : layer.throttle(isRoom);
  }

  #countUnwritten(bytes: number): void {
    this.#unwrittenBytes += bytes;
    this.layer.counters.unwrittenNow += bytes;
  }

  /** What rests and is overwritten wholly is never written: no barrier waits for what rests. */
  #dropCovered({ start, end }: Span): void {
    if (this.#restingBytes === 0) return;
    this.#writes = this.#writes.filter((write) => {
      if (!write.isResting || write.start < start || write.end > end) return true;
      write.isWaiting = false;
      this.#restingBytes -= write.end - write.start;
      this.#countUnwritten(write.start - write.end);
      return false;
    });
  }

  /** Sends what rests. */
  #release(): void {
    if (this.#restingBytes === 0) return;
    this.#restingBytes = 0;
    for (const write of this.#writes) {
      if (!write.isResting) continue;
      write.isResting = false;
      this.layer.submit(write);
    }
  }

  dropWrite(task: WriteTask): void {
    task.isWaiting = false;
    this.#forgetWrite(task);
    this.recheck();
  }

  #forgetWrite(task: WriteTask): void {
    if (this.#writes[0] === task) this.#writes.shift();
    else this.#writes.splice(this.#writes.indexOf(task), 1);
  }

  writeDone(task: WriteTask, failure: { error: unknown } | undefined): void {
    this.#forgetWrite(task);
    this.epoch++;
    const { request } = task;
    if (request !== undefined) {
      if (failure === undefined) request.finish();
      else request.fail(failure.error);
      return;
    }
    this.#countUnwritten(task.start - task.end);
    if (failure === undefined) return;
    this.#errors++;
    this.#lastError = failure.error;
  }

  /** Throws the error of a write that was answered before it failed, unless the handle has heard of it. */
  reportTo(handle: Handle): void {
    if (handle.errorsSeen >= this.#errors) return;
    handle.errorsSeen = this.#errors;
    this.errorsSeen = this.#errors;
    throw this.#lastError;
  }

  // --- barriers ------------------------------------------------------------------------------------------------------------------

  drain(): Promise<void> {
    this.#release();
    if (this.#writes.length === 0) return Promise.resolve();
    const seq = this.#seq;
    return new Promise((resolve) => {
      this.#barriers.push({ seq, resolve });
    });
  }

  async sync(handle: Handle, dataOnly: boolean): Promise<void> {
    if (this.backend.sync === undefined) return;
    const operation = new SyncOperation(this, handle, dataOnly);
    this.layer.begin(operation);
    await operation.done;
  }

  exclusive<T>(change: () => T | PromiseLike<T>): Promise<T> {
    this.#release();
    this.#cancelAhead(() => true);
    this.#watch();
    const seq = ++this.#seq;
    return new Promise<T>((resolve, reject) => {
      const fence: Fence = {
        seq,
        isRunning: false,
        run: () => {
          const end = (): void => this.#lift(fence);
          const result = (async () => change())();
          result.then(end, end);
          result.then(resolve, reject);
        },
      };
      this.#fences.push(fence);
      this.#tryFences();
    });
  }

  #lift(fence: Fence): void {
    this.#fences = this.#fences.filter((other) => other !== fence);
    this.#ready.clear();
    this.epoch++;
    this.recheck();
  }

  #tryFences(): void {
    const [fence] = this.#fences;
    if (fence === undefined || fence.isRunning || this.#running.length > 0) return;
    if (this.#writes.length > 0 && this.#writes[0].seq < fence.seq) return;
    if (this.#waiting.some(({ seq }) => seq < fence.seq)) return;
    fence.isRunning = true;
    fence.run();
  }

  /** After anything ended or was given up: what waited for it goes on. */
  recheck(): void {
    if (this.#barriers.length > 0) {
      const oldest = this.#writes.length === 0 ? Number.POSITIVE_INFINITY : this.#writes[0].seq;
      const reached = this.#barriers.filter(({ seq }) => seq < oldest);
      if (reached.length > 0) this.#barriers = this.#barriers.filter(({ seq }) => seq >= oldest);
      for (const { resolve } of reached) resolve();
    }
    if (this.#fences.length > 0) this.#tryFences();
    if (this.#blocked.length === 0) return;
    const blocked = this.#blocked;
    this.#blocked = [];
    for (const task of blocked) if (task.isWaiting) this.layer.submit(task);
  }

  operationEnded(operation: Operation): void {
    if (operation instanceof ReadOperation) {
      const last = this.#running.pop() as ReadOperation;
      if (last !== operation) {
        this.#running[operation.place] = last;
        last.place = operation.place;
      }
    }
    if (operation instanceof WriteOperation) this.layer.checkThrottled();
    if (this.#blocked.length + this.#barriers.length + this.#fences.length > 0) this.recheck();
  }

  /** A task that failed together with others is tried by itself. */
  again(task: Segment | WriteTask): void {
    task.isAlone = true;
    task.operation = undefined;
    if (task instanceof Segment) this.#wait(task);
    else task.isWaiting = true;
    this.layer.submit(task);
  }

  // --- order -----------------------------------------------------------------------------------------------------------------------

  block(task: Task): void {
    this.layer.counters.ordered++;
    this.#blocked.push(task);
  }

  /** Whether a task has to wait for one that came before it, which is not in `together`. */
  isBlocked(task: Task, together?: ReadonlySet<Task>): boolean {
    for (const { seq } of this.#fences) if (seq < task.seq) return true;
    for (const write of this.#writes) {
      if (write.seq >= task.seq) break;
      if (write.start < task.end && task.start < write.end && !together?.has(write)) return true;
    }
    return task instanceof WriteTask && this.#isBeingRead(task);
  }

  #isBeingRead({ start, end, seq }: WriteTask): boolean {
    for (const operation of this.#running) if (operation.overlaps(start, end)) return true;
    for (const segment of this.#waiting)
      if (segment.seq < seq && segment.request !== undefined && segment.start < end && start < segment.end) return true;
    return false;
  }

  // --- merging -----------------------------------------------------------------------------------------------------------------------

  /** The operation that a task becomes, together with what waits and touches it. `roomBytes`: how much may be in flight besides. */
  gather(task: Task, roomBytes: number): ReadOperation | WriteOperation {
    return task instanceof Segment ? this.#gatherRead(task, roomBytes) : this.#gatherWrite(task as WriteTask, roomBytes);
  }

  #gatherRead(first: Segment, roomBytes: number): ReadOperation {
    this.remove(first);
    const { settings } = this.layer;
    const tasks: Segment[] = [first];
    const operation =
      settings.merge && !first.isAlone && this.#waiting.length > 0
        ? this.#mergedRead(first, tasks, roomBytes)
        : new ReadOperation(this, first.start, first.end, tasks);
    operation.place = this.#running.length;
    this.#running.push(operation);
    return operation;
  }

  #mergedRead(first: Segment, tasks: Segment[], roomBytes: number): ReadOperation {
    const { rangeBytesMax } = this.layer.settings;
    const bytesMax = Math.min(rangeBytesMax, Math.max(roomBytes, first.end - first.start));
    const extent: Extent = { start: first.start, end: first.end };
    this.#growRead(extent, tasks, bytesMax, []);
    const extents = [extent];
    if (this.backend.readRanges !== undefined && this.#waiting.length > 0) this.#addReadRanges(extents, tasks, bytesMax);
    this.layer.counters.joined += tasks.length - 1;
    if (extents.length === 1) return new ReadOperation(this, extent.start, extent.end, tasks);
    extents.sort((a, b) => a.start - b.start);
    const ranges = extents.map(({ start, end }) => ({ offset: start, length: end - start }));
    return new ReadOperation(this, extents[0].start, extents[extents.length - 1].end, tasks, ranges);
  }

  /** Takes along what touches, again and again while the extent grows. */
  #growRead(extent: Extent, tasks: Segment[], bytesMax: number, others: readonly Extent[]): void {
    const gap = this.layer.settings.mergeGapBytes;
    let grew = true;
    while (grew) {
      grew = false;
      for (let index = 0; index < this.#waiting.length; index++) {
        const segment = this.#waiting[index];
        if (segment.start > extent.end + gap || segment.end < extent.start - gap) continue;
        const start = Math.min(extent.start, segment.start);
        const end = Math.max(extent.end, segment.end);
        if (end - start > bytesMax || !this.#mayJoin(segment) || overlapsAny(others, start, end)) continue;
        // Bytes that nobody asked for may be on their way to be written.
        if (gap > 0 && overlapsAny(this.#writes, start, end)) continue;
        extent.start = start;
        extent.end = end;
        this.remove(segment);
        tasks.push(segment);
        // The last of those that wait took its place.
        index--;
        grew = true;
      }
    }
  }

  #mayJoin(task: Segment): boolean {
    return !task.isAlone && (this.#writes.length + this.#fences.length === 0 || !this.isBlocked(task));
  }

  /** Ranges that lie apart, for a backend that takes several. */
  #addReadRanges(extents: Extent[], tasks: Segment[], bytesMax: number): void {
    const { rangesMax } = this.layer.settings;
    let bytes = extents[0].end - extents[0].start;
    for (let index = 0; index < this.#waiting.length && extents.length < rangesMax; ) {
      const segment = this.#waiting[index];
      const size = segment.end - segment.start;
      const overlaps = overlapsAny(extents, segment.start, segment.end);
      if (segment.request === undefined || bytes + size > bytesMax || overlaps || !this.#mayJoin(segment)) {
        index++;
        continue;
      }
      this.remove(segment);
      tasks.push(segment);
      const extent = { start: segment.start, end: segment.end };
      const before = tasks.length;
      this.#growRead(extent, tasks, bytesMax - bytes, extents);
      bytes += extent.end - extent.start;
      extents.push(extent);
      if (tasks.length > before) index = 0;
    }
  }

  #gatherWrite(first: WriteTask, roomBytes: number): WriteOperation {
    const { settings } = this.layer;
    const group = new Set<WriteTask>([first]);
    first.isWaiting = false;
    const extents: Extent[] = [{ start: first.start, end: first.end }];
    if (settings.merge && !first.isAlone && this.#writes.length > 1) {
      const bytesMax = Math.min(settings.rangeBytesMax, Math.max(roomBytes, first.end - first.start));
      this.#growWrite(extents[0], group, bytesMax, []);
      if (this.backend.writeRanges !== undefined) this.#addWriteRanges(extents, group, bytesMax);
      extents.sort((a, b) => a.start - b.start);
      this.layer.counters.joined += group.size - 1;
    }
    const tasks = [...group].sort((a, b) => a.seq - b.seq);
    const writes = extents.map((extent) => gathered(extent, tasks));
    return new WriteOperation(this, writes, tasks);
  }

  #growWrite(extent: Extent, group: Set<WriteTask>, bytesMax: number, others: readonly Extent[]): void {
    let grew = true;
    while (grew) {
      grew = false;
      for (const write of this.#writes) {
        if (!write.isWaiting || write.isAlone || write.start > extent.end || write.end < extent.start) continue;
        const start = Math.min(extent.start, write.start);
        const end = Math.max(extent.end, write.end);
        if (end - start > bytesMax || overlapsAny(others, start, end) || this.isBlocked(write, group)) continue;
        extent.start = start;
        extent.end = end;
        this.#takeWrite(write, group);
        grew = true;
      }
    }
  }

  #takeWrite(write: WriteTask, group: Set<WriteTask>): void {
    write.isWaiting = false;
    group.add(write);
    if (!write.isResting) return;
    write.isResting = false;
    this.#restingBytes -= write.end - write.start;
  }

  #addWriteRanges(extents: Extent[], group: Set<WriteTask>, bytesMax: number): void {
    const { rangesMax } = this.layer.settings;
    let bytes = extents[0].end - extents[0].start;
    for (const write of this.#writes) {
      if (extents.length >= rangesMax) break;
      if (!write.isWaiting || write.isAlone || write.isResting) continue;
      const size = write.end - write.start;
      if (bytes + size > bytesMax || overlapsAny(extents, write.start, write.end) || this.isBlocked(write, group)) continue;
      this.#takeWrite(write, group);
      const extent = { start: write.start, end: write.end };
      this.#growWrite(extent, group, bytesMax - bytes, extents);
      bytes += extent.end - extent.start;
      extents.push(extent);
    }
  }

  // --- time --------------------------------------------------------------------------------------------------------------------------

  onTick(tick: number): void {
    const { writeBehind, readAhead } = this.layer.settings;
    if (this.#restingBytes > 0 && (tick - this.#restingSince) * TICK_MS >= writeBehind!.restMs) this.#release();
    if (!this.#ready.isEmpty) this.#ready.dropBefore(tick - Math.ceil(readAhead!.ageMs / TICK_MS));
    const before = tick - WATCH_TICKS;
    for (const { request } of [...this.#waiting]) if (request !== undefined && request.bornTick <= before) request.watch();
    for (const { tasks } of this.#running)
      for (const { request } of [...tasks]) if (request !== undefined && request.bornTick <= before) request.watch();
    for (const { request } of [...this.#writes]) if (request !== undefined && request.bornTick <= before) request.watch();
  }
}

function overlapsAny(extents: readonly Extent[], start: number, end: number): boolean {
  return extents.some((extent) => extent.start < end && start < extent.end);
}

/**
 * The bytes of an extent. They are copied, because the kernel's memory goes back with the answer, and an attempt that was given up may
 * go on; copies that the layer has already are passed on. Where writes overlap the later one counts.
 */
function gathered({ start, end }: Extent, tasks: readonly WriteTask[]): GatheredWrite {
  const inside = tasks.filter((task) => task.start >= start && task.end <= end);
  let total = 0;
  let areOwn = true;
  for (const task of inside) {
    total += task.end - task.start;
    areOwn &&= task.isBuffered;
  }
  if (areOwn && total === end - start) {
    const parts = inside.sort((a, b) => a.start - b.start).map(({ bytes }) => bytes);
    return { offset: start, length: total, parts };
  }
  const bytes = Buffer.allocUnsafe(end - start);
  for (const task of inside) bytes.set(task.bytes, task.start - start);
  return { offset: start, length: end - start, parts: [bytes] };
}
