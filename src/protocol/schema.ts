/**
 * The table of the FUSE protocol 7.45, as `<linux/fuse.h>` of Linux 6.18 has it: structs, opcodes, notifications, device
 * ioctls, flag words. Everything else in this folder follows from it: `npm run generate` writes the types, constants and
 * fast codecs of generated/, and the exact message layer reads the rows themselves.
 *
 * `since` is the minor with which something came (7.N). Where a struct grew, the row says what decides its size.
 */
import {
  area,
  type ConstantGroup,
  type ConstantRow,
  type DeviceIoctlRowOf,
  flexible,
  grew,
  grewByFlag,
  type InitFlagRowOf,
  i32,
  i64,
  lockEnd,
  type NotificationRowOf,
  nested,
  type OpcodeRowOf,
  type PlacedStruct,
  padding,
  placeStruct,
  signed,
  struct,
  u16,
  u32,
  u64,
  words,
} from './layout.ts';
import { MINOR_OF } from './versions.ts';

/** The protocol's major version. */
export const PROTOCOL_MAJOR = 7;
/** The newest minor that this table knows. */
export const PROTOCOL_MINOR = 45;

// --- structs ------------------------------------------------------------------------------------------------------------

const FH = 'The handle that OPEN, CREATE or OPENDIR answered.';
const LOCK_OWNER = "Opaque owner of the caller's POSIX locks; the same value comes with LK and FLUSH.";

const STRUCT_ROWS = [
  struct(
    'fuse_attr',
    1,
    'What stat(2) shows of a file.',
    [
      words('ino', 'st_ino; only shown, never used to find the file.'),
      u64('size', 'Bytes; beyond 2^63-1 the kernel answers EIO.'),
      u64('blocks', 'Units of 512 bytes.'),
      signed('atime', 'Last access, whole seconds since 1970; signed in meaning.'),
      signed('mtime', 'Last change of the data, whole seconds.'),
      signed('ctime', 'Last change of the inode, whole seconds.'),
      u32('atimensec', 'Nanoseconds of atime, below 1,000,000,000.'),
      u32('mtimensec', 'Nanoseconds of mtime.'),
      u32('ctimensec', 'Nanoseconds of ctime.'),
      u32('mode', 'Type and permission bits, as st_mode.'),
      u32('nlink', 'Number of names.'),
      u32('uid', 'Owner.'),
      u32('gid', 'Group.'),
      u32('rdev', "Device number of a device file, in the kernel's 32-bit encoding."),
      u32('blksize', 'Preferred size of reads and writes; 0 lets the kernel choose.', { since: MINOR_OF.attrHasBlksize }),
      u32('flags', 'FUSE_ATTR_* bits.', { since: MINOR_OF.attrHasFlags, constants: 'attr_flags' }),
    ],
    grew('minor', [1, 80], [MINOR_OF.attrHasBlksize, 88]),
  ),

  struct('fuse_sx_time', 39, 'A point in time, exact to the nanosecond.', [
    i64('tv_sec', 'Whole seconds since 1970, may be negative.'),
    u32('tv_nsec', 'Nanoseconds, below 1,000,000,000.'),
    padding('__reserved', 'i32'),
  ]),

  struct('fuse_statx', 39, 'What statx(2) shows of a file.', [
    u32('mask', 'STATX_* bits of the fields that are filled in.'),
    u32('blksize', 'Preferred size of reads and writes.'),
    words('attributes', 'STATX_ATTR_* bits that are set.'),
    u32('nlink', 'Number of names.'),
    u32('uid', 'Owner.'),
    u32('gid', 'Group.'),
    u16('mode', 'Type and permission bits.'),
    padding('__spare0', 'u16', 1),
    words('ino', 'Inode number.'),
    u64('size', 'Bytes.'),
    u64('blocks', 'Units of 512 bytes.'),
    words('attributes_mask', 'STATX_ATTR_* bits that the filesystem supports.'),
    nested('atime', 'fuse_sx_time', 'Last access.'),
    nested('btime', 'fuse_sx_time', 'Birth.'),
    nested('ctime', 'fuse_sx_time', 'Last change of the inode.'),
    nested('mtime', 'fuse_sx_time', 'Last change of the data.'),
    u32('rdev_major', 'Major number of a device file.'),
    u32('rdev_minor', 'Minor number of a device file.'),
    u32('dev_major', "Major number of the filesystem's device."),
    u32('dev_minor', "Minor number of the filesystem's device."),
    padding('__spare2', 'u64', 14),
  ]),

  struct(
    'fuse_kstatfs',
    1,
    'What statfs(2) shows of a filesystem.',
    [
      u64('blocks', 'All blocks, units of frsize bytes.'),
      u64('bfree', 'Free blocks.'),
      u64('bavail', 'Free blocks for ordinary users.'),
      u64('files', 'All inodes.'),
      u64('ffree', 'Free inodes.'),
      u32('bsize', 'Preferred size of reads and writes.'),
      u32('namelen', 'Longest name, bytes.'),
      u32('frsize', 'The unit of the block counts, bytes.', { since: MINOR_OF.statfsHasFragmentSize }),
      padding('padding'),
      padding('spare', 'u32', 6),
    ],
    grew('minor', [1, 48], [MINOR_OF.statfsHasFragmentSize, 80]),
  ),

  struct('fuse_file_lock', 7, 'A byte-range lock.', [
    u64('start', 'First byte.'),
    lockEnd('end', 'Last byte, inclusive; 2^63-1 means however far the file grows.'),
    u32('type', 'F_RDLCK 0, F_WRLCK 1, F_UNLCK 2.'),
    u32('pid', 'Process that holds it; 0 when unlocking.'),
  ]),

  struct(
    'fuse_entry_out',
    1,
    'A name that was found or made.',
    [
      u64('nodeid', 'Our identity of the file; 0 means that the name does not exist.'),
      words('generation', 'Tells apart two files that use the same node id one after the other.'),
      u64('entry_valid', 'Whole seconds for which the name may be cached.'),
      u64('attr_valid', 'Whole seconds for which the attributes may be cached.'),
      u32('entry_valid_nsec', 'Nanoseconds of entry_valid.'),
      u32('attr_valid_nsec', 'Nanoseconds of attr_valid.'),
      nested('attr', 'fuse_attr', 'The attributes.'),
    ],
    grew('minor', [1, 120], [MINOR_OF.attrHasBlksize, 128]),
  ),

  struct('fuse_forget_in', 1, 'Takes references off a node.', [u64('nlookup', 'How many to take off the lookup count.')]),

  struct('fuse_forget_one', MINOR_OF.batchForgetExists, 'One node of a batch of forgets.', [
    u64('nodeid', 'The node.'),
    u64('nlookup', 'How many to take off its lookup count.'),
  ]),

  struct('fuse_batch_forget_in', MINOR_OF.batchForgetExists, 'Head of a batch of forgets.', [
    u32('count', 'Records of fuse_forget_one that follow.'),
    padding('dummy'),
  ]),

  struct(
    'fuse_getattr_in',
    MINOR_OF.getattrHasBody,
    'Asks for attributes.',
    [
      u32('getattr_flags', 'FUSE_GETATTR_* bits.', { constants: 'getattr_flags' }),
      padding('dummy'),
      u64('fh', 'The handle, when FUSE_GETATTR_FH is set.'),
    ],
    grew('kernel', [1, 0], [MINOR_OF.getattrHasBody, 16]),
  ),

  struct(
    'fuse_attr_out',
    1,
    'Attributes and their lifetime.',
    [
      u64('attr_valid', 'Whole seconds for which the attributes may be cached.'),
      u32('attr_valid_nsec', 'Nanoseconds of attr_valid.'),
      padding('dummy'),
      nested('attr', 'fuse_attr', 'The attributes.'),
    ],
    grew('minor', [1, 96], [MINOR_OF.attrHasBlksize, 104]),
  ),

  struct('fuse_statx_in', MINOR_OF.statxExists, "Asks for extended attributes of a file's status.", [
    u32('getattr_flags', 'FUSE_GETATTR_* bits.', { constants: 'getattr_flags' }),
    padding('reserved'),
    u64('fh', 'The handle, when FUSE_GETATTR_FH is set.'),
    u32('sx_flags', 'AT_STATX_* bits of the caller.'),
    u32('sx_mask', 'STATX_* bits that are wanted.'),
  ]),

  struct('fuse_statx_out', MINOR_OF.statxExists, 'Extended status and its lifetime.', [
    u64('attr_valid', 'Whole seconds for which the answer may be cached.'),
    u32('attr_valid_nsec', 'Nanoseconds of attr_valid.'),
    u32('flags', 'FUSE_ATTR_* bits.', { constants: 'attr_flags' }),
    padding('spare', 'u64', 2),
    nested('stat', 'fuse_statx', 'The status.'),
  ]),

  struct(
    'fuse_mknod_in',
    1,
    'Makes a file of any type.',
    [
      u32('mode', 'Type and permission bits.'),
      u32('rdev', "Device number, in the kernel's 32-bit encoding."),
      u32('umask', "The caller's umask.", { since: MINOR_OF.createHasUmask }),
      padding('padding'),
    ],
    grew('minor', [1, 8], [MINOR_OF.createHasUmask, 16]),
  ),

  struct('fuse_mkdir_in', 1, 'Makes a directory.', [
    u32('mode', 'Permission bits, without S_IFDIR.'),
    u32('umask', "The caller's umask; padding before.", { since: MINOR_OF.createHasUmask }),
  ]),

  struct('fuse_rename_in', 1, 'Renames within or between directories.', [
    u64('newdir', 'Node id of the directory that receives the name.'),
  ]),

  struct('fuse_rename2_in', MINOR_OF.rename2Exists, 'Renames with flags.', [
    u64('newdir', 'Node id of the directory that receives the name.'),
    u32('flags', 'RENAME_NOREPLACE 1, RENAME_EXCHANGE 2, RENAME_WHITEOUT 4.'),
    padding('padding'),
  ]),

  struct('fuse_link_in', 1, 'Gives a file a further name; the header holds the directory.', [
    u64('oldnodeid', 'Node id of the file.'),
  ]),

  struct('fuse_setattr_in', 1, 'Changes attributes.', [
    u32('valid', 'FATTR_* bits of the fields that count.', { constants: 'setattr_valid' }),
    padding('padding'),
    u64('fh', 'The handle, when FATTR_FH is set.', { since: 3 }),
    u64('size', 'New length in bytes.'),
    words('lock_owner', LOCK_OWNER, { since: MINOR_OF.setattrHasNowBits }),
    signed('atime', 'Last access, whole seconds.'),
    signed('mtime', 'Last change of the data, whole seconds.'),
    signed('ctime', 'Last change of the inode, whole seconds.', { since: MINOR_OF.setattrHasCtime }),
    u32('atimensec', 'Nanoseconds of atime.'),
    u32('mtimensec', 'Nanoseconds of mtime.'),
    u32('ctimensec', 'Nanoseconds of ctime.', { since: MINOR_OF.setattrHasCtime }),
    u32('mode', 'Type and permission bits.'),
    padding('unused4'),
    u32('uid', 'New owner.'),
    u32('gid', 'New group.'),
    padding('unused5'),
  ]),

  struct('fuse_open_in', 1, 'Opens a file or directory.', [
    u32('flags', 'O_* of the machine.'),
    u32('open_flags', 'FUSE_OPEN_* bits; padding before.', { since: 33, constants: 'open_in_flags' }),
  ]),

  struct(
    'fuse_create_in',
    3,
    'Makes and opens a file.',
    [
      u32('flags', 'O_* of the machine.'),
      u32('mode', 'Type and permission bits.'),
      u32('umask', "The caller's umask.", { since: MINOR_OF.createHasUmask }),
      u32('open_flags', 'FUSE_OPEN_* bits; padding before.', { since: 33, constants: 'open_in_flags' }),
    ],
    grew('minor', [3, 8], [MINOR_OF.createHasUmask, 16]),
  ),

  struct('fuse_open_out', 1, 'An opening.', [
    u64('fh', 'Our identity of the opening; comes back with every operation on it.'),
    u32('open_flags', 'FOPEN_* bits.', { constants: 'open_out_flags' }),
    i32('backing_id', 'Backing file, when FOPEN_PASSTHROUGH is set; padding before.', { since: MINOR_OF.passthroughExists }),
  ]),

  struct(
    'fuse_release_in',
    1,
    'Ends an opening.',
    [
      u64('fh', FH),
      u32('flags', 'O_* of the open file.'),
      u32('release_flags', 'FUSE_RELEASE_* bits.', { since: MINOR_OF.releaseHasLockOwner, constants: 'release_flags' }),
      words('lock_owner', 'Opaque owner of the flock to drop.', { since: MINOR_OF.releaseHasLockOwner }),
    ],
    grew('kernel', [1, 16], [MINOR_OF.releaseHasLockOwner, 24]),
  ),

  struct(
    'fuse_flush_in',
    1,
    'A descriptor of an opening was closed.',
    [
      u64('fh', FH),
      padding('unused'),
      padding('padding'),
      words('lock_owner', LOCK_OWNER, { since: MINOR_OF.flushHasLockOwner }),
    ],
    grew('kernel', [1, 16], [MINOR_OF.flushHasLockOwner, 24]),
  ),

  struct(
    'fuse_read_in',
    1,
    'Reads from a file, or lists a directory.',
    [
      u64('fh', FH),
      u64(
        'offset',
        'First byte; for directories the cookie after which to go on, whose 64 bits stand at READ_IN_OFFSETS.offset.',
      ),
      u32('size', 'Bytes wanted at most.'),
      u32('read_flags', 'FUSE_READ_* bits.', { since: MINOR_OF.readWriteHaveLockOwner, constants: 'read_flags' }),
      words('lock_owner', LOCK_OWNER, { since: MINOR_OF.readWriteHaveLockOwner }),
      u32('flags', 'O_* of the open file.', { since: MINOR_OF.readWriteHaveLockOwner }),
      padding('padding'),
    ],
    grew('kernel', [1, 24], [MINOR_OF.readWriteHaveLockOwner, 40]),
  ),

  struct(
    'fuse_write_in',
    1,
    'Writes to a file; the bytes follow.',
    [
      u64('fh', FH),
      u64('offset', 'First byte.'),
      u32('size', 'Bytes that follow.'),
      u32('write_flags', 'FUSE_WRITE_* bits.', { constants: 'write_flags' }),
      words('lock_owner', LOCK_OWNER, { since: MINOR_OF.readWriteHaveLockOwner }),
      u32('flags', 'O_* of the open file.', { since: MINOR_OF.readWriteHaveLockOwner }),
      padding('padding'),
    ],
    grew('minor', [1, 24], [MINOR_OF.readWriteHaveLockOwner, 40]),
  ),

  struct('fuse_write_out', 1, 'Bytes taken.', [u32('size', 'How many of the bytes were written.'), padding('padding')]),

  struct(
    'fuse_statfs_out',
    1,
    'Answer to STATFS.',
    [nested('st', 'fuse_kstatfs', 'The figures.')],
    grew('minor', [1, 48], [MINOR_OF.statfsHasFragmentSize, 80]),
  ),

  struct('fuse_fsync_in', 1, 'Makes data durable.', [
    u64('fh', FH),
    u32('fsync_flags', 'FUSE_FSYNC_* bits.', { constants: 'fsync_flags' }),
    padding('padding'),
  ]),

  struct(
    'fuse_setxattr_in',
    1,
    'Sets an extended attribute; name and value follow.',
    [
      u32('size', 'Bytes of the value.'),
      u32('flags', 'XATTR_CREATE 1, XATTR_REPLACE 2.'),
      u32('setxattr_flags', 'FUSE_SETXATTR_* bits.', { since: MINOR_OF.setxattrMayBeLong, constants: 'setxattr_flags' }),
      padding('padding'),
    ],
    grewByFlag('FUSE_SETXATTR_EXT', [1, 8], [MINOR_OF.setxattrMayBeLong, 16]),
  ),

  struct('fuse_getxattr_in', 1, 'Asks for an extended attribute, or for their names.', [
    u32('size', 'Bytes that the caller takes; 0 asks for the size alone.'),
    padding('padding'),
  ]),

  struct('fuse_getxattr_out', 1, 'Answer to a request with size 0.', [
    u32('size', 'Bytes of the value, or of the list of names.'),
    padding('padding'),
  ]),

  struct(
    'fuse_lk_in',
    7,
    'Tests, sets or clears a lock.',
    [
      u64('fh', FH),
      words('owner', 'Opaque owner of the lock.'),
      nested('lk', 'fuse_file_lock', 'The lock.'),
      u32('lk_flags', 'FUSE_LK_* bits.', { since: MINOR_OF.lockHasFlags, constants: 'lk_flags' }),
      padding('padding'),
    ],
    grew('kernel', [7, 40], [MINOR_OF.lockHasFlags, 48]),
  ),

  struct('fuse_lk_out', 7, 'The lock that stands in the way.', [
    nested('lk', 'fuse_file_lock', 'The lock; F_UNLCK when there is none.'),
  ]),

  struct('fuse_access_in', 3, 'Asks whether access is allowed.', [
    u32('mask', 'R_OK 4, W_OK 2, X_OK 1, F_OK 0.'),
    padding('padding'),
  ]),

  struct(
    'fuse_init_in',
    1,
    "The kernel's offer.",
    [
      u32('major', 'Major version of the kernel, 7.'),
      u32('minor', 'Newest minor of the kernel.'),
      u32('max_readahead', 'Longest read-ahead, bytes.', { since: MINOR_OF.initInHasFlags }),
      u32('flags', 'INIT flags, bits 0 to 31.', { since: MINOR_OF.initInHasFlags }),
      u32('flags2', 'INIT flags, bits 32 to 63; counts with FUSE_INIT_EXT.', { since: MINOR_OF.initInHasSecondFlags }),
      padding('unused', 'u32', 11),
    ],
    grew('length', [1, 8], [MINOR_OF.initInHasFlags, 16], [MINOR_OF.initInHasSecondFlags, 64]),
  ),

  struct(
    'fuse_init_out',
    1,
    'What the daemon agrees to.',
    [
      u32('major', 'Major version, 7.'),
      u32('minor', 'Minor that both sides speak from now on.'),
      u32('max_readahead', 'Longest read-ahead, bytes.', { since: MINOR_OF.initInHasFlags }),
      u32('flags', 'INIT flags that are accepted, bits 0 to 31.', { since: MINOR_OF.initInHasFlags }),
      u16('max_background', 'Background requests in flight; 0 keeps the default of 12.', {
        since: MINOR_OF.maxBackgroundIsHonoured,
      }),
      u16('congestion_threshold', 'Background requests from which on the kernel counts as congested; 0 keeps 9.', {
        since: MINOR_OF.maxBackgroundIsHonoured,
      }),
      u32('max_write', 'Longest WRITE, bytes; at least 4096.', { since: MINOR_OF.initOutHasLimits }),
      u32('time_gran', 'Granularity of timestamps, nanoseconds, 1 to 1,000,000,000.', { since: MINOR_OF.initOutIsLong }),
      u16('max_pages', 'Pages a request, with FUSE_MAX_PAGES.', { since: MINOR_OF.maxPagesIsNegotiable }),
      u16('map_alignment', 'Binary logarithm of the alignment of DAX mappings.', { since: 31 }),
      u32('flags2', 'INIT flags that are accepted, bits 32 to 63; counts with FUSE_INIT_EXT.', {
        since: MINOR_OF.initInHasSecondFlags,
      }),
      u32('max_stack_depth', 'Stacking depth for passthrough files, 1 or 2.', { since: MINOR_OF.passthroughExists }),
      u16('request_timeout', 'Seconds after which a request ends the connection, with FUSE_REQUEST_TIMEOUT.', {
        since: MINOR_OF.requestTimeoutIsNegotiable,
      }),
      padding('unused', 'u16', 11),
    ],
    grew('length', [1, 8], [MINOR_OF.initOutHasLimits, 24], [MINOR_OF.initOutIsLong, 64]),
  ),

  struct('cuse_init_in', 11, "The kernel's offer to a character device in user space.", [
    u32('major', 'Major version of the kernel, 7.'),
    u32('minor', 'Newest minor of the kernel.'),
    padding('unused'),
    u32('flags', 'CUSE_* bits.', { constants: 'cuse_init_flags' }),
  ]),

  struct('cuse_init_out', 11, 'What the character device agrees to; its information strings follow.', [
    u32('major', 'Major version, 7.'),
    u32('minor', 'Minor that both sides speak.'),
    padding('unused'),
    u32('flags', 'CUSE_* bits.', { constants: 'cuse_init_flags' }),
    u32('max_read', 'Longest READ, bytes.'),
    u32('max_write', 'Longest WRITE, bytes.'),
    u32('dev_major', 'Major number of the device.'),
    u32('dev_minor', 'Minor number of the device.'),
    padding('spare', 'u32', 10),
  ]),

  struct('fuse_interrupt_in', 7, 'The caller of a request was interrupted.', [words('unique', 'The request that is meant.')]),

  struct('fuse_bmap_in', 8, 'Maps a block of a file to a block of the device.', [
    u64('block', 'Block of the file.'),
    u32('blocksize', 'Bytes of a block.'),
    padding('padding'),
  ]),

  struct('fuse_bmap_out', 8, 'Answer to BMAP.', [u64('block', 'Block of the device; 0 when there is none.')]),

  struct('fuse_ioctl_in', 11, 'An ioctl(2); the input bytes follow.', [
    u64('fh', FH),
    u32('flags', 'FUSE_IOCTL_* bits.', { constants: 'ioctl_flags' }),
    u32('cmd', "The caller's request number."),
    words('arg', "The caller's argument as it stood, often a pointer of the caller."),
    u32('in_size', 'Bytes of input that follow.'),
    u32('out_size', 'Bytes of output that the answer may carry.'),
  ]),

  struct('fuse_ioctl_iovec', MINOR_OF.ioctlIovecIsFixed, "One range of the caller's memory, for FUSE_IOCTL_RETRY.", [
    words('base', 'Address in the caller.'),
    u64('len', 'Bytes.'),
  ]),

  struct('fuse_ioctl_out', 11, 'Answer to IOCTL; the output bytes or retry vectors follow.', [
    i32('result', 'What ioctl(2) returns.'),
    u32('flags', 'FUSE_IOCTL_RETRY or 0.', { constants: 'ioctl_flags' }),
    u32('in_iovs', 'Input vectors, when retrying.'),
    u32('out_iovs', 'Output vectors, when retrying.'),
  ]),

  struct('fuse_poll_in', 11, 'Asks which events are ready.', [
    u64('fh', FH),
    words('kh', 'Opaque poll handle for the wake-up notification.'),
    u32('flags', 'FUSE_POLL_* bits.', { constants: 'poll_flags' }),
    u32('events', 'POLL* bits that are wanted; padding before.', { since: MINOR_OF.pollHasEvents }),
  ]),

  struct('fuse_poll_out', 11, 'Answer to POLL.', [u32('revents', 'POLL* bits that are ready.'), padding('padding')]),

  struct('fuse_notify_poll_wakeup_out', 11, 'Tells that a polled file may be ready.', [
    words('kh', 'The poll handle of the request.'),
  ]),

  struct('fuse_fallocate_in', 19, 'Allocates, punches or zeroes a range.', [
    u64('fh', FH),
    u64('offset', 'First byte.'),
    u64('length', 'Bytes.'),
    u32('mode', 'FALLOC_FL_* bits.'),
    padding('padding'),
  ]),

  struct('fuse_in_header', 1, 'Head of every request.', [
    u32('len', 'Bytes of the whole message.'),
    u32('opcode', 'Which request.'),
    words('unique', 'Names the request; bit 0 marks an interrupt, bit 63 a resent request.'),
    u64('nodeid', 'The node that is meant.'),
    u32('uid', 'fsuid of the caller, or FUSE_INVALID_UIDGID.'),
    u32('gid', 'fsgid of the caller, or FUSE_INVALID_UIDGID.'),
    u32('pid', 'Thread id of the caller; 0 when not visible.'),
    u16('total_extlen', 'Units of 8 bytes of the extension area at the end.', { since: MINOR_OF.headerHasExtensionLength }),
    padding('padding', 'u16'),
  ]),

  struct('fuse_out_header', 1, 'Head of every reply and notification.', [
    u32('len', 'Bytes of the whole message.'),
    i32('error', '0, a negative errno, or in a notification its code.'),
    words('unique', 'The request that is answered; 0 in a notification.'),
  ]),

  struct('fuse_dirent', 1, 'A directory entry; the name follows, padded to 8 bytes.', [
    words('ino', 'd_ino.'),
    words('off', 'Cookie of the position after this entry.'),
    u32('namelen', 'Bytes of the name, without a NUL.'),
    u32('type', 'DT_*: the type bits of st_mode, shifted right by 12.'),
    flexible('name', 'u8', 'The name.'),
  ]),

  struct('fuse_direntplus', MINOR_OF.readdirplusExists, 'A directory entry with its node and attributes.', [
    nested('entry_out', 'fuse_entry_out', 'The node; nodeid 0 makes it a plain entry.'),
    nested('dirent', 'fuse_dirent', 'The entry.'),
  ]),

  struct('fuse_notify_inval_inode_out', 12, 'Drops what is cached of a node.', [
    u64('ino', 'The node id.'),
    i64('off', 'First byte of cached data to drop; negative: attributes only.'),
    i64('len', 'Bytes; 0 or less: to the end.'),
  ]),

  struct('fuse_notify_inval_entry_out', 12, 'Drops a cached name; the name follows.', [
    u64('parent', 'Node id of the directory.'),
    u32('namelen', 'Bytes of the name, without its NUL.'),
    u32('flags', 'FUSE_EXPIRE_ONLY or 0; padding before.', { since: 38, constants: 'inval_entry_flags' }),
  ]),

  struct('fuse_notify_delete_out', 18, 'Tells that a name was removed; the name follows.', [
    u64('parent', 'Node id of the directory.'),
    u64('child', 'Node id of what the name stood for.'),
    u32('namelen', 'Bytes of the name, without its NUL.'),
    padding('padding'),
  ]),

  struct('fuse_notify_store_out', 15, 'Puts bytes into the page cache; they follow.', [
    u64('nodeid', 'The node.'),
    u64('offset', 'First byte.'),
    u32('size', 'Bytes that follow.'),
    padding('padding'),
  ]),

  struct('fuse_notify_retrieve_out', 15, 'Asks for bytes of the page cache.', [
    words('notify_unique', 'Comes back as the unique of NOTIFY_REPLY.'),
    u64('nodeid', 'The node.'),
    u64('offset', 'First byte.'),
    u32('size', 'Bytes wanted at most.'),
    padding('padding'),
  ]),

  struct('fuse_notify_retrieve_in', 15, 'Bytes of the page cache; they follow.', [
    padding('dummy1', 'u64'),
    u64('offset', 'First byte.'),
    u32('size', 'Bytes that follow.'),
    padding('dummy2'),
    padding('dummy3', 'u64'),
    padding('dummy4', 'u64'),
  ]),

  struct('fuse_notify_prune_out', MINOR_OF.pruneExists, 'Asks to drop unused nodes; their ids follow.', [
    u32('count', 'Node ids of 8 bytes that follow.'),
    padding('padding'),
    padding('spare', 'u64'),
  ]),

  struct('fuse_backing_map', MINOR_OF.passthroughExists, 'Argument of FUSE_DEV_IOC_BACKING_OPEN.', [
    i32('fd', 'Descriptor of the backing file.'),
    u32('flags', 'Must be 0.'),
    padding('padding', 'u64'),
  ]),

  struct('fuse_lseek_in', 24, 'Finds data or holes.', [
    u64('fh', FH),
    signed('offset', "Where to begin; the caller's value unchecked, so it may be negative."),
    u32('whence', 'SEEK_DATA 3, SEEK_HOLE 4.'),
    padding('padding'),
  ]),

  struct('fuse_lseek_out', 24, 'Answer to LSEEK.', [u64('offset', 'The position found.')]),

  struct('fuse_copy_file_range_in', 28, 'Copies within the filesystem; the header holds the source.', [
    u64('fh_in', 'Handle of the source.'),
    u64('off_in', 'First byte of the source.'),
    u64('nodeid_out', 'Node id of the destination.'),
    u64('fh_out', 'Handle of the destination.'),
    u64('off_out', 'First byte of the destination.'),
    u64('len', 'Bytes to copy.'),
    words('flags', 'Flags of copy_file_range(2).'),
  ]),

  struct('fuse_copy_file_range_out', MINOR_OF.copyFileRange64Exists, 'Answer to COPY_FILE_RANGE_64.', [
    u64('bytes_copied', 'Bytes copied.'),
  ]),

  struct('fuse_setupmapping_in', 31, 'Maps a range of a file into the DAX window.', [
    u64('fh', FH),
    u64('foffset', 'First byte of the file.'),
    u64('len', 'Bytes.'),
    words('flags', 'FUSE_SETUPMAPPING_FLAG_* bits.', { constants: 'setupmapping_flags' }),
    u64('moffset', 'Place in the window, bytes.'),
  ]),

  struct('fuse_removemapping_in', 31, 'Head of a list of mappings to remove.', [
    u32('count', 'Records of fuse_removemapping_one that follow.'),
  ]),

  struct('fuse_removemapping_one', 31, 'One mapping to remove.', [
    u64('moffset', 'Place in the DAX window, bytes.'),
    u64('len', 'Bytes.'),
  ]),

  struct('fuse_syncfs_in', 34, 'Makes the whole filesystem durable.', [padding('padding', 'u64')]),

  struct('fuse_secctx', 36, 'One security context; its name and value follow, padded to 8 bytes.', [
    u32('size', 'Bytes of the value.'),
    padding('padding'),
  ]),

  struct('fuse_secctx_header', 36, 'Head of the security contexts.', [
    u32('size', 'Bytes of the whole record, this head included.'),
    u32('nr_secctx', 'Contexts that follow, at most FUSE_MAX_NR_SECCTX.'),
  ]),

  struct('fuse_ext_header', 38, 'Head of a record in the extension area.', [
    u32('size', 'Bytes of the whole record, this head and its padding included.'),
    u32('type', 'FUSE_EXT_GROUPS; up to FUSE_MAX_NR_SECCTX it is a fuse_secctx_header instead.', {
      constants: 'enum_fuse_ext_type',
    }),
  ]),

  struct('fuse_supp_groups', 38, 'Supplementary groups of the caller that count for the request.', [
    u32('nr_groups', 'Group ids of 4 bytes that follow.'),
    flexible('groups', 'u32', 'The group ids.'),
  ]),

  struct('fuse_uring_ent_in_out', MINOR_OF.ringExists, "Control part of a ring entry's header.", [
    words('flags', 'Not used yet.'),
    words('commit_id', 'Names the request in the commit.'),
    u32('payload_sz', 'Bytes of the payload buffer that are in use.'),
    padding('padding'),
    padding('reserved', 'u64'),
  ]),

  struct('fuse_uring_req_header', MINOR_OF.ringExists, 'Header buffer of a ring entry.', [
    area('in_out', 128, 'Holds fuse_in_header, and on reply fuse_out_header.'),
    area('op_in', 128, "Holds the request's struct."),
    nested('ring_ent_in_out', 'fuse_uring_ent_in_out', 'The control part.'),
  ]),

  struct('fuse_uring_cmd_req', MINOR_OF.ringExists, 'Command area of the submission entry.', [
    words('flags', 'Not used yet.'),
    words('commit_id', 'The request that is committed.'),
    u16('qid', 'Queue, a CPU number.'),
    padding('padding', 'u8', 6),
  ]),
] as const;

/** Names of all structs, kernel spelling. */
export type StructName = (typeof STRUCT_ROWS)[number]['name'];

function placeAll(): Map<string, PlacedStruct<StructName>> {
  const placed = new Map<string, PlacedStruct<StructName>>();
  const byName = new Map<string, (typeof STRUCT_ROWS)[number]>(STRUCT_ROWS.map((row) => [row.name, row]));
  const place = (name: string): PlacedStruct<StructName> => {
    const ready = placed.get(name);
    if (ready !== undefined) return ready;
    const row = byName.get(name);
    if (row === undefined) throw new Error(`the table has no struct ${name}`);
    const fresh = placeStruct<StructName>(row, place);
    placed.set(name, fresh);
    return fresh;
  };
  for (const row of STRUCT_ROWS) place(row.name);
  return placed;
}

const PLACED = placeAll();

/** All structs with their layout, in the table's order. */
export const STRUCTS: readonly PlacedStruct<StructName>[] = STRUCT_ROWS.map((row) => PLACED.get(row.name)!);

/** A struct of the table. */
export function structOf(name: StructName): PlacedStruct<StructName> {
  return PLACED.get(name)!;
}

// --- opcodes ------------------------------------------------------------------------------------------------------------

const opcode = <const Name extends string>(row: OpcodeRowOf<Name, StructName>): OpcodeRowOf<Name, StructName> => row;

const TO_CALLER = { cached: false, effect: 'the error goes to the caller' } as const;
const NOTHING = { names: 0, extensions: false } as const;
const NAME = { names: 1, extensions: false } as const;
const EMPTY = { structs: [] } as const;
const DATA = { structs: [], tail: 'data' } as const;
const ENTRY = { structs: ['fuse_entry_out'] } as const;
const CREATED = { structs: ['fuse_entry_out', 'fuse_open_out'] } as const;
/** What most rows have in common. */
const USUAL = { hasReply: true, countsLookup: false, enosys: TO_CALLER, onPlainMounts: true } as const;
const onlyStruct = <const Struct extends StructName>(name: Struct) => ({ struct: name, names: 0, extensions: false }) as const;

const OPCODE_ROWS = [
  opcode({
    ...USUAL,
    name: 'LOOKUP',
    value: 1,
    since: 1,
    method: 'lookup',
    request: NAME,
    reply: ENTRY,
    countsLookup: true,
    about: 'Finds a name in a directory.',
  }),
  opcode({
    ...USUAL,
    name: 'FORGET',
    value: 2,
    since: 1,
    method: 'forget',
    request: onlyStruct('fuse_forget_in'),
    reply: EMPTY,
    hasReply: false,
    enosys: { cached: false, effect: 'never answered' },
    about: 'Takes references off a node.',
  }),
  opcode({
    ...USUAL,
    name: 'GETATTR',
    value: 3,
    since: 1,
    method: 'getattr',
    request: onlyStruct('fuse_getattr_in'),
    reply: { structs: ['fuse_attr_out'] },
    about: 'Asks for the attributes of a node.',
  }),
  opcode({
    ...USUAL,
    name: 'SETATTR',
    value: 4,
    since: 1,
    method: 'setattr',
    request: onlyStruct('fuse_setattr_in'),
    reply: { structs: ['fuse_attr_out'] },
    about: 'Changes attributes; answers all of them.',
  }),
  opcode({
    ...USUAL,
    name: 'READLINK',
    value: 5,
    since: 1,
    method: 'readlink',
    request: NOTHING,
    reply: DATA,
    about: 'Reads a symbolic link; the answer has no NUL.',
  }),
  opcode({
    ...USUAL,
    name: 'SYMLINK',
    value: 6,
    since: 1,
    method: 'symlink',
    request: { names: 2, extensions: true },
    reply: ENTRY,
    countsLookup: true,
    about: 'Makes a symbolic link: first its name, then its target.',
  }),
  opcode({
    ...USUAL,
    name: 'MKNOD',
    value: 8,
    since: 1,
    method: 'mknod',
    request: { struct: 'fuse_mknod_in', names: 1, extensions: true },
    reply: ENTRY,
    countsLookup: true,
    about: 'Makes a file of any type.',
  }),
  opcode({
    ...USUAL,
    name: 'MKDIR',
    value: 9,
    since: 1,
    method: 'mkdir',
    request: { struct: 'fuse_mkdir_in', names: 1, extensions: true },
    reply: ENTRY,
    countsLookup: true,
    about: 'Makes a directory.',
  }),
  opcode({
    ...USUAL,
    name: 'UNLINK',
    value: 10,
    since: 1,
    method: 'unlink',
    request: NAME,
    reply: EMPTY,
    about: 'Removes a name that is not a directory.',
  }),
  opcode({
    ...USUAL,
    name: 'RMDIR',
    value: 11,
    since: 1,
    method: 'rmdir',
    request: NAME,
    reply: EMPTY,
    about: 'Removes an empty directory.',
  }),
  opcode({
    ...USUAL,
    name: 'RENAME',
    value: 12,
    since: 1,
    method: 'rename',
    request: { struct: 'fuse_rename_in', names: 2, extensions: false },
    reply: EMPTY,
    about: 'Renames without flags: old name, then new name.',
  }),
  opcode({
    ...USUAL,
    name: 'LINK',
    value: 13,
    since: 1,
    method: 'link',
    request: { struct: 'fuse_link_in', names: 1, extensions: false },
    reply: ENTRY,
    countsLookup: true,
    enosys: { cached: true, effect: 'EPERM' },
    about: 'Gives a file a further name.',
  }),
  opcode({
    ...USUAL,
    name: 'OPEN',
    value: 14,
    since: 1,
    method: 'open',
    request: onlyStruct('fuse_open_in'),
    reply: { structs: ['fuse_open_out'] },
    enosys: { cached: true, effect: 'open succeeds with fh 0 and FOPEN_KEEP_CACHE; no OPEN and no RELEASE any more' },
    about: 'Opens a file.',
  }),
  opcode({
    ...USUAL,
    name: 'READ',
    value: 15,
    since: 1,
    method: 'read',
    request: onlyStruct('fuse_read_in'),
    reply: { structs: [], tail: 'data', limitedBy: 'size' },
    about: 'Reads bytes of a file.',
  }),
  opcode({
    ...USUAL,
    name: 'WRITE',
    value: 16,
    since: 1,
    method: 'write',
    request: { struct: 'fuse_write_in', names: 0, tail: 'data', counted: 'size', extensions: false },
    reply: { structs: ['fuse_write_out'] },
    about: 'Writes bytes to a file.',
  }),
  opcode({
    ...USUAL,
    name: 'STATFS',
    value: 17,
    since: 1,
    method: 'statfs',
    request: NOTHING,
    reply: { structs: ['fuse_statfs_out'] },
    about: 'Asks for the figures of the filesystem.',
  }),
  opcode({
    ...USUAL,
    name: 'RELEASE',
    value: 18,
    since: 1,
    method: 'release',
    request: onlyStruct('fuse_release_in'),
    reply: EMPTY,
    about: 'Ends an opening, after the last close.',
  }),
  opcode({
    ...USUAL,
    name: 'FSYNC',
    value: 20,
    since: 1,
    method: 'fsync',
    request: onlyStruct('fuse_fsync_in'),
    reply: EMPTY,
    enosys: { cached: true, effect: 'fsync succeeds' },
    about: 'Makes a file durable.',
  }),
  opcode({
    ...USUAL,
    name: 'SETXATTR',
    value: 21,
    since: 1,
    method: 'setxattr',
    request: { struct: 'fuse_setxattr_in', names: 1, tail: 'data', counted: 'size', extensions: false },
    reply: EMPTY,
    enosys: { cached: true, effect: 'EOPNOTSUPP' },
    about: 'Sets an extended attribute.',
  }),
  opcode({
    ...USUAL,
    name: 'GETXATTR',
    value: 22,
    since: 1,
    method: 'getxattr',
    request: { struct: 'fuse_getxattr_in', names: 1, extensions: false },
    reply: { structs: [], tail: 'data', limitedBy: 'size', whenSizeZero: 'fuse_getxattr_out' },
    enosys: { cached: true, effect: 'EOPNOTSUPP' },
    about: 'Asks for an extended attribute, or its size.',
  }),
  opcode({
    ...USUAL,
    name: 'LISTXATTR',
    value: 23,
    since: 1,
    method: 'listxattr',
    request: onlyStruct('fuse_getxattr_in'),
    reply: { structs: [], tail: 'data', limitedBy: 'size', whenSizeZero: 'fuse_getxattr_out' },
    enosys: { cached: true, effect: 'EOPNOTSUPP' },
    about: 'Asks for the names of extended attributes, each ended by NUL, or their size.',
  }),
  opcode({
    ...USUAL,
    name: 'REMOVEXATTR',
    value: 24,
    since: 1,
    method: 'removexattr',
    request: NAME,
    reply: EMPTY,
    enosys: { cached: true, effect: 'EOPNOTSUPP' },
    about: 'Removes an extended attribute.',
  }),
  opcode({
    ...USUAL,
    name: 'FLUSH',
    value: 25,
    since: 1,
    method: 'flush',
    request: onlyStruct('fuse_flush_in'),
    reply: EMPTY,
    enosys: { cached: true, effect: 'close succeeds' },
    about: 'A descriptor was closed; many may come for one opening.',
  }),
  opcode({
    ...USUAL,
    name: 'INIT',
    value: 26,
    since: 1,
    method: undefined,
    request: onlyStruct('fuse_init_in'),
    reply: { structs: ['fuse_init_out'] },
    enosys: { cached: true, effect: 'every operation fails with ECONNREFUSED' },
    about: 'First request: version, flags and limits are agreed.',
  }),
  opcode({
    ...USUAL,
    name: 'OPENDIR',
    value: 27,
    since: 1,
    method: 'opendir',
    request: onlyStruct('fuse_open_in'),
    reply: { structs: ['fuse_open_out'] },
    enosys: {
      cached: true,
      effect: 'opendir succeeds with fh 0, FOPEN_KEEP_CACHE and FOPEN_CACHE_DIR; no OPENDIR and no RELEASEDIR any more',
    },
    about: 'Opens a directory.',
  }),
  opcode({
    ...USUAL,
    name: 'READDIR',
    value: 28,
    since: 1,
    method: 'readdir',
    request: onlyStruct('fuse_read_in'),
    reply: { structs: [], tail: 'dirents', limitedBy: 'size' },
    about: 'Lists a directory from a cookie on.',
  }),
  opcode({
    ...USUAL,
    name: 'RELEASEDIR',
    value: 29,
    since: 1,
    method: 'releasedir',
    request: onlyStruct('fuse_release_in'),
    reply: EMPTY,
    about: 'Ends the opening of a directory.',
  }),
  opcode({
    ...USUAL,
    name: 'FSYNCDIR',
    value: 30,
    since: 2,
    method: 'fsyncdir',
    request: onlyStruct('fuse_fsync_in'),
    reply: EMPTY,
    enosys: { cached: true, effect: 'fsync succeeds' },
    about: 'Makes a directory durable.',
  }),
  opcode({
    ...USUAL,
    name: 'GETLK',
    value: 31,
    since: 7,
    method: 'getlk',
    request: onlyStruct('fuse_lk_in'),
    reply: { structs: ['fuse_lk_out'] },
    about: 'Asks which lock stands in the way.',
  }),
  opcode({
    ...USUAL,
    name: 'SETLK',
    value: 32,
    since: 7,
    method: 'setlk',
    request: onlyStruct('fuse_lk_in'),
    reply: EMPTY,
    about: 'Sets or clears a lock without waiting.',
  }),
  opcode({
    ...USUAL,
    name: 'SETLKW',
    value: 33,
    since: 7,
    method: 'setlk',
    request: onlyStruct('fuse_lk_in'),
    reply: EMPTY,
    about: 'Sets a lock, waiting for it.',
  }),
  opcode({
    ...USUAL,
    name: 'ACCESS',
    value: 34,
    since: 3,
    method: 'access',
    request: onlyStruct('fuse_access_in'),
    reply: EMPTY,
    enosys: { cached: true, effect: 'access is allowed' },
    about: 'Asks whether access is allowed.',
  }),
  opcode({
    ...USUAL,
    name: 'CREATE',
    value: 35,
    since: 3,
    method: 'create',
    request: { struct: 'fuse_create_in', names: 1, extensions: true },
    reply: CREATED,
    countsLookup: true,
    enosys: { cached: true, effect: 'MKNOD and OPEN instead' },
    about: 'Makes and opens a file.',
  }),
  opcode({
    ...USUAL,
    name: 'INTERRUPT',
    value: 36,
    since: MINOR_OF.interruptsExist,
    method: undefined,
    request: onlyStruct('fuse_interrupt_in'),
    reply: EMPTY,
    hasReply: false,
    enosys: { cached: true, effect: 'no INTERRUPT any more; waits end only by a fatal signal' },
    about: 'The caller of a request was interrupted. An answer is optional: EAGAIN asks for it again.',
  }),
  opcode({
    ...USUAL,
    name: 'BMAP',
    value: 37,
    since: 8,
    method: 'bmap',
    request: onlyStruct('fuse_bmap_in'),
    reply: { structs: ['fuse_bmap_out'] },
    enosys: { cached: true, effect: 'block 0' },
    onPlainMounts: false,
    about: 'Maps a block of a file to a block of the device.',
  }),
  opcode({
    ...USUAL,
    name: 'DESTROY',
    value: 38,
    since: 8,
    method: undefined,
    request: NOTHING,
    reply: EMPTY,
    onPlainMounts: false,
    about: 'The mount ends.',
  }),
  opcode({
    ...USUAL,
    name: 'IOCTL',
    value: 39,
    since: 11,
    method: 'ioctl',
    request: { struct: 'fuse_ioctl_in', names: 0, tail: 'data', counted: 'in_size', extensions: false },
    reply: { structs: ['fuse_ioctl_out'], tail: 'data', limitedBy: 'out_size' },
    enosys: { cached: false, effect: 'ENOTTY' },
    about: 'An ioctl(2).',
  }),
  opcode({
    ...USUAL,
    name: 'POLL',
    value: 40,
    since: 11,
    method: 'poll',
    request: onlyStruct('fuse_poll_in'),
    reply: { structs: ['fuse_poll_out'] },
    enosys: { cached: true, effect: 'always readable and writable' },
    about: 'Asks which events are ready, and for a wake-up.',
  }),
  opcode({
    ...USUAL,
    name: 'NOTIFY_REPLY',
    value: 41,
    since: 15,
    method: undefined,
    request: { struct: 'fuse_notify_retrieve_in', names: 0, tail: 'data', counted: 'size', extensions: false },
    reply: EMPTY,
    hasReply: false,
    structInRingPayload: true,
    enosys: { cached: false, effect: 'never answered' },
    about: 'Bytes of the page cache that a RETRIEVE notification asked for.',
  }),
  opcode({
    ...USUAL,
    name: 'BATCH_FORGET',
    value: 42,
    since: MINOR_OF.batchForgetExists,
    method: 'forget',
    request: {
      struct: 'fuse_batch_forget_in',
      names: 0,
      tail: 'records',
      counted: 'count',
      record: 'fuse_forget_one',
      extensions: false,
    },
    reply: EMPTY,
    hasReply: false,
    enosys: { cached: false, effect: 'never answered' },
    about: 'Takes references off many nodes.',
  }),
  opcode({
    ...USUAL,
    name: 'FALLOCATE',
    value: 43,
    since: 19,
    method: 'fallocate',
    request: onlyStruct('fuse_fallocate_in'),
    reply: EMPTY,
    enosys: { cached: true, effect: 'EOPNOTSUPP' },
    about: 'Allocates, punches or zeroes a range.',
  }),
  opcode({
    ...USUAL,
    name: 'READDIRPLUS',
    value: 44,
    since: MINOR_OF.readdirplusExists,
    method: 'readdirplus',
    request: onlyStruct('fuse_read_in'),
    reply: { structs: [], tail: 'direntplus', limitedBy: 'size' },
    countsLookup: true,
    about: 'Lists a directory with nodes and attributes; every entry but "." and ".." with a nodeid adds a reference.',
  }),
  opcode({
    ...USUAL,
    name: 'RENAME2',
    value: 45,
    since: MINOR_OF.rename2Exists,
    method: 'rename',
    request: { struct: 'fuse_rename2_in', names: 2, extensions: false },
    reply: EMPTY,
    enosys: { cached: true, effect: 'EINVAL' },
    about: 'Renames with flags: old name, then new name.',
  }),
  opcode({
    ...USUAL,
    name: 'LSEEK',
    value: 46,
    since: 24,
    method: 'lseek',
    request: onlyStruct('fuse_lseek_in'),
    reply: { structs: ['fuse_lseek_out'] },
    enosys: { cached: true, effect: 'the kernel answers from the file size' },
    about: 'Finds data or holes.',
  }),
  opcode({
    ...USUAL,
    name: 'COPY_FILE_RANGE',
    value: 47,
    since: 28,
    method: 'copyFileRange',
    request: onlyStruct('fuse_copy_file_range_in'),
    reply: { structs: ['fuse_write_out'] },
    enosys: { cached: true, effect: 'copied through READ and WRITE' },
    about: 'Copies within the filesystem, less than 4 GiB at a time.',
  }),
  opcode({
    ...USUAL,
    name: 'SETUPMAPPING',
    value: 48,
    since: 31,
    method: undefined,
    request: onlyStruct('fuse_setupmapping_in'),
    reply: EMPTY,
    onPlainMounts: false,
    about: 'Maps a range of a file into the DAX window.',
  }),
  opcode({
    ...USUAL,
    name: 'REMOVEMAPPING',
    value: 49,
    since: 31,
    method: undefined,
    request: {
      struct: 'fuse_removemapping_in',
      names: 0,
      tail: 'records',
      counted: 'count',
      record: 'fuse_removemapping_one',
      extensions: false,
    },
    reply: EMPTY,
    onPlainMounts: false,
    about: 'Removes mappings from the DAX window.',
  }),
  opcode({
    ...USUAL,
    name: 'SYNCFS',
    value: 50,
    since: 34,
    method: 'syncfs',
    request: onlyStruct('fuse_syncfs_in'),
    reply: EMPTY,
    enosys: { cached: true, effect: 'syncfs succeeds' },
    onPlainMounts: false,
    about: 'Makes the whole filesystem durable.',
  }),
  opcode({
    ...USUAL,
    name: 'TMPFILE',
    value: 51,
    since: 37,
    method: 'tmpfile',
    request: { struct: 'fuse_create_in', names: 1, extensions: true },
    reply: CREATED,
    countsLookup: true,
    enosys: { cached: true, effect: 'EOPNOTSUPP' },
    about: 'Makes and opens a file without a name; the name in the message is always "/".',
  }),
  opcode({
    ...USUAL,
    name: 'STATX',
    value: 52,
    since: MINOR_OF.statxExists,
    method: 'statx',
    request: onlyStruct('fuse_statx_in'),
    reply: { structs: ['fuse_statx_out'] },
    enosys: { cached: true, effect: 'GETATTR instead' },
    about: 'Asks for attributes with the birth time.',
  }),
  opcode({
    ...USUAL,
    name: 'COPY_FILE_RANGE_64',
    value: 53,
    since: MINOR_OF.copyFileRange64Exists,
    method: 'copyFileRange',
    request: onlyStruct('fuse_copy_file_range_in'),
    reply: { structs: ['fuse_copy_file_range_out'] },
    enosys: { cached: true, effect: 'COPY_FILE_RANGE instead' },
    about: 'Copies within the filesystem; the count in the answer has 64 bits.',
  }),
  opcode({
    ...USUAL,
    name: 'CUSE_INIT',
    value: 4096,
    since: 11,
    method: undefined,
    request: onlyStruct('cuse_init_in'),
    reply: { structs: ['cuse_init_out'], tail: 'data' },
    onPlainMounts: false,
    about: 'First request to a character device in user space.',
  }),
] as const;

/** `LOOKUP`, `FORGET`, and so on. */
export type OpcodeName = (typeof OPCODE_ROWS)[number]['name'];
export type OpcodeRow = OpcodeRowOf<OpcodeName, StructName>;

/** One row per opcode, in the order of their numbers. */
export const OPCODES: readonly OpcodeRow[] = OPCODE_ROWS;

// --- notifications --------------------------------------------------------------------------------------------------------

const notification = <const Name extends string>(row: NotificationRowOf<Name, StructName>): NotificationRowOf<Name, StructName> =>
  row;

const NOTIFICATION_ROWS = [
  notification({
    name: 'POLL',
    value: 1,
    since: 11,
    struct: 'fuse_notify_poll_wakeup_out',
    names: 0,
    about: 'A polled file may be ready.',
  }),
  notification({
    name: 'INVAL_INODE',
    value: 2,
    since: 12,
    struct: 'fuse_notify_inval_inode_out',
    names: 0,
    about: 'Drops cached attributes, and cached data of a range.',
  }),
  notification({
    name: 'INVAL_ENTRY',
    value: 3,
    since: 12,
    struct: 'fuse_notify_inval_entry_out',
    names: 1,
    about: 'Drops or expires a cached name.',
  }),
  notification({
    name: 'STORE',
    value: 4,
    since: 15,
    struct: 'fuse_notify_store_out',
    names: 0,
    tail: 'data',
    counted: 'size',
    about: 'Puts bytes into the page cache.',
  }),
  notification({
    name: 'RETRIEVE',
    value: 5,
    since: 15,
    struct: 'fuse_notify_retrieve_out',
    names: 0,
    about: 'Asks for bytes of the page cache; NOTIFY_REPLY brings them.',
  }),
  notification({
    name: 'DELETE',
    value: 6,
    since: 18,
    struct: 'fuse_notify_delete_out',
    names: 1,
    about: 'A name was removed; watchers are told.',
  }),
  notification({
    name: 'RESEND',
    value: 7,
    since: MINOR_OF.resendExists,
    names: 0,
    about: 'Asks for all requests that were read and not answered, once more.',
  }),
  notification({
    name: 'INC_EPOCH',
    value: 8,
    since: 44,
    names: 0,
    about: 'Makes every cached name stale.',
  }),
  notification({
    name: 'PRUNE',
    value: 9,
    since: MINOR_OF.pruneExists,
    struct: 'fuse_notify_prune_out',
    names: 0,
    tail: 'nodeids',
    counted: 'count',
    about: 'Asks to drop unused nodes.',
  }),
] as const;

export type NotificationName = (typeof NOTIFICATION_ROWS)[number]['name'];
export type NotificationRow = NotificationRowOf<NotificationName, StructName>;

/** One row per notification code. */
export const NOTIFICATIONS: readonly NotificationRow[] = NOTIFICATION_ROWS;

// --- ioctls of the device -------------------------------------------------------------------------------------------------

const deviceIoctl = <const Name extends string>(row: DeviceIoctlRowOf<Name, StructName>): DeviceIoctlRowOf<Name, StructName> =>
  row;

const DEVICE_IOCTL_ROWS = [
  deviceIoctl({
    name: 'FUSE_DEV_IOC_CLONE',
    value: 0x8004e500,
    since: 23,
    argument: 'u32',
    about: 'Attaches a freshly opened device to the connection of the descriptor in the word.',
  }),
  deviceIoctl({
    name: 'FUSE_DEV_IOC_BACKING_OPEN',
    value: 0x4010e501,
    since: MINOR_OF.passthroughExists,
    argument: 'fuse_backing_map',
    about: 'Registers a backing file; returns its id.',
  }),
  deviceIoctl({
    name: 'FUSE_DEV_IOC_BACKING_CLOSE',
    value: 0x4004e502,
    since: MINOR_OF.passthroughExists,
    argument: 'u32',
    about: 'Gives back the backing id in the word.',
  }),
  deviceIoctl({
    name: 'FUSE_DEV_IOC_SYNC_INIT',
    value: 0xe503,
    since: MINOR_OF.pruneExists,
    argument: undefined,
    about: 'Makes mount(2) wait for the INIT reply.',
  }),
] as const;

export type DeviceIoctlName = (typeof DEVICE_IOCTL_ROWS)[number]['name'];
export type DeviceIoctlRow = DeviceIoctlRowOf<DeviceIoctlName, StructName>;

/** One row per ioctl(2) of /dev/fuse. */
export const DEVICE_IOCTLS: readonly DeviceIoctlRow[] = DEVICE_IOCTL_ROWS;

// --- INIT flags -----------------------------------------------------------------------------------------------------------

const initFlag = <const Name extends string>(
  name: Name,
  bit: number,
  since: number,
  about: string,
  aliases?: readonly string[],
): InitFlagRowOf<Name> => (aliases === undefined ? { name, bit, since, about } : { name, bit, since, about, aliases });

const INIT_FLAG_ROWS = [
  initFlag('FUSE_ASYNC_READ', 0, 6, 'Several read-ahead READs of a file at a time.'),
  initFlag('FUSE_POSIX_LOCKS', 1, 7, 'fcntl(2) locks are forwarded.'),
  initFlag('FUSE_FILE_OPS', 2, 9, 'Handles may be used where nodes are; Linux never offers it.'),
  initFlag('FUSE_ATOMIC_O_TRUNC', 3, 9, 'O_TRUNC arrives with OPEN instead of a SETATTR before it.'),
  initFlag('FUSE_EXPORT_SUPPORT', 4, 10, 'LOOKUP of "." and ".." works, so that the mount can be exported by NFS.'),
  initFlag('FUSE_BIG_WRITES', 5, 9, 'WRITEs may be longer than a page.'),
  initFlag('FUSE_DONT_MASK', 6, 12, 'The daemon applies the umask.'),
  initFlag('FUSE_SPLICE_WRITE', 7, 14, 'splice(2) to the device works.'),
  initFlag('FUSE_SPLICE_MOVE', 8, 14, 'Pages may be moved to the device.'),
  initFlag('FUSE_SPLICE_READ', 9, 14, 'splice(2) from the device works.'),
  initFlag('FUSE_FLOCK_LOCKS', 10, MINOR_OF.flockHasOwnFlag, 'flock(2) locks are forwarded.'),
  initFlag('FUSE_HAS_IOCTL_DIR', 11, MINOR_OF.ioctlOnDirectoriesExists, 'IOCTL is sent for directories.'),
  initFlag('FUSE_AUTO_INVAL_DATA', 12, 20, 'A changed size or modification time drops cached data.'),
  initFlag('FUSE_DO_READDIRPLUS', 13, MINOR_OF.readdirplusExists, 'READDIRPLUS is sent.'),
  initFlag('FUSE_READDIRPLUS_AUTO', 14, MINOR_OF.readdirplusExists, 'The kernel chooses between READDIRPLUS and READDIR.'),
  initFlag('FUSE_ASYNC_DIO', 15, 22, 'The pieces of a direct read or write are sent without waiting for one another.'),
  initFlag('FUSE_WRITEBACK_CACHE', 16, 23, 'Writes are cached and written back later; the kernel owns size and times.'),
  initFlag('FUSE_NO_OPEN_SUPPORT', 17, 23, 'ENOSYS to OPEN means that no OPEN is needed.'),
  initFlag('FUSE_PARALLEL_DIROPS', 18, 25, 'Lookups and listings of one directory at the same time.'),
  initFlag('FUSE_HANDLE_KILLPRIV', 19, 26, 'The daemon takes away set-id bits and capabilities on write, truncate and chown.'),
  initFlag('FUSE_POSIX_ACL', 20, 26, 'POSIX access control lists are stored and enforced.'),
  initFlag('FUSE_ABORT_ERROR', 21, 27, 'After an abort the device says ECONNABORTED instead of ENODEV.'),
  initFlag('FUSE_MAX_PAGES', 22, MINOR_OF.maxPagesIsNegotiable, "The reply's max_pages counts."),
  initFlag('FUSE_CACHE_SYMLINKS', 23, 28, 'Targets of symbolic links are cached.'),
  initFlag('FUSE_NO_OPENDIR_SUPPORT', 24, 29, 'ENOSYS to OPENDIR means that no OPENDIR is needed.'),
  initFlag('FUSE_EXPLICIT_INVAL_DATA', 25, 30, 'Cached data is dropped only when the daemon says so.'),
  initFlag('FUSE_MAP_ALIGNMENT', 26, 31, "The reply's map_alignment counts."),
  initFlag('FUSE_SUBMOUNTS', 27, 32, 'Attributes can announce a mount point within the filesystem.'),
  initFlag('FUSE_HANDLE_KILLPRIV_V2', 28, 33, 'As FUSE_HANDLE_KILLPRIV, and requests say when it is needed.'),
  initFlag('FUSE_SETXATTR_EXT', 29, MINOR_OF.setxattrMayBeLong, 'SETXATTR has the long head of 16 bytes.'),
  initFlag('FUSE_INIT_EXT', 30, MINOR_OF.initInHasSecondFlags, 'The second word of flags counts.'),
  initFlag('FUSE_INIT_RESERVED', 31, MINOR_OF.initInHasSecondFlags, 'Reserved; never set.'),
  initFlag('FUSE_SECURITY_CTX', 32, 36, 'Creating requests bring the security context.'),
  initFlag('FUSE_HAS_INODE_DAX', 33, 36, 'Attributes choose DAX for each inode.'),
  initFlag('FUSE_CREATE_SUPP_GROUP', 34, 38, 'Creating requests bring the supplementary group that matters.'),
  initFlag('FUSE_HAS_EXPIRE_ONLY', 35, 38, 'Names can be expired without being dropped.'),
  initFlag('FUSE_DIRECT_IO_ALLOW_MMAP', 36, 39, 'Shared mappings of files with FOPEN_DIRECT_IO are allowed.', [
    'FUSE_DIRECT_IO_RELAX',
  ]),
  initFlag('FUSE_PASSTHROUGH', 37, MINOR_OF.passthroughExists, 'Files can be passed through to backing files.'),
  initFlag('FUSE_NO_EXPORT_SUPPORT', 38, 40, 'The mount must not be exported by NFS.'),
  initFlag('FUSE_HAS_RESEND', 39, MINOR_OF.resendExists, 'Unanswered requests can be asked for again.'),
  initFlag('FUSE_ALLOW_IDMAP', 40, 41, 'Mounts may map ids; only creating requests bring them.'),
  initFlag('FUSE_OVER_IO_URING', 41, MINOR_OF.ringExists, 'Requests travel over io_uring.'),
  initFlag('FUSE_REQUEST_TIMEOUT', 42, MINOR_OF.requestTimeoutIsNegotiable, "The reply's request_timeout counts."),
] as const;

/** Names of the INIT flags, kernel spelling. */
export type InitFlag = (typeof INIT_FLAG_ROWS)[number]['name'];
export type InitFlagRow = InitFlagRowOf<InitFlag>;

/** One row per bit of the INIT flags, both words. */
export const INIT_FLAGS: readonly InitFlagRow[] = INIT_FLAG_ROWS;

// --- flag words and other numbers -------------------------------------------------------------------------------------------

const number = (name: string, value: number, since: number, about: string): ConstantRow => ({ name, value, since, about });

/** Every other constant of the header, grouped by the word in which it is used. */
export const CONSTANT_GROUPS: readonly ConstantGroup[] = [
  {
    name: 'protocol',
    kind: 'numbers',
    about: 'Plain numbers of the protocol.',
    rows: [
      number('FUSE_KERNEL_VERSION', PROTOCOL_MAJOR, 1, 'Major version.'),
      number('FUSE_KERNEL_MINOR_VERSION', PROTOCOL_MINOR, 1, 'The newest minor that this table knows.'),
      number('FUSE_ROOT_ID', 1, 1, 'Node id of the root.'),
      number('FUSE_MIN_READ_BUFFER', 8192, 1, 'Smallest buffer with which the device can be read, bytes.'),
      number('FUSE_UNIQUE_RESEND', 2 ** 63, 40, 'Bit 63 of `unique`: the request is sent again.'),
      number('FUSE_UNIQUE_RESEND_HI', 0x8000_0000, 40, "The same bit in `unique_hi`. Not a name of the kernel's."),
      number('FUSE_INVALID_UIDGID', 0xffff_ffff, 41, 'Stands for a uid or gid that is not sent.'),
      number('CUSE_INIT_INFO_MAX', 4096, 11, 'Longest information strings of CUSE_INIT, bytes.'),
    ],
  },
  {
    name: 'setattr_valid',
    kind: 'flags',
    about: 'Which fields of SETATTR count.',
    rows: [
      number('FATTR_MODE', 0x1, 1, 'mode.'),
      number('FATTR_UID', 0x2, 1, 'uid.'),
      number('FATTR_GID', 0x4, 1, 'gid.'),
      number('FATTR_SIZE', 0x8, 1, 'size.'),
      number('FATTR_ATIME', 0x10, 1, 'atime.'),
      number('FATTR_MTIME', 0x20, 1, 'mtime.'),
      number('FATTR_FH', 0x40, 3, 'fh.'),
      number('FATTR_ATIME_NOW', 0x80, MINOR_OF.setattrHasNowBits, 'Last access becomes the present time.'),
      number('FATTR_MTIME_NOW', 0x100, MINOR_OF.setattrHasNowBits, 'Last change of the data becomes the present time.'),
      number('FATTR_LOCKOWNER', 0x200, MINOR_OF.setattrHasNowBits, 'lock_owner.'),
      number('FATTR_CTIME', 0x400, MINOR_OF.setattrHasCtime, 'ctime.'),
      number('FATTR_KILL_SUIDGID', 0x800, 33, 'Take away set-id bits.'),
    ],
  },
  {
    name: 'open_out_flags',
    kind: 'flags',
    about: 'How an opening behaves.',
    rows: [
      number('FOPEN_DIRECT_IO', 0x1, 2, 'Reads and writes bypass the page cache.'),
      number('FOPEN_KEEP_CACHE', 0x2, 2, 'Cached data stays.'),
      number('FOPEN_NONSEEKABLE', 0x4, 10, 'The file cannot seek.'),
      number('FOPEN_CACHE_DIR', 0x8, 28, 'The listing may be cached.'),
      number('FOPEN_STREAM', 0x10, 31, 'The file has no position.'),
      number('FOPEN_NOFLUSH', 0x20, 35, 'No FLUSH on close.'),
      number('FOPEN_PARALLEL_DIRECT_WRITES', 0x40, 38, 'Direct writes of several callers at a time.'),
      number('FOPEN_PASSTHROUGH', 0x80, 40, 'The kernel reads and writes the backing file.'),
    ],
  },
  {
    name: 'cuse_init_flags',
    kind: 'flags',
    about: 'Flags of CUSE_INIT.',
    rows: [number('CUSE_UNRESTRICTED_IOCTL', 0x1, 11, 'ioctls may name any memory of the caller.')],
  },
  {
    name: 'release_flags',
    kind: 'flags',
    about: 'Flags of RELEASE.',
    rows: [
      number('FUSE_RELEASE_FLUSH', 0x1, 8, 'Flush first; Linux never sets it.'),
      number('FUSE_RELEASE_FLOCK_UNLOCK', 0x2, MINOR_OF.flockHasOwnFlag, 'The flock of this handle ends.'),
    ],
  },
  {
    name: 'getattr_flags',
    kind: 'flags',
    about: 'Flags of GETATTR and STATX.',
    rows: [number('FUSE_GETATTR_FH', 0x1, 9, 'fh counts.')],
  },
  {
    name: 'lk_flags',
    kind: 'flags',
    about: 'Flags of lock requests.',
    rows: [number('FUSE_LK_FLOCK', 0x1, 9, 'flock(2) rather than fcntl(2).')],
  },
  {
    name: 'write_flags',
    kind: 'flags',
    about: 'Flags of WRITE.',
    rows: [
      number('FUSE_WRITE_CACHE', 0x1, 9, 'Written back from the page cache; fh is a guess, the caller unknown.'),
      number('FUSE_WRITE_LOCKOWNER', 0x2, 9, 'lock_owner counts.'),
      number('FUSE_WRITE_KILL_SUIDGID', 0x4, 33, 'Take away set-id bits.'),
      number('FUSE_WRITE_KILL_PRIV', 0x4, 31, 'Older name of FUSE_WRITE_KILL_SUIDGID.'),
    ],
  },
  {
    name: 'read_flags',
    kind: 'flags',
    about: 'Flags of READ.',
    rows: [number('FUSE_READ_LOCKOWNER', 0x2, 9, 'lock_owner counts.')],
  },
  {
    name: 'ioctl_flags',
    kind: 'flags',
    about: 'Flags of IOCTL, request and reply.',
    rows: [
      number('FUSE_IOCTL_COMPAT', 0x1, 11, 'A 32-bit caller under a 64-bit kernel.'),
      number('FUSE_IOCTL_UNRESTRICTED', 0x2, 11, 'Any memory of the caller may be named.'),
      number('FUSE_IOCTL_RETRY', 0x4, 11, 'In the reply: come again with these ranges.'),
      number('FUSE_IOCTL_32BIT', 0x8, 16, 'The caller has 32-bit longs.'),
      number('FUSE_IOCTL_DIR', 0x10, 18, 'The file is a directory.'),
      number('FUSE_IOCTL_COMPAT_X32', 0x20, 30, 'An x32 caller, with 64-bit time.'),
    ],
  },
  {
    name: 'ioctl_limits',
    kind: 'numbers',
    about: 'Limits of IOCTL.',
    rows: [number('FUSE_IOCTL_MAX_IOV', 256, 11, 'Most ranges of a retry.')],
  },
  {
    name: 'poll_flags',
    kind: 'flags',
    about: 'Flags of POLL.',
    rows: [number('FUSE_POLL_SCHEDULE_NOTIFY', 0x1, 11, 'A wake-up is wanted.')],
  },
  {
    name: 'fsync_flags',
    kind: 'flags',
    about: 'Flags of FSYNC.',
    rows: [number('FUSE_FSYNC_FDATASYNC', 0x1, 1, 'Only the data.')],
  },
  {
    name: 'attr_flags',
    kind: 'flags',
    about: 'Flags of attributes.',
    rows: [
      number('FUSE_ATTR_SUBMOUNT', 0x1, 32, 'The node is the root of a mount within the filesystem.'),
      number('FUSE_ATTR_DAX', 0x2, 36, 'DAX for this inode.'),
    ],
  },
  {
    name: 'open_in_flags',
    kind: 'flags',
    about: 'Flags of OPEN and CREATE.',
    rows: [number('FUSE_OPEN_KILL_SUIDGID', 0x1, 33, 'Take away set-id bits.')],
  },
  {
    name: 'setxattr_flags',
    kind: 'flags',
    about: 'Flags of SETXATTR.',
    rows: [number('FUSE_SETXATTR_ACL_KILL_SGID', 0x1, 33, 'Take away set-group-id with the new access control list.')],
  },
  {
    name: 'inval_entry_flags',
    kind: 'flags',
    about: 'Flags of the INVAL_ENTRY notification.',
    rows: [number('FUSE_EXPIRE_ONLY', 0x1, 38, 'Look the name up at its next use instead of dropping it.')],
  },
  {
    name: 'setupmapping_flags',
    kind: 'flags',
    about: 'Flags of SETUPMAPPING.',
    rows: [
      number('FUSE_SETUPMAPPING_FLAG_WRITE', 0x1, 31, 'Writable.'),
      number('FUSE_SETUPMAPPING_FLAG_READ', 0x2, 31, 'Readable.'),
    ],
  },
  {
    name: 'compat_sizes',
    kind: 'numbers',
    about: 'Sizes that structs had before they grew.',
    rows: [
      number('FUSE_COMPAT_ENTRY_OUT_SIZE', 120, 9, 'fuse_entry_out before 7.9.'),
      number('FUSE_COMPAT_ATTR_OUT_SIZE', 96, 9, 'fuse_attr_out before 7.9.'),
      number('FUSE_COMPAT_MKNOD_IN_SIZE', 8, 12, 'fuse_mknod_in before 7.12.'),
      number('FUSE_COMPAT_WRITE_IN_SIZE', 24, 9, 'fuse_write_in before 7.9.'),
      number('FUSE_COMPAT_STATFS_SIZE', 48, 4, 'fuse_kstatfs before 7.4.'),
      number('FUSE_COMPAT_SETXATTR_IN_SIZE', 8, 33, 'fuse_setxattr_in without FUSE_SETXATTR_EXT.'),
      number('FUSE_COMPAT_INIT_OUT_SIZE', 8, 5, 'fuse_init_out before 7.5.'),
      number('FUSE_COMPAT_22_INIT_OUT_SIZE', 24, 23, 'fuse_init_out before 7.23.'),
    ],
  },
  {
    name: 'dirent_layout',
    kind: 'numbers',
    about: 'Where names stand in directory records.',
    rows: [
      number('FUSE_NAME_OFFSET', 24, 1, 'In fuse_dirent.'),
      number('FUSE_NAME_OFFSET_DIRENTPLUS', 152, 21, 'In fuse_direntplus.'),
    ],
  },
  {
    name: 'limits',
    kind: 'numbers',
    about: 'Limits.',
    rows: [number('FUSE_REMOVEMAPPING_MAX_ENTRY', 256, 31, 'Most records of REMOVEMAPPING: a page full of them.')],
  },
  {
    name: 'uring_sizes',
    kind: 'numbers',
    about: "Areas of a ring entry's header, bytes.",
    rows: [
      number('FUSE_URING_IN_OUT_HEADER_SZ', 128, MINOR_OF.ringExists, 'The message header.'),
      number('FUSE_URING_OP_IN_OUT_SZ', 128, MINOR_OF.ringExists, "The request's struct."),
    ],
  },
  {
    name: 'dev_ioctl_magic',
    kind: 'numbers',
    about: 'The type byte of the device ioctls.',
    rows: [number('FUSE_DEV_IOC_MAGIC', 0xe5, 23, 'Type byte.')],
  },
  {
    name: 'enum_fuse_ext_type',
    kind: 'values',
    about: 'Types of extension records.',
    rows: [
      number('FUSE_MAX_NR_SECCTX', 31, 38, 'Up to here the word is a count of security contexts.'),
      number('FUSE_EXT_GROUPS', 32, 38, 'Supplementary groups.'),
    ],
  },
  {
    name: 'opcode_reserved',
    kind: 'values',
    about: 'Opcodes kept free because they are INIT in the other byte order.',
    rows: [
      number('CUSE_INIT_BSWAP_RESERVED', 0x100000, 11, 'CUSE_INIT with its bytes swapped.'),
      number('FUSE_INIT_BSWAP_RESERVED', 0x1a000000, 11, 'FUSE_INIT with its bytes swapped.'),
    ],
  },
  {
    name: 'enum_fuse_uring_cmd',
    kind: 'values',
    about: 'Commands of FUSE-over-io_uring.',
    rows: [
      number('FUSE_IO_URING_CMD_INVALID', 0, MINOR_OF.ringExists, 'Never valid.'),
      number('FUSE_IO_URING_CMD_REGISTER', 1, MINOR_OF.ringExists, 'Offers an entry and waits for its first request.'),
      number('FUSE_IO_URING_CMD_COMMIT_AND_FETCH', 2, MINOR_OF.ringExists, "Answers the entry's request and waits for the next."),
    ],
  },
];
