/** Puts the addon that was built here where the package carries it: `native/prebuilds/linux-ARCH-LIBC/fusewire.node`. */
import { copyFileSync, existsSync, mkdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../', import.meta.url));
const built = `${root}native/build/Release/fusewire.node`;
if (!existsSync(built)) {
  console.error('There is no addon to pack: run npm run build:native first.');
  process.exit(1);
}
const { glibcVersionRuntime } = process.report.getReport().header;
const folder = `${root}native/prebuilds/linux-${process.arch}-${glibcVersionRuntime === undefined ? 'musl' : 'glibc'}`;
mkdirSync(folder, { recursive: true });
copyFileSync(built, `${folder}/fusewire.node`);
