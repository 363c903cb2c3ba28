/**
 * The table against the machine's own <linux/fuse.h>: a C file of static assertions, checked by the compiler and never
 * run. Each assertion is guarded by the minor of that header, so that an older one proves what it can.
 */
import { spawnSync } from 'node:child_process';
import { expect, test } from 'vitest';
import {
  CONSTANT_GROUPS,
  DEVICE_IOCTLS,
  INIT_FLAGS,
  NOTIFICATIONS,
  OPCODES,
  type PlacedStruct,
  STRUCTS,
  type StructName,
  structBytes,
} from '../../src/protocol/index.ts';

/** Names that the header does not have, or whose value is its version. */
const NOT_IN_HEADER = ['FUSE_KERNEL_MINOR_VERSION', 'FUSE_UNIQUE_RESEND_HI'];
/** Older headers have no struct of this name: CREATE used fuse_open_in before 7.12. */
const STRUCT_SINCE: Readonly<Record<string, number>> = { fuse_create_in: 12 };
/**
 * Came or were renamed without a new minor, so that only a later minor, or a macro that came with them, proves that the
 * header has them: supplementary groups in the middle of 7.38, the name of a flag in the middle of 7.39.
 */
const LATECOMERS: Readonly<Record<string, string>> = {
  fuse_supp_groups: 'FUSE_CREATE_SUPP_GROUP',
  FUSE_EXT_GROUPS: 'FUSE_CREATE_SUPP_GROUP',
  FUSE_CREATE_SUPP_GROUP: 'FUSE_CREATE_SUPP_GROUP',
  FUSE_HAS_EXPIRE_ONLY: 'FUSE_HAS_EXPIRE_ONLY',
  FUSE_DIRECT_IO_ALLOW_MMAP: 'FUSE_DIRECT_IO_ALLOW_MMAP',
  FUSE_DIRECT_IO_RELAX: 'FUSE_DIRECT_IO_RELAX',
};
const NEWEST = 45;

function guarded(name: string, since: number, assertion: string): string {
  const proof = LATECOMERS[name];
  const guard =
    proof === undefined ? `FUSE_KERNEL_MINOR_VERSION >= ${since}` : `FUSE_KERNEL_MINOR_VERSION > ${since} || defined(${proof})`;
  return `#if ${guard}\n${assertion}\n#endif`;
}

function structAssertions(struct: PlacedStruct<StructName>): string[] {
  const { name } = struct;
  const from = STRUCT_SINCE[name] ?? struct.row.since;
  const lines: string[] = [];
  const sizes = Array.from({ length: NEWEST - from + 1 }, (_, index) => structBytes(name, from + index));
  sizes.forEach((size, index) => {
    if (size === sizes[index - 1]) return;
    // Each size holds from its minor to the one before the next size.
    const next = sizes.findIndex((other, later) => later > index && other !== size);
    const assertion = `_Static_assert(sizeof(struct ${name}) == ${size}, "${name}");`;
    lines.push(
      next < 0
        ? guarded(name, from + index, assertion)
        : `#if FUSE_KERNEL_MINOR_VERSION < ${from + next}\n${guarded(name, from + index, assertion)}\n#endif`,
    );
  });
  for (const field of struct.fields) {
    // Padding changes its name and width as fields take of it; only the newest header is bound to our names.
    const since = field.role === 'padding' ? NEWEST : Math.max(from, field.since ?? 0);
    lines.push(
      guarded(
        name,
        since,
        `_Static_assert(offsetof(struct ${name}, ${field.name}) == ${field.offset}, "${name}.${field.name}");`,
      ),
    );
    if (field.role === 'flexible') continue;
    const size = field.role === 'struct' ? `sizeof(struct ${field.type})` : String(field.bytes);
    lines.push(
      guarded(name, since, `_Static_assert(sizeof(((struct ${name} *)0)->${field.name}) == ${size}, "${name}.${field.name}");`),
    );
  }
  return lines;
}

function constantAssertions(): string[] {
  const equal = (name: string, value: bigint, since: number): string => {
    // (1 << 31) is negative in C, as FUSE_INIT_RESERVED is written; its 32 bits count.
    const type = value < 1n << 32n ? 'unsigned int' : 'unsigned long long';
    return guarded(name, since, `_Static_assert((${type})(${name}) == ${value}ULL, "${name}");`);
  };
  return [
    ...CONSTANT_GROUPS.flatMap(({ rows }) =>
      rows.filter(({ name }) => !NOT_IN_HEADER.includes(name)).map((row) => equal(row.name, BigInt(row.value), row.since)),
    ),
    ...INIT_FLAGS.flatMap((row) =>
      [row.name, ...(row.aliases ?? [])].map((name) => equal(name, 1n << BigInt(row.bit), row.since)),
    ),
    ...OPCODES.map((row) => equal(row.name.startsWith('CUSE_') ? row.name : `FUSE_${row.name}`, BigInt(row.value), row.since)),
    ...NOTIFICATIONS.map((row) => equal(`FUSE_NOTIFY_${row.name}`, BigInt(row.value), row.since)),
    ...DEVICE_IOCTLS.map((row) => equal(row.name, BigInt(row.value), row.since)),
  ];
}

function source(...more: string[]): string {
  return [
    '#include <stddef.h>',
    '#include <stdint.h>',
    '#include <sys/ioctl.h>',
    '#include <linux/fuse.h>',
    // FUSE_REMOVEMAPPING_MAX_ENTRY counts what fits into a page.
    '#ifndef PAGE_SIZE',
    '#define PAGE_SIZE 4096',
    '#endif',
    ...STRUCTS.flatMap(structAssertions),
    ...constantAssertions(),
    ...more,
    '',
  ].join('\n');
}

const compile = (text: string) =>
  spawnSync('cc', ['-x', 'c', '-std=c11', '-fsyntax-only', '-'], { input: text, encoding: 'utf8', timeout: 60_000 });

/** The minor of the machine's header; undefined without a compiler or a header. */
function headerMinor(): number | undefined {
  const run = spawnSync('cc', ['-x', 'c', '-E', '-P', '-'], {
    input: '#include <linux/fuse.h>\nMINOR FUSE_KERNEL_MINOR_VERSION\n',
    encoding: 'utf8',
    timeout: 60_000,
  });
  const minor = /^MINOR (\d+)$/m.exec(run.stdout ?? '')?.[1];
  return run.status === 0 && minor !== undefined ? Number(minor) : undefined;
}

const minor = process.platform === 'linux' ? headerMinor() : undefined;
if (minor === undefined)
  console.warn(
    'SKIPPED: the protocol table is not checked against <linux/fuse.h>: cc or the header is missing (apt-get install gcc linux-libc-dev)',
  );
else if (minor < NEWEST)
  console.warn(
    `<linux/fuse.h> is of protocol 7.${minor}: what came with 7.${minor + 1} to 7.${NEWEST} is checked against fuse-7.45.json alone`,
  );

test.skipIf(minor === undefined)(`sizes, offsets and constants equal those of <linux/fuse.h> (7.${minor})`, () => {
  const result = compile(source());
  expect(result.stderr).toBe('');
  expect(result.status).toBe(0);
});

test.skipIf(minor === undefined)('a wrong size would be noticed', () => {
  const result = compile(source('_Static_assert(sizeof(struct fuse_read_in) == 36, "wrong on purpose");'));
  expect(result.status).not.toBe(0);
  expect(result.stderr).toContain('wrong on purpose');
});
