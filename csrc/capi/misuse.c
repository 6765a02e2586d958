// What a program may do wrong is an error with a sentence, and nothing else. With a bundle's path as
// argument also what needs one.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fastgan.h"

static int failed = 0;

static void expect(fastgan_status found, fastgan_status wanted, const char* what) {
  const int silent = wanted != FASTGAN_OK && fastgan_message()[0] == 0;
  if (found == wanted && !silent) return;
  fprintf(stderr, "%s: status %d, wanted %d: %s\n", what, found, wanted, fastgan_message());
  failed = 1;
}

static void with_bundle(const char* path) {
  fastgan_model* model = NULL;
  fastgan_session* session = NULL;
  expect(fastgan_open(path, NULL, &model), FASTGAN_OK, "open");
  if (model == NULL) return;
  expect(fastgan_prepare(model, &(fastgan_settings){.batch = 12345}, &session), FASTGAN_MISSING,
         "a batch that is not there");
  expect(fastgan_prepare(model, &(fastgan_settings){.threads = -1}, &session), FASTGAN_ARGUMENT,
         "threads below 0");
  expect(fastgan_prepare(model, NULL, &session), FASTGAN_OK, "prepare");
  fastgan_close(model);  // the session stays
  if (session == NULL) return;
  uint64_t bytes = 0;
  fastgan_program program;
  expect(fastgan_describe_session(session, &program, &bytes), FASTGAN_OK, "describe");
  char* const out = malloc(3 * bytes);
  const fastgan_request three = {.count = 3};
  expect(fastgan_generate(session, &three, out, 3 * bytes - 1), FASTGAN_ARGUMENT, "too little room");
  expect(fastgan_generate(session, &(fastgan_request){.count = 0}, out, bytes), FASTGAN_ARGUMENT,
         "no images");
  expect(fastgan_generate(session, &(fastgan_request){.count = 2, .start = UINT64_MAX}, out,
                          3 * bytes),
         FASTGAN_ARGUMENT, "beyond the last sample");
  expect(fastgan_generate(session, &three, NULL, 3 * bytes), FASTGAN_ARGUMENT, "nowhere");
  expect(fastgan_generate(NULL, &three, out, 3 * bytes), FASTGAN_ARGUMENT, "no session");
  expect(fastgan_set(session, "nothing is called so", (float[]){1}, 1), FASTGAN_ARGUMENT, "set");
  expect(fastgan_apply(session, out, bytes, 1, out, bytes), FASTGAN_ARGUMENT, "no image taken");
  expect(fastgan_apply_tiled(session, out, bytes, 1, 1, 0, out, bytes), FASTGAN_ARGUMENT,
         "no image taken in tiles");
  fastgan_cancel(session);
  expect(fastgan_generate(session, &three, out, 3 * bytes), FASTGAN_CANCELLED, "cancelled");
  expect(fastgan_generate(session, &three, out, 3 * bytes), FASTGAN_OK, "generate");
  free(out);
  fastgan_release(session);
}

int main(int count, char** arguments) {
  fastgan_model* model = NULL;
  fastgan_session* session = NULL;
  fastgan_port port;
  static uint64_t nothing[64];
  expect(fastgan_open("/no/such/file.fgb", NULL, &model), FASTGAN_FILE, "no file");
  expect(fastgan_open("/", NULL, &model), FASTGAN_FILE, "a folder");
  expect(fastgan_open(NULL, NULL, &model), FASTGAN_ARGUMENT, "no path");
  expect(fastgan_open("x", NULL, NULL), FASTGAN_ARGUMENT, "no place for the model");
  expect(fastgan_open_memory(nothing, 0, NULL, &model), FASTGAN_DAMAGED, "no bytes");
  expect(fastgan_open_memory(nothing, sizeof nothing, NULL, &model), FASTGAN_DAMAGED, "zeros");
  expect(fastgan_prepare(NULL, NULL, &session), FASTGAN_ARGUMENT, "no model");
  expect(fastgan_describe_input(NULL, 0, &port), FASTGAN_ARGUMENT, "no model");
  fastgan_close(NULL);
  fastgan_release(NULL);
  fastgan_cancel(NULL);
  if (model != NULL || session != NULL) failed = 1;
  if (fastgan_version() / 1000 != FASTGAN_VERSION_MAJOR) failed = 1;
  if (count > 1) with_bundle(arguments[1]);
  return failed;
}
