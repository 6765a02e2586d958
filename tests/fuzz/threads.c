/* Sessions of several bundles at once, each on several threads, for the thread sanitizer.

       threads ROUNDS FILE.fgb ...

   Two sessions of each model run at the same time, so that one of them has the workers and the other
   does without; both must make the same images, round after round. test_threads.py builds it. */
#define _POSIX_C_SOURCE 200809L
#include <fastgan.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { kSessions = 2, kThreads = 3 };

struct Runner {
  fastgan_model *model;
  int rounds;
  float *out;
  uint64_t bytes;
  fastgan_status status;
};

static void *run(void *argument) {
  struct Runner *runner = argument;
  fastgan_session *session = NULL;
  fastgan_description of;
  fastgan_program program;
  const fastgan_settings settings = {.threads = kThreads};
  runner->status = fastgan_describe(runner->model, &of);
  if (!runner->status) runner->status = fastgan_prepare(runner->model, &settings, &session);
  if (runner->status) return NULL;
  fastgan_describe_session(session, &program, &runner->bytes);
  float *made = malloc(runner->bytes);
  runner->out = malloc(runner->bytes);
  for (int round = 0; round < runner->rounds && !runner->status; ++round) {
    const fastgan_request request = {.count = 1, .seed = 7};
    runner->status = fastgan_generate(session, &request, made, runner->bytes);
    if (round > 0 && memcmp(made, runner->out, runner->bytes) != 0) runner->status = -1;
    memcpy(runner->out, made, runner->bytes);
  }
  free(made);
  fastgan_release(session);
  return NULL;
}

int main(int count, char **arguments) {
  const int rounds = count > 1 ? atoi(arguments[1]) : 0;
  for (int file = 2; file < count; ++file) {
    fastgan_model *model = NULL;
    if (fastgan_open(arguments[file], NULL, &model)) {
      fprintf(stderr, "%s: %s\n", arguments[file], fastgan_message());
      return 2;
    }
    struct Runner runners[kSessions];
    pthread_t threads[kSessions];
    for (int i = 0; i < kSessions; ++i) {
      runners[i] = (struct Runner){.model = model, .rounds = rounds};
      if (pthread_create(&threads[i], NULL, run, &runners[i])) return 3;
    }
    for (int i = 0; i < kSessions; ++i) pthread_join(threads[i], NULL);
    for (int i = 0; i < kSessions; ++i) {
      const struct Runner *one = &runners[i];
      if (one->status || memcmp(one->out, runners[0].out, one->bytes) != 0) {
        fprintf(stderr, "%s: session %d: status %d\n", arguments[file], i, (int)one->status);
        return 1;
      }
    }
    for (int i = 0; i < kSessions; ++i) free(runners[i].out);
    fastgan_close(model);
    printf("%s\n", arguments[file]);
  }
  return 0;
}
