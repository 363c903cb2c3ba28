/* The device as plainly as it can be served: one read(2) and one writev(2) a request. */
#include "answer.h"
#include "serve.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#define MESSAGE_BYTES (PAYLOAD_BYTES + 4096)

static void *memory(size_t bytes)
{
  void *address = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (address == MAP_FAILED)
    must(-1, "mmap");
  return address;
}

/* ENOENT: the caller no longer waits. */
static void put(int device, uint64_t unique, struct answer answer, void *room)
{
  size_t bytes = answer.error == 0 ? answer.bytes : 0;
  struct fuse_out_header header = {.len = sizeof header + bytes, .error = answer.error, .unique = unique};
  struct iovec parts[2] = {{&header, sizeof header}, {answer.body == NULL ? room : (void *)answer.body, bytes}};
  if (writev(device, parts, 2) < 0 && errno != ENOENT && errno != ENODEV)
    must(-1, "writev to /dev/fuse");
}

void serve_device(int device)
{
  char *message = memory(MESSAGE_BYTES);
  void *room = memory(PAYLOAD_BYTES);
  for (;;) {
    ssize_t got = read(device, message, MESSAGE_BYTES);
    if (got < 0) {
      if (errno == ENODEV)
        return;
      if (errno == EINTR || errno == EAGAIN || errno == ENOENT)
        continue;
      must(-1, "read from /dev/fuse");
    }
    const struct fuse_in_header *header = (const void *)message;
    const char *fixed = (const char *)(header + 1);
    const char *tail = header->opcode == FUSE_WRITE ? fixed + sizeof(struct fuse_write_in) : fixed;
    struct answer reply = answer((struct request){.header = header, .fixed = fixed, .tail = tail, .room = room});
    if (reply.error != NO_ANSWER)
      put(device, header->unique, reply, room);
  }
}
