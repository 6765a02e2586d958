/* Frames of a bundle at a pace, in a program without Python: how long each took, and which were late.

       frames FILE.fgb FPS SECONDS THREADS

   It prints the frames, how many were not ready when the next one was due, and of the milliseconds from
   the moment a frame was due to be begun until it was there the median, the 99th percentile and the
   most. benchmarks/bundle.py builds and runs it. */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <fastgan.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static int64_t now(void) {
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  return (int64_t)at.tv_sec * 1000000000 + at.tv_nsec;
}

static void wait_until(int64_t due) {
  const struct timespec at = {due / 1000000000, due % 1000000000};
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR) {
  }
}

static int ascending(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

int main(int count, char **arguments) {
  if (count < 5) return 2;
  fastgan_model *model = NULL;
  fastgan_session *session = NULL;
  const fastgan_settings settings = {.threads = atoi(arguments[4]), .format = FASTGAN_UINT8};
  if (fastgan_open(arguments[1], NULL, &model) || fastgan_prepare(model, &settings, &session)) {
    fprintf(stderr, "frames: %s\n", fastgan_message());
    return 1;
  }
  uint64_t bytes = 0;
  fastgan_describe_session(session, NULL, &bytes);
  const int64_t step = (int64_t)(1e9 / atof(arguments[2]));
  const int64_t frames = (int64_t)(atof(arguments[3]) * 1e9) / step;
  unsigned char *out = malloc(bytes);
  double *taken = malloc((size_t)(frames + 1) * sizeof(double));
  int64_t made = 0, late = 0;
  const int64_t first = now() + step;
  for (int64_t i = 0; i < frames;) {
    const int64_t due = first + i * step;
    wait_until(due);
    const fastgan_request request = {.count = 1, .seed = 7, .start = (uint64_t)i};
    if (fastgan_generate(session, &request, out, bytes)) return 1;
    const int64_t behind = now() - due;
    taken[made++] = (double)behind / 1e6;
    const int64_t missed = behind / step;  /* a game would not make these up */
    late += missed;
    i += 1 + missed;
  }
  qsort(taken, (size_t)made, sizeof(double), ascending);
  printf("%lld %lld %.3f %.3f %.3f\n", (long long)made, (long long)late, taken[made / 2],
         taken[made * 99 / 100], taken[made - 1]);
  free(taken);
  free(out);
  fastgan_release(session);
  fastgan_close(model);
  return 0;
}
