/**
 * The four rows of the letter "fuse: process direct IO asynchronously" (2013): what each runs, and what was measured then,
 * in MB/s, before its patches (`original`) and with them (`patched`).
 */
import { aioStressCommand, ddCommand, fioCommand, parseAioStress, parseDd, parseFio, type Transfer, type Way } from './tools.ts';

export type RowName = 'dd_read' | 'dd_write' | 'aio_read' | 'aio_write';

export interface LetterRow {
  name: RowName;
  title: string;
  way: Way;
  tool: 'dd' | 'aio';
  letter: { original: number; patched: number };
}

export const LETTER_ROWS: readonly LetterRow[] = [
  { name: 'dd_read', title: 'dd read, 2 MiB blocks', way: 'read', tool: 'dd', letter: { original: 322, patched: 382 } },
  { name: 'dd_write', title: 'dd write, 2 MiB blocks', way: 'write', tool: 'dd', letter: { original: 277, patched: 288 } },
  { name: 'aio_read', title: 'AIO read, 64 KiB, 4 in flight', way: 'read', tool: 'aio', letter: { original: 380, patched: 459 } },
  {
    name: 'aio_write',
    title: 'AIO write, 64 KiB, 4 in flight',
    way: 'write',
    tool: 'aio',
    letter: { original: 319, patched: 353 },
  },
];

export const ROW_NAMES = LETTER_ROWS.map(({ name }) => name);

export function letterRatio(row: LetterRow): number {
  return row.letter.patched / row.letter.original;
}

/** The program that drives asynchronous I/O: the letter's own where it is installed, else fio's libaio engine. */
export type AioTool = { kind: 'aio-stress' | 'fio'; path: string };

export function rowCommand(row: LetterRow, aio: AioTool, file: string, bytes: number): string[] {
  if (row.tool === 'dd') return ddCommand(row.way, file, bytes);
  return aio.kind === 'fio' ? fioCommand(aio.path, row.way, file, bytes) : aioStressCommand(aio.path, row.way, file, bytes);
}

/** What the program says it transferred. Throws a BenchError when it says nothing that can be understood. */
export function rowTransfer(row: LetterRow, aio: AioTool, output: { stdout: string; stderr: string }): Transfer {
  if (row.tool === 'dd') return parseDd(output.stderr);
  return aio.kind === 'fio' ? parseFio(output.stdout, row.way) : parseAioStress(output.stdout + output.stderr, row.way);
}
