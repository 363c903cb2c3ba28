/*
 * Rings: FUSE-over-io_uring. A ring belongs to one thread, has entries on every queue of the connection, and also watches
 * the device, because some messages never leave it (INIT, FORGET, INTERRUPT). The layout of the commands is that of
 * `struct fuse_uring_cmd_req` and `struct fuse_uring_req_header` of <linux/fuse.h>; what the messages mean stays unknown here.
 *
 * An entry's memory in the arena: a page for headers, then its payload. The kernel scatters a request over three places
 * (header, first argument, the rest); `gather` makes one message of them, right before the payload where there is one, so
 * that the payload is never copied. A reply stands from 16 bytes before the payload on.
 */
#include "wake.h"

#include <limits.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#ifndef IORING_SETUP_NO_SQARRAY
#define IORING_SETUP_NO_SQARRAY (1U << 16)
#endif

/* Values of the kernel's interface that Debian 12's headers do not have yet. */
enum {
  OP_URING_CMD = 46,
  COMMAND_REGISTER = 1,
  COMMAND_COMMIT_AND_FETCH = 2,
  SETUP_SINGLE_ISSUER = 1 << 12,
  SETUP_DEFER_TASKRUN = 1 << 13,
};

enum {
  HEADER_PAGE = 4096,
  PLAIN_AT = 1024,        /* in the header page: requests without a payload */
  ARGUMENT_AT = 128,      /* in the kernel's header: the first argument */
  COMMIT_ID_AT = 264,     /* in the kernel's header */
  PAYLOAD_BYTES_AT = 272, /* in the kernel's header */
  KERNEL_HEADER_BYTES = 288,
  IN_HEADER = 40,
  OUT_HEADER = 16,
  ARGUMENT_MAX = 128,
  ENTRIES_MAX = 16384,
  NEWS_WORDS = 3,
};

/* First word of a row of news that is no request. */
enum { NEWS_DEVICE = -1, NEWS_ENTRY_FAILED = -2 };

#define POLL_TAG UINT64_MAX

struct entry {
  uint64_t commit_id;
  uint16_t queue;
  bool held; /* its request was delivered and not answered */
};

/*
 * The memory of a ring's entries, and what is in them. It outlives a thread that dies: the kernel keeps the addresses of the
 * requests that the thread had, and the thread that takes its place answers them.
 */
struct arena {
  struct arena *next; /* among the orphans */
  int64_t key;
  uint8_t *at;
  size_t bytes;
  unsigned entry_count;
  size_t payload_bytes;
  _Atomic int users; /* the ring, or the list of orphans, and each ArrayBuffer */
  struct entry entries[];
};

static pthread_mutex_t orphans_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct arena *orphans;
static _Atomic int64_t last_key;

struct ring {
  struct environment *self;
  struct ring *next;
  int id;
  int fd;
  int bell; /* an eventfd, or -1 */
  bool bell_rings;
  unsigned entry_count;
  size_t payload_bytes;
  size_t stride;
  struct arena *arena;
  bool started;
  bool woken; /* a wake that came together with messages */
  void *rings;
  size_t rings_bytes;
  uint8_t *sqes;
  size_t sqes_bytes;
  _Atomic unsigned *sq_head, *sq_tail;
  unsigned sq_mask, tail, submitted;
  _Atomic unsigned *cq_head, *cq_tail;
  unsigned cq_mask;
  struct io_uring_cqe *cqes;
  napi_ref news_buffer, commits_buffer;
  int news_rows;
  int32_t *news;    /* rows of entry, bytes, bytes of the first argument or -1 */
  int32_t *commits; /* rows of entry, bytes of the reply */
};

static uint8_t *header_of(struct ring *ring, unsigned entry) { return ring->arena->at + entry * ring->stride; }

static uint8_t *payload_of(struct ring *ring, unsigned entry) { return header_of(ring, entry) + HEADER_PAGE; }

/* --- submission ------------------------------------------------------------------------------------------------------ */

/* There is one slot for each entry and one for the poll, and none of them has two submissions at a time: never full. */
static struct io_uring_sqe *next_sqe(struct ring *ring) {
  struct io_uring_sqe *sqe = (struct io_uring_sqe *)(ring->sqes + (size_t)(ring->tail & ring->sq_mask) * 128);
  memset(sqe, 0, 128);
  ring->tail++;
  return sqe;
}

static void put_command(struct ring *ring, unsigned index, uint32_t command) {
  struct io_uring_sqe *sqe = next_sqe(ring);
  struct entry *entry = &ring->arena->entries[index];
  uint8_t *area = (uint8_t *)sqe + 48;
  sqe->opcode = OP_URING_CMD;
  sqe->flags = IOSQE_FIXED_FILE;
  sqe->fd = 0;
  memcpy((uint8_t *)sqe + 8, &command, sizeof command);
  sqe->user_data = index;
  memcpy(area + 8, &entry->commit_id, sizeof entry->commit_id);
  memcpy(area + 16, &entry->queue, sizeof entry->queue);
}

static void put_register(struct ring *ring, unsigned index, struct iovec *vector) {
  vector[0] = (struct iovec){.iov_base = header_of(ring, index), .iov_len = KERNEL_HEADER_BYTES};
  vector[1] = (struct iovec){.iov_base = payload_of(ring, index), .iov_len = ring->payload_bytes};
  struct io_uring_sqe *sqe = (struct io_uring_sqe *)(ring->sqes + (size_t)(ring->tail & ring->sq_mask) * 128);
  put_command(ring, index, COMMAND_REGISTER);
  sqe->addr = (uintptr_t)vector;
  sqe->len = 2;
}

static void put_commit(struct ring *ring, unsigned index, uint32_t bytes) {
  uint8_t *header = header_of(ring, index);
  uint32_t body = bytes - OUT_HEADER;
  memcpy(header, payload_of(ring, index) - OUT_HEADER, OUT_HEADER);
  memcpy(header + PAYLOAD_BYTES_AT, &body, sizeof body);
  ring->arena->entries[index].held = false;
  put_command(ring, index, COMMAND_COMMIT_AND_FETCH);
}

/* The answer to what a thread left behind when it died: as if its descriptor had been closed. */
static void put_abandoned(struct ring *ring, unsigned index) {
  int32_t error = -ECONNABORTED;
  uint32_t bytes = OUT_HEADER;
  uint8_t *reply = payload_of(ring, index) - OUT_HEADER;
  memcpy(reply, &bytes, sizeof bytes);
  memcpy(reply + 4, &error, sizeof error);
  memcpy(reply + 8, &ring->arena->entries[index].commit_id, sizeof(uint64_t));
  put_commit(ring, index, bytes);
}

/* Exclusive, because a message on the device needs one reader. */
static void put_poll(struct ring *ring) {
  struct io_uring_sqe *sqe = next_sqe(ring);
  sqe->opcode = IORING_OP_POLL_ADD;
  sqe->flags = IOSQE_FIXED_FILE;
  sqe->fd = 0;
  sqe->len = IORING_POLL_ADD_MULTI;
  sqe->poll32_events = POLLIN | EPOLLEXCLUSIVE;
  sqe->user_data = POLL_TAG;
}

static int64_t enter_ring(struct ring *ring, bool wait) {
  atomic_store_explicit(ring->sq_tail, ring->tail, memory_order_release);
  unsigned count = ring->tail - ring->submitted;
  int64_t status = STATUS(syscall(SYS_io_uring_enter, ring->fd, count, wait ? 1 : 0, IORING_ENTER_GETEVENTS, NULL, 0));
  if (status > 0) ring->submitted += (unsigned)status;
  return status;
}

/* --- completion ------------------------------------------------------------------------------------------------------ */

static void hold(struct ring *ring, unsigned index) {
  struct entry *entry = &ring->arena->entries[index];
  memcpy(&entry->commit_id, header_of(ring, index) + COMMIT_ID_AT, sizeof entry->commit_id);
  entry->held = true;
}

/* One message of the three places where the kernel left it. */
static void gather(struct ring *ring, unsigned index, int32_t *row) {
  uint8_t *header = header_of(ring, index);
  uint8_t *payload = payload_of(ring, index);
  uint32_t bytes, payload_bytes;
  memcpy(&bytes, header, sizeof bytes);
  memcpy(&payload_bytes, header + PAYLOAD_BYTES_AT, sizeof payload_bytes);
  hold(ring, index);
  uint32_t argument = bytes - IN_HEADER - payload_bytes;
  if (payload_bytes > ring->payload_bytes || argument > ARGUMENT_MAX) argument = payload_bytes = 0;
  bool plain = payload_bytes == 0;
  uint8_t *to = plain ? header + PLAIN_AT : payload - argument - IN_HEADER;
  memcpy(to, header, IN_HEADER);
  memcpy(to + IN_HEADER, header + ARGUMENT_AT, argument);
  row[0] = (int32_t)index;
  row[1] = (int32_t)(IN_HEADER + argument + payload_bytes);
  row[2] = plain ? -1 : (int32_t)argument;
}

static bool cq_is_empty(struct ring *ring) {
  return atomic_load_explicit(ring->cq_head, memory_order_relaxed) == atomic_load_explicit(ring->cq_tail, memory_order_acquire);
}

/* Takes completions over into rows of news; returns how many rows. */
static int take_completions(struct ring *ring) {
  unsigned head = atomic_load_explicit(ring->cq_head, memory_order_relaxed);
  unsigned tail = atomic_load_explicit(ring->cq_tail, memory_order_acquire);
  int count = 0;
  for (; head != tail && count < ring->news_rows; head++) {
    struct io_uring_cqe *cqe = &ring->cqes[head & ring->cq_mask];
    int32_t *row = ring->news + (size_t)count * NEWS_WORDS;
    if (cqe->user_data == POLL_TAG) {
      if (!(cqe->flags & IORING_CQE_F_MORE)) put_poll(ring);
      row[0] = NEWS_DEVICE;
      row[1] = cqe->res;
      count++;
    } else if (cqe->res == 0) {
      gather(ring, (unsigned)cqe->user_data, row);
      count++;
    } else if (cqe->res == -EAGAIN || cqe->res == -EINTR) {
      put_command(ring, (unsigned)cqe->user_data, COMMAND_COMMIT_AND_FETCH);
    } else {
      row[0] = NEWS_ENTRY_FAILED;
      row[1] = cqe->res;
      row[2] = (int32_t)cqe->user_data;
      count++;
    }
  }
  atomic_store_explicit(ring->cq_head, head, memory_order_release);
  return count;
}

/*
 * Submits what is put, and waits where asked until there is news or another thread wakes this one. The rules of waking are
 * those of receive_message: a wake is used up only by -EINTR, and only a wake gives -EINTR.
 */
static int64_t turn_ring(struct ring *ring, bool wait) {
  struct blockable *thread = &ring->self->blockable;
  for (;;) {
    bool sleeps = wait && !ring->woken && cq_is_empty(ring);
    if (sleeps && !enter_sleep(thread)) {
      ring->woken = true;
      sleeps = false;
    }
    int64_t status = enter_ring(ring, sleeps);
    if (sleeps) leave_sleep(thread);
    int count = take_completions(ring);
    if (count > 0) return count;
    if (ring->woken || (status == -EINTR && consume_wake(thread))) {
      ring->woken = false;
      return -EINTR;
    }
    if (status < 0 && status != -EINTR && status != -EAGAIN && status != -EBUSY) return status;
    if (!wait) return 0;
  }
}

/* --- beginning and end ----------------------------------------------------------------------------------------------- */

static void unmap_ring(struct ring *ring) {
  if (ring->sqes != NULL) munmap(ring->sqes, ring->sqes_bytes);
  if (ring->rings != NULL) munmap(ring->rings, ring->rings_bytes);
  if (ring->bell >= 0) close(ring->bell);
  if (ring->fd >= 0) close(ring->fd);
}

static void leave_arena(struct arena *arena) {
  if (atomic_fetch_sub(&arena->users, 1) > 1) return;
  munmap(arena->at, arena->bytes);
  free(arena);
}

static void end_ring(struct ring *ring) {
  for (struct ring **link = &ring->self->rings; *link != NULL; link = &(*link)->next) {
    if (*link != ring) continue;
    *link = ring->next;
    break;
  }
  unmap_ring(ring);
  if (ring->news_buffer != NULL) napi_delete_reference(ring->self->env, ring->news_buffer);
  if (ring->commits_buffer != NULL) napi_delete_reference(ring->self->env, ring->commits_buffer);
  if (ring->arena != NULL) leave_arena(ring->arena);
  free(ring);
}

/* What was delivered and not yet taken counts as held. With deferred task work nothing arrives any more after this. */
static void orphan_arena(struct ring *ring) {
  struct arena *arena = ring->arena;
  unsigned tail = atomic_load_explicit(ring->cq_tail, memory_order_acquire);
  for (unsigned head = atomic_load_explicit(ring->cq_head, memory_order_relaxed); head != tail; head++) {
    struct io_uring_cqe *cqe = &ring->cqes[head & ring->cq_mask];
    if (cqe->user_data != POLL_TAG && cqe->res == 0) hold(ring, (unsigned)cqe->user_data);
  }
  atomic_fetch_add(&arena->users, 1);
  pthread_mutex_lock(&orphans_mutex);
  arena->next = orphans;
  orphans = arena;
  pthread_mutex_unlock(&orphans_mutex);
}

/* The thread ends without having closed its rings. */
void rings_end(struct environment *self) {
  while (self->rings != NULL) {
    if (self->rings->started) orphan_arena(self->rings);
    end_ring(self->rings);
  }
}

static struct arena *take_orphan(int64_t key) {
  pthread_mutex_lock(&orphans_mutex);
  struct arena **link = &orphans;
  while (*link != NULL && (*link)->key != key) link = &(*link)->next;
  struct arena *arena = *link;
  if (arena != NULL) *link = arena->next;
  pthread_mutex_unlock(&orphans_mutex);
  return arena;
}

static void *map_part(int fd, size_t bytes, off_t offset) {
  void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, offset);
  /* A forked child that never execs would keep the ring, and through it the connection, alive. */
  if (at != MAP_FAILED) madvise(at, bytes, MADV_DONTFORK);
  return at == MAP_FAILED ? NULL : at;
}

static int64_t open_ring(struct ring *ring, int device) {
  struct io_uring_params params = {
    .flags = IORING_SETUP_SQE128 | IORING_SETUP_NO_SQARRAY | SETUP_SINGLE_ISSUER | SETUP_DEFER_TASKRUN,
  };
  ring->fd = (int)STATUS(syscall(SYS_io_uring_setup, ring->entry_count + 1, &params));
  if (ring->fd < 0) return ring->fd;
  if (!(params.features & IORING_FEAT_SINGLE_MMAP)) return -EOPNOTSUPP;
  size_t cq_bytes = params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe);
  ring->rings_bytes = cq_bytes;
  ring->sqes_bytes = (size_t)params.sq_entries * 128;
  ring->rings = map_part(ring->fd, ring->rings_bytes, IORING_OFF_SQ_RING);
  ring->sqes = map_part(ring->fd, ring->sqes_bytes, IORING_OFF_SQES);
  if (ring->rings == NULL || ring->sqes == NULL) return -ENOMEM;
  uint8_t *base = ring->rings;
  ring->sq_head = (_Atomic unsigned *)(base + params.sq_off.head);
  ring->sq_tail = (_Atomic unsigned *)(base + params.sq_off.tail);
  ring->sq_mask = *(unsigned *)(base + params.sq_off.ring_mask);
  ring->cq_head = (_Atomic unsigned *)(base + params.cq_off.head);
  ring->cq_tail = (_Atomic unsigned *)(base + params.cq_off.tail);
  ring->cq_mask = *(unsigned *)(base + params.cq_off.ring_mask);
  ring->cqes = (struct io_uring_cqe *)(base + params.cq_off.cqes);
  return STATUS(syscall(SYS_io_uring_register, ring->fd, IORING_REGISTER_FILES, &device, 1));
}

static struct arena *make_arena(int64_t key, unsigned queues, unsigned depth, size_t payload_bytes, size_t stride) {
  unsigned count = queues * depth;
  struct arena *arena = calloc(1, sizeof *arena + count * sizeof(struct entry));
  if (arena == NULL) return NULL;
  arena->key = key;
  arena->bytes = count * stride;
  arena->entry_count = count;
  arena->payload_bytes = payload_bytes;
  atomic_store(&arena->users, 1);
  /* Pages are there as they are touched. */
  arena->at = mmap(NULL, arena->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (arena->at == MAP_FAILED) {
    free(arena);
    return NULL;
  }
  for (unsigned index = 0; index < count; index++) arena->entries[index].queue = (uint16_t)(index % queues);
  return arena;
}

static void on_arena_final(napi_env env, void *data, void *hint) {
  (void)env;
  (void)data;
  leave_arena(hint);
}

static int64_t show_arena(struct ring *ring, napi_value *buffer) {
  struct arena *arena = ring->arena;
  atomic_fetch_add(&arena->users, 1);
  if (napi_create_external_arraybuffer(ring->self->env, arena->at, arena->bytes, on_arena_final, arena, buffer) == napi_ok) return 0;
  leave_arena(arena);
  return -EOPNOTSUPP;
}

static int32_t *make_words(struct ring *ring, size_t words, napi_value result, const char *name, napi_ref *reference) {
  napi_env env = ring->self->env;
  napi_value buffer, array;
  void *data;
  if (napi_create_arraybuffer(env, words * sizeof(int32_t), &data, &buffer) != napi_ok ||
      napi_create_typedarray(env, napi_int32_array, words, buffer, 0, &array) != napi_ok ||
      napi_create_reference(env, buffer, 1, reference) != napi_ok || napi_set_named_property(env, result, name, array) != napi_ok) {
    return NULL;
  }
  return data;
}

/* What JavaScript sees of a ring: its id, the arena, and the two word arrays that it shares with us. */
static int64_t describe_ring(struct ring *ring, napi_value *result) {
  napi_env env = ring->self->env;
  napi_value arena;
  if (napi_create_object(env, result) != napi_ok) return -ENOMEM;
  int64_t status = show_arena(ring, &arena);
  if (status < 0) return status;
  ring->news_rows = (int)ring->entry_count + 64;
  ring->news = make_words(ring, (size_t)ring->news_rows * NEWS_WORDS, *result, "news", &ring->news_buffer);
  ring->commits = make_words(ring, (size_t)ring->entry_count * 2, *result, "commits", &ring->commits_buffer);
  if (ring->news == NULL || ring->commits == NULL) return -ENOMEM;
  napi_set_named_property(env, *result, "arena", arena);
  napi_set_named_property(env, *result, "id", number_result(env, ring->id));
  return 0;
}

static napi_value ring_open(napi_env env, napi_callback_info info) {
  struct call call;
  int device;
  int64_t queues, depth, payload_bytes, key;
  if (!begin_call(&call, env, info) || !take_int(&call, 0, &device) || !take_wide(&call, 1, 1, 4096, &queues) ||
      !take_wide(&call, 2, 1, (double)(ENTRIES_MAX / queues), &depth) || !take_wide(&call, 3, 8192, INT_MAX / 2, &payload_bytes) ||
      !take_int64(&call, 4, &key)) {
    return NULL;
  }
  struct environment *self = call.self;
  struct ring *ring = calloc(1, sizeof *ring);
  if (ring == NULL) return number_result(env, -ENOMEM);
  ring->self = self;
  ring->fd = -1;
  ring->bell = -1;
  ring->entry_count = (unsigned)(queues * depth);
  ring->payload_bytes = (size_t)payload_bytes;
  ring->stride = HEADER_PAGE + (((size_t)payload_bytes + 4095) & ~(size_t)4095);
  ring->id = self->ring_last_id = self->ring_last_id % INT_MAX + 1;
  ring->next = self->rings;
  self->rings = ring;
  ring->arena = take_orphan(key);
  if (ring->arena == NULL) ring->arena = make_arena(key, (unsigned)queues, (unsigned)depth, ring->payload_bytes, ring->stride);
  napi_value result = NULL;
  int64_t status = ring->arena == NULL ? -ENOMEM : -EINVAL;
  if (ring->arena != NULL && ring->arena->entry_count == ring->entry_count && ring->arena->payload_bytes == ring->payload_bytes) {
    status = open_ring(ring, device);
  }
  if (status >= 0) status = describe_ring(ring, &result);
  if (status >= 0) return result;
  end_ring(ring);
  return number_result(env, status);
}

static struct ring *find_ring(struct environment *self, int id) {
  struct ring *ring = self->rings;
  while (ring != NULL && ring->id != id) ring = ring->next;
  return ring;
}

static bool take_ring(struct call *call, int index, struct ring **ring) {
  int id;
  if (!take_int(call, index, &id)) return false;
  *ring = find_ring(call->self, id);
  return *ring != NULL || fail_argument(call, index, "the id of a ring of this thread");
}

/* The first failure among the completions that are there, which stay; 0 when there is none. */
static int64_t first_failure(struct ring *ring) {
  unsigned head = atomic_load_explicit(ring->cq_head, memory_order_relaxed);
  unsigned tail = atomic_load_explicit(ring->cq_tail, memory_order_acquire);
  for (; head != tail; head++) {
    struct io_uring_cqe *cqe = &ring->cqes[head & ring->cq_mask];
    if (cqe->user_data != POLL_TAG && cqe->res < 0) return cqe->res;
  }
  return 0;
}

static napi_value ring_start(napi_env env, napi_callback_info info) {
  struct call call;
  struct ring *ring;
  int64_t from, count;
  if (!begin_call(&call, env, info) || !take_ring(&call, 0, &ring) || !take_wide(&call, 1, 0, ring->entry_count, &from) ||
      !take_wide(&call, 2, 0, (double)(ring->entry_count - from), &count)) {
    return NULL;
  }
  struct iovec *vectors = calloc((size_t)count + 1, 2 * sizeof *vectors);
  if (vectors == NULL) return number_result(env, -ENOMEM);
  if (!ring->started) put_poll(ring);
  ring->started = true;
  for (int64_t row = 0; row < count; row++) {
    unsigned index = (unsigned)(from + row);
    if (ring->arena->entries[index].held) put_abandoned(ring, index);
    else put_register(ring, index, vectors + row * 2);
  }
  int64_t status = 0;
  while (ring->submitted != ring->tail && (status = enter_ring(ring, false)) >= 0) continue;
  free(vectors);
  return number_result(env, status < 0 ? status : first_failure(ring));
}

static napi_value ring_turn(napi_env env, napi_callback_info info) {
  struct call call;
  struct ring *ring;
  int64_t commits;
  bool wait;
  if (!begin_call(&call, env, info) || !take_ring(&call, 0, &ring) || !take_wide(&call, 1, 0, ring->entry_count, &commits) ||
      !take_flag(&call, 2, &wait)) {
    return NULL;
  }
  for (int64_t row = 0; row < commits; row++) {
    uint32_t entry = (uint32_t)ring->commits[row * 2];
    uint32_t bytes = (uint32_t)ring->commits[row * 2 + 1];
    if (entry >= ring->entry_count || bytes < OUT_HEADER || bytes - OUT_HEADER > ring->payload_bytes) {
      fail_argument(&call, 1, "a count of commits, each with an entry and a length that fit");
      return NULL;
    }
    put_commit(ring, entry, bytes);
  }
  uint64_t count;
  if (!wait && ring->bell_rings && read(ring->bell, &count, sizeof count) < 0 && errno != EAGAIN) return number_result(env, -errno);
  return number_result(env, turn_ring(ring, wait));
}

/*
 * For waits on the event loop: the ring's own descriptor does not become readable with deferred task work. A bell costs a
 * little with each completion, so it rings only while somebody listens.
 */
static napi_value ring_bell(napi_env env, napi_callback_info info) {
  struct call call;
  struct ring *ring;
  bool rings;
  if (!begin_call(&call, env, info) || !take_ring(&call, 0, &ring) || !take_flag(&call, 1, &rings)) return NULL;
  if (ring->bell < 0) ring->bell = (int)STATUS(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (ring->bell < 0 || rings == ring->bell_rings) return number_result(env, ring->bell);
  unsigned operation = rings ? IORING_REGISTER_EVENTFD : IORING_UNREGISTER_EVENTFD;
  int64_t status = STATUS(syscall(SYS_io_uring_register, ring->fd, operation, rings ? &ring->bell : NULL, rings ? 1 : 0));
  if (status >= 0) ring->bell_rings = rings;
  return number_result(env, status < 0 ? status : ring->bell);
}

static napi_value ring_close(napi_env env, napi_callback_info info) {
  struct call call;
  int id;
  if (!begin_call(&call, env, info) || !take_int(&call, 0, &id)) return NULL;
  struct ring *ring = find_ring(call.self, id);
  if (ring != NULL) end_ring(ring);
  return NULL;
}

/*
 * A registration that must fail. It makes the kernel give up waiting for rings, where INIT announced some and none came about
 * (fuse_uring_cmd): requests go to the device again.
 */
static napi_value ring_refuse(napi_env env, napi_callback_info info) {
  struct call call;
  struct ring *ring;
  struct iovec vector[2];
  if (!begin_call(&call, env, info) || !take_ring(&call, 0, &ring)) return NULL;
  ring->arena->entries[0].queue = UINT16_MAX;
  put_register(ring, 0, vector);
  int64_t status = enter_ring(ring, false);
  return number_result(env, status < 0 ? status : first_failure(ring));
}

static napi_value ring_keys(napi_env env, napi_callback_info info) {
  struct call call;
  int count;
  if (!begin_call(&call, env, info) || !take_int(&call, 0, &count)) return NULL;
  return number_result(env, atomic_fetch_add(&last_key, count) + 1);
}

static napi_value ring_forget(napi_env env, napi_callback_info info) {
  struct call call;
  int64_t key;
  if (!begin_call(&call, env, info) || !take_int64(&call, 0, &key)) return NULL;
  for (struct arena *arena; (arena = take_orphan(key)) != NULL;) leave_arena(arena);
  return NULL;
}

struct round {
  int fd;
  const uint8_t *at;
  size_t length;
  unsigned processors;
  int64_t status;
};

static void *write_on_each(void *data) {
  struct round *round = data;
  size_t bytes = CPU_ALLOC_SIZE(round->processors);
  cpu_set_t *set = CPU_ALLOC(round->processors);
  if (set == NULL) return NULL;
  for (unsigned processor = 0; processor < round->processors; processor++) {
    CPU_ZERO_S(bytes, set);
    CPU_SET_S(processor, bytes, set);
    /* One that is not online, or not ours, has no callers of ours either. */
    if (sched_setaffinity(0, bytes, set) != 0) continue;
    int64_t status = STATUS_RETRIED(write(round->fd, round->at, round->length));
    if (status < 0) round->status = status;
  }
  CPU_FREE(set);
  return NULL;
}

static napi_value write_on_processors(napi_env env, napi_callback_info info) {
  struct call call;
  struct round round = {.status = 0};
  int64_t processors;
  uint8_t *at;
  if (!begin_call(&call, env, info) || !take_int(&call, 0, &round.fd) || !take_span(&call, 1, &at, &round.length) ||
      !take_wide(&call, 4, 1, 4096, &processors)) {
    return NULL;
  }
  round.at = at;
  round.processors = (unsigned)processors;
  pthread_t thread;
  int error = pthread_create(&thread, NULL, write_on_each, &round);
  if (error != 0) return number_result(env, -error);
  pthread_join(thread, NULL);
  return number_result(env, round.status);
}

const struct function_row uring_functions[] = {
  {"ringOpen", ring_open},
  {"ringStart", ring_start},
  {"ringTurn", ring_turn},
  {"ringBell", ring_bell},
  {"ringClose", ring_close},
  {"ringRefuse", ring_refuse},
  {"ringKeys", ring_keys},
  {"ringForget", ring_forget},
  {"writeOnProcessors", write_on_processors},
  {NULL, NULL},
};
