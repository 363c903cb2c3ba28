/** The compact format, for those who read or write it themselves; docs/TRACES.md describes it. */
export {
  BLOCK_HEAD_BYTES,
  BLOCK_MAGIC_BYTES,
  type BlockHead,
  decodeBlock,
  FILE_HEAD_BYTES,
  FILE_MAGIC,
  FILE_VERSION,
  type FileHead,
  fileHead,
  parseBlockHead,
  parseFileHead,
} from '../transport/record-format.ts';
