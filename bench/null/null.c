/*
 * A FUSE daemon that does as little as one can: the floor beneath every other. Linux only, root only, no library.
 *
 *   null --device|--ring [--threads N] [--depth N] [--size BYTES|--file PATH] MOUNT
 *
 * --device: each thread has a clone of the device. --ring: the queues are shared out among the threads; what stays on the device
 * is read by the main thread. --file: what is read and written is that file. It stays in the foreground and ends when it is unmounted.
 */
#include "answer.h"
#include "serve.h"
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#define THREADS_MAX 64

struct settings {
  int ring;
  unsigned threads, depth, queues;
  const char *mount;
};

struct thread {
  pthread_t id;
  const struct settings *settings;
  int device;
  unsigned index;
};

long must(long result, const char *what)
{
  if (result >= 0)
    return result;
  fprintf(stderr, "null: %s: %s\n", what, strerror(errno));
  exit(1);
}

static int mount_device(const char *path)
{
  char data[64];
  int device = must(open("/dev/fuse", O_RDWR | O_CLOEXEC), "open /dev/fuse");
  snprintf(data, sizeof data, "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", device);
  must(mount("null", path, "fuse.null", MS_NOSUID | MS_NODEV, data), "mount");
  return device;
}

/* The first request of every mount. */
static void begin(int device, int ring)
{
  static char message[PAYLOAD_BYTES + 4096];
  must(read(device, message, sizeof message), "read INIT");
  const struct fuse_in_header *header = (const void *)message;
  const struct fuse_init_in *asked = (const void *)(header + 1);
  if (header->opcode != FUSE_INIT || asked->major != FUSE_KERNEL_VERSION) {
    errno = EPROTO;
    must(-1, "INIT");
  }
  uint32_t offered = asked->flags & FUSE_INIT_EXT ? asked->flags2 : 0;
  if (ring && (offered & FLAGS2_OVER_IO_URING) == 0) {
    errno = EOPNOTSUPP;
    must(-1, "FUSE-over-io_uring (it needs Y in /sys/module/fuse/parameters/enable_uring)");
  }
  struct {
    struct fuse_out_header header;
    struct fuse_init_out body;
  } reply = {.header = {.len = sizeof reply, .unique = header->unique}, .body = init_answer(asked, ring)};
  must(write(device, &reply, sizeof reply), "answer INIT");
}

static int clone_of(int device)
{
  int clone = must(open("/dev/fuse", O_RDWR | O_CLOEXEC), "open /dev/fuse");
  uint32_t of = device;
  must(ioctl(clone, FUSE_DEV_IOC_CLONE, &of), "FUSE_DEV_IOC_CLONE");
  return clone;
}

static void *run(void *argument)
{
  struct thread *self = argument;
  const struct settings *settings = self->settings;
  if (settings->ring)
    serve_ring(self->device, self->index, settings->threads, settings->queues, settings->depth);
  else
    serve_device(self->device);
  return NULL;
}

static struct settings parse(int argc, char **argv)
{
  enum { DEVICE, RING, THREADS, DEPTH, SIZE, FILE_PATH };
  static const struct option options[] = {
    {"device", no_argument, NULL, DEVICE},        {"ring", no_argument, NULL, RING},
    {"threads", required_argument, NULL, THREADS}, {"depth", required_argument, NULL, DEPTH},
    {"size", required_argument, NULL, SIZE},       {"file", required_argument, NULL, FILE_PATH},
    {NULL, 0, NULL, 0},
  };
  struct settings settings = {.threads = 1, .depth = 32, .queues = get_nprocs_conf()};
  uint64_t bytes = 64 << 20;
  int file = -1;
  for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
    if (option == DEVICE || option == RING)
      settings.ring = option == RING;
    else if (option == THREADS)
      settings.threads = strtoul(optarg, NULL, 10);
    else if (option == DEPTH)
      settings.depth = strtoul(optarg, NULL, 10);
    else if (option == SIZE)
      bytes = strtoull(optarg, NULL, 10);
    else if (option == FILE_PATH)
      file = must(open(optarg, O_RDWR | O_CLOEXEC), optarg);
    else
      exit(2);
  }
  if (optind != argc - 1 || settings.threads < 1 || settings.threads > THREADS_MAX || settings.depth < 1)
    exit(2);
  if (settings.ring && settings.threads > settings.queues)
    settings.threads = settings.queues;
  settings.mount = argv[optind];
  struct stat status;
  if (file >= 0) {
    must(fstat(file, &status), "fstat");
    bytes = status.st_size;
  }
  set_file(file, bytes);
  return settings;
}

int main(int argc, char **argv)
{
  static struct thread threads[THREADS_MAX];
  struct settings settings = parse(argc, argv);
  int device = mount_device(settings.mount);
  begin(device, settings.ring);
  for (unsigned i = 0; i < settings.threads; i++) {
    int own = settings.ring ? device : clone_of(device);
    threads[i] = (struct thread){.settings = &settings, .device = own, .index = i};
    errno = pthread_create(&threads[i].id, NULL, run, &threads[i]);
    if (errno != 0)
      must(-1, "pthread_create");
  }
  if (settings.ring)
    serve_device(device);
  for (unsigned i = 0; i < settings.threads; i++)
    pthread_join(threads[i].id, NULL);
  return 0;
}
