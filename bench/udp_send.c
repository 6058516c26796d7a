/* The UDP side of load.py: sends prepared datagrams with unique ids, many a system call.

   udp_send HOST PORT TEMPLATES MARK SECONDS RATE QUEUE

   RATE > 0 sends that many datagrams a second. RATE 0 sends as fast as the receiver takes them, if it is on this
   machine: /proc/net/udp tells how many bytes wait in its socket, and the sender pauses while that is more than QUEUE,
   so that the receiver is always busy and drops nothing. Prints {"sent":n,"errors":n,"seconds":s}. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BURST = 32 };

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void pause_us(long us) {
  struct timespec t = {0, us * 1000};
  nanosleep(&t, NULL);
}

static uint32_t u32(const uint8_t *p) {
  return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* Bytes waiting at the socket bound to `port`, as the kernel accounts them; -1 when there is none. */
static long waiting(int proc, unsigned port) {
  static char text[1 << 16];
  ssize_t got = pread(proc, text, sizeof text - 1, 0);
  if (got <= 0) return -1;
  text[got] = 0;
  for (char *line = strchr(text, '\n'); line != NULL; line = strchr(line + 1, '\n')) {
    unsigned bound;
    unsigned long tx, rx;
    if (sscanf(line, " %*d: %*x:%x %*x:%*x %*x %lx:%lx", &bound, &tx, &rx) == 3 && bound == port) return (long)rx;
  }
  return -1;
}

int main(int argc, char **argv) {
  if (argc != 8) {
    fprintf(stderr, "usage: udp_send HOST PORT TEMPLATES MARK SECONDS RATE QUEUE\n");
    return 2;
  }
  unsigned port = (unsigned)atoi(argv[2]);
  double seconds = atof(argv[5]), rate = atof(argv[6]);
  long queue = atol(argv[7]);

  FILE *file = fopen(argv[3], "rb");
  if (file == NULL) return perror(argv[3]), 1;
  fseek(file, 0, SEEK_END);
  long size = ftell(file);
  rewind(file);
  uint8_t *data = malloc((size_t)size);
  if (data == NULL || fread(data, 1, (size_t)size, file) != (size_t)size) return perror("read"), 1;
  fclose(file);

  uint32_t count = u32(data);
  const uint8_t **templates = malloc(count * sizeof *templates);
  if (templates == NULL) return perror("malloc"), 1;
  uint8_t *at = data + 4;
  for (uint32_t i = 0; i < count; i++) {
    templates[i] = at;
    uint32_t length = u32(at), ids = u32(at + 4);
    uint8_t *bytes = at + 8 + 4 * (size_t)ids;
    for (uint32_t id = 0; id < ids; id++) memcpy(bytes + u32(at + 8 + 4 * (size_t)id), argv[4], 4);
    at = bytes + length;
  }

  int sock = socket(AF_INET, SOCK_DGRAM, 0);
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  if (inet_pton(AF_INET, argv[1], &to.sin_addr) != 1) return fprintf(stderr, "host must be an IPv4 address\n"), 2;
  if (sock < 0 || connect(sock, (struct sockaddr *)&to, sizeof to) < 0) return perror("connect"), 1;
  int proc = open("/proc/net/udp", O_RDONLY);

  struct mmsghdr messages[BURST];
  struct iovec parts[BURST];
  memset(messages, 0, sizeof messages);
  for (int i = 0; i < BURST; i++) {
    messages[i].msg_hdr.msg_iov = &parts[i];
    messages[i].msg_hdr.msg_iovlen = 1;
  }
  uint64_t sent = 0, errors = 0;
  uint32_t counter = 0, next = 0;
  double begin = now(), end = begin + seconds;
  for (double time = begin; time < end; time = now()) {
    if (rate > 0) {
      double ahead = (double)sent - (time - begin) * rate;
      if (ahead > 0) {
        pause_us((long)(ahead / rate * 1e6) + 1);
        continue;
      }
    } else if (waiting(proc, port) > queue) {
      pause_us(50);
      continue;
    }
    for (int i = 0; i < BURST; i++) {
      const uint8_t *one = templates[next];
      next = next + 1 == count ? 0 : next + 1;
      char hex[9];
      counter++;
      snprintf(hex, sizeof hex, "%08x", counter);
      uint32_t length = u32(one), ids = u32(one + 4);
      uint8_t *bytes = (uint8_t *)one + 8 + 4 * (size_t)ids;
      for (uint32_t id = 0; id < ids; id++) memcpy(bytes + u32(one + 8 + 4 * (size_t)id) + 4, hex, 8);
      parts[i] = (struct iovec){bytes, length};
    }
    int from = 0;
    while (from < BURST) {
      int went = sendmmsg(sock, messages + from, (unsigned)(BURST - from), 0);
      if (went > 0) {
        from += went;
        sent += (uint64_t)went;
      } else if (errno != EINTR) {
        errors++; /* ECONNREFUSED of an earlier datagram, or no buffers: go on with the next */
        from++;
      }
    }
  }
  printf("{\"sent\":%llu,\"errors\":%llu,\"seconds\":%.6f}\n", (unsigned long long)sent, (unsigned long long)errors,
         now() - begin);
  return 0;
}
