/** An sftp server on a port, without ssh around it: what `sshfs -o directport` speaks to. Its argument is the program; it prints its port. */
import { spawn } from 'node:child_process';
import { type AddressInfo, createServer } from 'node:net';

const server = createServer({ noDelay: true, pauseOnConnect: true }, (socket) => {
  const child = spawn(process.argv[2], [], { stdio: [socket, socket, 'ignore'] });
  child.on('exit', () => socket.destroy());
  // The server has the connection now; this process must not read from it.
  socket.unref();
});
server.listen(0, '127.0.0.1', () => process.stdout.write(`${(server.address() as AddressInfo).port}\n`));
