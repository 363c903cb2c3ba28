/** How many descriptors a daemon may have. */
import { readFileSync } from 'node:fs';
import { raise } from './setting.ts';

/** CAP_SYS_RESOURCE, without which nobody raises a hard limit. */
const RESOURCE_BIT = 24n;

/** Makes room for `wanted` descriptors in one process as far as that is allowed; answers how many there may be now. */
export function descriptorsFor(wanted: number): number {
  const capabilities = BigInt(`0x${readFileSync('/proc/self/status', 'utf8').match(/^CapEff:\s*([0-9a-f]+)/m)?.[1] ?? '0'}`);
  const hard = readFileSync('/proc/self/limits', 'utf8').match(/^Max open files\s+\S+\s+(\S+)/m)?.[1];
  const allowed = hard === 'unlimited' || hard === undefined ? Number.MAX_SAFE_INTEGER : Number(hard);
  if (allowed < wanted && ((capabilities >> RESOURCE_BIT) & 1n) === 0n) return allowed;
  try {
    raise('/proc/sys/fs/nr_open', wanted);
    return wanted;
  } catch {
    // Not allowed: then it is what it is.
    return Math.min(wanted, Number(readFileSync('/proc/sys/fs/nr_open', 'utf8')));
  }
}
