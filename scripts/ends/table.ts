/**
 * How mounts end, each way a function that brings the end about and checks what it leaves: no mount, no process, no
 * connection, and no caller that waits; or a dead mount that the next start takes away. It answers when the end began.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { BOUND_MS, type Child, CLI, PATIENCE_MS, PROGRAM, type World } from './world.ts';

export interface End {
  readonly name: string;
  /** What is left: nothing, or a dead mount that the next start recovers. The mount may also go on, without a part of it. */
  readonly leaves: 'nothing' | 'a dead mount, which the next start takes away' | 'the mount, which goes on';
  /** Brings it about and checks; answers milliseconds from the end to the state that it has to leave. */
  run(world: World): Promise<number>;
  /** Why it cannot be tried here. */
  readonly missing?: string | undefined;
}

const now = () => performance.now();

const findProgram = (name: string): string | undefined =>
  (process.env.PATH ?? '')
    .split(delimiter)
    .map((folder) => join(folder, name))
    .find(existsSync);

/** A signal to a daemon whose callers wait: it ends with 0. */
function bySignal(signal: NodeJS.Signals): End {
  return {
    name: `${signal} while callers wait`,
    leaves: 'nothing',
    async run(world) {
      const daemon = await world.stuck();
      const callers = await world.callers();
      const from = now();
      daemon.process.kill(signal);
      await world.nothingLeft(from, [daemon], callers);
      expectEnd(daemon, 0);
      return now() - from;
    },
  };
}

/** A program that uses the library ends itself while callers wait. */
function byItself(name: string, line: string, code: number): End {
  return {
    name: `${name} while callers wait`,
    leaves: 'nothing',
    async run(world) {
      const daemon = await world.program();
      const callers = await world.callers();
      const from = now();
      daemon.process.stdin?.write(`${line}\n`);
      await world.nothingLeft(from, [daemon], callers);
      expectEnd(daemon, code);
      return now() - from;
    },
  };
}

/** The daemon dies without a chance to do anything; callers get errors, and the next start takes the dead mount away. */
async function recovered(world: World, from: number, dead: Child, callers: readonly Child[]): Promise<number> {
  for (const child of [dead, ...callers]) await child.end(BOUND_MS);
  if (!world.isMounted) throw new Error('the dead mount is not there');
  await world.run(['stat', world.path], [1]);
  const elapsed = now() - from;
  const next = await world.passthrough();
  await world.serves();
  await endWell(world, next);
  return elapsed;
}

async function endWell(world: World, daemon: Child): Promise<void> {
  const from = now();
  daemon.process.kill('SIGTERM');
  await world.nothingLeft(from, [daemon]);
  expectEnd(daemon, 0);
}

function expectEnd(daemon: Child, code: number): void {
  if (daemon.code !== code)
    throw new Error(`the daemon ended with ${daemon.code ?? daemon.signal}, not ${code}\n${daemon.errors}`);
}

function byWorker(how: 'throw' | 'rejection' | 'exit' | 'memory'): End {
  const names = {
    throw: 'an uncaught error',
    rejection: 'an unhandled rejection',
    exit: 'process.exit',
    memory: 'out of memory',
  };
  return {
    name: `${names[how]} in a worker`,
    leaves: 'the mount, which goes on',
    async run(world) {
      const daemon = await world.program({ workerHeapMiB: 24 });
      const from = now();
      const caller = world.start(['stat', join(world.path, `crash-${how}`)]);
      await caller.end(BOUND_MS);
      if (caller.code === 0) throw new Error('the caller of a thread that died was told nothing');
      await world.serves();
      const elapsed = now() - from;
      if (daemon.hasEnded) throw new Error(`the whole daemon ended: ${daemon.errors}`);
      await endBySignal(world, daemon);
      return elapsed;
    },
  };
}

/** The library's own listener unmounts, then the signal does what it does to a process that does not listen. */
async function endBySignal(world: World, daemon: Child): Promise<void> {
  const from = now();
  daemon.process.kill('SIGTERM');
  await world.nothingLeft(from, [daemon]);
  if (daemon.signal !== 'SIGTERM') throw new Error(`the program ended with ${daemon.code ?? daemon.signal}\n${daemon.errors}`);
}

const OUTSIDE: End[] = [
  {
    name: 'umount from outside',
    leaves: 'nothing',
    async run(world) {
      const daemon = await world.passthrough();
      await world.serves();
      const from = now();
      await world.run(['umount', world.path]);
      await world.nothingLeft(from, [daemon]);
      expectEnd(daemon, 0);
      return now() - from;
    },
  },
  {
    name: 'lazy umount with a file open, which is closed later',
    leaves: 'nothing',
    async run(world) {
      const daemon = await world.passthrough();
      const holder = world.start([
        'sh',
        '-c',
        `exec 3<"$1"; echo open; read line; exec 3<&-; exec sleep 0`,
        'sh',
        join(world.path, 'data'),
      ]);
      await holder.until(() => holder.output.includes('open'), BOUND_MS, 'the file is open');
      await world.run(['umount', '-l', world.path]);
      await sleep(50);
      if (daemon.hasEnded) throw new Error('the daemon ended although a file was open');
      const from = now();
      holder.process.stdin?.write('\n');
      await holder.end(BOUND_MS);
      await world.nothingLeft(from, [daemon]);
      expectEnd(daemon, 0);
      return now() - from;
    },
  },
  {
    name: 'umount -f while callers wait',
    leaves: 'nothing',
    async run(world) {
      const daemon = await world.stuck();
      const callers = await world.callers();
      const from = now();
      world.willAbort();
      // The first aborts the connection; the mount may be busy until its callers have gone.
      await world.run(['umount', '-f', world.path], [0, 32]);
      for (const caller of callers) await caller.end(BOUND_MS);
      if (world.isMounted) await world.run(['umount', '-f', world.path], [0, 1, 32]);
      await world.nothingLeft(from, [daemon], callers);
      return now() - from;
    },
  },
  {
    name: 'fusewire umount --force while callers wait',
    leaves: 'nothing',
    async run(world) {
      const daemon = await world.stuck();
      const callers = await world.callers();
      const from = now();
      world.willAbort();
      await world.run([process.execPath, CLI, 'umount', '--force', world.path]);
      await world.nothingLeft(from, [daemon], callers);
      return now() - from;
    },
  },
  {
    name: 'abort through fusectl while callers wait',
    leaves: 'nothing',
    async run(world) {
      const daemon = await world.stuck();
      const callers = await world.callers();
      const from = now();
      const { connection } = world;
      world.willAbort();
      world.control.abort(connection, world.control.identity(connection));
      await world.nothingLeft(from, [daemon], callers);
      return now() - from;
    },
  },
];

const KILLED: End[] = [
  {
    name: 'SIGKILL while callers wait',
    leaves: 'a dead mount, which the next start takes away',
    async run(world) {
      const daemon = await world.stuck();
      const callers = await world.callers();
      const from = now();
      daemon.process.kill('SIGKILL');
      return recovered(world, from, daemon, callers);
    },
  },
  {
    name: 'out of memory in the main thread while callers wait',
    leaves: 'a dead mount, which the next start takes away',
    async run(world) {
      const daemon = await world.program({}, ['--max-old-space-size=32']);
      const callers = await world.callers();
      const from = now();
      daemon.process.stdin?.write('memory\n');
      return recovered(world, from, daemon, callers);
    },
  },
  {
    name: 'SIGKILL with auto_unmount',
    leaves: 'nothing',
    missing: findProgram('fusermount3') === undefined ? 'there is no fusermount3' : undefined,
    async run(world) {
      const daemon = await world.stuck('-o', 'auto_unmount');
      const callers = await world.callers();
      const from = now();
      daemon.process.kill('SIGKILL');
      await world.nothingLeft(from, [daemon], callers);
      return now() - from;
    },
  },
  {
    name: 'SIGKILL twice on the same mount point',
    leaves: 'a dead mount, which the next start takes away',
    async run(world) {
      const first = await world.passthrough();
      first.process.kill('SIGKILL');
      await first.end(BOUND_MS);
      const second = await world.passthrough();
      const from = now();
      second.process.kill('SIGKILL');
      return recovered(world, from, second, []);
    },
  },
];

const PIPES: End[] = [
  {
    name: 'standard input closed, then SIGTERM',
    leaves: 'nothing',
    async run(world) {
      const daemon = await world.passthrough();
      daemon.process.stdin?.destroy();
      await sleep(50);
      await world.serves();
      const from = now();
      daemon.process.kill('SIGTERM');
      await world.nothingLeft(from, [daemon]);
      expectEnd(daemon, 0);
      return now() - from;
    },
  },
  {
    name: 'standard input closed, of a program that ends with it',
    leaves: 'nothing',
    async run(world) {
      const daemon = await world.program();
      const callers = await world.callers();
      daemon.process.stdin?.write('closed\n');
      await daemon.until(() => daemon.output.includes('waiting'), BOUND_MS, 'the program listens');
      const from = now();
      daemon.process.stdin?.end();
      await world.nothingLeft(from, [daemon], callers);
      expectEnd(daemon, 0);
      return now() - from;
    },
  },
  {
    name: 'standard output and error closed (EPIPE), then SIGTERM',
    leaves: 'nothing',
    async run(world) {
      const daemon = await world.passthrough('--json');
      daemon.process.stdout?.destroy();
      daemon.process.stderr?.destroy();
      await world.serves();
      const from = now();
      daemon.process.kill('SIGTERM');
      await world.nothingLeft(from, [daemon]);
      expectEnd(daemon, 0);
      return now() - from;
    },
  },
];

/** The pid, outside, of the process that has this pid 1 inside: the only child of unshare. */
function firstChild(pid: number): number {
  const found = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .find((name) => parentOf(name) === pid);
  if (found === undefined) throw new Error('unshare has no child');
  return Number(found);
}

function parentOf(pid: string): number {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
  } catch {
    return -1;
  }
}

const CONTAINERS: End[] = [
  {
    name: 'container stop: SIGTERM to a daemon that is the first process of its pid namespace',
    leaves: 'nothing',
    async run(world) {
      const daemon = await world.mounts(['unshare', '-fp', ...world.stuckArguments]);
      const callers = await world.callers();
      const from = now();
      process.kill(firstChild(daemon.pid), 'SIGTERM');
      await world.nothingLeft(from, [daemon], callers);
      expectEnd(daemon, 0);
      return now() - from;
    },
  },
  {
    name: 'container stop: SIGTERM to a program of the library that is the first process of its pid namespace',
    leaves: 'nothing',
    async run(world) {
      const argument = JSON.stringify({ path: world.path, ...world.serving });
      const daemon = await world.mounts(['unshare', '-fp', process.execPath, PROGRAM, argument]);
      const callers = await world.callers();
      const from = now();
      process.kill(firstChild(daemon.pid), 'SIGTERM');
      await world.nothingLeft(from, [daemon], callers);
      // As a shell tells of a process that the signal ended.
      expectEnd(daemon, 143);
      return now() - from;
    },
  },
  {
    name: 'container stop: an init that passes nothing on is killed, the mounts are its own',
    leaves: 'nothing',
    async run(world) {
      const script = 'trap "" TERM; "$@" & wait';
      const daemon = world.start(['unshare', '-fpm', '--mount-proc', 'sh', '-c', script, 'sh', ...world.stuckArguments]);
      await daemon.until(() => daemon.output.includes('mounted') || daemon.hasEnded, PATIENCE_MS, 'the mount comes up');
      const init = firstChild(daemon.pid);
      const caller = world.start(['nsenter', '-t', String(init), '-m', 'cat', join(world.path, 'stuck')]);
      await sleep(300);
      if (caller.hasEnded) throw new Error(`the caller does not wait: ${caller.errors}`);
      const from = now();
      process.kill(init, 'SIGTERM');
      await sleep(100);
      process.kill(init, 'SIGKILL');
      await world.nothingLeft(from, [daemon], [caller]);
      return now() - from;
    },
  },
  {
    name: "container stop: an init that passes nothing on is killed, the mounts are everybody's",
    leaves: 'a dead mount, which the next start takes away',
    async run(world) {
      const script = 'trap "" TERM; "$@" & wait';
      const daemon = await world.mounts(['unshare', '-fp', 'sh', '-c', script, 'sh', ...world.stuckArguments]);
      const callers = await world.callers();
      const init = firstChild(daemon.pid);
      const from = now();
      process.kill(init, 'SIGTERM');
      await sleep(100);
      process.kill(init, 'SIGKILL');
      return recovered(world, from, daemon, callers);
    },
  },
];

const OTHERS: End[] = [
  {
    name: 'workers that die again and again: the mount is given up',
    leaves: 'nothing',
    async run(world) {
      const daemon = await world.program({ restartsMax: 2 });
      const callers: Child[] = [];
      let from = now();
      while (!daemon.hasEnded) {
        from = now();
        const caller = world.start(['stat', join(world.path, 'crash-throw')]);
        callers.push(caller);
        await caller.end(BOUND_MS);
        // Once the mount has gone, its folder has no such file either.
        if (!world.isMounted) break;
      }
      daemon.process.stdin?.end();
      await world.nothingLeft(from, [daemon], callers);
      expectEnd(daemon, 70);
      return now() - from;
    },
  },
  {
    name: 'a second start over the live mount is refused',
    leaves: 'the mount, which goes on',
    async run(world) {
      const daemon = await world.passthrough();
      const second = await world.run(world.passthroughArguments, [75]);
      if (!second.errors.includes('ERR_FUSEWIRE_MOUNTPOINT_BUSY')) throw new Error(`it was refused with ${second.errors}`);
      // Nothing ends here: what counts is that the first one serves on.
      const from = now();
      await world.serves();
      const elapsed = now() - from;
      await endWell(world, daemon);
      return elapsed;
    },
  },
];

export const ENDS: readonly End[] = [
  ...OUTSIDE,
  bySignal('SIGINT'),
  bySignal('SIGTERM'),
  bySignal('SIGHUP'),
  ...KILLED,
  byItself('process.exit', 'exit', 7),
  byItself('an uncaught exception', 'throw', 1),
  byItself('an unhandled rejection', 'rejection', 1),
  byWorker('throw'),
  byWorker('rejection'),
  byWorker('exit'),
  byWorker('memory'),
  ...PIPES,
  ...CONTAINERS,
  ...OTHERS,
];
