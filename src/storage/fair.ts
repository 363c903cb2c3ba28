/** What waits for a place among the operations in flight: callers share by bytes, and so do the handles of each caller. */

/** What can be queued. */
export interface Queued {
  /** Whether it still wants a place: what was taken along by another, or given up, is passed over. */
  readonly isWaiting: boolean;
  readonly caller: number;
  readonly handle: object;
  /** What it takes of its share: bytes, and something for the request itself. */
  readonly cost: number;
}

interface Caller {
  readonly id: number;
  served: number;
  /** {@link Flow.served} of the flow that was served last. */
  clock: number;
  flows: number;
}

interface Flow<T> {
  readonly caller: Caller;
  readonly handle: object;
  served: number;
  tasks: T[];
  first: number;
}

/** The one that was served least goes next; who comes back after a pause has saved up nothing. */
export class FairQueue<T extends Queued> {
  readonly #callers = new Map<number, Caller>();
  #flows: Flow<T>[] = [];
  #clock = 0;
  /** Tasks in it, with those that no longer wait. */
  #length = 0;

  get isEmpty(): boolean {
    return this.#length === 0;
  }

  push(task: T): void {
    this.#flowOf(task).tasks.push(task);
    this.#length++;
  }

  #flowOf({ caller: id, handle }: T): Flow<T> {
    for (const flow of this.#flows) if (flow.handle === handle && flow.caller.id === id) return flow;
    let caller = this.#callers.get(id);
    if (caller === undefined) {
      caller = { id, served: this.#clock, clock: 0, flows: 0 };
      this.#callers.set(id, caller);
    }
    caller.flows++;
    const flow: Flow<T> = { caller, handle, served: caller.clock, tasks: [], first: 0 };
    this.#flows.push(flow);
    return flow;
  }

  /** The next one that `fits`. */
  shift(fits: (task: T) => boolean): T | undefined {
    let best: Flow<T> | undefined;
    for (let index = this.#flows.length - 1; index >= 0; index--) {
      const flow = this.#flows[index];
      const head = this.#headOf(flow);
      if (head === undefined) this.#drop(index);
      else if ((best === undefined || isBefore(flow, best)) && fits(head)) best = flow;
    }
    if (best === undefined) return undefined;
    const task = best.tasks[best.first++];
    this.#length--;
    const { caller } = best;
    this.#clock = caller.served;
    caller.clock = best.served;
    caller.served += task.cost;
    best.served += task.cost;
    return task;
  }

  #headOf(flow: Flow<T>): T | undefined {
    while (flow.first < flow.tasks.length) {
      const head = flow.tasks[flow.first];
      if (head.isWaiting) {
        if (flow.first > 1024) {
          flow.tasks = flow.tasks.slice(flow.first);
          flow.first = 0;
        }
        return head;
      }
      flow.first++;
      this.#length--;
    }
    return undefined;
  }

  #drop(index: number): void {
    const [{ caller }] = this.#flows.splice(index, 1);
    caller.flows--;
    if (caller.flows === 0) this.#callers.delete(caller.id);
  }
}

function isBefore<T>(a: Flow<T>, b: Flow<T>): boolean {
  return a.caller.served !== b.caller.served ? a.caller.served < b.caller.served : a.served < b.served;
}
