/** `fusewire trace export`: a trace as a pcapng file for Wireshark. */
import { type FileHandle, open, unlink } from 'node:fs/promises';
import { exportPcapng, readTrace, type TraceSummary } from '../trace/index.ts';
import { need, type OptionTable, parse } from './arguments.ts';
import { CliError, EXIT } from './exit.ts';
import type { Output } from './output.ts';

const OPTIONS: OptionTable = {
  pcapng: { type: 'string' },
  force: { type: 'boolean' },
};

/** Shown in the help of `fusewire trace`. */
export const EXPORT_HELP = `Options of export
  --pcapng OUT         the file to write; open it with wireshark -X lua_script:fuse.lua (see dissector)
  --force              writes over a file that is there`;

export async function run(argv: readonly string[], output: Output): Promise<number> {
  const { values, places } = parse('trace', argv, OPTIONS);
  const { file } = need('trace', places, ['file']);
  const target = values.pcapng;
  if (typeof target !== 'string' || target === '') throw new CliError('export needs --pcapng and the name of a file to write.');
  const handle = await openNew(target, values.force === true);
  let summary: TraceSummary | undefined;
  try {
    const messages = readTrace(file, {
      onEnd: (end) => {
        summary = end;
      },
    });
    const count = await exportPcapng(messages, async (chunk) => {
      await handle.writeFile(chunk);
    });
    if (summary?.truncated !== undefined)
      output.note(`The end of the trace ${file} is missing, from byte ${summary.truncated.offset} on.`);
    output.text(`${count} messages in ${target}`);
  } catch (error) {
    // Half a file would look like a whole one.
    await unlink(target).catch(() => {});
    throw error;
  } finally {
    await handle.close();
  }
  return EXIT.OK;
}

async function openNew(path: string, force: boolean): Promise<FileHandle> {
  try {
    return await open(path, force ? 'w' : 'wx');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const advice = code === 'EEXIST' ? 'it is there already; use --force to write over it' : `${code}; name another file`;
    throw new CliError(`${path} cannot be written: ${advice}.`);
  }
}
