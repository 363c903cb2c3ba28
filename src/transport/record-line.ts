import type { TraceMessage } from './record-message.ts';

/**
 * A message as a line of `.jsonl`, without its newline: the fields of a captured trace, `err` the negative errno, `fd` the
 * channel, `cmd` and `ret` of an ioctl, `whole` the length of a message whose payload was cut.
 */
export function traceLine(message: TraceMessage): string {
  const { dir, t, bytes, errno, channel, command, result, via, wholeBytes } = message;
  const hex = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex');
  let line = `{"dir":"${dir}","t":${t}`;
  if (via !== undefined) line += `,"via":${JSON.stringify(via)}`;
  if (channel !== undefined) line += `,"fd":${channel}`;
  if (errno !== undefined) line += `,"err":${-errno}`;
  if (command !== undefined) line += `,"cmd":${command}`;
  if (result !== undefined) line += `,"ret":${result}`;
  if (wholeBytes !== undefined) line += `,"whole":${wholeBytes}`;
  return `${line},"hex":"${hex}"}`;
}
