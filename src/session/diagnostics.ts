import { channel } from 'node:diagnostics_channel';

/**
 * What went wrong without ending the mount, told on the diagnostics channel `fusewire:fault`. Without a subscriber it
 * costs one property read.
 */
export interface Fault {
  kind: /** A handler threw something without an errno; the caller got EIO. */
    | 'handler-error'
    /** A message that does not decode; the caller got EIO. */
    | 'malformed-message'
    /** The kernel refused a reply with something else than ENOENT: a bug of ours. */
    | 'reply-refused'
    /** Something tried to answer a request for the second time; it was ignored. */
    | 'double-answer'
    /** A request of this very process; it was answered EDEADLK. */
    | 'own-request'
    /** A request has waited for its answer for long; it still waits. */
    | 'slow-request'
    /** A request was still unanswered when the session ended; it was answered for the filesystem. */
    | 'unanswered'
    /** A worker ended on its own; its callers got ECONNABORTED, and another takes its place. Told on the main thread. */
    | 'worker-died'
    /** A worker has not come back to its event loop for long; its callers wait. Told on the main thread. */
    | 'worker-busy'
    /** The thread that writes notifications died; what it held was told as EIO. */
    | 'notify-failed'
    /** A notification waits for long while requests wait; it failed with EDEADLK, in case its handler is what it waits for. */
    | 'notify-slow'
    /** The trace takes no more; this thread records nothing any longer, and serves on. */
    | 'trace-failed'
    /** The kernel does not take a descriptor as a backing file; the filesystem serves that file itself. Told once for each errno and thread. */
    | 'backing-refused'
    /** A thread could not make its ring and serves by the device. */
    | 'ring-refused'
    /** An answer that the protocol cannot carry; the caller got EIO. */
    | 'invalid-answer';
  /** The operation, as `READ`. */
  operation: string;
  nodeid: number;
  /** Thread id of the caller. */
  pid: number;
  message: string;
  error?: unknown;
}

const faults = channel('fusewire:fault');

/** The name of the diagnostics channel. */
export const FAULT_CHANNEL = 'fusewire:fault';

export function reportFault(fault: Fault): void {
  if (faults.hasSubscribers) faults.publish(fault);
}

/** Whether anybody listens: guard for faults whose description costs something to make. */
export function faultsObserved(): boolean {
  return faults.hasSubscribers;
}
