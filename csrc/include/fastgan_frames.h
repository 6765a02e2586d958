// fastgan_frames.h: frames in shared memory, from one producer to any number of readers.
//
// Header-only, C11 or C++17, Linux, no dependencies. docs/frames.md is the guide: the layout for
// other languages, what is guaranteed and why. `fastgan stream MODEL --shm /name` is a producer.
//
//     fg_reader reader = FG_READER_NONE;
//     int error = fg_reader_open(&reader, "/name", NULL, false);
//     if (error) { fprintf(stderr, "%s\n", fg_error_text(error)); return 1; }
//     void *pixels = malloc(reader.shape.frame_bytes);
//     fg_frame frame;
//     while ((error = fg_reader_next(&reader, pixels, &frame, FG_NEWEST, 1000000000)) == FG_OK)
//         draw(pixels, reader.shape.width, reader.shape.height);
//     fg_reader_close(&reader);
//
// With -std=c11 include this before any system header.
#ifndef FASTGAN_FRAMES_H
#define FASTGAN_FRAMES_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1  // syscall, and locks that belong to an open file
#endif

#if !defined(__linux__)
#error "fastgan_frames.h: Linux only so far (open file description locks and futexes)"
#endif
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "fastgan_frames.h: the layout is little-endian"
#endif

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#if defined(__GLIBC__) && !defined(__USE_MISC)
#error "fastgan_frames.h: with -std=c11 include it before system headers, or define _GNU_SOURCE"
#endif

#ifdef __cplusplus
extern "C" {
#endif

// The layout -----------------------------------------------------------------------------------
//
// Every field has a fixed width; what different sides write lies on different cache lines. Fields
// marked "atomic" change while others look, and are only touched by the functions `fg_load_*` and
// `fg_store_*`; all others are written once, before `magic`.

#define FG_MAGIC UINT64_C(0x53454d4152464746)  // "FGFRAMES", read as a little-endian number
#define FG_MAKING UINT64_C(0x474e494b414d4746)  // "FGMAKING": a producer is just filling it in
#define FG_VERSION 1u
#define FG_HEADER_BYTES 4096u
#define FG_SLOT_HEADER_BYTES 128u
#define FG_ALIGNMENT 64u  // bytes: a cache line; payloads and slots begin on one
#define FG_LEAST_SLOTS 2u
#define FG_MOST_SLOTS 4096u
#define FG_MOST_CUDA_SLOTS 32u  // as many event handles as the header has room for
#define FG_MOST_FRAME_BYTES (UINT64_C(1) << 31)

enum { FG_UINT8 = 1, FG_FLOAT32 = 2 };         // fg_shape.type
enum { FG_IN_SEGMENT = 0, FG_ON_CUDA = 1 };    // fg_shape.device
enum { FG_RUNNING = 1, FG_CLOSED = 2, FG_REPLACED = 3 };  // fg_header.state

// Rows from the top, pixels from the left, channels of a pixel side by side, no padding.
typedef struct fg_shape {
  uint32_t width, height;  // pixels
  uint32_t channels;       // 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA
  uint32_t type;           // FG_UINT8: 0 to 255; FG_FLOAT32: `low` (black) to `high` (white)
  float low, high;
  uint32_t device;         // FG_IN_SEGMENT: pixels follow the slot's header
  uint32_t reserved;
  uint64_t frame_bytes;    // height * width * channels * (1 or 4)
} fg_shape;

typedef struct fg_control {
  uint64_t changes;     // atomic: counts changes, so that a producer looks at one word
  uint64_t seed;        // atomic
  uint64_t speed;       // atomic: bits of a double; 1 is as started, 0 stands, -1 goes backwards
  uint64_t truncation;  // atomic: bits of a double; NaN for none
  uint64_t label;       // atomic: a class; all ones for random
  uint64_t paused;      // atomic: 0 or 1
  uint64_t steps;       // atomic: counts single frames asked for while paused
  uint64_t reserved;
} fg_control;

typedef struct fg_cuda {  // of FG_ON_CUDA, written once; the handles are CUDA's own bytes
  uint8_t device_uuid[16];
  uint64_t pool_bytes;       // one allocation; slot k's pixels begin at k * pool_stride
  uint64_t pool_stride;
  uint8_t reserved[32];
  uint8_t memory_handle[64];                     // cudaIpcMemHandle_t of the pool
  uint8_t event_handles[FG_MOST_CUDA_SLOTS][64]; // all zero: a frame is whole once it is put up
} fg_cuda;

typedef struct fg_header {
  // 0: written once
  uint64_t magic;            // atomic: last of all, once everything else stands
  uint32_t version;
  uint32_t header_bytes;     // where slot 0 begins
  uint64_t segment_bytes;
  uint64_t slot_bytes;       // from one slot to the next
  uint32_t slots;
  uint32_t slot_header_bytes;  // from a slot's begin to its pixels
  uint8_t reserved0[24];
  // 64: written once
  fg_shape shape;
  uint8_t reserved1[24];
  // 128: the producer; changes when another takes over
  uint64_t generation;   // atomic: 1, and one more with each takeover
  uint64_t process;      // atomic: the producer's process id, for messages
  uint64_t started_ns;   // atomic: CLOCK_MONOTONIC
  uint64_t interval_ns;  // atomic: intended time from frame to frame; 0 for as fast as it goes
  uint32_t state;        // atomic: FG_RUNNING, FG_CLOSED, FG_REPLACED
  uint8_t reserved2[28];
  // 192: the newest frame
  uint64_t published;  // atomic: its sequence number; 0 before the first
  uint32_t signal;     // atomic: counts publications; a futex
  uint8_t reserved3[52];
  // 256: what readers ask of the producer
  fg_control control;
  uint8_t reserved4[192];
  // 512
  fg_cuda cuda;
  uint8_t reserved5[1408];
} fg_header;

typedef struct fg_slot {  // all atomic
  uint64_t stamp;         // 2 s: holds frame s; 2 s - 1: frame s is being written
  uint64_t index;         // of the frame in the producer's walk: the latent's id, with `seed`
  uint64_t seed;
  uint64_t generation;
  uint64_t produced_ns;   // CLOCK_MONOTONIC: when the pixels were ready
  uint64_t published_ns;  // CLOCK_MONOTONIC: when the frame was put up
  uint64_t reserved[10];
} fg_slot;

#ifdef __cplusplus
#define FG_ASSERT(condition) static_assert(condition, #condition)
#else
#define FG_ASSERT(condition) _Static_assert(condition, #condition)
#endif
FG_ASSERT(sizeof(fg_shape) == 40 && sizeof(fg_control) == 64 && sizeof(fg_cuda) == 2176);
FG_ASSERT(sizeof(fg_header) == FG_HEADER_BYTES && sizeof(fg_slot) == FG_SLOT_HEADER_BYTES);
FG_ASSERT(offsetof(fg_header, shape) == 64 && offsetof(fg_header, generation) == 128);
FG_ASSERT(offsetof(fg_header, published) == 192 && offsetof(fg_header, control) == 256);
FG_ASSERT(offsetof(fg_header, cuda) == 512);

// What can go wrong ----------------------------------------------------------------------------

enum {
  FG_OK = 0,
  FG_TIMEOUT,      // no frame came in time
  FG_ENDED,        // the producer has closed the ring, or another has replaced it: open it again
  FG_NO_RING,      // there is nothing of this name
  FG_NOT_READY,    // a producer is just making it: try again
  FG_NOT_A_RING,   // something else has this name
  FG_VERSION_DIFFERS,
  FG_SHAPE_DIFFERS,
  FG_TAKEN,        // a live producer has this name
  FG_DAMAGED,      // sizes that contradict each other
  FG_BAD_NAME,
  FG_BAD_SHAPE,
  FG_READ_ONLY,    // opened without control
  FG_ON_GPU,       // the pixels lie on a GPU: map them with CUDA
  FG_SYSTEM        // errno says what
};

static inline const char *fg_error_text(int error) {
  switch (error) {
    case FG_OK: return "no error";
    case FG_TIMEOUT: return "no frame came in time";
    case FG_ENDED: return "the producer has ended, or another has taken its place";
    case FG_NO_RING: return "no ring of this name: is the producer running?";
    case FG_NOT_READY: return "the producer is just starting";
    case FG_NOT_A_RING: return "the name belongs to something that is no ring of frames";
    case FG_VERSION_DIFFERS: return "the ring is of another version than this program";
    case FG_SHAPE_DIFFERS: return "the ring's frames are of another size or type";
    case FG_TAKEN: return "another producer is running under this name";
    case FG_DAMAGED: return "the ring's header is damaged";
    case FG_BAD_NAME: return "a name is '/' and 1 to 200 letters, digits, '.', '_' or '-'";
    case FG_BAD_SHAPE: return "a size, type or number of slots out of range";
    case FG_READ_ONLY: return "the ring was opened without control";
    case FG_ON_GPU: return "the frames lie on a GPU";
    default: return "the system refused: see errno";
  }
}

// Atomics --------------------------------------------------------------------------------------
//
// The compilers' own functions on plain integers: one layout for C, C++ and everyone else.

static inline uint64_t fg_load_relaxed(const uint64_t *word) {
  return __atomic_load_n(word, __ATOMIC_RELAXED);
}
static inline uint64_t fg_load_acquire(const uint64_t *word) {
  return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}
static inline void fg_store_relaxed(uint64_t *word, uint64_t value) {
  __atomic_store_n(word, value, __ATOMIC_RELAXED);
}
static inline void fg_store_release(uint64_t *word, uint64_t value) {
  __atomic_store_n(word, value, __ATOMIC_RELEASE);
}

// Pixels are copied in atomic words. A reader may meet a writer in the middle, which it finds out
// afterwards; with plain copies the meeting itself would already be undefined in C and C++.
static inline void fg_copy_in(uint64_t *to, const void *from, uint64_t bytes) {
  const unsigned char *source = (const unsigned char *)from;
  uint64_t word, i, words = bytes / 8, rest = bytes % 8;
  for (i = 0; i < words; ++i) {
    memcpy(&word, source + 8 * i, 8);
    fg_store_relaxed(to + i, word);
  }
  if (rest) {
    word = 0;
    memcpy(&word, source + 8 * words, rest);
    fg_store_relaxed(to + words, word);
  }
}

static inline void fg_copy_out(void *to, const uint64_t *from, uint64_t bytes) {
  unsigned char *target = (unsigned char *)to;
  uint64_t word, i, words = bytes / 8, rest = bytes % 8;
  for (i = 0; i < words; ++i) {
    word = fg_load_relaxed(from + i);
    memcpy(target + 8 * i, &word, 8);
  }
  if (rest) {
    word = fg_load_relaxed(from + words);
    memcpy(target + 8 * words, &word, rest);
  }
}

static inline uint64_t fg_bits(double value) {
  uint64_t bits;
  memcpy(&bits, &value, 8);
  return bits;
}
static inline double fg_double(uint64_t bits) {
  double value;
  memcpy(&value, &bits, 8);
  return value;
}

// Time, and waiting ----------------------------------------------------------------------------

static inline uint64_t fg_now(void) {  // CLOCK_MONOTONIC in ns: the clock of every timestamp
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

// Sleep until `*word` is no longer `seen`, a wake-up, or for at most `ns`. Needs no write access.
static inline void fg_wait(const uint32_t *word, uint32_t seen, uint64_t ns) {
  struct timespec limit;
  limit.tv_sec = (time_t)(ns / UINT64_C(1000000000));
  limit.tv_nsec = (long)(ns % UINT64_C(1000000000));
  syscall(SYS_futex, word, 0 /* FUTEX_WAIT */, seen, &limit, NULL, 0);
}

static inline void fg_wake(const uint32_t *word) {
  syscall(SYS_futex, word, 1 /* FUTEX_WAKE */, INT32_MAX, NULL, NULL, 0);
}

// Segments -------------------------------------------------------------------------------------

static inline bool fg_name_is_valid(const char *name) {
  size_t i;
  if (name == NULL || name[0] != '/') return false;
  for (i = 1; name[i] != '\0'; ++i) {
    const char c = name[i];
    const bool word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (i > 200 || !(word || c == '_' || c == '-' || (c == '.' && i > 1))) return false;
  }
  return i > 1;
}

// Fills in frame_bytes; false where the shape is out of range.
static inline bool fg_shape_complete(fg_shape *shape) {
  const uint64_t most = 1u << 16;
  if (shape->width < 1 || shape->width > most || shape->height < 1 || shape->height > most) {
    return false;
  }
  if (shape->channels < 1 || shape->channels > 4) return false;
  if (shape->type != FG_UINT8 && shape->type != FG_FLOAT32) return false;
  if (shape->device != FG_IN_SEGMENT && shape->device != FG_ON_CUDA) return false;
  shape->frame_bytes = (uint64_t)shape->width * shape->height * shape->channels *
                       (shape->type == FG_FLOAT32 ? 4u : 1u);
  return shape->frame_bytes <= FG_MOST_FRAME_BYTES;
}

static inline bool fg_same_shape(const fg_shape *a, const fg_shape *b) {
  return a->width == b->width && a->height == b->height && a->channels == b->channels &&
         a->type == b->type && a->device == b->device;
}

static inline uint64_t fg_slot_bytes(const fg_shape *shape) {
  const uint64_t pixels = shape->device == FG_IN_SEGMENT ? shape->frame_bytes : 0;
  return FG_SLOT_HEADER_BYTES + (pixels + FG_ALIGNMENT - 1) / FG_ALIGNMENT * FG_ALIGNMENT;
}

// Whether the pool has room for all frames.
static inline bool fg_cuda_fits(const fg_cuda *cuda, const fg_shape *shape, uint64_t slots) {
  return cuda->pool_stride >= shape->frame_bytes && slots <= FG_MOST_CUDA_SLOTS &&
         cuda->pool_stride <= UINT64_MAX / FG_MOST_CUDA_SLOTS &&
         cuda->pool_bytes >= slots * cuda->pool_stride;
}

static inline fg_slot *fg_slot_of(const fg_header *header, uint64_t slot_bytes, uint64_t slot) {
  return (fg_slot *)((uintptr_t)header + FG_HEADER_BYTES + slot * slot_bytes);
}

static inline uint64_t *fg_pixels_of(fg_slot *slot) {
  return (uint64_t *)((uintptr_t)slot + FG_SLOT_HEADER_BYTES);
}

// A producer holds a lock on its segment for as long as it lives; the kernel lets it go, however
// the process ends. Such locks belong to the open file, so they also hold between two producers in
// one process; a child that is forked without exec inherits it.
#ifdef F_OFD_SETLK
#define FG_LOCK_QUERY F_OFD_GETLK
#define FG_LOCK_TAKE F_OFD_SETLK
#else  // hidden where a system header came before without _GNU_SOURCE
#define FG_LOCK_QUERY 36
#define FG_LOCK_TAKE 37
#endif

static inline int fg_lock(int file, int command, struct flock *lock) {
  memset(lock, 0, sizeof *lock);
  lock->l_type = F_WRLCK;
  lock->l_whence = SEEK_SET;
  return fcntl(file, command, lock);
}

static inline bool fg_has_live_producer(int file) {
  struct flock lock;
  return fg_lock(file, FG_LOCK_QUERY, &lock) == 0 && lock.l_type != F_UNLCK;
}

static inline bool fg_is_unlinked(int file) {
  struct stat status;
  return fstat(file, &status) == 0 && status.st_nlink == 0;
}

// Whether a mapped header of `bytes` is a ring of this version, its shape and number of slots. They
// are checked against the segment, and the caller goes on with the copies checked: whatever becomes
// of the header later, it leads nobody outside.
static inline int fg_check(const fg_header *header, uint64_t bytes, fg_shape *shape,
                           uint64_t *slots) {
  const uint64_t magic = fg_load_acquire(&header->magic);
  uint64_t frame_bytes;
  if (magic == FG_MAKING) return FG_NOT_READY;
  if (magic != FG_MAGIC) return FG_NOT_A_RING;
  if (header->version != FG_VERSION) return FG_VERSION_DIFFERS;
  *shape = header->shape;
  *slots = header->slots;
  frame_bytes = shape->frame_bytes;
  if (!fg_shape_complete(shape) || shape->frame_bytes != frame_bytes ||
      header->header_bytes != FG_HEADER_BYTES || *slots < FG_LEAST_SLOTS ||
      *slots > FG_MOST_SLOTS || header->slot_header_bytes != FG_SLOT_HEADER_BYTES ||
      header->slot_bytes != fg_slot_bytes(shape) || header->segment_bytes != bytes ||
      bytes != FG_HEADER_BYTES + *slots * fg_slot_bytes(shape)) {
    return FG_DAMAGED;
  }
  return FG_OK;
}

// Maps the segment of an open file. Never maps less than a header.
static inline int fg_map(int file, bool writable, fg_header **header, uint64_t *bytes) {
  struct stat status;
  void *memory;
  if (fstat(file, &status) != 0) return FG_SYSTEM;
  if (status.st_size == 0 || status.st_size == 8) return FG_NOT_READY;  // see fg_create
  if (status.st_size < (off_t)FG_HEADER_BYTES) return FG_NOT_A_RING;
  *bytes = (uint64_t)status.st_size;
  memory = mmap(NULL, *bytes, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, file, 0);
  if (memory == MAP_FAILED) return FG_SYSTEM;
  *header = (fg_header *)memory;
  return FG_OK;
}

// The reader -----------------------------------------------------------------------------------

typedef struct fg_reader {
  int file;
  bool controls;
  fg_header *header;
  uint64_t bytes;
  fg_shape shape;     // as found when it was opened; later changes in memory lead nowhere
  uint64_t slots, slot_bytes;
  uint64_t last;      // sequence number of the frame delivered last
} fg_reader;

#define FG_READER_NONE {-1, false, NULL, 0, {0, 0, 0, 0, 0.0f, 0.0f, 0, 0, 0}, 0, 0, 0}

typedef struct fg_frame {
  uint64_t sequence;  // 1, 2, 3, ... as published
  uint64_t skipped;   // frames between the one delivered before and this one
  uint64_t index, seed, generation, produced_ns, published_ns;  // as in fg_slot
} fg_frame;

enum { FG_NEWEST = 0, FG_EVERY = 1 };  // what fg_reader_next delivers

static inline void fg_reader_close(fg_reader *reader) {
  const fg_reader none = FG_READER_NONE;
  if (reader->header != NULL) munmap(reader->header, reader->bytes);
  if (reader->file >= 0) close(reader->file);
  *reader = none;
}

// Opens a ring. `expected`: the shape that the caller can take, or NULL for any. `controls`: ask
// for write access, for fg_reader_ask. The first frame delivered is the newest.
static inline int fg_reader_open(fg_reader *reader, const char *name, const fg_shape *expected,
                                 bool controls) {
  const fg_reader none = FG_READER_NONE;
  int error;
  *reader = none;
  if (!fg_name_is_valid(name)) return FG_BAD_NAME;
  reader->file = shm_open(name, controls ? O_RDWR : O_RDONLY, 0);
  if (reader->file < 0) return errno == ENOENT ? FG_NO_RING : FG_SYSTEM;
  error = fg_map(reader->file, controls, &reader->header, &reader->bytes);
  if (error == FG_OK) {
    error = fg_check(reader->header, reader->bytes, &reader->shape, &reader->slots);
  }
  if (error == FG_OK) {
    const uint64_t newest = fg_load_acquire(&reader->header->published);
    reader->controls = controls;
    reader->slot_bytes = fg_slot_bytes(&reader->shape);
    reader->last = newest == 0 ? 0 : newest - 1;
    if (expected != NULL && !fg_same_shape(expected, &reader->shape)) error = FG_SHAPE_DIFFERS;
  }
  if (error != FG_OK) {
    const int saved = errno;
    fg_reader_close(reader);
    errno = saved;
  }
  return error;
}

static inline fg_slot *fg_reader_slot(const fg_reader *reader, uint64_t sequence) {
  return fg_slot_of(reader->header, reader->slot_bytes, (sequence - 1) % reader->slots);
}

// Whether all that was read of frame `sequence` until now was that frame: to ask after reading
// pixels in place, on a GPU once the copy has completed.
static inline bool fg_reader_holds(const fg_reader *reader, uint64_t sequence) {
  __atomic_thread_fence(__ATOMIC_ACQUIRE);
  return fg_load_relaxed(&fg_reader_slot(reader, sequence)->stamp) == 2 * sequence;
}

// Where the frames of a ring on a GPU lie, checked. Go on with the copy: the header may change.
//
//     fg_cuda cuda; cudaIpcMemHandle_t handle; char *pool;
//     fg_reader_cuda(&reader, &cuda);
//     memcpy(&handle, cuda.memory_handle, sizeof handle);    // cudaSetDevice: that of device_uuid
//     cudaIpcOpenMemHandle((void **)&pool, handle, cudaIpcMemLazyEnablePeerAccess);
//     while (fg_reader_next(&reader, NULL, &frame, FG_NEWEST, 1000000000) == FG_OK) {
//         const uint64_t slot = (frame.sequence - 1) % reader.slots;
//         cudaMemcpyAsync(mine, pool + slot * cuda.pool_stride, reader.shape.frame_bytes,
//                         cudaMemcpyDeviceToDevice, stream);
//         cudaStreamSynchronize(stream);                     // before the second look
//         if (fg_reader_holds(&reader, frame.sequence)) draw(mine);
//     }
//     cudaIpcCloseMemHandle(pool);                           // then fg_reader_close
//
// FG_ENDED, of either function: close both, and open the name again. From here to fg_reader_close
// the reader holds a shared lock on the segment, by which the producer knows that its memory is in
// use: CUDA leaves undefined what becomes of whoever has opened memory that is freed.
static inline int fg_reader_cuda(const fg_reader *reader, fg_cuda *cuda) {
  if (reader->header == NULL) return FG_ENDED;
  if (reader->shape.device != FG_ON_CUDA) return FG_SHAPE_DIFFERS;
  if (flock(reader->file, LOCK_SH | LOCK_NB) != 0) {
    return errno == EWOULDBLOCK ? FG_ENDED : FG_SYSTEM;
  }
  if (__atomic_load_n(&reader->header->state, __ATOMIC_ACQUIRE) != FG_RUNNING) return FG_ENDED;
  memcpy(cuda, &reader->header->cuda, sizeof *cuda);
  return fg_cuda_fits(cuda, &reader->shape, reader->slots) ? FG_OK : FG_DAMAGED;
}

static inline bool fg_reader_is_alive(const fg_reader *reader) {  // whether its producer is
  return fg_has_live_producer(reader->file);
}

// Copies frame `sequence` out; false where the slot no longer, or not yet, holds it.
//
// Why a copy that passes is never torn. The producer writes a slot as
//     stamp = 2s - 1 (relaxed); fence (release); pixels (relaxed); stamp = 2s (release)
// and this reads it as
//     stamp (acquire); pixels (relaxed); fence (acquire); stamp (relaxed).
// The first stamp read 2s, so that acquire saw the release behind all pixels of frame s: no word
// older than frame s can be read. Suppose a word of a later frame t was read. Its store comes after
// the release fence of t and its load before our acquire fence, so the fences synchronise, and
// stamp = 2t - 1 happened before our second look at the stamp, which therefore reads at least that
// and not 2s. Stamps only grow, across producers too, so 2s can't come back.
static inline bool fg_reader_copy(const fg_reader *reader, uint64_t sequence, void *pixels,
                                  fg_frame *frame) {
  fg_slot *slot = fg_reader_slot(reader, sequence);
  if (fg_load_acquire(&slot->stamp) != 2 * sequence) return false;
  if (reader->shape.device == FG_IN_SEGMENT) {
    fg_copy_out(pixels, fg_pixels_of(slot), reader->shape.frame_bytes);
  }
  frame->index = fg_load_relaxed(&slot->index);
  frame->seed = fg_load_relaxed(&slot->seed);
  frame->generation = fg_load_relaxed(&slot->generation);
  frame->produced_ns = fg_load_relaxed(&slot->produced_ns);
  frame->published_ns = fg_load_relaxed(&slot->published_ns);
  return fg_reader_holds(reader, sequence);
}

// Waits for a frame newer than the one delivered last and copies it to `pixels` (frame_bytes; of
// frames on a GPU, where pixels may be NULL, only `frame` is filled in).
//
// policy: FG_NEWEST, or FG_EVERY for each in its turn. Either way the producer never waits, so a
// reader that falls a ring behind loses frames; `skipped` counts them.
//
// FG_TIMEOUT after timeout_ns, which a dead producer looks like too (fg_reader_is_alive tells); one
// that restarts with the same shape is simply read on. FG_ENDED: close, and open again.
static inline int fg_reader_next(fg_reader *reader, void *pixels, fg_frame *frame, int policy,
                                 uint64_t timeout_ns) {
  const uint64_t begin = fg_now();
  fg_header *header = reader->header;
  if (header == NULL) return FG_ENDED;
  for (;;) {
    const uint32_t signal = __atomic_load_n(&header->signal, __ATOMIC_ACQUIRE);
    const uint64_t newest = fg_load_acquire(&header->published);
    uint64_t waited, sequence = newest;
    if (newest > reader->last) {
      if (policy == FG_EVERY) {
        // The slot after the newest is being written: one fewer than `slots` can be had.
        const uint64_t oldest = newest >= reader->slots ? newest - reader->slots + 2 : 1;
        sequence = reader->last + 1 > oldest ? reader->last + 1 : oldest;
      }
      if (fg_reader_copy(reader, sequence, pixels, frame)) {
        frame->sequence = sequence;
        frame->skipped = sequence - reader->last - 1;
        reader->last = sequence;
        return FG_OK;
      }
    }
    waited = fg_now() - begin;
    if (newest <= reader->last && __atomic_load_n(&header->state, __ATOMIC_ACQUIRE) != FG_RUNNING &&
        fg_load_acquire(&header->published) == newest) {
      return FG_ENDED;
    }
    if (waited >= timeout_ns) {
      // Nobody can find it any more: its producer is dead, and its name was removed by hand.
      return fg_is_unlinked(reader->file) && !fg_reader_is_alive(reader) ? FG_ENDED : FG_TIMEOUT;
    }
    // Where the copy failed because the producer came round, `signal` has changed since, and this
    // returns at once.
    fg_wait(&header->signal, signal, timeout_ns - waited);
  }
}

// What a reader can ask of the producer: one word each, so that whoever is killed while asking
// leaves nothing half-said, and the last one wins.
enum { FG_SEED = 1, FG_SPEED, FG_TRUNCATION, FG_LABEL, FG_PAUSED, FG_STEPS };
#define FG_ANY_LABEL UINT64_MAX

static inline uint64_t *fg_control_word(fg_header *header, int control) {
  fg_control *const all = &header->control;
  switch (control) {
    case FG_SEED: return &all->seed;
    case FG_SPEED: return &all->speed;
    case FG_TRUNCATION: return &all->truncation;
    case FG_LABEL: return &all->label;
    case FG_PAUSED: return &all->paused;
    default: return &all->steps;
  }
}

// value: as in fg_control; speed and truncation through fg_bits. FG_STEPS adds to the count.
static inline int fg_reader_ask(fg_reader *reader, int control, uint64_t value) {
  uint64_t *word;
  if (!reader->controls) return FG_READ_ONLY;
  word = fg_control_word(reader->header, control);
  if (control == FG_STEPS) {
    __atomic_fetch_add(word, value, __ATOMIC_RELAXED);
  } else {
    fg_store_relaxed(word, value);
  }
  // Release: a producer that sees the count sees the word.
  __atomic_fetch_add(&reader->header->control.changes, 1, __ATOMIC_RELEASE);
  return FG_OK;
}

// The producer ---------------------------------------------------------------------------------

typedef struct fg_writer {
  int file;
  char name[208];
  fg_header *header;
  uint64_t bytes;
  fg_shape shape;
  uint64_t slots, slot_bytes, generation;
  uint64_t next;            // sequence number of the next frame
  bool took_over;           // a dead producer's segment, in which its readers read on
  uint64_t changes, steps;  // of fg_control, as seen by fg_writer_asked
} fg_writer;

// Wakes whoever sleeps. The producer knows none of them, and waits for none.
static inline void fg_announce(fg_header *header) {
  __atomic_fetch_add(&header->signal, 1, __ATOMIC_RELEASE);
  fg_wake(&header->signal);
}

// The newest complete frame of a segment whose producer is dead, which may have died between any
// two stores; false where the stamps contradict each other.
static inline bool fg_recover(const fg_header *header, uint64_t slots, uint64_t slot_bytes,
                              uint64_t *newest) {
  uint64_t slot, last = fg_load_relaxed(&header->published);
  for (slot = 0; slot < slots; ++slot) {
    const uint64_t stamp = fg_load_relaxed(&fg_slot_of(header, slot_bytes, slot)->stamp);
    if (stamp != 0 && ((stamp + 1) / 2 - 1) % slots != slot) return false;
    if (stamp % 2 == 0 && stamp / 2 > last) last = stamp / 2;
  }
  *newest = last;
  // It had completed at most one frame that it had not put up yet.
  return last - fg_load_relaxed(&header->published) <= 1;
}

static inline void fg_writer_close_files(fg_writer *writer) {
  if (writer->header != NULL) munmap(writer->header, writer->bytes);
  if (writer->file >= 0) close(writer->file);
  writer->header = NULL;
  writer->file = -1;
}

// A dead producer's segment, locked by now: FG_OK where it can be written on in place,
// FG_NO_RING where it was removed to make room for a new one.
static inline int fg_take_over(fg_writer *writer, uint64_t slots) {
  uint64_t newest = 0, magic = 0, old_slots = 0;
  fg_shape shape;
  const ssize_t got = pread(writer->file, &magic, sizeof magic, 0);
  int error = FG_NOT_READY;  // its producer died while making it
  if (got < 0) return FG_SYSTEM;
  if (got > 0 && magic != FG_MAKING) {
    if (magic != FG_MAGIC) return FG_NOT_A_RING;  // somebody's data
    error = fg_map(writer->file, true, &writer->header, &writer->bytes);
    if (error == FG_OK) error = fg_check(writer->header, writer->bytes, &shape, &old_slots);
    if (error == FG_SYSTEM) return error;
  }
  // Memory on a GPU went with the producer that had it.
  if (error == FG_OK && shape.device == FG_IN_SEGMENT && fg_same_shape(&writer->shape, &shape) &&
      writer->shape.low == shape.low && writer->shape.high == shape.high && slots == old_slots &&
      fg_recover(writer->header, slots, fg_slot_bytes(&shape), &newest)) {
    writer->next = newest + 1;
    writer->took_over = true;
    return FG_OK;
  }
  if (error == FG_OK) {  // its readers are to look for the new one
    __atomic_store_n(&writer->header->state, FG_REPLACED, __ATOMIC_RELEASE);
    fg_announce(writer->header);
  }
  if (shm_unlink(writer->name) != 0 && errno != ENOENT) return FG_SYSTEM;
  return FG_NO_RING;
}

// The lock on the segment of this name, new or left by a dead producer. `fresh`: it is new.
static inline int fg_acquire(fg_writer *writer, bool *fresh) {
  struct flock lock;
  *fresh = false;
  writer->file = shm_open(writer->name, O_RDWR, 0);
  if (writer->file < 0 && errno == ENOENT) {
    writer->file = shm_open(writer->name, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (writer->file < 0 && errno == EEXIST) return FG_NOT_READY;  // another was faster
    *fresh = true;
  }
  if (writer->file < 0) return FG_SYSTEM;
  if (fg_lock(writer->file, FG_LOCK_TAKE, &lock) != 0) {
    if (errno != EAGAIN && errno != EACCES) return FG_SYSTEM;
    return FG_TAKEN;
  }
  // Removed between opening and locking: nobody would find it.
  return fg_is_unlinked(writer->file) ? FG_NOT_READY : FG_OK;
}

static inline int fg_create(fg_writer *writer, uint64_t slots, const fg_cuda *cuda) {
  fg_header *header;
  const uint64_t making = FG_MAKING;
  int error;
  writer->bytes = FG_HEADER_BYTES + slots * fg_slot_bytes(&writer->shape);
  // First a mark, so that what is left of a producer killed from here on is known as ours.
  if (pwrite(writer->file, &making, sizeof making, 0) != (ssize_t)sizeof making) return FG_SYSTEM;
  // Room is taken now: with ftruncate alone a full /dev/shm would be a SIGBUS at some later frame.
  do {
    error = posix_fallocate(writer->file, 0, (off_t)writer->bytes);
  } while (error == EINTR);
  if (error != 0) {
    errno = error;
    return FG_SYSTEM;
  }
  error = fg_map(writer->file, true, &writer->header, &writer->bytes);
  if (error != FG_OK) return error;
  header = writer->header;
  header->version = FG_VERSION;
  header->header_bytes = FG_HEADER_BYTES;
  header->segment_bytes = writer->bytes;
  header->slot_bytes = fg_slot_bytes(&writer->shape);
  header->slots = (uint32_t)slots;
  header->slot_header_bytes = FG_SLOT_HEADER_BYTES;
  header->shape = writer->shape;
  if (cuda != NULL) memcpy(&header->cuda, cuda, sizeof *cuda);
  writer->next = 1;
  return FG_OK;
}

// Opens a ring for writing: a new one, or one that a dead producer left. `shape`: all but
// frame_bytes. `asked`: what the controls stand at in the beginning, or NULL for nothing; those of
// a dead producer are not kept. interval_ns: as in fg_header. cuda: of FG_ON_CUDA, else NULL.
static inline int fg_writer_open_cuda(fg_writer *writer, const char *name, const fg_shape *shape,
                                      uint64_t slots, uint64_t interval_ns,
                                      const fg_control *asked, const fg_cuda *cuda) {
  uint64_t generation;
  int error = FG_NOT_READY, tries;
  memset(writer, 0, sizeof *writer);
  writer->file = -1;
  if (!fg_name_is_valid(name)) return FG_BAD_NAME;
  memcpy(writer->name, name, strlen(name) + 1);
  writer->shape = *shape;
  if (!fg_shape_complete(&writer->shape) || slots < FG_LEAST_SLOTS || slots > FG_MOST_SLOTS ||
      (shape->device == FG_ON_CUDA) != (cuda != NULL) ||
      (cuda != NULL && !fg_cuda_fits(cuda, &writer->shape, slots))) {
    return FG_BAD_SHAPE;
  }
  // Each round ends, or found that another producer had come between.
  for (tries = 0; tries < 100 && (error == FG_NOT_READY || error == FG_NO_RING); ++tries) {
    bool fresh;
    fg_writer_close_files(writer);
    error = fg_acquire(writer, &fresh);
    if (error == FG_OK) {
      error = fresh ? fg_create(writer, slots, cuda) : fg_take_over(writer, slots);
    }
    if (error == FG_SYSTEM && fresh) {
      const int saved = errno;
      shm_unlink(writer->name);
      errno = saved;
    }
  }
  if (error != FG_OK) {
    const int saved = errno;
    fg_writer_close_files(writer);
    errno = saved;
    return error == FG_NOT_READY || error == FG_NO_RING ? FG_TAKEN : error;
  }
  writer->slots = slots;
  writer->slot_bytes = fg_slot_bytes(&writer->shape);
  generation = fg_load_relaxed(&writer->header->generation) + 1;
  writer->generation = generation;
  fg_store_relaxed(&writer->header->generation, generation);
  fg_store_relaxed(&writer->header->process, (uint64_t)getpid());
  fg_store_relaxed(&writer->header->started_ns, fg_now());
  fg_store_relaxed(&writer->header->interval_ns, interval_ns);
  {
    const fg_control nothing = {0, 0, fg_bits(1.0), UINT64_C(0x7ff8000000000000), FG_ANY_LABEL,
                                0, 0, 0};
    const fg_control *start = asked == NULL ? &nothing : asked;
    fg_control *control = &writer->header->control;
    fg_store_relaxed(&control->seed, start->seed);
    fg_store_relaxed(&control->speed, start->speed);
    fg_store_relaxed(&control->truncation, start->truncation);
    fg_store_relaxed(&control->label, start->label);
    fg_store_relaxed(&control->paused, start->paused);
    writer->changes = fg_load_acquire(&control->changes);
    writer->steps = fg_load_relaxed(&control->steps);
  }
  // What the dead producer completed without putting it up counts as published.
  fg_store_release(&writer->header->published, writer->next - 1);
  __atomic_store_n(&writer->header->state, FG_RUNNING, __ATOMIC_RELEASE);
  fg_store_release(&writer->header->magic, FG_MAGIC);
  fg_announce(writer->header);
  return FG_OK;
}

// The same for frames in the segment itself.
static inline int fg_writer_open(fg_writer *writer, const char *name, const fg_shape *shape,
                                 uint64_t slots, uint64_t interval_ns, const fg_control *asked) {
  return fg_writer_open_cuda(writer, name, shape, slots, interval_ns, asked, NULL);
}

// Where the next frame goes: write pixels there with fg_copy_in, then fg_writer_end. On a GPU: copy
// to the pool at slot (next - 1) % slots, and wait for the end of that copy before fg_writer_end.
static inline fg_slot *fg_writer_begin(fg_writer *writer) {
  fg_slot *slot =
      fg_slot_of(writer->header, writer->slot_bytes, (writer->next - 1) % writer->slots);
  fg_store_relaxed(&slot->stamp, 2 * writer->next - 1);
  __atomic_thread_fence(__ATOMIC_RELEASE);  // see fg_reader_copy
  // A GPU is told of a copy by writes that no language's memory model knows: all fences at hand.
  if (writer->shape.device == FG_ON_CUDA) __atomic_thread_fence(__ATOMIC_SEQ_CST);
  return slot;
}

static inline void fg_writer_end(fg_writer *writer, fg_slot *slot, uint64_t index, uint64_t seed,
                                 uint64_t produced_ns) {
  const uint64_t sequence = writer->next++;
  fg_store_relaxed(&slot->index, index);
  fg_store_relaxed(&slot->seed, seed);
  fg_store_relaxed(&slot->generation, writer->generation);
  fg_store_relaxed(&slot->produced_ns, produced_ns);
  fg_store_relaxed(&slot->published_ns, fg_now());
  fg_store_release(&slot->stamp, 2 * sequence);
  fg_store_release(&writer->header->published, sequence);
  fg_announce(writer->header);
}

// Copies one frame in and puts it up. `pixels`: frame_bytes, as fg_shape says. produced_ns: from
// fg_now, when they were ready.
static inline void fg_writer_write(fg_writer *writer, const void *pixels, uint64_t index,
                                   uint64_t seed, uint64_t produced_ns) {
  fg_slot *slot = fg_writer_begin(writer);
  if (writer->shape.device == FG_IN_SEGMENT) {  // on a GPU there is no room in the slot
    fg_copy_in(fg_pixels_of(slot), pixels, writer->shape.frame_bytes);
  }
  fg_writer_end(writer, slot, index, seed, produced_ns);
}

// What is asked for now; `steps` are those since the call before. True where anything was asked
// since then. Values come from other processes: check them before use.
static inline bool fg_writer_asked(fg_writer *writer, fg_control *asked) {
  const fg_control *control = &writer->header->control;
  uint64_t steps;
  memset(asked, 0, sizeof *asked);
  asked->changes = fg_load_acquire(&control->changes);
  if (asked->changes == writer->changes) return false;
  writer->changes = asked->changes;
  asked->seed = fg_load_relaxed(&control->seed);
  asked->speed = fg_load_relaxed(&control->speed);
  asked->truncation = fg_load_relaxed(&control->truncation);
  asked->label = fg_load_relaxed(&control->label);
  asked->paused = fg_load_relaxed(&control->paused);
  steps = fg_load_relaxed(&control->steps);
  asked->steps = steps - writer->steps;
  writer->steps = steps;
  return true;
}

// Tells readers that it was the last frame, and removes the name.
static inline void fg_writer_retire(fg_writer *writer) {
  if (writer->header == NULL) return;
  __atomic_store_n(&writer->header->state, FG_CLOSED, __ATOMIC_RELEASE);
  fg_announce(writer->header);
  // Somebody may have removed it and made another of this name: that one is not ours to remove.
  if (!fg_is_unlinked(writer->file)) shm_unlink(writer->name);
}

// Of a ring on a GPU that was retired: whether readers still have its memory open. Once there are
// none, none can come.
static inline bool fg_writer_has_readers(const fg_writer *writer) {
  return flock(writer->file, LOCK_EX | LOCK_NB) != 0;
}

// Retires the ring, and lets go of it.
static inline void fg_writer_close(fg_writer *writer) {
  fg_writer_retire(writer);
  fg_writer_close_files(writer);
}

#ifdef __cplusplus
}
#endif
#endif  // FASTGAN_FRAMES_H
