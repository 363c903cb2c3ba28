/** fio and our own client as the rows use them, and what they print. */
import { BenchError } from '../harness/failure.ts';
import { fioJob } from '../letter/tools.ts';

/** What one run of a program did. */
export interface Outcome {
  operations: number;
  /** 0 where only operations count. */
  bytes: number;
  seconds: number;
  /** Microseconds of a single operation; undefined where the program does not say. */
  p50: number | undefined;
  p99: number | undefined;
}

export interface FioLoad {
  rw: 'read' | 'write' | 'randread' | 'randwrite';
  block: string;
  depth: number;
  /** Through the page cache, the whole file once. Otherwise direct, for some time. */
  buffered: boolean;
}

/**
 * `seconds` counts for direct loads only. Latencies are whole: where a request is not asynchronous its time passes in io_submit(2),
 * before what fio calls completion latency begins.
 */
export function fioCommand(fio: string, load: FioLoad, file: string, bytes: number, seconds: number): string[] {
  const how = load.buffered
    ? ['--ioengine=psync', '--direct=0', '--end_fsync=1']
    : [
        '--ioengine=libaio',
        '--direct=1',
        '--time_based',
        `--runtime=${Math.round(seconds * 1000)}ms`,
        '--norandommap',
        '--randrepeat=0',
      ];
  const what = [`--filename=${file}`, `--rw=${load.rw}`, `--bs=${load.block}`, `--iodepth=${load.depth}`, `--size=${bytes}`];
  return [
    fio,
    '--name=row',
    ...what,
    ...how,
    '--allow_file_create=0',
    '--clat_percentiles=0',
    '--lat_percentiles=1',
    '--thread',
    '--output-format=json',
  ];
}

interface Latencies {
  percentile?: Record<string, number>;
}

export function parseFio(stdout: string, load: FioLoad): Outcome {
  const way = load.rw.endsWith('read') ? 'read' : 'write';
  const part = fioJob(stdout)[way] as ReturnType<typeof fioJob>['read'] & { lat_ns?: Latencies };
  if (part.short_ios > 0) throw BenchError.result(`${part.short_ios} of fio's requests were answered short`);
  const seconds = part.runtime / 1000;
  if (!(seconds > 0 && part.total_ios > 0))
    throw BenchError.result('fio says that it did nothing; use more --seconds or a larger --size');
  const at = (share: string) => {
    const nanoseconds = part.lat_ns?.percentile?.[share];
    return nanoseconds === undefined ? undefined : nanoseconds / 1000;
  };
  return { operations: part.total_ios, bytes: part.io_bytes, seconds, p50: at('50.000000'), p99: at('99.000000') };
}

export type ClientWork = 'stat' | 'open' | 'cat' | 'list' | 'create' | 'names' | 'unlink' | 'walk';

export function clientCommand(client: string, work: ClientWork, path: string, count: number, seconds = 0): string[] {
  return [client, work, path, String(count), String(seconds)];
}

/** What bench/rows/client.c prints. */
export function parseClient(stdout: string): Outcome {
  try {
    const said = JSON.parse(stdout) as { operations: number; seconds: number; p50: number; p99: number };
    if (said.operations > 0 && said.seconds > 0) {
      const latency = (value: number) => (value > 0 ? value : undefined);
      return { ...said, bytes: 0, p50: latency(said.p50), p99: latency(said.p99) };
    }
  } catch {
    // Told below, with what was printed.
  }
  throw BenchError.result(`the client did not say what it did: ${stdout.trim().slice(0, 200)}`);
}
