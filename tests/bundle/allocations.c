// How often a prepared call allocates, of each kind: all that glibc has for that, and new pages of the
// kernel, counted underneath the library.
#define _GNU_SOURCE
#include <fastgan.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *at, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

static atomic_long allocations;

#define COUNTED(declaration, call) \
  declaration {                    \
    ++allocations;                 \
    return call;                   \
  }
COUNTED(void *malloc(size_t size), __libc_malloc(size))
COUNTED(void *calloc(size_t count, size_t size), __libc_calloc(count, size))
COUNTED(void *realloc(void *at, size_t size), __libc_realloc(at, size))
COUNTED(void *aligned_alloc(size_t alignment, size_t size), __libc_memalign(alignment, size))
COUNTED(void *memalign(size_t alignment, size_t size), __libc_memalign(alignment, size))
COUNTED(int posix_memalign(void **at, size_t alignment, size_t size),
        (*at = __libc_memalign(alignment, size)) == NULL)
COUNTED(void *mmap(void *at, size_t size, int kind, int flags, int file, off_t from),
        (void *)syscall(SYS_mmap, at, size, kind, flags, file, from))

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
  fastgan_description of;
  fastgan_port input, output;
  check(fastgan_describe(model, &of));
  check(fastgan_describe_input(model, 0, &input));
  check(fastgan_describe_output(model, of.output, &output));
  const size_t rows = (size_t)program.batch;
  const fastgan_tensor given = {input.name, latents, rows * fastgan_latent_size(session)};
  const fastgan_tensor made = {output.name, (float *)out, rows * bytes / sizeof(float)};
  const long before = allocations;
  if (before == 0) return 3;  // what is counted is not what the library calls
  for (int i = 0; i < 5; ++i) {
    if (program.in_height > 0) {
      check(fastgan_apply(session, in, in_bytes, 7, out, 7 * bytes));
    } else {
      const fastgan_request request = {.count = 7, .seed = (uint64_t)i, .truncation = 0.7};
      check(fastgan_generate(session, &request, out, 7 * bytes));
      check(fastgan_latents(session, 1, 2, 7, 0, latents,
                            7 * sizeof(float) * fastgan_latent_size(session)));
      if (count > 4 && of.inputs == 1) check(fastgan_run(session, &given, 1, &made, 1));
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
