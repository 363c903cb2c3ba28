import type { ConformanceMap, ConformanceTest } from './case.ts';
import { concurrency } from './cases/concurrency.ts';
import { data } from './cases/data.ts';
import { errors } from './cases/errors.ts';
import { listing } from './cases/listing.ts';
import { locks } from './cases/locks.ts';
import { namespace } from './cases/names.ts';
import { opening } from './cases/opening.ts';
import { permissions } from './cases/permissions.ts';
import { renaming } from './cases/renaming.ts';
import { space } from './cases/space.ts';
import { times } from './cases/times.ts';
import { xattrs } from './cases/xattrs.ts';

/** Puts families together; two cases of one name would hide each other. */
function join(...families: readonly ConformanceMap[]): Readonly<Record<string, ConformanceTest>> {
  const all: ConformanceMap = {};
  for (const cases of families) {
    for (const [name, one] of Object.entries(cases)) {
      if (name in all) throw new Error(`two cases are called "${name}"`);
      all[name] = one;
    }
  }
  return all;
}

/** What a POSIX filesystem on Linux does, case by case: the name says it, `run` shows it. */
export const CONFORMANCE: Readonly<Record<string, ConformanceTest>> = join(
  opening,
  data,
  namespace,
  renaming,
  listing,
  permissions,
  times,
  xattrs,
  locks,
  space,
  errors,
  concurrency,
);
