/**
 * A mixed load on a passthrough for as long as asked, and what is left of it:
 *
 *     npm run soak -- [--minutes N] [--parts N] [--workers N] [--mode blocking|event] [--writeback] [--over DIR] [--json FILE]
 *
 * git, fsx, a stress program of ours (and fsstress, where FUSEWIRE_FSSTRESS names one), fio with verification, inotify watchers and
 * several users work on one mount. First for a warm-up (a tenth of the time, at least one minute), then for the rest, in parts. After
 * each the load stops, what it left is compared with the source, everything is removed, the kernel is made to forget
 * (which drops the name caches of the whole machine), every thread collects its garbage, and the daemon's memory, descriptors,
 * nodes and requests in flight are read. Ends with 1 when a program failed, data differs, or one of the figures ends more than 5 % above
 * where it was: memory after the warm-up, in which code is compiled and the allocators reach their working size, all others
 * at the start.
 */
import { spawnSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { parseArgs } from 'node:util';
import { type LoadReport, makeLoads, makePlace, repeat, runProgram } from './soak/loads.ts';
import { type Usage, WatchedDaemon } from './soak/watched.ts';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '5' },
    parts: { type: 'string', default: '3' },
    workers: { type: 'string', default: '4' },
    mode: { type: 'string', default: 'blocking' },
    writeback: { type: 'boolean', default: false },
    over: { type: 'string', default: tmpdir() },
    json: { type: 'string' },
  },
});
const minutes = Number(values.minutes);
const warmUpMinutes = Math.min(Math.max(1, minutes / 10), minutes / 2);
const parts = Number(values.parts);
const TOLERANCE = 0.05;

const place = makePlace(values.over);
const { loads, end: removePrograms } = makeLoads();
const reports: LoadReport[] = loads.map(({ name }) => ({ name, turns: 0, failures: [] }));
const samples: (Usage & { minute: number })[] = [];
const problems: string[] = [];
const daemon = new WatchedDaemon({
  source: place.source,
  path: place.mountpoint,
  workers: Number(values.workers),
  mode: values.mode,
  writeback: values.writeback,
});

function print(what: string, usage: Usage): void {
  const { rssKiB, descriptors, nodes, waiting, pending, requests } = usage;
  const memory = `${Math.round(rssKiB / 1024)} MiB resident`;
  process.stdout.write(
    `${what}: ${memory}, ${descriptors} descriptors, ${nodes} nodes, ${waiting + pending} requests in flight, ${requests} served\n`,
  );
}

/** All loads for so long. */
async function work(forMinutes: number): Promise<void> {
  const from = performance.now();
  const isOver = () => performance.now() - from > forMinutes * 60_000;
  const sampler = setInterval(async () => {
    const usage = await daemon.usage();
    samples.push({ minute: samples.length + 1, ...usage });
    print(`minute ${samples.length}`, usage);
  }, 60_000);
  await Promise.all(loads.map((load, index) => repeat(load, place.mountpoint, reports[index], isOver)));
  clearInterval(sampler);
}

const CHECKSUMS = `cd "$1"; find . -type f -print0 | LC_ALL=C sort -z | xargs -0 -r sha256sum; find . -printf '%p %y %m %U %G %n %l\\n' | LC_ALL=C sort`;

/** Compares what lies on the mount with the source, removes it, and reads what the daemon uses then. */
async function settle(what: string): Promise<Usage> {
  // What the kernel has remembered is to be compared as it is now, and not only what it has been told.
  await runProgram(['sync', '-f', place.source]);
  const [there, here] = await Promise.all([place.mountpoint, place.source].map((path) => checksums(path)));
  if (there !== here) problems.push(`${what}: the mount does not show what the source has`);
  await runProgram(['sh', '-c', 'rm -rf "$1"/*', 'sh', place.mountpoint]);
  for (let round = 0; round < 3; round++) {
    spawnSync('sync');
    writeFileSync('/proc/sys/vm/drop_caches', '2');
    await daemon.collect(place.mountpoint);
  }
  const usage = await daemon.usage();
  print(what, usage);
  return usage;
}

async function checksums(path: string): Promise<string> {
  const { code, output } = await runProgram(['sh', '-c', `{ ${CHECKSUMS}; } | sha256sum`, 'sh', path], 600_000);
  if (code !== 0) problems.push(`${path} could not be read: ${output}`);
  return output;
}

function compare(before: Usage, after: Usage): void {
  for (const key of ['rssKiB', 'descriptors', 'nodes', 'waiting', 'pending'] as const) {
    if (after[key] > before[key] * (1 + TOLERANCE)) problems.push(`${key} was ${before[key]} and ended at ${after[key]}`);
  }
  if (after.open.join() !== before.open.join()) problems.push(`open at first: ${before.open}; at the end: ${after.open}`);
}

await daemon.start();
const atStart = await settle('at the start');
await work(warmUpMinutes);
const before = await settle('after the warm-up');
const between: Usage[] = [];
for (let part = 1; part < parts; part++) {
  await work((minutes - warmUpMinutes) / parts);
  between.push(await settle(`after part ${part} of ${parts}`));
}
await work((minutes - warmUpMinutes) / parts);
const after = await settle('at the end');
compare({ ...atStart, rssKiB: before.rssKiB }, after);
for (const fault of daemon.faults) problems.push(`fault ${fault}`);
for (const { name, turns, failures } of reports) {
  process.stdout.write(`${name}: ${turns} turns, ${failures.length} failures\n`);
  for (const failure of failures) problems.push(`${name}, ${failure}`);
}
const exitCode = await daemon.end();
if (exitCode !== 0) problems.push(`the daemon ended with ${exitCode}: ${daemon.errors}`);
removePrograms();
rmSync(place.folder, { recursive: true, force: true });
for (const problem of problems) process.stdout.write(`PROBLEM ${problem}\n`);
process.stdout.write(problems.length === 0 ? 'Everything came back to where it was.\n' : `${problems.length} problems\n`);
if (values.json !== undefined) {
  const loadsReport = reports.map(({ name, turns, failures }) => ({ name, turns, failures: failures.length }));
  const report = { ...values, atStart, before, between, after, samples, loads: loadsReport, problems };
  writeFileSync(values.json, `${JSON.stringify(report, undefined, 2)}\n`);
}
process.exitCode = problems.length === 0 ? 0 : 1;
