// Dense layers of bfloat16 by AMX: 32 pixels by 32 lanes at a time.
//
// Weights lie as for AVX512-BF16: a pair of channels, 16 lanes of it side by side, which is a row of
// a tile. What the pixels of a tile read is put together beforehand, once for all blocks of lanes, so
// that edges, steps and dilations are nothing to it. Sums go in another order than everywhere else.
#include "../../targets/compiler.h"
#ifdef FASTGAN_AMX
#include "../../targets/amx.h"

#define FASTGAN_WIDTH 16
#include "../kernels/kernels_bf16.h"
#include "tiles.h"

namespace fastgan {
namespace {

// By registers: sums of 2 x 2 tiles, of pixels and of lanes, then 2 of pixels and 2 of lanes.
constexpr int kPixels = 4, kLanes = 6;

// Pixels at once; the vectors of fewer than kFewest take less time.
constexpr int64_t kAtOnce = 2 * kTileRows, kFewest = 16;
static_assert(kAtOnce == kMostPanelPixels, "which the runtime divides pixels by");

// Fewer numbers of a pixel leave much of a tile empty, and the panel of more lies in no cache.
constexpr int64_t kFewestNumbers = 16, kMostNumbers = 1 << 14;

// Channels of a tap to a tile: the most that they divide into, in pairs.
int64_t numbers_of(int64_t channels) {
  int64_t numbers = 2 * kTilePairs;
  while (channels % numbers != 0) numbers -= 2;
  return numbers;
}

int64_t panel_of(int64_t pixels, int64_t taps, int64_t channels) {
  if (pixels < kFewest || taps * channels > kMostNumbers) return 0;
  return numbers_of(channels) < kFewestNumbers ? 0 : kAtOnce * taps * channels / 2;
}

TileSizes sizes_for(int64_t numbers) {
  TileSizes sizes;
  for (int t = 0; t < 8; ++t) sizes.rows[t] = kTileRows, sizes.bytes[t] = 4 * kTileLanes;
  for (int t = 0; t < 2; ++t) {
    sizes.bytes[kPixels + t] = static_cast<uint16_t>(2 * numbers);
    sizes.rows[kLanes + t] = static_cast<uint8_t>(numbers / 2);
  }
  return sizes;
}

// values [P * 16][V * 16] = the products of a panel [taps][32][channels] and a block's weights.
template <int P, int V>
FASTGAN_NOINLINE void multiply_tiles(const Element* panel, int64_t taps, int64_t channels,
                                     int64_t numbers, const Element* weights, float* values) {
  constexpr int64_t kRow = 4 * V * kTileLanes;  // bytes of a pair of all lanes, and of a pixel's sums
  const int64_t pixel = 2 * channels;
  settle_memory(panel);
  FASTGAN_TILE_ZERO(0);
  if (V > 1) FASTGAN_TILE_ZERO(1);
  if (P > 1) FASTGAN_TILE_ZERO(2);
  if (P > 1 && V > 1) FASTGAN_TILE_ZERO(3);
  for (int64_t t = 0; t < taps; ++t, panel += kAtOnce * channels) {
    for (int64_t c = 0; c < channels; c += numbers, weights += numbers / 2 * kRow / 2) {
      FASTGAN_TILE_LOAD(6, weights, kRow);
      FASTGAN_TILE_LOAD(4, panel + c, pixel);
      FASTGAN_TILE_ADD_PRODUCTS(0, 4, 6);
      if (V > 1) {
        FASTGAN_TILE_LOAD(7, weights + 2 * kTileLanes, kRow);
        FASTGAN_TILE_ADD_PRODUCTS(1, 4, 7);
      }
      if (P > 1) {
        FASTGAN_TILE_LOAD(5, panel + kTileRows * channels + c, pixel);
        FASTGAN_TILE_ADD_PRODUCTS(2, 5, 6);
        if (V > 1) FASTGAN_TILE_ADD_PRODUCTS(3, 5, 7);
      }
    }
  }
  FASTGAN_TILE_STORE(0, values, kRow);
  if (V > 1) FASTGAN_TILE_STORE(1, values + kTileLanes, kRow);
  if (P > 1) FASTGAN_TILE_STORE(2, values + kTileRows * kRow / 4, kRow);
  if (P > 1 && V > 1) FASTGAN_TILE_STORE(3, values + kTileRows * kRow / 4 + kTileLanes, kRow);
}

void dense_tiles(const DensePart& part) {
  const DenseShape& shape = *part.shape;
  const DensePhase& phase = *part.phase;
  const int64_t pixels = part.images * phase.rows * phase.columns, channels = shape.in.channels;
  const int64_t taps = static_cast<int64_t>(phase.taps.size()), numbers = numbers_of(channels);
  const int64_t block = shape.vectors * kWidth, step = taps * channels * block;
  Element* const panel = reinterpret_cast<Element*>(part.room);
  constexpr int64_t kSome = divide_up(kAtOnce, kMostRows);
  const Element* in[kMostTaps * kMostRows];
  TilePixels located[kSome];
  alignas(64) float values[kAtOnce * kMostBlock];
  begin_tiles(sizes_for(numbers));
  for (int64_t t = part.first_tile; t < part.last_tile; ++t) {
    const int64_t first = t * pixels / phase.tiles;
    const int64_t count = (t + 1) * pixels / phase.tiles - first;
    for (int64_t at = 0; at < count; at += kMostRows) {
      TilePixels& some = located[at / kMostRows];
      some.count = std::min<int64_t>(kMostRows, count - at);
      locate(part, first + at, some);
      point(part, some, in);
      for (int64_t tap = 0; tap < taps; ++tap) {
        for (int64_t r = 0; r < some.count; ++r) {
          Element* const to = panel + (tap * kAtOnce + at + r) * channels;
          memcpy(to, in[tap * some.count + r], channels * sizeof(Element));
        }
      }
    }
    const bool few = count <= kTileRows;
    const int64_t rest = (few ? kTileRows : kAtOnce) - count;  // whose sums nobody reads
    for (int64_t tap = 0; rest > 0 && tap < taps; ++tap) {
      memset(panel + (tap * kAtOnce + count) * channels, 0, rest * channels * sizeof(Element));
    }
    const auto multiply = shape.vectors == 1 ? (few ? multiply_tiles<1, 1> : multiply_tiles<2, 1>)
                                             : (few ? multiply_tiles<1, 2> : multiply_tiles<2, 2>);
    for (int64_t b = part.first_block; b < part.last_block; ++b) {
      const Element* weights = static_cast<const Element*>(part.weights) + b * step;
      multiply(panel, taps, channels, numbers, weights, values);
      if (phase.sparse) {
        const auto read = [&](int64_t tap, int64_t r) { return panel + (tap * kAtOnce + r) * channels; };
        keep_finite(read, count, taps, channels, weights, block, values);
      }
      for (int64_t at = 0; at < count; at += kMostRows) {
        write(part, located[at / kMostRows], b * block, block, values + at * block);
      }
    }
  }
  end_tiles();
}

void dense_by_size(const DensePart& part) {
  part.phase->panel > 0 ? dense_tiles(part) : dense(part);
}

}  // namespace

constexpr Bf16Kernels bf16_kernels_amx = {"amx",    kWidth,        kMostRows, runs_here,
                                          panel_of, dense_by_size, winograd,  round_pixels};

}  // namespace fastgan

#include "../../targets/end.h"
#endif
