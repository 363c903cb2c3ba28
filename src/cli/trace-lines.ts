/** Lines to stdout, many at a time, at the pace of the reader. */
const BATCH_CHARACTERS = 65_536;

export class Lines {
  #batch: string[] = [];
  #characters = 0;
  #isGone = false;

  constructor() {
    // Output listens too and does nothing; here it is known that nobody reads any more (`fusewire trace show … | head`).
    process.stdout.once('error', () => {
      this.#isGone = true;
    });
  }

  /** False when the reader has gone: stop quietly then. */
  async write(line: string): Promise<boolean> {
    this.#batch.push(line);
    this.#characters += line.length + 1;
    if (this.#characters >= BATCH_CHARACTERS) await this.end();
    return !this.#isGone;
  }

  /** Writes what is left. */
  async end(): Promise<void> {
    if (this.#batch.length === 0 || this.#isGone) return;
    const text = `${this.#batch.join('\n')}\n`;
    this.#batch = [];
    this.#characters = 0;
    // The callback comes with or without an error.
    await new Promise<void>((resolve) => {
      process.stdout.write(text, () => resolve());
    });
  }
}
