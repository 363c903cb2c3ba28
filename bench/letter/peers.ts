/**
 * Daemons of others to measure beside ours: passthrough file systems that are on the machine. Each is found on PATH or
 * through an environment variable, and is never required.
 */
import { program } from '../harness/children.ts';
import { BenchError } from '../harness/failure.ts';

/** Words of a command line; `{source}` and `{mount}` stand for the two folders. */
type Template = readonly string[];

export interface Peer {
  name: string;
  /** Names the program, or a whole command line with `{source}` and `{mount}`. */
  variable: string;
  /** Program names to look for on PATH. */
  programs: readonly string[];
  /** Behind the program's name. It must stay in the foreground. */
  template: Template;
  /** Where the source folder's files stand below the mount point. */
  prefix: 'root' | 'source-path';
  from: string;
}

export const PEERS: readonly Peer[] = [
  {
    name: 'bindfs',
    variable: 'FUSEWIRE_PEER_BINDFS',
    programs: ['bindfs'],
    template: ['-f', '{source}', '{mount}'],
    prefix: 'root',
    from: 'bindfs (Debian package bindfs, github.com/mpartel/bindfs)',
  },
  {
    name: 'passthrough_ll',
    variable: 'FUSEWIRE_PEER_PASSTHROUGH_LL',
    programs: ['passthrough_ll'],
    template: ['-f', '-o', 'source={source}', '{mount}'],
    prefix: 'root',
    from: 'libfuse, example/passthrough_ll (github.com/libfuse/libfuse)',
  },
  {
    name: 'passthrough_hp',
    variable: 'FUSEWIRE_PEER_PASSTHROUGH_HP',
    programs: ['passthrough_hp'],
    template: ['--foreground', '--nopassthrough', '{source}', '{mount}'],
    prefix: 'root',
    from: 'libfuse, example/passthrough_hp (github.com/libfuse/libfuse)',
  },
  {
    name: 'passthrough',
    variable: 'FUSEWIRE_PEER_PASSTHROUGH',
    programs: [],
    template: ['-f', '{mount}'],
    prefix: 'source-path',
    from: 'libfuse, example/passthrough, the high-level one (github.com/libfuse/libfuse)',
  },
  {
    name: 'go-fuse',
    variable: 'FUSEWIRE_PEER_GOFUSE',
    programs: [],
    template: ['{mount}', '{source}'],
    prefix: 'root',
    from: 'go-fuse, example/loopback (github.com/hanwen/go-fuse)',
  },
];

/** Any other program: FUSEWIRE_PEER_OTHER_<NAME> holds its command line. */
export const OTHER_PREFIX = 'FUSEWIRE_PEER_OTHER_';

export interface FoundPeer {
  name: string;
  prefix: Peer['prefix'];
  command: (source: string, mount: string) => string[];
}

/** The peers that are here, and for each that is not, a sentence on how to name it. */
export function findPeers(env: NodeJS.ProcessEnv): { found: FoundPeer[]; missing: string[] } {
  const found: FoundPeer[] = [];
  const missing: string[] = [];
  for (const peer of PEERS) {
    const value = env[peer.variable]?.trim();
    const name = value || peer.programs.find((candidate) => program(candidate, env.PATH) !== undefined);
    if (name === undefined || name === '') missing.push(`${peer.name}: set ${peer.variable} to the program of ${peer.from}`);
    else found.push(resolve(peer, peer.variable, name, peer.template, env));
  }
  for (const [variable, value] of Object.entries(env)) {
    if (!variable.startsWith(OTHER_PREFIX) || !value?.trim()) continue;
    const name = variable.slice(OTHER_PREFIX.length).toLowerCase().replaceAll('_', '-');
    found.push(resolve({ name, prefix: 'root' }, variable, value.trim(), undefined, env));
  }
  return { found, missing };
}

function resolve(
  { name, prefix }: Pick<Peer, 'name' | 'prefix'>,
  variable: string,
  value: string,
  template: Template | undefined,
  env: NodeJS.ProcessEnv,
): FoundPeer {
  const whole = value.includes('{mount}');
  if (!whole && template === undefined) {
    throw BenchError.usage(`${variable} holds a command line with {source} and {mount} in it, not ${value}`);
  }
  const words = whole || template === undefined ? value.split(/\s+/) : [value, ...template];
  const path = program(words[0], env.PATH);
  if (path === undefined) throw BenchError.usage(`${variable} names ${words[0]}, which is no program that can be run`);
  const command = (source: string, mount: string) =>
    [path, ...words.slice(1)].map((word) => word.replaceAll('{source}', source).replaceAll('{mount}', mount));
  return { name, prefix, command };
}
