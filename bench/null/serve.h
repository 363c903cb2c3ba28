#ifndef SERVE_H
#define SERVE_H

/* Both end the process at the first call that fails for any reason but the end of the mount. */

/* Reads and writes `device` until it is unmounted. */
void serve_device(int device);

/* Serves the queues `first`, `first + step`, … of `queues`, with `depth` entries each, until it is unmounted. */
void serve_ring(int device, unsigned first, unsigned step, unsigned queues, unsigned depth);

/* Does not return for a negative result: says what failed, and why. */
long must(long result, const char *what);

#endif
