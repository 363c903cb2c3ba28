/**
 * Builds the native addon with node-gyp: `node scripts/build-native.mjs [--force] [--strict]`.
 *
 * It builds only when a source is newer than the binary, unless told to by `--force`. Where the build is impossible
 * it says in one sentence what is missing and exits 0, because the protocol and the memory transport work without
 * the addon; `--strict` makes it exit 1.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const BUILD_TIMEOUT_MS = 10 * 60_000;
const root = resolve(dirname(fileURLToPath(import.meta.url)), '..');
const native = join(root, 'native');
const binary = join(native, 'build', 'Release', 'fusewire.node');
const log = join(native, 'build', 'build.log');
/** Built aside and renamed into place, so that whoever starts a mount meanwhile finds one binary or the other. */
const stage = join(native, 'build', `stage-${process.pid}`);
const built = join(stage, 'build', 'Release', 'fusewire.node');
const force = process.argv.includes('--force');
const strict = process.argv.includes('--strict');

/** Whether every source is older than the binary. */
function isFresh() {
  if (!existsSync(binary)) return false;
  const built = statSync(binary).mtimeMs;
  const sources = readdirSync(join(native, 'src')).map((name) => join(native, 'src', name));
  return [...sources, join(native, 'binding.gyp')].every((path) => statSync(path).mtimeMs <= built);
}

/** Standard output of a program, or undefined when it fails or is absent. */
function outputOf(program, args) {
  const ran = spawnSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'], timeout: 30_000 });
  return ran.status === 0 ? ran.stdout.trim() : undefined;
}

/** npm's own folder: beside the script that runs us, beside node, or as npm tells. */
function npmFolders() {
  const folders = [];
  if (process.env.npm_execpath) folders.push(resolve(dirname(process.env.npm_execpath), '..'));
  folders.push(resolve(dirname(process.execPath), '..', 'lib', 'node_modules', 'npm'));
  const global = outputOf('npm', ['root', '-g']);
  if (global) folders.push(join(global, 'npm'));
  return folders;
}

/** The node-gyp script to run with this Node: as npm configured it, the one on PATH, or npm's own copy. */
function findNodeGyp() {
  const candidates = [process.env.npm_config_node_gyp];
  for (const folder of (process.env.PATH ?? '').split(':')) candidates.push(join(folder, 'node-gyp'));
  for (const path of candidates) {
    if (path && existsSync(path) && isNodeScript(path)) return path;
  }
  return npmFolders()
    .map((folder) => join(folder, 'node_modules', 'node-gyp', 'bin', 'node-gyp.js'))
    .find((path) => existsSync(path));
}

/** npm puts a shell wrapper named node-gyp on PATH; that one is not for Node to run. */
function isNodeScript(path) {
  return /^#!.*\bnode\b/.test(readFileSync(path, 'latin1').slice(0, 100));
}

/** A folder with include/node, so that nothing need be downloaded; undefined leaves it to node-gyp. */
function findHeaders() {
  const configured = process.env.npm_config_nodedir ?? outputOf('npm', ['config', 'get', 'nodedir']);
  const folders = [configured, resolve(dirname(process.execPath), '..')];
  return folders.find((folder) => folder && folder !== 'undefined' && existsSync(join(folder, 'include', 'node', 'node_api.h')));
}

function hasProgram(names) {
  return names.some((name) => outputOf(name, ['--version']) !== undefined);
}

/** What keeps the addon from being built here, as the end of a sentence; undefined when nothing is seen. */
function findObstacle() {
  if (process.platform !== 'linux') return 'it runs on Linux alone';
  if (!hasProgram([process.env.CC ?? 'cc', 'gcc', 'clang'])) {
    return 'there is no C compiler: install one (Debian and Ubuntu: apt install build-essential; Fedora: dnf install gcc make; Alpine: apk add build-base)';
  }
  if (!hasProgram(['make'])) return 'there is no make: install it (Debian and Ubuntu: apt install make)';
  if (!hasProgram([process.env.PYTHON ?? 'python3', 'python3', 'python'])) {
    return 'there is no python3, which node-gyp needs: install it (Debian and Ubuntu: apt install python3)';
  }
  if (!findNodeGyp()) return 'there is no node-gyp: install it (npm install -g node-gyp)';
  return undefined;
}

/** The reason in node-gyp's own output, as the end of a sentence. */
function explain(output) {
  const error = /\berror: .*/.exec(output)?.[0];
  if (error) return `the compiler said "${error}"`;
  if (/ENOTFOUND|ECONNREFUSED|EAI_AGAIN|ETIMEDOUT|fetch failed|bad response/.test(output)) {
    return 'the headers of Node could not be downloaded: install them (Debian: apt install libnode-dev) or name a folder that has include/node (npm_config_nodedir)';
  }
  return 'node-gyp failed';
}

function giveUp(reason, detail = '') {
  rmSync(stage, { recursive: true, force: true });
  console.error(
    `fusewire: the native addon was not built, because ${reason}.${detail} Without it nothing can be mounted; the protocol works.`,
  );
  process.exit(strict ? 1 : 0);
}

function build() {
  mkdirSync(stage, { recursive: true });
  cpSync(join(native, 'binding.gyp'), join(stage, 'binding.gyp'));
  cpSync(join(native, 'src'), join(stage, 'src'), { recursive: true });
  const args = [findNodeGyp(), 'rebuild', '-C', stage, '--release'];
  const headers = findHeaders();
  if (headers) args.push(`--nodedir=${headers}`);
  const ran = spawnSync(process.execPath, args, { encoding: 'utf8', timeout: BUILD_TIMEOUT_MS, maxBuffer: 64 * 1024 * 1024 });
  if (ran.status === 0 && existsSync(built)) return;
  const output = `${ran.stdout ?? ''}${ran.stderr ?? ''}`;
  writeFileSync(log, output);
  giveUp(explain(output), ` The build's output stands in ${log}.`);
}

/** Loading in a child: a binary that crashes must not take the installation with it. */
function proveItLoads() {
  try {
    execFileSync(process.execPath, ['-e', `require(${JSON.stringify(built)})`], {
      stdio: ['ignore', 'ignore', 'pipe'],
      timeout: 30_000,
    });
  } catch (error) {
    giveUp(
      `the binary does not load: ${String(error.stderr ?? error.message)
        .trim()
        .split('\n')
        .at(-1)}`,
    );
  }
}

if (!force && isFresh()) process.exit(0);
const obstacle = findObstacle();
if (obstacle) giveUp(obstacle);
const started = Date.now();
build();
proveItLoads();
mkdirSync(dirname(binary), { recursive: true });
renameSync(built, binary);
rmSync(stage, { recursive: true, force: true });
console.log(`fusewire: native addon built in ${((Date.now() - started) / 1000).toFixed(1)} s`);
