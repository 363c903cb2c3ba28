import type { OpcodeName } from '../../protocol/index.ts';

/** What goes wrong. */
export type FaultAction =
  /** The caller gets this errno (a positive number); the daemon never sees the request. */
  | { readonly kind: 'errno'; readonly errno: number }
  /** The request is lost: the daemon never sees it, the caller waits until the connection ends. */
  | { readonly kind: 'drop-request' }
  /** The daemon's answer is taken and thrown away; the caller waits until the connection ends. */
  | { readonly kind: 'drop-reply' }
  /** The answer reaches the caller when the virtual clock has been advanced by `ms`. */
  | { readonly kind: 'delay-reply'; readonly ms: number }
  /** The answer arrives twice: the second time the kernel must refuse it with ENOENT. */
  | { readonly kind: 'duplicate-reply' }
  /** The answer is replaced by what `alter` makes of it, header included, before the kernel looks at it. */
  | { readonly kind: 'alter-reply'; readonly alter: (reply: Uint8Array) => Uint8Array }
  /** The body loses its last byte, or gains one where it is empty: the kernel refuses it with EINVAL, the caller gets EIO. */
  | { readonly kind: 'malformed-reply' }
  /** The daemon's write fails with this errno and the caller gets EINTR, as when the request vanished (ENOENT). */
  | { readonly kind: 'refuse-reply'; readonly errno: number };

export interface Fault {
  /** Default: any operation but INIT. */
  readonly operation?: OpcodeName;
  /** Which request from now on, counted among those of `operation`: 1 is the next. Default 1. */
  readonly nth?: number;
  /** How many requests from there on. Default 1; Infinity for all. */
  readonly times?: number;
  readonly action: FaultAction;
}

/** A fault that waits for its request. */
export interface PlannedFault {
  readonly fault: Fault;
  /** Requests that it has hit. */
  readonly hits: number;
  /** Takes it back. */
  remove(): void;
}

interface Plan {
  readonly fault: Fault;
  seen: number;
  hits: number;
}

export class Faults {
  readonly #plans = new Set<Plan>();

  add(fault: Fault): PlannedFault {
    const plan: Plan = { fault, seen: 0, hits: 0 };
    this.#plans.add(plan);
    return {
      fault,
      get hits() {
        return plan.hits;
      },
      remove: () => {
        this.#plans.delete(plan);
      },
    };
  }

  /** What shall happen to this request. The first plan that wants it has it. */
  take(operation: OpcodeName): FaultAction | undefined {
    let action: FaultAction | undefined;
    for (const plan of this.#plans) {
      const { fault } = plan;
      if (fault.operation === undefined ? operation === 'INIT' : fault.operation !== operation) continue;
      plan.seen++;
      if (action !== undefined || plan.seen < (fault.nth ?? 1)) continue;
      action = fault.action;
      plan.hits++;
      if (plan.hits >= (fault.times ?? 1)) this.#plans.delete(plan);
    }
    return action;
  }
}

/** The reply with a body that no request takes, or nearly so. */
export function malform(reply: Uint8Array): Uint8Array {
  const HEADER = 16;
  const length = reply.length > HEADER ? reply.length - 1 : HEADER + 1;
  const altered = new Uint8Array(length);
  altered.set(reply.subarray(0, length));
  new DataView(altered.buffer).setUint32(0, length, true);
  return altered;
}
