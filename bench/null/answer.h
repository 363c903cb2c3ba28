/*
 * What the null daemon knows: a directory with one file, `data.dat`, whose bytes are zeros and which takes any write; or which is a
 * file elsewhere, read and written where the request lies.
 */
#ifndef ANSWER_H
#define ANSWER_H

#include <linux/fuse.h>
#include <stddef.h>
#include <stdint.h>

/* As fusewire's passthrough agrees on by default. */
#define PAYLOAD_BYTES (256 * 1024)
#define FLAGS2_OVER_IO_URING 0x200u

struct request {
  const struct fuse_in_header *header;
  /* The fixed struct of the opcode. */
  const void *fixed;
  /* What follows: the name of a LOOKUP, with its NUL, or the bytes of a WRITE. */
  const void *tail;
  /* Where the bytes of a READ go. */
  void *room;
};

struct answer {
  /* Negative errno, 0, or NO_ANSWER. */
  int error;
  /* NULL with a length: that many bytes in the request's room. */
  const void *body;
  size_t bytes;
};

#define NO_ANSWER 1

/* `file`: a descriptor, or -1 for a file of zeros. */
void set_file(int file, uint64_t bytes);

/* The answer's body is valid until the same thread's next call. */
struct answer answer(struct request request);

struct fuse_init_out init_answer(const struct fuse_init_in *asked, int over_io_uring);

#endif
