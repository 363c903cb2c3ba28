/** A block server over TCP: one file in memory, ranges of it on request. Its argument is the file's bytes; it prints its port. */
import { type AddressInfo, createServer } from 'node:net';
import { Frames, HEAD_BYTES, RANGE_BYTES, type ServerCounts } from './wire.ts';

const bytes = Number(process.argv[2]);
const file = Buffer.allocUnsafe(bytes);
for (let word = 0; word < bytes >> 2; word++) file.writeUInt32LE((word * 2654435761) >>> 0, word * 4);
const counts: ServerCounts = { operations: 0, ranges: 0, bytes: 0 };

const server = createServer({ noDelay: true }, (socket) => {
  socket.on('error', () => {});
  const frames = new Frames(
    (head) => head.readUInt32LE(4) * RANGE_BYTES,
    (head, body) => {
      const ranges = body.length === 1 ? body[0] : Buffer.concat(body);
      const parts: Buffer[] = [];
      let total = 0;
      for (let at = 0; at < ranges.length; at += RANGE_BYTES) {
        const offset = ranges.readDoubleLE(at);
        const part = file.subarray(offset, offset + ranges.readUInt32LE(at + 8));
        parts.push(part);
        total += part.length;
      }
      if (parts.length === 0) {
        parts.push(Buffer.from(JSON.stringify(counts)));
        total = parts[0].length;
      } else {
        counts.operations++;
        counts.ranges += parts.length;
        counts.bytes += total;
      }
      const answer = Buffer.allocUnsafe(HEAD_BYTES);
      answer.writeUInt32LE(head.readUInt32LE(0), 0);
      answer.writeUInt32LE(total, 4);
      socket.cork();
      socket.write(answer);
      for (const part of parts) socket.write(part);
      socket.uncork();
    },
  );
  socket.on('data', (chunk: Buffer) => frames.push(chunk));
});
server.listen(0, '127.0.0.1', () => process.stdout.write(`${(server.address() as AddressInfo).port}\n`));
