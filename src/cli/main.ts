#!/usr/bin/env node
/** The command `fusewire`: wiring only. */
import { readFileSync } from 'node:fs';
import { unmountPath } from '../mount/index.ts';
import { type Command, parseCommand } from './arguments.ts';
import { doctor } from './doctor.ts';
import { EXIT, showError } from './exit.ts';
import { helpText } from './help.ts';
import { Output } from './output.ts';
import { mountModule, passthrough } from './serve.ts';
import { trace } from './trace.ts';

/** After its work the process ends by itself; what still holds the event loop then is cut off. */
const LINGER_MS = 250;

async function run(command: Command, output: Output): Promise<number> {
  switch (command.name) {
    case 'help':
      process.stdout.write(`${helpText(command.topic)}\n`);
      return EXIT.OK;
    case 'version':
      process.stdout.write(`${packageVersion()}\n`);
      return EXIT.OK;
    case 'passthrough':
      return passthrough(command);
    case 'mount':
      return mountModule(command);
    case 'umount':
      process.stdout.write(`unmounted ${await unmountPath(command.mountpoint, command)}\n`);
      return EXIT.OK;
    case 'doctor':
      return doctor(command.json);
    case 'trace':
      return trace(command.action, command.arguments, output);
  }
}

/** From `dist/src/cli` as from `src/cli`, package.json lies where the package begins. */
function packageVersion(): string {
  for (const place of ['../../package.json', '../../../package.json']) {
    try {
      const { name, version } = JSON.parse(readFileSync(new URL(place, import.meta.url), 'utf8')) as {
        name: string;
        version: string;
      };
      if (name === 'fusewire') return version;
    } catch {
      // Not there: the other place.
    }
  }
  return 'unknown';
}

async function main(argv: readonly string[]): Promise<number> {
  const output = new Output(argv.includes('--json'));
  try {
    return await run(parseCommand(argv), output);
  } catch (error) {
    const { code, message, exitCode } = showError(error);
    output.error(code, message);
    return exitCode;
  }
}

process.exitCode = await main(process.argv.slice(2));
setTimeout(() => process.exit(), LINGER_MS).unref();
