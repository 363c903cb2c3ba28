/** `fusewire trace replay`: recorded requests against a filesystem, or recorded answers through the library's own codecs. */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import type { Filesystem } from '../filesystem/index.ts';
import { importModule, loadFilesystem, ModuleError } from '../filesystem/module.ts';
import {
  type ReplayOptions,
  type ReplayReport,
  readTrace,
  replayScripted,
  replayTrace,
  type ScriptedReport,
  summarise,
} from '../trace/index.ts';
import { integer, need, type OptionTable, oneOf, parse, type Values } from './arguments.ts';
import { CliError, EXIT } from './exit.ts';
import type { Output } from './output.ts';

const OPTIONS: OptionTable = {
  module: { type: 'string' },
  memory: { type: 'boolean' },
  passthrough: { type: 'string' },
  timing: { type: 'string' },
  speed: { type: 'string' },
  concurrency: { type: 'string' },
  strict: { type: 'boolean' },
  'answer-ms': { type: 'string' },
  limit: { type: 'string' },
  json: { type: 'boolean' },
};

/** Shown in the help of `fusewire trace`. */
export const REPLAY_HELP = `Options of replay: against what, at most one of
  --module M           a filesystem's module, as for "fusewire mount"; what follows -- are its arguments
  --memory             an empty memory filesystem
  --passthrough SRC    the folder SRC
                       without one of them the recorded answers themselves go through the library, which must make the
                       same bytes of them
  --timing fast|kept   as fast as the answers come, or at the times of the trace (default: fast)
  --speed X            with kept: so many times faster (default: 1)
  --concurrency recorded|serial
                       as many requests in flight as were then, or one after the other (default: recorded)
  --strict             compares times, inode numbers, lifetimes and the like too
  --answer-ms N        how long an answer may take (default: 5000)
  --limit N            differences that are shown (default: 100; 0: all)`;

/** How example modules end: `.ts` in a checkout, `.js` in the package. */
const ENDING = import.meta.url.endsWith('.ts') ? '.ts' : '.js';
const exampleModule = (name: string) => new URL(`../../examples/${name}/filesystem${ENDING}`, import.meta.url).href;

const DEFAULT_SHOWN = 100;

/** 0 when nothing differs (for the codecs: nothing without a rule), 65 otherwise. */
export async function run(argv: readonly string[], output: Output): Promise<number> {
  const { values, places, after } = parse('trace', argv, OPTIONS);
  const { file } = need('trace', places, ['file']);
  const target = await targetOf(values, after);
  const limit = integer(values, 'limit', 0, 1_000_000) ?? DEFAULT_SHOWN;
  const shown = limit === 0 ? Number.POSITIVE_INFINITY : limit;
  const options = optionsOf(values, shown);
  const report =
    target === undefined ? await replayScripted(readTrace(file), options) : await replayTrace(readTrace(file), target, options);
  const isFailure = isScripted(report) ? report.unexplained > 0 : report.different > 0;
  if (values.json === true) process.stdout.write(`${JSON.stringify(plain(report), undefined, 2)}\n`);
  else output.text(describe(report));
  return isFailure ? EXIT.DATA : EXIT.OK;
}

function optionsOf(values: Values, differencesMax: number): ReplayOptions {
  const timing = oneOf(values, 'timing', ['fast', 'kept']);
  const concurrency = oneOf(values, 'concurrency', ['recorded', 'serial']);
  const answerMs = integer(values, 'answer-ms', 1, 86_400_000);
  const speed = values.speed === undefined ? undefined : Number(values.speed);
  if (speed !== undefined && !(speed > 0 && speed <= 1_000_000)) {
    throw new CliError(`--speed is a number above 0, at most 1000000, not ${String(values.speed)}.`);
  }
  if (speed !== undefined && timing !== 'kept') throw new CliError('--speed needs --timing kept.');
  return {
    differencesMax,
    strict: values.strict === true,
    ...(timing === undefined ? {} : { timing }),
    ...(concurrency === undefined ? {} : { concurrency }),
    ...(answerMs === undefined ? {} : { answerMs }),
    ...(speed === undefined ? {} : { speed }),
  };
}

async function targetOf(values: Values, after: readonly string[]): Promise<Filesystem | undefined> {
  const { module, memory, passthrough } = values;
  const given = [module, memory, passthrough].filter((value) => value !== undefined);
  if (given.length > 1) throw new CliError('--module, --memory and --passthrough exclude each other.');
  if (after.length > 0 && module === undefined) throw new CliError('What follows -- is for --module, which is missing.');
  if (typeof module === 'string') return load(moduleUrl(module), { arguments: after });
  if (memory === true) return load(exampleModule('memory'), {});
  if (typeof passthrough !== 'string') return undefined;
  const source = resolve(passthrough);
  if (!existsSync(source)) throw new CliError(`The folder ${source} is not there.`);
  return load(exampleModule('passthrough'), { source });
}

function moduleUrl(module: string): string {
  if (module.startsWith('file:')) return pathToFileURL(fileURLToPath(module)).href;
  const path = resolve(module);
  if (!existsSync(path))
    throw new ModuleError('ERR_FUSEWIRE_MODULE_MISSING', `there is no module ${path}; give the path of a JavaScript file`);
  return pathToFileURL(path).href;
}

/** The filesystem of a module, as for one worker. What its `shared` opened stays open until the process ends. */
async function load(module: string, options: object): Promise<Filesystem> {
  const { shared } = await importModule(module);
  const context = { index: 0, workers: 1, options, shared: await shared?.(options as never), mode: 'event' } as const;
  return loadFilesystem(module, context);
}

const isScripted = (report: ReplayReport | ScriptedReport): report is ScriptedReport => 'unexplained' in report;

/** The report as JSON has it: maps as objects. */
function plain(report: ReplayReport | ScriptedReport): object {
  const maps = Object.entries(report).map(
    ([name, value]) => [name, value instanceof Map ? Object.fromEntries(value) : value] as const,
  );
  return Object.fromEntries(maps);
}

function describe(report: ReplayReport | ScriptedReport): string {
  const lines = report.differences.map(
    ({ index, text, rule }) => `message ${index}: ${text}${rule === undefined ? '' : ` [${rule}]`}`,
  );
  const hidden = report.different - report.differences.length;
  if (hidden > 0) lines.push(`… and ${hidden} more`);
  lines.push(summarise(report));
  if (isScripted(report)) {
    const rules = [...report.rules].map(([rule, count]) => `${count} ${rule}`).join(', ');
    const old = report.modernised > 0 ? `, ${report.modernised} in the layout of today` : '';
    lines.push(`${report.identical} identical to the last byte, ${report.padding} but for padding${old}`);
    if (report.different > 0)
      lines.push(`differences by rule: ${rules === '' ? 'none' : rules}; ${report.unexplained} unexplained`);
    lines.push(`${report.notificationsSame} of ${report.notifications} notifications written to the same bytes`);
  } else if (report.notifications > 0) lines.push(`${report.notifications} notifications of the trace were not sent`);
  return lines.join('\n');
}
