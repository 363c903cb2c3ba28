/** Sessions: INIT, requests in flight, answering exactly once, notifications, the worker pool. */

export { begins, type Claim } from './claim.ts';
export { FAULT_CHANNEL, type Fault, faultsObserved, reportFault } from './diagnostics.ts';
export { ERRNO, ERRNO_MAX, errnoName, errnoOf, FuseError, type FuseErrorDetails } from './errors.ts';
export {
  BODY_WORD,
  Exchange,
  IN_HEADER_BYTES,
  OUT_HEADER_BYTES,
  type Passenger,
  REPLY_WORD,
} from './exchange.ts';
export { type GuardedThread, guard } from './guard.ts';
export { type InitializeOptions, initializeDevice, refuseNext } from './initialize.ts';
export type { MountLimits } from './limits.ts';
export {
  assertSensible,
  CAPABILITIES,
  type Capabilities,
  type CapabilityKind,
  DEFAULT_MAX_BACKGROUND,
  DEFAULT_MAX_WRITE,
  initReply,
  MINOR_FLOOR,
  type Negotiated,
  NegotiationError,
  negotiate,
  type SessionSettings,
} from './negotiate.ts';
export { type Kernel, Notifier, type NotifierOptions, type NotifyWriter } from './notify.ts';
export { NotifyThread } from './notify-writer.ts';
export { type PoolOptions, WorkerFailure, WorkerPool } from './pool.ts';
export { startRecorder, type TraceStart } from './recording.ts';
export {
  type Operation,
  type Operations,
  Session,
  type SessionCounters,
  type SessionEnd,
  type SessionOptions,
} from './session.ts';
export { entryOf, startWorker, typeScriptLoader } from './worker-entry.ts';
