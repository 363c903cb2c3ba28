import { describe, expect, it } from 'vitest';
import { MountError } from '../../src/mount/errors.ts';
import {
  escapeOptionValue,
  helperMountOptions,
  kernelMountData,
  MS_NODEV,
  MS_NOEXEC,
  MS_NOSUID,
  MS_RDONLY,
  MS_RELATIME,
  MS_STRICTATIME,
  mountSource,
  parseMountOptions,
  splitOptions,
  unescapeOptionValue,
} from '../../src/mount/options.ts';

const identity = { fd: 7, mode: 0o040755, uid: 1000, gid: 100 };

function failure(text: string): MountError {
  try {
    parseMountOptions(text);
  } catch (error) {
    if (error instanceof MountError) return error;
    throw error;
  }
  throw new Error(`${text} was accepted`);
}

describe('mount options', () => {
  it('start with nosuid and nodev, which suid and dev take away', () => {
    expect(parseMountOptions('').flags).toBe(MS_NOSUID | MS_NODEV);
    expect(parseMountOptions('suid,dev').flags).toBe(0);
  });

  it('set and clear flags, the later one winning', () => {
    expect(parseMountOptions('ro,noexec').flags).toBe(MS_NOSUID | MS_NODEV | MS_RDONLY | MS_NOEXEC);
    expect(parseMountOptions('ro,rw').readOnly).toBe(false);
    expect(parseMountOptions('strictatime,relatime').flags & (MS_STRICTATIME | MS_RELATIME)).toBe(MS_RELATIME);
  });

  it('let readOnly of the caller win over rw', () => {
    expect(parseMountOptions('rw', { readOnly: true }).readOnly).toBe(true);
  });

  it('hand data options to the kernel, each once, after the four that every mount needs', () => {
    const options = parseMountOptions('max_read=4096,allow_other,noatime,max_read=65536,default_permissions,allow_other');
    expect(kernelMountData(options, identity)).toBe(
      'fd=7,rootmode=40000,user_id=1000,group_id=100,max_read=65536,allow_other,default_permissions',
    );
    expect(options).toMatchObject({ allowOther: true, defaultPermissions: true, maxRead: 65536 });
  });

  it('make a fuseblk mount of a block device', () => {
    const options = parseMountOptions('blkdev,fsname=/dev/sdb1,subtype=y,blksize=512');
    expect(options.blockDevice).toBe(true);
    expect(mountSource(options)).toEqual({ source: '/dev/sdb1', type: 'fuseblk.y' });
    expect(kernelMountData(options, identity)).toContain(',blksize=512');
    expect(() => helperMountOptions(options)).toThrow(/blkdev.*only root/);
  });

  it('never let fsname or subtype reach the data', () => {
    const options = parseMountOptions('fsname=x,subtype=y,auto_unmount');
    expect(options.data).toEqual([]);
    expect(options.autoUnmount).toBe(true);
    expect(mountSource(options)).toEqual({ source: 'x', type: 'fuse.y' });
  });

  it('take commas and backslashes in fsname by escapes, and no injection by them', () => {
    const options = parseMountOptions(String.raw`fsname=a\,allow_other\\b,ro`);
    expect(options.fsname).toBe(String.raw`a,allow_other\b`);
    expect(options).toMatchObject({ allowOther: false, readOnly: true });
    expect(helperMountOptions(options)).toBe(String.raw`ro,fsname=a\,allow_other\\b`);
  });

  it('escape a name given by the caller for the helper, not for the kernel', () => {
    const options = parseMountOptions('', { fsname: 'host:/a,b', subtype: 'demo' });
    expect(mountSource(options)).toEqual({ source: 'host:/a,b', type: 'fuse.demo' });
    expect(helperMountOptions(options)).toBe(String.raw`rw,fsname=host:/a\,b,subtype=demo`);
  });

  it('round-trip every escape', () => {
    for (const text of ['', ',', '\\', 'a,b\\c', '\\,\\', 'ünï,cödé', '\\054']) {
      expect(unescapeOptionValue(escapeOptionValue(text))).toBe(text);
      expect(splitOptions(`ro,fsname=${escapeOptionValue(text)},rw`)).toEqual(['ro', `fsname=${escapeOptionValue(text)}`, 'rw']);
    }
    expect(unescapeOptionValue(String.raw`a\054b\040c`)).toBe('a,b c');
  });

  it('skip empty pieces and what is meant for others', () => {
    expect(parseMountOptions(',,ro,,defaults,_netdev,nofail,user,x-systemd.automount,nonempty,').given).toEqual(['ro']);
  });

  it.each([
    ['allow_othr', 'ERR_FUSEWIRE_UNKNOWN_OPTION'],
    ['allow_root', 'ERR_FUSEWIRE_UNKNOWN_OPTION'],
    ['fsname=a,b', 'ERR_FUSEWIRE_UNKNOWN_OPTION'],
    ['=x', 'ERR_FUSEWIRE_UNKNOWN_OPTION'],
    ['fd=3', 'ERR_FUSEWIRE_BAD_OPTION'],
    ['rootmode=40000', 'ERR_FUSEWIRE_BAD_OPTION'],
    ['user_id=0', 'ERR_FUSEWIRE_BAD_OPTION'],
    ['group_id=0', 'ERR_FUSEWIRE_BAD_OPTION'],
    ['blksize=512', 'ERR_FUSEWIRE_BAD_OPTION'],
    ['blkdev', 'ERR_FUSEWIRE_BAD_OPTION'],
    ['blkdev,fsname=disk', 'ERR_FUSEWIRE_BAD_OPTION'],
    ['blkdev,fsname=/dev/sdb,blksize=x', 'ERR_FUSEWIRE_BAD_OPTION'],
    ['ro=1', 'ERR_FUSEWIRE_BAD_OPTION'],
    ['allow_other=1', 'ERR_FUSEWIRE_BAD_OPTION'],
    ['max_read', 'ERR_FUSEWIRE_BAD_OPTION'],
    ['max_read=', 'ERR_FUSEWIRE_BAD_OPTION'],
    ['max_read=1x', 'ERR_FUSEWIRE_BAD_OPTION'],
    ['max_read=4294967296', 'ERR_FUSEWIRE_BAD_OPTION'],
    ['fsname=', 'ERR_FUSEWIRE_BAD_OPTION'],
    [String.raw`subtype=a\,b`, 'ERR_FUSEWIRE_BAD_OPTION'],
    [String.raw`max_read=1\,allow_other`, 'ERR_FUSEWIRE_BAD_OPTION'],
    ['fsname=a\0b', 'ERR_FUSEWIRE_BAD_OPTION'],
    [String.raw`fsname=a\000b`, 'ERR_FUSEWIRE_BAD_OPTION'],
    ['ro\0,rw', 'ERR_FUSEWIRE_BAD_OPTION'],
    [`fsname=${'n'.repeat(4096)}`, 'ERR_FUSEWIRE_BAD_OPTION'],
  ])('refuse %j', (text, code) => {
    const error = failure(text);
    expect(error.code).toBe(code);
    expect(error.message).toMatch(/^The mount option [^\n\0]+\.$/);
  });

  it('refuse a comma in a subtype given by the caller', () => {
    expect(() => parseMountOptions('', { subtype: 'a,allow_other' })).toThrow(/no comma/);
  });

  it('refuse more data than mount(2) takes', () => {
    const options = parseMountOptions(`context=${'c'.repeat(4095)}`);
    expect(() => kernelMountData(options, identity)).toThrow(/longer than 4095 bytes/);
    const least = kernelMountData(parseMountOptions('context=c'), identity).length;
    const longest = parseMountOptions(`context=${'c'.repeat(4095 - least + 1)}`);
    expect(kernelMountData(longest, identity)).toHaveLength(4095);
  });

  it('refuse for fusermount3 what only root can set, and leave out what it has by default', () => {
    expect(() => helperMountOptions(parseMountOptions('lazytime'))).toThrow(/fusermount3 does not know it/);
    expect(() => helperMountOptions(parseMountOptions('context=x'))).toThrow(/fusermount3 does not know it/);
    expect(helperMountOptions(parseMountOptions('relatime,noatime,rw,ro'))).toBe('ro,noatime,fsname=fuse');
    expect(helperMountOptions(parseMountOptions('auto_unmount,max_read=8192'))).toBe('rw,max_read=8192,auto_unmount,fsname=fuse');
  });
});
