/** Many processes at once. What one call does is seen whole or not at all. */
import type { PosixProcess } from '../../posix.ts';
import { bytes, type ConformanceMap, each, family, holds, pattern, readAll, type Stage, same, sameBytes, test } from '../case.ts';
import { O_CREAT, O_DIRECTORY, O_EXCL, O_RDONLY, O_RDWR, O_WRONLY, RENAME_EXCHANGE } from '../linux.ts';

const codeOf = (error: unknown) => (error as NodeJS.ErrnoException).code;

/** How each of several calls at the same time ended: `ok` or the errno. */
async function outcomes(calls: readonly Promise<unknown>[]): Promise<string[]> {
  const settled = await Promise.allSettled(calls);
  return settled
    .map((result) => (result.status === 'fulfilled' ? 'ok' : (codeOf(result.reason) ?? String(result.reason))))
    .sort();
}

const crowd = (s: Stage, count: number) => Promise.all(Array.from({ length: count }, () => s.as()));

/** A call that only one of several can make. */
const RACES: {
  name: string;
  prepare?: (s: Stage) => Promise<void>;
  call: (p: PosixProcess, who: number) => Promise<unknown>;
  others: string;
}[] = [
  { name: 'O_EXCL', call: (p) => p.open('/n', O_WRONLY | O_CREAT | O_EXCL), others: 'EEXIST' },
  { name: 'mkdir', call: (p) => p.mkdir('/n'), others: 'EEXIST' },
  { name: 'unlink', prepare: (s) => s.file('/n'), call: (p) => p.unlink('/n'), others: 'ENOENT' },
  { name: 'rmdir', prepare: (s) => s.p.mkdir('/n'), call: (p) => p.rmdir('/n'), others: 'ENOENT' },
  { name: 'rename away', prepare: (s) => s.file('/n'), call: (p, who) => p.rename('/n', `/m${who}`), others: 'ENOENT' },
];

const races: ConformanceMap = each(
  RACES,
  ({ name }) => `of four processes one wins: ${name}`,
  ({ prepare, call, others }) =>
    test([], async (s) => {
      const processes = await crowd(s, 4);
      for (let round = 0; round < 10; round++) {
        await prepare?.(s);
        const ended = await outcomes(processes.map((p, who) => call(p, who)));
        same(ended, [others, others, others, 'ok'], `round ${round}`);
        for (const name of await s.names('/')) await s.p.unlink(`/${name}`).catch(() => s.p.rmdir(`/${name}`));
      }
    }),
);

const together: ConformanceMap = {
  'many processes make files in one directory': test([], async (s) => {
    await s.p.mkdir('/d');
    const processes = await crowd(s, 6);
    await Promise.all(
      processes.map((p, who) => Promise.all(Array.from({ length: 50 }, (_, index) => p.mknod(`/d/${who}-${index}`, 0o100644)))),
    );
    same((await s.names('/d')).length, 300, 'names');
    await Promise.all(
      processes.map((p, who) => Promise.all(Array.from({ length: 50 }, (_, index) => p.unlink(`/d/${who}-${index}`)))),
    );
    same(await s.names('/d'), [], 'names left');
    await s.p.rmdir('/d');
  }),
  'many processes write and read their own files': test([], async (s) => {
    const processes = await crowd(s, 4);
    await Promise.all(
      processes.map(async (p, who) => {
        for (let round = 0; round < 10; round++) {
          const fd = await p.open(`/f${who}`, O_RDWR | O_CREAT);
          await p.write(fd, pattern(30_000, who * 16 + round), 0);
          sameBytes(await readAll(p, fd), pattern(30_000, who * 16 + round), `file ${who}, round ${round}`);
          await p.close(fd);
        }
      }),
    );
  }),
  'a rename that replaces never leaves a gap': test([], async (s) => {
    await s.file('/f', 'version 0');
    const [writer, reader] = await crowd(s, 2);
    let done = false;
    const writing = (async () => {
      for (let round = 1; round <= 60; round++) {
        const fd = await writer.open('/new', O_WRONLY | O_CREAT);
        await writer.write(fd, bytes(`version ${round}`));
        await writer.close(fd);
        await writer.rename('/new', '/f');
      }
      done = true;
    })();
    let reads = 0;
    while (!done) {
      const contents = await s.contents('/f', reader);
      holds(/^version \d+$/.test(contents), `read ${JSON.stringify(contents)}`);
      reads++;
    }
    await writing;
    holds(reads > 0, 'somebody read');
    same(await s.contents('/f'), 'version 60', 'contents');
  }),
  'renames in opposite directions between two directories': test([], async (s) => {
    await s.p.mkdir('/a');
    await s.p.mkdir('/b');
    for (let index = 0; index < 20; index++) await s.file(`/${'ab'[index % 2]}/${index}`);
    const processes = await crowd(s, 4);
    await Promise.all(
      processes.map(async (p, who) => {
        const [from, to] = who % 2 === 0 ? ['a', 'b'] : ['b', 'a'];
        for (let round = 0; round < 40; round++) {
          const index = (round * 7 + who) % 20;
          await p.rename(`/${from}/${index}`, `/${to}/${index}`).catch((error) => same(codeOf(error), 'ENOENT', 'the error'));
        }
      }),
    );
    const all = [...(await s.names('/a')), ...(await s.names('/b'))].map(Number).sort((one, other) => one - other);
    same(
      all,
      Array.from({ length: 20 }, (_, index) => index),
      'files in both directories',
    );
  }),
  'directories that are moved into each other never form a circle': test([], async (s) => {
    await s.p.mkdir('/a');
    await s.p.mkdir('/b');
    const [one, other] = await crowd(s, 2);
    for (let round = 0; round < 20; round++) {
      const ended = await outcomes([one.rename('/a', '/b/a'), other.rename('/b', '/a/b')]);
      same(ended.filter((end) => end === 'ok').length, 1, `renames that worked in round ${round}`);
      const [top] = await s.names('/');
      const below = top === 'a' ? 'b' : 'a';
      await s.p.rename(`/${top}/${below}`, `/${below}`);
    }
    same(await s.names('/'), ['a', 'b'], 'names');
  }),
  'exchanges lose nothing': test(['rename-flags'], async (s) => {
    await s.file('/a', 'one');
    await s.file('/b', 'two');
    const processes = await crowd(s, 3);
    await Promise.all(
      processes.map(async (p) => {
        for (let round = 0; round < 30; round++) await p.renameat2('/a', '/b', RENAME_EXCHANGE);
      }),
    );
    same([await s.contents('/a'), await s.contents('/b')].sort(), ['one', 'two'], 'contents');
  }),
  'a directory is listed while others make and remove files': test([], async (s) => {
    await s.p.mkdir('/d');
    for (let index = 0; index < 50; index++) await s.file(`/d/stays-${String(index).padStart(2, '0')}`);
    const [maker, lister] = await crowd(s, 2);
    let done = false;
    const making = (async () => {
      for (let round = 0; round < 100; round++) {
        await maker.mknod(`/d/goes-${round}`, 0o100644);
        if (round >= 5) await maker.unlink(`/d/goes-${round - 5}`);
      }
      done = true;
    })();
    const expected = Array.from({ length: 50 }, (_, index) => `stays-${String(index).padStart(2, '0')}`);
    while (!done) {
      const fd = await lister.open('/d', O_RDONLY | O_DIRECTORY);
      const names = (await lister.getdents(fd)).map((entry) => entry.name);
      await lister.close(fd);
      same(names.filter((name) => name.startsWith('stays')).sort(), expected, 'files that stayed');
      same(names.length, new Set(names).size, 'each name once');
    }
    await making;
  }),
  'links of one file are counted right': test(['hardlinks'], async (s) => {
    await s.file('/f');
    const processes = await crowd(s, 4);
    await Promise.all(
      processes.map(async (p, who) => {
        for (let round = 0; round < 20; round++) {
          await p.link('/f', `/l${who}-${round}`);
          if (round % 2 === 0) await p.unlink(`/l${who}-${round}`);
        }
      }),
    );
    same((await s.p.stat('/f')).nlink, 41, 'nlink');
  }),
  'deep trees are made and removed side by side': test([], async (s) => {
    const processes = await crowd(s, 3);
    await Promise.all(
      processes.map(async (p, who) => {
        for (let round = 0; round < 5; round++) {
          let path = `/t${who}`;
          const made: string[] = [];
          for (let level = 0; level < 10; level++) {
            await p.mkdir(path);
            made.push(path);
            path += '/d';
          }
          for (const one of made.reverse()) await p.rmdir(one);
        }
      }),
    );
    same(await s.names('/'), [], 'names');
  }),
  'a file is made, opened, removed and made again by many': test(['unlinked-open'], async (s) => {
    const processes = await crowd(s, 4);
    await Promise.all(
      processes.map(async (p, who) => {
        for (let round = 0; round < 20; round++) {
          const fd = await p.open('/f', O_RDWR | O_CREAT).catch((error) => {
            // The name may go between the kernel's look-up and its open; the caller would ask again.
            same(codeOf(error), 'ENOENT', 'the error of open');
            return undefined;
          });
          if (fd === undefined) continue;
          await p.write(fd, bytes(`${who}`), 0);
          same((await p.read(fd, 5, 0)).length, 1, 'bytes of a file that may have no name any more');
          await p.unlink('/f').catch((error) => same(codeOf(error), 'ENOENT', 'the error of unlink'));
          await p.close(fd);
        }
      }),
    );
  }),
  'truncations and writes of one file leave one of the states': test(['truncate'], async (s) => {
    await s.file('/f', 'x'.repeat(1000));
    const [one, other] = await crowd(s, 2);
    const fd = await one.open('/f', O_RDWR);
    for (let round = 0; round < 20; round++) {
      await Promise.all([one.write(fd, new Uint8Array(1000).fill(120), 0), other.truncate('/f', 10)]);
      const contents = await s.contents('/f');
      const clean = contents.replaceAll('\0', '');
      holds(contents.length <= 1000 && clean === 'x'.repeat(clean.length), `round ${round}: ${contents.length} bytes`);
    }
  }),
};

export const concurrency = family('concurrency', { ...races, ...together });
