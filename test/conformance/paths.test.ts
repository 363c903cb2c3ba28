/** The conformance map over the path level: under the simulated kernel, and on mounts. */
import { createFsFromVolume, Volume } from 'memfs';
import { describe, expect, it } from 'vitest';
import { MemoryFilesystem } from '../../examples/memory/filesystem.ts';
import { fromNodeFs, type NodeFsLike, toNodeFs } from '../../src/adapters/index.ts';
import type { PathFilesystem } from '../../src/paths/index.ts';
import type { ConformanceReport } from '../../src/testing/conformance/index.ts';
import { endIdleProcesses, mountedTree } from '../../src/testing/host/index.ts';
import { simulate } from '../../src/testing/kernel/index.ts';
import type { PosixFeature } from '../../src/testing/posix.ts';
import { mountHere, NO_MOUNTS, skipLoudly, tellFigure, useLiveMounts } from '../live/harness.ts';
import { conforms } from './adapter.ts';

/** What node:fs/promises has no calls for, so that no object of that shape can do it. */
const NODE_FS_LACKS: readonly (readonly [PosixFeature, string])[] = [
  ['devices', 'node:fs has no mknod'],
  ['fifos', 'node:fs has no mknod'],
  ['xattrs', 'node:fs has no extended attributes'],
  ['acls', 'node:fs has no extended attributes'],
  ['tmpfile', 'node:fs opens no files without names'],
  ['fallocate', 'node:fs has no fallocate'],
  ['punch-hole', 'node:fs has no fallocate'],
  ['seek-hole', 'node:fs has no lseek'],
  ['nanoseconds', 'utimes of node:fs takes seconds in floating point'],
  ['birth-time', 'the path level answers no STATX'],
  ['binary-names', 'names of node:fs are text'],
];

const EXCHANGE = 'node:fs cannot exchange two names';
const NO_EXCHANGE = {
  'rename: flags: RENAME_EXCHANGE of two files': EXCHANGE,
  'rename: flags: RENAME_EXCHANGE of a file and a full directory in different places': EXCHANGE,
  'rename: flags: RENAME_EXCHANGE counts links of parents': EXCHANGE,
  'rename: flags: open files survive an exchange': EXCHANGE,
  'concurrency: exchanges lose nothing': EXCHANGE,
};

const MEMFS_LACKS: readonly (readonly [PosixFeature, string])[] = [
  ...NODE_FS_LACKS,
  ['large-files', 'memfs keeps a file in one Buffer'],
];

/** The same reason for several cases. */
const because = (reason: string, ...cases: readonly string[]) => Object.fromEntries(cases.map((name) => [name, reason]));

const MEMFS_DIFFERS: Readonly<Record<string, string>> = {
  ...NO_EXCHANGE,
  ...because(
    'memfs says that symbolic links are of 0 bytes and of mode 0666',
    'symlink: a target short comes back',
    'symlink: a target relative with .. comes back',
    'symlink: a target absolute comes back',
    'symlink: a target of 100 bytes comes back',
    'symlink: a target of 1,000 bytes comes back',
    'symlink: a target of 4,095 bytes comes back',
    'symlink: a target in UTF-8 comes back',
    'symlink: a target with spaces and line ends comes back',
    'symlink: stat follows, lstat does not',
    'symlink: its mode is 0777',
    'symlink: replaced by another gives the new target',
  ),
  ...because(
    'memfs renames what a symbolic link leads to',
    'symlink: relative to where it lies, not to who asks',
    'rename: a symbolic link gets another name',
    'rename: a symbolic link goes to another directory',
    'rename: a symbolic link over a file replaces it',
    'rename: a symbolic link over a symbolic link replaces it',
    'rename: a symbolic link itself, not its target',
  ),
  ...because(
    'memfs takes no link off a file or a directory that is replaced',
    'rename: links of the parent after a directory was replaced',
    'rename: over one of two names takes one link',
    'unlinked: a replaced file stays open',
  ),
  ...because(
    'memfs checks mode bits itself, as the user who mounted, who need not be the caller, and root too',
    'permission: the owner by the owner bits',
    'permission: the group by the group bits',
    'permission: a supplementary group by the group bits',
    'permission: root without any bit',
    'permission: a user makes, changes and removes what is his',
    'set-id bits: a write by root does not: they stay',
  ),
  ...because('memfs says one block for every file', 'write: blocks count what is stored', 'truncate: gives back space'),
  ...because('memfs reads times before 1970 as now', 'utimens: before 1970'),
  ...because('memfs moves the time of modification with chmod', 'chmod: leaves the rest of the file alone'),
  ...because('memfs gives the number of an open file away once it has no name', 'unlinked: the name is free for another file'),
};

/** What shows only where the tree has to be removed afterwards. */
const MEMFS_MOUNTED_DIFFERS: Readonly<Record<string, string>> = {
  ...MEMFS_DIFFERS,
  ...because(
    'memfs counts a replaced name as still there, so that its directory cannot be removed',
    'concurrency: a rename that replaces never leaves a gap',
    'rename: a directory over a directory that is empty replaces it',
    'rename: a file over a file replaces it',
    'rename: a file over a symbolic link replaces it',
    'rename: a full directory over an empty one',
    'rename: a replaced file is gone',
    'rename: over a symbolic link, not its target',
    'shared: a file that is replaced while it is read stays whole for the reader',
  ),
  ...because(
    'memfs does not let root list a directory of somebody else',
    'chown: a new file belongs to its maker',
    'chown: of a directory',
    'setgid directory: a new directory has its group and the bit',
    'setgid directory: without the bit the maker decides',
    'sticky: the owner of the directory may remove files of others',
  ),
};

const ofMemory = () => fromNodeFs(toNodeFs(new MemoryFilesystem()) as unknown as NodeFsLike);
const ofMemfs = () => fromNodeFs(createFsFromVolume(new Volume()) as unknown as NodeFsLike);

interface Tree {
  readonly make: () => PathFilesystem;
  readonly lacks: readonly (readonly [PosixFeature, string])[];
  readonly except: Readonly<Record<string, string>>;
}

const TREES: Readonly<Record<string, Tree>> = {
  'the memory filesystem': { make: ofMemory, lacks: NODE_FS_LACKS, except: NO_EXCHANGE },
  memfs: { make: ofMemfs, lacks: MEMFS_LACKS, except: MEMFS_DIFFERS },
};

const MOUNTS: Readonly<Record<string, Tree>> = {
  'the memory filesystem': TREES['the memory filesystem'],
  memfs: { make: ofMemfs, lacks: MEMFS_LACKS, except: MEMFS_MOUNTED_DIFFERS },
};

describe('the path level under the simulated kernel', () => {
  it.each(Object.entries(TREES))(
    'conforms over %s',
    async (_, { make, lacks, except }) => {
      const report = await conforms(() => simulate(make(), { unsupported: new Map(lacks) }), { except });
      tell(report, except);
    },
    60_000,
  );
});

describe.skipIf(skipLoudly('conformance of mounts of the path level', NO_MOUNTS))('the path level on a mount', () => {
  useLiveMounts();

  it.each(Object.entries(MOUNTS))(
    'conforms over %s',
    async (_, { make, lacks, except }) => {
      const { mount } = await mountHere(make(), { mountOptions: 'allow_other,default_permissions' });
      const report = await conforms(() => mountedTree(mount, { unsupported: new Map(lacks) }), { except });
      await endIdleProcesses();
      tell(report, except);
    },
    90_000,
  );
});

/** How many cases passed, were skipped for a lack, and differ. */
function tell({ passed, skipped }: ConformanceReport, except: Readonly<Record<string, string>>): void {
  const excepted = Object.keys(except).length;
  tellFigure('cases', `${passed} passed, ${skipped - excepted} skipped for what is lacking, ${excepted} excepted`);
  expect(passed).toBeGreaterThan(500);
}
