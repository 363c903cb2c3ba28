/** Where results are printed. */

export interface Output {
  line(text: string): void;
  heading(text: string): void;
  /** On standard error, so that a redirected table stays a table. */
  warn(text: string): void;
  /** Replaces the progress line on a terminal; empty removes it. Nothing elsewhere. */
  status(text: string): void;
}

export function consoleOutput(): Output {
  const live = process.stderr.isTTY === true;
  return {
    line: (text) => process.stdout.write(`${text}\n`),
    heading: (text) => process.stdout.write(`\n${text}\n${'═'.repeat(text.length)}\n`),
    warn: (text) => process.stderr.write(`warning: ${text}\n`),
    status: (text) => {
      if (live) process.stderr.write(`\r\x1b[K${text}`);
    },
  };
}
