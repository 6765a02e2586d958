/* fastgan.h: models in programs that have no Python.
 *
 *     fastgan_model* model;                     // shared by all threads
 *     fastgan_session* session;                 // of one thread at a time
 *     if (fastgan_open("dcgan.fgb", NULL, &model) ||
 *         fastgan_prepare(model, &(fastgan_settings){.format = FASTGAN_UINT8}, &session))
 *       fail(fastgan_message());
 *     fastgan_generate(session, &(fastgan_request){.seed = 7, .count = 1}, image, sizeof image);
 *
 * `fastgan bundle model.onnx -o model.fgb` makes the file (docs/bundle.md). Same seed, same bytes as
 * fastgan in Python on the same machine.
 *
 * Every function that returns a fastgan_status says with FASTGAN_OK that it did what it says; else it
 * did nothing that lasts, and fastgan_message() has a sentence for people. Nothing is thrown. Structs
 * may be zeroed: 0 and NULL stand for what is said to be the default.
 *
 * Any thread may use a model, and prepare sessions of it at once. A session serves one call at a time:
 * a second one that comes meanwhile is FASTGAN_BUSY; fastgan_cancel alone may come at any time. Between
 * fastgan_prepare and fastgan_release no call on a session allocates memory. With one thread no
 * call takes a lock either; with several they wake each other, which takes one for a moment.
 */
#ifndef FASTGAN_H
#define FASTGAN_H

#include <stddef.h>
#include <stdint.h>

#define FASTGAN_VERSION_MAJOR 1
#define FASTGAN_VERSION_MINOR 1

#if defined(_WIN32) && defined(FASTGAN_SHARED)
#ifdef FASTGAN_BUILDING
#define FASTGAN_API __declspec(dllexport)
#else
#define FASTGAN_API __declspec(dllimport)
#endif
#elif defined(__GNUC__)
#define FASTGAN_API __attribute__((visibility("default")))
#else
#define FASTGAN_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum fastgan_status {
  FASTGAN_OK = 0,
  FASTGAN_ARGUMENT = 1,   /* an argument is out of range, or NULL where it must not be */
  FASTGAN_FILE = 2,       /* the file can't be opened or read */
  FASTGAN_DAMAGED = 3,    /* it is no bundle, or a damaged one */
  FASTGAN_FORMAT = 4,     /* a bundle of another version of the format */
  FASTGAN_MEMORY = 5,     /* memory does not suffice, or more than the limit would be needed */
  FASTGAN_MISSING = 6,    /* no program for this batch or size */
  FASTGAN_BUSY = 7,       /* another call on this session is running */
  FASTGAN_CANCELLED = 8,  /* fastgan_cancel came; what was written by then stays */
  FASTGAN_INTERNAL = 9    /* an error of this library's own */
} fastgan_status;

typedef struct fastgan_model fastgan_model;
typedef struct fastgan_session fastgan_session;

/* MAJOR * 1000 + MINOR of the library, which programs built for the same MAJOR, and a MINOR up to this
 * one, can use. */
FASTGAN_API uint32_t fastgan_version(void);

/* What the last call of this thread that failed found, until the thread's next call. Never NULL. */
FASTGAN_API const char* fastgan_message(void);

/* ---- Models ---- */

typedef struct fastgan_options {
  uint64_t memory_limit; /* bytes of packed weights, and of each session; 0: 16 GiB */
} fastgan_options;

/* Opens a bundle, which is mapped: it has to stay as it is while the model is open.
 * options: or NULL. */
FASTGAN_API fastgan_status fastgan_open(const char* path, const fastgan_options* options,
                                        fastgan_model** model);

/* The same of memory, aligned to 8 bytes, which has to stay while the model is open. */
FASTGAN_API fastgan_status fastgan_open_memory(const void* data, size_t size,
                                               const fastgan_options* options,
                                               fastgan_model** model);

/* Closes a model, or NULL. Its sessions stay until they are released. */
FASTGAN_API void fastgan_close(fastgan_model* model);

typedef enum fastgan_kind {
  FASTGAN_LATENT = 0,
  FASTGAN_LABEL = 1,
  FASTGAN_IMAGE = 2,
  FASTGAN_MASK = 3,
  FASTGAN_NOISE = 4,
  FASTGAN_SCALAR = 5,
  FASTGAN_TENSOR = 6
} fastgan_kind;

#define FASTGAN_MOST_AXES 8

/* An input or an output. Pointers stay as long as the model is open. */
typedef struct fastgan_port {
  const char* name;
  fastgan_kind kind;
  int32_t axes;                      /* how many sizes there are */
  int64_t shape[FASTGAN_MOST_AXES];  /* the batch first; -1 where it is open */
  int64_t classes;                   /* of a label; -1 where that is unknown */
  int32_t has_range;                 /* whether low and high are said */
  double low, high;                  /* the values of black and white */
  int32_t has_value;                 /* whether it has a value where none is given */
  double value;
} fastgan_port;

/* A program: a batch and a size of images that the bundle is ready for. */
typedef struct fastgan_program {
  int64_t batch;
  int64_t height, width, channels; /* of the images that are made; 0 where these are none */
  int64_t in_height, in_width, in_channels; /* of the image that it takes; 0 for none */
} fastgan_program;

typedef struct fastgan_description {
  const char* name;
  const char* maker; /* what wrote the bundle */
  int32_t inputs, outputs, programs, classes;
  int32_t output; /* the output that fastgan_generate and fastgan_apply make */
} fastgan_description;

FASTGAN_API fastgan_status fastgan_describe(const fastgan_model* model,
                                            fastgan_description* description);
FASTGAN_API fastgan_status fastgan_describe_input(const fastgan_model* model, int32_t index,
                                                  fastgan_port* port);
FASTGAN_API fastgan_status fastgan_describe_output(const fastgan_model* model, int32_t index,
                                                   fastgan_port* port);
FASTGAN_API fastgan_status fastgan_describe_program(const fastgan_model* model, int32_t index,
                                                    fastgan_program* program);

/* The name of a class; NULL where there is none. */
FASTGAN_API const char* fastgan_class_name(const fastgan_model* model, int32_t index);

/* ---- Sessions ---- */

typedef enum fastgan_format {
  FASTGAN_FLOAT32 = 0, /* [n, channels, height, width] in the model's own range */
  FASTGAN_UINT8 = 1    /* [n, height, width, channels] from 0 to 255 */
} fastgan_format;

typedef struct fastgan_settings {
  uint32_t size;    /* sizeof(fastgan_settings), or 0 */
  int32_t threads;  /* that share a run, the calling one included, up to 256; 0: one */
  int64_t batch;    /* images to a run; 0: the smallest batch of the bundle */
  int64_t height, width; /* of images, as the bundle was made for; 0: its first size */
  fastgan_format format;
} fastgan_settings;

/* Packs the weights for this processor and makes a first run, so that what follows is quick.
 * settings: or NULL. */
FASTGAN_API fastgan_status fastgan_prepare(fastgan_model* model, const fastgan_settings* settings,
                                           fastgan_session** session);

/* Ends a session, or NULL. No call on it may be running. */
FASTGAN_API void fastgan_release(fastgan_session* session);

/* What the session was prepared for, and the bytes of one image in its format. */
FASTGAN_API fastgan_status fastgan_describe_session(const fastgan_session* session,
                                                    fastgan_program* program,
                                                    uint64_t* image_bytes);

/* Numbers of one sample's latent; 0 where the model has none. */
FASTGAN_API size_t fastgan_latent_size(const fastgan_session* session);

/* Latents of samples start, start + 1, ... of a seed: [n, fastgan_latent_size()].
 * truncation: keeps normal ones within it; 0 for none. size: of out, in bytes. */
FASTGAN_API fastgan_status fastgan_latents(fastgan_session* session, uint64_t seed, uint64_t start,
                                           int64_t n, double truncation, float* out, size_t size);

typedef struct fastgan_request {
  uint32_t size; /* sizeof(fastgan_request), or 0 */
  int64_t count; /* images; any number, a batch at a time */
  uint64_t seed, start;
  double truncation;     /* of normal latents, or the model's own (psi); 0 for none */
  const int64_t* labels; /* a class for each image; NULL draws them from the seed */
  const float* latents;  /* those of the images instead of a seed's; or NULL */
} fastgan_request;

/* Makes images from a seed. out: `count` images one after another in the session's format; size: of it,
 * in bytes. */
FASTGAN_API fastgan_status fastgan_generate(fastgan_session* session,
                                            const fastgan_request* request, void* out, size_t size);

/* Gives an input that no seed makes a value, for this and all later calls: one number, or as many as
 * one sample has, or as many as the whole input has. */
FASTGAN_API fastgan_status fastgan_set(fastgan_session* session, const char* input,
                                       const float* values, size_t count);

/* Runs an image-to-image model on `count` images of the session's input size (fastgan_program), in
 * the session's format both in and out: uint8 of 0 to 255, or float32 in the model's own range. */
FASTGAN_API fastgan_status fastgan_apply(fastgan_session* session, const void* images,
                                         size_t images_size, int64_t count, void* out, size_t size);

/* Runs such a model on one image of any size, in windows of the session's: of each, what is at least
 * `pad` pixels from where another goes on is kept, as Python's tile_pad has it (32 there). The result
 * is as many times as large as a window's (rounded up), so a model whose results are in proportion to
 * its images gives what Python's tiles give. Since 1.1. */
FASTGAN_API fastgan_status fastgan_apply_tiled(fastgan_session* session, const void* image,
                                               size_t image_size, int64_t height, int64_t width,
                                               int64_t pad, void* out, size_t size);

/* A tensor of float32, row by row in the file's own order of axes; labels as whole numbers. */
typedef struct fastgan_tensor {
  const char* name;
  float* data;
  size_t count; /* numbers */
} fastgan_tensor;

/* Runs the model on one batch of the inputs given, all of them, and writes the outputs named. */
FASTGAN_API fastgan_status fastgan_run(fastgan_session* session, const fastgan_tensor* inputs,
                                       int32_t input_count, const fastgan_tensor* outputs,
                                       int32_t output_count);

/* Ends the call that is running on a session, after the batch at hand; or the next one. */
FASTGAN_API void fastgan_cancel(fastgan_session* session);

#ifdef __cplusplus
}
#endif

#endif
