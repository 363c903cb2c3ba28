import { readFileSync } from 'node:fs';

/** Bit of CAP_SYS_ADMIN, <linux/capability.h>. */
const CAP_SYS_ADMIN = 21n;

/** Whether this process has CAP_SYS_ADMIN in its user namespace, and so may call mount(2) where the namespace owns the mounts. */
export function isPrivileged(statusPath = '/proc/self/status'): boolean {
  try {
    const match = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync(statusPath, 'latin1'));
    return match !== null && ((BigInt(`0x${match[1]}`) >> CAP_SYS_ADMIN) & 1n) === 1n;
  } catch {
    return process.geteuid?.() === 0;
  }
}

/** Whether this process may register backing files: the kernel asks for CAP_SYS_ADMIN in the first user namespace. */
export function mayRegisterBackingFiles(statusPath?: string, uidMapPath = '/proc/self/uid_map'): boolean {
  try {
    // Of the first namespace alone every user is mapped to itself.
    return isPrivileged(statusPath) && /^\s*0\s+0\s+4294967295\s*$/.test(readFileSync(uidMapPath, 'latin1'));
  } catch {
    return false;
  }
}
