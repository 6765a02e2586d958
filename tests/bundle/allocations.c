// How often a prepared call allocates, of each kind: malloc, counted underneath the library.
#define _GNU_SOURCE
#include <fastgan.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *at, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

static atomic_long allocations;

void *malloc(size_t size) {
  ++allocations;
  return __libc_malloc(size);
}
void *calloc(size_t count, size_t size) {
  ++allocations;
  return __libc_calloc(count, size);
}
void *realloc(void *at, size_t size) {
  ++allocations;
  return __libc_realloc(at, size);
}
void *aligned_alloc(size_t alignment, size_t size) {
  ++allocations;
  return __libc_memalign(alignment, size);
}

static int check(fastgan_status status) {
  if (status == FASTGAN_OK) return 0;
  fprintf(stderr, "%s\n", fastgan_message());
  exit(1);
}

int main(int count, char **arguments) {
  if (count < 4) return 2;
  fastgan_model *model = NULL;
  fastgan_session *session = NULL;
  const fastgan_settings settings = {.threads = atoi(arguments[2]),
                                     .batch = atoi(arguments[3]),
                                     .format = count > 4 ? FASTGAN_FLOAT32 : FASTGAN_UINT8};
  check(fastgan_open(arguments[1], NULL, &model));
  check(fastgan_prepare(model, &settings, &session));
  uint64_t bytes = 0;
  fastgan_program program;
  check(fastgan_describe_session(session, &program, &bytes));
  unsigned char *out = malloc(7 * bytes);
  unsigned char *in = calloc(7 * program.in_height * program.in_width * program.in_channels + 1, 4);
  const size_t in_bytes = (size_t)(7 * program.in_height * program.in_width *
                                   program.in_channels * (count > 4 ? 4 : 1));
  float *latents = malloc(7 * sizeof(float) * (fastgan_latent_size(session) + 1));
  const long before = allocations;
  for (int i = 0; i < 5; ++i) {
    if (program.in_height > 0) {
      check(fastgan_apply(session, in, in_bytes, 7, out, 7 * bytes));
    } else {
      const fastgan_request request = {.count = 7, .seed = (uint64_t)i, .truncation = 0.7};
      check(fastgan_generate(session, &request, out, 7 * bytes));
      check(fastgan_latents(session, 1, 2, 7, 0, latents,
                            7 * sizeof(float) * fastgan_latent_size(session)));
    }
  }
  printf("%ld\n", allocations - before);
  free(latents);
  free(in);
  free(out);
  fastgan_release(session);
  fastgan_close(model);
  return 0;
}
