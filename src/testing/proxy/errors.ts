/** A setting of the latency proxy that is out of its range. `code` is stable. */
export class ProxyError extends Error {
  override readonly name = 'ProxyError';
  readonly code = 'ERR_FUSEWIRE_PROXY_OPTION';
}
