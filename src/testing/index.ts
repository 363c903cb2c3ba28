/**
 * fusewire/testing: test a filesystem without a mount. {@link simulate} runs it under a simulated kernel; {@link PosixTree}
 * and {@link PosixProcess} are the system calls that tests make, on whatever serves them.
 */
export * from './conformance/index.ts';
export * from './faults/index.ts';
export * from './host/index.ts';
export * from './kernel/index.ts';
export type * from './posix.ts';
export * from './proxy/index.ts';
