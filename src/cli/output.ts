/** What the commands print: lines for people, or events as JSON, one a line. */

export type OutputEvent =
  | {
      event: 'mounted';
      source: string;
      mountpoint: string;
      pid: number;
      workers: number;
      mode: string;
      minor: number;
      connection: number;
      /** Whether the kernel reads and writes files itself that the filesystem offers. */
      backing: boolean;
    }
  | { event: 'unmounting'; cause: string }
  | { event: 'unmounted'; mountpoint: string; reason: string }
  | { event: 'error'; code: string; message: string };

export class Output {
  readonly #json: boolean;

  constructor(json: boolean) {
    this.#json = json;
    // A reader that went away (`fusewire … | head -1`) must not end the mount.
    for (const stream of [process.stdout, process.stderr]) if (stream.listenerCount('error') === 0) stream.on('error', () => {});
  }

  /** An event, with what people read instead of it. */
  event(event: OutputEvent, text?: string): void {
    if (this.#json) process.stdout.write(`${JSON.stringify(event)}\n`);
    else if (text !== undefined) process.stdout.write(`${text}\n`);
  }

  /** For people only. */
  text(text: string): void {
    if (!this.#json) process.stdout.write(`${text}\n`);
  }

  /** Something to know beside the result, on stderr. */
  note(text: string): void {
    process.stderr.write(`fusewire: ${text}\n`);
  }

  /** One sentence and its code on stderr; with JSON also an event. */
  error(code: string, message: string): void {
    if (this.#json) process.stdout.write(`${JSON.stringify({ event: 'error', code, message })}\n`);
    process.stderr.write(`fusewire: ${message} [${code}]\n`);
  }
}
