// A seed in, a picture out, without Python: fastgan.h and libpng.
//
//     fastgan bundle dcgan-digits -o digits.fgb && make capi
//     export PKG_CONFIG_PATH=build/capi/lib/pkgconfig LD_LIBRARY_PATH=build/capi/lib
//     gcc examples/seed_to_png.c $(pkg-config --cflags --libs fastgan libpng) -o seed_to_png
//     ./seed_to_png digits.fgb 7 seven.png
#include <fastgan.h>
#include <png.h>
#include <stdio.h>
#include <stdlib.h>

static int fail(const char *why) {
  fprintf(stderr, "seed_to_png: %s\n", why);
  return 2;
}

int main(int count, char **arguments) {
  if (count < 4) return fail("needs BUNDLE SEED FILE.png [CLASS]");
  fastgan_model *model = NULL;
  fastgan_session *session = NULL;
  const fastgan_settings settings = {.format = FASTGAN_UINT8};
  if (fastgan_open(arguments[1], NULL, &model) || fastgan_prepare(model, &settings, &session)) {
    return fail(fastgan_message());
  }
  fastgan_program of;
  uint64_t bytes = 0;
  fastgan_describe_session(session, &of, &bytes);
  if (of.channels < 1 || of.channels > 4) return fail("it makes no grey, RGB or RGBA images");

  unsigned char *pixels = malloc(bytes);
  const int64_t label = count > 4 ? atoll(arguments[4]) : 0;
  const fastgan_request request = {.count = 1,
                                   .seed = strtoull(arguments[2], NULL, 10),
                                   .labels = count > 4 ? &label : NULL};
  if (fastgan_generate(session, &request, pixels, bytes)) return fail(fastgan_message());

  const png_uint_32 formats[] = {PNG_FORMAT_GRAY, PNG_FORMAT_GA, PNG_FORMAT_RGB, PNG_FORMAT_RGBA};
  png_image image = {.version = PNG_IMAGE_VERSION,
                     .width = (png_uint_32)of.width,
                     .height = (png_uint_32)of.height,
                     .format = formats[of.channels - 1]};
  if (!png_image_write_to_file(&image, arguments[3], 0, pixels, 0, NULL)) return fail(image.message);
  free(pixels);
  fastgan_release(session);
  fastgan_close(model);
  return 0;
}
