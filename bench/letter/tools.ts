/** dd, fio and aio-stress: their command lines for the letter's rows, and what they print. */
import { BenchError } from '../harness/failure.ts';

export type Way = 'read' | 'write';

export interface Transfer {
  bytes: number;
  seconds: number;
}

/** The letter's MB: 10^6 bytes, as dd and fio count it. */
export function megabytesPerSecond({ bytes, seconds }: Transfer): number {
  return bytes / seconds / 1e6;
}

export const DD_BLOCK_BYTES = 2 << 20;
const RECORD_KIB = 64;
const IN_FLIGHT = 4;

/** `conv=notrunc`: the file keeps its length, so a write is never an extending one, which the kernel makes synchronous. */
export function ddCommand(way: Way, file: string, bytes: number): string[] {
  const common = [`bs=${DD_BLOCK_BYTES}`, `count=${bytes / DD_BLOCK_BYTES}`];
  return way === 'read'
    ? ['dd', `if=${file}`, 'of=/dev/null', 'iflag=direct', ...common]
    : ['dd', 'if=/dev/zero', `of=${file}`, 'oflag=direct', 'conv=notrunc', ...common];
}

/** The last line of dd: `536870912 bytes (537 MB, 512 MiB) copied, 0.26 s, 2.1 GB/s`. */
export function parseDd(stderr: string): Transfer {
  const match = stderr.match(/^(\d+) bytes?\b.* copied, ([\d.]+(?:e[-+]?\d+)?) s,/m);
  if (match === null) throw BenchError.result(`dd did not say how much it copied: ${stderr.trim()}`);
  return transfer(Number(match[1]), Number(match[2]), 'dd');
}

export function fioCommand(fio: string, way: Way, file: string, bytes: number): string[] {
  return [
    fio,
    '--name=letter',
    `--filename=${file}`,
    `--rw=${way}`,
    `--size=${bytes}`,
    `--bs=${RECORD_KIB}k`,
    `--iodepth=${IN_FLIGHT}`,
    '--ioengine=libaio',
    '--direct=1',
    '--thread',
    '--output-format=json',
  ];
}

interface FioDirection {
  io_bytes: number;
  /** Milliseconds. */
  runtime: number;
  short_ios: number;
  total_ios: number;
}

interface FioJob {
  error: number;
  read: FioDirection;
  write: FioDirection;
}

export function parseFio(stdout: string, way: Way): Transfer {
  const { io_bytes, runtime, short_ios } = fioJob(stdout)[way];
  if (short_ios > 0) throw BenchError.result(`${short_ios} of fio's requests were answered short`);
  return transfer(io_bytes, runtime / 1000, 'fio');
}

/** The one job of fio's JSON report; lines before it (warnings) are skipped. Throws a BenchError when the job failed. */
export function fioJob(stdout: string): FioJob {
  const job = fioJobs(stdout)?.[0];
  if (job === undefined) throw BenchError.result(`fio printed no report: ${stdout.trim().slice(0, 200)}`);
  if (job.error !== 0) throw BenchError.result(`fio failed with errno ${job.error}`);
  return job;
}

function fioJobs(stdout: string): FioJob[] | undefined {
  try {
    return (JSON.parse(stdout.slice(stdout.indexOf('{'))) as { jobs?: FioJob[] }).jobs;
  } catch {
    return undefined;
  }
}

/** -O direct, -o 0 writes or 1 reads in order, -s MiB, -r KiB, -d in flight; -b and -i keep as many submitted at a time. */
export function aioStressCommand(aioStress: string, way: Way, file: string, bytes: number): string[] {
  const operation = way === 'write' ? '0' : '1';
  const flight = String(IN_FLIGHT);
  return [
    aioStress,
    ...['-O', '-o', operation, '-s', String(bytes / 2 ** 20), '-r', String(RECORD_KIB)],
    ...['-d', flight, '-b', flight, '-i', flight, file],
  ];
}

/** `thread 0 read totals (1105.23 MB/s) 512.00 MB in 0.46s`, where MB is 2^20 bytes. The rate is the more exact number. */
export function parseAioStress(output: string, way: Way): Transfer {
  const match = output.match(new RegExp(`\\b${way} totals \\(([\\d.]+) MB/s\\) ([\\d.]+) MB in `));
  if (match === null) throw BenchError.result(`aio-stress printed no totals: ${output.trim().slice(-200)}`);
  const [rate, mebibytes] = [Number(match[1]), Number(match[2])];
  return transfer(Math.round(mebibytes * 2 ** 20), mebibytes / rate, 'aio-stress');
}

function transfer(bytes: number, seconds: number, tool: string): Transfer {
  if (bytes > 0 && seconds > 0 && Number.isFinite(seconds)) return { bytes, seconds };
  throw BenchError.result(`${tool} says that it moved ${bytes} bytes in ${seconds} s; use a larger --size`);
}
