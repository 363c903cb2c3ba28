/*
 * Many callers at a time. Usage:
 *
 *     crowd FOLDER COUNT
 *
 * COUNT threads look up FOLDER/never-N. Prints `waiting` when all of them are in the call, then, when all have returned,
 * `done ERRNO COUNT` for each errno that they got, 0 for success.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *folder;
static atomic_int entered;
static atomic_int outcomes[256];

static void *call(void *argument)
{
  char path[512];
  struct stat status;
  snprintf(path, sizeof path, "%s/never-%ld", folder, (long)argument);
  atomic_fetch_add(&entered, 1);
  int result = lstat(path, &status);
  atomic_fetch_add(&outcomes[result < 0 ? errno & 255 : 0], 1);
  return NULL;
}

int main(int argc, char **argv)
{
  if (argc != 3)
    return 64;
  folder = argv[1];
  long count = atol(argv[2]);
  pthread_t *threads = calloc((size_t)count, sizeof *threads);
  pthread_attr_t small;
  pthread_attr_init(&small);
  pthread_attr_setstacksize(&small, 32 * 1024);
  for (long i = 0; i < count; i++) {
    int error = pthread_create(&threads[i], &small, call, (void *)i);
    if (error != 0) {
      fprintf(stderr, "thread %ld: errno %d\n", i, error);
      return 1;
    }
  }
  while (atomic_load(&entered) < count)
    usleep(1000);
  puts("waiting");
  fflush(stdout);
  for (long i = 0; i < count; i++)
    pthread_join(threads[i], NULL);
  for (int i = 0; i < 256; i++)
    if (outcomes[i] > 0)
      printf("done %d %d\n", i, outcomes[i]);
  return 0;
}
