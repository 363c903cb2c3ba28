/** The simulated kernel: a filesystem under test without a mount. */
export { AuditError, type AuditedFilesystem, type Violation } from './audit.ts';
export { SimulationError, SyscallError } from './errors.ts';
export type { Fault, FaultAction, PlannedFault } from './faults.ts';
export { SimulatedKernel, type SimulationOptions, simulate } from './kernel.ts';
export type { ReceivedNotification } from './notifications.ts';
export { type Aio, type AioOptions, SimulatedProcess } from './process.ts';
export type { SentRequest } from './requests.ts';
export type { Agreed } from './wire.ts';
