/**
 * What the protocol's minor version decides. Each number stands here once; the struct table takes its steps from it, and
 * code asks the predicate that is named for what it needs.
 */

/** The minor version with which each feature came. */
export const MINOR_OF = {
  statfsHasFragmentSize: 4,
  initOutHasLimits: 5,
  initInHasFlags: 6,
  flushHasLockOwner: 7,
  interruptsExist: 7,
  releaseHasLockOwner: 8,
  attrHasBlksize: 9,
  getattrHasBody: 9,
  readWriteHaveLockOwner: 9,
  lockHasFlags: 9,
  setattrHasNowBits: 9,
  notificationsExist: 11,
  createHasUmask: 12,
  maxBackgroundIsHonoured: 13,
  batchForgetExists: 16,
  ioctlIovecIsFixed: 16,
  flockHasOwnFlag: 17,
  ioctlOnDirectoriesExists: 18,
  readdirplusExists: 21,
  pollHasEvents: 21,
  initOutIsLong: 23,
  setattrHasCtime: 23,
  rename2Exists: 23,
  maxPagesIsNegotiable: 28,
  attrHasFlags: 32,
  setxattrMayBeLong: 33,
  initInHasSecondFlags: 36,
  headerHasExtensionLength: 38,
  statxExists: 39,
  passthroughExists: 40,
  resendExists: 40,
  ringExists: 42,
  requestTimeoutIsNegotiable: 43,
  copyFileRange64Exists: 45,
  pruneExists: 45,
} as const;

/** Whether STATFS replies carry `frsize` and are 80 bytes long (else 48). */
export const statfsHasFragmentSize = (minor: number): boolean => minor >= MINOR_OF.statfsHasFragmentSize;
/** Whether the INIT reply has room for flags and max_write (24 bytes; before: 8). */
export const initOutHasLimits = (minor: number): boolean => minor >= MINOR_OF.initOutHasLimits;
/** Whether INIT carries flags and max_readahead, and the kernel heeds them in the reply. */
export const initInHasFlags = (minor: number): boolean => minor >= MINOR_OF.initInHasFlags;
/** Whether FLUSH names the owner of the POSIX locks to drop. */
export const flushHasLockOwner = (minor: number): boolean => minor >= MINOR_OF.flushHasLockOwner;
/** Whether the kernel sends INTERRUPT. */
export const interruptsExist = (minor: number): boolean => minor >= MINOR_OF.interruptsExist;
/** Whether RELEASE carries release flags and a lock owner. */
export const releaseHasLockOwner = (minor: number): boolean => minor >= MINOR_OF.releaseHasLockOwner;
/** Whether attributes end with `blksize` and `flags` (88 bytes; before: 80), in every reply that holds them. */
export const attrHasBlksize = (minor: number): boolean => minor >= MINOR_OF.attrHasBlksize;
/** Whether a kernel of that minor sends a body with GETATTR. */
export const getattrHasBody = (minor: number): boolean => minor >= MINOR_OF.getattrHasBody;
/** Whether READ and WRITE carry the lock owner and the file's open flags; decides the length of the WRITE request's head. */
export const readWriteHaveLockOwner = (minor: number): boolean => minor >= MINOR_OF.readWriteHaveLockOwner;
/** Whether lock requests tell flock(2) from fcntl(2). */
export const lockHasFlags = (minor: number): boolean => minor >= MINOR_OF.lockHasFlags;
/** Whether SETATTR can ask for the present time (FATTR_ATIME_NOW, FATTR_MTIME_NOW). */
export const setattrHasNowBits = (minor: number): boolean => minor >= MINOR_OF.setattrHasNowBits;
/** Whether the daemon may write notifications. */
export const notificationsExist = (minor: number): boolean => minor >= MINOR_OF.notificationsExist;
/** Whether MKNOD and CREATE carry the umask (16 bytes; before: 8), and MKDIR fills its second word. */
export const createHasUmask = (minor: number): boolean => minor >= MINOR_OF.createHasUmask;
/** Whether the kernel heeds max_background and congestion_threshold. */
export const maxBackgroundIsHonoured = (minor: number): boolean => minor >= MINOR_OF.maxBackgroundIsHonoured;
/** Whether FORGETs come in batches. */
export const batchForgetExists = (minor: number): boolean => minor >= MINOR_OF.batchForgetExists;
/** Whether ioctl retry vectors have the same layout for every caller. */
export const ioctlIovecIsFixed = (minor: number): boolean => minor >= MINOR_OF.ioctlIovecIsFixed;
/** Whether flock(2) is forwarded by its own INIT flag; before, FUSE_POSIX_LOCKS decided both. */
export const flockHasOwnFlag = (minor: number): boolean => minor >= MINOR_OF.flockHasOwnFlag;
/** Whether IOCTL is sent for directories. */
export const ioctlOnDirectoriesExists = (minor: number): boolean => minor >= MINOR_OF.ioctlOnDirectoriesExists;
/** Whether READDIRPLUS exists. */
export const readdirplusExists = (minor: number): boolean => minor >= MINOR_OF.readdirplusExists;
/** Whether POLL names the wanted events. */
export const pollHasEvents = (minor: number): boolean => minor >= MINOR_OF.pollHasEvents;
/** Whether the INIT reply is 64 bytes long (24 before). */
export const initOutIsLong = (minor: number): boolean => minor >= MINOR_OF.initOutIsLong;
/** Whether SETATTR can carry the change time. */
export const setattrHasCtime = (minor: number): boolean => minor >= MINOR_OF.setattrHasCtime;
/** Whether RENAME2 is sent. */
export const rename2Exists = (minor: number): boolean => minor >= MINOR_OF.rename2Exists;
/** Whether more than 32 pages a request can be agreed on. */
export const maxPagesIsNegotiable = (minor: number): boolean => minor >= MINOR_OF.maxPagesIsNegotiable;
/** Whether the last word of the attributes means flags. */
export const attrHasFlags = (minor: number): boolean => minor >= MINOR_OF.attrHasFlags;
/** Whether FUSE_SETXATTR_EXT can be agreed on, which makes the SETXATTR head 16 bytes long instead of 8. */
export const setxattrMayBeLong = (minor: number): boolean => minor >= MINOR_OF.setxattrMayBeLong;
/** Whether INIT has a second word of flags. */
export const initInHasSecondFlags = (minor: number): boolean => minor >= MINOR_OF.initInHasSecondFlags;
/** Whether the request header says how long the extension area is. */
export const headerHasExtensionLength = (minor: number): boolean => minor >= MINOR_OF.headerHasExtensionLength;
/** Whether STATX is sent. */
export const statxExists = (minor: number): boolean => minor >= MINOR_OF.statxExists;
/** Whether files can be passed through to backing files. */
export const passthroughExists = (minor: number): boolean => minor >= MINOR_OF.passthroughExists;
/** Whether requests can be asked for again after a restart. */
export const resendExists = (minor: number): boolean => minor >= MINOR_OF.resendExists;
/** Whether FUSE-over-io_uring exists. */
export const ringExists = (minor: number): boolean => minor >= MINOR_OF.ringExists;
/** Whether the daemon can set a request timeout. */
export const requestTimeoutIsNegotiable = (minor: number): boolean => minor >= MINOR_OF.requestTimeoutIsNegotiable;
/** Whether COPY_FILE_RANGE_64 is tried before COPY_FILE_RANGE. */
export const copyFileRange64Exists = (minor: number): boolean => minor >= MINOR_OF.copyFileRange64Exists;
/** Whether the daemon can ask for unused inodes to be dropped. */
export const pruneExists = (minor: number): boolean => minor >= MINOR_OF.pruneExists;
