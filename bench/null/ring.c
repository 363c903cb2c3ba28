/* FUSE-over-io_uring as plainly as it can be served: one io_uring_enter(2) for all answers that are ready and all requests
 * that wait. */
#define _GNU_SOURCE
#include "answer.h"
#include "serve.h"
#include <errno.h>
#include <linux/io_uring.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define COMMAND_REGISTER 1
#define COMMAND_COMMIT_AND_FETCH 2
#define HEADER_BYTES 4096
#define FIXED_AT 128
#define STATE_AT 256

/* fuse_uring_ent_in_out and fuse_uring_cmd_req, which older headers lack. */
struct entry_state {
  uint64_t flags, commit_id;
  uint32_t payload_bytes, padding;
  uint64_t reserved;
};

struct command {
  uint64_t flags, commit_id;
  uint16_t queue;
  uint8_t padding[6];
};

struct entry {
  struct iovec buffers[2];
  unsigned queue;
};

struct ring {
  int fd, device;
  unsigned *sq_tail, *cq_head, *cq_tail, sq_mask, cq_mask, *sq_array;
  char *submissions;
  struct io_uring_cqe *completions;
  struct entry *entries;
  unsigned ready;
};

static void *map(int fd, off_t offset, size_t bytes)
{
  int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
  void *address = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags | MAP_POPULATE, fd, offset);
  if (address == MAP_FAILED)
    must(-1, "mmap of a ring");
  return address;
}

static struct ring open_ring(int device, unsigned entries)
{
  struct io_uring_params params = {.flags = IORING_SETUP_SQE128 | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN};
  struct ring ring = {.device = device};
  ring.fd = must(syscall(SYS_io_uring_setup, entries, &params), "io_uring_setup");
  size_t sq_bytes = params.sq_off.array + params.sq_entries * sizeof(unsigned);
  size_t cq_bytes = params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe);
  char *sq = map(ring.fd, IORING_OFF_SQ_RING, sq_bytes);
  char *cq = map(ring.fd, IORING_OFF_CQ_RING, cq_bytes);
  ring.sq_tail = (unsigned *)(sq + params.sq_off.tail);
  ring.sq_mask = *(unsigned *)(sq + params.sq_off.ring_mask);
  ring.sq_array = (unsigned *)(sq + params.sq_off.array);
  ring.cq_head = (unsigned *)(cq + params.cq_off.head);
  ring.cq_tail = (unsigned *)(cq + params.cq_off.tail);
  ring.cq_mask = *(unsigned *)(cq + params.cq_off.ring_mask);
  ring.completions = (struct io_uring_cqe *)(cq + params.cq_off.cqes);
  ring.submissions = map(ring.fd, IORING_OFF_SQES, (size_t)params.sq_entries * 128);
  return ring;
}

/* Puts a command into the submission queue; the next io_uring_enter takes it along. */
static void push(struct ring *ring, unsigned index, unsigned operation, uint64_t commit_id)
{
  struct entry *entry = &ring->entries[index];
  unsigned tail = *ring->sq_tail;
  unsigned slot = tail & ring->sq_mask;
  struct io_uring_sqe *submission = (void *)(ring->submissions + (size_t)slot * 128);
  struct command command = {.commit_id = commit_id, .queue = entry->queue};
  memset(submission, 0, 128);
  submission->opcode = IORING_OP_URING_CMD;
  submission->fd = ring->device;
  submission->cmd_op = operation;
  submission->user_data = index;
  if (operation == COMMAND_REGISTER) {
    submission->addr = (uintptr_t)entry->buffers;
    submission->len = 2;
  }
  memcpy((char *)submission + 48, &command, sizeof command);
  ring->sq_array[slot] = slot;
  __atomic_store_n(ring->sq_tail, tail + 1, __ATOMIC_RELEASE);
  ring->ready++;
}

/* The request in an entry's buffers is replaced by its answer. What needs none is committed all the same, which frees the entry. */
static void serve(struct ring *ring, unsigned index)
{
  struct entry *entry = &ring->entries[index];
  char *headers = entry->buffers[0].iov_base;
  char *payload = entry->buffers[1].iov_base;
  struct entry_state *state = (void *)(headers + STATE_AT);
  const struct fuse_in_header *in = (const void *)headers;
  uint64_t unique = in->unique;
  struct request request = {.header = in, .fixed = headers + FIXED_AT, .tail = payload, .room = payload};
  struct answer reply = answer(request);
  int error = reply.error == NO_ANSWER ? 0 : reply.error;
  size_t bytes = reply.error == 0 ? reply.bytes : 0;
  if (reply.body != NULL)
    memcpy(payload, reply.body, bytes);
  struct fuse_out_header out = {.len = sizeof out + bytes, .error = error, .unique = unique};
  memcpy(headers, &out, sizeof out);
  state->payload_bytes = bytes;
  push(ring, index, COMMAND_COMMIT_AND_FETCH, state->commit_id);
}

static void register_entries(struct ring *ring, unsigned first, unsigned step, unsigned queues, unsigned depth)
{
  unsigned index = 0;
  for (unsigned queue = first; queue < queues; queue += step) {
    for (unsigned i = 0; i < depth; i++, index++) {
      struct entry *entry = &ring->entries[index];
      entry->queue = queue;
      entry->buffers[0] = (struct iovec){map(-1, 0, HEADER_BYTES), HEADER_BYTES};
      entry->buffers[1] = (struct iovec){map(-1, 0, PAYLOAD_BYTES), PAYLOAD_BYTES};
      push(ring, index, COMMAND_REGISTER, 0);
    }
  }
}

/* Whether the ring goes on. */
static int drain(struct ring *ring)
{
  unsigned head = *ring->cq_head;
  unsigned tail = __atomic_load_n(ring->cq_tail, __ATOMIC_ACQUIRE);
  for (; head != tail; head++) {
    struct io_uring_cqe *completion = &ring->completions[head & ring->cq_mask];
    if (completion->res == -ENOTCONN || completion->res == -ECONNABORTED)
      return 0;
    if (completion->res != 0) {
      errno = -completion->res;
      must(-1, "a command of FUSE-over-io_uring");
    }
    serve(ring, completion->user_data);
  }
  __atomic_store_n(ring->cq_head, head, __ATOMIC_RELEASE);
  return 1;
}

void serve_ring(int device, unsigned first, unsigned step, unsigned queues, unsigned depth)
{
  unsigned mine = (queues - first + step - 1) / step;
  struct ring ring = open_ring(device, mine * depth);
  ring.entries = calloc(mine * depth, sizeof *ring.entries);
  register_entries(&ring, first, step, queues, depth);
  do {
    long taken = syscall(SYS_io_uring_enter, ring.fd, ring.ready, 1, IORING_ENTER_GETEVENTS, NULL, 0);
    if (taken >= 0)
      ring.ready -= taken;
    else if (errno != EINTR)
      must(-1, "io_uring_enter");
  } while (drain(&ring));
}
