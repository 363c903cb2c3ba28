/** attach() against the live kernel, with no daemon behind it: nothing here may wait for an answer to INIT. */
import { closeSync, fstatSync, mkdirSync, openSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Attachment, type AttachSettings, attach } from '../../src/mount/attach.ts';
import { abortConnection, connectionOf, isConnected } from '../../src/mount/connection.ts';
import { findHelper } from '../../src/mount/helper.ts';
import { readMountInfo, topmostMount } from '../../src/mount/mountinfo.ts';
import { unmountPath } from '../../src/mount/unmount.ts';
import { canMount, loadAddon, makeWorkspace, mountsBelow, run, start, unmountOutside, type Workspace } from './mount-support.ts';

const available = canMount();
if (!available) process.stderr.write('SKIPPED: mount-attach needs root and /dev/fuse\n');

describe.skipIf(!available)('attach', () => {
  let workspace: Workspace;
  let mountpoint: string;
  let attachments: Attachment[];

  beforeEach(() => {
    workspace = makeWorkspace();
    mountpoint = join(workspace.folder, 'm n');
    mkdirSync(mountpoint);
    attachments = [];
  });

  afterEach(() => {
    for (const attachment of attachments) attachment.close();
    workspace.cleanUp();
  });

  async function attached(settings: Partial<AttachSettings> = {}): Promise<Attachment> {
    const attachment = await attach({ addon: loadAddon(), mountpoint, statTimeoutMs: 300, ...settings });
    attachments.push(attachment);
    return attachment;
  }

  const ways = [{ way: 'mount' as const }, ...(findHelper() === undefined ? [] : [{ way: 'fusermount' as const }])];

  describe.each(ways)('by $way', ({ way }) => {
    it('mounts with all options, close-on-exec, and unmounts', async () => {
      const options = String.raw`fsname=a\,b\\c d,noatime,allow_other,max_read=65536,ro`;
      const attachment = await attached({ way, options, name: 'unused', subtype: 'demo' });
      const [mount] = mountsBelow(workspace.folder);
      expect(mount).toMatchObject({
        mountPoint: mountpoint,
        type: 'fuse.demo',
        source: 'a,b\\c d',
        minor: attachment.connection,
      });
      expect(mount.options.split(',')).toEqual(expect.arrayContaining(['ro', 'nosuid', 'nodev', 'noatime']));
      expect(mount.superOptions.split(',')).toEqual(expect.arrayContaining(['allow_other', 'max_read=65536', 'user_id=0']));
      expect(attachment).toMatchObject({ how: way, mountpoint });
      expect([undefined, attachment.connection]).toContain(connectionOf(attachment.fd));
      // O_CLOEXEC is the bit 02000000 of the flags.
      const { stdout } = await run('grep', ['flags', `/proc/${process.pid}/fdinfo/${attachment.fd}`]);
      expect(Number.parseInt(stdout.split(/\s+/)[1], 8) & 0o2000000).not.toBe(0);
      expect(attachment.isOurs()).toBe(true);
      expect(await attachment.unmount()).toBe('unmounted');
      expect(mountsBelow(workspace.folder)).toEqual([]);
      expect(attachment.isOurs()).toBe(false);
      expect(await attachment.unmount()).toBe('gone');
    });

    it('detaches in exit handlers', async () => {
      const attachment = await attached({ way });
      attachment.unmountSync();
      expect(mountsBelow(workspace.folder)).toEqual([]);
      attachment.unmountSync();
    });

    it('detaches lazily what is in use, after trying for a while', async () => {
      const attachment = await attached({ way });
      // An O_PATH descriptor keeps the mount busy without a request to the daemon.
      const script = `require('node:fs').openSync(${JSON.stringify(mountpoint)}, 0o10000000); console.log('open'); setInterval(() => {}, 1e6)`;
      const user = start(workspace, process.execPath, ['-e', script]);
      await user.line(/open/);
      const began = Date.now();
      expect(await attachment.unmount({ busyMs: 200 })).toBe('lazy');
      expect(Date.now() - began).toBeGreaterThanOrEqual(100);
      expect(mountsBelow(workspace.folder)).toEqual([]);
      expect(isConnected(loadAddon(), attachment.fd)).toBe(true);
    });

    it('leaves the mounts of others alone, also one that got the same numbers', async () => {
      const first = await attached({ way });
      unmountOutside(mountpoint);
      expect(isConnected(loadAddon(), first.fd)).toBe(false);
      const second = await attached({ way });
      // The kernel gives the freed mount id and device number out again.
      expect(first.isOurs()).toBe(false);
      expect(await first.unmount()).toBe('gone');
      first.unmountSync();
      expect(first.abort()).toBe(false);
      expect(second.isOurs()).toBe(true);
      expect(isConnected(loadAddon(), second.fd)).toBe(true);
      await second.unmount();
      await run('mount', ['-t', 'tmpfs', 'other', mountpoint]);
      expect(second.isOurs()).toBe(false);
      second.unmountSync();
      expect(await second.unmount()).toBe('gone');
      expect(mountsBelow(workspace.folder).map((mount) => mount.type)).toEqual(['tmpfs']);
    });

    it('recovers a mount point whose daemon died', async () => {
      const first = await attached({ way });
      first.close();
      expect(mountsBelow(workspace.folder)).toHaveLength(1);
      const second = await attached({ way });
      expect(mountsBelow(workspace.folder)).toHaveLength(1);
      expect(second.isOurs()).toBe(true);
    });

    it('aborts', async () => {
      const attachment = await attached({ way });
      expect(attachment.abort()).toBe(true);
      expect(isConnected(loadAddon(), attachment.fd)).toBe(false);
      expect(['unmounted', 'gone']).toContain(await attachment.unmount());
      expect(mountsBelow(workspace.folder)).toEqual([]);
    });
  });

  it('refuses a mount point whose daemon does not answer, in bounded time', async () => {
    await attached();
    const began = Date.now();
    await expect(attached()).rejects.toMatchObject({ code: 'ERR_FUSEWIRE_MOUNTPOINT_BUSY' });
    expect(Date.now() - began).toBeLessThan(3000);
    await expect(attached({ mountpoint: join(mountpoint, 'below') })).rejects.toMatchObject({
      code: 'ERR_FUSEWIRE_MOUNTPOINT_BUSY',
    });
    expect(mountsBelow(workspace.folder)).toHaveLength(1);
  });

  it('does not touch its mount when another one covers it', async () => {
    const attachment = await attached();
    const cover = loadAddon().mount('cover', mountpoint, 'tmpfs', 0, '');
    expect(cover).toBe(0);
    expect(attachment.isOurs()).toBe(false);
    expect(await attachment.unmount()).toBe('gone');
    expect(topmostMount(readMountInfo(), mountpoint)?.type).toBe('tmpfs');
  });

  it('aborts no connection that got the number of the one that was meant', async () => {
    const addon = loadAddon();
    const other = join(workspace.folder, 'other');
    const control = join(workspace.folder, 'control');
    for (const folder of [other, control]) mkdirSync(folder);
    await run('mount', ['-t', 'fusectl', 'none', control]);
    const mountOther = (): number => {
      const fd = addon.openat(-100, '/dev/fuse', 2, 0);
      expect(addon.mount('other', other, 'fuse', 0, `fd=${fd},rootmode=40000,user_id=0,group_id=0`)).toBe(0);
      return fd;
    };
    const numberOf = (path: string) => topmostMount(readMountInfo(), path)?.minor;
    // Other programs of this machine may be given the number first.
    for (let round = 0; round < 50; round++) {
      const first = await attached();
      let fd = -1;
      const isStill = () => {
        first.unmountSync();
        first.close();
        fd = mountOther();
        // As if it had been looked at before all that.
        return true;
      };
      expect(abortConnection(first.connection, isStill)).toBe(true);
      const isSame = numberOf(other) === first.connection;
      const isAlive = isConnected(addon, fd);
      unmountOutside(other);
      addon.close(fd);
      expect(isAlive).toBe(true);
      if (isSame) return;
    }
    throw new Error('the kernel gave the number to others 50 times');
  });

  it('resolves symbolic links and dots', async () => {
    symlinkSync('m n', join(workspace.folder, 'link'));
    const attachment = await attached({ mountpoint: `${workspace.folder}/./nothing/../link/`.replace('nothing/../', 'm n/../') });
    expect(attachment.mountpoint).toBe(mountpoint);
  });

  it('takes a mount point with every kind of character', async () => {
    const odd = join(workspace.folder, 'ü\t\n\\#,"日本');
    mkdirSync(odd);
    for (const { way } of ways) {
      const attachment = await attached({ way, mountpoint: odd });
      expect(attachment.mountpoint).toBe(odd);
      expect(attachment.isOurs()).toBe(true);
      expect(await attachment.unmount()).toBe('unmounted');
      expect(mountsBelow(workspace.folder)).toEqual([]);
    }
  });

  it('mounts over a mount that is not FUSE', async () => {
    await run('mount', ['-t', 'tmpfs', 'below', mountpoint]);
    const attachment = await attached();
    expect(await attachment.unmount()).toBe('unmounted');
    expect(mountsBelow(workspace.folder).map((mount) => mount.type)).toEqual(['tmpfs']);
  });

  it.each([
    ['missing', 'none', 'ERR_FUSEWIRE_MOUNTPOINT_MISSING'],
    ['below a missing one', 'none/deeper', 'ERR_FUSEWIRE_MOUNTPOINT_MISSING'],
    ['a file', 'file', 'ERR_FUSEWIRE_MOUNTPOINT_NOT_DIRECTORY'],
    ['below a file', 'file/x', 'ERR_FUSEWIRE_MOUNTPOINT_NOT_DIRECTORY'],
    ['a loop of links', 'loop', 'ERR_FUSEWIRE_MOUNTPOINT_MISSING'],
  ])('refuses a mount point that is %s', async (_, name, code) => {
    writeFileSync(join(workspace.folder, 'file'), '');
    symlinkSync('loop', join(workspace.folder, 'loop'));
    await expect(attached({ mountpoint: join(workspace.folder, name) })).rejects.toMatchObject({ code });
  });

  it('refuses a device that is none, and a helper that fails, with nothing left behind', async () => {
    await expect(attached({ device: '/dev/fuse-that-is-not' })).rejects.toMatchObject({ code: 'ERR_FUSEWIRE_NO_DEVICE' });
    await expect(attached({ way: 'mount', device: '/dev/null' })).rejects.toMatchObject({ code: 'ERR_FUSEWIRE_MOUNT_FAILED' });
    await expect(attached({ way: 'fusermount', helper: '/bin/false' })).rejects.toMatchObject({
      code: 'ERR_FUSEWIRE_HELPER_FAILED',
    });
    await expect(attached({ way: 'fusermount', helper: '/not/there' })).rejects.toThrow(/ENOENT/);
    const slow = join(workspace.folder, 'slow');
    writeFileSync(slow, '#!/bin/sh\nexec sleep 5\n', { mode: 0o755 });
    await expect(attached({ way: 'fusermount', helper: slow, helperTimeoutMs: 200 })).rejects.toThrow(/within 200 ms/);
    expect(mountsBelow(workspace.folder)).toEqual([]);
  });

  it('takes a descriptor that the caller mounted, and leaves its mount alone', async () => {
    const owner = await attached();
    const given = await attached({ fd: owner.fd, mountpoint: '' });
    expect(given).toMatchObject({ how: 'given', fd: owner.fd });
    if (given.connection !== 0) expect(given).toMatchObject({ connection: owner.connection, mountpoint });
    expect(await given.unmount()).toBe('gone');
    given.close();
    expect(owner.isOurs()).toBe(true);
    expect(() => fstatSync(owner.fd)).not.toThrow();
    const other = openSync('/dev/null', 'r');
    await expect(attached({ fd: other })).rejects.toMatchObject({ code: 'ERR_FUSEWIRE_BAD_DESCRIPTOR' });
    closeSync(other);
    await expect(attached({ fd: 99_999 })).rejects.toMatchObject({ code: 'ERR_FUSEWIRE_BAD_DESCRIPTOR' });
  });

  it('unmountPath takes hung and dead FUSE mounts, and nothing else', async () => {
    await expect(unmountPath(mountpoint)).rejects.toMatchObject({ code: 'ERR_FUSEWIRE_NOT_MOUNTED' });
    await run('mount', ['-t', 'tmpfs', 'other', mountpoint]);
    await expect(unmountPath(mountpoint)).rejects.toThrow(/tmpfs/);
    await attached();
    expect(await unmountPath(mountpoint)).toBe(mountpoint);
    (await attached()).close();
    expect(await unmountPath(mountpoint, { force: true })).toBe(mountpoint);
    expect(mountsBelow(workspace.folder).map((mount) => mount.type)).toEqual(['tmpfs']);
  });

  it.skipIf(findHelper() === undefined)('with auto_unmount the helper clears the mount when the daemon dies', async () => {
    const attachment = await attached({ options: 'auto_unmount' });
    expect(attachment.how).toBe('fusermount');
    attachment.close();
    for (let round = 0; round < 50 && mountsBelow(workspace.folder).length > 0; round++) await run('sleep', ['0.05']);
    expect(mountsBelow(workspace.folder)).toEqual([]);
  });
});
