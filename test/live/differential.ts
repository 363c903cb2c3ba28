/** The client that makes the same system calls natively and on a mount, and the program of random operations on one file. */
import { execFileSync } from 'node:child_process';
import { chmodSync } from 'node:fs';
import { join } from 'node:path';
import { program, ROOT, sharedFolder } from './harness.ts';

export const CLIENT = join(ROOT, 'test/clients/passthrough/differential.py');

/** Sections of the client, each with the ones that run before it in the same folder. */
export const SECTIONS: readonly string[][] = [
  ['names'],
  ['attributes'],
  ['owners'],
  ['data'],
  ['appenders'],
  ['renames'],
  ['unlinked'],
  ['tmpfiles'],
  ['xattrs'],
  ...(program('setfacl') === undefined ? [] : [['acls', 'acl_user']]),
  ['locks'],
  ['directories'],
  ['special'],
  ['prepare_user', 'user'],
];

/** Compiles test/clients/fsx into a folder of this test file's; answers the program. */
export function compileFsx(): string {
  const fsx = join(sharedFolder('fsx'), 'fsx');
  const compiler = ['cc', 'gcc', 'clang'].map(program).find((path) => path !== undefined)!;
  const source = join(ROOT, 'test/clients/fsx/fsx.c');
  execFileSync(compiler, ['-O2', '-std=gnu11', '-Wall', '-Wextra', '-Werror', '-o', fsx, source], { timeout: 60_000 });
  chmodSync(fsx, 0o755);
  return fsx;
}
