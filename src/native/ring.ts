/** A ring as native code shares it. Entry `n` has {@link Ring.arena} from `n` times its share on: a page of headers, then its payload. */
export interface Ring {
  readonly id: number;
  readonly arena: ArrayBuffer;
  /**
   * Rows of three words. A request: entry, bytes of the whole message, and how many bytes of its first argument lie before the
   * payload, or -1 for a message without a payload, which lies at byte 1,024 of the header page. Else -1 and a mask: the
   * device has something; -2, -errno, entry: an entry ended.
   */
  readonly news: Int32Array;
  /** Rows of two words: entry, and bytes of the reply, whose header stands 16 bytes before the payload. */
  readonly commits: Int32Array;
}
