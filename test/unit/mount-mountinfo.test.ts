import { describe, expect, it } from 'vitest';
import {
  coveringMount,
  isFuseType,
  mountOwner,
  parseMountInfo,
  readMountInfo,
  topmostMount,
  unescapeOctal,
} from '../../src/mount/mountinfo.ts';

const TEXT = `22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw,discard
40 27 0:40 / /mnt/a\\040b\\134c rw,nosuid - fuse.demo ho\\040st rw,user_id=1000,group_id=100,allow_other
41 40 0:41 / /mnt/a\\040b\\134c rw - fuse x rw,user_id=0,group_id=0
42 27 0:42 / /mnt/deep/inner rw - tmpfs t rw
43 27 0:43 / /mnt/deep rw - tmpfs u rw
44 27 0:44 /sub /mnt/bind rw - ext4 /dev/vdb
this is no mount
45 27 0 / /short rw
`;

describe('mountinfo', () => {
  const mounts = parseMountInfo(TEXT);

  it('is parsed with its octal escapes and optional fields, and other lines are skipped', () => {
    expect(mounts.map((mount) => mount.mountId)).toEqual([22, 27, 40, 41, 42, 43, 44]);
    expect(mounts[2]).toEqual({
      mountId: 40,
      parentId: 27,
      major: 0,
      minor: 40,
      root: '/',
      mountPoint: '/mnt/a b\\c',
      options: 'rw,nosuid',
      type: 'fuse.demo',
      source: 'ho st',
      superOptions: 'rw,user_id=1000,group_id=100,allow_other',
    });
    expect(mounts[1]).toMatchObject({ type: 'ext4', source: '/dev/vda', superOptions: 'rw,discard' });
    expect(mounts[6]).toMatchObject({ root: '/sub', superOptions: '' });
  });

  it('keeps bytes that are no UTF-8 as they are', () => {
    expect(unescapeOctal('/\\377\\012x')).toBe('/\xff\nx');
    expect(unescapeOctal('\\999\\04')).toBe('\\999\\04');
  });

  it('finds the topmost of several mounts at one place, whatever their order', () => {
    expect(topmostMount(mounts, '/mnt/a b\\c')?.mountId).toBe(41);
    expect(topmostMount([...mounts].reverse(), '/mnt/a b\\c')?.mountId).toBe(41);
  });

  it('does not find a mount that a later one further up hides', () => {
    expect(topmostMount(mounts, '/mnt/deep/inner')).toBeUndefined();
    expect(coveringMount(mounts, '/mnt/deep/inner/file')?.mountId).toBe(43);
  });

  it('finds the mount that a path lies on, by whole components', () => {
    expect(coveringMount(mounts, '/proc/self')?.mountId).toBe(22);
    expect(coveringMount(mounts, '/process')?.mountId).toBe(27);
    expect(topmostMount(mounts, '/proc/self')).toBeUndefined();
    expect(topmostMount(mounts, '/')?.mountId).toBe(27);
  });

  it('knows FUSE types and who mounted', () => {
    expect(['fuse', 'fuseblk', 'fuse.sshfs', 'fuseblk.ntfs'].every(isFuseType)).toBe(true);
    expect(['fusectl', 'ext4', 'xfuse', 'virtiofs', 'fuse2'].some(isFuseType)).toBe(false);
    expect(mountOwner(mounts[2])).toBe(1000);
    expect(mountOwner(mounts[1])).toBeUndefined();
  });

  it.runIf(process.platform === 'linux')('of this machine has a root mount that /proc lies below', () => {
    expect(topmostMount(readMountInfo(), '/proc')?.type).toBe('proc');
  });
});
