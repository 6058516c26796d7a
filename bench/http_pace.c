/* HTTP at a steady rate, whatever the server does: prepared requests (load.py) leave when they are due, and the time from
   then to the whole answer is what counts, so that a pause of the server is seen by all who came meanwhile.

   http_pace HOST PORT TEMPLATES MARK SECONDS RATE CONNECTIONS

   RATE requests a second, at even distances, each on a connection that waits for nothing else; where all wait, a request
   that is due waits too, and its clock runs. The first fifth of SECONDS counts for nothing. Prints
   {"sent":n,"good":n,"status":n,"p50":us,"p99":us,"p999":us,"max":us,"late":n}; late: requests that found no connection. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS_MAX = 1024, ANSWER_MAX = 4096 };

struct template {
  uint8_t *bytes;
  uint32_t length, ids;
  uint32_t *offsets;
};

struct connection {
  int fd, busy;
  double due;
  const uint8_t *rest; /* not sent yet */
  size_t left;
  uint8_t *request;
  char answer[ANSWER_MAX];
  size_t got;
};

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static uint32_t u32(const uint8_t *p) {
  return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static struct template *read_templates(const char *path, const char *mark, uint32_t *count, uint32_t *longest) {
  FILE *file = fopen(path, "rb");
  if (!file) fail(path);
  fseek(file, 0, SEEK_END);
  size_t length = (size_t)ftell(file);
  rewind(file);
  uint8_t *data = malloc(length);
  if (!data || fread(data, 1, length, file) != length) fail(path);
  fclose(file);
  *count = u32(data);
  *longest = 0;
  struct template *all = calloc(*count, sizeof *all);
  uint8_t *at = data + 4;
  for (uint32_t i = 0; i < *count; i++) {
    struct template *t = &all[i];
    t->length = u32(at);
    t->ids = u32(at + 4);
    t->offsets = calloc(t->ids + 1, sizeof *t->offsets);
    for (uint32_t id = 0; id < t->ids; id++) t->offsets[id] = u32(at + 8 + 4 * id);
    t->bytes = at + 8 + 4 * t->ids;
    for (uint32_t id = 0; id < t->ids; id++) memcpy(t->bytes + t->offsets[id], mark, 4);
    at = t->bytes + t->length;
    if (t->length > *longest) *longest = t->length;
  }
  return all;
}

static int by_value(const void *a, const void *b) {
  float x = *(const float *)a, y = *(const float *)b;
  return (x > y) - (x < y);
}

/* Send what is left. */
static void push(struct connection *c) {
  while (c->left) {
    ssize_t sent = send(c->fd, c->rest, c->left, MSG_NOSIGNAL);
    if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
    if (sent < 0) fail("send");
    c->rest += sent;
    c->left -= (size_t)sent;
  }
}

/* The status of a whole answer, 0 where it is not there yet. */
static int pull(struct connection *c) {
  ssize_t got = recv(c->fd, c->answer + c->got, sizeof c->answer - 1 - c->got, 0);
  if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return 0;
  if (got <= 0) fail("recv");
  c->got += (size_t)got;
  c->answer[c->got] = 0;
  char *end = strstr(c->answer, "\r\n\r\n"), *length = strcasestr(c->answer, "content-length:");
  if (!end || !length) return 0;
  if (c->got < (size_t)(end + 4 - c->answer) + strtoul(length + 15, NULL, 10)) return 0;
  return atoi(c->answer + 9);
}

int main(int argc, char **argv) {
  if (argc != 8) return 2;
  double seconds = atof(argv[5]), rate = atof(argv[6]);
  int connections = atoi(argv[7]);
  if (connections < 1 || connections > CONNECTIONS_MAX || rate <= 0) return 2;
  uint32_t count, longest, next = 0;
  struct template *templates = read_templates(argv[3], argv[4], &count, &longest);
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[2]))};
  inet_pton(AF_INET, argv[1], &to.sin_addr);
  prctl(PR_SET_TIMERSLACK, 1);
  int poll = epoll_create1(0), one = 1;
  struct connection *all = calloc((size_t)connections, sizeof *all);
  int *idle = calloc((size_t)connections, sizeof *idle), idles = 0;
  for (int i = 0; i < connections; i++) {
    struct connection *c = &all[i];
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(c->fd, (struct sockaddr *)&to, sizeof to)) fail("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    c->request = malloc(longest);
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.u32 = (uint32_t)i};
    epoll_ctl(poll, EPOLL_CTL_ADD, c->fd, &event);
    idle[idles++] = i;
  }
  size_t most = (size_t)(seconds * rate) + 1, taken = 0;
  float *took = calloc(most, sizeof *took);
  uint64_t sent = 0, good = 0, status = 0, late = 0;
  double begun = now(), warm = begun + seconds / 5, end = begun + seconds;
  uint64_t due_number = 0;
  int waited = 0; /* the request that is due has been counted as late */
  while (1) {
    double t = now(), due = begun + (double)due_number / rate;
    while (due <= t && due < end && idles) {
      struct connection *c = &all[idle[--idles]];
      struct template *one_of = &templates[next++ % count];
      char hex[9];
      snprintf(hex, sizeof hex, "%08x", (unsigned)due_number);
      memcpy(c->request, one_of->bytes, one_of->length);
      for (uint32_t id = 0; id < one_of->ids; id++) memcpy(c->request + one_of->offsets[id] + 4, hex, 8);
      c->due = due;
      c->busy = 1;
      c->got = 0;
      c->rest = c->request;
      c->left = one_of->length;
      push(c);
      sent++;
      waited = 0;
      due = begun + (double)++due_number / rate;
    }
    if (due <= t && due < end && !waited) {
      late++;
      waited = 1;
    }
    if (due >= end && idles == connections) break;
    if (t > end + 30) fail("no answer within 30 s");
    struct epoll_event events[256];
    double left = due < end && idles ? due - now() : 1;
    struct timespec patience = {left > 0 ? (time_t)left : 0, left > 0 ? (long)((left - (double)(time_t)left) * 1e9) : 0};
    int n = epoll_pwait2(poll, events, 256, &patience, NULL);
    for (int i = 0; i < n; i++) {
      struct connection *c = &all[events[i].data.u32];
      if (events[i].events & EPOLLOUT) push(c);
      int said = c->busy && (events[i].events & EPOLLIN) ? pull(c) : 0;
      if (!said) continue;
      t = now();
      if (c->due >= warm && taken < most) took[taken++] = (float)((t - c->due) * 1e6);
      good += said == 200;
      status += said != 200;
      c->busy = 0;
      idle[idles++] = (int)events[i].data.u32;
    }
  }
  qsort(took, taken, sizeof *took, by_value);
  if (!taken) return 3;
  printf("{\"sent\":%llu,\"good\":%llu,\"status\":%llu,\"p50\":%.1f,\"p99\":%.1f,\"p999\":%.1f,\"max\":%.1f,\"late\":%llu}\n",
         (unsigned long long)sent, (unsigned long long)good, (unsigned long long)status, took[taken / 2],
         took[taken * 99 / 100], took[taken * 999 / 1000], took[taken - 1], (unsigned long long)late);
  return 0;
}
