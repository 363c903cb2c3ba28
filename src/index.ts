/**
 * fusewire: write a filesystem, mount it.
 *
 * This is the entry for authors: the inode-level interface, errors, and {@link mount}. The layers beneath have entries of
 * their own: `fusewire/protocol`, `fusewire/transport`, `fusewire/session`, `fusewire/native`.
 */
export * from './filesystem/index.ts';
export * from './mount/index.ts';
export { FAULT_CHANNEL, type Fault } from './session/diagnostics.ts';
