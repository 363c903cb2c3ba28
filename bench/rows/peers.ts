/**
 * Daemons of others, each in the ways it can be started. They are found on PATH or through the variables that the letter's
 * benchmark uses too, and never required.
 */
import { program } from '../harness/children.ts';
import { BenchError } from '../harness/failure.ts';
import { OTHER_PREFIX, PEERS } from '../letter/peers.ts';
import { type Configuration, type Group, LIBFUSE } from './configurations.ts';

interface Way {
  /** Behind the peer's name; empty for the plain one. */
  name: string;
  group: Group;
  /** Put before the other words. */
  words: readonly string[];
  ring?: true;
}

interface RowPeer {
  name: string;
  variable: string;
  /** Names to look for on PATH. */
  programs: readonly string[];
  project: string;
  /** Behind the words of a way. */
  template: readonly string[];
  prefix: Configuration['prefix'];
  ways: readonly Way[];
  from: string;
}

/** Programs on libfuse 3 share these options. `words` come first in each. */
function libfuseWays(
  group: Group,
  words: readonly string[],
  single = '-s',
  clone: readonly string[] = ['-o', 'clone_fd'],
): Way[] {
  return [
    { name: '', group, words },
    { name: 'single', group, words: [...words, single] },
    { name: 'clone', group, words: [...words, ...clone] },
    { name: 'ring', group, words: [...words, '-o', 'io_uring'], ring: true },
  ];
}

const HP = ['--foreground'];
const HP_DAEMON = [...HP, '--nopassthrough'];

const WAYS: Readonly<Record<string, { project: string; ways: readonly Way[]; template?: readonly string[] }>> = {
  bindfs: {
    project: 'bindfs',
    ways: [
      { name: '', group: 'passthrough', words: [] },
      { name: 'multi', group: 'passthrough', words: ['--multithreaded'] },
    ],
  },
  passthrough_ll: { project: LIBFUSE, ways: libfuseWays('passthrough', []) },
  passthrough_hp: {
    project: LIBFUSE,
    template: ['{source}', '{mount}'],
    ways: [
      ...libfuseWays('passthrough', HP_DAEMON, '--single', ['--clone-fd']),
      { name: 'nosplice', group: 'passthrough', words: [...HP_DAEMON, '--nosplice'] },
      { name: 'backing', group: 'backing', words: HP },
      { name: 'backing clone', group: 'backing', words: [...HP, '--clone-fd'] },
    ],
  },
  passthrough: { project: LIBFUSE, ways: libfuseWays('passthrough', []) },
  'go-fuse': { project: 'go-fuse', ways: [{ name: '', group: 'backing', words: [] }] },
};

const LIBFUSE_EXAMPLE = (name: string) => `libfuse, example/${name} (github.com/libfuse/libfuse)`;

const FURTHER: readonly RowPeer[] = [
  {
    name: 'memfs_ll',
    variable: 'FUSEWIRE_PEER_MEMFS_LL',
    programs: ['memfs_ll'],
    project: LIBFUSE,
    template: ['-f', '{mount}'],
    prefix: 'root',
    ways: libfuseWays('memory', []),
    from: LIBFUSE_EXAMPLE('memfs_ll'),
  },
  {
    name: 'hello_ll',
    variable: 'FUSEWIRE_PEER_HELLO_LL',
    programs: ['hello_ll'],
    project: LIBFUSE,
    template: ['-f', '{mount}'],
    prefix: 'root',
    ways: libfuseWays('hello', []),
    from: LIBFUSE_EXAMPLE('hello_ll'),
  },
];

/** Peers that only a command line can start: what serves a folder with them is a script of a few lines, see docs/BENCHMARKS.md. */
const BY_COMMAND: readonly { name: string; variable: string; group: Group; from: string }[] = [
  {
    name: 'go-fuse daemon',
    variable: 'FUSEWIRE_PEER_GOFUSE_DAEMON',
    group: 'passthrough',
    from: 'go-fuse, example/loopback without backing files',
  },
  { name: 'fuse-native', variable: 'FUSEWIRE_PEER_FUSE_NATIVE', group: 'passthrough', from: 'a script on npm fuse-native' },
  { name: 'mountx', variable: 'FUSEWIRE_PEER_MOUNTX', group: 'passthrough', from: 'a script on npm mountx' },
];

const ROW_PEERS: readonly RowPeer[] = [...PEERS.map((peer) => ({ ...peer, ...WAYS[peer.name] })), ...FURTHER];

/** The peers that are here, and for each that is not, a sentence on how to name it. */
export function peerConfigurations(env: NodeJS.ProcessEnv): { found: Configuration[]; missing: string[] } {
  const found: Configuration[] = [];
  const missing: string[] = [];
  for (const peer of ROW_PEERS) {
    const value = env[peer.variable]?.trim() || peer.programs.find((name) => program(name, env.PATH) !== undefined);
    if (value === undefined) missing.push(`${peer.name}: set ${peer.variable} to the program of ${peer.from}`);
    else found.push(...waysOf(peer, value, env));
  }
  for (const { name, variable, group, from } of BY_COMMAND) {
    const value = env[variable]?.trim();
    if (value) found.push(byCommand(name, variable, value, group, env));
    else missing.push(`${name}: set ${variable} to the command line, with {source} and {mount}, of ${from}`);
  }
  for (const [variable, value] of Object.entries(env)) {
    if (!variable.startsWith(OTHER_PREFIX) || !value?.trim()) continue;
    const name = variable.slice(OTHER_PREFIX.length).toLowerCase().replaceAll('_', '-');
    found.push(byCommand(name, variable, value.trim(), 'passthrough', env));
  }
  return { found, missing };
}

/** A whole command line is one way, by its owner's choice. */
function waysOf(peer: RowPeer, value: string, env: NodeJS.ProcessEnv): Configuration[] {
  const common = { project: peer.project, judged: false, prefix: peer.prefix };
  if (value.includes('{mount}')) {
    return [{ ...byCommand(peer.name, peer.variable, value, peer.ways[0].group, env), ...common }];
  }
  const path = runnable(peer.variable, value, env);
  return peer.ways.map(({ name, group, words, ring }) => ({
    ...common,
    name: name === '' ? peer.name : `${peer.name} ${name}`,
    group,
    ring: ring === true,
    command: fill([path, ...words, ...peer.template]),
  }));
}

function byCommand(name: string, variable: string, line: string, group: Group, env: NodeJS.ProcessEnv): Configuration {
  if (!line.includes('{mount}')) {
    throw BenchError.usage(`${variable} holds a command line with {source} and {mount} in it, not ${line}`);
  }
  const [first, ...rest] = line.split(/\s+/);
  const command = fill([runnable(variable, first, env), ...rest]);
  return { name, group, project: name.replace(/ daemon$/, ''), judged: false, ring: false, prefix: 'root', command };
}

function runnable(variable: string, name: string, env: NodeJS.ProcessEnv): string {
  const path = program(name, env.PATH);
  if (path === undefined) throw BenchError.usage(`${variable} names ${name}, which is no program that can be run`);
  return path;
}

function fill(words: readonly string[]): (source: string, mount: string) => string[] {
  return (source, mount) => words.map((word) => word.replaceAll('{source}', source).replaceAll('{mount}', mount));
}
