/** The stage for the rows: a folder of files on tmpfs, and every configuration mounted over it or filled from it. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '../harness/children.ts';
import { Daemon } from '../harness/daemon.ts';
import { messageOf } from '../harness/failure.ts';
import { assertSameBytes, CHECK_BYTES, CHECK_FILE } from '../letter/stage.ts';
import type { Configuration, Group } from './configurations.ts';

export const DATA = 'data.dat';
export const HELLO = 'hello';
/** A flat folder of empty files, and folders with small files in them. */
export const MANY = 'many';
export const TREE = 'tree';

export interface Sizes {
  dataBytes: number;
  many: number;
  /** Files of the tree, of the archive and of the repository. */
  tree: number;
}

export interface Materials {
  folder: string;
  source: string;
  archive: string;
  repository: string;
  sizes: Sizes;
}

/** A configuration that can be measured. */
export interface Contestant {
  configuration: Configuration;
  /** Where the files stand. */
  root: string;
  daemon: Daemon | undefined;
}

const FILES_PER_FOLDER = 100;
const FILL_MS = 120_000;
/** Git reads nobody's settings, and takes a repository of whatever owner. */
export const GIT_ENVIRONMENT = {
  GIT_CONFIG_NOSYSTEM: '1',
  GIT_CONFIG_GLOBAL: '/dev/null',
  GIT_CONFIG_COUNT: '1',
  GIT_CONFIG_KEY_0: 'safe.directory',
  GIT_CONFIG_VALUE_0: '*',
};

/** Every byte is written: a sparse file would be read faster than memory. */
export async function makeMaterials(folder: string, sizes: Sizes): Promise<Materials> {
  const source = join(folder, 'source');
  for (const name of ['', MANY, TREE]) mkdirSync(join(source, name));
  await fillFile(join(source, DATA), sizes.dataBytes);
  await fillFile(join(source, CHECK_FILE), CHECK_BYTES);
  for (let i = 0; i < sizes.many; i++) writeFileSync(join(source, MANY, `file-${i}`), '');
  makeTree(join(source, TREE), sizes.tree);
  const archive = join(folder, 'tree.tar');
  await run(['tar', '-cf', archive, '-C', source, TREE], { timeoutMs: FILL_MS });
  const repository = join(folder, 'repository');
  await makeRepository(repository, join(source, TREE));
  return { folder, source, archive, repository, sizes };
}

async function fillFile(path: string, bytes: number): Promise<void> {
  await run(['dd', 'if=/dev/urandom', `of=${path}`, 'bs=1M', `count=${bytes / 2 ** 20}`], { timeoutMs: FILL_MS });
}

/** Files of half a KiB to two and a half, as sources have them; all different, so that git keeps each. */
function makeTree(folder: string, files: number): void {
  for (let i = 0; i < files; i++) {
    const parent = join(folder, `folder-${Math.floor(i / FILES_PER_FOLDER)}`);
    if (i % FILES_PER_FOLDER === 0) mkdirSync(parent);
    writeFileSync(join(parent, `file-${i}.txt`), `line of file ${i}\n`.repeat(32 + (i % 97)));
  }
}

async function makeRepository(repository: string, tree: string): Promise<void> {
  const git = (...words: string[]) => run(['git', ...words], { timeoutMs: FILL_MS, env: GIT_ENVIRONMENT });
  const who = ['-c', 'user.name=bench', '-c', 'user.email=bench@localhost'];
  await git('init', '-q', repository);
  await run(['cp', '-r', '--', tree, repository], { timeoutMs: FILL_MS });
  await git('-C', repository, 'add', '.');
  await git('-C', repository, ...who, 'commit', '-q', '-m', 'Files');
}

/** What has to be there, as a path below the mount point, before a configuration counts as mounted. */
const PROBES: Readonly<Record<Group, string>> = {
  native: '',
  floor: DATA,
  passthrough: DATA,
  backing: DATA,
  memory: '',
  hello: HELLO,
};

/** Starts a configuration's daemon in `folder`, which is made; nothing for native. */
export async function startDaemon(configuration: Configuration, folder: string, source: string): Promise<Contestant> {
  mkdirSync(folder);
  if (configuration.command === undefined) return { configuration, root: source, daemon: undefined };
  const mount = join(folder, 'mount');
  const root = configuration.prefix === 'root' ? mount : join(mount, source);
  const daemon = await Daemon.start(configuration.command(source, mount), mount, join(root, PROBES[configuration.group]));
  return { configuration, root, daemon };
}

async function enter(folder: string, materials: Materials, configuration: Configuration): Promise<Contestant> {
  const { source } = materials;
  const contestant = await startDaemon(configuration, folder, source);
  const { group } = configuration;
  try {
    if (group === 'passthrough' || group === 'backing') await assertSameBytes(folder, source, contestant.root);
    if (group === 'memory') await fillFrom(source, contestant.root);
  } catch (error) {
    await contestant.daemon?.stop();
    throw error;
  }
  return contestant;
}

/** A filesystem that begins empty gets the same files, and must give back the same bytes. */
async function fillFrom(source: string, root: string): Promise<void> {
  await run(['cp', '-r', '--', `${source}/.`, root], { timeoutMs: FILL_MS });
  await run(['cmp', join(source, CHECK_FILE), join(root, CHECK_FILE)], { timeoutMs: FILL_MS });
}

export interface Stage {
  contestants: Contestant[];
  refused: { name: string; project: string; reason: string }[];
}

/** Mounts the configurations one after the other; those that fail are told, not dropped. */
export async function setStage(
  materials: Materials,
  configurations: readonly Configuration[],
  onProgress: (line: string) => void,
): Promise<Stage> {
  const stage: Stage = { contestants: [], refused: [] };
  for (const [index, configuration] of configurations.entries()) {
    const { name, project } = configuration;
    onProgress(`mounting ${name}`);
    try {
      stage.contestants.push(await enter(join(materials.folder, `run-${index}`), materials, configuration));
    } catch (error) {
      stage.refused.push({ name, project, reason: messageOf(error) });
    }
  }
  return stage;
}

export async function strike(stage: Stage): Promise<void> {
  for (const { daemon } of stage.contestants) await daemon?.stop();
}
