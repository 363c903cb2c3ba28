/** libfuse's own test of system calls on a mount, which also looks at the folder beneath. */
import { statSync } from 'node:fs';
import { ending, lastLines } from '../children.ts';
import type { Case, Suite } from '../suite.ts';

const LIMIT_MS = 300_000;

export const testSyscalls: Suite = {
  name: 'test_syscalls',
  about: "libfuse's test of system calls, with the folder beneath as its second path, with and without unlinked files",
  variable: 'FUSEWIRE_TEST_SYSCALLS',
  names: 'the program, built from test/test_syscalls.c of libfuse',
  home: 'https://github.com/libfuse/libfuse',
  missing: (path) => (statSync(path).isFile() ? undefined : 'is no program'),
  async run(ground, { path, run, progress }) {
    const cases: Case[] = [];
    const second = ground.folder === ground.source ? [] : [`:${ground.source}`];
    for (const [pass, extra] of [
      ['linked', []],
      ['unlinked', ['-u']],
    ] as const) {
      progress(pass);
      const ended = await run([path, ground.folder, ...second, ...extra], pass, { limit: LIMIT_MS });
      cases.push(...parse(pass, ended.output));
      const good = ended.code === 0;
      const detail = good ? {} : { detail: `${ending(ended)}\n${lastLines(ended.output, 3)}` };
      cases.push({ name: `${pass}: the end`, outcome: good ? 'passed' : 'failed', ...detail });
    }
    return cases;
  },
};

/**
 * Lines of the program: `+ 0.001s  12 [mkdir] START`, then `… OK`, which the checks of unlinked files leave out, or what went
 * wrong.
 */
function parse(pass: string, output: string): Case[] {
  const cases: Case[] = [];
  let name: string | undefined;
  let said: string[] = [];
  const close = () => {
    if (name === undefined) return;
    const detail = said.slice(0, 4).join('\n');
    if (said.length === 0) cases.push({ name, outcome: 'passed' });
    else cases.push({ name, outcome: / SKIP/.test(said[0]) ? 'skipped' : 'failed', detail });
    name = undefined;
  };
  for (const line of output.split('\n')) {
    const mark = /\+\s*[\d.]+s\s+(\d+) \[(.*)\] (START|OK)$/.exec(line);
    if (mark?.[3] === 'START') {
      close();
      name = `${pass}: ${mark[1]} ${mark[2]}`;
      said = [];
    } else if (mark === null && line.trim() !== '') {
      said.push(line);
    }
  }
  close();
  return cases;
}
