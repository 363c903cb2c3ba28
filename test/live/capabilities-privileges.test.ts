/** INIT flags about who may do what: each in force on one mount and not on another, and what that changes. */
import { describe, expect, it } from 'vitest';
import type { Filesystem } from '../../src/filesystem/filesystem.ts';
import type { MkdirRequest } from '../../src/filesystem/requests.ts';
import type { InitFlag } from '../../src/protocol/index.ts';
import { LEFT_OUT, type Seen, stage, steps } from './capabilities-support.ts';
import { useLiveMounts } from './harness.ts';
import { prove } from './proof.ts';

const ACCESS = 'system.posix_acl_access';
const DEFAULT = 'system.posix_acl_default';
const ACL: readonly InitFlag[] = ['FUSE_POSIX_ACL', 'FUSE_DONT_MASK'];
const FATTR_MODE = 1;
/** An ordinary user, who has CAP_FSETID nowhere. */
const ORDINARY = 'become 1000 1000';

const askedOrNot = (flag: InitFlag): InitFlag[][] => [[flag], []];

/** An access control list as its extended attribute: user::rwx-like digits, one named user, group, mask, other. */
function acl(owner: number, named: { uid: number; may: number }, group: number, mask: number, other: number): string {
  const entries: [number, number, number][] = [
    [0x01, owner, 0xffffffff],
    [0x02, named.may, named.uid],
    [0x04, group, 0xffffffff],
    [0x10, mask, 0xffffffff],
    [0x20, other, 0xffffffff],
  ];
  const bytes = Buffer.alloc(4 + entries.length * 8);
  bytes.writeUInt32LE(2, 0);
  for (const [at, [tag, permissions, id]] of entries.entries()) {
    bytes.writeUInt16LE(tag, 4 + at * 8);
    bytes.writeUInt16LE(permissions, 6 + at * 8);
    bytes.writeUInt32LE(id, 8 + at * 8);
  }
  return bytes.toString('hex');
}

const modeOf = (stat: string) => stat.split(' ')[0];

describe.skipIf(LEFT_OUT)('flags about permissions', { timeout: 90_000 }, () => {
  useLiveMounts();

  it('DONT_MASK: the umask is left to the filesystem', async () => {
    const seen: Partial<Seen>[] = [];
    for (const asks of askedOrNot('FUSE_DONT_MASK')) {
      const on = await stage({ asks });
      await steps('umask 027', `mkdir ${on.path}/d 777`);
      const [{ mode, umask }] = on.observed.of('MKDIR');
      seen.push({ mode: (mode as number) & 0o777, umask });
    }
    expect(seen).toEqual([
      { mode: 0o777, umask: 0o27 },
      { mode: 0o750, umask: 0o27 },
    ]);
    prove('flag', 'FUSE_DONT_MASK');
  });

  describe('set-id bits', () => {
    /** A file with both set-id bits, then each thing that takes them away, by an ordinary user. */
    async function taken(asks: InitFlag[], instead?: (base: Filesystem) => Partial<Filesystem>) {
      const on = await stage({ asks, ...(instead === undefined ? {} : { instead }) });
      const file = `${on.path}/f`;
      await steps('umask 0', `open 0 ${file} w,creat 777`, 'write 0 0 100 a', `chown ${file} 1000 1000`, `chmod ${file} 6777`);
      on.observed.clear();
      await steps(ORDINARY, `open 0 ${file} w`, 'write 0 0 10 b');
      const writing = on.observed.of('WRITE', 'SETATTR');
      const written = modeOf((await steps(`stat ${file}`))[0]);
      await steps(`chmod ${file} 6777`);
      on.observed.clear();
      await steps(ORDINARY, `truncate ${file} 5`);
      const truncating = on.observed.of('SETATTR');
      const truncated = modeOf((await steps(`stat ${file}`))[0]);
      await steps(`chmod ${file} 6777`);
      on.observed.clear();
      await steps(ORDINARY, `open 0 ${file} w,trunc`);
      const opening = on.observed.of('OPEN', 'SETATTR');
      await steps(`chmod ${file} 6777`);
      on.observed.clear();
      await steps(`chown ${file} 1001 1001`);
      return { on, writing, written, truncating, truncated, opening, owning: on.observed.of('SETATTR') };
    }

    /** Whether the kernel itself sent the mode without the bits. */
    const bySetattr = (requests: Seen[]) =>
      requests.some(({ valid, mode }) => ((valid as number) & FATTR_MODE) !== 0 && ((mode as number) & 0o6000) === 0);
    const told = (requests: Seen[]) => requests.some(({ killSuidGid }) => killSuidGid === true);

    it('without a flag the kernel takes them away by SETATTR', async () => {
      const { writing, written, truncating, owning } = await taken([]);
      expect([bySetattr(writing), bySetattr(truncating), bySetattr(owning)]).toEqual([true, true, true]);
      expect([told(writing), told(truncating), told(owning)]).toEqual([false, false, false]);
      expect(written).toBe('100777');
    });

    it('HANDLE_KILLPRIV_V2: requests say that they go', async () => {
      const { writing, written, truncating, opening, owning } = await taken(['FUSE_HANDLE_KILLPRIV_V2', 'FUSE_ATOMIC_O_TRUNC']);
      expect([bySetattr(writing), bySetattr(truncating), bySetattr(owning)]).toEqual([false, false, false]);
      expect([told(writing), told(truncating), told(opening), told(owning)]).toEqual([true, true, true, true]);
      expect(written).toBe('100777');
      prove('flag', 'FUSE_HANDLE_KILLPRIV_V2');
    });

    it('HANDLE_KILLPRIV: they are the filesystem to take away on every write, truncate and chown', async () => {
      const { writing, truncating, truncated, owning, on } = await taken(['FUSE_HANDLE_KILLPRIV']);
      expect([bySetattr(writing), bySetattr(truncating), bySetattr(owning)]).toEqual([false, false, false]);
      expect([told(writing), told(truncating), told(owning)]).toEqual([false, false, false]);
      // A filesystem that does not do its part: nobody else does it.
      expect(truncated).toBe('106777');
      expect(on.mount.negotiated.flags.has('FUSE_HANDLE_KILLPRIV_V2')).toBe(false);

      const own = await taken(['FUSE_HANDLE_KILLPRIV'], (base) => ({
        setattr: (node, request) => base.setattr!(node, Object.create(request, { killSuidGid: { value: true } })),
      }));
      expect([own.written, own.truncated]).toEqual(['100777', '100777']);
      prove('flag', 'FUSE_HANDLE_KILLPRIV');
    });
  });

  it('security.capability goes with a write, and is asked for once where the filesystem takes privileges away', async () => {
    const asked: number[] = [];
    for (const asks of askedOrNot('FUSE_HANDLE_KILLPRIV_V2')) {
      const on = await stage({ asks });
      const file = `${on.path}/f`;
      // VFS_CAP_REVISION_2, effective, CAP_NET_BIND_SERVICE.
      const capability = '0100000200040000000000000000000000000000';
      await steps(
        'umask 0',
        `open 0 ${file} w,creat 777`,
        'write 0 0 10 a',
        `setxattr ${file} security.capability ${capability}`,
      );
      expect(await steps(`getxattr ${file} security.capability`)).toEqual([capability]);
      await steps(ORDINARY, `open 0 ${file} w`, 'write 0 0 10 b');
      expect(await steps(`getxattr ${file} security.capability`)).toEqual(['ENODATA']);
      on.observed.clear();
      await steps(ORDINARY, `open 0 ${file} w`, ...Array.from({ length: 6 }, (_, at) => `write 0 ${at} 10 c`));
      asked.push(on.observed.of('GETXATTR').filter(({ name }) => name === 'security.capability').length);
    }
    expect(asked[0]).toBeLessThanOrEqual(1);
    expect(asked[1]).toBe(6);
    prove('flag', 'FUSE_HANDLE_KILLPRIV_V2');
  });

  describe('POSIX_ACL', () => {
    it('the kernel enforces lists, and the mode follows them', async () => {
      const seen: string[][] = [];
      for (const asks of [ACL, ['FUSE_DONT_MASK']] as InitFlag[][]) {
        const on = await stage({ asks });
        const file = `${on.path}/f`;
        await steps('umask 0', `open 0 ${file} w,creat 600`, 'write 0 0 10 a');
        await steps(`setxattr ${file} ${ACCESS} ${acl(6, { uid: 1000, may: 4 }, 0, 4, 0)}`);
        const named = await steps(`become 1000 1000`, `open 0 ${file} r`, `open 1 ${file} w`);
        const other = await steps(`become 1001 1001`, `open 0 ${file} r`);
        seen.push([...named.slice(1), other[1], modeOf((await steps(`stat ${file}`))[0])]);
      }
      const [enforced, kept] = seen;
      // The group bits show the mask.
      expect(enforced).toEqual(['0', 'EACCES', 'EACCES', '100640']);
      expect(kept.slice(0, 3)).toEqual(['EACCES', 'EACCES', 'EACCES']);
      prove('flag', 'FUSE_POSIX_ACL');
    });

    it('chmod moves the mask; a new file inherits, whatever the umask', async () => {
      const on = await stage({ asks: ACL });
      const folder = `${on.path}/d`;
      await steps('umask 0', `mkdir ${folder} 777`, `setxattr ${folder} ${DEFAULT} ${acl(7, { uid: 1000, may: 6 }, 5, 7, 0)}`);
      const made = await steps('umask 077', `open 0 ${folder}/f w,creat 666`, `stat ${folder}/f`, `mkdir ${folder}/in 777`);
      expect(modeOf(made[2])).toBe('100660');
      expect((await steps(`getxattr ${folder}/f ${ACCESS}`))[0]).toBe(acl(6, { uid: 1000, may: 6 }, 5, 6, 0));
      expect((await steps(`getxattr ${folder}/in ${DEFAULT}`))[0]).toBe(acl(7, { uid: 1000, may: 6 }, 5, 7, 0));
      expect((await steps('become 1000 1000', `open 0 ${folder}/f rw`))[1]).toBe('0');
      const after = await steps(
        `chmod ${folder}/f 640`,
        `getxattr ${folder}/f ${ACCESS}`,
        'become 1000 1000',
        `open 0 ${folder}/f w`,
      );
      expect(after.slice(1)).toEqual([acl(6, { uid: 1000, may: 6 }, 5, 4, 0), '0', 'EACCES']);
      expect((await steps(`stat ${folder}/f`))[0]).toContain('100640');
      prove('flag', 'FUSE_POSIX_ACL');
    });
  });

  it('SETXATTR_EXT: a new list tells that the set-group-id bit goes', async () => {
    const told: unknown[] = [];
    for (const refuseFlags of [[], ['FUSE_SETXATTR_EXT']] as InitFlag[][]) {
      const on = await stage({ asks: ACL, refuseFlags });
      const file = `${on.path}/f`;
      // Its owner is not of its group.
      await steps(`open 0 ${file} w,creat 755`, `chown ${file} 1000 5000`, `chmod ${file} 2755`);
      const list = acl(7, { uid: 1001, may: 4 }, 5, 5, 5);
      expect((await steps(ORDINARY, `setxattr ${file} ${ACCESS} ${list}`))[1]).toBe('0');
      told.push(on.observed.of('SETXATTR').map(({ aclKillSgid }) => aclKillSgid));
      if (refuseFlags.length === 0) expect((await steps(`stat ${file}`))[0]).toContain('100755');
    }
    expect(told).toEqual([[true], [false]]);
    prove('flag', 'FUSE_SETXATTR_EXT');
  });

  it("CREATE_SUPP_GROUP: a new file brings its directory's group, if the caller is in it", async () => {
    const groups: (readonly number[])[][] = [];
    for (const refuseFlags of [[], ['FUSE_CREATE_SUPP_GROUP']] as InitFlag[][]) {
      const asked: (readonly number[])[] = [];
      const instead = (base: Filesystem): Partial<Filesystem> => ({
        mkdir(parent, name, request: MkdirRequest) {
          asked.push([...request.groups()]);
          return base.mkdir!(parent, name, request);
        },
      });
      const on = await stage({ refuseFlags, instead });
      const folder = `${on.path}/d`;
      await steps('umask 0', `mkdir ${folder} 777`, `chown ${folder} 0 5000`, `chmod ${folder} 2777`);
      asked.length = 0;
      await steps('become 1000 1000 5000,5001', `mkdir ${folder}/in 755`);
      await steps('become 1000 1000 5001', `mkdir ${folder}/out 755`);
      groups.push(asked);
    }
    expect(groups[0]).toEqual([[5000], []]);
    // Otherwise all of them are looked up in /proc.
    expect(groups[1]).toEqual([[5000, 5001], [5001]]);
    prove('flag', 'FUSE_CREATE_SUPP_GROUP');
  });

  it('SECURITY_CTX: what is made brings the labels of the security module', async () => {
    const bytes: number[] = [];
    for (const asks of askedOrNot('FUSE_SECURITY_CTX')) {
      const instead = (base: Filesystem): Partial<Filesystem> => ({
        mkdir(parent, name, request) {
          const { exchange } = request as unknown as { exchange: { extensionBytes: number } };
          bytes.push(exchange.extensionBytes);
          // A label is security.selinux or the like; a machine without a security module has none.
          for (const { name: label, value } of request.securityContexts()) {
            expect(label).toMatch(/^security\./);
            expect(value.byteLength).toBeGreaterThan(0);
          }
          return base.mkdir!(parent, name, request);
        },
      });
      const on = await stage({ asks, instead });
      expect(await steps(`mkdir ${on.path}/d 755`)).toEqual(['0']);
    }
    expect(bytes[0]).toBeGreaterThanOrEqual(8);
    expect(bytes[1]).toBe(0);
    prove(
      'flag',
      'FUSE_SECURITY_CTX',
      'each creating request carries the area of labels, which is empty where no security module is loaded',
    );
  });

  it('ALLOW_IDMAP: the mount can be seen with other owners', async () => {
    const on = await stage({ asks: ['FUSE_ALLOW_IDMAP'] });
    await steps('umask 0', `chmod ${on.path} 777`, `open 0 ${on.path}/f w,creat 644`);
    on.observed.clear();
    // What belongs to 0 to 99 here is seen as 1000 to 1099 there.
    const seen = await steps(
      `idmap 1 ${on.path} 0 1000 100`,
      'statat 1 f',
      ORDINARY,
      'openat 2 1 new w,creat 644',
      'statat 1 new',
    );
    expect(seen).toEqual(['0', expect.stringContaining('1000:1000'), '0', '0', expect.stringContaining('1000:1000')]);
    expect((await steps(`stat ${on.path}/new`))[0]).toContain(' 0:0 ');
    const [created] = on.observed.of('CREATE');
    expect(created).toMatchObject({ uid: 0, gid: 0, name: 'new' });
    const [looked] = on.observed.of('LOOKUP');
    expect(looked).toMatchObject({ uid: 0xffffffff, gid: 0xffffffff });

    const without = await stage();
    expect(await steps(`idmap 1 ${without.path} 0 1000 100`)).toEqual(['EINVAL']);
    prove('flag', 'FUSE_ALLOW_IDMAP');
  });

  it('POSIX_LOCKS and FLOCK_LOCKS: locks are known to the filesystem', async () => {
    const kinds: unknown[][] = [];
    for (const refuseFlags of [[], ['FUSE_POSIX_LOCKS', 'FUSE_FLOCK_LOCKS']] as InitFlag[][]) {
      const on = await stage({ refuseFlags });
      const file = `${on.path}/f`;
      const list = [
        `open 0 ${file} rw,creat 644`,
        `open 1 ${file} rw`,
        'lock 0 wr 10 5',
        'lock 0 get 0 0',
        'flock 0 ex',
        'flock 1 ex',
      ];
      expect(await steps(...list)).toEqual(['0', '0', '0', 'free', '0', 'EAGAIN']);
      kinds.push(on.observed.of('GETLK', 'SETLK').map(({ operation, flock }) => `${operation} ${flock ? 'flock' : 'posix'}`));
    }
    expect(new Set(kinds[0])).toEqual(new Set(['SETLK posix', 'GETLK posix', 'SETLK flock']));
    expect(kinds[1]).toEqual([]);
    prove('flag', 'FUSE_POSIX_LOCKS');
    prove('flag', 'FUSE_FLOCK_LOCKS');
  });
});
