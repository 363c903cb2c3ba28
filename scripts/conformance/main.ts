/** `npm run conformance -- SUITE`: an outside suite against a mount of the passthrough and against the folder beneath. */
import { chmodSync, cpSync, existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { run as runChild } from './children.ts';
import { type Comparison, compare, readKnown } from './compare.ts';
import { ConformanceError } from './failure.ts';
import { insideFolder, runInside } from './isolation.ts';
import { command, PassthroughMount, Scratch } from './place.ts';
import { describeMount, parseSettings, type Settings, USAGE } from './settings.ts';
import type { Bench, Case, Ground, Suite } from './suite.ts';
import { fsstress } from './suites/fsstress.ts';
import { fsx } from './suites/fsx.ts';
import { ltp } from './suites/ltp.ts';
import { pjdfstest } from './suites/pjdfstest.ts';
import { testSyscalls } from './suites/test-syscalls.ts';
import { xfstests } from './suites/xfstests.ts';

const SUITES: readonly Suite[] = [pjdfstest, fsx, fsstress, testSyscalls, xfstests, ltp];

/** EX_UNAVAILABLE of <sysexits.h>. */
const UNAVAILABLE = 69;

/** The built command line; FUSEWIRE_CLI names another one. */
const CLI = process.env.FUSEWIRE_CLI ?? fileURLToPath(new URL('../../dist/src/cli/main.js', import.meta.url));

const print = (text: string) => process.stdout.write(`${text}\n`);
const warn = (text: string) => process.stderr.write(`${text}\n`);

async function main(): Promise<number> {
  const settings = parseSettings(process.argv.slice(2));
  if (settings.help) {
    print(USAGE);
    return 0;
  }
  if (settings.list) {
    list(settings.json);
    return 0;
  }
  const suite = SUITES.find(({ name }) => name === settings.suite);
  if (suite === undefined) {
    const which = settings.suite === '' ? 'name a suite' : `there is no suite ${settings.suite}`;
    throw ConformanceError.usage(`${which}: ${SUITES.map(({ name }) => name).join(', ')}`);
  }
  const absent = whyAbsent(suite);
  if (absent !== undefined) {
    warn(`conformance: ${suite.name} is not there: ${absent}. Its home is ${suite.home}; see docs/CONFORMANCE.md.`);
    return UNAVAILABLE;
  }
  if (!existsSync(CLI)) throw new ConformanceError(`there is no ${CLI}: run npm run build`);
  return insideFolder === undefined ? await runInside() : await runSuite(suite, settings, insideFolder);
}

function whyAbsent({ variable, names, missing }: Suite): string | undefined {
  const path = process.env[variable];
  if (path === undefined || path === '') return `${variable} is not set to ${names}`;
  if (!existsSync(path)) return `${path}, which ${variable} names, does not exist`;
  const problem = missing(path);
  return problem === undefined ? undefined : `${path}, which ${variable} names, ${problem}`;
}

function list(json: boolean): void {
  const rows = SUITES.map((suite) => ({ ...suite, absent: whyAbsent(suite) }));
  if (json) {
    const shown = rows.map(({ name, about, variable, names, home, absent }) => ({ name, about, variable, names, home, absent }));
    print(JSON.stringify(shown, undefined, 2));
    return;
  }
  for (const { name, about, variable, names, home, absent } of rows) {
    print(
      `${name}: ${about}\n  ${variable}: ${names}\n  from ${home}\n  ${absent === undefined ? 'it is there' : `not there: ${absent}`}`,
    );
  }
}

async function runSuite(suite: Suite, settings: Settings, base: string): Promise<number> {
  // Everything below the folder is a filesystem of this namespace, so nothing stays of it. Images of up to three scratch
  // filesystems lie there too, as large as what is written to them.
  await command('mount', '-t', 'tmpfs', '-o', 'size=0,mode=755', 'conformance', base);
  const begin = performance.now();
  const beneath = settings.beneath === undefined ? await runSide(suite, settings, base, 'beneath') : earlier(settings);
  const mounted = await runSide(suite, settings, base, 'mounted');
  const comparison = compare(beneath, mounted, readKnown(), settings);
  const seconds = Math.round((performance.now() - begin) / 1000);
  const { over } = settings;
  if (settings.json) {
    print(JSON.stringify({ suite: suite.name, over, mount: describeMount(settings), seconds, ...comparison, beneath, mounted }));
  } else {
    print(`${suite.name} over ${over}, ${describeMount(settings)} (${seconds} s)`);
    print(report(comparison));
  }
  return comparison.differences.length === 0 && mounted.some(({ outcome }) => outcome === 'passed') ? 0 : 1;
}

function earlier({ beneath, suite, over }: Settings): Case[] {
  let found: { suite: string; over: string; beneath: Case[] };
  try {
    found = JSON.parse(readFileSync(resolve(beneath!), 'utf8'));
  } catch (error) {
    throw new ConformanceError(`${beneath} cannot be read as the result of an earlier run: ${(error as Error).message}`);
  }
  if (found.suite !== suite || found.over !== over) {
    throw new ConformanceError(`${beneath} holds a run of ${found.suite} over ${found.over}, not of ${suite} over ${over}`);
  }
  return found.beneath;
}

async function runSide(suite: Suite, settings: Settings, base: string, side: Ground['side']): Promise<Case[]> {
  const work = join(base, side);
  const logs = join(work, 'logs');
  mkdirSync(logs, { recursive: true });
  const daemon = daemonOf(settings);
  const bench: Bench = {
    settings,
    path: resolve(process.env[suite.variable]!),
    scratch: work,
    daemon,
    run: (argv, name, options) => runChild(argv, { ...options, log: join(logs, `${name.replaceAll('/', '-')}.log`) }),
    progress: (text) => warn(`${side}: ${text}`),
  };
  const scratch = await Scratch.make(settings.over, work, 'storage', settings.size);
  const source = join(scratch.folder, 'source');
  mkdirSync(source);
  chmodSync(source, 0o755);
  let mount: PassthroughMount | undefined;
  try {
    if (side === 'mounted' && suite.mountsItself !== true) {
      mount = await PassthroughMount.make(daemon, source, join(work, 'mount'), join(logs, 'daemon.log'));
    }
    const folder = mount?.folder ?? (suite.mountsItself === true ? join(work, 'mount') : source);
    const cases = await suite.run({ side, storage: settings.over, folder, source }, bench);
    const problem = await mount?.end();
    if (problem !== undefined) cases.push({ name: 'the daemon', outcome: 'failed', detail: problem });
    return cases;
  } finally {
    if (settings.log !== undefined) cpSync(logs, join(resolve(settings.log), side), { recursive: true });
    await scratch.end().catch((error: Error) => warn(`${side}: ${error.message}`));
  }
}

function daemonOf({ mode, workers, cache, writeback, backing, daemon }: Settings): string[] {
  return [
    ...[process.execPath, CLI, 'passthrough', '--mode', mode, '--workers', String(workers), '--cache', cache],
    // Not --backing, which is the default: asked for, it refuses mounts with noatime, which tests make.
    ...(writeback ? ['--writeback'] : backing ? [] : ['--no-backing']),
    ...daemon,
  ];
}

function report(comparison: Comparison): string {
  const { counts, differences, known, failedBeneathToo, better, skipped, unneeded } = comparison;
  const lines: string[] = [];
  for (const side of ['beneath', 'mounted'] as const) {
    const { passed, failed, skipped } = counts[side];
    lines.push(
      `  ${side.padEnd(8)}${String(passed).padStart(7)} passed${String(failed).padStart(6)} failed${String(skipped).padStart(6)} skipped`,
    );
  }
  const indent = (text: string) => text.replaceAll('\n', '\n      ');
  if (failedBeneathToo.length > 0) lines.push(`  fails beneath too: ${failedBeneathToo.join(', ')}`);
  if (better.length > 0) lines.push(`  fails beneath only: ${better.join(', ')}`);
  for (const { reason, names } of skipped) lines.push(`  skipped on the mount: ${names.join(', ')}: ${reason}`);
  for (const { name, reason } of known) lines.push(`  known: ${name}: ${reason}`);
  for (const name of unneeded) lines.push(`  known, but did not differ this time: ${name}`);
  for (const { name, beneath, detail } of differences)
    lines.push(`  DIFFERS: ${name} (${beneath} beneath)\n      ${indent(detail)}`);
  lines.push(differences.length === 0 ? '  no difference' : `  ${differences.length} differences that nothing explains`);
  return lines.join('\n');
}

try {
  process.exitCode = await main();
} catch (error) {
  if (!(error instanceof ConformanceError)) throw error;
  warn(`conformance: ${error.message}`);
  process.exitCode = error.isUsage ? 2 : 1;
}
