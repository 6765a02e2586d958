// Shows the frames of a ring in a window: SDL2 and fastgan_frames.h.
//
//     gcc -I csrc/include examples/sdl2_viewer.c $(sdl2-config --cflags --libs) -o viewer
//     fastgan stream dcgan-digits --shm /digits &
//     ./viewer /digits
//
// Left, up and right: the walk backwards, forwards, twice as fast; space pauses; R another seed.
// ./viewer /NAME FILE.bmp SECONDS saves what the window shows after a while, and ends.
#include "fastgan_frames.h"

#include <SDL.h>
#include <stdio.h>
#include <stdlib.h>

static int fail(const char *what, const char *why) {
  fprintf(stderr, "%s: %s\n", what, why);
  return 2;
}

// Grey becomes RGB, since SDL has no grey textures; RGB and RGBA stay as they are.
static const unsigned char *colours(const unsigned char *pixels, unsigned char *room,
                                    const fg_shape *shape) {
  const uint64_t count = (uint64_t)shape->width * shape->height;
  uint64_t i;
  if (shape->channels != 1) return pixels;
  for (i = 0; i < count; ++i) memset(room + 3 * i, pixels[i], 3);
  return room;
}

static void press(fg_reader *ring, SDL_Keycode key) {
  static uint64_t paused = 0;
  if (key == SDLK_LEFT) fg_reader_ask(ring, FG_SPEED, fg_bits(-1.0));
  if (key == SDLK_UP) fg_reader_ask(ring, FG_SPEED, fg_bits(1.0));
  if (key == SDLK_RIGHT) fg_reader_ask(ring, FG_SPEED, fg_bits(2.0));
  if (key == SDLK_SPACE) fg_reader_ask(ring, FG_PAUSED, paused = !paused);
  if (key == SDLK_r) fg_reader_ask(ring, FG_SEED, fg_now() % 100000);
}

int main(int count, char **arguments) {
  const char *const name = count > 1 ? arguments[1] : "/digits";
  const uint64_t end = count > 3 ? fg_now() + (uint64_t)(atof(arguments[3]) * 1e9) : UINT64_MAX;
  fg_reader ring = FG_READER_NONE;
  fg_frame frame = {0, 0, 0, 0, 0, 0, 0};
  int error = fg_reader_open(&ring, name, NULL, true), running = 1;
  if (error != FG_OK) return fail(name, fg_error_text(error));
  const fg_shape shape = ring.shape;
  if (shape.type != FG_UINT8 || shape.channels == 2) return fail(name, "not grey, RGB or RGBA");

  const int wide = (int)shape.width, high = (int)shape.height, scale = 1 + 511 / wide;
  if (SDL_Init(SDL_INIT_VIDEO) != 0) return fail("SDL", SDL_GetError());
  SDL_Window *window = SDL_CreateWindow(name, SDL_WINDOWPOS_CENTERED, SDL_WINDOWPOS_CENTERED,
                                        scale * wide, scale * high, 0);
  SDL_Renderer *renderer = SDL_CreateRenderer(window, -1, 0);
  SDL_Texture *texture = SDL_CreateTexture(
      renderer, shape.channels == 4 ? SDL_PIXELFORMAT_RGBA32 : SDL_PIXELFORMAT_RGB24,
      SDL_TEXTUREACCESS_STREAMING, wide, high);
  if (window == NULL || renderer == NULL || texture == NULL) return fail("SDL", SDL_GetError());
  unsigned char *pixels = malloc(shape.frame_bytes), *room = malloc(3 * shape.frame_bytes);

  while (running && (fg_now() < end || frame.sequence == 0)) {
    SDL_Event event;
    while (SDL_PollEvent(&event)) {
      if (event.type == SDL_QUIT) running = 0;
      if (event.type == SDL_KEYDOWN) press(&ring, event.key.keysym.sym);
    }
    if (ring.header == NULL) {  // its producer has ended: the next one's frames must be as large
      error = fg_reader_open(&ring, name, &shape, true);
      if (error == FG_SHAPE_DIFFERS) return fail(name, fg_error_text(error));
      if (error != FG_OK) SDL_Delay(10);
      continue;
    }
    error = fg_reader_next(&ring, pixels, &frame, FG_NEWEST, 10000000);
    if (error == FG_ENDED) {
      fg_reader_close(&ring);
    } else if (error == FG_OK) {
      SDL_UpdateTexture(texture, NULL, colours(pixels, room, &shape),
                        wide * (shape.channels == 4 ? 4 : 3));
      SDL_RenderCopy(renderer, texture, NULL, NULL);
      if (count > 2) {  // before it is shown, while it can still be read back
        SDL_Surface *shot = SDL_CreateRGBSurfaceWithFormat(0, scale * wide, scale * high, 24,
                                                           SDL_PIXELFORMAT_RGB24);
        SDL_RenderReadPixels(renderer, NULL, SDL_PIXELFORMAT_RGB24, shot->pixels, shot->pitch);
        if (SDL_SaveBMP(shot, arguments[2]) != 0) return fail(arguments[2], SDL_GetError());
        SDL_FreeSurface(shot);
      }
      SDL_RenderPresent(renderer);
    }
  }
  printf("frame %llu\n", (unsigned long long)frame.index);
  free(pixels);
  free(room);
  fg_reader_close(&ring);
  SDL_Quit();
  return 0;
}
