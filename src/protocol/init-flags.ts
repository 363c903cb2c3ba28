/** INIT flags as a set of names, and as the two words that travel. */
import { INIT_FLAGS, type InitFlag, type InitFlagRow } from './schema.ts';

const byName = new Map<InitFlag, InitFlagRow>(INIT_FLAGS.map((row) => [row.name, row]));
const EXTENDED = byName.get('FUSE_INIT_EXT')!;

/** The row of a flag. */
export function initFlagRow(name: InitFlag): InitFlagRow {
  return byName.get(name)!;
}

/** The flags that are set. `flags2` counts only when `flags` has FUSE_INIT_EXT. Bits that the table does not know are left out. */
export function decodeInitFlags(flags: number, flags2: number): Set<InitFlag> {
  const extended = (flags & (1 << EXTENDED.bit)) !== 0;
  const set = new Set<InitFlag>();
  for (const row of INIT_FLAGS) {
    if (row.bit < 32 ? (flags & (1 << row.bit)) !== 0 : extended && (flags2 & (1 << (row.bit - 32))) !== 0) set.add(row.name);
  }
  return set;
}

/** The two words of a set. FUSE_INIT_EXT is added when a flag of the second word is set. */
export function encodeInitFlags(set: Iterable<InitFlag>): { flags: number; flags2: number } {
  let flags = 0;
  let flags2 = 0;
  for (const name of set) {
    const { bit } = initFlagRow(name);
    if (bit < 32) flags |= 1 << bit;
    else flags2 |= 1 << (bit - 32);
  }
  if (flags2 !== 0) flags |= 1 << EXTENDED.bit;
  return { flags: flags >>> 0, flags2: flags2 >>> 0 };
}
