/** Access to the native addon: system calls that Node lacks. See {@link Addon} for its conventions. */

export type { Addon } from './addon.ts';
export { AddonMissingError, loadAddon, tryLoadAddon } from './load.ts';
export { type PinnedBuffer, pinBuffer } from './pin.ts';
export type { Ring } from './ring.ts';
export { errnoName, errnoNumber, fromBinary, toBinary } from './text.ts';
