/* Mutants of a bundle, opened, prepared and run: each is an error or runs, and nothing else.

       bundle FILE.fgb FIRST COUNT      mutants FIRST .. FIRST + COUNT - 1, each by its own number

   Most get a right checksum again, or nothing behind it would ever be reached. It prints how many
   ended with each status; a mutant that takes too long ends it, named. With sanitizers:

       cmake -S csrc -B build/asan -DFASTGAN_SANITIZE=ON && cmake --build build/asan
       gcc -g -fsanitize=address,undefined -Icsrc/include tests/fuzz/bundle.c \
           build/asan/libfastgan.a -lstdc++ -lm -pthread -o build/asan/fuzz
       ASAN_OPTIONS=allocator_may_return_null=1 build/asan/fuzz model.fgb 0 20000 */
#define _POSIX_C_SOURCE 200809L
#include <fastgan.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { kSeconds = 60, kMostImages = 1 << 24 };

static uint64_t state, mutant;

static uint64_t draw(void) {  // splitmix64
  uint64_t z = (state += 0x9E3779B97F4A7C15u);
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
  z = (z ^ z >> 27) * 0x94D049BB133111EBu;
  return z ^ z >> 31;
}

static uint64_t below(uint64_t n) { return n == 0 ? 0 : draw() % n; }

static uint32_t crc(const unsigned char *data, size_t size) {
  static uint32_t table[256];
  if (table[1] == 0) {
    for (uint32_t i = 0; i < 256; ++i) {
      uint32_t value = i;
      for (int bit = 0; bit < 8; ++bit) value = value >> 1 ^ (value & 1 ? 0xEDB88320u : 0);
      table[i] = value;
    }
  }
  uint32_t sum = 0xFFFFFFFFu;
  for (size_t i = 0; i < size; ++i) sum = sum >> 8 ^ table[(sum ^ data[i]) & 255];
  return ~sum;
}

static void late(int signal) {
  char text[64];
  (void)signal;
  const int n = snprintf(text, sizeof text, "mutant %llu takes too long\n", (unsigned long long)mutant);
  if (write(2, text, (size_t)n) < 0) _exit(4);
  _exit(3);
}

static int64_t word_of(int64_t now) {
  static const int64_t odd[] = {0,       1,       2,       3,        -1,        -2,        -3,
                                1 << 20, 1 << 28, 1 << 30, 65536,    INT32_MAX, INT64_MAX, INT64_MIN,
                                255,     (int64_t)1 << 40, (int64_t)1 << 32, (1 << 20) + 1};
  switch (below(6)) {
    case 0: return (int64_t)((uint64_t)now + 1);
    case 1: return (int64_t)((uint64_t)now - 1);
    case 2: return (int64_t)((uint64_t)now * 2);
    case 3: return (int64_t)below(64);
    case 4: return (int64_t)draw();
    default: return odd[below(sizeof odd / sizeof *odd)];
  }
}

// What is no weight: the numbers that say what is read and run.
static size_t mutate(unsigned char *data, size_t size, size_t numbers) {
  const uint64_t changes = 1 + below(3);
  for (uint64_t i = 0; i < changes; ++i) {
    const size_t at = (24 + below(numbers - 32)) / 8 * 8;
    int64_t word;
    memcpy(&word, data + at, 8);
    switch (below(8)) {
      case 0: data[at + below(8)] ^= (unsigned char)(1u << below(8)); break;
      case 1: memmove(data + at, data + (24 + below(numbers - 96)) / 8 * 8, 8 + 8 * below(8)); break;
      case 2:
        if (i == 0) size = 64 + below(size - 64);
        if (numbers > size) return size;
        break;
      default: word = word_of(word); memcpy(data + at, &word, 8);
    }
  }
  return size;
}

static fastgan_status use(fastgan_model *model) {
  fastgan_description of;
  fastgan_port port;
  fastgan_program program;
  fastgan_session *session = NULL;
  fastgan_describe(model, &of);
  for (int i = 0; i < of.inputs && i < 8; ++i) fastgan_describe_input(model, i, &port);
  for (int i = 0; i < of.outputs && i < 8; ++i) fastgan_describe_output(model, i, &port);
  for (int i = 0; i < of.programs && i < 8; ++i) fastgan_describe_program(model, i, &program);
  const fastgan_settings settings = {.threads = 1 + (int)below(2), .format = (fastgan_format)below(2)};
  fastgan_status status = fastgan_prepare(model, &settings, &session);
  if (status != FASTGAN_OK) return status;
  for (int i = 0; i < of.inputs && i < 8; ++i) {
    const float one = 1;
    fastgan_describe_input(model, i, &port);
    if (port.kind != FASTGAN_LATENT && port.kind != FASTGAN_LABEL) {
      fastgan_set(session, port.name, &one, 1);
    }
  }
  uint64_t bytes = 0;
  fastgan_describe_session(session, &program, &bytes);
  const int64_t count = program.batch + (int64_t)below(2);
  if (bytes > 0 && bytes <= kMostImages && count <= 64) {
    char *out = malloc(bytes * (uint64_t)count);
    const fastgan_request request = {.count = count, .seed = draw(), .truncation = (double)below(2)};
    status = fastgan_generate(session, &request, out, bytes * (uint64_t)count);
    free(out);
  }
  const double pixels = (double)program.in_height * program.in_width * program.in_channels;
  const double made = (double)program.height * program.width * program.channels;
  if (pixels > 0 && made > 0 && 9 * (pixels + made) * 4 <= kMostImages) {
    const size_t in_bytes = (size_t)(9 * pixels) * 4, out_bytes = (size_t)(9 * made) * 4;
    char *in = calloc(1, in_bytes), *out = malloc(out_bytes);
    status = fastgan_apply(session, in, in_bytes, 2, out, out_bytes);
    fastgan_apply_tiled(session, in, in_bytes, 1 + 2 * program.in_height, 1 + program.in_width / 2,
                        (int64_t)below(9), out, out_bytes);
    free(in);
    free(out);
  }
  fastgan_release(session);
  return status;
}

int main(int count, char **arguments) {
  if (count < 4) return 2;
  FILE *file = fopen(arguments[1], "rb");
  if (file == NULL) return 2;
  fseek(file, 0, SEEK_END);
  const size_t size = (size_t)ftell(file);
  rewind(file);
  unsigned char *whole = malloc(size), *data = malloc(size + 64);
  if (fread(whole, 1, size, file) != size) return 2;
  fclose(file);
  // The last section is that of the weights; before them stands where each is.
  uint64_t sections, at, weights;
  memcpy(&sections, whole + 32, 8);
  memcpy(&at, whole + 64 + 24 * (sections - 1) + 8, 8);
  memcpy(&weights, whole + at, 8);
  const size_t numbers = at + 8 + 16 * weights;

  signal(SIGALRM, late);
  long found[16] = {0};
  const uint64_t first = strtoull(arguments[2], NULL, 10), last = first + strtoull(arguments[3], NULL, 10);
  for (mutant = first; mutant < last; ++mutant) {
    state = mutant * 0x2545F4914F6CDD1Du;
    memcpy(data, whole, size);
    const size_t left = mutate(data, size, numbers);
    if (below(16) != 0) {
      const int64_t wide = (int64_t)left;
      memcpy(data + 24, &wide, 8);
      const int64_t sum = crc(data + 24, left - 24);
      memcpy(data + 16, &sum, 8);
    }
    // In memory of its own size, so that a read beyond it is seen.
    unsigned char *exact = NULL;
    if (posix_memalign((void **)&exact, 64, left) != 0) return 2;
    memcpy(exact, data, left);
    fastgan_model *model = NULL;
    const fastgan_options options = {.memory_limit = 64 << 20};
    alarm(kSeconds);
    fastgan_status status = fastgan_open_memory(exact, left, &options, &model);
    if (status == FASTGAN_OK) status = use(model);
    alarm(0);
    fastgan_close(model);
    free(exact);
    ++found[status];
  }
  for (int i = 0; i < 16; ++i) {
    if (found[i] > 0) printf("status %d: %ld\n", i, found[i]);
  }
  free(whole);
  free(data);
  return found[FASTGAN_INTERNAL] > 0;
}
