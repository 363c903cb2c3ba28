/** Extended attributes: by the node's link in /proc, which works for every type of file, symbolic links included. */
import { FuseError, type NodeId, type Request, type SetxattrRequest, type XattrRequest } from 'fusewire';
import type { Callers } from './callers.ts';
import { check, type Host } from './host.ts';
import { ENODATA, EOPNOTSUPP } from './linux.ts';
import type { Nodes } from './nodes.ts';

/** XATTR_SIZE_MAX and XATTR_LIST_MAX of <linux/limits.h>. */
const VALUE_BYTES_MAX = 65536;

export class Xattrs {
  readonly #host: Host;
  readonly #nodes: Nodes;
  readonly #callers: Callers;
  readonly #bytes: Uint8Array;

  constructor(host: Host, nodes: Nodes, callers: Callers) {
    this.#host = host;
    this.#nodes = nodes;
    this.#callers = callers;
    this.#bytes = new Uint8Array(host.addon.scratch, 0, VALUE_BYTES_MAX);
  }

  get(node: NodeId, name: string, request: XattrRequest): Uint8Array | number {
    const got = this.#host.addon.getxattr(this.#path(node), name, 0, 0, Math.min(request.size, VALUE_BYTES_MAX));
    // To a host that knows no ACLs, the kernel shall see files without one: the error would deny access to who asks.
    if (got === -EOPNOTSUPP && name.startsWith('system.posix_acl_')) throw FuseError.of(ENODATA);
    const length = check(got);
    return request.size === 0 ? length : this.#bytes.subarray(0, length);
  }

  list(node: NodeId, request: XattrRequest): Uint8Array {
    const length = check(this.#host.addon.listxattr(this.#path(node), 0, 0, VALUE_BYTES_MAX));
    const names = this.#bytes.subarray(0, length);
    return request.uid === 0 ? names : withoutTrusted(names);
  }

  set(node: NodeId, name: string, value: Uint8Array, request: SetxattrRequest): void {
    this.#bytes.set(value);
    const set = () => this.#host.addon.setxattr(this.#path(node), name, 0, 0, value.byteLength, request.flags);
    // An ACL may take the set-group-id bit away from who is not in the file's group. As the caller, the host decides that.
    check(request.aclKillSgid ? this.#callers.run(request, set) : set());
  }

  remove(node: NodeId, name: string, _request: Request): void {
    check(this.#host.addon.removexattr(this.#path(node), name));
  }

  #path(node: NodeId): string {
    return this.#host.path(this.#nodes.fd(node));
  }
}

/**
 * The list without the names of `trusted.*`, which only privileged callers are shown. The host shows them to the daemon,
 * and the kernel passes on whatever the daemon lists.
 */
function withoutTrusted(names: Uint8Array): Uint8Array {
  const list = Buffer.from(names).toString('latin1').split('\0').slice(0, -1);
  const shown = list.filter((name) => !name.startsWith('trusted.'));
  return shown.length === list.length ? names : Buffer.from(shown.map((name) => `${name}\0`).join(''), 'latin1');
}
