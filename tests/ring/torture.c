// Tries fastgan_frames.h: every word of every frame is checked against its index.
//
//     torture produce NAME WIDTH FRAMES INTERVAL_US   0 frames: until killed
//     torture consume NAME WIDTH SECONDS newest|every
//     torture threads NAME WIDTH FRAMES READERS       in one process, for thread sanitizer
//
// A consumer prints a line for each producer that it meets ("attached GENERATION NS", the time from
// its first frame seen here to its delivery, or from opening), "torn" at once, and in the end
// "frames skipped torn p50 p99 max" with latencies from publication to delivery in ns.
#include "fastgan_frames.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

enum { BUCKETS = 1 << 16, BUCKET_NS = 250 };  // up to 16 ms

typedef struct tally {
  uint64_t frames, skipped, torn, longest;
  uint32_t *latencies;  // [BUCKETS], the last for all beyond
} tally;

static uint64_t word_of(uint64_t index, uint64_t position) {
  uint64_t x = index * UINT64_C(0x9e3779b97f4a7c15) + position * UINT64_C(0xd1b54a32d192ed03);
  return x ^ (x >> 29);
}

static fg_shape shape_of(uint32_t width) {
  fg_shape shape = {0, 0, 3, FG_UINT8, 0.0f, 255.0f, FG_IN_SEGMENT, 0, 0};
  shape.width = shape.height = width;
  return shape;
}

static void fail(const char *where, int error) {
  fprintf(stderr, "%s: %s\n", where, fg_error_text(error));
  exit(2);
}

static void open_writer(fg_writer *writer, const char *name, uint32_t width, long interval_us) {
  const fg_shape shape = shape_of(width);
  const int error = fg_writer_open(writer, name, &shape, 4, (uint64_t)interval_us * 1000, NULL);
  if (error != FG_OK) fail("produce", error);
}

static void produce(fg_writer *writer, uint64_t frames, long interval_us) {
  const struct timespec pause = {interval_us / 1000000, interval_us % 1000000 * 1000};
  const uint64_t words = (writer->shape.frame_bytes + 7) / 8;
  uint64_t *const pixels = malloc(8 * words);
  uint64_t i, index, made = 0;
  for (index = writer->next; frames == 0 || made < frames; ++index, ++made) {
    for (i = 0; i < words; ++i) pixels[i] = word_of(index, i);
    fg_writer_write(writer, pixels, index, 7, fg_now());
    if (interval_us > 0) nanosleep(&pause, NULL);
  }
  free(pixels);
}

static void look(tally *all, const uint64_t *pixels, uint64_t bytes, const fg_frame *frame) {
  const uint64_t latency = fg_now() - frame->published_ns, bucket = latency / BUCKET_NS;
  uint64_t i, expected, wrong = frame->seed != 7 || frame->published_ns < frame->produced_ns;
  for (i = 0; i < bytes / 8; ++i) wrong |= pixels[i] ^ word_of(frame->index, i);
  expected = word_of(frame->index, bytes / 8);
  if (memcmp(pixels + bytes / 8, &expected, bytes % 8) != 0) wrong = 1;
  if (wrong) {
    ++all->torn;
    printf("torn %llu\n", (unsigned long long)frame->sequence);
    fflush(stdout);
  }
  ++all->frames;
  all->skipped += frame->skipped;
  if (latency > all->longest) all->longest = latency;
  ++all->latencies[bucket < BUCKETS ? bucket : BUCKETS - 1];
}

static uint64_t percentile(const tally *all, double share) {
  uint64_t i, seen = 0;
  for (i = 0; i < BUCKETS; ++i) {
    seen += all->latencies[i];
    if ((double)seen >= share * (double)all->frames) break;
  }
  return (i + 1) * BUCKET_NS;
}

static volatile sig_atomic_t ended = 0;

static void end(int number) {
  (void)number;
  ended = 1;
}

static void consume(const char *name, uint32_t width, double seconds, int policy, tally *all) {
  const uint64_t begin = fg_now(), limit = (uint64_t)(seconds * 1e9);
  const struct timespec pause = {0, 1000000};
  fg_shape shape = shape_of(width);
  uint64_t opened = begin, generation = 0;
  uint64_t *pixels;
  fg_reader reader = FG_READER_NONE;
  fg_frame frame;
  fg_shape_complete(&shape);
  pixels = calloc(shape.frame_bytes / 8 + 1, 8);
  signal(SIGTERM, end);  // a reader ends, and reports, at once or after its seconds
  while (!ended && fg_now() - begin < limit) {
    int error;
    if (reader.header == NULL) {
      error = fg_reader_open(&reader, name, &shape, false);
      if (error == FG_NO_RING || error == FG_NOT_READY) nanosleep(&pause, NULL);
      else if (error != FG_OK) fail("consume", error);
      continue;
    }
    error = fg_reader_next(&reader, pixels, &frame, policy, 20000000);
    if (error == FG_ENDED) {
      fg_reader_close(&reader);
      opened = fg_now();
    } else if (error == FG_OK) {
      look(all, pixels, shape.frame_bytes, &frame);
      if (frame.generation != generation) {
        const uint64_t now = fg_now();
        const uint64_t since = generation == 0 ? opened : frame.published_ns;
        generation = frame.generation;
        printf("attached %llu %llu\n", (unsigned long long)generation,
               (unsigned long long)(now - since));
        fflush(stdout);
      }
    } else if (error != FG_TIMEOUT) {
      fail("consume", error);
    }
  }
  fg_reader_close(&reader);
  free(pixels);
}

static void report(const tally *all) {
  printf("total %llu %llu %llu %llu %llu %llu\n", (unsigned long long)all->frames,
         (unsigned long long)all->skipped, (unsigned long long)all->torn,
         (unsigned long long)percentile(all, 0.5), (unsigned long long)percentile(all, 0.99),
         (unsigned long long)all->longest);
  fflush(stdout);
}

typedef struct job {
  fg_reader reader;
  int policy;
  const int *done;
  tally all;
} job;

static void *reader_thread(void *argument) {
  job *const mine = (job *)argument;
  uint64_t *const pixels = calloc(mine->reader.shape.frame_bytes / 8 + 1, 8);
  fg_frame frame;
  while (!__atomic_load_n(mine->done, __ATOMIC_ACQUIRE)) {
    if (fg_reader_next(&mine->reader, pixels, &frame, mine->policy, 20000000) == FG_OK) {
      look(&mine->all, pixels, mine->reader.shape.frame_bytes, &frame);
    }
  }
  free(pixels);
  return NULL;
}

// All read where the producer writes: thread sanitizer knows places by their address, so with a
// mapping for each it would see nothing.
static void threads(const char *name, uint32_t width, uint64_t frames, int readers) {
  const job none = {FG_READER_NONE, FG_NEWEST, NULL, {0, 0, 0, 0, NULL}};
  pthread_t handles[16];
  job jobs[16];
  fg_writer writer;
  int i, done = 0;
  open_writer(&writer, name, width, 0);
  for (i = 0; i < readers; ++i) {
    jobs[i] = none;
    jobs[i].reader.header = writer.header;
    jobs[i].reader.shape = writer.shape;
    jobs[i].reader.slots = writer.slots;
    jobs[i].reader.slot_bytes = writer.slot_bytes;
    jobs[i].policy = i % 2 ? FG_EVERY : FG_NEWEST;
    jobs[i].done = &done;
    jobs[i].all.latencies = calloc(BUCKETS, sizeof(uint32_t));
    pthread_create(&handles[i], NULL, reader_thread, &jobs[i]);
  }
  produce(&writer, frames, 0);
  __atomic_store_n(&done, 1, __ATOMIC_RELEASE);
  for (i = 0; i < readers; ++i) {
    pthread_join(handles[i], NULL);
    report(&jobs[i].all);
    free(jobs[i].all.latencies);
  }
  fg_writer_close(&writer);
}

int main(int count, char **arguments) {
  const char *mode = count > 1 ? arguments[1] : "";
  if (count != 6) return fprintf(stderr, "see the head of torture.c\n"), 2;
  const uint32_t width = (uint32_t)atoi(arguments[3]);
  if (strcmp(mode, "produce") == 0) {
    const long interval_us = atol(arguments[5]);
    fg_writer writer;
    open_writer(&writer, arguments[2], width, interval_us);
    produce(&writer, strtoull(arguments[4], NULL, 10), interval_us);
    fg_writer_close(&writer);
  } else if (strcmp(mode, "consume") == 0) {
    tally all = {0, 0, 0, 0, NULL};
    all.latencies = calloc(BUCKETS, sizeof(uint32_t));
    consume(arguments[2], width, atof(arguments[4]),
            strcmp(arguments[5], "every") == 0 ? FG_EVERY : FG_NEWEST, &all);
    report(&all);
    free(all.latencies);
  } else if (strcmp(mode, "threads") == 0) {
    threads(arguments[2], width, strtoull(arguments[4], NULL, 10), atoi(arguments[5]));
  } else {
    return 2;
  }
  return 0;
}
