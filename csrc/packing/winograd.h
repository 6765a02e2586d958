// Which phases of 3 x 3 taps are computed by Winograd's minimal filtering, and their weights.
//
// A tile of M x M pixels takes (M + 2)^2 products for each input and output channel instead of
// 9 M^2 (Lavin and Gray, 2016): 2.25 times fewer with M = 2, four times with M = 4. The kernels are
// runtime/kernels_winograd.h.
#pragma once

#include <stdint.h>

namespace fastgan {

// What inputs become along an axis, what weights do, and what products do. Rows 1, 2 and 3, 4 of
// `in`, and these columns of `out`, are of a point and its negative: the same but for the signs of
// every second number.
template <int M>
struct Minimal;

template <>
struct Minimal<2> {  // on the points 0, +-1 and infinity
  static constexpr float in[4][4] = {{1, 0, -1, 0}, {0, 1, 1, 0}, {0, -1, 1, 0}, {0, -1, 0, 1}};
  static constexpr double weights[4][3] = {{1, 0, 0}, {0.5, 0.5, 0.5}, {0.5, -0.5, 0.5}, {0, 0, 1}};
  static constexpr float out[2][4] = {{1, 1, 1, 0}, {0, 1, -1, 1}};
};

template <>
struct Minimal<4> {  // on 0, +-3/4, +-3/2 and infinity: errors half those of 0, +-1, +-2
  static constexpr float in[6][6] = {
      {1.265625f, 0, -2.8125f, 0, 1, 0},    {0, -1.6875f, -2.25f, 0.75f, 1, 0},
      {0, 1.6875f, -2.25f, -0.75f, 1, 0},   {0, -0.84375f, -0.5625f, 1.5f, 1, 0},
      {0, 0.84375f, -0.5625f, -1.5f, 1, 0}, {0, 1.265625f, 0, -2.8125f, 0, 1}};
  static constexpr double weights[6][3] = {{64. / 81, 0, 0},
                                           {-128. / 243, -32. / 81, -8. / 27},
                                           {-128. / 243, 32. / 81, -8. / 27},
                                           {32. / 243, 16. / 81, 8. / 27},
                                           {32. / 243, -16. / 81, 8. / 27},
                                           {0, 0, 1}};
  static constexpr float out[4][6] = {{1, 1, 1, 1, 1, 0},
                                      {0, 0.75f, -0.75f, 1.5f, -1.5f, 0},
                                      {0, 0.5625f, 0.5625f, 2.25f, 2.25f, 0},
                                      {0, 0.421875f, -0.421875f, 3.375f, -3.375f, 1}};
};

// The M, up to `most`, that saves enough of a phase's time; 0 for none. The same for every
// instruction set, and for any number of images. plain: what a product costs without it, of one
// with it.
int64_t minimal(int64_t rows, int64_t columns, int64_t channels, int64_t lanes, int64_t most,
                double plain);

// The error of a layer that is allowed, as `minimal_error` measures it: an eighth of what fp32
// images may differ by in all (fastgan/measure/tolerances.py). Errors of layers are independent, and
// those of 64 at the limit add up, as squares, to that.
constexpr double kMinimalError = 2e-5 / 8;

// The error of a tile in fp32 against fp64, root mean squares of errors by those of results, of
// inputs between -1 and 1. taps: [channels][9][lanes].
double minimal_error(int64_t m, const float* taps, int64_t channels, int64_t lanes);

// What is left of a weight beside an infinity; kNoWeight: nothing comes to this lane that way.
enum Sign : int8_t { kNegative = -1, kZero = 0, kPositive = 1, kNoWeight = 2 };

// taps [9][lanes] -> [(m + 2)^2] rows of `lanes`, each `step` floats after the one before.
void transform_weights(int64_t m, const float* taps, int64_t lanes, float* to, int64_t step);

}  // namespace fastgan
