/**
 * From messages to methods and back: for each opcode the operation that decodes its arguments, calls the author's method
 * and encodes the answer. Everything else about a request (who waits, interrupts, answering once) is the session's.
 */
import { OPCODES } from '../protocol/index.ts';
import type { Capabilities, Kernel, Negotiated, Operation, Operations } from '../session/index.ts';
import type { BackingFiles } from './backing.ts';
import { Codec } from './codec.ts';
import { directoryOperations } from './directory.ts';
import { fileOperations } from './file.ts';
import type { Filesystem } from './filesystem.ts';
import type { NodeId } from './identity.ts';
import { assertMethods, methodsOf } from './methods.ts';
import { miscellaneousOperations } from './miscellaneous.ts';
import { namespaceOperations } from './namespace.ts';
import { presetOf } from './presets.ts';
import type { OperationMap } from './settle.ts';

/** What INIT may offer for a filesystem: its methods and what it asks for. */
export function capabilitiesOf(filesystem: Filesystem): Capabilities {
  return {
    methods: methodsOf(filesystem),
    requested: [...(filesystem.settings?.capabilities ?? []), ...presetOf(filesystem).capabilities],
  };
}

/**
 * Makes a filesystem servable by a session. `backing`: where files may be opened by
 * backing files. Throws {@link FilesystemError} when it has methods that nothing calls.
 */
export function operationsOf(filesystem: Filesystem, backing?: BackingFiles): Operations {
  assertMethods(filesystem);
  const codec = new Codec(filesystem, backing);
  const map: OperationMap = {
    ...namespaceOperations(filesystem, codec),
    ...fileOperations(filesystem, codec),
    ...directoryOperations(filesystem, codec),
    ...miscellaneousOperations(filesystem, codec),
  };
  const table: (Operation | undefined)[] = [];
  for (const row of OPCODES) table[row.value] = map[row.name];
  return {
    capabilities: capabilitiesOf(filesystem),
    table,
    encodeName: (name) => codec.encodeName(name),
    start(negotiated: Negotiated, kernel: Kernel) {
      return filesystem.init?.(negotiated, kernel) as void | PromiseLike<void>;
    },
    refused(opcode, nodeid, words) {
      codec.takeBack(opcode, nodeid as NodeId, words);
    },
    end() {
      return filesystem.destroy?.() as void | PromiseLike<void>;
    },
  };
}
