import { type ProbeReport, probe } from '../mount/index.ts';
import { EXIT } from './exit.ts';

/** `fusewire doctor`. */
export async function doctor(json: boolean): Promise<number> {
  const report = await probe();
  process.stdout.write(`${json ? JSON.stringify(report, undefined, 2) : doctorText(report)}\n`);
  return report.canMount ? EXIT.OK : EXIT.UNAVAILABLE;
}

export function doctorText({ canMount, checks }: ProbeReport): string {
  const width = Math.max(...checks.map((check) => check.name.length));
  const lines = checks.flatMap(({ state, name, found, mend }) => {
    const line = `${state.padEnd(8)} ${name.padEnd(width)}  ${found}`;
    return mend === undefined ? [line] : [line, `${' '.repeat(width + 11)}mend: ${mend}`];
  });
  return [...lines, '', canMount ? 'You can mount here.' : 'You cannot mount here yet: mend what is missing.'].join('\n');
}
