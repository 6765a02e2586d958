// A walk through a generator's latents in a window, made in this process: SDL2 and fastgan.h.
//
//     fastgan bundle dcgan-digits -o digits.fgb && make capi
//     export PKG_CONFIG_PATH=build/capi/lib/pkgconfig LD_LIBRARY_PATH=build/capi/lib
//     gcc examples/sdl2_generator.c $(pkg-config --cflags --libs fastgan sdl2) -lm -o walk
//     ./walk digits.fgb
//
// Left, up and right: backwards, forwards, twice as fast; space pauses; R begins at another seed.
// ./walk BUNDLE FILE.bmp FRAMES saves what the window shows last, and ends.
#include <SDL.h>
#include <fastgan.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { kFps = 60, kFramesToSeed = 60 };

static int fail(const char *what, const char *why) {
  fprintf(stderr, "%s: %s\n", what, why);
  return 2;
}

// From a seed to the next, as fastgan's SeedPath has it.
typedef struct {
  size_t size;
  uint64_t seed;
  double at;  // frames behind the seed
  float *from, *to, *now;
} Walk;

static fastgan_status keys(fastgan_session *session, Walk *walk) {
  const size_t bytes = walk->size * sizeof(float);
  const fastgan_status status = fastgan_latents(session, walk->seed, 0, 1, 0, walk->from, bytes);
  return status ? status : fastgan_latents(session, walk->seed + 1, 0, 1, 0, walk->to, bytes);
}

// On the great arc between both; lengths go in proportion (Shoemake, 1985).
static void mix(Walk *walk) {
  const double part = walk->at / kFramesToSeed;
  double product = 0, a = 0, b = 0;
  for (size_t i = 0; i < walk->size; ++i) {
    product += (double)walk->from[i] * walk->to[i];
    a += (double)walk->from[i] * walk->from[i];
    b += (double)walk->to[i] * walk->to[i];
  }
  const double long_a = sqrt(a), long_b = sqrt(b), length = (1 - part) * long_a + part * long_b;
  const double angle = acos(fmin(1, fmax(-1, product / (long_a * long_b)))), whole = sin(angle);
  const int same = whole < 1e-6;
  const double near = same ? 1 - part : sin((1 - part) * angle) / whole * length / long_a;
  const double far = same ? part : sin(part * angle) / whole * length / long_b;
  for (size_t i = 0; i < walk->size; ++i) {
    walk->now[i] = (float)(near * walk->from[i] + far * walk->to[i]);
  }
}

static fastgan_status advance(fastgan_session *session, Walk *walk, double speed) {
  walk->at += speed;
  const double seeds = floor(walk->at / kFramesToSeed);
  if (seeds == 0) return FASTGAN_OK;
  walk->at -= seeds * kFramesToSeed;
  walk->seed += (uint64_t)(int64_t)seeds;
  return keys(session, walk);
}

// SDL has no grey textures: grey becomes RGB.
static const uint8_t *colours(const uint8_t *pixels, uint8_t *room, const fastgan_program *of) {
  if (of->channels != 1) return pixels;
  for (int64_t i = 0; i < of->width * of->height; ++i) memset(room + 3 * i, pixels[i], 3);
  return room;
}

int main(int count, char **arguments) {
  const char *const path = count > 1 ? arguments[1] : "digits.fgb";
  const long last = count > 3 ? atol(arguments[3]) : -1;
  fastgan_model *model = NULL;
  fastgan_session *session = NULL;
  const fastgan_settings settings = {.format = FASTGAN_UINT8};
  if (fastgan_open(path, NULL, &model) || fastgan_prepare(model, &settings, &session)) {
    return fail("fastgan", fastgan_message());
  }
  fastgan_program of;
  uint64_t bytes = 0;
  fastgan_describe_session(session, &of, &bytes);
  Walk walk = {.size = fastgan_latent_size(session), .seed = 7};
  const int known = of.batch == 1 && (of.channels == 1 || of.channels == 3 || of.channels == 4);
  if (walk.size == 0 || !known) return fail(path, "it makes no grey, RGB or RGBA image of latents");
  walk.from = calloc(3 * walk.size, sizeof(float));
  walk.to = walk.from + walk.size, walk.now = walk.to + walk.size;
  uint8_t *pixels = malloc(bytes), *room = malloc(3 * bytes);
  if (keys(session, &walk)) return fail("fastgan", fastgan_message());

  const int wide = (int)of.width, high = (int)of.height, scale = 1 + 511 / wide;
  if (SDL_Init(SDL_INIT_VIDEO) != 0) return fail("SDL", SDL_GetError());
  SDL_Window *window = SDL_CreateWindow(path, SDL_WINDOWPOS_CENTERED, SDL_WINDOWPOS_CENTERED,
                                        scale * wide, scale * high, 0);
  SDL_Renderer *renderer = SDL_CreateRenderer(window, -1, 0);
  SDL_Texture *texture = SDL_CreateTexture(
      renderer, of.channels == 4 ? SDL_PIXELFORMAT_RGBA32 : SDL_PIXELFORMAT_RGB24,
      SDL_TEXTUREACCESS_STREAMING, wide, high);
  if (window == NULL || renderer == NULL || texture == NULL) return fail("SDL", SDL_GetError());

  double speed = 1, ready = SDL_GetTicks();
  int paused = 0;
  for (long frame = 0, running = 1; running && frame != last; ++frame) {
    SDL_Event event;
    while (SDL_PollEvent(&event)) {
      if (event.type == SDL_QUIT) running = 0;
      if (event.type != SDL_KEYDOWN) continue;
      const SDL_Keycode key = event.key.keysym.sym;
      if (key == SDLK_LEFT) speed = -1;
      if (key == SDLK_UP) speed = 1;
      if (key == SDLK_RIGHT) speed = 2;
      if (key == SDLK_SPACE) paused = !paused;
      if (key == SDLK_r) walk.seed = SDL_GetTicks(), keys(session, &walk);
    }
    mix(&walk);
    const fastgan_request request = {.count = 1, .seed = 7, .latents = walk.now};
    if (fastgan_generate(session, &request, pixels, bytes)) return fail(path, fastgan_message());
    SDL_UpdateTexture(texture, NULL, colours(pixels, room, &of), wide * (of.channels == 4 ? 4 : 3));
    SDL_RenderCopy(renderer, texture, NULL, NULL);
    if (frame + 1 == last) {  // before it is shown, while it can still be read back
      SDL_Surface *shot = SDL_CreateRGBSurfaceWithFormat(0, scale * wide, scale * high, 24,
                                                         SDL_PIXELFORMAT_RGB24);
      SDL_RenderReadPixels(renderer, NULL, SDL_PIXELFORMAT_RGB24, shot->pixels, shot->pitch);
      if (SDL_SaveBMP(shot, arguments[2]) != 0) return fail(arguments[2], SDL_GetError());
      SDL_FreeSurface(shot);
    }
    SDL_RenderPresent(renderer);
    if (!paused && advance(session, &walk, speed)) return fail(path, fastgan_message());
    ready += 1000.0 / kFps;
    const double early = ready - SDL_GetTicks();
    if (early > 0) SDL_Delay((Uint32)early);
    if (early < 0) ready = SDL_GetTicks();  // what was missed is not caught up with
  }
  SDL_Quit();
  fastgan_release(session);
  fastgan_close(model);
  free(walk.from), free(pixels), free(room);
  return 0;
}
