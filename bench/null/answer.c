#include "answer.h"
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_NODE 2
#define FILE_NAME "data.dat"

static int file = -1;
static uint64_t file_bytes;

/* Each thread answers one request at a time. */
static __thread union {
  struct fuse_entry_out entry;
  struct fuse_attr_out attributes;
  struct fuse_open_out open;
  struct fuse_write_out write;
  struct fuse_statfs_out statfs;
  struct {
    struct fuse_dirent fixed;
    char name[sizeof FILE_NAME];
  } directory;
} body;

void set_file(int descriptor, uint64_t bytes)
{
  file = descriptor;
  file_bytes = bytes;
}

static struct fuse_attr attributes_of(uint64_t node)
{
  struct fuse_attr attributes = {.ino = node, .blksize = 4096, .nlink = 1};
  attributes.mode = node == FUSE_ROOT_ID ? S_IFDIR | 0755 : S_IFREG | 0644;
  attributes.size = node == FUSE_ROOT_ID ? 0 : file_bytes;
  return attributes;
}

static struct answer failure(int error)
{
  return (struct answer){.error = error};
}

static struct answer success(size_t bytes)
{
  return (struct answer){.body = &body, .bytes = bytes};
}

static struct answer lookup(const char *name)
{
  if (strcmp(name, FILE_NAME) != 0)
    return failure(-ENOENT);
  body.entry = (struct fuse_entry_out){.nodeid = FILE_NODE, .entry_valid = 1, .attr_valid = 1};
  body.entry.attr = attributes_of(FILE_NODE);
  return success(sizeof body.entry);
}

static struct answer attributes(uint64_t node)
{
  body.attributes = (struct fuse_attr_out){.attr_valid = 1, .attr = attributes_of(node)};
  return success(sizeof body.attributes);
}

static struct answer opened(void)
{
  body.open = (struct fuse_open_out){0};
  return success(sizeof body.open);
}

static struct answer read_file(const struct fuse_read_in *asked, void *room)
{
  if (file >= 0) {
    ssize_t got = pread(file, room, asked->size, asked->offset);
    return got < 0 ? failure(-errno) : (struct answer){.bytes = got};
  }
  uint64_t left = asked->offset < file_bytes ? file_bytes - asked->offset : 0;
  return (struct answer){.bytes = asked->size < left ? asked->size : left};
}

static struct answer write_file(const struct fuse_write_in *asked, const void *bytes)
{
  ssize_t put = file < 0 ? (ssize_t)asked->size : pwrite(file, bytes, asked->size, asked->offset);
  if (put < 0)
    return failure(-errno);
  body.write = (struct fuse_write_out){.size = put};
  return success(sizeof body.write);
}

static struct answer list(const struct fuse_read_in *asked)
{
  if (asked->offset != 0)
    return success(0);
  memset(&body, 0, sizeof body);
  body.directory.fixed = (struct fuse_dirent){.ino = FILE_NODE, .off = 1, .namelen = strlen(FILE_NAME), .type = S_IFREG >> 12};
  memcpy(body.directory.fixed.name, FILE_NAME, strlen(FILE_NAME));
  return success(FUSE_DIRENT_SIZE(&body.directory.fixed));
}

struct answer answer(struct request request)
{
  switch (request.header->opcode) {
  case FUSE_READ:
    return read_file(request.fixed, request.room);
  case FUSE_WRITE:
    return write_file(request.fixed, request.tail);
  case FUSE_GETATTR:
  case FUSE_SETATTR:
    return attributes(request.header->nodeid);
  case FUSE_LOOKUP:
    return lookup(request.tail);
  case FUSE_OPEN:
  case FUSE_OPENDIR:
    return opened();
  case FUSE_READDIR:
    return list(request.fixed);
  case FUSE_STATFS:
    body.statfs = (struct fuse_statfs_out){.st = {.bsize = 4096, .frsize = 4096, .namelen = 255}};
    return success(sizeof body.statfs);
  case FUSE_FLUSH:
  case FUSE_RELEASE:
  case FUSE_RELEASEDIR:
  case FUSE_FSYNC:
  case FUSE_DESTROY:
    return failure(0);
  case FUSE_FORGET:
  case FUSE_BATCH_FORGET:
  case FUSE_INTERRUPT:
    return failure(NO_ANSWER);
  default:
    return failure(-ENOSYS);
  }
}

struct fuse_init_out init_answer(const struct fuse_init_in *asked, int over_io_uring)
{
  uint32_t flags = FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_ASYNC_DIO | FUSE_PARALLEL_DIROPS | FUSE_MAX_PAGES;
  struct fuse_init_out reply = {
    .major = FUSE_KERNEL_VERSION,
    .minor = FUSE_KERNEL_MINOR_VERSION,
    .max_readahead = asked->max_readahead,
    .flags = flags & asked->flags,
    .max_background = 64,
    .congestion_threshold = 48,
    .max_write = PAYLOAD_BYTES,
    .time_gran = 1,
    .max_pages = PAYLOAD_BYTES / 4096,
  };
  if (over_io_uring) {
    reply.flags |= FUSE_INIT_EXT;
    reply.flags2 = FLAGS2_OVER_IO_URING;
  }
  return reply;
}
