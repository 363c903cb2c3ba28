import { describe, expect, it } from 'vitest';
import { MOUNT_ERROR_CODES, MountError } from '../../src/mount/errors.ts';
import { kernelFuseMinor, probe } from '../../src/mount/probe.ts';

describe('mount errors', () => {
  it.each(MOUNT_ERROR_CODES)('%s is one sentence', (code) => {
    const { message } = new MountError(code, 'SUBJECT', { detail: 'two\nlines\u0007 and more' });
    expect(message).toMatch(/^[A-Z][^\p{Cc}]*[^.\p{Cc}]\.$/u);
    expect(message.length).toBeLessThan(300);
  });

  it('names the errno when there is no other detail, and carries it', () => {
    const error = new MountError('ERR_FUSEWIRE_MOUNT_FAILED', '/m', { errno: 22 });
    expect(error).toMatchObject({ code: 'ERR_FUSEWIRE_MOUNT_FAILED', errno: 22, name: 'MountError' });
    expect(error.message).toContain('(EINVAL)');
    expect(new MountError('ERR_FUSEWIRE_NO_HELPER', 'fusermount3').errno).toBeUndefined();
  });

  it('cuts what others said', () => {
    expect(new MountError('ERR_FUSEWIRE_HELPER_FAILED', 'x', { detail: 'y'.repeat(10_000) }).message.length).toBeLessThan(600);
  });
});

describe('probe', () => {
  it('knows the FUSE minor of kernel releases', () => {
    const samples = {
      '3.3': 18,
      '3.5': 19,
      '3.6': 20,
      '6.1': 37,
      '6.3': 38,
      '6.8': 39,
      '6.10': 40,
      '6.11': 40,
      '6.12': 41,
      '6.14': 42,
      '6.18': 45,
      '7.2': 45,
    };
    for (const [version, minor] of Object.entries(samples)) expect(kernelFuseMinor(`${version}.3-generic`)).toBe(minor);
    expect(kernelFuseMinor('4.17.0')).toBeLessThan(27);
    expect(kernelFuseMinor('4.18.0')).toBe(27);
    expect(kernelFuseMinor('2.6.32')).toBe(0);
    expect(kernelFuseMinor('nonsense')).toBe(0);
  });

  const files: Record<string, string> = {
    '/etc/fuse.conf': '# user_allow_other\n user_allow_other \n',
    '/proc/sys/fs/fuse/max_pages_limit': '64\n',
    '/proc/sys/kernel/io_uring_disabled': '2\n',
    '/sys/module/fuse/parameters/enable_uring': 'N\n',
    '/proc/sys/user/max_user_namespaces': '0\n',
    '/proc/self/limits': 'Max open files            1024                 1024                 files\n',
    '/proc/1/environ': 'A=b\0container=podman\0',
  };

  it('says what stands in the way and how to mend it', async () => {
    const report = await probe({ read: (path) => files[path], kernelRelease: '4.17.0' });
    const by = Object.fromEntries(report.checks.map((check) => [check.name, check]));
    expect(report.canMount).toBe(false);
    expect(by.kernel).toMatchObject({ state: 'missing', mend: 'use Linux 4.18 or newer' });
    expect(by.allow_other.found).toBe('ordinary users may use it');
    expect(by.max_pages).toMatchObject({ state: 'note', mend: 'sysctl fs.fuse.max_pages_limit=256' });
    expect(by.io_uring).toMatchObject({ state: 'note', mend: 'sysctl kernel.io_uring_disabled=0' });
    expect(by.user_namespaces.state).toBe('note');
    expect(by.open_files).toMatchObject({ state: 'note', mend: 'ulimit -n 4096' });
    expect(by.container.found).toContain('container=podman');
  });

  it('has a way to mend for whatever is not ok, and only for that', async () => {
    const { checks } = await probe({ read: (path) => files[path], kernelRelease: '6.18.0' });
    for (const check of checks.filter(({ name }) => name !== 'mounts'))
      expect([check, check.state === 'ok']).toEqual([check, check.mend === undefined]);
  });
});
