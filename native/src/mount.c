/* Mounting, and descriptors handed over sockets and to children. */
#include "addon.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <time.h>

static napi_value mount_filesystem(napi_env env, napi_callback_info info) {
  struct call call;
  char source[TEXT_BYTES], target[TEXT_BYTES], type[TEXT_BYTES], data[TEXT_BYTES];
  uint32_t flags;
  if (!begin_call(&call, env, info) || !take_text(&call, 0, source) || !take_text(&call, 1, target) || !take_text(&call, 2, type) ||
      !take_word(&call, 3, &flags) || !take_text(&call, 4, data)) {
    return call.outcome;
  }
  return number_result(env, STATUS(mount(source, target, type, flags, data)));
}

static napi_value unmount(napi_env env, napi_callback_info info) {
  struct call call;
  char target[TEXT_BYTES];
  int flags;
  if (!begin_call(&call, env, info) || !take_text(&call, 0, target) || !take_int(&call, 1, &flags)) return call.outcome;
  return number_result(env, STATUS(umount2(target, flags)));
}

static napi_value socket_pair(napi_env env, napi_callback_info info) {
  struct call call;
  int pair[2];
  if (!begin_call(&call, env, info)) return NULL;
  int64_t status = STATUS(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
  if (status == 0) memcpy(call.self->buffers[0].data, pair, sizeof pair);
  return number_result(env, status);
}

union descriptor_control {
  struct cmsghdr header;
  char space[CMSG_SPACE(sizeof(int))];
};

/* The descriptor in a message, -ENODATA when there is none. */
static int64_t descriptor_of(struct msghdr *message) {
  for (struct cmsghdr *control = CMSG_FIRSTHDR(message); control != NULL; control = CMSG_NXTHDR(message, control)) {
    if (control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_RIGHTS || control->cmsg_len < CMSG_LEN(sizeof(int))) continue;
    int fd;
    memcpy(&fd, CMSG_DATA(control), sizeof fd);
    return fd;
  }
  return -ENODATA;
}

static int64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Waits until the socket can be read; 0, -EAGAIN when the time is over, or -errno. */
static int64_t wait_readable(int fd, int timeout_ms) {
  int64_t deadline = now_ms() + timeout_ms;
  for (;;) {
    int64_t left = timeout_ms < 0 ? -1 : deadline - now_ms();
    if (timeout_ms >= 0 && left < 0) left = 0;
    struct pollfd entry = {.fd = fd, .events = POLLIN};
    int64_t status = STATUS(poll(&entry, 1, (int)left));
    if (status > 0) return (entry.revents & POLLNVAL) ? -EBADF : 0;
    if (status == 0) return -EAGAIN;
    if (status != -EINTR) return status;
  }
}

static napi_value receive_descriptor(napi_env env, napi_callback_info info) {
  struct call call;
  int socket_fd, timeout_ms;
  if (!begin_call(&call, env, info) || !take_int(&call, 0, &socket_fd) || !take_int(&call, 1, &timeout_ms)) return NULL;
  int64_t status = wait_readable(socket_fd, timeout_ms);
  if (status < 0) return number_result(env, status);
  char byte;
  union descriptor_control control;
  struct iovec vector = {.iov_base = &byte, .iov_len = 1};
  struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  status = STATUS_RETRIED(recvmsg(socket_fd, &message, MSG_CMSG_CLOEXEC));
  return number_result(env, status < 0 ? status : descriptor_of(&message));
}

static napi_value send_descriptor(napi_env env, napi_callback_info info) {
  struct call call;
  int socket_fd, fd;
  if (!begin_call(&call, env, info) || !take_int(&call, 0, &socket_fd) || !take_int(&call, 1, &fd)) return NULL;
  char byte = 0;
  union descriptor_control control = {0};
  struct iovec vector = {.iov_base = &byte, .iov_len = 1};
  struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof fd);
  memcpy(CMSG_DATA(header), &fd, sizeof fd);
  int64_t status = STATUS_RETRIED(sendmsg(socket_fd, &message, MSG_NOSIGNAL));
  return number_result(env, status < 0 ? status : 0);
}

static napi_value set_inheritable(napi_env env, napi_callback_info info) {
  struct call call;
  int fd;
  bool inheritable;
  if (!begin_call(&call, env, info) || !take_int(&call, 0, &fd) || !take_flag(&call, 1, &inheritable)) return NULL;
  return number_result(env, STATUS(fcntl(fd, F_SETFD, inheritable ? 0 : FD_CLOEXEC)));
}

const struct function_row mount_functions[] = {
  {"mount", mount_filesystem},
  {"umount", unmount},
  {"socketPair", socket_pair},
  {"receiveDescriptor", receive_descriptor},
  {"sendDescriptor", send_descriptor},
  {"setInheritable", set_inheritable},
  {NULL, NULL},
};
