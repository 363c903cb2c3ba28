declare const nodeIdBrand: unique symbol;
declare const fileHandleBrand: unique symbol;

/** The filesystem's identity of a file in the protocol: 1 is the root, 0 means none. Not the inode number that stat shows. */
export type NodeId = number & { readonly [nodeIdBrand]: true };

/** The filesystem's identity of one opening of a file or directory. */
export type FileHandle = number & { readonly [fileHandleBrand]: true };

/** FUSE_ROOT_ID of `<linux/fuse.h>`. */
export const ROOT_NODE = 1 as NodeId;

/** Makes a node id of a number of yours. Throws a RangeError outside 1 to 2^53-1. */
export function nodeId(value: number): NodeId {
  if (!Number.isSafeInteger(value) || value < 1) throw new RangeError(`a node id is an integer from 1 to 2^53-1, not ${value}`);
  return value as NodeId;
}

/** Makes a file handle of a number of yours. Throws a RangeError outside 0 to 2^53-1. */
export function fileHandle(value: number): FileHandle {
  if (!Number.isSafeInteger(value) || value < 0)
    throw new RangeError(`a file handle is an integer from 0 to 2^53-1, not ${value}`);
  return value as FileHandle;
}
