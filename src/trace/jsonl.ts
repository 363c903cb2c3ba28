import type { TraceMessage } from './message.ts';

export { traceLine } from '../transport/record-line.ts';

const DIRS = new Set(['in', 'out', 'ioctl']);
const HEX = /^(?:[0-9a-f]{2})*$/i;

/** A message from a line of `.jsonl`; or, as text, why the line is none. Fields that it does not know are left alone. */
export function parseTraceLine(line: string): TraceMessage | string {
  let fields: Record<string, unknown>;
  try {
    fields = JSON.parse(line) as Record<string, unknown>;
  } catch {
    return 'it is not JSON';
  }
  if (typeof fields !== 'object' || fields === null) return 'it is not an object';
  const { dir, t, hex, via } = fields;
  if (!DIRS.has(dir as string)) return 'its "dir" is neither in, out nor ioctl';
  if (typeof t !== 'number' || !(t >= 0)) return 'its "t" is no time in microseconds';
  if (typeof hex !== 'string' || !HEX.test(hex)) return 'its "hex" is not bytes in hexadecimal digits';
  const whole = (value: unknown) => value === undefined || Number.isSafeInteger(value);
  const wrong = ['err', 'fd', 'cmd', 'ret', 'whole'].find((name) => !whole(fields[name]));
  if (wrong !== undefined) return `its "${wrong}" is no whole number`;
  const number = (name: string) => fields[name] as number | undefined;
  const bytes = Buffer.from(hex, 'hex');
  const [err, fd, cmd, ret, wholeBytes] = [number('err'), number('fd'), number('cmd'), number('ret'), number('whole')];
  return {
    dir: dir as TraceMessage['dir'],
    t: Math.round(t),
    // A view that is no Buffer, and whose start is aligned: small Buffers lie somewhere in a shared pool.
    bytes: new Uint8Array(bytes),
    ...(err === undefined ? {} : { errno: Math.abs(err) }),
    ...(fd === undefined ? {} : { channel: fd }),
    ...(cmd === undefined ? {} : { command: cmd >>> 0 }),
    ...(ret === undefined ? {} : { result: ret }),
    ...(typeof via === 'string' ? { via } : {}),
    ...(wholeBytes === undefined ? {} : { wholeBytes }),
  };
}

/** The time of a line, without taking the rest of it apart; undefined where it does not look like a message. */
export function timeOfLine(line: string): number | undefined {
  const match = /"t":\s*([0-9.eE+]+)/.exec(line);
  const t = match === null ? Number.NaN : Math.round(Number(match[1]));
  return Number.isNaN(t) ? undefined : t;
}
