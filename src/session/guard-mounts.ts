/** The mounts of a connection, from /proc. Nothing here waits, nor touches a mount. */
import { type MountPlace, read } from './guard-proc.ts';

/** Number of the connection of a descriptor; empty on kernels that do not tell it in /proc/self/fdinfo. */
export function connectionOf(fd: number): string {
  return /^fuse_connection:\s*(\d+)$/m.exec(read(`/proc/self/fdinfo/${fd}`))?.[1] ?? '';
}

export interface Mounts {
  /** Where the connection is mounted. */
  readonly places: MountPlace[];
  /** Whether it is the only FUSE filesystem here, so that who waits for an answer of FUSE waits for this one. */
  readonly isOnly: boolean;
  /** Where the control files of connections are. */
  readonly control: string | undefined;
}

export function mountsOf(connection: string): Mounts {
  const places: MountPlace[] = [];
  let isOnly = true;
  let control: string | undefined;
  for (const line of read('/proc/self/mountinfo').split('\n')) {
    const [id, , device, , path = '', ...more] = line.split(' ');
    const type = more[more.indexOf('-') + 1] ?? '';
    const place = { id, path: path.replace(/\\([0-7]{3})/g, (_, digits) => String.fromCharCode(Number.parseInt(digits, 8))) };
    if (type === 'fusectl') control ??= place.path;
    if (!/^fuse(blk)?(\.|$)/.test(type)) continue;
    if (device === `0:${connection}`) places.push(place);
    else isOnly = false;
  }
  return { places, isOnly, control };
}
