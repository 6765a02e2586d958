// Tiles of AMX: matrices of 16 rows of 64 bytes, in registers of their own.
//
// As instructions, or, where FASTGAN_EMULATE_TILES is defined, as loops that round as those do by
// Intel's manual (TDPBF16PS): so tests run what needs a processor that few machines have.
#pragma once

#include <stdint.h>
#include <string.h>

namespace fastgan {
namespace {

constexpr int64_t kTileRows = 16, kTileLanes = 16, kTilePairs = 16;

// What each register holds, as LDTILECFG reads it: its rows, and the bytes of each.
struct alignas(64) TileSizes {
  uint8_t palette = 1, start = 0, reserved[14] = {};
  uint16_t bytes[16] = {};
  uint8_t rows[16] = {};
};

#ifndef FASTGAN_EMULATE_TILES

// What is in memory now: GCC's instructions do not say how much of it they read.
FASTGAN_INLINE void settle_memory(const void* p) { __asm__ volatile("" : : "r"(p) : "memory"); }

FASTGAN_INLINE void begin_tiles(const TileSizes& sizes) {
  settle_memory(&sizes);
  _tile_loadconfig(&sizes);
}
FASTGAN_INLINE void end_tiles() { _tile_release(); }  // a switch of threads saves them else

// Numbers of registers are part of an instruction; strides count bytes.
#define FASTGAN_TILE_ZERO(t) _tile_zero(t)
#define FASTGAN_TILE_LOAD(t, from, stride) _tile_loadd(t, from, stride)
#define FASTGAN_TILE_STORE(t, to, stride) _tile_stored(t, to, stride)
#define FASTGAN_TILE_ADD_PRODUCTS(sums, a, b) _tile_dpbf16ps(sums, a, b)

#else

struct Tile {
  unsigned char row[16][64];
};
thread_local Tile tiles[8];
thread_local TileSizes tile_sizes;

inline void settle_memory(const void*) {}

inline void begin_tiles(const TileSizes& sizes) {
  tile_sizes = sizes;
  memset(tiles, 0xFF, sizeof tiles);  // instructions leave zeros, but nothing is to count on that
}
inline void end_tiles() { memset(tiles, 0xFF, sizeof tiles); }

inline void zero_tile(int t) { memset(&tiles[t], 0, sizeof tiles[t]); }
inline void load_tile(int t, const void* from, int64_t stride) {
  zero_tile(t);
  for (int r = 0; r < tile_sizes.rows[t]; ++r) {
    memcpy(tiles[t].row[r], static_cast<const char*>(from) + r * stride, tile_sizes.bytes[t]);
  }
}
inline void store_tile(int t, void* to, int64_t stride) {
  for (int r = 0; r < tile_sizes.rows[t]; ++r) {
    memcpy(static_cast<char*>(to) + r * stride, tiles[t].row[r], tile_sizes.bytes[t]);
  }
}

// What is too small for a normal number is none.
inline float flushed(float x) { return x > -1.17549435e-38f && x < 1.17549435e-38f ? 0 * x : x; }

inline float upper_half(uint32_t pair, bool second) {
  const uint32_t bits = second ? pair & 0xFFFF0000 : pair << 16;
  float value;
  memcpy(&value, &bits, sizeof value);
  return flushed(value);
}

// The first numbers of the pairs and the second ones each have a sum, which the two then are added to.
inline void add_products(int sums, int a, int b) {
  for (int r = 0; r < tile_sizes.rows[sums]; ++r) {
    for (int n = 0; n < tile_sizes.bytes[sums] / 4; ++n) {
      float sum, both[2] = {};
      memcpy(&sum, tiles[sums].row[r] + 4 * n, sizeof sum);
      for (int k = 0; k < tile_sizes.bytes[a] / 4; ++k) {
        uint32_t x, w;
        memcpy(&x, tiles[a].row[r] + 4 * k, sizeof x);
        memcpy(&w, tiles[b].row[k] + 4 * n, sizeof w);
        for (const bool second : {false, true}) {
          float& to = both[second];
          to = flushed(__builtin_fmaf(upper_half(x, second), upper_half(w, second), to));
        }
      }
      sum = flushed(sum + flushed(both[0] + both[1]));
      memcpy(tiles[sums].row[r] + 4 * n, &sum, sizeof sum);
    }
  }
}

#define FASTGAN_TILE_ZERO(t) zero_tile(t)
#define FASTGAN_TILE_LOAD(t, from, stride) load_tile(t, from, stride)
#define FASTGAN_TILE_STORE(t, to, stride) store_tile(t, to, stride)
#define FASTGAN_TILE_ADD_PRODUCTS(sums, a, b) add_products(sums, a, b)

#endif

}  // namespace
}  // namespace fastgan
